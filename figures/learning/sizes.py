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
from figures.lab.style import MODELS, PUBLISHED_LINE, RANGE, WIDTH, legend_below
from figures.lab.tables import Table, as_estimate, only, over_seeds, pick
from figures.learning.common import (
    PAPER_MOST,
    Cell,
    add_accuracy,
    add_points,
    any_run,
    as_printed,
    by_key,
    cells_that_fit,
    draw_mean,
    draw_prompts,
    lengths_of,
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
    "larger is better in context requires that its accuracy with the most examples that fit be above that of the "
    "smaller at each of the paper's lengths k."
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
    """Accuracy with the most examples at one length, k = 5 where it was asked, by size and by loss."""
    summary = over_seeds(rows)
    losses, lengths = pick(summary, quantity="excess").set_index("model").value, lengths_of(rows)
    k = 5 if 5 in lengths else lengths[-1]
    cells = pick(rows, quantity="accuracy", example_length=k)
    most = cells.num_examples.max()
    cells = pick(cells, num_examples=most).assign(excess=lambda cells: cells.model.map(losses))
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.8), sharey=True)
    for which in ("transformer", "LSTM"):
        line = cells[cells.model.map(kind) == which]
        draw_mean(left, line, "parameters", color=MODELS[which], label=f"{which}s, n = {most}")
        draw_mean(right, line, "excess", color=MODELS[which], ls="none")
    theirs = [quoted(name, k, PAPER_MOST) for name in PAPER_PARAMETERS]
    label = f"Xie et al. 2022, 4, 12, 16 layers, n = {PAPER_MOST}"
    left.plot(list(PAPER_PARAMETERS.values()), theirs, label=label, **PUBLISHED_LINE)
    name_losses(right, over_seeds(cells))
    left.set(xscale="log", xlabel="parameters", ylabel=f"accuracy at k = {k}, %", title="by size", ylim=(0, 102))
    legend_below(figure, left, 3)
    figure.suptitle(finding(summary, k, most), size=11)
    return figure


def finding(rows: pd.DataFrame, k: int, most: int) -> str:
    """Whether the larger of two models of equal loss is better; without such a pair, what a lower loss is worth."""
    equal = equal_losses(rows)
    if equal:
        more = [pick(rows, model=large, quantity="more_accuracy") for _, large in equal]
        better = [all(positive(as_estimate(row)).verdict == "holds" for _, row in of.iterrows()) for of in more]
        return f"Of two models of equal loss the larger is clearly better in {sum(better)} of {len(equal)} pairs"
    losses = pick(rows, quantity="excess").sort_values("value").model
    best, worst = (
        only(rows, model=losses.iloc[end], quantity="accuracy", example_length=k, num_examples=most).mean
        for end in (0, -1)
    )
    return (
        f"No neighbours in size have equal losses:\nthe lowest loss goes with {best:.0f} % right, the highest with "
        f"{worst:.0f} %"
    )


def name_losses(panel: Axes, line: pd.DataFrame) -> None:
    """The names of the models below their points, neighbours at different heights."""
    for place, (_, row) in enumerate(line.sort_values("excess").iterrows()):
        height = 4 + 7 * (place % 6)
        panel.vlines(row.excess, height, row.value, color=RANGE, lw=0.8, zorder=1)
        name = row.model.removeprefix("transformer, ").replace(", width", "")
        panel.text(row.excess, height, name, size=8, ha="center", va="center", color=MODELS[kind(row.model)],
                   bbox={"fc": "white", "ec": "none", "pad": 1})  # fmt: skip
    panel.margins(x=0.15)
    panel.set(xscale="log", xlabel="loss above exact Bayes, nats per token", title="by loss")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
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
        f"{by_key(of_paper)} %, n = 64, from 12 to 16 layers of equal loss (Fig. 5); by our rule {verdict(findings)}"
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
        f"{by_key(parts)} points, {show(loss, 4)} nats per token",
        [positive(part) for part in parts.values()],
    )
