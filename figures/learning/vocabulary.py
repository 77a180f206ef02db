"""Vocabularies of 50, 100 and 150 tokens: loss and accuracy in context (Xie et al. 2022, Fig. 3, 6 and the tables)."""

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.claims import Claim, above, judged, show
from figures.colours import MODELS
from figures.pruning import only, pick
from figures.recipes import Recipe, Wanted, trained
from figures.sources import PAPER_VALUES
from icl_synth import bayes
from icl_synth.evaluate import EXAMPLE_LENGTHS, Estimate, answers, compare_with_bayes, estimate, examples_that_fit
from icl_synth.prompts import sample_prompts
from icl_synth.train import validation_documents

TITLE = "Loss and in-context accuracy by the size of the vocabulary (Xie et al. 2022, Fig. 3 and 6)"
DIFFERS = (
    "In all worlds of the paper 90 pairs of an entity and a property emit tokens drawn from the vocabulary; with 50 "
    "tokens 80 of them share theirs with another pair, with 100 tokens 52, with 150 tokens 40, so that a token tells "
    "more of the hidden state. The official worlds differ in more than that: another vocabulary moves the stream of "
    "random numbers, so property matrices differ too, and their moves have an entropy of 1.01, 1.10 and 0.96 nats, "
    "which is the order of the losses. What is the vocabulary's doing and what the matrices' cannot be told apart "
    "here, nor in the paper. In `small` a transformer of 0.3 M parameters after four million tokens, a third of "
    "`fig_icl_accuracy`'s, and an LSTM after eight, four tenths. Training documents never repeat in `quick` and "
    "`small`, so the loss on training documents is that on held-back ones but for noise, and one number stands for "
    "both; the paper's is its validation loss. Held-back documents and prompts are the same for all seeds and models "
    "of a world. Accuracy: no examples, and the most that fit, 32 for k = 3 and 5, 16 for k = 8 and 10 (the paper: "
    "64). Verdicts: *holds* where intervals are apart, *partly* where only means are, and of several cells where all "
    "have the order."
)
PUBLISHED = ("xie2022*.csv",)
PROMPT_SEED, SHARE_OF_PROMPTS = 1121, 0.4
BAYES = "exact Bayes, told the format"


