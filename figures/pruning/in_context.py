"""What only this world can show: does pruning hurt answers to prompts before it hurts the loss?"""

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.pruning.apply import Pruning
from figures import pruning
from figures.claims import Claim, above
from figures.pruning import draw_line, excess, held_back, only, pick, pruned, show
from figures.recipes import Recipe, Wanted, trained
from icl_synth.evaluate import EXAMPLE_LENGTHS, answers, estimate, examples_that_fit, ratio_of_means
from icl_synth.prompts import sample_prompts

TITLE = "In-context accuracy and loss over Bayes after pruning"
DIFFERS = (
    "No claim of the paper's: it knows neither the best loss nor the best answer. The share kept of the loss is how "
    "much is left of what the dense model gained on a uniform guess (3.91 nats a token; exact Bayes is at 1.32); the "
    "share kept of accuracy is accuracy over the dense model's, averaged over all k at their largest n. Both are 1 for "
    "the dense model, and intervals are paired with it. *Holds* where less is kept of accuracy than of the loss, "
    "intervals apart, *partly* where only the means say so. Much of that accuracy is there without any example; what "
    "examples add, from none to the most that fit, is given beside it. The two scales are a choice: a model that knows "
    "only how often tokens occur has already gained on a uniform guess, and one that knows nothing of the prompt still "
    "answers some."
)
PUBLISHED = pruning.PUBLISHED
PRUNINGS = {
    "dense": None,
    "SparseGPT 30 %": Pruning(sparsity=0.3),
    "SparseGPT 50 %": Pruning(sparsity=0.5),
    "SparseGPT 60 %": Pruning(sparsity=0.6),
    "SparseGPT 70 %": Pruning(sparsity=0.7),
    "SparseGPT 2:4": Pruning(pattern=(2, 4)),
    "magnitude 50 %": Pruning("magnitude", 0.5),
}
STYLES = {
    "dense": ("black", "o"),
    "SparseGPT 30 %": ("#56B4E9", "v"),
    "SparseGPT 50 %": ("#0072B2", "o"),
    "SparseGPT 60 %": ("#009E73", "P"),
    "SparseGPT 70 %": ("#E69F00", "D"),
    "SparseGPT 2:4": ("#CC79A7", "^"),
    "magnitude 50 %": ("#D55E00", "s"),
}
PROMPT_SEED = 2301
SHARE_OF_PROMPTS = 0.16  # of the recipe's: there are seven prunings to ask


