"""Where the error in context comes from: the format of a prompt and the model. Beyond Xie et al. 2022."""

from collections import defaultdict
from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, positive, show
from figures.lab.presets import ENDS, presets
from figures.lab.runs import Models
from figures.lab.style import BLACK, GREY, MODELS, ORANGE, RANGE, SKY, WIDTH, legend_below
from figures.lab.tables import Table, only, over_seeds, pick
from figures.learning.common import Cell, add_accuracy, any_run, cells_that_fit, draw_prompts, learned, one_of_each
from icl_synth import bayes, checkpoints
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.evaluate import EXAMPLE_LENGTHS, EXAMPLES, kl_to_bayes
from icl_synth.prompt_readers import document_log_probs, least_divergent, model_log_probs
from icl_synth.prompts import Prompts

TITLE = "Where the error in context comes from: the format of prompts and the model (beyond Xie et al. 2022)"
DIFFERS = (
    "No paper makes these claims. Three readers answer the same prompts. The first is exact Bayes told the format: it "
    "knows that a prompt joins independent examples of one concept. The second is exact Bayes for documents: it takes "
    "the prompt for the beginning of one document. A document never makes the moves at which examples are joined, so "
    "it is told that one move in a million leads anywhere. The third is the model. The model's error is the sum of "
    "three parts: the error of the first reader, what the second loses to the first (the format), and what the model "
    "loses to the second (the model; negative where the model is better). The label is the likeliest token under the "
    "true concept, so even the first reader errs while the concept is open. The implied smoothing of a model is the "
    "share of moves that lead anywhere with which the reader of documents predicts most like the model: the least mean "
    "KL(reader || model) of the token after the prompt, over a grid of half decades and a parabola through its lowest "
    "point and its neighbours. Means are over every number of examples but none, for one length k. That the "
    "format costs more requires that its part less the model's be above zero; that the model adds to it requires that "
    "the model's part be above zero. That the implied smoothing tells more than a distance requires that on more "
    "prompts the model and the reader of documents give the same answer with that smoothing than with one in a "
    "million; it is chosen on one half of the prompts and asked on the other. Every length k is a part of each claim."
)
PUBLISHED = ()
PROMPT_SEED = 1125
TOLD, DOCUMENTS = "exact Bayes, told the format", "exact Bayes for documents"
EXPONENTS = np.arange(-8, 0, 0.5)  # of ten: the grid of smoothings
VANISHING = -6.0  # exponent of the reader of documents
ALL = -1  # lengths, or numbers of examples above none
PARTS = {"told": GREY, "format": SKY, "model": ORANGE}
COLOURS = {"told": BLACK, "format": RANGE}  # as drawn; a model's part has the model's
WORDS = {"told": "exact Bayes, told the format", "format": "the format"}


class Sizes(NamedTuple):
    prompts: int  # at each number and length of examples
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS
    numbers: tuple[int, ...] = EXAMPLES  # of examples


PRESETS = presets(ENDS, quick=Sizes(200, lengths=(3, 10), numbers=(0, 1, 4, 16)), small=Sizes(1000), paper=Sizes(1000))


class Read(NamedTuple):
    """Prompts as both exact readers read them: errors (100 or 0), and the reader of documents at G smoothings."""

    told_error: Float[np.ndarray, " N"]
    document_error: Float[np.ndarray, " N"]
    log_probs: Float[np.ndarray, "G N V"]


