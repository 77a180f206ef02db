"""How many tokens for each parameter? The ratio at the best size, beside the paper's twenty (Hoffmann et al. 2022)."""

import contextlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.claims import Claim, between
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import GREY, WIDTH, plain_log
from figures.lab.tables import Table, as_estimate, only, over_seeds, pick, published
from figures.scaling.common import (
    APPROACHES,
    COLOURS,
    GRID,
    PLAIN,
    RESAMPLED,
    Point,
    Sizes,
    add_sampled,
    as_runs,
    budgets_of,
    exact_of,
    frontier_of,
    points,
    resampled,
    with_attention,
)
from icl_synth.estimates import Estimate
from icl_synth.scaling import Law, fit, refit

TITLE = "Tokens per parameter at the best size (Hoffmann et al. 2022)"
DIFFERS = (
    PLAIN
    + "Tokens D at the best size N are C / 6 N, at the largest budget; the paper counts weights alone, so they are "
    "divided by the weights of a model of that size, between those that were trained, and beside that by N with "
    "attention. That there are about twenty requires the whole 95 % interval of their number per weight "
    "within 13 to 30, twenty divided and multiplied by one and a half, for each approach. Approach 1 ends at the "
    "budget before (scaling/exponents), so its number is extrapolated. " + RESAMPLED
)
PUBLISHED = ("scaling.csv",)
WEIGHTS = "weights"
LEAST, MOST = 13.0, 30.0
PRESETS = presets(GRID, quick=Sizes(100), small=Sizes())


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: approach, budget, counted (weights, or weights and attention); value: log tokens for each of them."""
    table = Table("approach", "budget", "counted")
    ends = points(models)
    budgets = np.array(budgets_of(ends))
    known = sorted({(with_attention(point.counts), point.counts.parameters) for point in ends})
    with_products, weights = (np.log(column) for column in zip(*known, strict=True))
    for approach in APPROACHES:
        with contextlib.suppress(ValueError):  # too few runs to have a frontier, as `quick` may
            best, drawn = best_sizes(ends, approach, budgets, sizes.draws)
            tokens, of_draws = np.log(budgets / 6) - best, np.log(budgets / 6) - drawn
            for place, budget in enumerate(budgets):
                for counted, to in ((WEIGHTS, weights), ("weights and attention", with_products)):
                    value, of_samples = (
                        reads[..., place] - np.interp(size[..., place], with_products, to)
                        for reads, size in ((tokens, best), (of_draws, drawn))
                    )
                    add_sampled(table, approach, budget, counted, value=float(value), drawn=of_samples)
    return table.rows()


def best_sizes(ends: list[Point], approach: str, budgets: np.ndarray, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """The logarithm of the best N at each budget: of the runs [F] and of resampled ones [S F].

    Raises ValueError where the runs, or more than half of the samples, have no frontier.
    """
    runs, exact, losses = as_runs(ends), exact_of(ends), resampled(ends, draws)
    if approach == "parametric":
        laws = Law(*(part[:, None] for part in refit(runs, losses)))
        return np.log(fit(runs).optimal_parameters(budgets)), np.log(laws.optimal_parameters(budgets))
    drawn = np.full((draws, len(budgets)), np.nan)
    for place, loss in enumerate(losses):
        with contextlib.suppress(ValueError):
            found = frontier_of(approach, runs._replace(loss=loss), exact)
            drawn[place] = np.log(found.optimal_parameters(budgets))
    if np.isnan(drawn).mean() > 0.5:
        raise ValueError("more than half of the samples have no frontier")
    return np.log(frontier_of(approach, runs, exact).optimal_parameters(budgets)), drawn


def plot(rows: pd.DataFrame) -> Figure:
    """The ratio by compute for each approach, and the published numbers."""
    figure, panel = plt.subplots(figsize=(WIDTH, 3.8))
    summary = over_seeds(pick(rows, counted=WEIGHTS))
    shown = [name for name in APPROACHES if name in set(rows.approach)]
    for place, name in enumerate(shown):
        line = pick(summary, approach=name)
        value = np.exp(line.value)
        reach = value - np.exp(line.value - line.half_width), np.exp(line.value + line.half_width) - value
        panel.errorbar(line.budget * 1.05 ** (place - 1), value, reach, fmt="o-", color=COLOURS[name], capsize=2,
                       label=name)  # fmt: skip
    theirs = published("scaling", quantity="tokens per parameter")
    for _, row in theirs.iterrows():
        panel.axhline(row.value, color=GREY, lw=1, ls="--")
        panel.annotate(f"{row.value:g}, {row.source.split(' et al.')[0]}", (1.01, row.value), va="center", size=8,
                       color=GREY, xycoords=("axes fraction", "data"), annotation_clip=False)  # fmt: skip
    panel.set(xscale="log", yscale="log", xlabel="training FLOPs", ylabel="tokens for each weight")
    plain_log(panel.yaxis, 2, 5)
    panel.legend()
    last = [np.exp(only(summary, approach=name, budget=rows.budget.max()).mean) for name in shown]
    found = " to ".join(sorted({f"{value:.0f}" for value in (min(last), max(last))}, key=float))
    panel.set_title(f"At the largest budget {found} tokens for each weight are best", size=11)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """About twenty tokens for each parameter."""
    rows = over_seeds(pick(rows, budget=rows.budget.max()))
    theirs = published("scaling", quantity="tokens per parameter").set_index("approach").value
    return [
        Claim(
            f"{name}: the best size reads about 20 tokens for each weight, {LEAST:g} to {MOST:g}",
            f"{theirs['published']:g}; {theirs['refit']:g} by the refit at Chinchilla's compute",
            "; ".join(f"{in_full(as_estimate(row))} by {row.counted}" for _, row in found.iterrows()) or "no frontier",
            [between(only(found, counted=WEIGHTS), np.log(LEAST), np.log(MOST))] if len(found) else [],
            headline=name == "isoflop",
        )
        for name, found in ((name, pick(rows, approach=name)) for name in APPROACHES)
    ]


def in_full(value: Estimate) -> str:
    """A number whose logarithm was estimated, with its interval."""
    middle, low, high = np.exp([value.mean, value.mean - value.half_width, value.mean + value.half_width])
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"
