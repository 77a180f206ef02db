"""In-context accuracy by number and length of examples (Xie et al. 2022, Fig. 3), beside two exact Bayes readers."""

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.claims import Claim, above, show
from figures.colours import MODELS
from figures.recipes import Recipe, Wanted, trained
from figures.sources import PAPER_VALUES
from icl_synth import bayes
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.evaluate import (
    EXAMPLE_LENGTHS,
    EXAMPLES,
    Estimate,
    answers,
    estimate,
    examples_that_fit,
    pad_to_bucket,
)
from icl_synth.prompts import sample_prompts

TITLE = "In-context accuracy by number and length of examples (Xie et al. 2022, Fig. 3 and 6)"
DIFFERS = (
    "The paper trains GPT-2 of 29 to 114 M parameters with context 1,024 for five epochs over ten million tokens; "
    "`small` trains 0.3 M parameters with context 256 once over tokens that never repeat: twelve million for the "
    "transformer, twenty for the LSTM. Prompts of 64 examples do not fit, so growth is read from n = 0 to the largest "
    "n that fits: 32 for k = 3 and 5, 16 for k = 8 and 10. Paper values are known at n = 0 and n = 64 only; the line "
    "between them is a guide. Our transformer starts far above the paper's at the same loss over Bayes or a worse one; "
    "why is open (candidates: our training sequences always begin at a document's beginning, as a prompt does, and "
    "never repeat). The `paper` preset trains for 6,250 steps where the paper evaluates at 6,000, and draws other "
    "documents for each seed where the paper has one data set. The two Bayes readers are ours. The first knows how "
    "prompts are made and predicts the next token, which is all but the best possible answer (the label is the "
    "likeliest token under the true concept, so the two can differ while the concept is open); the second takes the "
    "prompt for one document, which a prompt is not, and so is no upper bound. Verdicts: *holds* where the 95 % "
    "intervals do not overlap, *partly* where only the means have the claimed order."
)
PROMPT_SEED = 1114
READERS = {"exact Bayes, told the format": "black", "exact Bayes for documents, smoothed 1e-6": "#777777"}
PAPER = {
    "transformer, 4 layers": "#009E73",
    "transformer, 12 layers": "#56B4E9",
    "transformer, 16 layers": "#CC79A7",
    "LSTM": "#E69F00",
}

PUBLISHED = ("xie2022*.csv",)