class Compared(NamedTuple):
    """One model on the prompts of a cell, beside the reader of documents at G smoothings."""

    parts: dict[str, Float[np.ndarray, " N"]]  # of the error, in points
    divergences: Float[np.ndarray, "G N"]
    agrees: Float[np.ndarray, "G N"]  # 100 where the answers are the same


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, quantity, example_length, num_examples (-1: all above none; lengths: -1 for all).

    Quantities: error (%) and its parts told, format and model (points); format_more, the part of the format less that
    of the model; smoothing (its decimal logarithm); agreement (points on held-out prompts).
    """
    table = Table("model", "quantity", "example_length", "num_examples")
    first = any_run(models).config
    hmm, _ = first.data.build()
    cells = cells_that_fit(first.model.context, sizes.lengths, sizes.numbers)
    compared: dict[tuple[str, int], dict[Cell, Compared]] = defaultdict(dict)
    prompts = draw_prompts(hmm, jax.random.key(PROMPT_SEED), sizes.prompts, cells)
    for (k, n), asked in tqdm(prompts.items(), desc="prompts", unit="cell"):
        read = read_exactly(hmm, asked, k)
        for name, errors in ((TOLD, read.told_error), (DOCUMENTS, read.document_error)):
            add_accuracy(table, name, "error", k, n, values=errors)
        for name, runs in models.items():
            for run in runs:
                compared[name, run.seed][k, n] = compare(run.model, asked, read)
    for (name, seed), by_cell in compared.items():
        add_model(table, name, seed, by_cell)
    return table.rows()


def read_exactly(hmm: ConceptHMM, prompts: Prompts, k: int) -> Read:
    told = np.asarray(bayes.prompt_log_probs(hmm, prompts.tokens, k))
    several = [np.asarray(document_log_probs(hmm, prompts.tokens, float(10.0**power))) for power in EXPONENTS]
    vanishing = several[int(np.flatnonzero(EXPONENTS == VANISHING)[0])]
    return Read(wrong(told, prompts), wrong(vanishing, prompts), np.stack(several))


def wrong(log_probs: Float[np.ndarray, "N V"], prompts: Prompts) -> Float[np.ndarray, " N"]:
    return 100.0 * (log_probs.argmax(-1) != np.asarray(prompts.labels))


def compare(model: checkpoints.Model, prompts: Prompts, read: Read) -> Compared:
    learned = model_log_probs(model, prompts)
    error = wrong(learned, prompts)
    parts = {
        "told": read.told_error,
        "format": read.document_error - read.told_error,
        "model": error - read.document_error,
    }
    same_tokens = learned[:, : read.log_probs.shape[-1]]
    divergences = np.stack([kl_to_bayes(exact, same_tokens) for exact in read.log_probs])
    return Compared(parts, divergences, 100.0 * (read.log_probs.argmax(-1) == learned.argmax(-1)))


def add_model(table: Table, name: str, seed: int, by_cell: dict[Cell, Compared]) -> None:
    """The parts of a model's error in every cell and over all numbers of examples; its implied smoothing by length."""
    for (k, n), compared in by_cell.items():
        add_accuracy(table, name, "error", k, n, values=np.sum(list(compared.parts.values()), 0), seed=seed)
        for part in ("format", "model"):
            add_accuracy(table, name, part, k, n, values=compared.parts[part], seed=seed)
    lengths = list(dict.fromkeys(k for k, _ in by_cell))
    for k in (*lengths, ALL):
        spliced = [compared for (length, n), compared in by_cell.items() if n and k in (length, ALL)]
        means = {part: np.mean([compared.parts[part] for compared in spliced], 0) for part in PARTS}
        for part, values in means.items():
            add_accuracy(table, name, part, k, ALL, values=values, seed=seed)
        add_accuracy(table, name, "format_more", k, ALL, values=means["format"] - means["model"], seed=seed)
        divergences = np.mean([compared.divergences for compared in spliced], 0)
        table.add(name, "smoothing", k, ALL, values=least_divergent(EXPONENTS, divergences), seed=seed)
        agrees = np.mean([compared.agrees for compared in spliced], 0)
        add_accuracy(table, name, "agreement", k, ALL, values=held_out_agreement(divergences, agrees), seed=seed)


def held_out_agreement(
    divergences: Float[np.ndarray, "G N"], agrees: Float[np.ndarray, "G N"]
) -> Float[np.ndarray, " M"]:
    """How much more a model agrees with the reader at the smoothing nearest to it on the even prompts than with the one
    whose smoothing all but vanishes, on the odd prompts (points)."""
    nearest = divergences[:, ::2].mean(1).argmin()
    return agrees[nearest, 1::2] - agrees[EXPONENTS == VANISHING][0, 1::2]


def plot(rows: pd.DataFrame) -> Figure:
    """The parts of the errors by length, means over n, and the implied smoothing."""
    rows = over_seeds(rows)
    names = one_of_each(learned(rows, TOLD, DOCUMENTS))[:2]
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.6), width_ratios=(2, 1))
    draw_parts(left, pick(rows, num_examples=ALL), names)
    draw_smoothing(right, pick(rows, quantity="smoothing"), names)
    figure.suptitle(finding(rows, names[0]), size=11)
    legend_below(figure, left, 4)
    return figure


