"""When labels matter: what they tell about the concept beyond the inputs, exactly, and what wrong ones cost."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.stats
from jaxtyping import Float
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, positive, show
from figures.lab.presets import KINDS, presets
from figures.lab.runs import Models
from figures.lab.style import BAYES, MODELS, WIDTH, legend_below
from figures.lab.tables import Table, only, over_seeds, pick
from figures.learning.aspects import cells, in_words
from figures.learning.common import (
    Cell,
    add_accuracy,
    any_run,
    cells_that_fit,
    draw_prompts,
    learned,
    one_of_each,
    percent_right,
)
from icl_synth.aspects import examples_of, label_set
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.estimates import Z
from icl_synth.evaluate import EXAMPLE_LENGTHS
from icl_synth.information import entropies
from icl_synth.labels import with_labels
from icl_synth.prompts import Prompts

TITLE = "When labels matter: exact information of labels and inputs about the concept, and what wrong labels cost"
DIFFERS = (
    "No paper makes these claims: only a world whose concepts are known says how much a prompt tells about them. Each "
    "label of a prompt is right, that is as the world draws it, with a given probability, and else drawn uniformly "
    "from the label set. The exact reader knows the format and this probability, so that the prompts are drawn from "
    "just the distribution that it assumes. Its uncertainty about the concept is an entropy in nats, averaged over "
    "prompts: after the inputs alone, after the labels alone, after both. Wrong labels take away information: the "
    "uncertainty after the whole prompt rises above what it is if all labels are right. We ask whether this number, "
    "which no model was asked for, orders the cells (a length k, a number n of examples, a share of right labels) by "
    "the points that the same cells cost a model. The rank correlation over all cells whose share is below one is "
    "computed on each tenth of the prompts and for each seed. It predicts where it is above zero, and more than the "
    "number of wrong labels does where its correlation is higher, paired. That a model loses more than the information "
    "that was taken away asks whether wrong labels cost it more points than they cost the exact reader, with the most "
    "examples and no right label, at every length."
)
PUBLISHED = ()
PROMPT_SEED, LABEL_SEED = 2207, 2208
PARTS = ("inputs", "labels", "both")
TENTHS = 10
ALL = -1  # lengths or numbers of examples

Right = dict[tuple[int, int, float], Float[np.ndarray, " N"]]  # 100 or 0, by length, number and share of right labels


class Sizes(NamedTuple):
    prompts: int  # at each length and number of examples
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS
    numbers: tuple[int, ...] = (1, 2, 4, 8, 16)  # of examples
    shares: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25, 0.0)  # of right labels


PRESETS = presets(KINDS, quick=Sizes(100, (3, 10), (1, 4, 16), (1.0, 0.5, 0.0)), small=Sizes(500), paper=Sizes(500))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, example_length, num_examples, share (of right labels), quantity; value in nats, percent or points.

    Quantities of exact Bayes: uncertainty after inputs, labels, both; taken (uncertainty after both, more than with
    right labels). Of all: accuracy; cost (against right labels). Of models: more than exact (of the cost); by
    information, by number (rank correlation of the cost with what was taken, with the number of wrong labels, over
    cells, for each tenth of the prompts); more by information (the first less the second).
    """
    table = Table("model", "example_length", "num_examples", "share", "quantity")
    run = any_run(models)
    hmm, _ = run.config.data.build()
    grid = cells_that_fit(run.config.model.context, sizes.lengths, sizes.numbers)
    prompts = draw_prompts(hmm, jax.random.key(PROMPT_SEED), sizes.prompts, grid)
    shown = {(*cell, share): relabelled(hmm, prompts[cell], cell, share) for cell in grid for share in sizes.shares}
    exact, taken = measure(table, hmm, shown)
    add_costs(table, BAYES, None, exact)
    for name, runs in models.items():
        for one in tqdm(runs, desc=name, unit="seed"):
            right = {cell: percent_right(one.model, asked) for cell, asked in shown.items()}
            add_costs(table, name, one.seed, right)
            add_more(table, name, one.seed, right, exact)
            add_correlations(table, name, one.seed, right, taken)
    return table.rows()


def relabelled(hmm: ConceptHMM, prompts: Prompts, cell: Cell, share: float) -> Prompts:
    """The prompts with each label kept with a probability, else drawn from the label set; a smaller share keeps some
    of the same labels."""
    k, n = cell
    labels = examples_of(prompts, k)[0][:, :, -1]
    keys = jax.random.split(jax.random.fold_in(jax.random.key(LABEL_SEED), 100 * k + n))
    known = jnp.asarray(label_set(hmm))
    kept = jax.random.uniform(keys[0], labels.shape, jnp.float32) < share
    return with_labels(prompts, k, jnp.where(kept, labels, jax.random.choice(keys[1], known, labels.shape)))


def measure(table: Table, hmm: ConceptHMM, shown: dict[tuple[int, int, float], Prompts]) -> tuple[Right, dict]:
    """Exact answers by cell, and what wrong labels take away in nats; their rows."""
    right, uncertain = {}, {}
    for cell, prompts in tqdm(shown.items(), desc="exact information", unit="cell"):
        k, n, share = cell
        exact = entropies(hmm, prompts.tokens, k, share)
        for part in PARTS:
            table.add(BAYES, *cell, f"uncertainty after {part}", values=np.asarray(getattr(exact, part)))
        right[cell] = 100.0 * (np.asarray(exact.answers) == np.asarray(prompts.labels))
        uncertain[cell] = np.asarray(exact.both)
        table.add(BAYES, *cell, "taken", values=uncertain[cell] - uncertain[k, n, 1.0])
    return right, {cell: float((values - uncertain[*cell[:2], 1.0]).mean()) for cell, values in uncertain.items()}


