"""Is the larger model better in context at equal loss? Sizes of one recipe on the same prompts (Xie et al. 2022)."""

import itertools

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from tqdm import tqdm

from figures.claims import Claim, judged
from figures.pruning import draw_line, excess, held_back, only, parameters, pick
from figures.recipes import Recipe, Wanted, trained
from figures.sources import PAPER_VALUES
from icl_synth.evaluate import EXAMPLE_LENGTHS, answers, estimate, examples_that_fit
from icl_synth.prompts import sample_prompts

TITLE = "Accuracy in context by the size of the model, at equal loss (Xie et al. 2022, Fig. 5)"
DIFFERS = (
    "The paper's sizes are GPT-2 of 4, 12 and 16 layers, of which the last two end at the same loss (drawn by size "
    "alone: losses are known to two decimals); ours are transformers of one recipe and .05 to 4.7 M parameters and two "
    "LSTMs, each trained near its own best loss. Both loss and accuracy are compared on the same documents and "
    "prompts, each size with the next larger. One seed a size: intervals are over documents and prompts, and leave out "
    "what another seed would do, which is several points of accuracy where three seeds are known (`fig_icl_accuracy`). "
    "Losses count as equal here within .005 nats a token. *Partly* where at equal loss the larger model's mean is "
    "higher; since intervals leave seeds out, nothing *holds*; *not found* where no two neighbours have equal losses."
)
PUBLISHED = ("xie2022*.csv",)
PROMPT_SEED, SHARE_OF_PROMPTS, EQUAL = 1118, 0.2, 0.005
# GPT-2 of width 768: matrices of the layers, embeddings of tokens and positions
PAPER_PARAMETERS = {
    f"transformer, {depth} layers": depth * 12 * 768**2 + 51 * 768 + 1024 * 768 for depth in (4, 12, 16)
}


