"""How many tokens for each parameter? The ratio at the best size, beside the paper's twenty (Hoffmann et al. 2022)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.claims import Claim, between, show
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import GREY, WIDTH, plain_log
from figures.lab.tables import Table, only, over_seeds, pick, published
from figures.scaling.common import (
    APPROACHES,
    COLOURS,
    GRID,
    PLAIN,
    Sizes,
    add_sampled,
    as_runs,
    budgets_of,
    points,
    sampled,
)
from icl_synth.scaling import Frontier, Law, Runs, bootstrap, envelope, fit, isoflop

TITLE = "Tokens for each parameter at the best size (Hoffmann et al. 2022)"
DIFFERS = (
    PLAIN
    + "Tokens for each parameter are C / (6 N_opt^2), at the largest budget. That there are about twenty asks for "
    "the whole 95 % interval of their number within 13 to 30, twenty divided and multiplied by one and a half, for "
    "each approach. The number for other budgets follows from the exponents."
)
PUBLISHED = ("scaling.csv",)
LEAST, MOST = 13.0, 30.0
PRESETS = presets(GRID, quick=Sizes(100), small=Sizes())


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: approach, budget; value in tokens for each parameter (attention counted)."""
    table = Table("approach", "budget")
    ends = points(models)
    runs, budgets = as_runs(ends), np.array(budgets_of(ends))
    for approach in APPROACHES:
        value, drawn = ratios(runs, approach, budgets, sizes.draws)
        for place, budget in enumerate(budgets):
            add_sampled(table, approach, budget, value=float(value[place]), drawn=drawn[:, place])
    return table.rows()


def ratios(runs: Runs, approach: str, budgets: np.ndarray, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens for each parameter at each budget: of the runs [F] and of samples of them [S F]."""
    if approach == "parametric":
        laws = bootstrap(runs, sampled(runs, draws))
        return of_frontier(fit(runs), budgets), of_frontier(Law(*(part[:, None] for part in laws)), budgets)
    fitted = {"envelope": envelope, "isoflop": isoflop}[approach]
    drawn = np.full((draws, len(budgets)), np.nan)
    for place, sample in enumerate(sampled(runs, draws)):
        try:
            drawn[place] = of_frontier(fitted(runs.select(sample)), budgets)
        except ValueError:  # too few runs at the budgets of this sample
            continue
    return of_frontier(fitted(runs), budgets), drawn


def of_frontier(found: Frontier | Law, budgets: np.ndarray) -> np.ndarray:
    return budgets / 6 / found.optimal_parameters(budgets) ** 2


def plot(rows: pd.DataFrame) -> Figure:
    """The ratio by compute for each approach, and the published numbers."""
    figure, panel = plt.subplots(figsize=(WIDTH, 3.8))
    summary = over_seeds(rows)
    for place, name in enumerate(APPROACHES):
        line = pick(summary, approach=name)
        panel.errorbar(line.budget * 1.05 ** (place - 1), line.value, line.half_width, fmt="o-", color=COLOURS[name],
                       capsize=2, label=name)  # fmt: skip
    theirs = published("scaling", quantity="tokens per parameter")
    for _, row in theirs.iterrows():
        panel.axhline(row.value, color=GREY, lw=1, ls="--")
        panel.annotate(f"{row.value:g}, {row.source.split(' (')[0]}", (0.01, row.value), va="bottom", size=8,
                       color=GREY, xycoords=("axes fraction", "data"))  # fmt: skip
    panel.set(xscale="log", yscale="log", xlabel="training FLOPs", ylabel="tokens for each parameter")
    plain_log(panel.yaxis, 2, 5)
    panel.legend()
    last = [only(summary, approach=name, budget=rows.budget.max()).mean for name in APPROACHES]
    panel.set_title(
        f"At the largest budget {min(last):.0f} to {max(last):.0f} tokens for each parameter are best", size=11
    )
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """About twenty tokens for each parameter."""
    rows = over_seeds(rows)
    theirs = published("scaling", quantity="tokens per parameter").set_index("approach").value
    return [
        Claim(
            f"{name}: the best size reads about 20 tokens for each parameter, {LEAST:g} to {MOST:g}",
            f"{theirs['published']:g}; {theirs['refit']:g} by the refit at Chinchilla's compute",
            show(only(rows, approach=name, budget=rows.budget.max())),
            [between(only(rows, approach=name, budget=rows.budget.max()), LEAST, MOST)],
            headline=name == "isoflop",
        )
        for name in APPROACHES
    ]
