"""Are models far from exact Bayes in the first tokens because training shows few of them? Beyond Xie et al. 2022."""

from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, positive, show
from figures.lab.presets import SEEDS, Suite, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLUE, SKY, WIDTH, name_ends, plain_log
from figures.lab.tables import Table, only, over_seeds, pick
from figures.learning.common import Cell, add_accuracy, draw_mean, draw_prompts, percent_right
from icl_synth import bayes, checkpoints
from icl_synth.documents import sample_documents
from icl_synth.evaluate import EXAMPLE_LENGTHS, kl_to_bayes, log_probs, map_rows
from icl_synth.prompts import Prompts

TITLE = "The first tokens of a document, by the length of training sequences (beyond Xie et al. 2022)"
DIFFERS = (
    "No paper makes these claims. Models are furthest from exact Bayes in the first tokens of a document and, in "
    "context, without examples. A sequence of training has one beginning, so that short sequences show more of them in "
    "as many tokens. One transformer is trained on sequences of several lengths that all begin with their document, "
    "with as many steps, and as many tokens a step. A model reads documents, and prompts without examples, no longer "
    "than its training sequences. The divergence is KL(Bayes || model) of the next token, by its place in the "
    "document. Every model is compared with that of 257 tokens, in which the other experiments stand, by pairs of one "
    "seed on the same documents and prompts. That shorter sequences bring a model nearer to Bayes at the beginning, "
    "and longer ones take it away, requires that the difference be above zero in each of the three bands of the first "
    "15 tokens; that it answers more, or fewer, prompts without examples rightly asks the same of each length k. That "
    "the beginning is learned at the cost of later tokens requires that the shorter model be further from Bayes in the "
    "last band that both were trained on."
)
PUBLISHED = ()
DOCUMENT_SEED, PROMPT_SEED = 1126, 1127
USUAL = 257  # tokens
FIRST = 16  # places before this one are the beginning
COLOURS = ("#a3d3f0", SKY, BLUE, "#003b5c")  # of transformers, the longer their sequences the darker


class Sizes(NamedTuple):
    prompts: int  # of each length
    documents: int
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS


def by_length(scale: str, usual: str) -> Suite:
    lengths = {33: f"{scale}-length-33", 65: f"{scale}-length-65", USUAL: usual, 1025: f"{scale}-length-1025"}
    return Suite({f"{length} tokens": training for length, training in lengths.items()}, SEEDS[scale])


