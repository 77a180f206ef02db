"""In-context accuracy by number and length of examples (Xie et al. 2022, Fig. 3), beside two exact Bayes readers."""

import dataclasses
from typing import Any, NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim
from figures.lab.presets import KINDS, presets
from figures.lab.runs import Models
from figures.lab.style import BLACK, GREY, MODELS, WIDTH, name_ends, places
from figures.lab.tables import Table, over_seeds, pick
from figures.learning.common import (
    PAPER_MOST,
    SMOOTHED,
    TOLD,
    Right,
    add_accuracy,
    add_difference,
    add_growth,
    add_longer,
    answers_by_cell,
    any_run,
    beside_lstm,
    cells_that_fit,
    document_answers,
    draw_mean,
    draw_published,
    few_lengths,
    growth_claim,
    in_short,
    learned,
    longer_claim,
    lstm_claim,
    mark_examples,
    nested_prompts,
    one_of_each,
    published_model,
    quoted,
    told_by_cell,
)
from icl_synth.evaluate import EXAMPLE_LENGTHS, EXAMPLES

TITLE = "In-context accuracy by number and length of examples (Xie et al. 2022, Fig. 3 and 6)"
DIFFERS = (
    "The paper trains GPT-2 of 29 to 114 M parameters with context 1,024 for five epochs over ten million tokens. "
    "`small` trains 0.3 M parameters with context 256 once over tokens that never repeat: twelve million for the "
    "transformer, twenty for the LSTM. Prompts of 64 examples do not fit, so growth is read from n = 0 to the largest "
    "n that fits: 32 for k = 3 and 5, 16 for k = 8 and 10 (`learning/protocol` has the whole axis). Prompts of one "
    "length ask the same test inputs at every n: fewer examples are the last of more. Our transformer starts far above "
    "the paper's at the same loss over Bayes or a worse one; `learning/protocol` asks why. The `paper` preset trains "
    "for 6,250 steps where the paper evaluates at 6,000, and draws other documents for each seed where the paper has "
    "one data set. The two Bayes readers are ours. The first knows how prompts are made and predicts the next token, "
    "which is nearly the best possible answer: the label is the likeliest token under the true concept, so the two "
    "can differ while the concept is open. The second takes the prompt for one document, which a prompt is not, and so "
    "is no upper bound. Growth with n asks, at each k, that accuracy with the most examples minus that without any "
    "be above zero. Growth with k asks the same, at each n, of accuracy at each length minus that at the next shorter "
    "one. The "
    "LSTM's lead is its accuracy less the transformer's on the same prompts, seed by seed, at each k and n. The "
    "paper's means are judged by the same rule with their own intervals; pairs are not published, so its differences "
    "are not paired."
)
PUBLISHED = ("xie2022*.csv",)
PROMPT_SEED = 1114
READERS: dict[str, dict[str, Any]] = {TOLD: {"color": "black", "ls": "--"}, SMOOTHED: {"color": "#777777", "ls": ":"}}
LEAD = "LSTM less"  # its accuracy less that of the transformer of the row


class Sizes(NamedTuple):
    prompts: int  # at each number and length of examples
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS
    numbers: tuple[int, ...] = EXAMPLES


