"""The main arms with a model twice as wide and with an LSTM (exploratory)."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.lab.claims import Claim, positive, scaled, show
from figures.lab.presets import SEEDS, Suite, presets
from figures.lab.runs import Models
from figures.lab.style import BLACK, WIDTH, legend_below
from figures.lab.tables import Table, only, over_seeds, pick
from figures.transfer import common
from figures.transfer.common import ARMS, MANY, ONE, RANDOM, curve, saved

TITLE = "Synthetic documents first, real text after: a wider model and an LSTM (exploratory)"
DIFFERS = (
    "Explored beside the registered experiment and named there: `figures/transfer/PREREGISTRATION.md`. A transformer "
    "twice as wide and an LSTM read what the main arms read, as many tokens in both stages, by their own recipes and "
    "at the factor of the rate that was chosen for the registered model. Both questions are asked of both models and "
    "corrected together; the registered model stands beside with the same seeds, and is judged elsewhere. A saving is "
    "a share of the characters that the same model needs without synthetic documents."
)
PUBLISHED = ()
lacks = common.lacks
KINDS = {"": "the registered model", "-wide": "twice as wide", "-lstm": "LSTM"}
REGISTERED_MODEL = KINDS[""]


class Sizes(NamedTuple):
    seeds: int  # without which nothing is computed


def suite(scale: str) -> Suite:
    """The main arms of each model."""
    models = {
        f"{name}, {arm}": f"{scale}-transfer-{arm}{ending}"
        for ending, name in KINDS.items()
        for arm in (RANDOM, MANY, ONE)
    }
    return Suite(models, SEEDS[scale], curves=True)


PRESETS = presets({scale: suite(scale) for scale in ("quick", "small")}, quick=Sizes(1), small=Sizes(3))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, arm, quantity; a value for each seed.

    Quantities: loss (final, on the validation works, nats per character), saved (share of the characters that the
    model needs without synthetic documents) and saved more (by many concepts than by one). Raises ValueError for
    fewer seeds than asked for.
    """
    table = Table("model", "arm", "quantity")
    for runs in common.all_seeds(models, sizes.seeds):
        for name in KINDS.values():
            seed, curves = runs[f"{name}, {RANDOM}"].seed, {
                arm: curve(runs[f"{name}, {arm}"]) for arm in (RANDOM, MANY, ONE)
            }  # fmt: skip
            for arm, line in curves.items():
                table.add(name, arm, "loss", seed=seed, values=line.loss[-1:])
            shares = {arm: saved(curves[arm], curves[RANDOM]) for arm in (MANY, ONE)}
            for arm, share in shares.items():
                table.add(name, arm, "saved", seed=seed, values=np.array([share]))
            table.add(name, MANY, "saved more", seed=seed, values=np.array([shares[MANY] - shares[ONE]]))
    return table.rows()


def plot(rows: pd.DataFrame) -> Figure:
    means = over_seeds(rows)
    figure, (savings, final) = plt.subplots(1, 2, figsize=(WIDTH, 3.4), sharey=True)
    draw_arms(savings, rows, means, "saved", 100.0, (MANY, ONE))
    draw_arms(final, rows, means, "loss", 1.0, (RANDOM, MANY, ONE))
    savings.axvline(0, color=BLACK, lw=0.8)
    savings.set_xlabel("characters saved to the same loss, %")
    final.set_xlabel("final loss on the validation works,\nnats per character")
    savings.set_yticks([-place for place in range(len(KINDS))], list(KINDS.values()))
    savings.set_ylim(0.5 - len(KINDS), 0.5)
    legend_below(figure, final, 3)
    each = ", ".join(
        f"{name} {100 * only(means, model=name, arm=MANY, quantity='saved').mean:.0f} %" for name in KINDS.values()
    )
    figure.suptitle(f"Characters saved by many concepts first:\n{each}", size=11)
    return figure


def draw_arms(
    panel: Axes, rows: pd.DataFrame, means: pd.DataFrame, quantity: str, scale: float, arms: tuple[str, ...]
) -> None:
    """A quantity by model and arm, seeds as dots."""
    for number, arm in enumerate(arms):
        colour, name = ARMS[arm]
        for place, model in enumerate(KINDS.values()):
            value, height = only(means, model=model, arm=arm, quantity=quantity), -place + 0.2 - 0.2 * number
            dots = scale * pick(rows, model=model, arm=arm, quantity=quantity).value
            panel.plot(dots, np.full(len(dots), height - 0.07), ".", ms=4, color=colour, alpha=0.5)
            panel.errorbar(scale * value.mean, height, xerr=scale * value.half_width, color=colour, marker="o",
                           capsize=2, label=f"first {name}" if not place else None)  # fmt: skip


def claims(rows: pd.DataFrame) -> list[Claim]:
    """What many concepts save each of the other models, and whether more than one concept."""
    means = over_seeds(rows)
    asked = {"save characters": "saved", "save more than one": "saved more"}
    return [
        Claim(
            f"{model}: many concepts first {question} (exploratory)",
            "no number",
            f"{show(scaled(value, 100))} {'%' if quantity == 'saved' else 'points'}",
            [positive(value)],
            own=True,
        )
        for model in KINDS.values()
        if model != REGISTERED_MODEL
        for question, quantity in asked.items()
        for value in [only(means, model=model, arm=MANY, quantity=quantity)]
    ]
