"""Long, duplicated and independent examples before short test inputs (Xie et al. 2022, Table 1)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, no_more, positive, show
from figures.lab.presets import KINDS, presets
from figures.lab.runs import Models
from figures.lab.style import BLACK, MODELS, PUBLISHED_POINT, WIDTH, legend_below
from figures.lab.tables import Table, only, over_seeds, pick, published
from figures.learning.common import (
    SMOOTHED,
    add_accuracy,
    add_points,
    any_run,
    document_answers,
    draw_mean,
    one_of_each,
    percent_right,
)
from icl_synth.prompt_layout import join_prompts, split_prompts
from icl_synth.prompts import sample_prompts
from icl_synth.test_lengths import labels_along

TITLE = "Long, duplicated and independent examples before short test inputs (Xie et al. 2022, Table 1)"
DIFFERS = (
    "The paper asks GPT-3 for the last word of passages of LAMBADA, all of them short, after five short examples, "
    "five long ones, the five short ones twice, or ten short ones. Here short examples have five tokens and long ones "
    "ten, so that five long ones are about as long as ten short ones, and every kind stands before the same test "
    "inputs of four tokens, whose label is the likeliest next token. The short examples are the first halves of the "
    "long ones. The reader that the paper's theory is about is exact Bayes that takes the prompt for one document, "
    "with smoothed transitions. The paper's numbers have no intervals. The claim about longer examples requires "
    "accuracy after long "
    "examples less that after as many short ones, above zero; that about repeated ones requires that "
    "showing the short ones twice gain no more "
    "than what the paper calls an improvement by long ones; that about independent ones requires accuracy after ten "
    "short examples "
    "less that after five long ones, above zero."
)
PUBLISHED = ("xie2022_lambada.csv",)
PROMPT_SEED = 1130
FEW, SHORT, LONG = 5, 5, 10
SHORTS, LONGS, DUPLICATED, INDEPENDENT = "5 short", "5 long", "5 short, duplicated", "10 short"
COLOURS = MODELS | {SMOOTHED: BLACK}


class Sizes(NamedTuple):
    prompts: int
    few: int = FEW  # examples
    short: int = SHORT  # tokens of an example
    long: int = LONG


PRESETS = presets(KINDS, quick=Sizes(500), small=Sizes(2500), paper=Sizes(2500))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: reader, examples, quantity; value: accuracy in percent, or that above the short examples in points.

    Quantities: accuracy; above short, of all but the short ones; above long, of the independent ones.
    """
    table = Table("reader", "examples", "quantity")
    hmm, _ = any_run(models).config.data.build()
    prompts = sample_prompts(hmm, jax.random.key(PROMPT_SEED), sizes.prompts, 2 * sizes.few, sizes.long)
    labels = labels_along(hmm, prompts, sizes.long)[:, sizes.short - 2]
    asked = {
        kind: prompts._replace(tokens=tokens, labels=labels) for kind, tokens in arranged(prompts.tokens, sizes).items()
    }
    for name, runs in models.items():
        for run in tqdm(runs, desc=name, unit="seed"):
            right = {kind: percent_right(run.model, of_kind) for kind, of_kind in asked.items()}
            add_reader(table, name, right, run.seed)
    answers = {kind: document_answers(hmm, np.asarray(of_kind.tokens))[:, -1] for kind, of_kind in asked.items()}
    right = {kind: 100.0 * (answer == np.asarray(labels)) for kind, answer in answers.items()}
    add_reader(table, SMOOTHED, right, None)
    return table.rows()


def arranged(tokens: Int[Array, "B M"], sizes: Sizes) -> dict[str, Int[Array, "B L"]]:
    """The prompts of each kind of examples before the same short test inputs, from twice as many long examples."""
    examples, test = split_prompts(tokens, sizes.long)
    few = examples[:, : sizes.few]
    short = few[:, :, : sizes.short]
    kinds = {
        SHORTS: short,
        LONGS: few,
        DUPLICATED: jnp.concatenate([short, short], axis=1),
        INDEPENDENT: examples[:, :, : sizes.short],
    }
    return {kind: join_prompts(shown, test[:, : sizes.short - 1]) for kind, shown in kinds.items()}


