"""The error by the length of examples and of the test input, and by how far concepts are apart (Xie et al. 2022)."""

import itertools
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
from figures.lab.style import BLACK, GREY, MODELS, WIDTH, legend_below
from figures.lab.tables import Table, as_estimate, only, over_seeds, pick
from figures.learning.common import (
    SMOOTHED,
    SMOOTHING,
    TOLD,
    add_accuracy,
    add_points,
    any_run,
    by_key,
    document_answers,
    draw_mean,
    one_of_each,
)
from icl_synth import checkpoints
from icl_synth.evaluate import EXAMPLE_LENGTHS, map_rows, pad_to_bucket
from icl_synth.prompts import Prompts, sample_prompts
from icl_synth.test_lengths import divergences, labels_along, told_log_probs, with_lengths

TITLE = "The error in the limit: length of examples, length of the test input, divergence of concepts (Xie et al. 2022)"
DIFFERS = (
    "The theorems are about the limit of many examples, for the posterior predictive of the training distribution. "
    "Here that reader is exact Bayes that takes the prompt for one document, with transitions smoothed by 1e-6: the "
    "theorems assume that no transition is impossible, and in these worlds a third are. Models are approximations of "
    "it. Limits are read at 64 examples for exact Bayes and at 16 for the models of `quick` and `small`, whose "
    "context holds no more. The label is the likeliest token, so that the optimal error is zero. Theorem 2 is about "
    "test inputs of k - 1 tokens, Theorem 3 about the mean over those of 1 to k - 1. All cells share their prompts: "
    "examples are cut to their first k tokens, test inputs to any length. Exact Bayes that is told the format is "
    "drawn and not judged. Bounds with unknown constants cannot fail at four lengths, but the paper reads from them "
    "that the error falls with k and roughly as 1 / k: we ask for the error at each k less that at the next, above "
    "zero, and for the slope of log error over log(k - 1), no more than -1. Our own questions: the error at the "
    "shortest test input less that at the longest (2 and 9 tokens, those of k = 3 and 10), mean over k, less the same "
    "for the examples' k, mean over test inputs, above zero; and the least-squares slope of a prompt's error over the "
    "divergence of its concept from the closest other one, below zero. That KL divergence is exact, a sum over all "
    "examples of three tokens that begin at the prompt's property, the other concept smoothed by 1e-6. All prompts of "
    "one concept and start property have one divergence, so that the slope's interval is over these 45 pairs of this "
    "one world."
)
PUBLISHED = ()
PROMPT_SEED = 1129
COLOURS = MODELS | {TOLD: BLACK, SMOOTHED: GREY}
KL_LENGTH = 3  # tokens of the examples whose divergence is summed exactly
THEOREMS = ("Theorem 2", "Theorem 3")
RATE = -1.0  # "the excess risk roughly decreases as O(1/k)"
Errors = dict[int, Float[np.ndarray, "T N"]]  # by example length: 100 for each wrong answer after t = 1..T tokens


class Sizes(NamedTuple):
    prompts: int
    examples: int = 16  # of every prompt that models are asked
    limit: int = 64  # of those that exact Bayes is asked besides
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS


