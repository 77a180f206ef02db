"""Why were the published intervals so narrow? The Huber loss averaged instead of summed (Besiroglu et al. 2024)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.claims import Claim, few_draws, no_more, show
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import BLUE, ORANGE, WIDTH
from figures.lab.tables import Table, only, over_seeds, pick
from figures.scaling.common import ADDITIVE, GRID, PLAIN, SAMPLE_SEED, Sizes, add_sampled, as_runs, points, sided
from icl_synth.scaling import bootstrap, draw_at_budgets, fit
from icl_synth.scaling.parametric import PRECISE, averaged
from icl_synth.scaling.runs import interval

TITLE = "The interval of a with the Huber loss summed and averaged (Besiroglu et al. 2024)"
DIFFERS = (
    PLAIN + "Hoffmann et al. average the Huber loss over runs, which makes it so small that the usual tolerances of "
    "L-BFGS end it early. We give L-BFGS the tolerances that SciPy's has by default, translated from the average "
    "to the sum. Where the fit of a bootstrap sample begins is not published: at the end of the fit of all runs, from "
    "where a sum goes on to the sample's own minimum and an average need not, or from the whole grid of starts. "
    "That averaging narrows the interval requires, for both beginnings, the "
    "width of the 95 % interval of the exponent a with the averaged loss, divided by that with the summed loss, "
    "to be no more than one half. The interval of that share, Student's over ten parts of the samples, tells how well "
    "so many samples determine it, not what other runs would give. "
    "Samples are of runs, as many of each budget as there are."
)
PUBLISHED = ()
PRESETS = presets(GRID, quick=Sizes(200), small=Sizes())
SUMMED, AVERAGED = "summed", "averaged"
BEGINNINGS = {"the fit of all runs": True, "the whole grid": False}  # and whether a sample's fit is warm
PARTS = 10  # of the samples, each with widths of its own


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity (a and the ends of its interval; percentiles of a; share: width of the interval of a averaged over
    that summed), how, begins (where the fit of a sample does)."""
    table = Table("quantity", "how", "begins")
    runs = as_runs(points(models))
    drawn_runs = draw_at_budgets(runs, sizes.draws, SAMPLE_SEED)
    ways = {SUMMED: PRECISE, AVERAGED: averaged(len(runs.loss))}
    for begins, warm in BEGINNINGS.items():
        samples = {how: bootstrap(runs, drawn_runs, ADDITIVE, stop, warm=warm).a for how, stop in ways.items()}
        for how, drawn in samples.items():
            add_sampled(table, "a", how, begins, value=float(fit(runs, ADDITIVE, ways[how]).a), drawn=drawn)
            for place, value in enumerate(np.percentile(drawn, np.arange(1, 100))):
                table.add(f"percentile {place + 1}", how, begins, values=np.array([value]))
        widths = {
            how: [np.diff(interval(part))[0] for part in np.array_split(drawn, PARTS)] for how, drawn in samples.items()
        }
        shares = np.array(widths[AVERAGED]) / np.array(widths[SUMMED])
        table.add("share", AVERAGED, begins, values=shares, least=few_draws(shares))
    return table.rows()


def plot(rows: pd.DataFrame) -> Figure:
    """How a is spread over the samples, by where their fits begin."""
    figure, panels = plt.subplots(1, len(BEGINNINGS), figsize=(WIDTH, 3.4), sharey=True)
    of_samples, summary = rows[rows.quantity.str.startswith("percentile")], over_seeds(rows)
    for panel, begins in zip(panels, BEGINNINGS, strict=True):
        for how, colour in ((SUMMED, BLUE), (AVERAGED, ORANGE)):
            panel.plot(pick(of_samples, how=how, begins=begins).value, np.arange(1, 100), color=colour, label=how)
        share = only(summary, quantity="share", begins=begins).mean
        panel.set_title(f"from {begins}:\naveraged {share:.2f} times as wide", size=9)
        panel.set_xlabel("a")
    panels[0].set_ylabel("bootstrap samples below, %")
    panels[0].legend()
    figure.suptitle("How far the averaged Huber loss narrows an interval depends on the starts", size=11)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Averaging narrows the interval."""
    rows = over_seeds(rows)
    shares = {begins: only(rows, quantity="share", begins=begins) for begins in BEGINNINGS}
    told = [
        f"from {begins}: {sided(rows, 'a', how=AVERAGED, begins=begins).show(3)} averaged, "
        f"{sided(rows, 'a', how=SUMMED, begins=begins).show(3)} summed, width {show(share, 2)} times"
        for begins, share in shares.items()
    ]
    return [
        Claim(
            "the Huber loss, averaged, gives an interval of a at most half as wide",
            "0.454 to 0.455 published (10 to 90 %), 0.474 to 0.552 refitted (95 %, Besiroglu et al. 2024)",
            "; ".join(told),
            [no_more(share, 0.5) for share in shares.values()],
        )
    ]
