"""Which trained models the figures of each preset stand on, and how many prompts they are asked."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

from figures.programs import keep_compiled
from icl_synth import checkpoints, devices, layers
from icl_synth.checkpoints import write_text
from icl_synth.config import CONCEPTS, FAMILY, LENGTHS, SEEDS, TrainConfig, first_of_its_kind, preset
from icl_synth.lock import alone
from icl_synth.provenance import device
from icl_synth.run_folder import TrainingError, read_metrics, run_directory
from icl_synth.train import train


class Wanted(NamedTuple):
    """The models a figure stands on: name -> training preset, each with every seed, or `once` with the first alone."""

    models: dict[str, str]
    seeds: tuple[int, ...]
    once: dict[str, str] = {}  # noqa: RUF012 (never changed)

    @property
    def presets(self) -> dict[str, str]:
        """Name -> training preset of all."""
        return self.models | self.once

    @property
    def runs(self) -> list[tuple[str, str, int]]:
        """Name, training preset and seed of every run."""
        seeds = {name: self.seeds if name in self.models else self.seeds[:1] for name in self.presets}
        return [(name, training, seed) for name, training in self.presets.items() for seed in seeds[name]]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The models of a figure preset (name -> training preset), and the size of the evaluation."""

    name: str
    models: dict[str, str]
    family: dict[str, str]  # transformers of one recipe from small to large
    lstms: dict[str, str]  # and LSTMs
    seeds: tuple[int, ...]
    prompts: int
    documents: int
    formats: tuple[str, ...]  # number formats that models are put in
    drafting: dict[str, str]  # drafts, the smallest first, and last the target they draft for
    elsewhere: dict[str, str]  # a transformer on other worlds
    cold: dict[str, str]  # and on worlds of low entropy
    by_concepts: dict[str, str]  # the same in worlds of few to many concepts
    by_vocabulary: dict[str, str]  # transformers and LSTMs in worlds of few to many tokens
    by_steps: dict[str, str]  # runs of few to many steps
    by_steps_once: dict[str, str]  # and of a size for which one seed must do

    @property
    def kinds(self) -> Wanted:
        """A transformer and an LSTM, with all seeds."""
        return Wanted(self.models, self.seeds)

    @property
    def ends(self) -> Wanted:
        """The same, and the smallest and the largest of the family with one seed."""
        ends = {name: self.family[name] for name in (next(iter(self.family)), next(reversed(self.family)))}
        once = {name: training for name, training in ends.items() if training not in self.models.values()}
        return self.kinds._replace(once=once)

    @property
    def sizes(self) -> Wanted:
        """The family, with one seed."""
        return Wanted(self.family, self.seeds[:1])

    @property
    def sizes_of_both(self) -> Wanted:
        """The family and LSTMs of several sizes, with one seed."""
        return Wanted(self.family | self.lstms, self.seeds[:1])

    @property
    def worlds(self) -> Wanted:
        """A transformer on other worlds with all seeds, and on cold ones, each a seed of its own."""
        return Wanted(self.elsewhere, self.seeds, self.cold)

    @property
    def concepts(self) -> Wanted:
        """Worlds of few to many concepts, each a seed of its own."""
        return Wanted({}, self.seeds[:1], self.by_concepts)

    @property
    def vocabularies(self) -> Wanted:
        """Worlds of few to many tokens, with all seeds."""
        return Wanted(self.by_vocabulary, self.seeds)

    @property
    def lengths(self) -> Wanted:
        """Runs of few to many steps."""
        return Wanted(self.by_steps, self.seeds, self.by_steps_once)

    @property
    def pair(self) -> Wanted:
        """Drafts and their target, with one seed."""
        return Wanted(self.drafting, self.seeds[:1])


