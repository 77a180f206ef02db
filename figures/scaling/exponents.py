"""How does the compute-optimal size grow with compute? Three approaches and the paper's (Hoffmann et al. 2022)."""

import contextlib
import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.claims import Claim
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import GREY, WIDTH
from figures.lab.tables import Table, over_seeds, pick, published
from figures.scaling.common import (
    ADDED,
    ADDITIVE,
    APPROACHES,
    COLOURS,
    GRID,
    LOG_EXCESS,
    OUTER,
    PLAIN,
    RESAMPLED,
    Point,
    Samples,
    Sided,
    Sizes,
    add_sampled,
    as_runs,
    exact_of,
    exponents,
    frontier_of,
    points,
    samples_of,
    sided,
    with_attention,
    within,
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
    "interval of a (the best size grows as C^a) within 0.45 to 0.55, of each approach. That approaches agree requires "
    "the whole interval of each difference within 0.05 of zero; the samples of approach 3 are not those of the others, "
    "so that its differences are of independent samples. That it does not "
    "matter how N is counted requires the same of approach 3 with N counted with attention, by weights alone, and by "
    "weights inside layers, over the same samples. Pearce and Song leave out embeddings, which are at most an eighth "
    "of our weights; ours differ in attention. Approach 2 also stands beside with the sizes that were planned at first "
    "alone. One batch serves all sizes, and half of it helps larger models more (scaling/controls): tuned by size it "
    "would probably raise a."
)
PUBLISHED = ("scaling.csv",)
LOW, HIGH, EQUAL = 0.45, 0.55, 0.05
COUNTS = {
    "with attention": with_attention,
    "weights": lambda counts: counts.parameters,
    "weights inside layers": lambda counts: counts.inside,
}
PLANNED = "isoflop, sizes as planned"
OUTER_NAME, KNOWN = "parametric, outer exponent", "parametric, entropy known"
LABELS = {
    "envelope": "1: envelope",
    "isoflop": "2: IsoFLOP, loss",
    LOG_EXCESS: "2: IsoFLOP, log excess",
    PLANNED: "2: IsoFLOP, sizes as planned",
    "parametric": "3: parametric",
    KNOWN: "3: entropy known",
    OUTER_NAME: "3: outer exponent",
}

