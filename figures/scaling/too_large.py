"""What does the wrong size cost? Four times too large and too small at equal compute (Gopher, Chinchilla)."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.claims import Claim, positive
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import BLUE, GREY, ORANGE, WIDTH, legend_below
from figures.lab.tables import Table, pick
from figures.scaling.common import (
    GRID,
    PLAIN,
    Point,
    Sizes,
    budgets_of,
    in_words,
    judged,
    nearest,
    optimum,
    over_budgets,
    points,
    told,
    with_attention,
)
from icl_synth.scaling import Frontier

TITLE = "Four times too large and four times too small at equal compute (Gopher against Chinchilla)"
DIFFERS = (
    PLAIN
    + "Gopher has 280 B parameters and read 300 B tokens; Chinchilla has 70 B and read 1.4 T with the same compute, "
    "and is better on nearly all tasks. Here the best size at each budget is the one trained that lies nearest to "
    "the frontier of approach 2; too large and too small are the sizes trained that lie nearest to four times and "
    "to a quarter of it, by the ratio of parameters, where that is 2.5 to 6 times the best size or as much "
    "smaller. That each loses requires the logarithm of its loss above exact Bayes less that of the best size, "
    "paired by seed and averaged over the seeds of each budget, to be above zero: Student's interval over budgets, at "
    "least three of them. Sizes that are four times too small were added after the first seed."
)
PUBLISHED = ()
FACTOR, NEAR = 4.0, (2.5, 6.0)
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
    frontier = optimum(ends)
    for pair in pairs(ends, frontier) if frontier else []:
        table.add("lost", pair.side, pair.off.budget, pair.factor, values=np.array([pair.lost]), seed=pair.off.seed)
    return table.rows()


def pairs(ends: list[Point], frontier: Frontier) -> list[Pair]:
    """The pairs of all budgets and seeds; where no size is about four times off there is none."""
    found = []
    for budget in budgets_of(ends):
        here = [point for point in ends if point.budget == budget]
        middle = float(frontier.optimal_parameters(here[0].counts.flops(here[0].tokens)))
        best = nearest(here, middle)
        size = next(with_attention(point.counts) for point in here if point.width == best)
        for side, factor in SIDES.items():
            off = nearest(here, factor * size)
            found += [
                Pair(side, one, other)
                for one in here
                for other in here
                if (one.width, other.width) == (off, best) and one.seed == other.seed
            ]
    return [pair for pair in found if NEAR[0] <= max(pair.factor, 1 / pair.factor) <= NEAR[1]]


def plot(rows: pd.DataFrame) -> Figure:
    """What each pair lost, by budget."""
    figure, panel = plt.subplots(figsize=(WIDTH, 3.6))
    for side, colour, shift in (("too large", ORANGE, 1.06), ("too small", BLUE, 1 / 1.06)):
        of_side = pick(rows, side=side)
        if len(of_side):
            label = f"{side}: {factors(rows, side)} times the best size"
            panel.plot(of_side.budget * shift, 100 * np.expm1(of_side.value), "o", color=colour, label=label)
    panel.axhline(0, color=GREY, lw=0.8)
    panel.set(xscale="log", xlabel="training", ylabel="more loss above exact Bayes, %")
    panel.set_xticks(sorted({*rows.budget}), [in_words(budget) for budget in sorted({*rows.budget})])
    panel.minorticks_off()
    legend_below(figure, panel, 2)
    lost = [
        f"{side} {100 * np.expm1(over_budgets(pick(rows, side=side)).mean):+.0f} %"
        for side in SIDES
        if side in set(rows.side)
    ]
    panel.set_title(f"Loss above Bayes at equal compute: about four times {', '.join(lost)}", size=11)
    return figure


def factors(rows: pd.DataFrame, side: str) -> str:
    """The range of the ratios of parameters."""
    found = pick(rows, side=side).factor
    return f"{found.min():.2g} to {found.max():.2g}"


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Both wrong sizes lose."""
    papers = {
        "too large": "Gopher, 4 times too large, loses: WikiText-103 perplexity 7.75 against 7.16",
        "too small": "a parabola through the losses of each budget rises on both sides (approach 2)",
    }
    table = []
    for side in SIDES:
        lost = pick(rows, side=side)
        mean = over_budgets(lost)
        ours = f"{told(mean, 2)} in log of the loss above Bayes, at {factors(rows, side)} times the best size"
        table.append(
            Claim(
                f"at equal compute the model that is about four times {side} loses",
                papers[side],
                ours if len(lost) else "no budget has such a size",
                judged(mean, positive) if len(lost) else [],
                headline=side == "too large",
            )
        )
    return table
