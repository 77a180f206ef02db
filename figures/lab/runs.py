"""Trained models: a run is a folder named by the hash of its configuration and of the code that trained it."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from figures.lab.catalogue import FIGURES
from figures.lab.presets import Suite
from figures.lab.programs import collect_less, keep_compiled
from icl_synth import checkpoints, devices
from icl_synth.config import TrainConfig
from icl_synth.files import write_text
from icl_synth.layers import Precision
from icl_synth.lock import alone
from icl_synth.presets import AFTER, first_of_its_kind, preset
from icl_synth.presets.transfer import OWN_WORLDS
from icl_synth.run_folder import TrainingError, read_metrics, read_settled, run_directory
from icl_synth.start import Start
from icl_synth.train import train

KEPT = FIGURES / "out" / "runs"  # config.json and metrics.jsonl of runs whose weights no figure reads


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained model with its record."""

    name: str
    seed: int
    config: TrainConfig
    model: checkpoints.Model
    """None for an experiment that asks for curves alone."""
    metrics: list[dict[str, float]]
    about: dict[str, Any]
    folder: Path | None = None
    """Where its metrics are, and where it was trained the models that stayed on the way; None for one that no run
    trained."""

    def record(self) -> dict[str, Any]:
        """What the provenance of an experiment says of the model; it keeps the commit that trained it."""
        last = self.metrics[-1]
        return {
            "model": self.name,
            "seed": self.seed,
            "excess_nats": last.get("excess_nats"),
            "tokens": last["tokens"],
            "minutes": round(last["seconds"] / 60, 2),
            **{key: self.about[key] for key in ("precision", "devices", "device", "commit", "code")},
        }


Models = dict[str, list[Run]]  # by name, a run for each seed


class Job(NamedTuple):
    """A training run that is to be there: its preset, seed and precision, and whether its metrics are enough."""

    training: str
    seed: int
    precision: Precision = "auto"
    curve: bool = False

    @property
    def config(self) -> TrainConfig:
        """The training preset with an experiment's seed on top of its own, and with the precision that is asked for."""
        config = preset(self.training)
        precision = config.precision if self.precision == "auto" else self.precision
        world_seed = config.data.world_seed + (self.seed if self.training in OWN_WORLDS else 0)
        data = dataclasses.replace(config.data, world_seed=world_seed)
        return dataclasses.replace(config, seed=config.seed + self.seed, precision=precision, data=data)

    @property
    def before(self) -> "Job | None":
        """The run whose end this one begins with, if any."""
        if self.training not in AFTER:
            return None
        return self._replace(training=AFTER[self.training].training, curve=False)

    @property
    def folder(self) -> Path:
        """Where the run is, trained or not; two presets of one configuration and beginning share it."""
        name = first_of_its_kind(self.training)
        if self.before is None:
            return run_directory(self.config, name)
        _, *changed = AFTER[self.training]
        return run_directory(self.config, name, before=self.before.folder.name, changed=changed)

    @property
    def kept(self) -> Path:
        """Where its metrics are kept; they are whole once its config.json is there."""
        return KEPT / self.folder.name

    @property
    def trained(self) -> bool:
        return (self.folder / "model" / "config.json").exists()

    @property
    def done(self) -> bool:
        return (self.kept / "config.json").exists() if self.curve else self.trained

    @property
    def work(self) -> int:
        """Training in units that grow as its arithmetic does: tokens times weights inside layers."""
        config = self.config
        return config.steps * config.batch * config.data.length * config.model.depth * config.model.width**2

    def progress(self) -> float:
        """The share of its steps that a run has evaluated; it may be writing at this moment."""
        path = self.folder / "metrics.jsonl"
        whole = [line for line in path.read_text().split("\n")[:-1] if line] if path.exists() else []
        return json.loads(whole[-1])["step"] / self.config.steps if whole else 0.0

    def train(self) -> Path:
        """Train now what is not there yet; an interrupted run goes on where it stopped. The folder of its metrics."""
        if not self.done and not self.trained:
            begin = Start()
            if self.before is not None:
                _, reset, permute = AFTER[self.training]
                begin = Start(self.before.train() / "model", reset=reset, permute=permute)
            with alone(Path(f"{self.folder}.lock")):
                if not self.trained:
                    train(self.config, self.folder, begin=begin)
        if self.curve and not self.done:
            self.keep()
        return self.kept if self.curve else self.folder

    def keep(self) -> None:
        """Keep the metrics beside the rows."""
        for name in ("metrics.jsonl", "config.json"):
            write_text(self.kept / name, (self.folder / name).read_text())


def beginnings(suite: Suite) -> dict[str, Any]:
    """What the presets of a suite say beside their configurations: what runs go on from, whose worlds are their own."""
    said: dict[str, Any] = {}
    left = list(suite.models.values())
    while left:
        name = left.pop()
        if name in OWN_WORLDS:
            said[name] = "a world for each seed"
        if name in AFTER:
            before = AFTER[name]
            said[name] = [dataclasses.asdict(preset(before.training)), *before]
            left.append(before.training)
    return said


def jobs(suite: Suite, precision: Precision = "auto") -> list[Job]:
    return [Job(training, seed, precision, suite.curves) for _, training, seed in suite.runs]


def load(suite: Suite, precision: Precision = "auto") -> Models:
    """Every model of a suite by name, trained now where it is not there yet.

    Raises TrainingError where a run cannot be read, and where runs mix precisions.
    """
    models: Models = {name: [] for name in suite.models}
    for (name, _, _), job in zip(suite.runs, jobs(suite, precision), strict=True):
        folder = job.train()
        try:
            # evaluated in float32, however it was trained
            model: Any = None if job.curve else checkpoints.load(folder / "model", "float32")
            about = read_settled(folder / "config.json")
            metrics = read_metrics(folder / "metrics.jsonl", job.config.steps)
        except ValueError as error:
            raise TrainingError(f"{error}. Remove {folder} to train it again") from error
        models[name].append(Run(name, job.config.seed, job.config, model, metrics, about, folder))
    precisions = {run.about["precision"] for runs in models.values() for run in runs}
    if len(precisions) > 1:
        raise TrainingError(f"the runs mix precisions {precisions}: remove the odd ones from runs/")
    return models


def main() -> None:
    """python -m figures.lab.runs PRESET SEED PRECISION [curve] trains that run, for `schedule`."""
    keep_compiled()
    collect_less()
    job = Job(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:] == ["curve"])  # type: ignore[arg-type]
    devices.start(devices.Devices(), job.config.batch)
    job.train()


if __name__ == "__main__":
    main()
