"""Compute-optimal training: three ways to fit how the loss falls with parameters and tokens (Hoffmann et al. 2022).

    from icl_synth.scaling import Runs, fit, isoflop

`python -m icl_synth.scaling runs.csv` makes all three fits of one's own runs.
"""

from icl_synth.scaling.counts import Counts, count
from icl_synth.scaling.frontier import Frontier, envelope, isoflop
from icl_synth.scaling.parametric import Form, Law, bootstrap, fit
from icl_synth.scaling.runs import Runs, budgets, draw, draw_at_budgets, read

__all__ = [
    "Counts",
    "Form",
    "Frontier",
    "Law",
    "Runs",
    "bootstrap",
    "budgets",
    "count",
    "draw",
    "draw_at_budgets",
    "envelope",
    "fit",
    "isoflop",
    "read",
]
