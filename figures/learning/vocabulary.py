"""Vocabularies of 50, 100 and 150 tokens: loss and accuracy in context (Xie et al. 2022, Fig. 3, 6 and the tables)."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, difference, positive, show
from figures.lab.presets import KINDS, NAMES, SEEDS, Suite, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLACK, MODELS, PUBLISHED_MODELS, draw_line, legend_below, panels
from figures.lab.tables import Table, only, over_seeds, pick, published
from figures.learning.common import (
    PAPER_MOST,
    TOLD,
    Right,
    add_difference,
    add_growth,
    answers_by_cell,
    beside_lstm,
    cells_that_fit,
    growth_claim,
    learned,
    lengths_of,
    listed,
    lstm_claim,
    nested_prompts,
    published_beside,
    published_model,
    quoted_estimate,
    tally,
    told_by_cell,
    verdict,
)
from icl_synth.estimates import Estimate
from icl_synth.evaluate import EXAMPLE_LENGTHS, EXAMPLES, compare_with_bayes
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
    "that on held-back ones but for noise, and one number stands for both; the paper's is its validation loss. Held- "
    "back documents and prompts are the same for all seeds and models of a world. The picture shows the shortest and "
    "the longest examples. The most examples that fit are 32 for k = 3 and 5 and 16 for k = 8 and 10 (the paper: 64). "
    "The order of losses asks for the loss at V = 100 less that at 50, and that at 50 less that at 150, above zero. "
    "Growth with V asks, at each k with the most examples, for accuracy at each V less that at the next smaller one; "
    "growth with n, at each V and k, for accuracy with the most examples less that without any; the LSTM's lead, at "
    "each V, k and n, for its accuracy less the transformer's on the same prompts, seed by seed: all above zero. "
    "Worlds of different V share no documents and prompts, so that their differences are not paired."
)
PUBLISHED = ("xie2022*.csv",)
PROMPT_SEED = 1121
LEAD = "LSTM less"  # its accuracy less that of the transformer of the row


class Sizes(NamedTuple):
    prompts: int  # of each world, at each number and length of examples
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS
    numbers: tuple[int, ...] = EXAMPLES  # of examples


def by_vocabulary(preset: str, **other: str) -> Suite:
    """The models of KINDS in worlds of few to many tokens; `other` trains a model by another training preset."""
    models = {name: other.get(training, training) for name, training in KINDS[preset].models.items()}
    sizes = {f"{name}, V = {size}": f"{like}-v{size}" for name, like in models.items() for size in (50, 100, 150)}
    return Suite(sizes, SEEDS[preset])


SUITES = {name: by_vocabulary(name, **{"paper-4l": "paper"}) for name in NAMES}
PRESETS = presets(
    SUITES, quick=Sizes(200, lengths=(3, 10), numbers=(0, 1, 4, 16)), small=Sizes(1000), paper=Sizes(1000)
)


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, vocab_size, quantity, example_length, num_examples.

    Quantities: loss (nats per token on held-back documents), excess (the same above exact Bayes), accuracy (%) and
    gain (points, `add_growth`), and LSTM less (the LSTM's accuracy less the model's, points).
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
    """Accuracy on the prompts of a world."""
    hmm, _ = runs[0][1].config.data.build()
    cells = cells_that_fit(min(run.config.model.context for _, run in runs), sizes.lengths, sizes.numbers)
    prompts = nested_prompts(hmm, jax.random.key(PROMPT_SEED), sizes.prompts, cells)
    right: dict[str, dict[int, Right]] = {}
    for name, run in runs:
        answered = right.setdefault(name, {})[run.seed] = answers_by_cell(run.model, prompts)
        add_growth(table, name, size, right=answered, seed=run.seed)
    for name in beside_lstm(list(right)):
        add_difference(table, name, size, LEAD, high=right["LSTM"], low=right[name])
    add_growth(table, TOLD, size, right=told_by_cell(hmm, prompts), seed=None)


def plot(rows: pd.DataFrame) -> Figure:
    """The losses, and accuracy at the shortest and the longest examples."""
    rows = over_seeds(rows)
    sizes, lengths = sorted(rows.vocab_size.unique()), lengths_of(rows)
    shown = list(dict.fromkeys((lengths[0], lengths[-1])))
    figure, (left, *others) = panels(1 + len(shown), 1 + len(shown), 7.5 / (1 + len(shown)), 4.2)
    names = learned(rows, TOLD)
    beside = published_beside(names)
    draw_losses(left, pick(rows, quantity="loss"), beside)
    left.set(title="loss, nats per token")
    for panel, k in zip(others, shown, strict=True):
        draw_accuracies(panel, pick(rows, quantity="accuracy", example_length=k), beside, k)
        panel.set(title=f"accuracy, %, k = {k}", ylim=(0, 104))
    for panel in (left, *others):
        panel.set(xlabel="tokens, V", xticks=sizes)
    left.plot([], [], "-", color="#555555", label="most examples (64 in the paper)")
    left.plot([], [], ":", color="#555555", label="no examples")
    k = shown[-1]
    best = [most_accuracy(rows, names[0], size, k).mean for size in sizes]
    figure.suptitle(f"{names[0]}, k = {k}: {' → '.join(f'{value:.0f}' for value in best)} % with "
                    f"{' → '.join(map(str, sizes))} tokens", fontsize=11)  # fmt: skip
    legend_below(figure, left, 2, fontsize=8)
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
        for n, dashes in ((0, ":"), (PAPER_MOST, "--")):
            line = published("xie2022_accuracy", model=name, example_length=k, num_examples=n)
            panel.errorbar(line.vocab_size, line.accuracy_percent, line.interval_percent, ls=dashes, marker="s", ms=4,
                           lw=0.9, mfc="white", elinewidth=0.7, color=PUBLISHED_MODELS[name])  # fmt: skip
    for name in (*learned(rows, TOLD), TOLD):
        lines = pick(rows, model=name)
        for n, dashes in ((0, ":"), (lines.num_examples.max(), "-")):
            draw_line(panel, pick(lines, num_examples=n), "vocab_size", ls=dashes, marker="o",
                      color=MODELS.get(name, BLACK), ms=3 if name == TOLD else 5)  # fmt: skip


def most_accuracy(rows: pd.DataFrame, model: str, size: int, k: int) -> Estimate:
    """With the most examples that fit."""
    cell = pick(rows, model=model, vocab_size=size, quantity="accuracy", example_length=k)
    return only(cell, num_examples=cell.num_examples.max())


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Loss by vocabulary, accuracy by vocabulary, growth by n in each, the LSTM beside the transformers."""
    rows = over_seeds(rows)
    table, names, sizes = [], learned(rows, TOLD), sorted(rows.vocab_size.unique())
    for name in names:
        of_model, theirs = pick(rows, model=name), published_model(name)
        table += [loss_claim(rows, name), size_claim(rows, name)]
        for size in sizes:
            claim = f"{name}, V = {size}: accuracy grows with the number of examples"
            table.append(growth_claim(pick(of_model, vocab_size=size), claim, theirs, "Fig. 11 to 14", size))
    for name in beside_lstm(names):
        for size in sizes:
            claim = f"V = {size}: the LSTM is more accurate than the {name}"
            of_pair = pick(rows, model=name, vocab_size=size, quantity=LEAD)
            table.append(lstm_claim(of_pair, claim, published_model(name), "Fig. 6 and 11 to 14", size))
    return table


