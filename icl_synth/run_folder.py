"""A run's folder: which configuration and code it holds, its metrics and its checkpoints."""

import contextlib
import dataclasses
import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from icl_synth import layers, resume, sources
from icl_synth.config import TrainConfig
from icl_synth.files import write_text
from icl_synth.provenance import commit, device
from icl_synth.transformer import TransformerConfig

Line = dict[str, Any]  # of metrics.jsonl, by name
SETTLED = {"asked": dict, "precision": str, "micro_batch": int, "why": str, "devices": int}


class TrainingError(RuntimeError):
    """A run cannot start or go on; the message says why and what to do."""


@functools.cache
def training_code() -> str:
    """Digest of the code that decides the weights of a run, without its prose; none begins with a GGUF file."""
    return sources.digest_of("icl_synth.train", exclude=("icl_synth/llama_gguf.py",))


def run_directory(config: TrainConfig, name: str, **beginning: Any) -> Path:
    """runs/NAME-SEED-DIGEST: a folder for each configuration and training code, so that no change meets an old run.

    beginning: what tells the run's weights at its first step from fresh ones.
    """
    asked = json.dumps(dataclasses.asdict(config) | beginning, sort_keys=True)
    digest = sources.digest(asked.encode(), training_code().encode())
    return Path("runs") / f"{name}-{config.seed}-{digest[:8]}"


def settle(config: TrainConfig, out: Path, mesh: Mesh, beginning: dict[str, Any]) -> tuple[TrainConfig, str]:
    """The configuration with its open choices decided, once for the run's whole life, and a line that tells them.

    Process 0 decides and writes out/config.json; the others wait and read, so that all agree. Raises ValueError where
    `out` holds another configuration, a run of other code, or no run at all.
    """
    path, asked = out / "config.json", dataclasses.asdict(config) | beginning
    if jax.process_index() == 0:
        resume.claim(path, "run", lambda: _decide(config, asked, mesh))
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("the configuration is written")
    stored = read_settled(path)
    if asked["precision"] in ("auto", stored["precision"]):  # "auto" goes on with what was decided
        asked["precision"] = stored["asked"]["precision"]
    resume.check_same(out, "run", stored["asked"], asked)
    if stored.get("code") != training_code():
        raise ValueError(
            f"{out} was begun by other code, of commit {stored.get('commit', 'unknown')}; this is {commit()}. The two "
            "together would end with weights that neither gives. Nothing was changed: choose another folder, or check "
            "out that commit"
        )
    resolved = dataclasses.replace(config, precision=stored["precision"], micro_batch=stored["micro_batch"])
    return resolved, f"{stored['precision']} products ({stored['why']}){_moved(stored, mesh)}"


def _decide(config: TrainConfig, asked: dict[str, Any], mesh: Mesh) -> dict[str, Any]:
    precision, why = layers.choose_precision(config.precision)
    in_cache = jax.default_backend() == "cpu" and isinstance(config.model, TransformerConfig)
    return {
        "asked": asked,
        "precision": precision,
        "micro_batch": config.micro_batch or (1 if in_cache else 0),
        "why": why,
        **_place(mesh),
        "commit": commit(),
        "code": training_code(),
    }


def _place(mesh: Mesh) -> dict[str, Any]:
    """Where a run is computed, as far as it decides how sums are rounded."""
    return {"devices": mesh.shape["data"], "device": device(), "jax": jax.__version__}


def _moved(stored: dict[str, Any], mesh: Mesh) -> str:
    """A warning where a run goes on in another place than it was begun in."""
    begun = [f"{name} {stored.get(name)}" for name, here in _place(mesh).items() if stored.get(name) != here]
    if not begun:
        return ""
    return f"; begun with {', '.join(begun)}, so weights will equal an uninterrupted run's to rounding only"


def read_settled(path: Path) -> dict[str, Any]:
    """What a run's config.json holds. Raises ValueError, by the file's name, where that is not what a run writes."""
    stored = resume.claim(path, "run", dict)
    if "asked" not in stored and "icl_synth" in stored:
        raise ValueError(f"{path.parent} holds a model, not a run of ours: choose another folder")
    for name, kind in SETTLED.items():
        if type(stored.get(name)) is not kind:
            raise ValueError(
                f"{path} has no {kind.__name__} {name!r}: expected the settings of a run; restore the file"
            )
    return stored


def read_metrics(path: Path, step: int) -> list[Line]:
    """The lines of a metrics.jsonl up to a checkpoint's step; a killed run evaluates again what it wrote after that.

    Raises ValueError, by the file's name, for a whole line that is no JSON object with a step, a loss and seconds, and
    where the line of `step` is missing; at step 0 none is needed.
    """
    lines = []
    text = path.read_bytes().decode("utf-8-sig", errors="replace") if path.exists() else ""
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if line.endswith("\n"):  # a killed or full process leaves a last line without its end
            lines.append(_read_line(line, f"{path}, line {number},"))
    lines = [line for line in lines if line["step"] <= step]
    if step and (not lines or lines[-1]["step"] != step):
        raise ValueError(
            f"{path} has no line for step {step}, which was saved: restore the file, "
            f"or remove {path.parent} to start anew"
        )
    return lines


def _read_line(text: str, where: str) -> Line:
    try:
        line = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where} is not valid JSON ({error}): restore the file") from error
    numbers = [line.get(name) for name in ("step", "loss", "seconds")] if isinstance(line, dict) else [None]
    if not all(isinstance(number, int | float) for number in numbers):
        raise ValueError(f"{where} is no JSON object with numbers step, loss and seconds: restore the file")
    return line


def rewrite_metrics(path: Path, lines: list[Line]) -> None:
    """Replace a metrics.jsonl by these lines."""
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


@contextlib.contextmanager
def saving(what: str, out: Path, size: int, last: int) -> Iterator[None]:
    """Turn an error that a full disk causes while `what`, `size` bytes, is saved in `out` into a TrainingError.

    `last` is the step of the last whole checkpoint.
    """
    try:
        yield
    except Exception as error:
        # orbax may report a full disk as a closed event loop, so the free space decides too
        if not (_says_full(error) or shutil.disk_usage(out).free < size):
            raise
        raise TrainingError(
            f"the disk of {out} is full: {what} was not saved, the last whole checkpoint is step {last}. "
            "Make room and repeat the command"
        ) from error


def _says_full(error: BaseException | None) -> bool:
    if error is None:
        return False
    words = ("No space left", "Disk quota exceeded")
    return any(word in str(error) for word in words) or _says_full(error.__cause__ or error.__context__)