def wanted(recipe: Recipe) -> Wanted:
    return recipe.vocabularies


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: model, vocab_size, quantity, example_length, num_examples, value, half_width (95 %).

    Quantities: loss (nats a token on held-back documents), excess (the same above exact Bayes), accuracy (%).
    """
    models, number = trained(wanted(recipe)), max(2, round(SHARE_OF_PROMPTS * recipe.prompts))
    found: dict[tuple, list[np.ndarray]] = {}
    by_world: dict[int, list] = {}
    for one in models:
        by_world.setdefault(one.config.data.vocab_size, []).append(one)
    for size, those in by_world.items():
        hmm, _ = those[0].config.data.build()
        tokens, _ = validation_documents(those[0].config)
        for one in those:
            against = compare_with_bayes(one.model, hmm, tokens)
            name = one.name.rsplit(", V = ")[0]
            found.setdefault((name, size, "loss", 0, 0), []).append(against.model_loss.mean(-1))
            found.setdefault((name, size, "excess", 0, 0), []).append(against.excess.mean(-1))
            found[BAYES, size, "loss", 0, 0] = [against.bayes_loss.mean(-1)]
        context = min(one.config.model.context for one in those)
        for k in tqdm(EXAMPLE_LENGTHS, desc=f"{size} tokens", unit="length"):
            ends = examples_that_fit(context, k)
            for n in (ends[0], ends[-1]):
                key = jax.random.fold_in(jax.random.key(PROMPT_SEED), 100 * k + n)
                prompts = sample_prompts(hmm, key, number, n, k)
                labels = np.asarray(prompts.labels)
                for one in those:
                    right = 100.0 * (answers(one.model, prompts) == labels)
                    found.setdefault((one.name.rsplit(", V = ")[0], size, "accuracy", k, n), []).append(right)
                told = np.asarray(bayes.prompt_log_probs(hmm, prompts.tokens, k)).argmax(-1)
                found[BAYES, size, "accuracy", k, n] = [100.0 * (told == labels)]
    rows = [(*cell, *estimate(np.stack(values))) for cell, values in found.items()]
    columns = ["model", "vocab_size", "quantity", "example_length", "num_examples", "value", "half_width"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["models"] = [one.record() for one in models]
    return table


def published(table: str) -> pd.DataFrame:
    return pd.read_csv(PAPER_VALUES / f"xie2022_{table}.csv")


def learned(rows: pd.DataFrame) -> list[str]:
    return [name for name in rows.model.unique() if name != BAYES]


def plot(rows: pd.DataFrame) -> Figure:
    figure, (left, *panels) = plt.subplots(1, 5, figsize=(15, 4.4))
    sizes = sorted(rows.vocab_size.unique())
    ours = {name: MODELS[name] for name in learned(rows)}
    paper = {"transformer, 12 layers": "#56B4E9", "LSTM": "#E69F00"} if set(ours) == {"transformer", "LSTM"} else ours
    losses = published("loss")
    for name, colour in paper.items():
        line = losses[losses.model == name]
        left.plot(line.vocab_size, line.validation_loss, "s--", lw=0.9, mfc="white", color=colour,
                  label=f"Xie et al. 2022: {name}")  # fmt: skip
    for name, colour in ours.items():
        line = pick(rows, model=name, quantity="loss")
        left.errorbar(line.vocab_size, line.value, None, marker="o", color=colour, label=f"ours: {name}")
    exact = pick(rows, model=BAYES, quantity="loss")
    left.plot(exact.vocab_size, exact.value, "--", color="black", label="exact Bayes")
    left.set(title="loss on held-back documents", ylabel="nats a token", xticks=sizes)
    table = published("accuracy")
    for panel, k in zip(panels, EXAMPLE_LENGTHS, strict=True):
        for name, colour in paper.items():
            theirs = table[(table.model == name) & (table.example_length == k)]
            for n, ls in ((0, ":"), (64, "--")):
                line = theirs[theirs.num_examples == n]
                panel.plot(line.vocab_size, line.accuracy_percent, ls, marker="s", lw=0.9, mfc="white", color=colour)
        for name, colour in (ours | {BAYES: "black"}).items():
            lines = pick(rows, model=name, quantity="accuracy", example_length=k)
            for n, ls in ((0, ":"), (lines.num_examples.max(), "-")):
                line = pick(lines, num_examples=n)
                panel.errorbar(line.vocab_size, line.value, line.half_width, ls=ls, marker="o", capsize=2,
                               color=colour, ms=3 if name == BAYES else 5)  # fmt: skip
        panel.set(title=f"k = {k}", xticks=sizes, ylim=(0, 104))
    panels[0].set_ylabel("accuracy, %")
    for panel in (left, *panels):
        panel.set_xlabel("tokens in the vocabulary, V")
    left.plot([], [], "-", color="#555555", label="most examples (64 in the paper)")
    left.plot([], [], ":", color="#555555", label="no examples")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Loss by vocabulary, accuracy by vocabulary, growth by n in each, the LSTM beside the transformer."""
    table, losses, accuracies = [], published("loss").set_index(["model", "vocab_size"]), published("accuracy")
    sizes = sorted(rows.vocab_size.unique())

    def quoted(name: str, size: int, k: int, n: int) -> float:
        chosen = accuracies.query("vocab_size == @size and example_length == @k and num_examples == @n")
        return chosen.set_index("model").accuracy_percent[name]

    def most(name: str, size: int, k: int) -> Estimate:
        line = pick(rows, model=name, vocab_size=size, quantity="accuracy", example_length=k)
        return only(line, num_examples=line.num_examples.max())

    for name in learned(rows):
        theirs = "transformer, 12 layers" if name == "transformer" else name
        each = [only(rows, model=name, vocab_size=size, quantity="loss") for size in sizes]
        beyond = [only(rows, model=name, vocab_size=size, quantity="excess") for size in sizes]
        exact = [only(rows, model=BAYES, vocab_size=size, quantity="loss").mean for size in sizes]
        orders = above(each[1], each[0]), above(each[0], each[2])
        table.append(
            Claim(
                f"{name}: the loss is highest with 100 tokens, lowest with 150",
                f"{', '.join(f'{losses.validation_loss[theirs, size]:.2f}' for size in sizes)} nats for "
                f"V = {', '.join(map(str, sizes))} ({theirs}; table)",
                f"{', '.join(show(one, 3) for one in each)} nats, {', '.join(show(one, 3) for one in beyond)} above "
                f"exact Bayes ({', '.join(f'{loss:.3f}' for loss in exact)})",
                judged(orders == ("holds", "holds"), "fails" not in orders),
            )
        )
        for k in (3, 10):
            low, high = most(name, sizes[0], k), most(name, sizes[-1], k)
            table.append(
                Claim(
                    f"{name}, k = {k}: accuracy is higher with 150 tokens than with 50",
                    f"{quoted(theirs, 50, k, 64)} → {quoted(theirs, 150, k, 64)} %, n = 64 ({theirs}; Fig. 3)",
                    f"{show(low)} → {show(high)} %, the most examples",
                    above(high, low),
                )
            )
        grown, means = [], []
        for size in sizes:
            for k in EXAMPLE_LENGTHS:
                zero = only(rows, model=name, vocab_size=size, quantity="accuracy", example_length=k, num_examples=0)
                full = most(name, size, k)
                grown.append(full.mean - full.half_width > zero.mean + zero.half_width)
                means.append(full.mean > zero.mean)
        table.append(
            Claim(
                f"{name}: accuracy grows with examples in every vocabulary and for every length",
                f"in all 12 cells ({theirs}; Fig. 3 and 6)",
                f"grows in {sum(means)} of {len(means)} cells, intervals apart in {sum(grown)}",
                judged(all(grown), all(means)),
            )
        )
    transformers = [name for name in learned(rows) if name != "LSTM"]
    if transformers and "LSTM" in learned(rows):
        for size in sizes:
            lstm, other = most("LSTM", size, 10), most(transformers[-1], size, 10)
            table.append(
                Claim(
                    f"V = {size}, k = 10: the LSTM answers prompts more accurately than the transformer",
                    f"{quoted('LSTM', size, 10, 64)} against {quoted('transformer, 16 layers', size, 10, 64)} % "
                    "(16 layers), n = 64 (Fig. 6)",
                    f"{show(lstm)} against {show(other)} %",
                    above(lstm, other),
                )
            )
    return table
