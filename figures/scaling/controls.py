"""Would another rate or batch have changed the frontier? Halved and doubled at one budget (Porian et al. 2024)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.claims import Claim, at_least
from figures.lab.presets import RECORDED, Suite, presets
from figures.lab.runs import Models
from figures.lab.style import CYCLE, GREY, WIDTH
from figures.lab.tables import Table, pick
from figures.scaling.common import PLAIN, Sizes, few, judged, told
from icl_synth.estimates import Estimate
from icl_synth.presets.scaling import SCALING_CONTROLS

TITLE = "Learning rate and batch halved and doubled at one budget (Porian et al. 2024)"
DIFFERS = (
    PLAIN
    + "Porian et al. move the exponent from 0.57 to 0.52 or 0.50 by tuning batch, rate and beta2 for each size, at "
    "a constant rate. Ours are the same for all sizes. At the middle budget both rates, that of Muon and that of "
    "AdamW, and the batch are halved and doubled at three sizes, with as many tokens. Our own question: "
    "that no such change would have lowered the loss above exact Bayes by more than 5 % requires, for each change, "
    "the logarithm of that loss with the change minus that without it, paired by seed and averaged over the seeds of "
    "each size, to be no less than -0.05: Student's interval over the three sizes. A change that helps small models "
    "and harms large ones would move the frontier, and hide in the mean: what it does at each size stands beside."
)
PUBLISHED = ()
MARGIN = 0.05
CHANGES = ("rate-half", "rate-double", "batch-half", "batch-double")
SEEDS = {"quick": (0,), "small": (0, 1)}


def _suite(preset: str) -> Suite:
    changed = [name for name in SCALING_CONTROLS if name.startswith(f"{preset}-")]
    plain = dict.fromkeys(_without_change(name) for name in changed)
    return Suite({name: name for name in (*plain, *changed)}, SEEDS[preset], curves=preset in RECORDED)


def _without_change(name: str) -> str:
    return next(name.removesuffix(f"-{change}") for change in CHANGES if name.endswith(change))


PRESETS = presets({name: _suite(name) for name in SEEDS}, quick=Sizes(), small=Sizes())


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity (more: log ratio of the losses above Bayes), change, width."""
    table = Table("quantity", "change", "width")
    for name, runs in models.items():
        change = next((change for change in CHANGES if name.endswith(change)), None)
        if change is None:
            continue
        for run, plain in zip(runs, models[_without_change(name)], strict=True):
            more = float(np.log(run.metrics[-1]["excess_nats"] / plain.metrics[-1]["excess_nats"]))
            table.add("more", change, run.config.model.width, values=np.array([more]), seed=run.seed)
    return table.rows()


def plot(rows: pd.DataFrame) -> Figure:
    """What each change added to the loss above exact Bayes, by size."""
    figure, panel = plt.subplots(figsize=(WIDTH, 3.4))
    for change, colour in zip(CHANGES, CYCLE, strict=False):
        line = pick(rows, quantity="more", change=change)
        means = line.groupby("width").value.mean()
        panel.plot(means.index, 100 * np.expm1(means), "-", color=colour, label=change.replace("-", " "))
        panel.plot(line.width, 100 * np.expm1(line.value), ".", color=colour)
    panel.axhline(0, color=GREY, lw=0.8)
    panel.set(xscale="log", xlabel="width", ylabel="more loss above exact Bayes, %", xticks=sorted(set(rows.width)))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.minorticks_off()
    panel.legend(ncols=2)
    of_sizes = {change: pick(rows, change=change).groupby("width").value.mean() for change in CHANGES}
    best = min(of_sizes, key=lambda change: of_sizes[change].mean())
    low, high = (100 * np.expm1(end) for end in (of_sizes[best].min(), of_sizes[best].max()))
    panel.set_title(f"{best.replace('-', ' ').capitalize()} does best: {low:+.0f} to {high:+.0f} % by size", size=11)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """No change of rate or batch would have helped much."""
    means = {change: over_sizes(pick(rows, change=change)) for change in CHANGES}
    return [
        Claim(
            f"{change.replace('-', ' ')}: it would not have lowered the loss above Bayes by more than {MARGIN:.0%}",
            "tuning both moves a from 0.57 to 0.50 to 0.52 (Porian et al. 2024)",
            f"{told(mean, 3)} in log of the loss above Bayes: {of_each(pick(rows, change=change))}",
            judged(mean, lambda value: at_least(value, -MARGIN)),
            own=True,
        )
        for change, mean in means.items()
    ]


def over_sizes(rows: pd.DataFrame) -> Estimate:
    """The mean over sizes, each the mean of its seeds, with Student's interval."""
    return few(rows.groupby("width").value.mean())


def of_each(rows: pd.DataFrame) -> str:
    """What a change does at each width."""
    return ", ".join(f"{value:+.3f} at width {width}" for width, value in rows.groupby("width").value.mean().items())