PAPERS = {"refit": "3: refit, 95 % (Besiroglu et al. 2024)", "Kaplan": "Kaplan et al. 2020"}
PRESETS = presets(GRID, quick=Sizes(100), small=Sizes())


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity (a, difference, by count; ends of their intervals; left out: share of samples in which a budget
    is; sizes: how many are ever the best of approach 1), approach; no units."""
    table = Table("quantity", "approach")
    ends = points(models)
    known = ADDITIVE._replace(entropy=float(exact_of(ends).mean()))
    asked = {name: (name, ends, ADDITIVE) for name in (*APPROACHES, LOG_EXCESS)}
    asked |= {KNOWN: ("parametric", ends, known), OUTER_NAME: ("parametric", ends, OUTER)}
    planned = [point for point in ends if point.width not in ADDED.get(point.budget, ())]
    if len(planned) < len(ends):
        asked[PLANNED] = ("isoflop", planned, ADDITIVE)
    samples, found = samples_of(ends, sizes.draws), {}
    for name, (approach, chosen, form) in asked.items():
        drawn = samples if chosen is ends else samples_of(chosen, sizes.draws)
        with contextlib.suppress(ValueError):  # too few runs to have a frontier, as `quick` may
            found[name] = exponents(approach, as_runs(chosen), exact_of(chosen), drawn, form)
    for name, (value, of_samples) in found.items():
        add_sampled(table, "a", name, value=value, drawn=of_samples)
    add_differences(table, "difference", {name: found[name] for name in APPROACHES if name in found})
    counted = {name: exponents("parametric", as_runs(ends, how), exact_of(ends), samples) for name, how in
               COUNTS.items()}  # fmt: skip
    add_differences(table, "by count", counted)
    if {"envelope", "isoflop"} <= {*found}:
        add_frontiers(table, ends, samples)
    return table.rows()


def add_differences(table: Table, quantity: str, found: dict[str, tuple[float, np.ndarray]]) -> None:
    """Each exponent less each other one."""
    for (one, (first, of_first)), (other, (second, of_second)) in itertools.combinations(found.items(), 2):
        add_sampled(table, quantity, f"{one} - {other}", value=first - second, drawn=of_first - of_second)


def add_frontiers(table: Table, ends: list[Point], samples: Samples) -> None:
    """How many sizes are ever the best of approach 1, and in which share of samples approach 2 loses a budget."""
    runs, exact = as_runs(ends), exact_of(ends)
    sizes = np.unique(frontier_of("envelope", runs, exact).parameters)
    table.add("sizes", "envelope", values=np.array([float(len(sizes))]))
    of_all, lost = len(frontier_of("isoflop", runs, exact).flops), []
    for loss in samples.losses:
        with contextlib.suppress(ValueError):
            lost.append(len(frontier_of("isoflop", runs._replace(loss=loss), exact).flops) < of_all)
    table.add("left out", "isoflop", values=np.array([float(np.mean(lost))]))


def plot(rows: pd.DataFrame) -> Figure:
    """Our exponents with their intervals, the papers' below them."""
    figure, panel = plt.subplots(figsize=(WIDTH, 3.8))
    rows, theirs = over_seeds(rows), published("scaling", quantity="a")
    ours = {name: sided(rows, "a", approach=name) for name in LABELS if name in set(pick(rows, quantity="a").approach)}
    of_papers = {name: f"{label}, 10 to 90 % (paper)" for name, label in LABELS.items()} | PAPERS
    names = [*(LABELS[name] for name in ours), *(of_papers[name] for name in theirs.approach)]
    for place, (name, a) in enumerate(ours.items()):
        colour = COLOURS.get(name, COLOURS[name.split(",")[0]])
        panel.errorbar(a.value, -place, xerr=a.reach, fmt="o", color=colour, capsize=2)
    for place, (_, row) in enumerate(theirs.iterrows(), len(ours)):
        # the third approach's value, rounded, lies outside its printed interval
        reach = Sided(row.value, row.low, row.high).reach if pd.notna(row.low) else None
        panel.errorbar(row.value, -place, xerr=reach, fmt="s", color=GREY, mfc="white", capsize=2)
    panel.axvline(0.5, color=GREY, lw=0.8, ls=":")
    panel.set(
        yticks=-np.arange(len(names)), yticklabels=names, xlabel="a, where the best size grows as compute to the a"
    )
    three = [ours[name].value for name in APPROACHES if name in ours]
    grows = f"{min(three):.2f} to {max(three):.2f}"
    figure.suptitle(f"The best size grows as compute to the {grows}, by three approaches", size=11)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Sizes and tokens grow alike; approaches agree; it does not matter how N is counted."""
    rows = over_seeds(rows)
    of_paper = published("scaling", quantity="a").set_index("approach").value
    table = []
    for name in APPROACHES:
        there = name in set(pick(rows, quantity="a").approach)
        a = sided(rows, "a", approach=name) if there else None
        table.append(
            Claim(
                f"{LABELS[name]}: size and tokens grow alike with compute, a within {LOW} to {HIGH}",
                f"a = {of_paper[name]:.2f}",
                f"a = {a.show(3)}{aside(rows, name)}" if a else "too few runs to have a frontier",
                [within(a, LOW, HIGH)] if a else [],
                headline=name == "parametric",
            )
        )
    table.append(_alike(rows, "difference", "the three approaches agree on a, to within 0.05",
                        "0.50, 0.49, 0.46", own=False))  # fmt: skip
    table.append(_alike(rows, "by count", "approach 3 gives the same a, to within 0.05, however N is counted",
                        "a changes from 0.49 to 0.74 without embeddings at 0.8 to 4.6 M parameters (Pearce & Song "
                        "2024)", own=True))  # fmt: skip
    return table


def aside(rows: pd.DataFrame, name: str) -> str:
    """What else is to be known of an exponent."""
    if name == "envelope" and len(sizes := pick(rows, quantity="sizes")):
        return f", on {sizes.value.iloc[0]:.0f} sizes"
    if name == "isoflop" and len(left := pick(rows, quantity="left out")):
        planned = sided(rows, "a", approach=PLANNED).show(3) if PLANNED in set(rows.approach) else ""
        said = f"; with the sizes as planned {planned}" if planned else ""
        return f"{said}; {left.value.iloc[0]:.0%} of samples lose a budget"
    return ""


def _alike(rows: pd.DataFrame, quantity: str, claim: str, paper: str, own: bool) -> Claim:
    parts = {name: sided(rows, quantity, approach=name) for name in pick(rows, quantity=quantity).approach}
    ours = "; ".join(f"{name}: {value.show(3)}" for name, value in parts.items())
    all_there = len(parts) == math.comb(3, 2)  # an approach without a frontier has no exponent
    return Claim(
        claim, paper, ours, [within(value, -EQUAL, EQUAL) for value in parts.values()] if all_there else [], own=own
    )
