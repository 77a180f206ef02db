"""Is there a best size at each budget? IsoFLOP curves in loss above exact Bayes (Hoffmann et al. 2022)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.claims import Claim, positive
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import CYCLE, WIDTH, name_ends, plain_log
from figures.lab.tables import Table, pick
from figures.scaling.common import (
    GRID,
    PLAIN,
    Point,
    Sizes,
    as_runs,
    budgets_of,
    by_budget,
    exact_of,
    in_words,
    judged,
    name_sizes,
    nearest,
    optimum,
    over_budgets,
    points,
    told,
    with_attention,
)
from icl_synth.scaling.frontier import vertex

TITLE = "The best size at each budget, in loss above the entropy (Hoffmann et al. 2022)"
DIFFERS = (
    PLAIN
    + "The paper draws losses; the entropy being known, we draw what is left above it. The parabolas are fitted to "
    "the logarithm of that, by log N. That there is a valley requires, at both ends of the sizes, the logarithm of "
    "the loss above exact Bayes at that end less that at the size nearest to the frontier of approach 2, paired by "
    "seed and averaged over the seeds of each budget, to be above zero: Student's interval over budgets."
)
PUBLISHED = ()
PRESETS = presets(GRID, quick=Sizes(), small=Sizes())


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity (excess, loss, exact in nats per token; tokens; flops; best size; end above best in log excess),
    budget, width, parameters (with attention)."""
    table = Table("quantity", "budget", "width", "parameters")
    ends = points(models)
    frontier = optimum(ends)

    for point in ends:
        cell = point.budget, point.width, with_attention(point.counts)
        measured = {name: getattr(point, name) for name in ("excess", "loss", "exact", "tokens")}
        for quantity, value in (measured | {"flops": point.counts.flops(point.tokens)}).items():
            table.add(quantity, *cell, values=np.array([value]), seed=point.seed)
    for budget in budgets_of(ends):
        here = [point for point in ends if point.budget == budget]
        runs = as_runs(here)
        log_excess = runs._replace(loss=np.log(runs.loss - exact_of(here)))
        best = vertex(log_excess, np.arange(len(here)))
        if best is not None:
            table.add("best size", budget, 0, 0, values=np.array([best]))
        middle = float(frontier.optimal_parameters(runs.flops.mean())) if frontier else None
        for end, of_seeds in (ends_above_best(here, middle) if middle else {}).items():
            for seed, value in of_seeds.items():
                table.add(f"{end} above best", budget, 0, 0, values=np.array([value]), seed=seed)
    return table.rows()


def ends_above_best(here: list[Point], size: float) -> dict[str, dict[int, float]]:
    """log excess of a budget's smallest and largest models less that of the one nearest to a size, by seed."""
    log_excess = {(point.width, point.seed): np.log(point.excess) for point in here}
    widths, best = sorted({point.width for point in here}), nearest(here, size)
    return {
        end: {seed: log_excess[width, seed] - log_excess[best, seed] for seed in sorted({point.seed for point in here})}
        for end, width in (("smallest", widths[0]), ("largest", widths[-1]))
    }


def plot(rows: pd.DataFrame) -> Figure:
    """Loss above exact Bayes by size, a curve for each budget."""
    figure, panel = plt.subplots(figsize=(WIDTH, 4.2))
    ends = []
    for (budget, of_budget), colour in zip(by_budget(pick(rows, quantity="excess")), CYCLE, strict=False):
        panel.plot(of_budget.parameters, of_budget.value, ".", color=colour, alpha=0.6)
        sizes, losses = np.log(of_budget.parameters), np.log(of_budget.value)
        parabola = np.polyfit(sizes - sizes.mean(), losses, 2)
        line = np.linspace(sizes.min(), sizes.max(), 100)
        heights = np.exp(np.polyval(parabola, line - sizes.mean()))
        panel.plot(np.exp(line), heights, color=colour)
        best = pick(rows, quantity="best size", budget=budget)
        if len(best):
            panel.plot(
                best.value, np.exp(np.polyval(parabola, np.log(best.value) - sizes.mean())), "*", ms=11, color=colour
            )
        ends.append((in_words(budget), float(np.exp(line[-1])), float(heights[-1]), colour))
    name_sizes(panel)
    panel.set(yscale="log", ylabel="loss above exact Bayes, nats per token")
    plain_log(panel.yaxis, 2, 3, 5)
    inside = sum(lowest_inside(of_budget) for _, of_budget in by_budget(pick(rows, quantity="excess")))
    panel.set_title(
        f"At {inside} of {rows.budget.nunique()} budgets the best model is neither the smallest nor the largest",
        size=11,
    )
    name_ends(panel, ends)
    return figure


def lowest_inside(of_budget: pd.DataFrame) -> bool:
    """Whether the lowest mean loss of a budget is at neither end of its sizes."""
    means = of_budget.groupby("parameters").value.mean()
    return means.idxmin() not in (means.index.min(), means.index.max())


def claims(rows: pd.DataFrame) -> list[Claim]:
    """At equal compute the smallest and the largest models both lose."""
    parts = {end: over_budgets(pick(rows, quantity=f"{end} above best")) for end in ("smallest", "largest")}
    return [
        Claim(
            "at equal compute there is a best size between smaller and larger ones",
            "a parabola through the losses of each budget has a lowest point (approach 2)",
            "; ".join(f"{end}: {told(value, 2)}" for end, value in parts.items()) + " in log of the loss above Bayes",
            [finding for value in parts.values() for finding in judged(value, positive)],
        )
    ]
