"""What the learning experiments share: who answers which prompts, published accuracies, and how both are drawn."""

import jax
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Key
from matplotlib.axes import Axes

from figures.lab.runs import Models, Run
from figures.lab.style import BLUE, GREEN, ORANGE, PUBLISHED_MODELS, YELLOW, draw_line
from figures.lab.tables import Table, pick, published
from icl_synth import checkpoints
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.evaluate import EXAMPLES, answers, examples_that_fit
from icl_synth.prompts import Prompts, sample_prompts

Cell = tuple[int, int]  # length k and number n of examples
LENGTH_COLOURS = {3: BLUE, 5: GREEN, 8: YELLOW, 10: ORANGE}  # by k


def any_run(models: Models) -> Run:
    """A run of an experiment whose models all have one world and one context."""
    return next(iter(models.values()))[0]


def cells_that_fit(context: int, lengths: tuple[int, ...], numbers: tuple[int, ...] = EXAMPLES) -> list[Cell]:
    """Every length with every number of examples whose prompt fits the context."""
    return [(k, n) for k in lengths for n in examples_that_fit(context, k, numbers)]


def extreme_cells(context: int, lengths: tuple[int, ...], numbers: tuple[int, ...] = EXAMPLES) -> list[Cell]:
    """Every length with the fewest and with the most examples that fit."""
    fitting = {k: examples_that_fit(context, k, numbers) for k in lengths}
    return [(k, n) for k in lengths for n in (fitting[k][0], fitting[k][-1])]


def most_by_length(cells: list[Cell]) -> dict[int, int]:
    """The most examples of each length."""
    return {k: max(n for length, n in cells if length == k) for k, _ in cells}


def draw_prompts(hmm: ConceptHMM, key: Key[Array, ""], number: int, cells: list[Cell]) -> dict[Cell, Prompts]:
    """As many prompts for each cell; those of a cell do not depend on the others."""
    return {(k, n): sample_prompts(hmm, jax.random.fold_in(key, 100 * k + n), number, n, k) for k, n in cells}


def percent_right(model: checkpoints.Model, prompts: Prompts) -> Float[np.ndarray, " N"]:
    """100 for each prompt that a model answers rightly, 0 for each other."""
    return 100.0 * (answers(model, prompts) == np.asarray(prompts.labels))


def add_accuracy(table: Table, *cell: object, values: Float[np.ndarray, " N"], seed: int | None = None) -> None:
    """Add accuracy in percent. Rule of three: no error in N prompts is still compatible with a rate of 3 / N."""
    table.add(*cell, values=values, seed=seed, least=300 / len(values))


def add_answers(table: Table, *who: object, run: Run, prompts: dict[Cell, Prompts]) -> None:
    """Add `accuracy` (%) in every cell, and for each length `gain`: accuracy with the most examples less that with the
    fewest (points)."""
    right = {cell: percent_right(run.model, asked) for cell, asked in prompts.items()}
    for cell, values in right.items():
        add_accuracy(table, *who, "accuracy", *cell, values=values, seed=run.seed)
    for k, most in most_by_length(list(right)).items():
        fewest = min(n for length, n in right if length == k)
        table.add(*who, "gain", k, most, values=right[k, most] - right[k, fewest], seed=run.seed)


def lengths_of(rows: pd.DataFrame) -> list[int]:
    """The lengths of examples that prompts of the rows have."""
    return sorted(pick(rows, quantity="accuracy").example_length.unique())


def learned(rows: pd.DataFrame, *others: str) -> list[str]:
    """The trained models of the rows in order: all but these others, such as exact Bayes."""
    return [name for name in rows.model.unique() if name not in others]


def published_model(name: str, otherwise: str = "transformer, 12 layers") -> str:
    """The paper's model of this name, or the one that stands beside ours."""
    return name if name in PUBLISHED_MODELS else otherwise


def published_beside(names: list[str]) -> list[str]:
    """The paper's models to draw beside ours: all where ours have their names, else one of each kind."""
    return list(PUBLISHED_MODELS) if set(names) <= set(PUBLISHED_MODELS) else ["transformer, 12 layers", "LSTM"]


def quoted(model: str, k: int, n: int, vocab_size: int = 50) -> float:
    """Xie et al.'s accuracy in percent."""
    row = published("xie2022_accuracy", vocab_size=vocab_size, model=model, example_length=k, num_examples=n)
    return float(row.accuracy_percent.iloc[0])


def quoted_range(setting: str) -> tuple[float, float]:
    """The ends of a range in Xie et al.'s ablations, in percent or points."""
    row = published("xie2022_ablations", setting=setting).iloc[0]
    return float(row.least_percent), float(row.most_percent)


def draw_extremes(panel: Axes, rows: pd.DataFrame, x: str, **style: object) -> int:
    """Accuracy with the most examples as a full line, without any as a dotted one; returns the most examples."""
    most = int(rows.num_examples.max())
    draw_line(panel, pick(rows, num_examples=0), x, marker="o", ls=":", mfc="white", **style)
    draw_line(panel, pick(rows, num_examples=most), x, marker="o", ls="-", **style)
    return most