def costs_of(right: Right) -> Right:
    """Points lost against right labels, where some are wrong."""
    return {(k, n, share): right[k, n, 1.0] - values for (k, n, share), values in right.items() if share < 1}


def add_costs(table: Table, name: str, seed: int | None, right: Right) -> None:
    for cell, values in right.items():
        add_accuracy(table, name, *cell, "accuracy", values=values, seed=seed)
    for cell, values in costs_of(right).items():
        add_accuracy(table, name, *cell, "cost", values=values, seed=seed)


def add_more(table: Table, name: str, seed: int, right: Right, exact: Right) -> None:
    """How much more than exact Bayes a model loses with the most examples and no right label."""
    ours, theirs = costs_of(right), costs_of(exact)
    for k in sorted({cell[0] for cell in ours}):
        cell = max((cell for cell in ours if cell[0] == k), key=lambda cell: (cell[1], -cell[2]))
        add_accuracy(table, name, *cell, "more than exact", values=ours[cell] - theirs[cell], seed=seed)


def add_correlations(table: Table, name: str, seed: int, right: Right, taken: dict) -> None:
    """Rank correlation of costs over cells with what was taken, and with the number of wrong labels."""
    costs = costs_of(right)
    tenths = np.stack([[part.mean() for part in np.array_split(values, TENTHS)] for values in costs.values()])
    information = correlations(np.array([taken[cell] for cell in costs]), tenths)
    number = correlations(np.array([n * (1 - share) for _, n, share in costs]), tenths)
    for quantity, values in (
        ("by information", information),
        ("by number", number),
        ("more by information", information - number),
    ):
        table.add(name, ALL, ALL, ALL, quantity, values=of_few(values), seed=seed)


def of_few(values: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """The values so far from their mean that its interval, which is of many, is Student's of so few."""
    mean = values.mean()
    return mean + scipy.stats.t.ppf(0.975, len(values) - 1) / Z * (values - mean)


def correlations(predicted: Float[np.ndarray, " X"], costs: Float[np.ndarray, "X T"]) -> Float[np.ndarray, " T"]:
    """Spearman's rank correlation with each column; 0 where a column, or what is predicted, never varies."""
    ranks = scipy.stats.rankdata(np.column_stack([predicted, costs]), axis=0)
    ranks -= ranks.mean(0)
    scale = np.sqrt((ranks**2).sum(0))
    products = ranks[:, 0] @ ranks[:, 1:]
    return np.divide(products, scale[0] * scale[1:], out=np.zeros_like(products), where=scale[0] * scale[1:] > 0)


def plot(rows: pd.DataFrame) -> Figure:
    rows = over_seeds(rows)
    names = one_of_each(learned(rows, BAYES))
    cell = ["example_length", "num_examples", "share"]
    taken = pick(rows, quantity="taken").set_index(cell).value
    figure, panel = plt.subplots(figsize=(WIDTH, 3.9))
    for name in [BAYES, *names]:
        costs = pick(rows, model=name, quantity="cost").set_index(cell)
        x = taken[costs.index]
        panel.errorbar(x, costs.value, costs.half_width, fmt="none", elinewidth=0.6, alpha=0.3, ecolor=MODELS[name])
        panel.plot(x, costs.value, "o", ms=3.5, mec="none", color=MODELS[name], label=name)
    panel.axhline(0, color="black", lw=0.8)
    panel.set_xscale("symlog", linthresh=1e-3)
    panel.set_xlim(min(0.0, taken.min()) - 2e-4, 1.3 * max(1e-3, taken.max()))
    panel.set(xlabel="information about the concept that wrong labels take away, nats", ylabel="points lost")
    legend_below(figure, panel, 4)
    order = {name: only(rows, model=name, quantity="by information") for name in names}
    clear = all(positive(value).verdict == "holds" for value in order.values())
    words = ", ".join(f"{value.mean:.2f} ({name})" for name, value in order.items())
    figure.suptitle(
        f"What wrong labels cost {'clearly rises' if clear else 'does not clearly rise'} with the information they "
        f"take:\nrank correlation {words}", size=11
    )  # fmt: skip
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """The information that wrong labels take away predicts what they cost, better than how many they are."""
    rows = over_seeds(rows)
    return [claim for name in learned(rows, BAYES) for claim in model_claims(rows, name)]


def model_claims(rows: pd.DataFrame, name: str) -> list[Claim]:
    here = pick(rows, model=name)
    information, number, more = (
        only(here, quantity=quantity) for quantity in ("by information", "by number", "more by information")
    )
    beyond = cells(here, quantity="more than exact")
    return [
        Claim(
            f"{name}: the information that wrong labels take away predicts what they cost",
            "no claim",
            f"rank correlation {show(information, 2)}",
            [positive(information)],
            own=True,
        ),
        Claim(
            f"{name}: it predicts better than the number of wrong labels",
            "no claim",
            f"higher by {show(more, 2)}; by number {show(number, 2)}",
            [positive(more)],
            own=True,
        ),
        Claim(
            f"{name}: wrong labels cost more than the information that they take away",
            "no claim",
            f"more than exact Bayes by {in_words(beyond)}",
            [positive(value) for value in beyond.values()],
            own=True,
        ),
    ]