def add_reader(table: Table, reader: str, right: dict[str, Float[np.ndarray, " N"]], seed: int | None) -> None:
    for kind, values in right.items():
        add_accuracy(table, reader, kind, "accuracy", values=values, seed=seed)
        if kind != SHORTS:
            add_points(table, reader, kind, "above short", values=values - right[SHORTS], seed=seed)
    add_points(table, reader, INDEPENDENT, "above long", values=right[INDEPENDENT] - right[LONGS], seed=seed)


def plot(rows: pd.DataFrame) -> Figure:
    """Accuracy after every kind of examples, a reader beside the other: nothing lies between two kinds."""
    figure, panel = plt.subplots(figsize=(WIDTH, 3.8))
    kinds = (SHORTS, DUPLICATED, LONGS, INDEPENDENT)
    place, readers = {kind: number for number, kind in enumerate(kinds)}, list(rows.reader.unique())
    shown = [*one_of_each([name for name in readers if name != SMOOTHED]), SMOOTHED]
    for index, reader in enumerate(shown):
        line = pick(rows, reader=reader, quantity="accuracy")
        line = line.assign(place=line.examples.map(place) + 0.2 * index - 0.3)
        draw_mean(panel, line, "place", color=COLOURS[reader], ls="none", label=reader)
    theirs = published("xie2022_lambada")
    label = "Xie et al. 2022: GPT-3 on LAMBADA"
    panel.plot(theirs.examples.map(place) + 0.3, theirs.accuracy_percent, label=label, **PUBLISHED_POINT)
    panel.set(
        xticks=range(len(kinds)), xticklabels=kinds, xlabel="examples before the test input", ylabel="accuracy, %"
    )
    panel.grid(visible=False, axis="x")
    gains = pick(over_seeds(rows), reader=SMOOTHED, quantity="above short")
    twice, long, more = (only(gains, examples=kind).mean for kind in kinds[1:])
    figure.suptitle(
        f"Over short examples, exact Bayes for documents gains {long:+.1f} points from\n"
        f"long ones, {twice:+.1f} from short ones twice, {more:+.1f} from twice as many", size=11
    )  # fmt: skip
    legend_below(figure, panel, 2)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Longer examples help though the test input stays short, repeating short ones does not, independent ones do."""
    rows = over_seeds(rows)
    theirs = published("xie2022_lambada").set_index("examples").accuracy_percent
    readers = rows.reader.unique()
    return [claim for reader in readers for claim in reader_claims(pick(rows, reader=reader), reader, theirs)]


def reader_claims(rows: pd.DataFrame, reader: str, theirs: pd.Series) -> list[Claim]:
    kinds = (LONGS, DUPLICATED, INDEPENDENT)
    longer, repeated, more = (only(rows, examples=kind, quantity="above short") for kind in kinds)
    above = only(rows, quantity="above long")
    paper = {kind: f"{theirs[SHORTS]} → {theirs[kind]} %, GPT-3 (Table 1)" for kind in (LONGS, DUPLICATED)}
    return [
        Claim(
            f"{reader}: longer examples raise accuracy on short test inputs",
            paper[LONGS],
            f"{show(longer)} points",
            [positive(longer)],
        ),
        Claim(
            f"{reader}: repeating the short examples does not",
            paper[DUPLICATED],
            f"{show(repeated)} points",
            [no_more(repeated, round(theirs[LONGS] - theirs[SHORTS], 1))],
        ),
        Claim(
            f"{reader}: twice as many independent short examples raise it more than long ones do",
            f"{theirs[LONGS]} → {theirs[INDEPENDENT]} %, GPT-3 (Table 1)",
            f"{show(above)} points above long, {show(more)} above short",
            [positive(above)],
        ),
    ]
