"""From one concept to about one for each document: where does learning in context begin? Beyond Xie et al. 2022."""

from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Array, Key
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, near_zero, no_more, positive, show
from figures.lab.measure import Documents, excess
from figures.lab.presets import NAMES, SEEDS, Suite, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLACK, BLUE, GREY, SKY, WIDTH, name_ends, plain_log
from figures.lab.tables import Table, as_estimate, only, over_seeds, pick
from figures.learning.common import (
    LENGTH_COLOURS,
    Cell,
    add_answers,
    by_key,
    draw_mean,
    extreme_cells,
    lengths_of,
    quoted_flatness,
)
from icl_synth import bayes
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.documents import sample_documents
from icl_synth.estimates import Estimate
from icl_synth.presets.worlds import CONCEPTS
from icl_synth.prompts import Prompts, sample_prompts
from icl_synth.trends import slope

TITLE = (
    "In-context learning by the number of concepts in training, on concepts seen and unseen (beyond Xie et al. 2022)"
)
DIFFERS = (
    "The paper has five concepts. Here one transformer (in `small` 0.3 M parameters, four million tokens, 16,000 "
    "documents) is trained on random worlds of one to 16,384 concepts, three worlds of each number. Of the most "
    "concepts, each has one training document on average and 38 % have none, so that a model has hardly seen its own "
    "concepts more than others. The worlds of one seed share tokens and entity moves, and their concepts are nested: "
    "those of a smaller world are the first of a larger one's. All models of one seed are asked the same documents and "
    "prompts of concepts that none has seen: 1,024 held back from the largest world. The reference on documents is "
    "exact Bayes told the list of concepts that the documents come from. No model can know that list for unseen "
    "concepts, so even an ideal learner, which has to infer a new matrix of moves from one document, stays above this "
    "reference; `learning/two_readers` holds the same models against a reader that infers. Exact Bayes over 16,384 "
    "concepts reads 32 documents of each world, over 1,024 concepts 128, over fewer 512. Intervals are over worlds "
    "(with their training seeds) and over documents or prompts. No claim here is a paper's. That examples come to help "
    "with a concept never trained on requires that the gain rise with the logarithm of the number of concepts: that "
    "its slope over all numbers be above zero. Of every number it is asked whether examples help, that is whether the "
    "gain is above zero; that they do not help with one concept in training requires that the gain be no more than the "
    "accuracy of Xie et al. moves, up or down, after training on a single concept (Fig. 4). Of every number it is "
    "asked whether the two losses are the same: whether their difference lies within 0.01 nats per token of zero, to "
    "which the paper gives losses. Every length k is a part of each claim."
)
PUBLISHED = ("xie2022_accuracy.csv",)
DOCUMENT_SEED, PROMPT_SEED = 1119, 1120
UNSEEN = 1024  # concepts held out
BUDGET, FEWEST = 2**17, 32  # exact Bayes is asked about at most so many documents times concepts; documents at least
COLOURS = {"own": (SKY, -8), "unseen": (BLUE, 8)}  # and where a line is named, in points above its beginning
LABELS = {"own": "concepts of training", "unseen": "concepts never seen"}
EQUAL = 0.01  # nats per token
SINGLE = "transformer, 4 layers, single concept"  # of the paper


class Sizes(NamedTuple):
    prompts: int  # at each number and length of examples
    documents: int  # of each world, at most
    lengths: tuple[int, ...] = (5, 10)  # of examples


def by_concepts(preset: str) -> Suite:
    """Worlds of few to many concepts, each a seed of its own."""
    return Suite(
        {
            f"{number} concepts, world {seed + 1}": f"{preset}-concepts-{number}-{seed}"
            for number in CONCEPTS[preset]
            for seed in SEEDS[preset]
        }
    )


SUITES = {preset: by_concepts(preset) for preset in NAMES}
PRESETS = presets(SUITES, quick=Sizes(100, 128), small=Sizes(500, 512), paper=Sizes(500, 100))


