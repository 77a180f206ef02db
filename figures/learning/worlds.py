"""What in the training documents makes learning in context (Xie et al. 2022, Fig. 4, 7 right and 10)."""

from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, above, difference, judged, no_more, show
from figures.lab.presets import NAMES, SEEDS, Suite, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BAYES, GREY, RANGE, draw_band, legend_below, places
from figures.lab.tables import Table, over_seeds, pick, published
from figures.learning.common import (
    LENGTH_COLOURS,
    add_accuracy,
    any_run,
    cells_that_fit,
    percent_right,
    quoted_range,
)
from icl_synth import bayes
from icl_synth.concept_hmm import ConceptHMM, official_ginc
from icl_synth.config import DataConfig
from icl_synth.evaluate import EXAMPLE_LENGTHS, EXAMPLES, Estimate
from icl_synth.prompts import sample_prompts

TITLE = "Other worlds: one concept, random tokens, no entity persistence, low entropy (Xie et al. 2022, Fig. 4, 7, 10)"
DIFFERS = (
    "The paper trains its 4-layer model for these; ours is the transformer of 0.3 M parameters, trained on four "
    "million tokens, a third of `small`'s. Models of a single concept and of random tokens are asked the prompts of "
    "all five official concepts, as there; without entity persistence, and in low-entropy worlds, prompts come from "
    "the world of training. A low-entropy world has 12 concepts, 100 tokens and temperature 0.01, so that almost every "
    "move is certain. The paper has one such world; we draw one for each seed, and intervals are over worlds as well. "
    "We do not know which k the paper's Fig. 7 shows, so all four are here. Exact Bayes is told the format. That "
    "accuracy does not grow *holds* where the 95 % interval of last less first ends below 2 points, and *partly* where "
    "the mean does. That random tokens teach nothing *holds* where every interval ends below 5 %, and *partly* where "
    "every mean lies below. That few-shot is first below zero-shot, then recovers *holds* where some n has its "
    "interval below that of n = 0 and the last interval lies above that of the lowest n, and *partly* where only the "
    "first of these is true."
)
PUBLISHED = ("xie2022*.csv",)
PROMPT_SEED = 1117
SINGLE, RANDOM, MOVING, COLD = "single concept", "random tokens", "no entity persistence", "low entropy"
FLAT = 2.0  # points
NOTHING = 5.0  # percent


class Sizes(NamedTuple):
    prompts: int  # of each world, at each number and length of examples
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS
    numbers: tuple[int, ...] = EXAMPLES  # of examples


def other_worlds(preset: str) -> Suite:
    """A transformer in other worlds with all seeds, and in cold ones, each a seed of its own."""
    elsewhere = {SINGLE: f"{preset}-single", RANDOM: f"{preset}-uniform", MOVING: f"{preset}-moving"}
    cold = {f"{COLD}, world {seed + 1}": f"{preset}-cold-{seed}" for seed in SEEDS[preset]}
    return Suite(elsewhere, SEEDS[preset], cold)


SUITES = {preset: other_worlds(preset) for preset in NAMES}
PRESETS = presets(SUITES, quick=Sizes(200), small=Sizes(1000), paper=Sizes(1000))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: world, reader (transformer or exact Bayes), example_length, num_examples; value: accuracy in percent.

    The seeds of low entropy are worlds, and Bayes has them too; Bayes is there where prompts come from the world of
    training.
    """
    table = Table("world", "reader", "example_length", "num_examples")
    cells = cells_that_fit(any_run(models).config.model.context, sizes.lengths, sizes.numbers)
    for k, n in tqdm(cells, desc="other worlds", unit="point"):
        for name, runs in models.items():
            add_world(table, name, runs, sizes.prompts, k, n)
    return table.rows()


def add_world(table: Table, name: str, runs: list[Run], number: int, k: int, n: int) -> None:
    """The answers of a world's models, and of exact Bayes where it is defined, to the same prompts."""
    data = runs[0].config.data
    cold = data.world == "cold"
    world, hmm = COLD if cold else name, asked_world(data)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(PROMPT_SEED), k), n)
    prompts = sample_prompts(hmm, jax.random.fold_in(key, data.world_seed), number, n, k)
    for run in runs:
        right = percent_right(run.model, prompts)
        add_accuracy(table, world, "transformer", k, n, values=right, seed=run.seed)
    if data.world not in ("single", "uniform"):
        told = np.asarray(bayes.prompt_log_probs(hmm, prompts.tokens, k)).argmax(-1)
        right = 100.0 * (told == np.asarray(prompts.labels))
        add_accuracy(table, world, BAYES, k, n, values=right, seed=data.world_seed if cold else None)


def asked_world(data: DataConfig) -> ConceptHMM:
    """The world that prompts come from."""
    return official_ginc(data.vocab_size)[0] if data.world in ("single", "uniform") else data.build()[0]


