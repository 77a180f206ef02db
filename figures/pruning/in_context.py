"""What only this world can show: does pruning hurt answers to prompts before it hurts the loss?"""

from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.pruning.apply import Pruning
from figures.lab.claims import Claim, nats, positive, scaled, show
from figures.lab.measure import Documents, excess, held_back
from figures.lab.presets import KINDS, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLACK, WIDTH, legend_below
from figures.lab.tables import Table, only, over_seeds, pick
from figures.pruning import common
from figures.pruning.common import difference_of_means, pruned
from icl_synth import checkpoints
from icl_synth.estimates import Estimate, ratio_of_means
from icl_synth.evaluate import EXAMPLE_LENGTHS, answers, examples_that_fit
from icl_synth.prompts import Prompts, sample_prompts

TITLE = "In-context accuracy and loss over Bayes after pruning"
DIFFERS = (
    "The paper makes no such claim, since it knows neither the best loss nor the best answer. The share kept of the "
    "loss is how much is left of what the dense model gained on a uniform guess (the logarithm of the number of "
    "tokens). The share kept of accuracy is the accuracy over the dense model's, averaged over all k at their largest "
    "n. Both are 1 for the dense model; both are ratios of means over the same documents or prompts, whose intervals "
    "count the dense model as measured too. Whether less is kept of accuracy than of the loss is judged for every "
    "pruning, on the difference of the two shares within each seed; documents and prompts are independent samples. "
    "Much of that accuracy needs no example; the gain from examples, from none to the most that fit, is given beside "
    "it. The two scales are a choice: a model that knows only how often tokens occur has already gained on a uniform "
    "guess, and one that knows nothing of the prompt still answers some prompts."
)
PUBLISHED = common.PUBLISHED
PRUNINGS: dict[str, Pruning | None] = {
    "dense": None,
    "SparseGPT 30 %": Pruning(sparsity=0.3),
    "SparseGPT 50 %": Pruning(sparsity=0.5),
    "SparseGPT 60 %": Pruning(sparsity=0.6),
    "SparseGPT 70 %": Pruning(sparsity=0.7),
    "SparseGPT 2:4": Pruning(pattern=(2, 4)),
    "magnitude 50 %": Pruning("magnitude", 0.5),
}
PROMPT_SEED = 2301
Asked = dict[tuple[int, int], Prompts]  # by length and number of examples


class Sizes(NamedTuple):
    documents: int  # that losses are measured on
    prompts: int  # at each number and length of examples
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS


PRESETS = presets(KINDS, quick=Sizes(128, 80, (3, 10)), small=Sizes(512, 400), paper=Sizes(100, 400))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, pruning, quantity, example_length, num_examples; value in nats per token or a share.

    Quantities: excess (nats per token over exact Bayes), accuracy, gain (of accuracy from no example to the most that
    fit, mean over k), kept_loss, kept_accuracy (see DIFFERS; paired with the dense model) and kept_more (of the loss
    than of accuracy).
    """
    table = Table("model", "pruning", "quantity", "example_length", "num_examples")
    first = next(iter(models.values()))[0]
    documents, asked = held_back(first, sizes.documents), ask(first, sizes)
    bar = tqdm(total=sum(map(len, models.values())), desc="models", unit="model")
    for name, runs in models.items():
        for run in runs:
            add_prunings(table, name, run, documents, asked)
            bar.update()
    return table.rows()


def ask(run: Run, sizes: Sizes) -> Asked:
    """Prompts of every length and number of examples that fit."""
    hmm, _ = run.config.data.build()
    cells = [(k, n) for k in sizes.lengths for n in examples_that_fit(run.config.model.context, k)]
    keys = {(k, n): jax.random.fold_in(jax.random.key(PROMPT_SEED), 100 * k + n) for k, n in cells}
    return {(k, n): sample_prompts(hmm, key, sizes.prompts, n, k) for (k, n), key in keys.items()}


class Measured(NamedTuple):
    """A model's loss and answers."""

    excess: Float[np.ndarray, " B"]  # over exact Bayes by document, nats per token
    right: dict[tuple[int, int], np.ndarray]  # whether each prompt was answered rightly

    def mean_over_lengths(self, cells: list[tuple[int, int]]) -> Float[np.ndarray, " N"]:
        return np.mean([self.right[cell] for cell in cells], axis=0)


def measured(model: checkpoints.Model, documents: Documents, asked: Asked) -> Measured:
    right = {cell: answers(model, prompts) == np.asarray(prompts.labels) for cell, prompts in asked.items()}
    return Measured(excess(model, documents), right)