class Questions(NamedTuple):
    """What the models of a world are asked."""

    documents: Documents
    prompts: dict[Cell, Prompts]


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: concepts, of (own, unseen), quantity, example_length, num_examples; the seed is that of the world.

    Quantities: excess (nats per token over exact Bayes), accuracy (%, for no examples and the most that fit), gain,
    their difference (points), and gap: excess on unseen concepts less that on its own, in one world. With the most
    concepts also gain_slope: how much the gain on unseen ones rises with ten times as many concepts (points).
    """
    table = Table("concepts", "of", "quantity", "example_length", "num_examples")
    runs = sorted((run for several in models.values() for run in several), key=lambda run: run.config.data.concepts)
    largest = {run.config.data.world_seed: run for run in runs}
    new = {seed: ask(unseen(run), run, sizes) for seed, run in largest.items()}
    for run in tqdm(runs, desc="concepts", unit="model"):
        own = ask(run.config.data.build()[0], run, sizes)
        add_model(table, run, {"own": own, "unseen": new[run.config.data.world_seed]})
    add_slopes(table)
    return table.rows()


def add_model(table: Table, run: Run, asked: dict[str, Questions]) -> None:
    """The answers of one model about its own world and about concepts that it has not seen."""
    number, losses = run.config.data.concepts, {}
    for of, questions in asked.items():
        losses[of] = excess(run.model, questions.documents)
        table.add(number, of, "excess", 0, 0, seed=run.seed, values=losses[of])
        add_answers(table, number, of, run=run, prompts=questions.prompts)
    both = min(map(len, losses.values()))  # documents of either kind, drawn apart
    table.add(number, "unseen", "gap", 0, 0, seed=run.seed, values=losses["unseen"][:both] - losses["own"][:both])


def add_slopes(table: Table) -> None:
    """The trend of the gain on unseen concepts, of which all models of a seed are asked the same prompts."""
    gains: dict[tuple[int, int], dict[int, dict[int | None, np.ndarray]]] = {}
    for (number, of, quantity, k, n), seeds in table.cells.items():
        if (of, quantity) == ("unseen", "gain"):
            gains.setdefault((k, n), {})[number] = seeds
    for (k, n), by_number in gains.items():
        x = np.log10(list(by_number))
        for seed in by_number[max(by_number)]:
            values = slope(x, np.stack([seeds[seed] for seeds in by_number.values()]))
            table.add(max(by_number), "unseen", "gain_slope", k, n, seed=seed, values=values)


def ask(hmm: ConceptHMM, run: Run, sizes: Sizes) -> Questions:
    """Questions about a world; their seeds are those of the world, not of the model."""
    data = run.config.data
    key = jax.random.fold_in(jax.random.key(DOCUMENT_SEED), data.world_seed)
    tokens, _ = sample_documents(hmm, key, min(sizes.documents, at_once(hmm)), data.length)
    exact = -np.asarray(bayes.token_log_likelihoods(hmm, tokens))[:, 1:].mean(-1)
    key = jax.random.fold_in(jax.random.key(PROMPT_SEED), data.world_seed)
    cells = extreme_cells(run.config.model.context, sizes.lengths)
    prompts = {(k, n): many_prompts(hmm, jax.random.fold_in(key, 100 * k + n), sizes.prompts, n, k) for k, n in cells}
    return Questions(Documents(np.asarray(tokens), exact), prompts)


def at_once(hmm: ConceptHMM) -> int:
    """Documents or prompts that exact Bayes holds every concept of."""
    return max(FEWEST, BUDGET // hmm.num_concepts)


def many_prompts(hmm: ConceptHMM, key: Key[Array, ""], number: int, n: int, k: int) -> Prompts:
    """Prompts drawn a few at a time: the filter that labels them holds every concept of each."""
    step = min(number, at_once(hmm))
    parts = [
        sample_prompts(hmm, jax.random.fold_in(key, start), min(step, number - start), n, k)
        for start in range(0, number, step)
    ]
    return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *parts)


def unseen(run: Run) -> ConceptHMM:
    """Concepts that the largest world of a seed holds back, and no smaller one has."""
    held_out = run.config.data.build()[1]
    return held_out.select(slice(min(UNSEEN, held_out.num_concepts)))


def plot(rows: pd.DataFrame) -> Figure:
    """Losses on documents, and what examples add on concepts that no training had."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.6))
    for of, (colour, place) in COLOURS.items():
        line = pick(rows, of=of, quantity="excess")
        draw_mean(left, line, "concepts", color=colour)
        first = over_seeds(line).sort_values("concepts").iloc[0]
        left.annotate(LABELS[of], (first.concepts, first.value), (6, place), textcoords="offset points", size=8,
                      color=colour, va="center")  # fmt: skip
    gains, ends = pick(rows, of="unseen", quantity="gain"), []
    for k in lengths_of(rows):
        line = pick(gains, example_length=k)
        draw_mean(right, line, "concepts", color=LENGTH_COLOURS[k])
        last = over_seeds(line).sort_values("concepts").iloc[-1]
        ends.append((f"k = {k}", last.concepts, last.value, LENGTH_COLOURS[k]))
    right.axhline(0, color=BLACK, lw=0.8)
    start = first_helped(over_seeds(gains))
    if start is not None:
        right.axvline(start, color=GREY, ls=":", lw=1)
    left.set(title="documents", ylabel="loss above exact Bayes, nats per token", yscale="log")
    right.set(title="prompts of concepts never seen", ylabel="points that examples add")
    plain_log(left.yaxis, 3)
    for panel in (left, right):
        panel.set(xscale="log", xlabel="concepts in training")
        plain_log(panel.xaxis, form="{x:,.0f}")
    name_ends(right, ends)
    figure.suptitle(finding(start, rows.concepts.max()), size=11)
    return figure


