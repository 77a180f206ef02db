"""What goes wrong when the decay is not matched? Losses read on the way of longer runs (Hoffmann et al. 2022)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.claims import Claim, positive, show
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import BLUE, ORANGE, WIDTH, plain_log
from figures.lab.tables import Table, only, over_seeds, pick
from figures.scaling.common import (
    GRID,
    PLAIN,
    Point,
    Sizes,
    add_sampled,
    as_runs,
    curves,
    exponents,
    name_sizes,
    sampled,
    with_attention,
)

TITLE = "Losses read before the rates have decayed (Hoffmann et al. 2022)"
DIFFERS = (
    PLAIN + "Kaplan et al. found the exponent 0.73. Whether it comes from losses that were read on the way, before "
    "rates had decayed, is disputed: Porian et al. find that decay is not the main cause. We read the loss of "
    "each size at each budget off its longest run with the same seed, log-linear between evaluations, wherever "
    "that run is longer than the budget's own; the matched runs are those of the same budgets, sizes and seeds. "
    "That such reading raises the exponent a asks that a of approach 2 on these losses minus a on the matched "
    "ones, over the same bootstrap samples, be above zero. That it costs loss asks that the logarithm of the loss "
    "above exact Bayes that was read minus that of the matched run, over all budgets, sizes and seeds, be above "
    "zero."
)
PUBLISHED = ()
PRESETS = presets(GRID, quick=Sizes(100), small=Sizes())
MATCHED, READ = "decay matched", "read on the way"


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity (excess in nats per token, a, raised: difference of a, more: log ratio of the losses above Bayes),
    which, budget, parameters (with attention)."""
    table = Table("quantity", "which", "budget", "parameters")
    found = pairs(curves(models))
    for matched, read in found:
        for which, point in ((MATCHED, matched), (READ, read)):
            cell = ("excess", which, matched.budget, with_attention(matched.counts))
            table.add(*cell, values=np.array([point.excess]), seed=matched.seed)
    more = [np.log(read.excess / matched.excess) for matched, read in found]
    table.add("more", READ, 0.0, 0, values=np.array(more))
    fitted = [as_runs([pair[which] for pair in found]) for which in (0, 1)]
    samples = sampled(fitted[0], sizes.draws)
    try:
        values, drawn = zip(*(exponents(runs, "isoflop", samples) for runs in fitted), strict=True)
    except ValueError:  # too few runs to have a frontier, as `quick` may: then no exponent is compared
        return table.rows()
    for which, value, of_samples in zip((MATCHED, READ), values, drawn, strict=True):
        add_sampled(table, "a", which, 0.0, 0, value=value, drawn=of_samples)
    add_sampled(table, "raised", READ, 0.0, 0, value=values[1] - values[0], drawn=drawn[1] - drawn[0])
    return table.rows()


def pairs(of_runs: list[list[Point]]) -> list[tuple[Point, Point]]:
    """Each run's end, and what the longest run of its width and seed had lost by as many tokens, if it is longer."""
    longest: dict[tuple[int, int], list[Point]] = {}
    for curve in of_runs:
        who = curve[-1].width, curve[-1].seed
        longest[who] = max(longest.get(who, curve), curve, key=lambda other: other[-1].tokens)
    found = []
    for curve in of_runs:
        end, long = curve[-1], longest[curve[-1].width, curve[-1].seed]
        if long[0].tokens <= end.tokens < long[-1].tokens:
            at = np.log([point.tokens for point in long])
            loss = np.interp(np.log(end.tokens), at, [point.loss for point in long])
            found.append((end, end._replace(loss=float(loss), exact=long[-1].exact)))
    return found


def plot(rows: pd.DataFrame) -> Figure:
    """Loss above exact Bayes by size at each budget, matched and read on the way."""
    excess = pick(rows, quantity="excess")
    figure, panel = plt.subplots(figsize=(WIDTH, 4.0))
    for which, colour, style in ((MATCHED, BLUE, "-"), (READ, ORANGE, "--")):
        for number, (_, of_budget) in enumerate(pick(excess, which=which).groupby("budget")):
            means = of_budget.groupby("parameters").value.mean()
            panel.plot(means.index, means, style, marker="o", ms=4, color=colour, label=which if number == 0 else None)
    name_sizes(panel)
    panel.set(yscale="log", ylabel="loss above exact Bayes, nats per token")
    plain_log(panel.yaxis, 2, 3, 5)
    panel.legend()
    more = only(over_seeds(rows), quantity="more").mean
    found = f"Losses read before the decay are {100 * np.expm1(more):.0f} % further above Bayes"
    if "a" in set(rows.quantity):
        matched, read = (only(over_seeds(rows), quantity="a", which=which).mean for which in (MATCHED, READ))
        found += f"\nand give a = {read:.2f}, matched ones {matched:.2f}"
    panel.set_title(found, size=11)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Reading losses before the decay costs loss and raises a."""
    rows = over_seeds(rows)
    more, ours, findings = only(rows, quantity="more"), "too few runs to have a frontier", []
    if "raised" in set(rows.quantity):
        matched, read = (only(rows, quantity="a", which=which) for which in (MATCHED, READ))
        raised = only(rows, quantity="raised")
        ours = f"{show(read, 3)} against {show(matched, 3)}: raised by {show(raised, 3)}"
        findings = [positive(raised)]
    return [
        Claim(
            "losses that are read before the rates have decayed raise a",
            "0.73 of Kaplan et al. 2020 against 0.50; that the decay is not the main cause (Porian et al. 2024)",
            ours,
            findings,
        ),
        Claim(
            "a loss that is read before the rates have decayed is higher than a matched run's",
            "a cosine over 25 % more steps than the run has hurts",
            f"{show(more, 2)} in log of the loss above Bayes",
            [positive(more)],
        ),
    ]
