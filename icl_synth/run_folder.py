"""A run's folder: which configuration it holds, what it begins with, its metrics and its checkpoints."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from icl_synth import checkpoints, layers
from icl_synth.config import TrainConfig
from icl_synth.provenance import commit, device
from icl_synth.step import TrainState
from icl_synth.transformer import TransformerConfig


class TrainingError(RuntimeError):
    """A run cannot start or go on; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Start:
    """What a run begins with instead of fresh weights."""

    start: Path | None = None
    """Fine-tune the model in this folder, written by a run, `checkpoints.export` or `compression.pruning.apply`."""
    keep_masks: bool = False
    """Weights that start/masks.safetensors drops stay zero."""


def run_directory(config: TrainConfig, name: str) -> Path:
    """runs/NAME-SEED-DIGEST: a folder for each configuration, so that a changed preset never meets an old run."""
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(config), sort_keys=True).encode()).hexdigest()[:8]
    return Path("runs") / f"{name}-{config.seed}-{digest}"


def read_start(
    config: TrainConfig, begin: Start
) -> tuple[checkpoints.Weights | None, checkpoints.Masks, dict[str, Any]]:
    """The weights and masks to begin with, and the hashes of their files, by which a run knows them again."""
    if begin.start is None:
        if begin.keep_masks:
            raise TrainingError("--keep-masks needs --start, the folder of a pruned model")
        return None, {}, {}
    try:
        model = checkpoints.load(begin.start)
        weights = checkpoints.split(model)[1]
        masks = checkpoints.load_masks(begin.start, weights) if begin.keep_masks else {}
    except (ValueError, OSError) as error:
        raise TrainingError(str(error)) from error
    if model.config != config.model:
        raise TrainingError(f"{begin.start} holds {model.config}, the run is configured for {config.model}")
    files = {"start": "model.safetensors"} | ({"keep_masks": "masks.safetensors"} if masks else {})
    return (
        weights,
        masks,
        {name: hashlib.sha256((begin.start / file).read_bytes()).hexdigest() for name, file in files.items()},
    )


def settle(config: TrainConfig, out: Path, mesh: Mesh, beginning: dict[str, Any]) -> tuple[TrainConfig, str]:
    """Decide what the configuration leaves open, once for the run's whole life; check `out` against it.

    Process 0 decides and writes; the others wait and read, so that all agree.
    """
    path, asked = out / "config.json", dataclasses.asdict(config) | beginning
    if jax.process_index() == 0 and not path.exists():
        if out.exists() and (
            not out.is_dir() or any(not file.name.endswith(".writing.json") for file in out.iterdir())
        ):
            raise TrainingError(f"{out} is not empty and holds no run of ours: choose another --out")
        precision, why = layers.choose_precision(config.precision)
        in_cache = jax.default_backend() == "cpu" and isinstance(config.model, TransformerConfig)
        choice = {
            "asked": asked,
            "precision": precision,
            "micro_batch": config.micro_batch or (1 if in_cache else 0),
            "why": why,
            "devices": mesh.shape["data"],
            "device": device(),
            "commit": commit(),
        }
        checkpoints.write_text(path, json.dumps(choice, indent=2) + "\n")
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("the configuration is written")
    stored = json.loads(path.read_text())
    if "asked" not in stored:
        raise TrainingError(f"{out} holds a model, not a run of ours: choose another --out")
    there, here = dict(_flat(stored["asked"])), dict(_flat(asked))
    if here["precision"] in ("auto", stored["precision"]):  # whoever leaves it open goes on with what was decided
        there["precision"] = here["precision"]
    different = [
        f"{name}: {there.get(name, 'nothing')} there, {here.get(name, 'nothing')} asked for"
        for name in there | here
        if there.get(name) != here.get(name)
    ]
    if different:
        raise TrainingError(
            f"{out} holds a run of another configuration ({'; '.join(different)}). "
            "Nothing was changed: choose another --out, or repeat the command that made it"
        )
    resolved = dataclasses.replace(config, precision=stored["precision"], micro_batch=stored["micro_batch"])
    how = f"{stored['precision']} products ({stored['why']})"
    if stored["devices"] != mesh.shape["data"]:
        how += f"; begun on {stored['devices']} devices, so weights will equal an uninterrupted run's to rounding only"
    return resolved, how


def _flat(nested: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def save(saved: checkpoints.Checkpoints, step: int, state: TrainState, loss: float) -> None:
    """Save a checkpoint; a full disk becomes a plain TrainingError."""
    try:
        saved.save(step, state, loss)
    except Exception as error:
        if "No space left" not in str(error) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise TrainingError(
            f"the disk is full: step {step} was not saved, the last whole checkpoint is step {saved.latest()}. "
            "Make room and repeat the command"
        ) from error


def read_metrics(path: Path, step: int) -> list[dict[str, Any]]:
    """The lines up to a step; what a killed run wrote after its last checkpoint is done again."""
    if not path.exists():
        return []
    whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in map(json.loads, whole) if line["step"] <= step]


def rewrite_metrics(path: Path, lines: list[dict[str, Any]]) -> None:
    checkpoints.write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
