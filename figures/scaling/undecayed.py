"""What goes wrong when the decay is not matched? Losses read on the way of longer runs (Hoffmann et al. 2022)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.claims import Claim, positive
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
    in_words,
    judged,
    name_sizes,
    over_budgets,
    samples_of,
    sided,
    told,
    with_attention,
    within,
)
from icl_synth.scaling.frontier import vertex

TITLE = "Losses read before the rates have decayed (Hoffmann et al. 2022)"
DIFFERS = (
    PLAIN
    + "Kaplan et al. found the exponent 0.73. Whether it comes from losses that were read on the way, before rates "
    "had decayed, is disputed: Porian et al. find that decay is not the main cause. We read the loss of each "
    "run's size and seed at its number of tokens off the next longer run, where that is at most four times as "
    "long. Between evaluations the logarithm of the loss above exact Bayes is taken to be straight in that of the "
    "tokens; this alone, without any decay, would change the losses read by less than a percent. That such "
    "reading raises the exponent a requires that a of approach 2 on these losses minus a on the matched ones, "
    "resampled alike, be above zero. Both are of the budgets at which both have a lowest point between the sizes. "
    "That it costs loss requires that the logarithm of the loss "
    "above exact Bayes that was read minus that of the matched run, averaged over the sizes and seeds of each budget, "
    "be above zero: Student's interval over budgets. " + RESAMPLED
)
PUBLISHED = ()
PRESETS = presets(GRID, quick=Sizes(100), small=Sizes())
MATCHED, READ = "decay matched", "read on the way"
AT_MOST = 4.0  # times as long


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity (excess in nats per token; more: log ratio of the losses above Bayes; a; raised: difference of a;
    budgets: how many have a; ends of intervals), which, budget, parameters (with attention)."""
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
        both = [list(ends) for ends in zip(*shared(found), strict=True)]
        values, drawn = zip(
            *(exponents("isoflop", as_runs(ends), exact_of(ends), samples_of(ends, sizes.draws)) for ends in both),
            strict=True,
        )
    except ValueError:  # too few runs to have a frontier, as `quick` may: then no exponent is compared
        return table.rows()
    for which, value, of_samples in zip((MATCHED, READ), values, drawn, strict=True):
        add_sampled(table, "a", which, 0.0, 0, value=value, drawn=of_samples)
    add_sampled(table, "raised", READ, 0.0, 0, value=values[1] - values[0], drawn=drawn[1] - drawn[0])
    table.add("budgets", READ, 0.0, 0, values=np.array([float(len({end.budget for end in both[0]}))]))
    return table.rows()


def shared(found: list[tuple[Point, Point]]) -> list[tuple[Point, Point]]:
    """The pairs of the budgets at which both losses have a lowest point between the sizes.

    Raises ValueError where there is none.
    """
    kept = []
    for budget in {matched.budget for matched, _ in found}:
        here = [pair for pair in found if pair[0].budget == budget]
        losses = [as_runs(list(ends)) for ends in zip(*here, strict=True)]
        if all(vertex(runs, np.arange(len(here))) is not None for runs in losses):
            kept += here
    if not kept:
        raise ValueError("no budget has a lowest point both ways")
    return kept


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
    by = pick(rows, quantity="more").groupby("budget").value.mean()
    low, high = (100 * np.expm1(end) for end in (by.min(), by.max()))
    panel.set_title(
        f"Read before the decay, losses are {low:+.0f} to {high:+.0f} % further above exact Bayes\nthan matched ones, "
        "by budget",
        size=11,
    )
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Reading losses before the decay costs loss and raises a."""
    more, ours, findings = over_budgets(pick(rows, quantity="more")), "too few runs to have a frontier", []
    rows = over_seeds(rows)
    if "raised" in set(rows.quantity):
        matched, read = (sided(rows, "a", which=which) for which in (MATCHED, READ))
        raised = sided(rows, "raised")
        ours = (
            f"{read.show(3)} against {matched.show(3)}: raised by {raised.show(3)}, "
            f"on {only(rows, quantity='budgets').mean:.0f} budgets"
        )
        findings = [within(raised, 0, np.inf)]
    return [
        Claim(
            "losses that are read before the rates have decayed raise a",
            "0.73 of Kaplan et al. 2020 against 0.50; that the decay is not the main cause (Porian et al. 2024)",
            ours,
            findings,
        ),
        Claim(
            "a loss that is read before the rates have decayed is higher than a matched run's",
            "a cosine over 25 % more steps than the run has hurts; ours are of runs up to four times as long",
            f"{told(more, 2)} in log of the loss above Bayes, over {more.df + 1:.0f} budgets",
            judged(more, positive),
        ),
    ]