PRESETS = presets(KINDS, quick=Sizes(200, lengths=(3, 10)), small=Sizes(2000), paper=Sizes(2000, 64))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: reader, num_examples, quantity, example_length, test_length; values in percent or points, slopes without
    unit, divergences in nats."""
    table = Table("reader", "num_examples", "quantity", "example_length", "test_length")
    hmm, _ = any_run(models).config.data.build()
    longest = max(sizes.lengths)
    prompts = sample_prompts(hmm, jax.random.key(PROMPT_SEED), sizes.prompts, sizes.limit, longest)
    apart = closest(divergences(hmm, KL_LENGTH, SMOOTHING), prompts)
    labels = np.asarray(labels_along(hmm, prompts, longest))

    def asked(n: int) -> dict[int, Int[np.ndarray, "B M"]]:
        return {k: np.asarray(with_lengths(prompts, longest, k, n)) for k in sizes.lengths}

    for name, runs in models.items():
        for run in tqdm(runs, desc=name, unit="seed"):
            answers = {k: answers_along(run.model, tokens, longest - 1) for k, tokens in asked(sizes.examples).items()}
            add_reader(table, name, sizes.examples, errors=wrong(answers, labels), apart=apart, seed=run.seed)
    for n in dict.fromkeys((sizes.examples, sizes.limit)):
        told = {k: np.asarray(told_log_probs(hmm, tokens, k, n).argmax(-1)) for k, tokens in asked(n).items()}
        smoothed = {k: document_answers(hmm, tokens)[:, 1 - longest :] for k, tokens in asked(n).items()}
        for reader, answers in ((TOLD, told), (SMOOTHED, smoothed)):
            add_reader(table, reader, n, errors=wrong(answers, labels), apart=apart, seed=None)
    table.add("world", 0, "closest divergence", KL_LENGTH, 0, values=apart)
    return table.rows()


def closest(divergence: Float[np.ndarray, "C S C"], prompts: Prompts) -> Float[np.ndarray, " B"]:
    """The divergence of each prompt's concept from the closest other one, at the prompt's start property."""
    others = np.where(np.eye(len(divergence), dtype=bool)[:, None], np.inf, divergence).min(-1)
    return others[np.asarray(prompts.concepts), np.asarray(prompts.start_properties) - 1]


def answers_along(model: checkpoints.Model, tokens: Int[np.ndarray, "B M"], last: int) -> Int[np.ndarray, "B T"]:
    """The likeliest token after each of the `last` tokens of the test input, under a model."""
    graph, weights = checkpoints.split(model)
    padded, length = pad_to_bucket(tokens, model.config.context), tokens.shape[1]
    return map_rows(_likeliest_everywhere, graph, weights, padded)[:, length - last : length]


def _likeliest_everywhere(model: checkpoints.Model, tokens: Int[Array, "B M"]) -> Int[Array, "B M"]:
    return model(tokens).argmax(-1).astype(jnp.int32)


def wrong(answers: dict[int, Int[np.ndarray, "B T"]], labels: Int[np.ndarray, "B T"]) -> Errors:
    return {k: 100.0 * (of_length != labels).T for k, of_length in answers.items()}


def add_reader(
    table: Table, reader: str, n: int, *, errors: Errors, apart: Float[np.ndarray, " N"], seed: int | None
) -> None:
    """Add a reader's errors, by theorem, with how they fall, and which length and divergence make them fall."""
    for k, of_length in errors.items():
        for t, values in enumerate(of_length, 1):
            add_accuracy(table, reader, n, "error", k, t, values=values, seed=seed)
    by_theorem = {
        THEOREMS[0]: {k: of_length[k - 2] for k, of_length in errors.items()},
        THEOREMS[1]: {k: of_length[: k - 1].mean(0) for k, of_length in errors.items()},
    }
    for theorem, by_length in by_theorem.items():
        for k, values in by_length.items():
            add_accuracy(table, reader, n, theorem, k, 0, values=values, seed=seed)
        for short, long in itertools.pairwise(by_length):
            add_points(
                table, reader, n, f"fall, {theorem}", long, 0, values=by_length[short] - by_length[long], seed=seed
            )
        table.add(reader, n, f"slope, {theorem}", 0, 0, values=log_slope(by_length), seed=seed)
    short, *_, long = errors
    by_examples = (errors[short] - errors[long]).mean(0)
    by_test = np.mean([of_length[short - 2] - of_length[long - 2] for of_length in errors.values()], axis=0)
    for quantity, values in (("by examples", by_examples), ("by test", by_test), ("test above", by_test - by_examples)):
        add_points(table, reader, n, quantity, long, 0, values=values, seed=seed)
    mean = np.mean([of_length.mean(0) for of_length in errors.values()], axis=0)
    table.add(reader, n, "fall by divergence", 0, 0, values=-regression(apart, mean), seed=seed)


def log_slope(errors: dict[int, Float[np.ndarray, " N"]]) -> Float[np.ndarray, " N"]:
    """N values whose mean is the slope of log(error) over log(k - 1) and whose spread gives its interval (delta
    method). An error of zero counts as one in N."""
    x = np.log([k - 1 for k in errors])
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    total = np.zeros(len(next(iter(errors.values()))))
    for weight, values in zip(weights, errors.values(), strict=True):
        mean = max(values.mean(), 100 / len(values))
        total += weight * (np.log(mean) + (values - values.mean()) / mean)
    return total


