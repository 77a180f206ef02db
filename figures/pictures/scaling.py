"""Pictures of the lesson on scaling laws: recorded runs, and what a fit to the smallest budgets predicts."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.style import CYCLE, GREY, WIDTH, name_ends
from figures.lab.tables import pick
from figures.scaling.common import in_words, name_sizes
from icl_synth.scaling import Form, Runs, fit
from icl_synth.scaling.runs import budgets

CURVE = 100  # points of a fitted curve


def runs_of(rows: pd.DataFrame) -> Runs:
    """The runs behind recorded rows of scaling/isoflop, the mean over seeds of each."""
    keys = ["budget", "width", "parameters"]
    losses, tokens = (
        pick(rows, quantity=quantity).groupby(keys).value.mean().sort_index() for quantity in ("loss", "tokens")
    )
    return Runs(losses.index.get_level_values("parameters").to_numpy(float), tokens.to_numpy(), losses.to_numpy())


def exact(rows: pd.DataFrame) -> float:
    """The loss of exact Bayes on the documents that all runs are judged on, nats per token."""
    return float(pick(rows, quantity="exact").value.mean())


def draw_predicted(runs: Runs, budgets_used: int, form: Form) -> Figure:
    """A law fitted to the smallest budgets: its curves through their runs, and beside the runs of the largest."""
    groups = sorted(budgets(runs), key=lambda group: runs.flops[group].mean())
    seen, largest = np.concatenate(groups[:budgets_used]), groups[-1]
    law = fit(Runs(*(column[seen] for column in runs)), form)
    figure, panel = plt.subplots(figsize=(WIDTH, 3.8))
    ends = []
    for place, group in enumerate([*groups[:budgets_used], largest]):
        colour, predicted = CYCLE[place % len(CYCLE)], group is largest
        sizes = np.geomspace(runs.parameters[group].min(), runs.parameters[group].max(), CURVE)
        flops = runs.flops[group].mean()
        panel.plot(sizes, law.loss(sizes, flops / 6 / sizes), color=colour, ls="--" if predicted else "-", lw=1.2)
        panel.plot(runs.parameters[group], runs.loss[group], "D" if predicted else "o", color=colour, ms=4,
                   mfc="white" if predicted else colour)  # fmt: skip
        name = in_words(flops)
        ends.append((f"{name},\npredicted" if predicted else name, sizes[-1], float(runs.loss[group][-1]), colour))
    panel.axhline(law.E, color=GREY, ls=":", lw=1.2)
    panel.annotate(f"E = {law.E:.3f}", (runs.parameters.min(), law.E), (0, 3), textcoords="offset points", size=8,
                   color=GREY)  # fmt: skip
    name_sizes(panel)
    panel.set(ylabel="loss, nats per token")
    name_ends(panel, ends)
    miss = np.abs(law.loss(runs.parameters[largest], runs.tokens[largest]) - runs.loss[largest]).max()
    known = "known" if form.entropy is not None else "fitted"
    figure.suptitle(f"E {known}: a = {law.a:.2f}; the largest budget is missed by up to {miss:.3f} nats", size=11)
    return figure