PRESETS = presets(KINDS, quick=Sizes(500, numbers=(0, 1, 4, 16, 32)), small=Sizes(2500), paper=Sizes(2500))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, quantity, example_length, num_examples; values in percent or points.

    Quantities: accuracy and gain (`add_growth`), longer (`add_longer`), LSTM less (the LSTM's accuracy less the
    model's).
    """
    table = Table("model", "quantity", "example_length", "num_examples")
    first = any_run(models).config
    hmm, _ = first.data.build()
    cells = cells_that_fit(first.model.context, sizes.lengths, sizes.numbers)
    prompts = nested_prompts(hmm, jax.random.key(PROMPT_SEED), sizes.prompts, cells)
    right: dict[str, dict[int, Right]] = {}
    for name, runs in models.items():
        for run in tqdm(runs, desc=name, unit="seed"):
            answered = right.setdefault(name, {})[run.seed] = answers_by_cell(run.model, prompts)
            add_growth(table, name, right=answered, seed=run.seed)
            add_longer(table, name, right=answered, seed=run.seed)
    for name in beside_lstm(list(models)):
        add_difference(table, name, LEAD, high=right["LSTM"], low=right[name])
    for (k, n), values in told_by_cell(hmm, prompts).items():
        smoothed = document_answers(hmm, np.asarray(prompts[k, n].tokens))[:, -1] == np.asarray(prompts[k, n].labels)
        add_accuracy(table, TOLD, "accuracy", k, n, values=values)
        add_accuracy(table, SMOOTHED, "accuracy", k, n, values=100.0 * smoothed)
    return table.rows()


def plot(rows: pd.DataFrame) -> Figure:
    """At most three lengths; of the readers, the one that is told the format."""
    lengths, shown = few_lengths(rows, 3), one_of_each(learned(rows, *READERS))
    figure, grid = plt.subplots(1, len(lengths), figsize=(WIDTH, 3.5), sharey=True, squeeze=False)
    for panel, k in zip(grid[0], lengths, strict=True):
        ends = draw_length(panel, pick(rows, quantity="accuracy", example_length=k), k, shown)
        mark_examples(panel)
        panel.set(title=f"k = {k}", xlabel="")
    name_ends(grid[0, -1], ends)
    grid[0, 0].set_ylabel("accuracy, %")
    figure.supxlabel("examples in the prompt, n (each of k tokens)", size=10)
    figure.suptitle(finding(over_seeds(rows), shown[0], lengths), size=11)
    return figure


def finding(rows: pd.DataFrame, name: str, lengths: list[int]) -> str:
    """What longer examples add to a model's accuracy, and what more of them do, where all lengths have as many."""
    cells = pick(rows, model=name, quantity="accuracy")
    accuracy = cells.pivot(index="num_examples", columns="example_length", values="value")[lengths].dropna()
    longer, more = (float((part.iloc[-1] - part.iloc[0]).mean()) for part in (accuracy.T, accuracy))
    words = "Longer examples matter more than more of them"
    words = words if longer > more else "More examples matter more than longer ones"
    return (
        f"{words}: k = {lengths[0]} → {lengths[-1]} adds {round(longer)} points\nto the accuracy of the {name}, "
        f"n = {accuracy.index[0]} → {accuracy.index[-1]} adds {round(more)}"
    )


def draw_length(panel: Axes, rows: pd.DataFrame, k: int, shown: list[str]) -> list[tuple[str, float, float, str]]:
    """Accuracy by number of examples at one length, of a reader, the paper's models and ours; the ends of the lines."""
    rows, right = rows.assign(place=rows.num_examples.map(places(EXAMPLES))), float(len(EXAMPLES) - 1)
    exact = pick(rows, model=TOLD)
    panel.plot(exact.place, exact.value, lw=1.4, **READERS[TOLD])
    ends = [("exact Bayes", right, exact.value.iloc[-1], BLACK)]
    for name in shown:
        theirs = published_model(name)
        draw_published(panel, theirs, k, ls=":" if theirs == "LSTM" else "--")
        ends.append((f"{in_short(theirs)}, Xie et al.", right, quoted(theirs, k, PAPER_MOST), GREY))
    for name in shown:
        line = pick(rows, model=name)
        draw_mean(panel, line, "place", color=MODELS[name])
        ends.append((in_short(name), right, over_seeds(line).value.iloc[-1], MODELS[name]))
    return ends


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Growth by n at each k and growth by k at each n of each model, and LSTM against transformers in each cell."""
    rows = over_seeds(rows)
    table = []
    names = learned(rows, *READERS)
    for name in names:
        of_model, theirs = pick(rows, model=name), published_model(name)
        table += [
            growth_claim(of_model, f"{name}: accuracy grows with the number of examples", theirs, "Fig. 3"),
            longer_claim(of_model, f"{name}: accuracy grows with the length of examples", theirs, "Fig. 3"),
        ]
    for name in beside_lstm(names):
        of_pair = pick(rows, model=name, quantity=LEAD)
        claim = f"the LSTM is more accurate than the {name}"
        table.append(lstm_claim(of_pair, claim, published_model(name), "Fig. 3 and 6"))
    headlines = {table[0].claim, table[-1].claim}
    return [dataclasses.replace(claim, headline=claim.claim in headlines) for claim in table]