def loss_claim(rows: pd.DataFrame, name: str) -> Claim:
    """Of three vocabularies, from few to many tokens; their documents differ, so that nothing is paired."""
    sizes, theirs = sorted(rows.vocab_size.unique()), published_model(name)
    paper = (published("xie2022_loss", model=theirs, vocab_size=size).validation_loss.iloc[0] for size in sizes)
    loss, beyond = ([only(rows, model=name, vocab_size=size, quantity=q) for size in sizes] for q in ("loss", "excess"))
    exact = [only(rows, model=TOLD, vocab_size=size, quantity="loss").mean for size in sizes]
    return Claim(
        f"{name}: the loss is highest with 100 tokens, lowest with 150",
        f"{', '.join(f'{value:.2f}' for value in paper)} nats for V = {', '.join(map(str, sizes))} ({theirs}; Fig. 6)",
        f"{', '.join(show(value, 3) for value in loss)} nats, {', '.join(show(value, 3) for value in beyond)} above "
        f"exact Bayes ({', '.join(f'{value:.3f}' for value in exact)})",
        [positive(difference(loss[1], loss[0])), positive(difference(loss[0], loss[2]))],
    )


def size_claim(rows: pd.DataFrame, name: str) -> Claim:
    """That accuracy grows from each vocabulary to the next, at every length; prompts differ, so nothing is paired."""
    theirs, sizes = published_model(name), sorted(rows.vocab_size.unique())
    steps = list(itertools.pairwise(sizes))
    lengths = lengths_of(rows)
    of_paper = [
        positive(difference(*(quoted_estimate(theirs, k, PAPER_MOST, size) for size in (large, small))))
        for k in lengths
        for small, large in steps
    ]
    ours = [
        positive(difference(*(most_accuracy(rows, name, k=k, size=size) for size in (large, small))))
        for k in lengths
        for small, large in steps
    ]

    def values(accuracy: Callable[[int, int], Estimate]) -> str:
        return listed({k: " → ".join(f"{accuracy(k, size).mean:.1f}" for size in sizes) for k in lengths})

    return Claim(
        f"{name}: accuracy grows with the vocabulary, V = {' → '.join(map(str, sizes))}",
        f"generally improves: {values(lambda k, size: quoted_estimate(theirs, k, PAPER_MOST, size))} %, "
        f"n = {PAPER_MOST} ({theirs}; Fig. 11 to 14); by our rule {verdict(of_paper)}",
        f"{values(lambda k, size: most_accuracy(rows, name, size, k))} %, the most examples; {tally(ours)}",
        ours,
    )