def wanted(recipe: Recipe) -> Wanted:
    return recipe.kinds


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: model, seeds, example_length, num_examples, accuracy, half_width (95 %), prompts."""
    models = trained(wanted(recipe))
    data = models[0].config.data
    hmm, _ = data.build()
    context = models[0].config.model.context
    rows = []
    cells = [(k, n) for k in EXAMPLE_LENGTHS for n in examples_that_fit(context, k)]
    for k, n in tqdm(cells, desc="prompts", unit="point"):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(PROMPT_SEED), k), n)
        prompts = sample_prompts(hmm, key, recipe.prompts, n, k)
        labels = np.asarray(prompts.labels)
        right: dict[str, list[np.ndarray]] = {name: [] for name in recipe.models}
        for one in models:
            right[one.name].append(answers(one.model, prompts) == labels)
        told, smoothed = READERS
        right[told] = [np.asarray(bayes.prompt_log_probs(hmm, prompts.tokens, k)).argmax(-1) == labels]
        right[smoothed] = [document_answers(hmm, np.asarray(prompts.tokens)) == labels]
        for name, correct in right.items():
            mean, half_width = estimate(np.stack(correct))
            # rule of three: no error in N prompts is still compatible with a rate of 3 / N
            half_width = max(half_width, 3 / len(labels))
            rows.append((name, len(correct), k, n, mean, half_width, len(labels)))
    columns = ["model", "seeds", "example_length", "num_examples", "accuracy", "half_width", "prompts"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["models"] = [one.record() for one in models]
    return table


def document_answers(hmm: ConceptHMM, tokens: np.ndarray) -> np.ndarray:
    """The likeliest next token for a filter that takes the prompt for one document, with smoothed transitions."""
    # position t holds log p(x_t | x_<t): one place more for the answer
    padded = pad_to_bucket(np.pad(tokens, ((0, 0), (0, 1))), most=1 << 20)
    return np.asarray(_likeliest(hmm, padded))[:, tokens.shape[1]]


@jax.jit
def _likeliest(hmm, tokens):
    def one(row):
        return bayes.next_token_log_probs(hmm, row[None], smoothing=1e-6)[0].argmax(-1)

    return jax.lax.map(one, tokens, batch_size=64)


def paper_values() -> pd.DataFrame:
    return pd.read_csv(PAPER_VALUES / "xie2022_accuracy.csv").query("vocab_size == 50")


def plot(rows: pd.DataFrame) -> Figure:
    figure, panels = plt.subplots(1, len(EXAMPLE_LENGTHS), figsize=(12.5, 4.2), sharey=True)
    place = {n: i for i, n in enumerate(EXAMPLES)}
    published = paper_values()
    for panel, k in zip(panels, EXAMPLE_LENGTHS, strict=True):
        for name, colour in READERS.items():
            line = rows[(rows.model == name) & (rows.example_length == k)]
            style = "--" if colour == "black" else ":"
            panel.plot(line.num_examples.map(place), 100 * line.accuracy, style, color=colour, label=name, lw=1.4)
        shown = learned(rows)
        theirs = PAPER if set(shown) <= set(PAPER) else ("transformer, 12 layers", "LSTM")
        for name, colour in ((name, PAPER[name]) for name in theirs):
            line = published[(published.model == name) & (published.example_length == k)]
            panel.plot(
                line.num_examples.map(place), line.accuracy_percent, "s--", color=colour, lw=0.9, mfc="white",
                label=f"Xie et al. 2022: {name}",
            )  # fmt: skip
        for name in shown:
            line = rows[(rows.model == name) & (rows.example_length == k)]
            colour = MODELS[name]
            x, y, half = line.num_examples.map(place), 100 * line.accuracy, 100 * line.half_width
            panel.plot(x, y, "o-", color=colour, label=f"ours: {name}")
            panel.fill_between(x, y - half, y + half, color=colour, alpha=0.2, lw=0)
        panel.set(title=f"k = {k}", xticks=range(len(EXAMPLES)), xticklabels=EXAMPLES, ylim=(0, 102))
        panel.set_xlabel("examples in the prompt, n")
    panels[0].set_ylabel("accuracy, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def learned(rows: pd.DataFrame) -> list[str]:
    """The trained models of the rows, in order."""
    return [name for name in rows.model.unique() if name not in READERS]


def at(rows: pd.DataFrame, model: str, k: int, n: int) -> Estimate:
    one = rows[(rows.model == model) & (rows.example_length == k) & (rows.num_examples == n)].iloc[0]
    return Estimate(100 * one.accuracy, 100 * one.half_width)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Growth by n for each model at k = 5 and 10, growth by k, and LSTM against transformer."""
    table, published, models = [], paper_values(), learned(rows)
    last = {k: rows[(rows.example_length == k) & (rows.model == models[0])].num_examples.max() for k in EXAMPLE_LENGTHS}

    def quoted(name: str, k: int, n: int) -> float:
        chosen = published[(published.example_length == k) & (published.num_examples == n)]
        return chosen.set_index("model").accuracy_percent[name]

    for name in models:
        theirs = name if name in set(published.model) else "transformer, 12 layers"
        for k in (5, 10):
            first, best = at(rows, name, k, 0), at(rows, name, k, last[k])
            table.append(
                Claim(
                    f"{name}, k = {k}: accuracy grows with the number of examples",
                    f"{quoted(theirs, k, 0)} → {quoted(theirs, k, 64)} %, n = 0 → 64 ({theirs}; Fig. 3)",
                    f"{show(first)} → {show(best)} %, n = 0 → {last[k]}",
                    above(best, first),
                )
            )
        short, long = at(rows, name, 3, last[10]), at(rows, name, 10, last[10])
        table.append(
            Claim(
                f"{name}: accuracy grows with the length of examples",
                f"{quoted(theirs, 3, 64)} → {quoted(theirs, 10, 64)} %, k = 3 → 10, n = 64 ({theirs}; Fig. 3)",
                f"{show(short)} → {show(long)} %, k = 3 → 10, n = {last[10]}",
                above(long, short),
            )
        )
    if "LSTM" in models:
        transformer = [name for name in models if name != "LSTM"][-1]
        theirs = transformer if transformer in set(published.model) else "transformer, 16 layers"
        for k in (5, 10):
            lstm, other = at(rows, "LSTM", k, last[k]), at(rows, transformer, k, last[k])
            table.append(
                Claim(
                    f"k = {k}: the LSTM answers prompts more accurately than the transformer",
                    f"{quoted('LSTM', k, 64)} against {quoted(theirs, k, 64)} %, n = 64 ({theirs}; Fig. 6)",
                    f"{show(lstm)} against {show(other)} %, n = {last[k]}",
                    above(lstm, other),
                )
            )
    return table