FEW_FORMATS = ("msfp16", "msfp12", "msfp11", "mx9", "mxint8", "mxfp4", "mxfp6_e3m2")
MANY_FORMATS = (*FEW_FORMATS, "msfp15", "msfp14", "msfp13", "msfp16:truncate", "msfp12:truncate", "mx6", "mx4",
                "mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "nvfp4", "int8", "int4", "fp8_e4m3")  # fmt: skip


def _elsewhere(scale: str) -> dict[str, str]:
    names = {"single concept": "single", "random tokens": "uniform", "no entity persistence": "moving"}
    return {name: f"{scale}-{short}" for name, short in names.items()}


def _cold(scale: str) -> dict[str, str]:
    return {f"low entropy, world {number + 1}": f"{scale}-cold-{number}" for number in range(SEEDS[scale])}


def _by_concepts(scale: str) -> dict[str, str]:
    found = [(number, seed) for number in CONCEPTS[scale] for seed in range(SEEDS[scale])]
    return {f"{number} concepts, world {seed + 1}": f"{scale}-concepts-{number}-{seed}" for number, seed in found}


def _by_vocabulary(models: dict[str, str]) -> dict[str, str]:
    return {
        f"{name}, V = {size}": f"{training}-v{size}" for name, training in models.items() for size in (50, 100, 150)
    }


def _by_steps(*names: str) -> dict[str, str]:
    """The shorter runs of these presets and the preset itself."""
    found = {f"{name}, {steps} steps": f"{name}-{steps}" for name in names for steps in LENGTHS[name]}
    return found | {f"{name}, {preset(name).steps} steps": name for name in names}


PAPER_TRANSFORMERS = {f"transformer, {depth} layers": f"paper-{depth}l" for depth in (4, 12, 16)}
RECIPES = {
    "quick": Recipe(
        "quick",
        {"transformer": "quick", "LSTM": "quick-lstm"},
        {"width 32": "quick-draft", "width 64": "quick"},
        {"LSTM, width 128": "quick-lstm"},
        (0,),
        500,
        128,
        FEW_FORMATS,
        {"2 blocks of 32": "quick-draft", "LSTM": "quick-lstm", "6 blocks of 64": "quick"},
        _elsewhere("quick"),
        _cold("quick"),
        _by_concepts("quick"),
        _by_vocabulary({"transformer": "quick", "LSTM": "quick-lstm"}),
        _by_steps("quick-draft"),
        {},
    ),
    "small": Recipe(
        "small",
        {"transformer": "small", "LSTM": "small-lstm"},
        {f"width {config.model.width}": name for name, config in FAMILY.items()},
        {"LSTM, width 64": "small-lstm-w64", "LSTM, width 128": "small-lstm"},
        (0, 1, 2),
        2500,
        512,
        MANY_FORMATS,
        {
            "2 blocks of 32": "quick-draft",
            "4 blocks of 32": "small-w32",
            "6 blocks of 64": "small",
            "LSTM": "small-lstm",
            "6 blocks of 256": "small-w256",
        },
        _elsewhere("small"),
        _cold("small"),
        _by_concepts("small"),
        _by_vocabulary({"transformer": "small", "LSTM": "small-lstm"}),
        _by_steps("small-w32", "small"),
        _by_steps("small-w128"),
    ),
    "paper": Recipe(
        "paper",
        PAPER_TRANSFORMERS | {"LSTM": "paper-lstm"},
        PAPER_TRANSFORMERS,
        {"LSTM": "paper-lstm"},
        (0, 1, 2, 3, 4),
        2500,
        100,
        MANY_FORMATS,
        PAPER_TRANSFORMERS,
        _elsewhere("paper"),
        _cold("paper"),
        _by_concepts("paper"),
        _by_vocabulary(
            {"transformer, 4 layers": "paper"}
            | {f"transformer, {depth} layers": f"paper-{depth}l" for depth in (12, 16)}
            | {"LSTM": "paper-lstm"}
        ),
        _by_steps("paper-4l"),
        {},
    ),
}


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model with its record."""

    name: str
    seed: int
    config: TrainConfig
    model: checkpoints.Model
    metrics: list[dict[str, float]]
    run: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """What the figure's provenance says of it; a model keeps the commit it was trained at."""
        known = ("precision", "devices", "device", "commit")
        return {
            "model": self.name,
            "seed": self.seed,
            "excess_nats": self.metrics[-1]["excess_nats"],
            "tokens": self.metrics[-1]["tokens"],
            "minutes": round(self.metrics[-1]["seconds"] / 60, 2),
            **{name: self.run[name] for name in known},
        }


def configured(training: str, seed: int) -> TrainConfig:
    """A training preset with a figure's seed on top of its own."""
    config = preset(training)
    return dataclasses.replace(config, seed=config.seed + seed)


def decided(config: TrainConfig) -> TrainConfig:
    """The configuration with its precision decided; its folder is named by the one that leaves it open."""
    return dataclasses.replace(config, precision=precision()) if config.precision == "auto" else config


def precision() -> Literal["float32", "bfloat16"]:
    """The precision of all runs here that leave it open: decided once for a machine, kept in runs/precision.json.

    Were it timed for each run, other work beside some of them would mix precisions within a figure. What wins only by
    luck does not win three times.
    """
    path = Path("runs") / "precision.json"
    with alone(Path(f"{path}.lock")):
        known = json.loads(path.read_text()) if path.exists() else {}
        if known.get("device") != device():
            choices = [layers.choose_precision("auto") for _ in range(3)]
            slow = [choice for choice in choices if choice[0] == "float32"]
            chosen, why = slow[0] if slow else choices[0]
            known = {"device": device(), "precision": chosen, "why": why}
            write_text(path, json.dumps(known, indent=2) + "\n")
        return known["precision"]


def folder(training: str, seed: int) -> Path:
    """Where a run is, trained or not."""
    return run_directory(configured(training, seed), first_of_its_kind(training))


def is_trained(out: Path) -> bool:
    return (out / "model" / "config.json").exists()


def trained_in(training: str, seed: int) -> Path:
    """The folder of a run, trained now where it is not yet; an interrupted one goes on where it stopped."""
    out = folder(training, seed)
    if not is_trained(out):
        with alone(Path(f"{out}.lock")):
            if not is_trained(out):
                train(decided(configured(training, seed)), out)
    return out


def trained(wanted: Wanted) -> list[Trained]:
    """Every model that is wanted, trained now where it is not yet."""
    found = []
    for name, training, seed in wanted.runs:
        config, out = configured(training, seed), trained_in(training, seed)
        try:
            model = checkpoints.load(out / "model")
        except ValueError as error:
            raise TrainingError(f"{error}: trained by other code? Remove {out} to train it again") from error
        run = json.loads((out / "config.json").read_text())
        found.append(Trained(name, config.seed, config, model, read_metrics(out / "metrics.jsonl", config.steps), run))
    precisions = {one.run["precision"] for one in found}
    if len(precisions) > 1:
        raise TrainingError(f"runs of one figure mix precisions {precisions}: remove the odd ones from runs/")
    return found


if __name__ == "__main__":  # python -m figures.recipes PRESET SEED trains that run, for workers.py
    keep_compiled()
    devices.start(devices.Devices(), preset(sys.argv[1]).batch)
    trained_in(sys.argv[1], int(sys.argv[2]))
