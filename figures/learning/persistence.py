"""Documents whose entities do not persist (Xie et al. 2022, Fig. 10)."""

from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, difference, positive
from figures.lab.presets import NAMES, SEEDS, Suite, presets
from figures.lab.runs import Models
from figures.lab.style import BAYES, GREY, PUBLISHED_LINE, WIDTH, legend_below
from figures.lab.tables import Table, as_estimate, only, over_seeds, pick
from figures.learning.common import (
    add_growth,
    answers_by_cell,
    any_run,
    by_key,
    cells_that_fit,
    draw_growth,
    few_lengths,
    growth_claim,
    lengths_of,
    nested_prompts,
    quoted_growth,
    told_by_cell,
    verdict,
)
from icl_synth.evaluate import EXAMPLE_LENGTHS, EXAMPLES

TITLE = "Without entity persistence: in-context learning still works (Xie et al. 2022, Fig. 10)"
DIFFERS = (
    "In these worlds the entity moves by a mixture of permutations alone, without the identity that otherwise keeps "
    "it nine times in ten. The paper finds that in-context learning is still generally successful, though not as well "
    "with 50 tokens. It trains its 4-layer model; ours is the transformer of 0.3 M parameters, trained on four "
    "million tokens, a third of `small`'s. Prompts come from the world of training. Their longest that fit hold 32 "
    "examples for k = 3 and 5 and 16 for k = 8 and 10 (the paper: 64). Exact Bayes is told the format. Growth asks, "
    "at each k, for accuracy with the most examples less that without any, above zero. Less growth with 50 tokens "
    "asks, at each k, for the growth with a larger vocabulary less that with 50, above zero; the worlds differ, so "
    "the two are not paired. The paper's means are judged by the same rule with their own intervals. Its curves rise "
    "and then fall at k = 8 and 10, so that growth up to n = 64 is not what its words suggest."
)
PUBLISHED = ("xie2022*.csv",)
PROMPT_SEED = 1127
SMALLEST = 50
SIZES = (SMALLEST, 100, 150)
THEIRS = "transformer, 4 layers, no entity persistence"


class Sizes(NamedTuple):
    prompts: int  # of each vocabulary, at each number and length of examples
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS
    numbers: tuple[int, ...] = EXAMPLES  # of examples


def moving(preset: str) -> Suite:
    """A transformer in the world without persistence of each vocabulary."""
    names = {V: f"{preset}-moving" + f"-v{V}" * (V > SMALLEST) for V in SIZES}
    return Suite({f"V = {V}": training for V, training in names.items()}, SEEDS[preset])


SUITES = {preset: moving(preset) for preset in NAMES}
PRESETS = presets(
    SUITES, quick=Sizes(200, lengths=(3, 10), numbers=(0, 1, 4, 16)), small=Sizes(1000), paper=Sizes(1000)
)


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: vocab_size, reader (transformer or exact Bayes), quantity (accuracy in percent, gain in points),
    example_length, num_examples."""
    table = Table("vocab_size", "reader", "quantity", "example_length", "num_examples")
    cells = cells_that_fit(any_run(models).config.model.context, sizes.lengths, sizes.numbers)
    for runs in tqdm(models.values(), desc="vocabularies", unit="world"):
        data = runs[0].config.data
        hmm, _ = data.build()
        prompts = nested_prompts(hmm, jax.random.key(PROMPT_SEED), sizes.prompts, cells)
        for run in runs:
            right = answers_by_cell(run.model, prompts)
            add_growth(table, data.vocab_size, "transformer", right=right, seed=run.seed)
        add_growth(table, data.vocab_size, BAYES, right=told_by_cell(hmm, prompts), seed=None)
    return table.rows()


def plot(rows: pd.DataFrame) -> Figure:
    """A panel for each vocabulary, with the shortest and the longest examples."""
    sizes, lengths = list(rows.vocab_size.unique()), few_lengths(rows, 2)
    figure, grid = plt.subplots(1, len(sizes), figsize=(WIDTH, 3.6), sharey=True, squeeze=False)
    for panel, V in zip(grid[0], sizes, strict=True):
        draw_growth(panel, pick(rows[rows.example_length.isin(lengths)], vocab_size=V), THEIRS, V)
        panel.set_title(f"{V} tokens")
    grid[0, 0].set_ylabel("accuracy, %")
    grid[0, 0].plot([], [], label="Xie et al. 2022, 4 layers", **PUBLISHED_LINE)
    grid[0, 0].plot([], [], ":", color=GREY, label="exact Bayes, told the format")
    figure.suptitle(finding(over_seeds(rows), sizes), size=11)
    legend_below(figure, grid[0, 0], 4, fontsize=9)
    return figure


def finding(rows: pd.DataFrame, sizes: list[int]) -> str:
    """In how many vocabularies and lengths examples help, and by how much."""
    gains = pick(rows, reader="transformer", quantity="gain")
    helped = sum(positive(as_estimate(row)).verdict == "holds" for _, row in gains.iterrows())
    mean = ", ".join(f"{round(pick(gains, vocab_size=V).value.mean()):+d} with {V} tokens" for V in sizes)
    return (
        f"Without entity persistence, examples clearly help in {helped} of {len(gains)} cases\n"
        f"(mean over k, points: {mean})"
    )


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Accuracy still grows with examples in each vocabulary, and less so in the smallest."""
    rows = pick(over_seeds(rows), reader="transformer")
    smallest, *others = rows.vocab_size.unique()
    claim = "accuracy still grows with the number of examples"
    table = [
        growth_claim(pick(rows, vocab_size=V), f"V = {V}: {claim}", THEIRS, "Fig. 10", V) for V in (smallest, *others)
    ]
    return table + [less_claim(rows, V) for V in others]


def less_claim(rows: pd.DataFrame, vocab_size: int) -> Claim:
    """That accuracy grows less in the smallest vocabulary; the worlds differ, so nothing is paired."""
    gains = pick(rows, quantity="gain")

    lengths = lengths_of(rows)
    of_paper = {k: difference(*(quoted_growth(THEIRS, k, V) for V in (vocab_size, SMALLEST))) for k in lengths}
    ours = {
        k: difference(*(only(gains, vocab_size=V, example_length=k) for V in (vocab_size, SMALLEST))) for k in lengths
    }
    return Claim(
        f"accuracy grows less with V = {SMALLEST} than with V = {vocab_size}",
        f"{by_key({k: f'{value.mean:.1f}' for k, value in of_paper.items()})} points (4 layers; Fig. 10); by our rule "
        f"{verdict([positive(value) for value in of_paper.values()])}",
        f"{by_key(ours)} points",
        [positive(value) for value in ours.values()],
    )