def finding(rows: pd.DataFrame, name: str) -> str:
    """What the format and the model cost with the shortest and with the longest examples."""
    here = pick(rows, model=name, num_examples=ALL)
    ends = all_lengths(here)[0], all_lengths(here)[-1]
    costs = [[round(only(here, quantity=part, example_length=k).mean) for part in ("format", "model")] for k in ends]
    return (
        f"At k = {ends[0]} the format costs {costs[0][0]} points and the {name} {costs[0][1]} more;\n"
        f"at k = {ends[1]}, {costs[1][0]} and {costs[1][1]}"
    )


def all_lengths(rows: pd.DataFrame) -> list[int]:
    return [k for k in sorted(rows.example_length.unique()) if k != ALL]


def draw_parts(panel: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    """A bar for each model at each length, of three parts; a part below zero hangs below the axis."""
    for place, k in enumerate(all_lengths(rows)):
        for index, name in enumerate(names):
            here, heights = pick(rows, model=name, example_length=k), {True: 0.0, False: 0.0}
            for part, colour in (COLOURS | {"model": MODELS[name]}).items():
                value = only(here, quantity=part)
                label = WORDS.get(part, name) if not place and (part == "model" or not index) else None
                panel.bar(
                    place + 0.4 * index - 0.2, value.mean, 0.36, heights[value.mean >= 0], color=colour, label=label
                )
                heights[value.mean >= 0] += value.mean
            panel.errorbar(
                place + 0.4 * index - 0.2, heights[value.mean >= 0], value.half_width, color=BLACK, elinewidth=0.8
            )
    panel.axhline(0, color=BLACK, lw=0.6)
    panel.grid(visible=False, axis="x")
    panel.set(title="error after examples, %", xlabel="length k of examples")
    panel.set_xticks(range(len(all_lengths(rows))), [str(k) for k in all_lengths(rows)])


def draw_smoothing(panel: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    """By length, beside that of the reader of documents."""
    shown = all_lengths(rows)
    for shift, name in enumerate(names):
        line = pick(rows, model=name).set_index("example_length").loc[shown]
        x = np.arange(len(shown)) + 0.1 * (shift - (len(names) - 1) / 2)
        panel.errorbar(x, line.value, line.half_width, marker="o", ms=4, lw=1, color=MODELS[name])
    panel.axhline(VANISHING, color=GREY, ls=":", lw=1)
    panel.set_xticks(range(len(shown)), [str(k) for k in shown])
    panel.yaxis.set_major_formatter(lambda power, _: f"$10^{{{power:g}}}$")
    panel.set(title="implied smoothing", xlabel="length k of examples")


def claims(rows: pd.DataFrame) -> list[Claim]:
    """The format costs more than the model, the model adds to it, and its smoothing says more than a distance."""
    rows = over_seeds(rows)
    table = []
    for name in learned(rows, TOLD, DOCUMENTS):
        for quantity, claim in (
            ("format_more", "the format costs it more points than its distance from exact Bayes for documents"),
            ("model", "it errs more often than exact Bayes for documents"),
            ("agreement", "it answers more like exact Bayes for documents at its implied smoothing than at 1e-6"),
        ):
            here = pick(rows, model=name, quantity=quantity, num_examples=ALL)
            parts = {k: only(here, example_length=k) for k in here.example_length.unique() if k != ALL}
            table.append(
                Claim(
                    f"{name}: {claim}",
                    "no claim of a paper's",
                    ", ".join(f"k = {k}: {show(part)}" for k, part in parts.items())
                    + " points"
                    + beside(rows, name, quantity),
                    [positive(part) for part in parts.values()],
                    own=True,
                    headline=quantity == "format_more" and name == "transformer",
                )
            )
    return table


def beside(rows: pd.DataFrame, name: str, quantity: str) -> str:
    """The implied smoothing, which the claim about agreement speaks of."""
    if quantity != "agreement":
        return ""
    implied = only(rows, model=name, quantity="smoothing", example_length=ALL)
    return f"; implied smoothing 10^({show(implied, 2)})"