def regression(x: Float[np.ndarray, " N"], y: Float[np.ndarray, " N"]) -> Float[np.ndarray, " X"]:
    """Values whose mean is the least-squares slope of y over x and whose spread gives its interval.

    There is one for each different x: what shares its x is no independent case (a sandwich estimate by clusters).
    """
    same = np.unique(x, return_inverse=True)[1]
    x, y = x - x.mean(), y - y.mean()
    variance = (x**2).mean()
    slope = (x * y).mean() / variance
    pulls = np.bincount(same, x * (y - slope * x) / variance)
    return slope + len(pulls) / len(x) * pulls


def plot(rows: pd.DataFrame) -> Figure:
    """The errors of Theorem 3 by 1 / (k - 1), and with the longest examples by the length of the test input."""
    errors = pick(rows, quantity="error")
    least, longest = errors.num_examples.min(), errors.example_length.max()
    rows = pick(rows, num_examples=least)
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.8))
    names = [name for name in errors.reader.unique() if name not in (TOLD, SMOOTHED)]
    for name in (*one_of_each(names), TOLD, SMOOTHED):
        here = pick(rows, reader=name)
        theorem = pick(here, quantity=THEOREMS[1])
        theorem = theorem.assign(inverse=1 / (theorem.example_length - 1))
        draw_mean(left, theorem, "inverse", color=COLOURS[name], label=name)
        draw_mean(right, pick(here, quantity="error", example_length=longest), "test_length", color=COLOURS[name])
    left.set(xlabel="1 / (k - 1), k the length of examples", ylabel="error, %")
    left.set(title="mean over test inputs", xlim=(0, None), ylim=(-1, None))
    right.set(xlabel="tokens of the test input", title=f"examples of {longest} tokens", ylim=(-1, None))
    summary = over_seeds(rows)
    values = [only(summary, reader=names[0], quantity=quantity).mean for quantity in ("by examples", "by test")]
    figure.suptitle(
        "The {}'s error falls by {:.0f} points with longer examples,\nby {:.0f} with longer test inputs".format(
            names[0], *values
        ), size=11
    )  # fmt: skip
    legend_below(figure, left, 2)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """What the theorems say of the limit, of the reader that they are about and of the models that learn to be it."""
    rows, table = over_seeds(rows), []
    models = [name for name in rows.reader.unique() if name not in (TOLD, SMOOTHED, "world")]
    for name in (SMOOTHED, *models):
        of_reader = pick(rows, reader=name)
        cells = pick(of_reader, num_examples=of_reader.num_examples.max())
        table += [theorem_claim(cells, name, theorem) for theorem in THEOREMS]
        table += [length_claim(cells, name), divergence_claim(cells, rows, name)]
    return table


def theorem_claim(rows: pd.DataFrame, name: str, theorem: str) -> Claim:
    """That the error falls with k, at the rate that the paper reads from its bound."""
    falls = [as_estimate(row) for _, row in pick(rows, quantity=f"fall, {theorem}").iterrows()]
    slope = only(rows, quantity=f"slope, {theorem}")
    errors = {row.example_length: as_estimate(row) for _, row in pick(rows, quantity=theorem).iterrows()}
    return Claim(
        f"{name}: the error in the limit falls with k, roughly as 1 / k ({theorem})",
        f'g⁻¹(O(1 / (k - 1))), "roughly O(1/k)" ({theorem}; section 3.3.2)',
        f"{by_key(errors)} %, n = {rows.num_examples.max()}; log-log slope over k - 1 {show(slope, 2)}",
        [*(positive(fall) for fall in falls), no_more(slope, RATE)],
    )


def length_claim(rows: pd.DataFrame, name: str) -> Claim:
    examples, test, above = (only(rows, quantity=quantity) for quantity in ("by examples", "by test", "test above"))
    return Claim(
        f"{name}: longer test inputs lower the error more than longer examples do",
        "both are one k (Fig. 3)",
        f"longer test inputs {show(test)}, longer examples {show(examples)}, the difference {show(above)} points",
        [positive(above)],
        own=True,
    )


def divergence_claim(rows: pd.DataFrame, world: pd.DataFrame, name: str) -> Claim:
    fall = only(rows, quantity="fall by divergence")
    apart = only(world, quantity="closest divergence").mean
    return Claim(
        f"{name}: the error falls where the closest other concept is further away",
        "enough divergence makes the error vanish (Condition 1, Theorem 1)",
        f"by {show(fall, 2)} points a nat; the closest lies {apart:.1f} nats away on average",
        [positive(fall)],
        own=True,
    )
