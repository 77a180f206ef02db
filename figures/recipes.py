"""Which trained models the figures of each preset stand on, and how many prompts they are asked."""

import dataclasses
import json
from typing import Any

from icl_synth import checkpoints
from icl_synth.config import TrainConfig, preset
from icl_synth.train import TrainingError, read_metrics, run_directory, train


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The models of a figure preset (name -> training preset), their seeds, and the size of the evaluation."""

    name: str
    models: dict[str, str]
    seeds: tuple[int, ...]
    prompts: int
    documents: int


RECIPES = {
    "quick": Recipe("quick", {"transformer": "quick", "LSTM": "quick-lstm"}, (0,), 500, 128),
    "small": Recipe("small", {"transformer": "small", "LSTM": "small-lstm"}, (0, 1, 2), 2500, 512),
    "paper": Recipe(
        "paper",
        {
            "transformer, 4 layers": "paper-4l",
            "transformer, 12 layers": "paper-12l",
            "transformer, 16 layers": "paper-16l",
            "LSTM": "paper-lstm",
        },
        (0, 1, 2, 3, 4),
        2500,
        100,
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


def trained(recipe: Recipe) -> list[Trained]:
    """Every model of the recipe, trained now where it is not yet; an interrupted run goes on where it stopped."""
    found = []
    for name, training in recipe.models.items():
        for seed in recipe.seeds:
            config = dataclasses.replace(preset(training), seed=seed)
            out = run_directory(config, training)
            if not (out / "model" / "config.json").exists():
                train(config, out)
            model = checkpoints.load(out / "model")
            run = json.loads((out / "config.json").read_text())
            found.append(Trained(name, seed, config, model, read_metrics(out / "metrics.jsonl", config.steps), run))
    precisions = {one.run["precision"] for one in found}
    if len(precisions) > 1:
        raise TrainingError(f"runs of preset {recipe.name} mix precisions {precisions}: remove the odd ones from runs/")
    return found
