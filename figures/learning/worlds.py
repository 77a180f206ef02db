"""What in the training documents makes learning in context (Xie et al. 2022, Fig. 4 and 7 right)."""

from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, no_more, positive, show
from figures.lab.presets import NAMES, SEEDS, Suite, presets
from figures.lab.runs import Models
from figures.lab.style import BAYES, GREY, PUBLISHED_LINE, WIDTH, legend_below
from figures.lab.tables import Table, as_estimate, only, over_seeds, pick, published
from figures.learning.common import (
    Right,
    add_growth,
    add_points,
    answers_by_cell,
    any_run,
    by_key,
    cells_that_fit,
    draw_growth,
    few_lengths,
    lengths_of,
    nested_prompts,
    quoted_ends,
    quoted_flatness,
    told_by_cell,
)
from icl_synth.concept_hmm import ConceptHMM, official_ginc
from icl_synth.config import DataConfig
from icl_synth.evaluate import EXAMPLE_LENGTHS, EXAMPLES

TITLE = "Other worlds: one concept, random tokens, low entropy (Xie et al. 2022, Fig. 4 and 7)"
DIFFERS = (
    "The paper trains its 4-layer model for these; ours is the transformer of 0.3 M parameters, trained on four "
    "million tokens, a third of `small`'s. Models of a single concept and of random tokens are asked the prompts of "
    "all five official concepts, as there, with vocabularies of 50, 100 and 150 tokens; the picture shows 50. A low-"
    "entropy world has 12 concepts, 100 tokens and temperature 0.01, so that almost every move is certain, and its "
    "prompts come from itself. The paper has one such world; we draw one for each seed, and intervals are over worlds "
    "as well. The paper does not say which k its Fig. 7 shows, so all four are here. Exact Bayes is told the format. "
    "Flat asks, at each k, for accuracy with the most examples less that without any: no more than the most by which "
    "the paper's own accuracy of a single concept moves, up or down, at the same V and any k. Nothing from random "
    "tokens requires accuracy of 5 % or less in every cell; the 5 % are ours. Low entropy requires two differences "
    "above zero: accuracy without examples, and with the most, each less the lowest few-shot accuracy. Which n is "
    "lowest is chosen on one half of the prompts and judged on the other, both ways round."
)
PUBLISHED = ("xie2022*.csv",)
PROMPT_SEED = 1117
SINGLE, RANDOM, COLD = "single concept", "random tokens", "low entropy"
NOTHING = 5.0  # percent


class Sizes(NamedTuple):
    prompts: int  # of each world, at each number and length of examples
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS
    numbers: tuple[int, ...] = EXAMPLES  # of examples


def other_worlds(preset: str) -> Suite:
    """A transformer in other worlds with all seeds, and in cold ones, each a seed of its own."""
    elsewhere = {SINGLE: f"{preset}-single", RANDOM: f"{preset}-uniform"}
    if preset != "quick":
        elsewhere |= {f"{name}, V = {V}": f"{like}-v{V}" for name, like in elsewhere.items() for V in (100, 150)}
    cold = {f"{COLD}, world {seed + 1}": f"{preset}-cold-{seed}" for seed in SEEDS[preset]}
    return Suite(elsewhere | cold, SEEDS[preset], dict.fromkeys(cold, (0,)))


SUITES = {preset: other_worlds(preset) for preset in NAMES}
PRESETS = presets(
    SUITES, quick=Sizes(200, lengths=(3, 10), numbers=(0, 1, 4, 16)), small=Sizes(1000), paper=Sizes(1000)
)


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: world, vocab_size, reader (transformer or exact Bayes), quantity, example_length, num_examples.

    Quantities: accuracy (%) and gain (points, `add_growth`); at low entropy, whose seeds are worlds and where Bayes is
    asked too, dip and recovery (points, `dip_and_recovery`).
    """
    table = Table("world", "vocab_size", "reader", "quantity", "example_length", "num_examples")
    cells = cells_that_fit(any_run(models).config.model.context, sizes.lengths, sizes.numbers)
    for name, runs in tqdm(models.items(), desc="other worlds", unit="world"):
        data = runs[0].config.data
        hmm, world = asked_world(data), name.split(",")[0]
        prompts = nested_prompts(hmm, jax.random.key(PROMPT_SEED + data.world_seed), sizes.prompts, cells)
        for run in runs:
            right = answers_by_cell(run.model, prompts)
            add_growth(table, world, data.vocab_size, "transformer", right=right, seed=run.seed)
            if world == COLD:
                add_dips(table, world, data.vocab_size, "transformer", right=right, seed=run.seed)
        if world == COLD:
            told = told_by_cell(hmm, prompts)
            add_growth(table, world, data.vocab_size, BAYES, right=told, seed=data.world_seed)
    return table.rows()


def asked_world(data: DataConfig) -> ConceptHMM:
    """The world that prompts come from."""
    return official_ginc(data.vocab_size)[0] if data.world in ("single", "uniform") else data.build()[0]


def add_dips(table: Table, *who: object, right: Right, seed: int) -> None:
    """Add `dip` and `recovery` of each length, which are about all its numbers of examples."""
    for k in dict.fromkeys(k for k, _ in right):
        numbers = sorted(n for length, n in right if length == k)
        dip, recovery = dip_and_recovery(np.stack([right[k, n] for n in numbers]))
        add_points(table, *who, "dip", k, numbers[-1], values=dip, seed=seed)
        add_points(table, *who, "recovery", k, numbers[-1], values=recovery, seed=seed)


def dip_and_recovery(right: Float[np.ndarray, "M N"]) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Accuracy without examples, and with the most, above that of the lowest few-shot, of N prompts.

    Rows are numbers of examples, from none to the most. The number with the lowest accuracy is chosen on one half of
    the prompts and judged on the other, and the other way round: the lowest of many is low by chance too.
    """
    dip, recovery = np.empty(right.shape[1]), np.empty(right.shape[1])
    even = np.arange(right.shape[1]) % 2 == 0
    for chosen_on, judged_on in ((even, ~even), (~even, even)):
        lowest = 1 + right[1:, chosen_on].mean(1).argmin()
        dip[judged_on] = (right[0] - right[lowest])[judged_on]
        recovery[judged_on] = (right[-1] - right[lowest])[judged_on]
    return dip, recovery


