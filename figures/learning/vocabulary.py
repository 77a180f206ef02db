"""Vocabularies of 50, 100 and 150 tokens: loss and accuracy in context (Xie et al. 2022, Fig. 3, 6 and the tables)."""

from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, above, judged, show
from figures.lab.presets import KINDS, Suite, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLACK, MODELS, PUBLISHED_MODELS, draw_line, legend_below
from figures.lab.tables import Table, only, over_seeds, pick, published
from figures.learning.common import (
    add_accuracy,
    draw_prompts,
    extreme_cells,
    learned,
    lengths_of,
    percent_right,
    published_beside,
    published_model,
    quoted,
)
from icl_synth import bayes
from icl_synth.evaluate import EXAMPLE_LENGTHS, EXAMPLES, Estimate, compare_with_bayes
from icl_synth.train import validation_documents

TITLE = "Loss and in-context accuracy by the size of the vocabulary (Xie et al. 2022, Fig. 3 and 6)"
DIFFERS = (
    "In all worlds of the paper 90 pairs of an entity and a property emit tokens drawn from the vocabulary. With 50 "
    "tokens most pairs share theirs with another pair, with 150 tokens fewer than half do, so that a token tells more "
    "of the hidden state. The official worlds differ in more than that: another vocabulary moves the stream of random "
    "numbers, so property matrices differ too. The entropies of their moves have the order of the losses. The effect "
    "of the vocabulary cannot be told apart from that of the matrices, here or in the paper. `small` trains a "
    "transformer of 0.3 M parameters on four million tokens, a third of `learning/accuracy`'s, and an LSTM on eight, "
    "four tenths. Training documents never repeat in `quick` and `small`, so the loss on training documents equals "
    "that on held-back ones but for noise, and one number stands for both; the paper's is its validation loss. "
    "Held-back documents and prompts are the same for all seeds and models of a world. Accuracy is shown without "
    "examples and with the most that fit, 32 for k = 3 and 5, 16 for k = 8 and 10 (the paper: 64). A claim *holds* "
    "where the 95 % intervals do not overlap and holds *partly* where only the means have the claimed order; a claim "
    "about several cells asks this of every one."
)
PUBLISHED = ("xie2022*.csv",)
PROMPT_SEED = 1121
TOLD = "exact Bayes, told the format"


class Sizes(NamedTuple):
    prompts: int  # of each world, at each number and length of examples
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS
    numbers: tuple[int, ...] = EXAMPLES  # of examples


def by_vocabulary(suite: Suite, **other: str) -> Suite:
    """The models of a suite in worlds of few to many tokens; `other` trains a model by another training preset."""
    models = {name: other.get(training, training) for name, training in suite.models.items()}
    sizes = {f"{name}, V = {size}": f"{like}-v{size}" for name, like in models.items() for size in (50, 100, 150)}
    return Suite(sizes, suite.seeds)


