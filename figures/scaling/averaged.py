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
from figures.scaling.common import ADDITIVE, GRID, PLAIN, SAMPLE_SEED, Sizes, add_sampled, as_runs, points
from icl_synth.scaling import bootstrap, draw_at_budgets, fit
from icl_synth.scaling.parametric import PRECISE, averaged
from icl_synth.scaling.runs import interval

TITLE = "The interval of a with the Huber loss summed and averaged (Besiroglu et al. 2024)"
DIFFERS = (
    PLAIN + "Hoffmann et al. average the Huber loss over runs, which makes it so small that the usual tolerances of "
    "L-BFGS end it early. We give L-BFGS the tolerances that SciPy's has by default, translated from the average "
    "to the sum. In both ways the fit of each bootstrap sample begins where that of all runs ended: a sum's goes "
    "on to the sample's own minimum, an average's need not. That averaging narrows the interval requires the "
    "width of the 95 % interval of the exponent a with the averaged loss, divided by that with the summed loss, "
    "no more than one half. The interval of that share, Student's over ten parts of the samples, tells how well "
    "so many samples determine it, not what other runs would give. The share from the whole grid of starts stands "
    "beside it. Samples are of runs, as many of each budget as there are."
)
PUBLISHED = ()
PRESETS = presets(GRID, quick=Sizes(200), small=Sizes())
SUMMED, AVERAGED = "summed", "averaged"
PARTS = 10  # of the samples, each with widths of its own


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity (a; share: width of the interval of a averaged over that summed, from where the whole sample ended
    and from the whole grid of starts), how."""
    table = Table("quantity", "how")
    runs = as_runs(points(models))
    drawn_runs, samples = draw_at_budgets(runs, sizes.draws, SAMPLE_SEED), {}
    ways = ((SUMMED, PRECISE), (AVERAGED, averaged(len(runs.loss))))
    for how, stop in ways:
        samples[how] = bootstrap(runs, drawn_runs, ADDITIVE, stop, warm=True).a
        add_sampled(table, "a", how, value=float(fit(runs, ADDITIVE, stop).a), drawn=samples[how])
    parts = {
        how: [np.diff(interval(part))[0] for part in np.array_split(drawn, PARTS)] for how, drawn in samples.items()
    }
    shares = np.array(parts[AVERAGED]) / np.array(parts[SUMMED])
    table.add("share", AVERAGED, values=shares, least=few_draws(shares))
    widths = [np.diff(interval(bootstrap(runs, drawn_runs, ADDITIVE, stop).a))[0] for _, stop in ways]
    table.add("share from the grid", AVERAGED, values=np.array([widths[1] / widths[0]]))
    for how, drawn in samples.items():
        for place, value in enumerate(np.percentile(drawn, np.arange(1, 100))):
            table.add(f"percentile {place + 1}", how, values=np.array([value]))
    return table.rows()


def plot(rows: pd.DataFrame) -> Figure:
    """How a is spread over the samples."""
    figure, panel = plt.subplots(figsize=(WIDTH, 3.4))
    of_samples = rows[rows.quantity.str.startswith("percentile")]
    for how, colour in ((SUMMED, BLUE), (AVERAGED, ORANGE)):
        values = pick(of_samples, how=how).value
        panel.plot(values, np.arange(1, 100), color=colour, label=how)
    panel.set(xlabel="a", ylabel="bootstrap samples below, %")
    panel.legend()
    share = only(over_seeds(rows), quantity="share")
    panel.set_title(f"Averaged, the Huber loss gives an interval {share.mean:.2f} times as wide", size=11)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Averaging narrows the interval."""
    rows = over_seeds(rows)
    share = only(rows, quantity="share")
    summed, of_mean = (only(rows, quantity="a", how=how) for how in (SUMMED, AVERAGED))
    return [
        Claim(
            "the Huber loss, averaged, gives an interval of a at most half as wide",
            "0.454 to 0.455 published (10 to 90 %), 0.474 to 0.552 refitted (95 %, Besiroglu et al. 2024)",
            f"{show(of_mean, 3)} averaged, {show(summed, 3)} summed; width {show(share, 2)} times, "
            f"{only(rows, quantity='share from the grid').mean:.2f} times where samples begin at the whole grid",
            [no_more(share, 0.5)],
        )
    ]
