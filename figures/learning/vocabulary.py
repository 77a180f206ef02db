"""Vocabularies of 50, 100 and 150 tokens: loss and accuracy in context (Xie et al. 2022, Fig. 3, 6 and the tables)."""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, difference, positive, show
from figures.lab.presets import KINDS, NAMES, SEEDS, Suite, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLACK, MODELS, PUBLISHED_POINT, WIDTH, legend_below, places
from figures.lab.tables import Table, only, over_seeds, pick, published
from figures.learning.common import (
    PAPER_MOST,
    TOLD,
    Right,
    add_difference,
    add_growth,
    answers_by_cell,
    beside_lstm,
    by_key,
    cells_that_fit,
    draw_mean,
    growth_claim,
    learned,
    lengths_of,
    lstm_claim,
    nested_prompts,
    one_of_each,
    published_model,
    quoted_estimate,
    tally,
    told_by_cell,
    verdict,
)
from icl_synth.estimates import Estimate
from icl_synth.evaluate import EXAMPLE_LENGTHS, EXAMPLES, compare_with_bayes
from icl_synth.training_data import validation_documents

TITLE = "Loss and in-context accuracy by the size of the vocabulary (Xie et al. 2022, Fig. 3 and 6)"
DIFFERS = (
    "In all worlds of the paper 90 pairs of an entity and a property emit tokens drawn from the vocabulary. With 50 "
    "tokens most pairs share theirs with another pair, with 150 tokens fewer than half do, so that a token tells more "
    "of the hidden state. The official worlds differ in more than that: another vocabulary moves the stream of random "
    "numbers, so property matrices differ too. The entropies of their moves have the order of the losses. The effect "
    "of the vocabulary cannot be told apart from that of the matrices, here or in the paper. `small` trains a "
    "transformer of 0.3 M parameters on four million tokens, a third of `learning/accuracy`'s, and an LSTM on eight, "
    "four tenths. Training documents never repeat in `quick` and `small`, so the loss on training documents equals "
    "that on held-back ones but for noise, and one number stands for both; the paper's is its validation loss. Held-"
    "back documents and prompts are the same for all seeds and models of a world. The picture shows the "
    "shortest examples. The most examples that fit are 32 for k = 3 and 5 and 16 for k = 8 and 10 (the paper: 64). "
    "The order of losses requires the loss at V = 100 less that at 50, and that at 50 less that at 150, above zero. "
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
    """The losses, and accuracy with the most examples at the shortest length."""
    sizes, names, k = sorted(rows.vocab_size.unique()), one_of_each(learned(rows, TOLD)), lengths_of(rows)[0]
    accuracies = pick(rows, quantity="accuracy", example_length=k)
    most = accuracies.num_examples.max()
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.6))
    draw_worlds(left, pick(rows, quantity="loss"), names, losses_of_paper)
    draw_worlds(right, pick(accuracies, num_examples=most), names, functools.partial(accuracies_of_paper, k=k))
    left.set(title="loss on documents, nats per token")
    right.set(title=f"accuracy, %, k = {k}, n = {most} (paper: {PAPER_MOST})", ylim=(0, 102))
    for panel in (left, right):
        panel.set_xticks(range(len(sizes)), [f"{size} tokens" for size in sizes])
        panel.grid(visible=False, axis="x")
    left.plot([], [], label="hollow: Xie et al. 2022", **PUBLISHED_POINT)
    legend_below(figure, left, 4)
    figure.suptitle(finding(over_seeds(rows), names, sizes), size=11)
    return figure


def draw_worlds(
    panel: Axes, rows: pd.DataFrame, names: list[str], of_paper: Callable[[str], tuple[pd.DataFrame, str, str | None]]
) -> None:
    """Worlds side by side, unconnected since more than their vocabulary differs: our models, the paper's, Bayes."""
    place = places(sorted(rows.vocab_size.unique()))
    for index, name in enumerate(names):
        line = pick(rows, model=name)
        line = line.assign(place=line.vocab_size.map(place) + 0.36 * index - 0.3)
        draw_mean(panel, line, "place", color=MODELS[name], ls="none", label=name)
        theirs, value, interval = of_paper(published_model(name))
        theirs = theirs[theirs.vocab_size.isin(list(place))]
        panel.errorbar(theirs.vocab_size.map(place) + 0.36 * index - 0.14, theirs[value],
                       theirs[interval] if interval else None,
                       **(PUBLISHED_POINT | {"color": MODELS[name], "ms": 4, "elinewidth": 0.8}))  # fmt: skip
    exact = over_seeds(pick(rows, model=TOLD))
    panel.plot(exact.vocab_size.map(place) + 0.38, exact.value, "_", color=BLACK, ms=9, mew=2, label="exact Bayes")


def losses_of_paper(model: str) -> tuple[pd.DataFrame, str, None]:
    return published("xie2022_loss", model=model), "validation_loss", None


def accuracies_of_paper(model: str, k: int) -> tuple[pd.DataFrame, str, str]:
    table = published("xie2022_accuracy", model=model, example_length=k, num_examples=PAPER_MOST)
    return table, "accuracy_percent", "interval_percent"


def finding(rows: pd.DataFrame, names: list[str], sizes: list[int]) -> str:
    """Whether the losses of models have the order of exact Bayes'."""
    losses = pick(rows, quantity="loss")
    exact, *models = [
        *(pick(losses, model=name).set_index("vocab_size").value for name in (TOLD, *names)),
        *(losses_of_paper(published_model(name))[0].set_index("vocab_size").validation_loss[sizes] for name in names),
    ]
    same = sum(model.idxmax() == exact.idxmax() and model.idxmin() == exact.idxmin() for model in models)
    return (
        f"The loss of exact Bayes is highest with {exact.idxmax()} tokens, lowest with {exact.idxmin()};\n"
        f"so is that of {same} of {len(models)} models, ours and the paper's"
    )


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
        return by_key({k: " → ".join(f"{accuracy(k, size).mean:.1f}" for size in sizes) for k in lengths})

    return Claim(
        f"{name}: accuracy grows with the vocabulary, V = {' → '.join(map(str, sizes))}",
        f"generally improves: {values(lambda k, size: quoted_estimate(theirs, k, PAPER_MOST, size))} %, "
        f"n = {PAPER_MOST} ({theirs}; Fig. 11 to 14); by our rule {verdict(of_paper)}",
        f"{values(lambda k, size: most_accuracy(rows, name, size, k))} %, the most examples; {tally(ours)}",
        ours,
    )