SUITES = {name: by_vocabulary(kinds, **{"paper-4l": "paper"}) for name, kinds in KINDS.items()}
PRESETS = presets(SUITES, quick=Sizes(200), small=Sizes(1000), paper=Sizes(1000))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, vocab_size, quantity, example_length, num_examples.

    Quantities: loss (nats per token on held-back documents), excess (the same above exact Bayes), accuracy (%).
    """
    table = Table("model", "vocab_size", "quantity", "example_length", "num_examples")
    worlds: dict[int, list[tuple[str, Run]]] = {}
    for name, runs in models.items():
        for run in runs:
            worlds.setdefault(run.config.data.vocab_size, []).append((name.rsplit(", V = ")[0], run))
    for size, runs_of_world in tqdm(worlds.items(), desc="vocabularies", unit="world"):
        add_losses(table, size, runs_of_world)
        add_accuracies(table, size, runs_of_world, sizes)
    return table.rows()


def add_losses(table: Table, size: int, runs: list[tuple[str, Run]]) -> None:
    """Losses on the held-back documents of a world."""
    config = runs[0][1].config
    hmm, _ = config.data.build()
    tokens, _ = validation_documents(config)
    for name, run in runs:
        against = compare_with_bayes(run.model, hmm, tokens)
        table.add(name, size, "loss", 0, 0, seed=run.seed, values=against.model_loss.mean(-1))
        table.add(name, size, "excess", 0, 0, seed=run.seed, values=against.excess.mean(-1))
    table.add(TOLD, size, "loss", 0, 0, values=against.bayes_loss.mean(-1))


def add_accuracies(table: Table, size: int, runs: list[tuple[str, Run]], sizes: Sizes) -> None:
    """Accuracy on prompts of a world, without examples and with the most that fit."""
    hmm, _ = runs[0][1].config.data.build()
    cells = extreme_cells(min(run.config.model.context for _, run in runs), sizes.lengths, sizes.numbers)
    for cell, prompts in draw_prompts(hmm, jax.random.key(PROMPT_SEED), sizes.prompts, cells).items():
        for name, run in runs:
            right = percent_right(run.model, prompts)
            add_accuracy(table, name, size, "accuracy", *cell, values=right, seed=run.seed)
        told = np.asarray(bayes.prompt_log_probs(hmm, prompts.tokens, cell[0])).argmax(-1)
        right = 100.0 * (told == np.asarray(prompts.labels))
        add_accuracy(table, TOLD, size, "accuracy", *cell, values=right)


def plot(rows: pd.DataFrame) -> Figure:
    rows = over_seeds(rows)
    sizes, lengths = sorted(rows.vocab_size.unique()), lengths_of(rows)
    figure, (left, *panels) = plt.subplots(1, 1 + len(lengths), figsize=(3 + 3 * len(lengths), 4.4))
    beside = published_beside(learned(rows, TOLD))
    draw_losses(left, pick(rows, quantity="loss"), beside)
    left.set(title="loss on held-back documents", ylabel="nats per token")
    for panel, k in zip(panels, lengths, strict=True):
        draw_accuracies(panel, pick(rows, quantity="accuracy", example_length=k), beside, k)
        panel.set(title=f"k = {k}", ylim=(0, 104))
    panels[0].set_ylabel("accuracy, %")
    for panel in (left, *panels):
        panel.set(xlabel="tokens in the vocabulary, V", xticks=sizes)
    left.plot([], [], "-", color="#555555", label="most examples (64 in the paper)")
    left.plot([], [], ":", color="#555555", label="no examples")
    legend_below(figure, left, 4)
    return figure


def draw_losses(panel: Axes, rows: pd.DataFrame, beside: list[str]) -> None:
    """Losses by vocabulary: the paper's, ours, exact Bayes."""
    for name in beside:
        line = published("xie2022_loss", model=name)
        panel.plot(line.vocab_size, line.validation_loss, "s--", lw=0.9, mfc="white", color=PUBLISHED_MODELS[name],
                   label=f"Xie et al. 2022: {name}")  # fmt: skip
    for name in learned(rows, TOLD):
        line = pick(rows, model=name)
        panel.errorbar(line.vocab_size, line.value, None, marker="o", color=MODELS[name], label=f"ours: {name}")
    exact = pick(rows, model=TOLD)
    panel.plot(exact.vocab_size, exact.value, "--", color=BLACK, label="exact Bayes")


def draw_accuracies(panel: Axes, rows: pd.DataFrame, beside: list[str], k: int) -> None:
    """Accuracy by vocabulary at one length, without examples and with the most: the paper's and ours."""
    for name in beside:
        for n, dashes in ((0, ":"), (64, "--")):
            line = published("xie2022_accuracy", model=name, example_length=k, num_examples=n)
            panel.plot(line.vocab_size, line.accuracy_percent, dashes, marker="s", lw=0.9, mfc="white",
                       color=PUBLISHED_MODELS[name])  # fmt: skip
    for name in (*learned(rows, TOLD), TOLD):
        lines = pick(rows, model=name)
        for n, dashes in ((0, ":"), (lines.num_examples.max(), "-")):
            draw_line(panel, pick(lines, num_examples=n), "vocab_size", ls=dashes, marker="o",
                      color=MODELS.get(name, BLACK), ms=3 if name == TOLD else 5)  # fmt: skip