def plot(rows: pd.DataFrame) -> Figure:
    """At V = 50 the shortest and the longest examples; at low entropy all."""
    rows = rows[(rows.vocab_size == 50) | (rows.world == COLD)]
    worlds = list(rows.world.unique())
    figure, grid = plt.subplots(1, len(worlds), figsize=(WIDTH, 3.6), sharey=True, squeeze=False)
    for panel, world in zip(grid[0], worlds, strict=True):
        here = pick(rows, world=world)
        shown = here if world == COLD else here[here.example_length.isin(few_lengths(here, 2))]
        draw_growth(panel, shown, None if world == COLD else theirs(world))
        panel.set_title(world)
    grid[0, 0].set_ylabel("accuracy, %")
    grid[0, -1].plot([], [], label="Xie et al. 2022, 4 layers", **PUBLISHED_LINE)
    grid[0, -1].plot([], [], ":", color=GREY, label="exact Bayes, told the format")
    figure.suptitle(finding(over_seeds(rows)), size=11)
    legend_below(figure, grid[0, -1], 3, fontsize=9)
    return figure


def finding(rows: pd.DataFrame) -> str:
    """Where examples help with no concept to infer, and where none are better than a few at low entropy."""
    rows = pick(rows, reader="transformer")
    gains, dips = pick(rows[rows.world != COLD], quantity="gain"), pick(rows, world=COLD, quantity="dip")
    helped, dipped = (
        f"{sum(positive(as_estimate(row)).verdict == 'holds' for _, row in several.iterrows())} of {len(several)}"
        for several in (gains, dips)
    )
    return (
        f"With no concept to infer, examples clearly help in {helped} cases;\n"
        f"at low entropy, none are clearly better than a few in {dipped}"
    )


def theirs(world: str) -> str:
    """The paper's model in a world, by its name in the published values."""
    return f"transformer, 4 layers, {world}"


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Flat without concepts to infer, nothing from random tokens; zero-shot above few-shot at low entropy."""
    rows = pick(over_seeds(rows), reader="transformer")
    table = [
        flat_claim(pick(rows, world=SINGLE, vocab_size=V), V) for V in pick(rows, world=SINGLE).vocab_size.unique()
    ]
    table.append(random_claim(pick(rows, world=RANDOM, quantity="accuracy")))
    cold = pick(rows, world=COLD)
    return table + [dip_claim(pick(cold, example_length=k), k) for k in lengths_of(cold)]


def flat_claim(rows: pd.DataFrame, vocab_size: int) -> Claim:
    gains = {row.example_length: as_estimate(row) for _, row in pick(rows, quantity="gain").iterrows()}
    margin = quoted_flatness(theirs(SINGLE), vocab_size)
    return Claim(
        f"{SINGLE}, V = {vocab_size}: accuracy does not grow with the number of examples",
        f"{quoted_ends(theirs(SINGLE), list(gains), vocab_size)}, flat (Fig. 4): moves by {margin:.1f} points at most",
        f"{by_key(gains)} points, n = 0 → {', '.join(map(str, pick(rows, quantity='gain').num_examples))}",
        [no_more(gain, margin) for gain in gains.values()],
        headline=vocab_size == 50,
    )


def random_claim(rows: pd.DataFrame) -> Claim:
    sizes = list(rows.vocab_size.unique())
    table = published("xie2022_accuracy", model=theirs(RANDOM))
    values = table[table.vocab_size.isin(sizes)].accuracy_percent
    return Claim(
        f"{RANDOM}: nothing is learned that answers a prompt, V = {', '.join(map(str, sizes))}",
        f"{values.min():.1f} to {values.max():.1f} % over all k and n (Fig. 4)",
        f"{rows.value.min():.1f} to {rows.value.max():.1f} % over all k and n, intervals up to "
        f"{(rows.value + rows.half_width).max():.1f} %",
        [no_more(as_estimate(row), NOTHING) for _, row in rows.iterrows()],
    )


def dip_claim(rows: pd.DataFrame, k: int) -> Claim:
    dip, recovery = (only(rows, quantity=quantity) for quantity in ("dip", "recovery"))
    return Claim(
        f"{COLD}, k = {k}: few-shot is first below zero-shot, then recovers",
        "seen in a world of temperature 0.01, k not given (Fig. 7, right)",
        f"zero-shot {show(dip)}, the most examples {show(recovery)} points above the lowest few-shot",
        [positive(dip), positive(recovery)],
    )
