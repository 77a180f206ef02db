"""Concepts that no training document had, done properly and as the public code does (Xie et al. 2022, Fig. 4)."""

from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int, Key
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, no_more, positive
from figures.lab.presets import KINDS, NAMES, SEEDS, Suite, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLACK, GREY, MODELS, WIDTH, name_ends, places
from figures.lab.tables import Table, as_estimate, only, over_seeds, pick
from figures.learning.common import (
    PAPER_MOST,
    Cell,
    add_accuracy,
    add_growth,
    add_points,
    answers_by_cell,
    any_run,
    by_key,
    cells_that_fit,
    draw_mean,
    draw_published,
    few_lengths,
    in_short,
    learned,
    mark_examples,
    most_examples,
    nested_prompts,
    one_of_each,
    quoted,
    quoted_ends,
    quoted_flatness,
)
from icl_synth.aspects import robust_log_probs
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.config import DataConfig
from icl_synth.evaluate import EXAMPLE_LENGTHS, EXAMPLES
from icl_synth.prompts import Prompts, sample_official_unseen_prompts

TITLE = "Learning in context of concepts that training never saw (Xie et al. 2022, Fig. 4)"
DIFFERS = (
    "The paper's unseen concepts are those of its public code: the context's examples are one entity under properties "
    "drawn at random, which no concept makes, and the label is asked of a held-out concept that often cannot emit the "
    "test input at all, so that the label is the argmax of 0 / 0. The rows have that variant over all prompts, as "
    "the paper scores them, and the share of labels that mean something. Done properly, and drawn, prompts come from "
    "the five held-out concepts of the same world, as in-distribution prompts do. Exact Bayes is told the format and "
    "allows for noise. It knows either the held-out concepts, which is the ceiling, or only those of training, as a "
    "model can; a test input that these cannot emit then has no answer and counts as wrong. The paper's model is its "
    "4-layer one. The models with 100 and 150 tokens have trained for less time: the transformer on four million "
    "tokens, the LSTM on eight. The picture shows 50 tokens, the shortest and the longest examples. Not learned asks, "
    "at each k, for accuracy with the most examples less that without any: no more than the most by which the paper's "
    "own accuracy on unseen concepts moves, up or down, at the same V and any k. Answered less rightly asks, at each "
    "k, for accuracy in distribution less that on unseen concepts, with the most examples, above zero."
)
PUBLISHED = ("xie2022*.csv",)
PROMPT_SEED = 1115
KNOWING, NOT_KNOWING = "exact Bayes, knows them", "exact Bayes of training's concepts"
DEFINED = "defined"  # of the official variant, the share of labels that mean something
THEIRS = "transformer, 4 layers, unseen concepts"


class Sizes(NamedTuple):
    prompts: int  # of each kind, at each number and length of examples
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS
    numbers: tuple[int, ...] = EXAMPLES  # of examples


def kinds_by_vocabulary(preset: str) -> Suite:
    """KINDS, and models of larger vocabularies, trained for a shorter time; `quick` has the first alone."""
    kinds = KINDS[preset]
    like = {"small": {"transformer": "small", "LSTM": "small-lstm"}, "paper": {"transformer, 4 layers": "paper"}}
    larger = {
        f"{name}, V = {V}": f"{training}-v{V}" for name, training in like.get(preset, {}).items() for V in (100, 150)
    }
    return Suite(kinds.models | larger, kinds.seeds, dict.fromkeys(larger, SEEDS[preset]))