def wanted(recipe: Recipe) -> Wanted:
    return recipe.kinds


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: model, pruning, quantity, example_length, num_examples, value, half_width (95 % over seeds and prompts).

    Quantities: excess (nats a token over exact Bayes), accuracy, gain (of accuracy from no example to the most that
    fit, mean over k), and kept_loss, kept_accuracy (see DIFFERS; paired with the dense model).
    """
    models = trained(wanted(recipe))
    hmm, _ = models[0].config.data.build()
    documents = held_back(models[0], recipe)
    cells = [(k, n) for k in EXAMPLE_LENGTHS for n in examples_that_fit(models[0].config.model.context, k)]
    most = {k: max(n for length, n in cells if length == k) for k, _ in cells}
    number = max(2, round(SHARE_OF_PROMPTS * recipe.prompts))
    asked = {
        (k, n): sample_prompts(hmm, jax.random.fold_in(jax.random.key(PROMPT_SEED), 100 * k + n), number, n, k)
        for k, n in cells
    }
    worst = np.log(hmm.vocab_size) - documents.bayes_loss.mean()
    rows = []
    bar = tqdm(total=len(models) * len(PRUNINGS), desc="pruned models", unit="model")
    for name in wanted(recipe).presets:
        seeds = [one for one in models if one.name == name]
        dense_losses: list[np.ndarray] = []
        dense_right: list[np.ndarray] = []
        for label, how in PRUNINGS.items():
            losses: list[np.ndarray] = []
            right: dict[tuple[int, int], list[np.ndarray]] = {cell: [] for cell in cells}
            for one in seeds:
                model = one.model if how is None else pruned(one, how)
                losses.append(excess(model, documents))
                for cell, prompts in asked.items():
                    right[cell].append(answers(model, prompts) == np.asarray(prompts.labels))
                bar.update()
            rows.append((name, label, "excess", 0, 0, *estimate(np.stack(losses))))
            dense_losses = dense_losses or losses
            lost = [(now - before) / (worst - before.mean()) for now, before in zip(losses, dense_losses, strict=True)]
            rows.append((name, label, "kept_loss", 0, 0, *estimate(1 - np.stack(lost))))
            rows += [(name, label, "accuracy", *cell, *estimate(np.stack(right[cell]))) for cell in cells]
            at_most = [np.mean([right[k, n][seed] for k, n in most.items()], axis=0) for seed in range(len(seeds))]
            at_none = [np.mean([right[k, 0][seed] for k in most], axis=0) for seed in range(len(seeds))]
            rows.append((name, label, "gain", 0, 0, *estimate(np.stack(at_most) - np.stack(at_none))))
            dense_right = dense_right or at_most
            ratio = np.stack([ratio_of_means(*pair) for pair in zip(at_most, dense_right, strict=True)])
            rows.append((name, label, "kept_accuracy", 0, 0, *estimate(ratio)))
    columns = ["model", "pruning", "quantity", "example_length", "num_examples", "value", "half_width"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["models"] = [one.record() for one in models]
    return table


def plot(rows: pd.DataFrame) -> Figure:
    names, lengths = list(rows.model.unique()), [k for k in EXAMPLE_LENGTHS if (rows.example_length == k).any()]
    figure, grid = plt.subplots(
        len(names), len(lengths) + 1, figsize=(3.1 * (len(lengths) + 1), 3.1 * len(names)), squeeze=False
    )
    for panels, name in zip(grid, names, strict=True):
        for panel, k in zip(panels, lengths, strict=False):
            shown = sorted(pick(rows, model=name, quantity="accuracy", example_length=k).num_examples.unique())
            for label, (colour, marker) in STYLES.items():
                line = pick(rows, model=name, pruning=label, quantity="accuracy", example_length=k)
                place = line.assign(place=line.num_examples.map(shown.index), value=100 * line.value,
                                    half_width=100 * line.half_width)  # fmt: skip
                draw_line(panel, place, "place", color=colour, marker=marker, ms=4, lw=1.3, label=label)
            panel.set(title=f"{name}, k = {k}", xticks=range(len(shown)), xticklabels=shown, ylim=(0, 102))
            panel.set_xlabel("examples in the prompt, n")
        panels[0].set_ylabel("accuracy, %")
        for label, (colour, marker) in STYLES.items():
            loss, accuracy = (only(rows, model=name, pruning=label, quantity=q) for q in ("kept_loss", "kept_accuracy"))
            panels[-1].errorbar(loss.mean, accuracy.mean, accuracy.half_width, loss.half_width, color=colour,
                                marker=marker, capsize=2)  # fmt: skip
        ends = np.array([min(panels[-1].get_xlim()[0], panels[-1].get_ylim()[0]), 1.02])
        panels[-1].plot(ends, ends, color="black", lw=0.8, ls=":")
        panels[-1].set(xlabel="share kept of the loss", ylabel="share kept of accuracy", title=f"{name}: which first?")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(STYLES))
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Excess and accuracy at 50 % and 2:4; which goes first."""
    table = []
    for name in rows.model.unique():
        for label in ("SparseGPT 30 %", "SparseGPT 50 %", "SparseGPT 2:4", "magnitude 50 %"):
            loss, accuracy = (only(rows, model=name, pruning=label, quantity=q) for q in ("kept_loss", "kept_accuracy"))
            pruned_excess = only(rows, model=name, pruning=label, quantity="excess")
            dense = only(rows, model=name, pruning="dense", quantity="excess")
            gain, dense_gain = (only(rows, model=name, pruning=p, quantity="gain") for p in (label, "dense"))
            table.append(
                Claim(
                    f"{name}, {label}: pruning hurts answers to prompts before it hurts the loss",
                    "no claim of the paper's",
                    f"keeps {100 * accuracy.mean:.1f} ± {100 * accuracy.half_width:.1f} % of the accuracy, "
                    f"{100 * loss.mean:.1f} ± {100 * loss.half_width:.1f} % of the loss gained on a uniform guess "
                    f"(excess {dense.mean:.3f} → {show(pruned_excess)} nats); examples add "
                    f"{100 * dense_gain.mean:.1f} ± {100 * dense_gain.half_width:.1f} → "
                    f"{100 * gain.mean:.1f} ± {100 * gain.half_width:.1f} points",
                    above(loss, accuracy),
                )
            )
    return table
