"""What does the wrong size cost? Four times too large and too small at equal compute (Gopher, Chinchilla)."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.claims import Claim, positive, show
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import BLUE, GREY, ORANGE, WIDTH
from figures.lab.tables import Table, only, over_seeds, pick
from figures.scaling.common import GRID, PLAIN, Point, Sizes, as_runs, budgets_of, nearest, points, with_attention
from icl_synth.scaling import Frontier, isoflop

TITLE = "Four times too large and four times too small at equal compute (Gopher against Chinchilla)"
DIFFERS = (
    PLAIN + "Gopher has 280 B parameters and read 300 B tokens; Chinchilla has 70 B and read 1.4 T with the same "
    "compute, and is better on nearly all tasks. Here the best size at each budget is the one trained that lies "
    "nearest to the frontier of approach 2; too large and too small are the sizes trained that lie nearest to "
    "four times and to a quarter of it, by the ratio of parameters. That each loses asks for the logarithm of "
    "its loss above exact Bayes less that of the best size, paired by budget and seed, above zero; pairs of all "
    "budgets are one sample."
)
PUBLISHED = ()
FACTOR = 4.0
PRESETS = presets(GRID, quick=Sizes(), small=Sizes())
SIDES = {"too large": FACTOR, "too small": 1 / FACTOR}


class Pair(NamedTuple):
    """A size that is off and the best one of the same budget and seed."""

    side: str
    off: Point
    best: Point

    @property
    def lost(self) -> float:
        """Logarithm of the ratio of their losses above exact Bayes."""
        return float(np.log(self.off.excess / self.best.excess))

    @property
    def factor(self) -> float:
        return with_attention(self.off.counts) / with_attention(self.best.counts)


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity (lost, as log of the ratio of losses above Bayes), side, budget, factor of the parameters."""
    table = Table("quantity", "side", "budget", "factor")
    ends = points(models)
    found = pairs(ends, isoflop(as_runs(ends)))
    for pair in found:
        table.add("lost", pair.side, pair.off.budget, pair.factor, values=np.array([pair.lost]), seed=pair.off.seed)
    for side in SIDES:
        table.add("lost together", side, 0.0, 0.0, values=np.array([pair.lost for pair in found if pair.side == side]))
    return table.rows()


def pairs(ends: list[Point], frontier: Frontier) -> list[Pair]:
    """The pairs of all budgets and seeds; where the nearest size is the best one itself there is none."""
    found = []
    for budget in budgets_of(ends):
        here = [point for point in ends if point.budget == budget]
        middle = float(frontier.optimal_parameters(here[0].counts.flops(here[0].tokens)))
        best = nearest(here, middle)
        for side, factor in SIDES.items():
            off = nearest(here, factor * middle)
            found += [
                Pair(side, one, other)
                for one in here
                for other in here
                if (one.width, other.width) == (off, best) and one.seed == other.seed and off != best
            ]
    return found


def plot(rows: pd.DataFrame) -> Figure:
    """What each pair lost, by budget."""
    figure, panel = plt.subplots(figsize=(WIDTH, 3.6))
    together = over_seeds(pick(rows, quantity="lost together"))
    for side, colour, shift in (("too large", ORANGE, 1.06), ("too small", BLUE, 1 / 1.06)):
        of_side = pick(rows, quantity="lost", side=side)
        factors = f"{of_side.factor.min():.1f} to {of_side.factor.max():.1f} times the best size"
        panel.plot(of_side.budget * shift, 100 * np.expm1(of_side.value), "o", color=colour, label=f"{side}: {factors}")
    panel.axhline(0, color=GREY, lw=0.8)
    panel.set(xscale="log", xlabel="training FLOPs", ylabel="more loss above exact Bayes, %")
    panel.legend()
    lost = {side: 100 * np.expm1(only(together, side=side).mean) for side in SIDES}
    panel.set_title(
        f"At equal compute, too large costs {lost['too large']:.0f} %, too small {lost['too small']:.0f} % "
        "more loss above Bayes", size=11,
    )  # fmt: skip
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Both wrong sizes lose."""
    rows = over_seeds(rows)
    papers = {
        "too large": "Gopher, 4 times too large, loses: WikiText-103 perplexity 7.75 against 7.16",
        "too small": "a parabola through the losses of each budget rises on both sides (approach 2)",
    }
    return [
        Claim(
            f"at equal compute the model that is about four times {side} loses",
            papers[side],
            f"{show(only(rows, quantity='lost together', side=side), 2)} in log of the loss above Bayes",
            [positive(only(rows, quantity="lost together", side=side))],
            headline=side == "too large",
        )
        for side in SIDES
    ]