def accuracy(rows: pd.DataFrame, model: str, size: int, k: int) -> tuple[Estimate, Estimate]:
    """Without examples and with the most that fit."""
    cell = pick(rows, model=model, vocab_size=size, quantity="accuracy", example_length=k)
    return only(cell, num_examples=0), only(cell, num_examples=cell.num_examples.max())


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Loss by vocabulary, accuracy by vocabulary, growth by n in each, the LSTM beside the transformer."""
    rows = over_seeds(rows)
    table, names = [], learned(rows, TOLD)
    for name in names:
        table += [loss_claim(rows, name), *(size_claim(rows, name, k) for k in (3, 10)), growth_claim(rows, name)]
    transformers = [name for name in names if name != "LSTM"]
    if transformers and "LSTM" in names:
        table += [lstm_claim(rows, transformers[-1], size) for size in sorted(rows.vocab_size.unique())]
    return table


def loss_claim(rows: pd.DataFrame, name: str) -> Claim:
    """Of three vocabularies, from few to many tokens."""
    sizes, theirs = sorted(rows.vocab_size.unique()), published_model(name)
    paper = (published("xie2022_loss", model=theirs, vocab_size=size).validation_loss.iloc[0] for size in sizes)
    loss, beyond = ([only(rows, model=name, vocab_size=size, quantity=q) for size in sizes] for q in ("loss", "excess"))
    exact = [only(rows, model=TOLD, vocab_size=size, quantity="loss").mean for size in sizes]
    orders = above(loss[1], loss[0]), above(loss[0], loss[2])
    return Claim(
        f"{name}: the loss is highest with 100 tokens, lowest with 150",
        f"{', '.join(f'{value:.2f}' for value in paper)} nats for V = {', '.join(map(str, sizes))} ({theirs}; table)",
        f"{', '.join(show(value, 3) for value in loss)} nats, {', '.join(show(value, 3) for value in beyond)} above "
        f"exact Bayes ({', '.join(f'{value:.3f}' for value in exact)})",
        judged(orders == ("holds", "holds"), "fails" not in orders),
    )


def size_claim(rows: pd.DataFrame, name: str, k: int) -> Claim:
    theirs, (few, *_, many) = published_model(name), sorted(rows.vocab_size.unique())
    (_, low), (_, high) = (accuracy(rows, name, size, k) for size in (few, many))
    return Claim(
        f"{name}, k = {k}: accuracy is higher with {many} tokens than with {few}",
        f"{quoted(theirs, k, 64, few)} → {quoted(theirs, k, 64, many)} %, n = 64 ({theirs}; Fig. 3)",
        f"{show(low)} → {show(high)} %, the most examples",
        above(high, low),
    )


def growth_claim(rows: pd.DataFrame, name: str) -> Claim:
    theirs = published_model(name)
    cells = pick(rows, model=name, quantity="accuracy")[["vocab_size", "example_length"]].drop_duplicates()
    ends = [accuracy(rows, name, size, k) for size, k in cells.itertuples(index=False)]
    verdicts = [above(full, zero) for zero, full in ends]
    apart, grown = (sum(verdict in good for verdict in verdicts) for good in (("holds",), ("holds", "partly")))
    return Claim(
        f"{name}: accuracy grows with examples in every vocabulary and for every length",
        f"in all 12 cells ({theirs}; Fig. 3 and 6)",
        f"grows in {grown} of {len(ends)} cells, intervals apart in {apart}",
        judged(apart == len(ends), grown == len(ends)),
    )


def lstm_claim(rows: pd.DataFrame, transformer: str, size: int) -> Claim:
    (_, lstm), (_, other) = (accuracy(rows, name, size, 10) for name in ("LSTM", transformer))
    theirs = (quoted(name, 10, 64, size) for name in ("LSTM", "transformer, 16 layers"))
    return Claim(
        f"V = {size}, k = 10: the LSTM answers prompts more accurately than the transformer",
        f"{' against '.join(map(str, theirs))} % (16 layers), n = 64 (Fig. 6)",
        f"{show(lstm)} against {show(other)} %",
        above(lstm, other),
    )
