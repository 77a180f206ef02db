"""How does the compute-optimal size grow with compute? Three approaches and the paper's (Hoffmann et al. 2022)."""

import contextlib
import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.claims import Claim, between, near_zero, show
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import GREY, WIDTH
from figures.lab.tables import Table, as_estimate, only, over_seeds, pick, published
from figures.scaling.common import (
    ADDITIVE,
    APPROACHES,
    COLOURS,
    GRID,
    LOG_EXCESS,
    OUTER,
    PLAIN,
    RESAMPLED,
    Sizes,
    add_sampled,
    as_runs,
    exact_of,
    exponents,
    points,
    resampled,
    with_attention,
)

TITLE = "How the compute-optimal size grows with compute, by three approaches (Hoffmann et al. 2022)"
DIFFERS = (
    PLAIN + "Approach 1 reads the lowest envelope off the ends of runs, since the loss of a run whose rates have not "
    "decayed belongs to no budget (scaling/undecayed). Between budgets it takes the logarithm of the loss above "
    "exact Bayes to be straight in log C. It ends at the largest budget but one, beyond which few sizes have a "
    "run on either side, and leaves out a lowest loss of the smallest or the largest size. Approach 2 lays "
    "parabolas through the losses by log N; a second time through the logarithm of the loss above exact Bayes, "
    "which only a known entropy allows. Approach 3 minimises the Huber loss of log L, summed; with an exponent on "
    "the sum of its two terms, and with the entropy known, as well. "
    + RESAMPLED
    + "The paper's intervals are 10th to 90th percentiles. That sizes and tokens grow alike requires the whole "
    "interval of a (the best size grows as C^a) within 0.45 to 0.55, of each approach. That approaches agree asks "
    "for the whole interval of each difference, over the same samples, within 0.05 of zero. That it does not "
    "matter how N is counted asks the same of approach 3 with N counted with attention, by weights alone, and by "
    "weights inside layers."
)
PUBLISHED = ("scaling.csv",)
LOW, HIGH, EQUAL = 0.45, 0.55, 0.05
COUNTS = {
    "with attention": with_attention,
    "weights": lambda counts: counts.parameters,
    "weights inside layers": lambda counts: counts.inside,
}
OUTER_NAME, KNOWN = "parametric, outer exponent", "parametric, entropy known"
LABELS = {
    "envelope": "1: envelope",
    "isoflop": "2: IsoFLOP, loss",
    LOG_EXCESS: "2: IsoFLOP, log excess",
    "parametric": "3: parametric",
    KNOWN: "3: entropy known",
    OUTER_NAME: "3: outer exponent",
}

PAPERS = {"refit": "3: refit, 95 % (Besiroglu et al. 2024)", "Kaplan": "Kaplan et al. 2020"}
PRESETS = presets(GRID, quick=Sizes(100), small=Sizes())


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity (a, difference, by count), approach; no units."""
    table = Table("quantity", "approach")
    ends = points(models)
    runs, exact, losses = as_runs(ends), exact_of(ends), resampled(ends, sizes.draws)
    known = ADDITIVE._replace(entropy=float(exact.mean()))
    asked = {name: (name, ADDITIVE) for name in (*APPROACHES, LOG_EXCESS)}
    asked |= {KNOWN: ("parametric", known), OUTER_NAME: ("parametric", OUTER)}
    found = {}
    for name, (approach, form) in asked.items():
        with contextlib.suppress(ValueError):  # too few runs to have a frontier, as `quick` may
            found[name] = exponents(approach, runs, exact, losses, form)
    for name, (value, drawn) in found.items():
        add_sampled(table, "a", name, value=value, drawn=drawn)
    for (one, (first, of_first)), (other, (second, of_second)) in itertools.combinations(found.items(), 2):
        if {one, other} <= {*APPROACHES}:
            add_sampled(table, "difference", f"{one} - {other}", value=first - second, drawn=of_first - of_second)
    counted = {name: exponents("parametric", as_runs(ends, how), exact, losses) for name, how in COUNTS.items()}
    for (one, (first, of_first)), (other, (second, of_second)) in itertools.combinations(counted.items(), 2):
        add_sampled(table, "by count", f"{one} - {other}", value=first - second, drawn=of_first - of_second)
    return table.rows()


def plot(rows: pd.DataFrame) -> Figure:
    """Our exponents with their intervals, the papers' below them."""
    figure, panel = plt.subplots(figsize=(WIDTH, 3.8))
    ours = over_seeds(pick(rows, quantity="a"))
    theirs = published("scaling", quantity="a")
    of_papers = {name: f"{label}, 10 to 90 % (paper)" for name, label in LABELS.items()} | PAPERS
    names = [*(LABELS[name] for name in ours.approach), *(of_papers[name] for name in theirs.approach)]
    for place, (_, row) in enumerate(ours.iterrows()):
        colour = COLOURS.get(row.approach, COLOURS[row.approach.split(",")[0]])
        panel.errorbar(row.value, -place, xerr=row.half_width, fmt="o", color=colour, capsize=2)
    for place, (_, row) in enumerate(theirs.iterrows(), len(ours)):
        # the third approach's value, rounded, lies outside its printed interval
        reach = np.maximum([[row.value - row.low], [row.high - row.value]], 0) if pd.notna(row.low) else None
        panel.errorbar(row.value, -place, xerr=reach, fmt="s", color=GREY, mfc="white", capsize=2)
    panel.axvline(0.5, color=GREY, lw=0.8, ls=":")
    panel.set(
        yticks=-np.arange(len(names)), yticklabels=names, xlabel="a, where the best size grows as compute to the a"
    )
    three = ours.value[ours.approach.isin(APPROACHES)]
    grows = f"{min(three):.2f} to {max(three):.2f}"
    figure.suptitle(f"The best size grows as compute to the {grows}, by three approaches", size=11)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Sizes and tokens grow alike; approaches agree; it does not matter how N is counted."""
    rows = over_seeds(rows)
    of_paper = published("scaling", quantity="a").set_index("approach").value
    table = []
    for name in APPROACHES:
        found = pick(rows, quantity="a", approach=name)
        value = as_estimate(found.iloc[0]) if len(found) else None
        table.append(
            Claim(
                f"{LABELS[name]}: size and tokens grow alike with compute, a within {LOW} to {HIGH}",
                f"a = {of_paper[name]:.2f}",
                f"a = {show(value, 3)}" if value else "too few runs to have a frontier",
                [between(value, LOW, HIGH)] if value else [],
                headline=name == "parametric",
            )
        )
    table.append(_within(rows, "difference", "the three approaches agree on a, to within 0.05",
                         "0.50, 0.49, 0.46", own=False))  # fmt: skip
    table.append(_within(rows, "by count", "approach 3 gives the same a, to within 0.05, however N is counted",
                         "a changes from 0.49 to 0.74 without embeddings at 0.8 to 4.6 M parameters (Pearce & Song "
                         "2024)", own=True))  # fmt: skip
    return table


def _within(rows: pd.DataFrame, quantity: str, claim: str, paper: str, own: bool) -> Claim:
    parts = {row.approach: only(rows, quantity=quantity, approach=row.approach) for _, row in
             pick(rows, quantity=quantity).iterrows()}  # fmt: skip
    ours = "; ".join(f"{name}: {show(value, 3)}" for name, value in parts.items())
    all_there = len(parts) == math.comb(3, 2)  # an approach without a frontier has no exponent
    return Claim(
        claim, paper, ours, [near_zero(value, EQUAL) for value in parts.values()] if all_there else [], own=own
    )
