"""What in the training documents makes learning in context (Xie et al. 2022, Fig. 4, 7 right and 10)."""

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.claims import Claim, difference, judged, no_more, show
from figures.recipes import Recipe, Wanted, trained
from figures.sources import PAPER_VALUES
from icl_synth import bayes
from icl_synth.concept_hmm import official_ginc
from icl_synth.evaluate import EXAMPLE_LENGTHS, EXAMPLES, Estimate, answers, estimate, examples_that_fit
from icl_synth.prompts import sample_prompts

TITLE = "Other worlds: one concept, random tokens, no entity persistence, low entropy (Xie et al. 2022, Fig. 4, 7, 10)"
DIFFERS = (
    "The paper trains its 4-layer model for these; ours is the transformer of 0.3 M parameters, trained on four "
    "million tokens, a third of `small`'s. Models of a single concept and of random tokens are asked the prompts of "
    "all five official concepts, as there; without entity persistence, and in the low-entropy worlds, prompts come "
    "from the world of training. A low-entropy world has 12 concepts, 100 tokens and temperature .01, so that almost "
    "every move is certain; the paper has one, we draw one for each seed and the interval is over worlds as well. "
    "Which k its Fig. 7 shows was not at hand; all four are here. Exact Bayes is told the format. Verdicts: accuracy "
    "is flat where the 95 % interval of last minus first ends below 2 points, *partly* where the mean does; random "
    "tokens *hold* below 5 % everywhere; few-shot is below zero-shot where some n has its interval below that of n = "
    "0, and recovers where the last mean is above the lowest, *partly* where only means say so."
)
PUBLISHED = ("xie2022*.csv",)
PROMPT_SEED, SHARE_OF_PROMPTS = 1117, 0.4
COLD, BAYES = "low entropy", "exact Bayes"
FLAT = 2.0  # points
COLOURS = {3: "#0072B2", 5: "#009E73", 8: "#E69F00", 10: "#D55E00"}


