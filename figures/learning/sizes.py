"""Is the larger model better in context at equal loss? Sizes of one recipe on the same prompts (Xie et al. 2022)."""

import itertools
from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy import ndarray
from tqdm import tqdm

from figures.lab.claims import Claim, difference, near_zero, positive, show
from figures.lab.measure import excess, held_back, parameters
from figures.lab.presets import ONE_SEED, SEEDS, WIDTHS, Suite, presets
from figures.lab.runs import Models
from figures.lab.style import BLACK, draw_line, legend_below
from figures.lab.tables import Table, only, over_seeds, pick
from figures.learning.common import (
    LENGTH_COLOURS,
    Cell,
    add_accuracy,
    add_points,
    any_run,
    as_printed,
    cells_that_fit,
    draw_prompts,
    lengths_of,
    listed,
    most_by_length,
    percent_right,
    quoted,
    quoted_estimate,
    verdict,
)
from icl_synth.evaluate import EXAMPLE_LENGTHS, EXAMPLES

TITLE = "Accuracy in context by the size of the model, at equal loss (Xie et al. 2022, Fig. 5)"
DIFFERS = (
    "The paper's sizes are GPT-2 of 4, 12 and 16 layers, of which the last two end at the same loss (drawn by size "
    "alone, since losses are known to two decimals). Ours are transformers of one recipe with 0.05 to 4.7 M parameters "
    "and two LSTMs, each trained near its own best loss. Loss and accuracy of each size are compared with those of the "
    "next larger on the same documents and prompts, by pairs of one seed. The largest transformer has one seed, so "
    "that what is said of it is about that model: its interval is over documents and prompts. Losses count as equal "
    "where the whole 95 % interval of their paired difference lies within 0.01 nats per token of zero, the last "
    "decimal to which the paper's losses agree. All neighbours in size whose losses are equal are judged: that the "
    "larger is better in context asks that its accuracy with the most examples that fit be above that of the smaller "
    "at each of the paper's lengths k."
)
PUBLISHED = ("xie2022*.csv",)
PROMPT_SEED, EQUAL = 1118, 0.01  # nats per token
# GPT-2 of width 768: matrices of the layers, embeddings of tokens and positions
PAPER_PARAMETERS = {
    f"transformer, {depth} layers": depth * 12 * 768**2 + 51 * 768 + 1024 * 768 for depth in (4, 12, 16)
}
LSTMS = {
    "quick": {"LSTM, width 128": "quick-lstm"},
    "small": {"LSTM, width 64": "small-lstm-w64", "LSTM, width 128": "small-lstm"},
    "paper": {"LSTM": "paper-lstm"},
}


class Sizes(NamedTuple):
    prompts: int  # at each number and length of examples
    documents: int
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS
    numbers: tuple[int, ...] = EXAMPLES  # of examples


# transformers and LSTMs from small to large
SUITES = {name: Suite(WIDTHS[name] | lstms, SEEDS[name], ONE_SEED) for name, lstms in LSTMS.items()}
PRESETS = presets(
    SUITES, quick=Sizes(100, 128, lengths=(3, 10), numbers=(0, 1, 4, 16)), small=Sizes(500, 512), paper=Sizes(500, 100)
)