def wanted(recipe: Recipe) -> Wanted:
    return recipe.sizes_of_both


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: model, parameters, quantity, example_length, num_examples, value, half_width (95 %, documents or prompts).

    Quantities: excess (nats a token over exact Bayes), accuracy (%), and more_excess, more_accuracy: how much more
    than the next smaller model has, paired; accuracy at the most examples that fit.
    """
    models = trained(wanted(recipe))
    hmm, _ = models[0].config.data.build()
    documents, number = held_back(models[0], recipe), max(2, round(SHARE_OF_PROMPTS * recipe.prompts))
    context = min(one.config.model.context for one in models)
    cells = [(k, n) for k in EXAMPLE_LENGTHS for n in examples_that_fit(context, k)]
    most = {k: max(n for length, n in cells if length == k) for k, _ in cells}
    asked = {
        (k, n): sample_prompts(hmm, jax.random.fold_in(jax.random.key(PROMPT_SEED), 100 * k + n), number, n, k)
        for k, n in cells
    }
    rows: list[tuple] = []
    before: dict[str, tuple] = {}  # of each kind, the next smaller one's losses and answers
    for one in tqdm(models, desc="sizes", unit="model"):
        loss, who = excess(one.model, documents), (one.name, parameters(one.model))
        right = {
            cell: 100.0 * (answers(one.model, prompts) == np.asarray(prompts.labels)) for cell, prompts in asked.items()
        }
        rows.append((*who, "excess", 0, 0, *estimate(loss)))
        rows += [(*who, "accuracy", *cell, *estimate(found)) for cell, found in right.items()]
        smaller = before.get(kind(one.name))
        if smaller:
            rows.append((*who, "more_excess", 0, 0, *estimate(loss - smaller[0])))
            rows += [(*who, "more_accuracy", k, n, *estimate(right[k, n] - smaller[1][k, n])) for k, n in most.items()]
        before[kind(one.name)] = loss, right
    columns = ["model", "parameters", "quantity", "example_length", "num_examples", "value", "half_width"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["models"] = [one.record() for one in models]
    return table


def kind(model: str) -> str:
    return "LSTM" if model.startswith("LSTM") else "transformer"


def published(k: int, n: int) -> pd.Series:
    table = pd.read_csv(PAPER_VALUES / "xie2022_accuracy.csv").query("vocab_size == 50")
    return table[(table.example_length == k) & (table.num_examples == n)].set_index("model").accuracy_percent


def plot(rows: pd.DataFrame) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5.4), sharey=True)
    excesses = pick(rows, quantity="excess").set_index("model").value.sort_values()
    for k, colour in zip(EXAMPLE_LENGTHS, ("#0072B2", "#009E73", "#E69F00", "#D55E00"), strict=True):
        of_length = pick(rows, quantity="accuracy", example_length=k)
        for shape, which in (("o", "transformer"), ("s", "LSTM")):
            lines = of_length[of_length.model.map(kind) == which]
            zero, full = (lines[lines.num_examples == n] for n in (0, lines.num_examples.max()))
            labels = (f"k = {k}, n = {full.num_examples.max()}", f"k = {k}, n = 0") if shape == "o" else (None, None)
            style = {"color": colour, "marker": shape}
            draw_line(left, full, "parameters", **style, label=labels[0])
            draw_line(left, zero, "parameters", **style, ls=":", mfc="white", label=labels[1])
            draw_line(right, full.assign(excess=full.model.map(excesses)), "excess", **style)
        theirs = published(k, 64)
        left.plot(list(PAPER_PARAMETERS.values()), theirs[list(PAPER_PARAMETERS)], "X--", color=colour, lw=1, ms=7)
    left.plot([], [], "ko", label="transformers")
    left.plot([], [], "ks", label="LSTMs")
    left.plot([], [], "X--", color="black", lw=1, ms=7, label="Xie et al., 4, 12, 16 layers, n = 64")
    left.set(xscale="log", xlabel="parameters", ylabel="accuracy, %", title="by size", ylim=(0, 102))
    for place, (model, at) in enumerate(excesses.items()):
        height = 3 + 6 * (place % 4)  # neighbours at different heights
        right.vlines(at, height, 30, color="#bbbbbb", lw=0.8, ls=":")
        right.text(at, height, str(model).removeprefix("transformer, "), size=8, ha="center", va="center",
                   bbox={"fc": "white", "ec": "none", "pad": 1})  # fmt: skip
    right.margins(x=0.1)
    right.set(xscale="log", xlabel="loss above exact Bayes, nats a token", title="by loss, n as on the left")
    right.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5)))
    right.xaxis.set_major_formatter("{x:g}")
    right.xaxis.minorticks_off()
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Accuracy by size, and the larger of two models of equal loss."""
    table, names = [], list(rows.model.unique())
    equal = [
        (small, large)
        for small, large in itertools.pairwise(names)
        if kind(small) == kind(large) and abs(only(rows, model=large, quantity="more_excess").mean) < EQUAL
    ]
    for k in (5, 10):
        theirs = published(k, 64)
        paper = (
            f"{theirs['transformer, 12 layers']} → {theirs['transformer, 16 layers']} %, n = 64, from 12 to 16 layers "
            "of equal loss (Fig. 5)"
        )
        claim = f"k = {k}: of two models of equal loss the larger is better in context"
        if not equal:
            table.append(Claim(claim, paper, "no two neighbours in size have equal losses", "not found"))
        for small, large in equal:
            more = pick(rows, model=large, quantity="more_accuracy", example_length=k).iloc[0]
            loss = only(rows, model=large, quantity="more_excess")
            table.append(
                Claim(
                    f"{claim} ({small} → {large})",
                    paper,
                    f"{more.value:+.1f} ± {more.half_width:.1f} points at n = {more.num_examples}, "
                    f"{loss.mean:+.4f} ± {loss.half_width:.4f} nats",
                    judged(False, more.value > 0),  # one seed a size: nothing holds
                )
            )
    return table
