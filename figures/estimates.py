"""How many minutes a figure would take that was not made yet, from what was recorded of others."""

import json
import math
from collections.abc import Mapping
from statistics import median
from types import ModuleType
from typing import Any

from figures import record
from figures.recipes import Recipe, configured, folder, is_trained

Rates = dict[tuple[bool, int], float]


def work(steps: int, batch: int, length: int, model: Mapping[str, Any]) -> float:
    """Training in units that grow as its arithmetic does: tokens times weights inside layers."""
    return steps * batch * length * model["depth"] * model["width"] ** 2


def rates() -> Rates:
    """Minutes for a unit of training by (is it a transformer, width): medians over all recorded runs."""
    found: dict[tuple[bool, int], list[float]] = {}
    for path in record.OUT.glob("*/*.json"):
        known = json.loads(path.read_text())
        for one in known["models"]:
            config = known["training"][one["model"]]
            model, done = config["model"], one["tokens"] / (config["data"]["length"] - 1)
            units = work(1, done, config["data"]["length"], model)
            found.setdefault(("heads" in model, model["width"]), []).append(one["minutes"] / units)
    return {kind: median(values) for kind, values in found.items()}


def training_minutes(module: ModuleType, recipe: Recipe, known: Rates) -> tuple[int, float]:
    """How many of a figure's runs are not trained, and the minutes they take, at the rates of the nearest widths."""
    runs = {folder(training, seed): configured(training, seed) for _, training, seed in module.wanted(recipe).runs}
    number, minutes = 0, 0.0
    for out, config in runs.items():
        if not is_trained(out):
            model = vars(config.model)
            alike = [(abs(math.log(width / model["width"])), rate) for (heads, width), rate in known.items()
                     if heads == ("heads" in model)]  # fmt: skip
            rate = min(alike)[1] if alike else math.nan
            number, minutes = number + 1, minutes + rate * work(config.steps, config.batch, config.data.length, model)
    return number, minutes


def evaluation_minutes(name: str, runs: int) -> float:
    """Those of the same figure at another preset, by the number of runs it looks at; NaN where it was never made."""
    recorded = [json.loads(path.read_text()) for path in record.OUT.glob(f"*/{name}.json")]
    found = [known["minutes"] * runs / max(1, len(known["models"])) for known in recorded]
    return median(found) if found else math.nan


def estimate(name: str, module: ModuleType, recipe: Recipe, known: Rates) -> str:
    """In words, for a machine such as the recorded runs had; other figures may share the training runs."""
    number, training = training_minutes(module, recipe, known)
    evaluation = evaluation_minutes(name, max(1, len(module.wanted(recipe).runs)))
    total, runs = training + evaluation, f"{number} training run{'s' * (number != 1)}"
    if math.isnan(total):
        return f"{runs}, minutes unknown: nothing like it was made yet"
    time = f"{total:.0f} minutes" if total < 120 else f"{total / 60:,.0f} hours"
    return f"about {time} on two cores: {runs}, and {evaluation:.0f} minutes of evaluation, by another preset's"