SUITES = {preset: kinds_by_vocabulary(preset) for preset in NAMES}
PRESETS = presets(
    SUITES, quick=Sizes(200, lengths=(3, 10), numbers=(0, 1, 4, 16)), small=Sizes(1000), paper=Sizes(1000)
)


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, vocab_size, prompts (seen, unseen, official), quantity, example_length, num_examples.

    Quantities: accuracy (%) and gain (points, `add_growth`); of unseen prompts also below, the accuracy on prompts in
    distribution less that on these (points). For the official variant, the accuracy of model "defined" is the share
    of labels that mean something.
    """
    table = Table("model", "vocab_size", "prompts", "quantity", "example_length", "num_examples")
    worlds: dict[DataConfig, list[tuple[str, Run]]] = {}
    for name, runs in models.items():
        for run in runs:
            worlds.setdefault(run.config.data, []).append((name.split(", V = ")[0], run))
    cells = cells_that_fit(any_run(models).config.model.context, sizes.lengths, sizes.numbers)
    for data, runs_of_world in worlds.items():
        add_world(table, data, runs_of_world, cells, sizes.prompts)
    return table.rows()


def add_world(table: Table, data: DataConfig, runs: list[tuple[str, Run]], cells: list[Cell], number: int) -> None:
    """What the models of a world answer, and exact Bayes on unseen concepts: with them, and with training's alone."""
    V, worlds = data.vocab_size, data.build()
    prompts, defined = draw_kinds(worlds, number, cells)
    for name, run in tqdm(runs, desc=f"unseen concepts, V = {V}", unit="run"):
        by_kind = {kind: answers_by_cell(run.model, asked) for kind, asked in prompts.items()}
        for kind, of_kind in by_kind.items():
            add_growth(table, name, V, kind, right=of_kind, seed=run.seed)
        for cell in cells:
            below = by_kind["seen"][cell] - by_kind["unseen"][cell]
            add_points(table, name, V, "unseen", "below", *cell, values=below, seed=run.seed)
    for cell in cells:
        add_accuracy(table, DEFINED, V, "official", "accuracy", *cell, values=defined[cell])
        asked = prompts["unseen"][cell]
        for name, world in ((KNOWING, worlds[1]), (NOT_KNOWING, worlds[0])):
            answers = bayes_answers(world, asked.tokens, cell[0])
            add_accuracy(
                table, name, V, "unseen", "accuracy", *cell, values=100.0 * (answers == np.asarray(asked.labels))
            )


def draw_kinds(
    worlds: tuple[ConceptHMM, ConceptHMM], number: int, cells: list[Cell]
) -> tuple[dict[str, dict[Cell, Prompts]], dict[Cell, Float[np.ndarray, " N"]]]:
    """Prompts of each kind by cell, and 100 for each official label that means something."""
    keys = jax.random.split(jax.random.key(PROMPT_SEED), 3)
    prompts = {
        kind: nested_prompts(world, key, number, cells)
        for kind, world, key in zip(("seen", "unseen"), worlds, keys[:2], strict=True)
    }
    official = {(k, n): official_prompts(worlds[1], jax.random.fold_in(keys[2], 100 * k + n), number, k, n)
                for k, n in cells}  # fmt: skip
    defined = {cell: 100.0 * np.asarray(means) for cell, (_, means) in official.items()}
    return prompts | {"official": {cell: asked for cell, (asked, _) in official.items()}}, defined


def official_prompts(held_out: ConceptHMM, key: Key[Array, ""], number: int, k: int, n: int) -> tuple[Prompts, Array]:
    """The public code's prompts, which have no start property, and which of their labels mean something."""
    drawn = sample_official_unseen_prompts(held_out, key, number, n, k)
    return Prompts(drawn.tokens, drawn.labels, drawn.concepts, drawn.concepts * 0), drawn.label_defined


def bayes_answers(world: ConceptHMM, tokens: Int[Array, "B L"], k: int) -> Int[np.ndarray, " B"]:
    """The likeliest label for a reader who is told the format and allows for noise in the examples; -1, which is never
    right, where its world cannot emit the test input."""
    log_probs = np.asarray(robust_log_probs(world, tokens, k))
    return np.where(np.isfinite(log_probs).any(-1), log_probs.argmax(-1), -1)


def learned_models(rows: pd.DataFrame) -> list[str]:
    return learned(rows, KNOWING, NOT_KNOWING, DEFINED)


def plot(rows: pd.DataFrame) -> Figure:
    """Accuracy at V = 50, at the shortest and the longest examples, on concepts seen and unseen."""
    rows = pick(rows, vocab_size=50)
    shown, names = few_lengths(rows, 2), one_of_each(learned_models(rows))
    figure, grid = plt.subplots(1, len(shown), figsize=(WIDTH, 3.5), sharey=True, squeeze=False)
    for panel, k in zip(grid[0], shown, strict=True):
        ends = draw_length(panel, pick(rows, quantity="accuracy", example_length=k), k, names)
        mark_examples(panel)
        panel.set_title(f"k = {k}")
    name_ends(grid[0, -1], ends)
    grid[0, 0].set_ylabel("accuracy, %")
    figure.suptitle(finding(over_seeds(rows), names[0], shown[-1]), size=11)
    return figure