SUITES = {"quick": by_length("quick", "quick-draft"), "small": by_length("small", "small")}
PRESETS = presets(SUITES, quick=Sizes(500, 128, (3, 10)), small=Sizes(2500, 512))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: length (of training sequences), quantity, at (a first place in the document, or k).

    Quantities: kl (nats, from the place `at` to before twice the place) and accuracy (%, without examples, k = `at`);
    less_kl and more_accuracy, by how much a model is better than that of the usual length, paired.
    """
    table = Table("length", "quantity", "at")
    runs = sorted((run for several in models.values() for run in several), key=lambda run: run.config.data.length)
    longest = runs[-1].config.data
    hmm, _ = longest.build()
    tokens, _ = sample_documents(hmm, jax.random.key(DOCUMENT_SEED), sizes.documents, longest.length)
    exact = np.asarray(bayes.next_token_log_probs(hmm, tokens))[:, 1:]
    prompts = draw_prompts(hmm, jax.random.key(PROMPT_SEED), sizes.prompts, [(k, 0) for k in sizes.lengths])
    for run in tqdm(runs, desc="lengths of sequences", unit="model"):
        add_model(table, run, np.asarray(tokens), exact, prompts)
    for quantity, better, sign in (("kl", "less_kl", -1), ("accuracy", "more_accuracy", 1)):
        add_differences(table, quantity, better, sign)
    return table.rows()


def add_model(
    table: Table, run: Run, tokens: Int[np.ndarray, "B L"], exact: Float[np.ndarray, "B T V"],
    prompts: dict[Cell, Prompts],
) -> None:  # fmt: skip
    length = run.config.data.length
    graph, weights = checkpoints.split(run.model)
    learned = map_rows(log_probs, graph, weights, tokens[:, : length - 1])[..., : exact.shape[-1]]
    divergence = kl_to_bayes(exact[:, : length - 1], learned)
    for first in bands(length):
        table.add(length, "kl", first, seed=run.seed, values=divergence[:, first - 2 : 2 * first - 2].mean(1))
    for (k, _), asked in prompts.items():
        add_accuracy(table, length, "accuracy", k, seed=run.seed, values=percent_right(run.model, asked))


def bands(length: int) -> list[int]:
    """The first places of bands that double, 2 to 3, 4 to 7, ..., and that a sequence holds whole."""
    return [2**power for power in range(1, length.bit_length()) if 2 ** (power + 1) <= length]


def add_differences(table: Table, quantity: str, better: str, sign: int) -> None:
    cells = {cell: seeds for cell, seeds in table.cells.items() if cell[1] == quantity}
    usual = usual_of({length for length, _, _ in cells})
    for (length, _, at), seeds in cells.items():
        if length == usual or (usual, quantity, at) not in cells:
            continue
        for seed, values in seeds.items():
            difference = sign * (values - cells[usual, quantity, at][seed])
            table.add(length, better, at, seed=seed, values=difference, least=table.least[length, quantity, at])


def usual_of(lengths: set[int]) -> int:
    """The length that the others are compared with: the usual one, or the nearest to it."""
    return min(lengths, key=lambda length: abs(length - USUAL))


def plot(rows: pd.DataFrame) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.5))
    ends = []
    for length, colour in zip(sorted(rows.length.unique()), COLOURS, strict=False):
        for panel, quantity in ((left, "kl"), (right, "accuracy")):
            line = pick(rows, length=length, quantity=quantity)
            draw_mean(panel, line, "at", color=colour)
        last = over_seeds(line).sort_values("at").iloc[-1]
        ends.append((f" {length} tokens", last["at"], last.value, colour))
    left.set(title="nats from exact Bayes", xlabel="place of the token (to the next point)", yscale="log")
    plain_log(left.yaxis, 2, 3, 5)
    left.set_xscale("log", base=2)
    left.xaxis.set_major_formatter("{x:g}")
    right.set(title="accuracy without examples, %", xlabel="length k of the example")
    right.set_xticks(sorted(pick(rows, quantity="accuracy")["at"].unique()))
    name_ends(right, ends)
    figure.suptitle(finding(over_seeds(rows)), size=11)
    return figure


def finding(rows: pd.DataFrame) -> str:
    """The divergence in the first bands of the shortest and of the usual training."""
    shortest, usual = min(rows.length), usual_of(set(rows.length))
    first = pick(rows, quantity="kl")
    first = first[first["at"] < FIRST]
    near, far = (pick(first, length=length).value.mean() for length in (shortest, usual))
    return (
        f"In the first {FIRST - 1} tokens a model trained on {shortest} tokens at a time is {near:.3f} nats\n"
        f"from exact Bayes, one trained on {usual} at a time {far:.3f}"
    )


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Shorter sequences: nearer to Bayes at the beginning, further later; longer ones the reverse."""
    rows = over_seeds(rows)
    usual = usual_of(set(rows.length))
    table = []
    for length in sorted(set(rows.length) - {usual}):
        shorter = length < usual
        nearer = pick(rows, length=length, quantity="less_kl")
        first = nearer[nearer["at"] < FIRST]
        table += [
            claim_of(first, length, f"nearer to exact Bayes in the first {FIRST - 1} tokens", shorter, "nats", 4),
            claim_of(
                pick(rows, length=length, quantity="more_accuracy"),
                length, "right more often without examples", shorter, "points", 1,
            ),
        ]  # fmt: skip
        last = pick(nearer, at=nearer["at"].max())
        if last["at"].iloc[0] >= FIRST:
            table.append(claim_of(last, length, "nearer to exact Bayes late in its sequences", not shorter, "nats", 4))
    return table


def claim_of(parts: pd.DataFrame, length: int, what: str, better: bool, unit: str, digits: int) -> Claim:
    """That training on sequences of this length makes a model better, or worse, at every part."""
    found = {at: only(parts, at=at) for at in parts["at"]}
    if not better:
        found = {at: value._replace(mean=-value.mean) for at, value in found.items()}
        what = what.replace("nearer to", "further from").replace("right more", "right less")
    place = "k =" if unit == "points" else "from place"
    return Claim(
        f"trained on sequences of {length} tokens it is {what}",
        "no claim of a paper's",
        ", ".join(f"{place} {at}: {show(value, digits)}" for at, value in found.items()) + f" {unit}",
        [positive(value) for value in found.values()],
        own=True,
    )
