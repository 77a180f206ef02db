"""How many tokens for each parameter? The ratio at the best size, beside the paper's twenty (Hoffmann et al. 2022)."""

import contextlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.claims import Claim
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import GREY, WIDTH, plain_log
from figures.lab.tables import Table, over_seeds, pick, published
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
    samples_of,
    sided,
    with_attention,
    within,
)
from icl_synth.scaling import Law, bootstrap, fit

TITLE = "Tokens per parameter at the best size (Hoffmann et al. 2022)"
DIFFERS = (
    PLAIN + "Tokens D at the best size N are C / 6 N; the paper counts weights alone, so they are "
    "divided by the weights of a model of that size, between those that were trained, and beside that by N with "
    "attention. That there are about twenty requires the whole 95 % interval of their number per weight "
    "within 13 to 30, twenty divided and multiplied by one and a half, for each approach and at each budget. "
    "Approach 1 ends at the largest budget but one (scaling/exponents), so its last number is extrapolated. "
    "Hoffmann et al.'s own law has 73 at Chinchilla's compute. " + RESAMPLED
)
PUBLISHED = ("scaling.csv",)
RATIO, WEIGHTS, PRODUCTS = "ratio", "weights", "weights and attention"
LEAST, MOST = 13.0, 30.0
PRESETS = presets(GRID, quick=Sizes(100), small=Sizes())


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity (ratio: log tokens for each weight, or product; and ends of its interval), approach, budget,
    counted (weights, or weights and attention)."""
    table = Table("quantity", "approach", "budget", "counted")
    ends = points(models)
    budgets = np.array(budgets_of(ends))
    known = sorted({(with_attention(point.counts), point.counts.parameters) for point in ends})
    with_products, weights = (np.log(column) for column in zip(*known, strict=True))
    for approach in APPROACHES:
        with contextlib.suppress(ValueError):  # too few runs to have a frontier, as `quick` may
            best, drawn = best_sizes(ends, approach, budgets, sizes.draws)
            tokens, of_draws = np.log(budgets / 6) - best, np.log(budgets / 6) - drawn
            for place, budget in enumerate(budgets):
                for counted, to in ((WEIGHTS, weights), (PRODUCTS, with_products)):
                    value, of_samples = (
                        reads[..., place] - np.interp(size[..., place], with_products, to)
                        for reads, size in ((tokens, best), (of_draws, drawn))
                    )
                    add_sampled(table, RATIO, approach, budget, counted, value=float(value), drawn=of_samples)
    return table.rows()


def best_sizes(ends: list[Point], approach: str, budgets: np.ndarray, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """The logarithm of the best N at each budget: of the runs [F] and of resampled ones [S F].

    Raises ValueError where the runs, or more than half of the samples, have no frontier.
    """
    runs, exact, samples = as_runs(ends), exact_of(ends), samples_of(ends, draws)
    if approach == "parametric":
        laws = Law(*(part[:, None] for part in bootstrap(runs, samples.runs)))
        return np.log(fit(runs).optimal_parameters(budgets)), np.log(laws.optimal_parameters(budgets))
    drawn = np.full((draws, len(budgets)), np.nan)
    for place, loss in enumerate(samples.losses):
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
    budgets = sorted({*rows.budget})
    lines = {
        name: [sided(summary, RATIO, approach=name, budget=budget).of(np.exp) for budget in budgets]
        for name in APPROACHES
        if name in set(rows.approach)
    }
    for place, (name, line) in enumerate(lines.items()):
        reach = np.concatenate([np.array(ratio.reach) for ratio in line], axis=1)
        panel.errorbar(np.array(budgets) * 1.05 ** (place - 1), [ratio.value for ratio in line], reach, fmt="o-",
                       color=COLOURS[name], capsize=2, label=name)  # fmt: skip
    theirs = published("scaling", quantity="tokens per parameter")
    for _, row in theirs.iterrows():
        panel.axhline(row.value, color=GREY, lw=1, ls="--")
        name = row.source.split(" et al.")[0] + (", by the law" if row.approach == "law" else "")
        panel.annotate(f"{row.value:g}, {name}", (1.01, row.value), va="center", size=8, color=GREY,
                       xycoords=("axes fraction", "data"), annotation_clip=False)  # fmt: skip
    panel.set(xscale="log", yscale="log", xlabel="training FLOPs", ylabel="tokens for each weight")
    plain_log(panel.yaxis, 2, 5)
    panel.legend()
    last = [line[-1].value for line in lines.values()]
    found = " to ".join(sorted({f"{value:.0f}" for value in (min(last), max(last))}, key=float))
    panel.set_title(f"At the largest budget {found} tokens for each weight are best", size=11)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """About twenty tokens for each parameter."""
    rows = over_seeds(rows)
    theirs = published("scaling", quantity="tokens per parameter").set_index("approach").value
    table = []
    for name in APPROACHES:
        budgets = sorted({*pick(rows, approach=name).budget})
        by_weights = {budget: sided(rows, RATIO, approach=name, budget=budget, counted=WEIGHTS) for budget in budgets}
        ours = [f"{budget:.0e} FLOPs: {ratio.of(np.exp).show(1)}" for budget, ratio in by_weights.items()]
        if budgets:
            products = sided(rows, RATIO, approach=name, budget=budgets[-1], counted=PRODUCTS).of(np.exp)
            ours.append(f"by weights and attention at the last {products.show(1)}")
        table.append(
            Claim(
                f"{name}: the best size reads about 20 tokens for each weight, {LEAST:g} to {MOST:g}, at every budget",
                f"{theirs['published']:g}; {theirs['law']:g} by the published law and {theirs['refit']:g} by the refit "
                "at Chinchilla's compute",
                "; ".join(ours) or "no frontier",
                [within(ratio, np.log(LEAST), np.log(MOST)) for ratio in by_weights.values()],
                headline=name == "isoflop",
            )
        )
    return table