def first_helped(gains: pd.DataFrame) -> int | None:
    """The number of concepts from which on examples clearly help at every length."""
    helped = gains.assign(helped=[positive(as_estimate(row)).verdict == "holds" for _, row in gains.iterrows()])
    not_yet = helped[~helped.helped].concepts
    after = helped[helped.concepts > (not_yet.max() if len(not_yet) else 0)].concepts
    return int(after.min()) if len(after) else None


def finding(start: int | None, most: int) -> str:
    """Where examples begin to help with a new concept."""
    if start is None:
        return f"Even with {concepts(most)} in training, examples do not clearly help\nwith a concept never seen"
    return f"From {concepts(start)} in training on, examples clearly help with one never seen"


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Many concepts teach to infer a new one: by how much, and with how many it is there."""
    rows = over_seeds(rows)
    unseen_rows = pick(rows, of="unseen")
    numbers = sorted(rows.concepts.unique())
    return [
        growth_claim(unseen_rows),
        single_claim(unseen_rows, numbers[0]),
        *(help_claim(unseen_rows, number) for number in numbers),
        *(gap_claim(only(rows, quantity="gap", concepts=number), number) for number in numbers),
    ]


def by_length(rows: pd.DataFrame, **where: object) -> dict[int, Estimate]:
    chosen = pick(rows, **where)
    return {k: only(chosen, example_length=k) for k in lengths_of(rows)}


def concepts(number: int) -> str:
    return "1 concept" if number == 1 else f"{number:,} concepts"


def growth_claim(rows: pd.DataFrame) -> Claim:
    slopes = by_length(rows, quantity="gain_slope")
    return Claim(
        "with more concepts in training, examples come to help with a concept never trained on",
        "no claim of a paper's",
        f"{by_key(slopes)} points more with ten times as many concepts",
        [positive(part) for part in slopes.values()],
        own=True,
        headline=True,
    )


def single_claim(rows: pd.DataFrame, fewest: int) -> Claim:
    gains, flat = by_length(rows, quantity="gain", concepts=fewest), quoted_flatness(SINGLE)
    return Claim(
        f"with {concepts(fewest)} in training, examples do not help with a concept never trained on",
        f"no claim of a paper's; of a model of a single concept accuracy moves by at most {flat:.1f} points (Fig. 4)",
        f"{by_key(gains)} points",
        [no_more(part, flat) for part in gains.values()],
        own=True,
    )


def help_claim(rows: pd.DataFrame, number: int) -> Claim:
    gains = by_length(rows, quantity="gain", concepts=number)
    return Claim(
        f"with {concepts(number)} in training, examples help with a concept never trained on",
        "no claim of a paper's",
        f"{by_key(gains)} points",
        [positive(part) for part in gains.values()],
        own=True,
    )


def gap_claim(gap: Estimate, number: int) -> Claim:
    return Claim(
        f"with {concepts(number)} in training, the loss above Bayes is the same on concepts never trained on",
        "no claim of a paper's",
        f"{show(gap, 3)} nats per token more",
        [near_zero(gap, EQUAL)],
        own=True,
    )
