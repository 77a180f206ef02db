"""Does a fit find the irreducible loss? It is known here (Hoffmann et al. 2022)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.claims import Claim
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import BLACK, GREY, WIDTH
from figures.lab.tables import Table, only, over_seeds, pick, published
from figures.scaling.common import (
    ADDITIVE,
    COLOURS,
    GRID,
    OUTER,
    PLAIN,
    RESAMPLED,
    SAMPLE_SEED,
    Sizes,
    add_sampled,
    as_runs,
    budgets_of,
    exact_of,
    points,
    sided,
    up_to,
    within,
)
from icl_synth.scaling import bootstrap, draw_at_budgets, fit

TITLE = "The irreducible loss, fitted and known (Hoffmann et al. 2022)"
DIFFERS = (
    PLAIN
    + "E of approach 3 is fitted to the runs of the two smallest budgets and of one more at a time, in the additive "
    "form and with an exponent on the sum of the two terms. What it should be is the mean loss of exact Bayes on "
    "the tokens that give the losses. That E lies below the losses is no finding; that it finds E requires, with all "
    "budgets, the whole interval of the fitted less the known loss within a fifth of what is left between the "
    "lowest loss of all runs and the entropy. Hoffmann et al. print no interval; the half width of Besiroglu et "
    "al.'s refit is 0.05. The second form is our own question. A depth of four layers at one rate and batch may have a "
    "floor of its own above the entropy, which would raise the fitted E. " + RESAMPLED
)
PUBLISHED = ("scaling.csv",)
MARGIN = 0.2  # of the lowest loss above exact Bayes
FORMS = {"parametric": ADDITIVE, "parametric, outer exponent": OUTER}
PRESETS = presets(GRID, quick=Sizes(100), small=Sizes())


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity (off: fitted less known loss; known; left: the lowest loss above it; nats per token), form,
    budget (largest in the fit), and ends of intervals."""
    table = Table("quantity", "form", "budget")
    ends = points(models)
    budgets = budgets_of(ends)
    for budget in budgets[1:]:
        chosen = up_to(ends, budget)
        runs, known = as_runs(chosen), float(exact_of(chosen).mean())
        drawn_runs = draw_at_budgets(runs, sizes.draws, SAMPLE_SEED)
        for name, form in FORMS.items():
            drawn = bootstrap(runs, drawn_runs, form).E
            add_sampled(table, "off", name, budget, value=float(fit(runs, form).E) - known, drawn=drawn - known)
    table.add("known", "exact Bayes", budgets[-1], values=np.array([known]))
    table.add("left", "exact Bayes", budgets[-1], values=np.array([min(point.excess for point in ends)]))
    return table.rows()


def plot(rows: pd.DataFrame) -> Figure:
    """Fitted less known loss as budgets are added."""
    figure, panel = plt.subplots(figsize=(WIDTH, 3.8))
    summary = over_seeds(rows)
    budgets = sorted({*pick(rows, quantity="off").budget})
    for place, name in enumerate(FORMS):
        line = [sided(summary, "off", form=name, budget=budget) for budget in budgets]
        reach = np.concatenate([np.array(off.reach) for off in line], axis=1)
        panel.errorbar(
            np.array(budgets) * 1.05 ** (2 * place - 1), [off.value for off in line], reach, fmt="o-",
            color=COLOURS[name], capsize=2, label="with an outer exponent" if place else "additive",
        )  # fmt: skip
    panel.axhline(0, color=BLACK, lw=1)
    left = only(summary, quantity="left").mean
    panel.axhspan(-MARGIN * left, MARGIN * left, color=GREY, alpha=0.15, lw=0)
    panel.annotate("exact Bayes", (1.01, 0), xycoords=("axes fraction", "data"), va="center", size=9)
    panel.set(xscale="log", xlabel="largest budget in the fit, FLOPs", ylabel="fitted less known E, nats per token")
    panel.set_yscale("symlog", linthresh=0.05)
    panel.set_yticks([-2, -1, -0.5, -0.2, -0.1, -0.05, 0, 0.05, 0.1])
    panel.yaxis.set_major_formatter("{x:g}")
    panel.legend()
    last = sided(summary, "off", form="parametric", budget=rows.budget.max())
    panel.set_title(
        f"With all budgets the additive fit puts E {abs(last.value):.3f} nats "
        f"{'above' if last.value > 0 else 'below'} what it is", size=11,
    )  # fmt: skip
    panel.grid(axis="y", color=GREY, alpha=0.2)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """The fitted irreducible loss is the entropy."""
    rows = over_seeds(rows)
    theirs, refit = (published("scaling", quantity="E", approach=fit).iloc[0] for fit in ("published", "refit"))
    largest = rows.budget.max()
    known, left = only(rows, quantity="known").mean, only(rows, quantity="left").mean
    table = []
    for name in FORMS:
        off = sided(rows, "off", form=name, budget=largest)
        table.append(
            Claim(
                f"{name}: the fitted E is the irreducible loss, to within a fifth of what the best run has left",
                f"E = {theirs.value:.2f}; refitted {refit.value:.3f}, {refit.low:.3f} to {refit.high:.3f}; "
                "the truth is not known",
                f"off by {off.show(4)} nats per token from the {known:.3f} of exact Bayes; the best run has {left:.4f} "
                "left",
                [within(off, -MARGIN * left, MARGIN * left)],
                own=name != "parametric",
                headline=name == "parametric",
            )
        )
    return table