def wanted(recipe: Recipe) -> Wanted:
    return recipe.worlds


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: world, reader (transformer or exact Bayes), example_length, num_examples, accuracy, half_width (95 %), %.

    All low-entropy worlds make one row; Bayes is there where prompts come from the world of training.
    """
    models, number = trained(wanted(recipe)), max(2, round(SHARE_OF_PROMPTS * recipe.prompts))
    rows = []
    cells = [(k, n) for k in EXAMPLE_LENGTHS for n in examples_that_fit(models[0].config.model.context, k)]
    for k, n in tqdm(cells, desc="other worlds", unit="point"):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(PROMPT_SEED), k), n)
        right: dict[tuple[str, str], list[np.ndarray]] = {}
        for one in models:
            data = one.config.data
            hmm = official_ginc(data.vocab_size)[0] if data.world in ("single", "uniform") else data.build()[0]
            prompts = sample_prompts(hmm, jax.random.fold_in(key, data.world_seed), number, n, k)
            labels, world = np.asarray(prompts.labels), COLD if data.world == "cold" else one.name
            right.setdefault((world, "transformer"), []).append(answers(one.model, prompts) == labels)
            if data.world not in ("single", "uniform"):
                told = np.asarray(bayes.prompt_log_probs(hmm, prompts.tokens, k)).argmax(-1) == labels
                right.setdefault((world, BAYES), []).append(told)
        rows += [(*names, k, n, *(100 * x for x in estimate(np.stack(found)))) for names, found in right.items()]
    columns = ["world", "reader", "example_length", "num_examples", "accuracy", "half_width"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["models"] = [one.record() for one in models]
    return table


def pick(rows: pd.DataFrame, world: str, k: int, reader: str = "transformer") -> pd.DataFrame:
    return rows[(rows.world == world) & (rows.example_length == k) & (rows.reader == reader)].sort_values(
        "num_examples"
    )


def at(line: pd.DataFrame, place: int) -> Estimate:
    return Estimate(line.accuracy.iloc[place], line.half_width.iloc[place])


def published() -> pd.DataFrame:
    return pd.read_csv(PAPER_VALUES / "xie2022_ablations.csv").set_index("setting")


def plot(rows: pd.DataFrame) -> Figure:
    worlds, theirs = list(rows.world.unique()), published()
    figure, panels = plt.subplots(1, len(worlds), figsize=(3.3 * len(worlds), 4.3), sharey=True)
    place = {n: i for i, n in enumerate(EXAMPLES)}
    for panel, world in zip(panels, worlds, strict=True):
        if world in theirs.index:
            panel.axhspan(*theirs.loc[world, ["least_percent", "most_percent"]], color="#cccccc", zorder=0)
        for k, colour in COLOURS.items():
            line, exact = pick(rows, world, k), pick(rows, world, k, BAYES)
            x = line.num_examples.map(place)
            panel.plot(x, line.accuracy, "o-", ms=4, color=colour, label=f"transformer, k = {k}")
            panel.fill_between(x, line.accuracy - line.half_width, line.accuracy + line.half_width, color=colour,
                               alpha=0.2, lw=0)  # fmt: skip
            panel.plot(exact.num_examples.map(place), exact.accuracy, ":", lw=1.2, color=colour)
            if f"{world}, k = {k}" in theirs.index:
                ends = theirs.loc[f"{world}, k = {k}", ["least_percent", "most_percent"]]
                panel.plot([place[0], place[64]], ends, "s--", lw=0.9, mfc="white", color=colour)
        panel.set(title=world, xticks=range(len(EXAMPLES)), xticklabels=EXAMPLES, ylim=(0, 102))
        panel.set_xlim(-0.3, len(EXAMPLES) - 0.7)
        panel.set_xlabel("examples in the prompt, n")
    panels[0].set_ylabel("accuracy, %")
    panels[0].bar([0], [0], color="#cccccc", label="Xie et al. 2022, range")
    panels[0].plot([], [], "s--", lw=0.9, mfc="white", color="#777777", label="Xie et al. 2022, Fig. 10")
    panels[0].plot([], [], ":", color="#777777", label="exact Bayes, told the format")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Flat without concepts to infer, nothing from random tokens, flat when entities move; zero-shot above few-shot."""
    table, theirs = [], published()

    def flat(world: str, k: int, paper: str) -> None:
        line = pick(rows, world, k)
        first, last = at(line, 0), at(line, -1)
        table.append(
            Claim(
                f"{world}, k = {k}: accuracy does not grow with the number of examples",
                paper,
                f"{show(first)} → {show(last)} %, n = 0 → {line.num_examples.iloc[-1]}",
                no_more(difference(last, first), FLAT),
            )
        )

    low, high = theirs.loc["single concept", ["least_percent", "most_percent"]]
    for k in (5, 10):
        flat("single concept", k, f"{low:g} to {high:g} %, flat in n (Fig. 4)")
    tokens = rows[rows.world == "random tokens"].accuracy
    low, high = theirs.loc["random tokens", ["least_percent", "most_percent"]]
    table.append(
        Claim(
            "random tokens: nothing is learnt that answers a prompt",
            f"{low:g} to {high:g} % (Fig. 4)",
            f"{tokens.min():.1f} to {tokens.max():.1f} % over all k and n",
            judged(tokens.max() < 5),
        )
    )
    for k in (3, 10):
        first, last = theirs.loc[f"no entity persistence, k = {k}", ["least_percent", "most_percent"]]
        flat("no entity persistence", k, f"{first:g} → {last:g} %, n = 0 → 64 (Fig. 10)")
    for k in EXAMPLE_LENGTHS:
        line = pick(rows, COLD, k)
        lowest = int(line.accuracy.argmin())
        zero, worst, last = at(line, 0), at(line, lowest), at(line, -1)
        dips = worst.mean + worst.half_width < zero.mean - zero.half_width
        table.append(
            Claim(
                f"{COLD}, k = {k}: few-shot is first below zero-shot, then recovers",
                "seen in a world of temperature .01 (Fig. 7, right)",
                f"{show(zero)} → {show(worst)} → {show(last)} %, n = 0 → {line.num_examples.iloc[lowest]} → "
                f"{line.num_examples.iloc[-1]}",
                judged(dips and last.mean > worst.mean, worst.mean < zero.mean),
            )
        )
    return table