def finding(rows: pd.DataFrame, name: str, k: int) -> str:
    """What a model answers rightly of either kind, and the ceiling, with the most examples."""
    ends = pick(rows, quantity="accuracy", example_length=k, num_examples=most_examples(rows)[k])
    seen, unseen = (only(ends, model=name, prompts=kind).mean for kind in ("seen", "unseen"))
    ceiling = only(ends, model=KNOWING).mean
    return (
        f"k = {k}: of prompts of concepts seen in training the {in_short(name)} answers {seen:.0f} %,\n"
        f"of unseen ones {unseen:.0f} %, where exact Bayes that knows them answers {ceiling:.0f} %"
    )


def draw_length(panel: Axes, rows: pd.DataFrame, k: int, names: list[str]) -> list[tuple[str, float, float, str]]:
    """Accuracy by number of examples at one length: the ceiling, the paper's, our models; the ends of the lines."""
    rows, right = rows.assign(place=rows.num_examples.map(places(EXAMPLES))), float(len(EXAMPLES) - 1)
    exact = pick(rows, model=KNOWING)
    panel.plot(exact.place, exact.value, "--", lw=1.4, color=BLACK)
    draw_published(panel, THEIRS, k)
    ends = [
        ("exact Bayes, knows them", right, exact.value.iloc[-1], BLACK),
        ("Xie et al., unseen", right, quoted(THEIRS, k, PAPER_MOST), GREY),
    ]
    for name in names:
        for kind, style in (("seen", {"ls": ":"}), ("unseen", {"ls": "-"})):
            line = pick(rows, model=name, prompts=kind)
            draw_mean(panel, line, "place", color=MODELS[name], lw=1.4, ms=3, **style)
            ends.append((f"{in_short(name)}, {kind}", right, over_seeds(line).value.iloc[-1], MODELS[name]))
    return ends


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Of each model and vocabulary: unseen concepts, drawn either way, are not learned in context, and stay below."""
    rows, table = over_seeds(rows), []
    for name in learned_models(rows):
        of_model = pick(rows, model=name)
        for V in of_model.vocab_size.unique():
            cells = pick(of_model, vocab_size=V)
            table += [flat_claim(pick(cells, prompts=kind), name, kind, V) for kind in ("unseen", "official")]
            table.append(below_claim(cells, name, V))
    return table


def flat_claim(rows: pd.DataFrame, name: str, kind: str, vocab_size: int) -> Claim:
    """That accuracy does not grow with examples, at every length."""
    gains = {row.example_length: as_estimate(row) for _, row in pick(rows, quantity="gain").iterrows()}
    margin, last = quoted_flatness(THEIRS, vocab_size), most_examples(rows)
    accuracy = {k: only(rows, quantity="accuracy", example_length=k, num_examples=last[k]).mean for k in gains}
    variant = "" if kind == "unseen" else ", the code's variant"
    return Claim(
        f"{name}, V = {vocab_size}: unseen concepts are not learned in context{variant}",
        f"{quoted_ends(THEIRS, list(gains), vocab_size)} (Fig. 4; its code's variant): moves by {margin:.1f} points at "
        "most",
        f"{by_key(gains)} points, to {by_key({k: f'{value:.1f}' for k, value in accuracy.items()})} %, n = "
        f"{', '.join(map(str, last.values()))}",
        [no_more(gain, margin) for gain in gains.values()],
    )


def below_claim(rows: pd.DataFrame, name: str, vocab_size: int) -> Claim:
    """That with the most examples accuracy on unseen concepts is below that in distribution, at every length."""
    last = most_examples(rows)
    below = {k: only(pick(rows, quantity="below"), example_length=k, num_examples=most) for k, most in last.items()}
    known = {
        k: f"{only(rows, prompts='seen', quantity='accuracy', example_length=k, num_examples=most).mean:.1f}"
        for k, most in last.items()
    }
    return Claim(
        f"{name}, V = {vocab_size}: unseen concepts are answered less rightly than those of training",
        "fails for novel concepts (Fig. 4 beside Fig. 11)",
        f"{by_key(below)} points below {by_key(known)} %",
        [positive(value) for value in below.values()],
    )