def add_prunings(table: Table, name: str, run: Run, documents: Documents, asked: Asked) -> None:
    """Loss and accuracy of one model after each pruning, and what they keep of the dense model's."""
    hmm, _ = run.config.data.build()
    none = [(k, n) for k, n in asked if n == 0]
    most = [(k, max(n for length, n in asked if length == k)) for k, _ in none]
    dense = measured(run.model, documents, asked)
    for label, how in PRUNINGS.items():
        now = measured(pruned(run, how), documents, asked) if how else dense
        uniform = np.log(hmm.vocab_size) - documents.bayes_loss  # excess of a uniform guess
        loss = ratio_of_means(uniform - now.excess, uniform - dense.excess)
        accuracy = ratio_of_means(now.mean_over_lengths(most), dense.mean_over_lengths(most))
        quantities = {
            "excess": now.excess,
            "kept_loss": loss,
            "gain": now.mean_over_lengths(most) - now.mean_over_lengths(none),
            "kept_accuracy": accuracy,
            "kept_more": difference_of_means(loss, accuracy),
        }
        for quantity, values in quantities.items():
            table.add(name, label, quantity, 0, 0, seed=run.seed, values=values)
        for cell, right in now.right.items():
            table.add(name, label, "accuracy", *cell, seed=run.seed, values=right)


def plot(rows: pd.DataFrame) -> Figure:
    means, labels = over_seeds(rows), [label for label in PRUNINGS if label != "dense"]
    figure, (kept, apart) = plt.subplots(1, 2, figsize=(WIDTH, 4.2), sharey=True, width_ratios=(1.3, 1))
    draw_shares(kept, rows, means, "kept_accuracy", "o")
    draw_shares(kept, rows, means, "kept_loss", "s")
    draw_shares(apart, rows, means, "kept_more", "D")
    kept.set(xlabel="share kept, %", title="accuracy on prompts (circles) and\nloss (squares) kept")
    apart.set(xlabel="points", title="how much more\nof the loss is kept")
    apart.axvline(0, color=BLACK, lw=0.8)
    kept.set_yticks(range(len(labels)), labels=labels[::-1])
    for name, (colour, _) in common.looks(rows).items():
        kept.plot([], [], color=colour, lw=4, label=name)
    legend_below(figure, kept, 4)
    more = pick(means[means.pruning.isin(labels)], quantity="kept_more")
    first = int((more.value - more.half_width > 0).sum())
    figure.suptitle(
        f"In {first} of {len(more)} prunings less is kept of the accuracy on prompts than of the loss", size=11
    )
    return figure


def draw_shares(panel: Axes, rows: pd.DataFrame, means: pd.DataFrame, quantity: str, marker: str) -> None:
    """A share in percent by pruning, a row of points for each model, its seeds as dots."""
    looks, labels = common.looks(rows), [label for label in PRUNINGS if label != "dense"]
    for number, (name, (colour, _)) in enumerate(looks.items()):
        for place, label in enumerate(labels[::-1]):
            cell = {"model": name, "pruning": label, "quantity": quantity}
            height = place + 0.5 * (len(looks) / 2 - 0.5 - number) / len(looks)
            share, seeds = only(means, **cell), pick(rows, **cell).value
            panel.plot(100 * seeds, np.full(len(seeds), height - 0.08), ".", ms=3, color=colour, alpha=0.5)
            panel.errorbar(100 * share.mean, height, xerr=100 * share.half_width, color=colour, marker=marker, ms=4,
                           elinewidth=1, capsize=2)  # fmt: skip


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Which goes first, for every pruning; and what is left of the gain from examples."""
    rows = over_seeds(rows)
    labels = [label for label in PRUNINGS if label != "dense"]
    return [order_claim(rows, name, label) for name in rows.model.unique() for label in labels]


def order_claim(rows: pd.DataFrame, name: str, label: str) -> Claim:
    def at(pruning: str, quantity: str) -> Estimate:
        return only(rows, model=name, pruning=pruning, quantity=quantity)

    return Claim(
        f"{name}, {label}: pruning hurts answers to prompts before it hurts the loss",
        "no claim of the paper's",
        f"keeps {percent(at(label, 'kept_accuracy'))} % of the accuracy, {percent(at(label, 'kept_loss'))} % of the "
        f"loss gained on a uniform guess (excess {at('dense', 'excess').mean:.3f} → {nats(at(label, 'excess'))} "
        f"nats), {percent(at(label, 'kept_more'))} points more of the loss; examples add "
        f"{percent(at('dense', 'gain'))} → {percent(at(label, 'gain'))} points",
        [positive(at(label, "kept_more"))],
        own=True,
    )


def percent(share: Estimate) -> str:
    return show(scaled(share, 100))