def by_examples(rows: pd.DataFrame, world: str, k: int, reader: str = "transformer") -> pd.DataFrame:
    return pick(rows, world=world, example_length=k, reader=reader).sort_values("num_examples")


def at(line: pd.DataFrame, place: int) -> Estimate:
    return Estimate(line.value.iloc[place], line.half_width.iloc[place])


def plot(rows: pd.DataFrame) -> Figure:
    rows = over_seeds(rows)
    worlds = list(rows.world.unique())
    figure, panels = plt.subplots(1, len(worlds), figsize=(3.3 * len(worlds), 4.3), sharey=True, squeeze=False)
    for panel, world in zip(panels[0], worlds, strict=True):
        draw_world(panel, pick(rows, world=world), world)
    first = panels[0, 0]
    first.set_ylabel("accuracy, %")
    first.bar([0], [0], color=RANGE, label="Xie et al. 2022, range")
    first.plot([], [], "s--", lw=0.9, mfc="white", color=GREY, label="Xie et al. 2022, Fig. 10")
    first.plot([], [], ":", color=GREY, label="exact Bayes, told the format")
    legend_below(figure, first, 4)
    return figure


def draw_world(panel: Axes, rows: pd.DataFrame, world: str) -> None:
    """Accuracy by number of examples in one world, a line for each length; the paper's range or ends."""
    place, settings = places(EXAMPLES), set(published("xie2022_ablations").setting)
    if world in settings:
        panel.axhspan(*quoted_range(world), color=RANGE, zorder=0)
    for k in sorted(rows.example_length.unique()):
        line, exact = (by_examples(rows, world, k, reader) for reader in ("transformer", BAYES))
        colour, label = LENGTH_COLOURS[k], f"transformer, k = {k}"
        draw_band(panel, line.num_examples.map(place), line, ms=4, color=colour, label=label)
        panel.plot(exact.num_examples.map(place), exact.value, ":", lw=1.2, color=colour)
        if f"{world}, k = {k}" in settings:
            ends = quoted_range(f"{world}, k = {k}")
            panel.plot([place[0], place[64]], ends, "s--", lw=0.9, mfc="white", color=colour)
    panel.set(title=world, xticks=range(len(EXAMPLES)), xticklabels=EXAMPLES, ylim=(0, 102))
    panel.set_xlim(-0.3, len(EXAMPLES) - 0.7)
    panel.set_xlabel("examples in the prompt, n")


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Flat without concepts to infer, nothing from random tokens, flat when entities move; zero-shot above few-shot."""
    rows = over_seeds(rows)
    low, high = quoted_range(SINGLE)
    table = [flat_claim(rows, SINGLE, k, f"{low:g} to {high:g} %, flat in n (Fig. 4)", k == 10) for k in (5, 10)]
    table.append(random_claim(pick(rows, world=RANDOM)))
    for k in (3, 10):
        first, last = quoted_range(f"{MOVING}, k = {k}")
        table.append(flat_claim(rows, MOVING, k, f"{first:g} → {last:g} %, n = 0 → 64 (Fig. 10)"))
    return table + [dip_claim(by_examples(rows, COLD, k), k) for k in sorted(rows.example_length.unique())]


def flat_claim(rows: pd.DataFrame, world: str, k: int, paper: str, headline: bool = False) -> Claim:
    line = by_examples(rows, world, k)
    first, last = at(line, 0), at(line, -1)
    return Claim(
        f"{world}, k = {k}: accuracy does not grow with the number of examples",
        paper,
        f"{show(first)} → {show(last)} %, n = 0 → {line.num_examples.iloc[-1]}",
        no_more(difference(last, first), FLAT),
        headline=headline,
    )


def random_claim(rows: pd.DataFrame) -> Claim:
    low, high = quoted_range(RANDOM)
    top = (rows.value + rows.half_width).max()
    return Claim(
        "random tokens: nothing is learned that answers a prompt",
        f"{low:g} to {high:g} % (Fig. 4)",
        f"{rows.value.min():.1f} to {rows.value.max():.1f} % over all k and n, intervals up to {top:.1f} %",
        judged(top < NOTHING, rows.value.max() < NOTHING),
    )


def dip_claim(line: pd.DataFrame, k: int) -> Claim:
    lowest = int(line.value.argmin())
    zero, worst, last = at(line, 0), at(line, lowest), at(line, -1)
    dips = any(above(zero, at(line, place)) == "holds" for place in range(1, len(line)))
    return Claim(
        f"{COLD}, k = {k}: few-shot is first below zero-shot, then recovers",
        "seen in a world of temperature 0.01 (Fig. 7, right)",
        f"{show(zero)} → {show(worst)} → {show(last)} %, n = 0 → {line.num_examples.iloc[lowest]} → "
        f"{line.num_examples.iloc[-1]}",
        judged(dips and above(last, worst) == "holds", dips),
    )
