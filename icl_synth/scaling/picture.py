"""A picture of the three fits: the losses by size at each budget, and the best size by compute."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from icl_synth.scaling.frontier import SIZES, Frontier
from icl_synth.scaling.parametric import Law
from icl_synth.scaling.runs import Runs, budgets

COLOURS = {"envelope": "#009E73", "isoflop": "#0072B2", "parametric": "#D55E00"}


def picture(runs: Runs, fits: Mapping[str, Frontier | Law]) -> Figure:
    """Two panels: what was measured, with a parabola at each budget; and the frontier of each fit."""
    figure = Figure(figsize=(7.3, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _losses(left, runs)
    flops = np.geomspace(runs.flops.min(), runs.flops.max(), 50)
    for name, found in fits.items():
        right.plot(
            flops, found.optimal_parameters(flops), color=COLOURS[name], label=f"{name}, a = {float(found.a):.3f}"
        )
        if isinstance(found, Frontier) and name == "isoflop":
            right.plot(found.flops, found.parameters, "o", color=COLOURS[name])
    right.set(xscale="log", yscale="log", xlabel="training FLOPs, 6 N D", ylabel="compute-optimal parameters")
    right.legend()
    return figure


def _losses(panel: Axes, runs: Runs) -> None:
    for place, group in enumerate(budgets(runs)):
        at = runs.select(group)
        colour = f"C{place % 10}"
        panel.plot(at.parameters, at.loss, "o", ms=4, color=colour, label=f"{at.flops.mean():.1g} FLOPs")
        if len(np.unique(at.parameters)) >= SIZES:
            middle = np.log(at.parameters).mean()
            sizes = np.linspace(np.log(at.parameters.min()), np.log(at.parameters.max()), 50)
            parabola = np.polyfit(np.log(at.parameters) - middle, at.loss, 2)
            panel.plot(np.exp(sizes), np.polyval(parabola, sizes - middle), color=colour)
    panel.set(xscale="log", xlabel="parameters", ylabel="loss, nats per token")
    if len(budgets(runs)) <= 8:
        panel.legend(fontsize="small")