class Measured(NamedTuple):
    """Losses of a model by document, and its right answers in percent by prompt."""

    loss: Float[ndarray, " B"]
    right: dict[Cell, Float[ndarray, " N"]]


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, parameters, quantity, example_length, num_examples.

    Quantities: excess (nats per token over exact Bayes), accuracy (%), and more_excess, more_accuracy: how much more
    than the next smaller model has, paired; more_accuracy at the most examples that fit.
    """
    table = Table("model", "parameters", "quantity", "example_length", "num_examples")
    hmm, _ = any_run(models).config.data.build()
    documents = held_back(any_run(models), sizes.documents)
    runs = [(name, run) for name, several in models.items() for run in several]
    cells = cells_that_fit(min(run.config.model.context for _, run in runs), sizes.lengths, sizes.numbers)
    prompts = draw_prompts(hmm, jax.random.key(PROMPT_SEED), sizes.prompts, cells)
    before: dict[tuple[str, int], Measured] = {}  # of each kind and seed, the next smaller model
    for name, run in tqdm(runs, desc="sizes", unit="model"):
        who = name, parameters(run.model)
        right = {cell: percent_right(run.model, asked) for cell, asked in prompts.items()}
        model = Measured(excess(run.model, documents), right)
        table.add(*who, "excess", 0, 0, seed=run.seed, values=model.loss)
        for cell, values in model.right.items():
            add_accuracy(table, *who, "accuracy", *cell, values=values, seed=run.seed)
        smaller = before.get((kind(name), run.seed))
        if smaller:
            table.add(*who, "more_excess", 0, 0, seed=run.seed, values=model.loss - smaller.loss)
            for cell in most_by_length(cells).items():
                more = model.right[cell] - smaller.right[cell]
                add_points(table, *who, "more_accuracy", *cell, values=more, seed=run.seed)
        before[kind(name), run.seed] = model
    return table.rows()


def kind(model: str) -> str:
    return "LSTM" if model.startswith("LSTM") else "transformer"


def plot(rows: pd.DataFrame) -> Figure:
    rows = over_seeds(rows)
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5.4), sharey=True)
    losses = pick(rows, quantity="excess").set_index("model").value.sort_values()
    for k in lengths_of(rows):
        colour = LENGTH_COLOURS[k]
        draw_length(left, right, pick(rows, quantity="accuracy", example_length=k), losses, colour)
        theirs = [quoted(name, k, 64) for name in PAPER_PARAMETERS]
        left.plot(list(PAPER_PARAMETERS.values()), theirs, "X--", color=colour, lw=1, ms=7)
    left.plot([], [], "o", color=BLACK, label="transformers")
    left.plot([], [], "s", color=BLACK, label="LSTMs")
    left.plot([], [], "X--", color=BLACK, lw=1, ms=7, label="Xie et al., 4, 12, 16 layers, n = 64")
    left.set(xscale="log", xlabel="parameters", ylabel="accuracy, %", title="by size", ylim=(0, 102))
    name_losses(right, losses)
    legend_below(figure, left, 4)
    return figure


def draw_length(left: Axes, right: Axes, rows: pd.DataFrame, losses: pd.Series, colour: str) -> None:
    """Accuracy at one length of examples, by size and by loss."""
    for marker, which in (("o", "transformer"), ("s", "LSTM")):
        lines = rows[rows.model.map(kind) == which]
        zero, full = (pick(lines, num_examples=n) for n in (0, lines.num_examples.max()))
        k, most = rows.example_length.max(), lines.num_examples.max()
        labels = (f"k = {k}, n = {most}", f"k = {k}, n = 0") if which == "transformer" else (None, None)
        style = {"color": colour, "marker": marker}
        draw_line(left, full, "parameters", **style, label=labels[0])
        draw_line(left, zero, "parameters", **style, ls=":", mfc="white", label=labels[1])
        draw_line(right, full.assign(excess=full.model.map(losses)), "excess", **style)


def name_losses(panel: Axes, losses: pd.Series) -> None:
    """The models' names at their losses, neighbours at different heights."""
    for place, (model, at) in enumerate(losses.items()):
        height = 3 + 6 * (place % 4)
        panel.vlines(at, height, 30, color="#bbbbbb", lw=0.8, ls=":")
        panel.text(at, height, str(model).removeprefix("transformer, "), size=8, ha="center", va="center",
                   bbox={"fc": "white", "ec": "none", "pad": 1})  # fmt: skip
    panel.margins(x=0.1)
    panel.set(xscale="log", xlabel="loss above exact Bayes, nats per token", title="by loss, n as on the left")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5)))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.minorticks_off()


def equal_losses(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Neighbours in size of one kind whose losses are equal, by the whole interval of their difference."""
    return [
        (small, large)
        for small, large in itertools.pairwise(rows.model.unique())
        if kind(small) == kind(large)
        and near_zero(only(rows, model=large, quantity="more_excess"), EQUAL).verdict == "holds"
    ]


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Of two models of equal loss, the larger is better in context."""
    rows = over_seeds(rows)
    lengths = lengths_of(rows)
    twelve, sixteen = (f"transformer, {depth} layers" for depth in (12, 16))
    of_paper = {k: f"{as_printed(twelve, k, 64)} → {as_printed(sixteen, k, 64)}" for k in lengths}
    findings = [positive(difference(quoted_estimate(sixteen, k, 64), quoted_estimate(twelve, k, 64))) for k in lengths]
    paper = (
        f"{listed(of_paper)} %, n = 64, from 12 to 16 layers of equal loss (Fig. 5); by our rule {verdict(findings)}"
    )
    claim = "of two models of equal loss the larger is better in context"
    equal = equal_losses(rows)
    if not equal:
        return [Claim(claim, paper, "no two neighbours in size have equal losses", [])]
    return [equal_claim(rows, f"{claim}: {small} → {large}", paper, large) for small, large in equal]


def equal_claim(rows: pd.DataFrame, claim: str, paper: str, large: str) -> Claim:
    more = pick(rows, model=large, quantity="more_accuracy")
    parts = {k: only(more, example_length=k) for k in lengths_of(rows)}
    loss = only(rows, model=large, quantity="more_excess")
    return Claim(
        claim,
        paper,
        f"{listed(parts)} points, {show(loss, 4)} nats per token",
        [positive(part) for part in parts.values()],
    )
