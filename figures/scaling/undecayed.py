"""What goes wrong when the decay is not matched? Losses read on the way of longer runs (Hoffmann et al. 2022)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.claims import Claim, positive, show
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import CYCLE, GREY, WIDTH, name_ends, plain_log
from figures.lab.tables import Table, only, over_seeds, pick
from figures.scaling.common import (
    GRID,
    PLAIN,
    RESAMPLED,
    Point,
    Sizes,
    add_sampled,
    as_runs,
    by_budget,
    curves,
    exact_of,
    exponents,
    few,
    in_words,
    judged,
    name_sizes,
    resampled,
    told,
    with_attention,
)

TITLE = "Losses read before the rates have decayed (Hoffmann et al. 2022)"
DIFFERS = (
    PLAIN
    + "Kaplan et al. found the exponent 0.73. Whether it comes from losses that were read on the way, before rates "
    "had decayed, is disputed: Porian et al. find that decay is not the main cause. We read the loss of each "
    "run's size and seed at its number of tokens off the next longer run, where that is at most four times as "
    "long. Between evaluations the logarithm of the loss above exact Bayes is taken to be straight in that of the "
    "tokens; this alone, without any decay, would change the losses read by less than a percent. That such "
    "reading raises the exponent a requires that a of approach 2 on these losses minus a on the matched ones, "
    "resampled alike, be above zero. That it costs loss requires that the logarithm of the loss "
    "above exact Bayes that was read minus that of the matched run, over all budgets, sizes and seeds (Student's "
    "interval), be above zero. " + RESAMPLED
)
PUBLISHED = ()
PRESETS = presets(GRID, quick=Sizes(100), small=Sizes())
MATCHED, READ = "decay matched", "read on the way"
AT_MOST = 4.0  # times as long


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity (excess in nats per token; more: log ratio of the losses above Bayes; a; raised: difference of a),
    which, budget, parameters (with attention)."""
    table = Table("quantity", "which", "budget", "parameters")
    found = pairs(curves(models))
    for matched, read in found:
        for which, point in ((MATCHED, matched), (READ, read)):
            cell = ("excess", which, matched.budget, with_attention(matched.counts))
            table.add(*cell, values=np.array([point.excess]), seed=matched.seed)
        more = np.log(read.excess / matched.excess)
        cell = ("more", READ, matched.budget, with_attention(matched.counts))
        table.add(*cell, values=np.array([more]), seed=matched.seed)
    try:
        values, drawn = zip(
            *(
                exponents("isoflop", as_runs(list(ends)), exact_of(list(ends)), resampled(list(ends), sizes.draws))
                for ends in zip(*found, strict=True)
            ),
            strict=True,
        )
    except ValueError:  # too few runs to have a frontier, as `quick` may: then no exponent is compared
        return table.rows()
    for which, value, of_samples in zip((MATCHED, READ), values, drawn, strict=True):
        add_sampled(table, "a", which, 0.0, 0, value=value, drawn=of_samples)
    add_sampled(table, "raised", READ, 0.0, 0, value=values[1] - values[0], drawn=drawn[1] - drawn[0])
    return table.rows()


def pairs(of_runs: list[list[Point]]) -> list[tuple[Point, Point]]:
    """Each run's end, and what the next longer run of its width and seed had lost by as many tokens."""
    found = []
    for curve in of_runs:
        end = curve[-1]
        longer = [
            other
            for other in of_runs
            if (other[-1].width, other[-1].seed) == (end.width, end.seed)
            and end.tokens < other[-1].tokens <= AT_MOST * end.tokens
        ]
        if longer:
            long = min(longer, key=lambda other: other[-1].tokens)
            log_tokens, log_excess = np.log([(point.tokens, point.excess) for point in long]).T
            excess = float(np.exp(np.interp(np.log(end.tokens), log_tokens, log_excess)))
            found.append((end, end._replace(loss=end.exact + excess)))
    return found


def plot(rows: pd.DataFrame) -> Figure:
    """Loss above exact Bayes by size, a colour for each budget: matched and read on the way."""
    excess = pick(rows, quantity="excess")
    figure, panel = plt.subplots(figsize=(WIDTH, 4.0))
    ends = []
    for (budget, of_budget), colour in zip(by_budget(excess), CYCLE, strict=False):
        means = of_budget.groupby(["which", "parameters"]).value.mean()
        matched, read = means[MATCHED], means[READ]
        panel.plot(matched.index, matched, "o-", ms=4, color=colour)
        panel.plot(read.index, read, "o--", ms=4, mfc="white", color=colour)
        panel.vlines(matched.index, matched, read[matched.index], color=colour, lw=0.6, ls=":")
        ends.append((in_words(budget), float(matched.index[-1]), float(matched.iloc[-1]), colour))
    for which, style, inside in ((MATCHED, "-", GREY), (READ, "--", "white")):
        panel.plot([], [], style, marker="o", ms=4, mfc=inside, color=GREY, label=which)
    name_sizes(panel)
    panel.set(yscale="log", ylabel="loss above exact Bayes, nats per token")
    plain_log(panel.yaxis, 2, 3, 5)
    panel.legend()
    name_ends(panel, ends)
    more = pick(rows, quantity="more").value.mean()
    found = f"Losses read before the decay are {100 * np.expm1(more):.0f} % further above Bayes"
    if "a" in set(rows.quantity):
        matched, read = (only(over_seeds(rows), quantity="a", which=which).mean for which in (MATCHED, READ))
        found += f"\nand give a = {read:.2f}, matched ones {matched:.2f}"
    panel.set_title(found, size=11)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Reading losses before the decay costs loss and raises a."""
    more, ours, findings = few(pick(rows, quantity="more").value), "too few runs to have a frontier", []
    rows = over_seeds(rows)
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
            f"{told(more, 2)} in log of the loss above Bayes",
            judged(more, positive),
        ),
    ]
