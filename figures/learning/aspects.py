"""Which parts of a prompt matter: labels, inputs, label set and format changed one by one (Min et al. 2022)."""

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.claims import Claim, judged
from figures.recipes import Recipe, Wanted, trained
from figures.sources import PAPER_VALUES
from icl_synth.aspects import ASPECTS, alter, robust_log_probs
from icl_synth.evaluate import Estimate, answers, estimate
from icl_synth.prompts import sample_prompts

TITLE = "The four aspects of a prompt: labels, inputs, label set and format, changed one by one (Min et al. 2022)"
DIFFERS = (
    "Min et al. give points of accuracy lost by models of 774 M parameters and more on 26 data sets of text; ours are "
    "models of 0.3 M that learnt one world, on prompts of that world with 16 examples, as there, and k tokens each. "
    "Labels in the world are drawn, not decided, so what Min et al. call gold is here the likeliest label of an input "
    "under the prompt's concept, and the prompts as sampled stand beside it. The label set is all tokens that the "
    "world ever says; labels from outside are the tokens it never says, whose embeddings the models never trained; "
    "inputs from outside are tokens drawn from the whole vocabulary. Exact Bayes is told the format and allows for one "
    "label in a hundred, and one example in a hundred, that is noise; without format it is not defined. All variants "
    "ask the same test inputs, and losses are paired with gold labels. Our models know much "
    "without any example, and a wrong example is text that no concept makes: with short examples random labels and "
    "strange inputs leave less than no examples at all, while exact Bayes hardly minds. So the robustness that the "
    "theory predicts is there in the ideal reader, and in the models only where the input is long. Verdicts: a small "
    "cost *holds* at 5 points or less with its interval, Min et al.'s upper end, *partly* where only the mean is; a "
    "cost *holds* where its interval lies above zero and ends below the most that Min et al. saw, *partly* where it "
    "may be more, or is above zero by its mean alone; without format examples are worth what none are where the 95 % "
    "interval of what they add lies within 2 points of zero, *partly* where they add less than 2 by the mean."
)
PUBLISHED = ("min2022.csv",)
EXAMPLES, LENGTHS = 16, (3, 5, 10)
PROMPT_SEED, SHARE_OF_PROMPTS = 2202, 0.4
BAYES = "exact Bayes"
COLOURS = {BAYES: "#000000", "transformer": "#0072B2", "LSTM": "#D55E00"}
FLAT = 2.0  # points
SMALL_COST = 5.0  # points: the most that random labels cost in the paper
MOST_LOST = 16.0  # points: the most that inputs or labels from outside cost there


def wanted(recipe: Recipe) -> Wanted:
    return recipe.kinds


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: model, example_length, aspect, quantity, value, half_width (95 % over seeds and prompts), points.

    Quantities: accuracy; cost (accuracy with gold labels less that of the aspect, paired); gain (accuracy of the
    aspect less that of no examples, paired).
    """
    models = trained(wanted(recipe))
    hmm, _ = models[0].config.data.build()
    context, number = models[0].config.model.context, max(2, round(SHARE_OF_PROMPTS * recipe.prompts))
    rows = []
    bar = tqdm(total=len(LENGTHS) * len(ASPECTS), desc="aspects of a prompt", unit="aspect")
    for k in LENGTHS:
        count = min(EXAMPLES, (context - k + 1) // (k + 1))
        prompt_key, *keys = jax.random.split(jax.random.fold_in(jax.random.key(PROMPT_SEED), k), 1 + len(ASPECTS))
        prompts = sample_prompts(hmm, prompt_key, number, count, k)
        labels = np.asarray(prompts.labels)
        right: dict[tuple[str, str], np.ndarray] = {}
        for aspect, key in zip(ASPECTS, keys, strict=True):
            tokens = alter(hmm, prompts, k, aspect, key)
            changed = prompts._replace(tokens=tokens)
            for name in recipe.models:
                seeds = [answers(one.model, changed) == labels for one in models if one.name == name]
                right[name, aspect] = np.stack(seeds)
            if aspect not in ("inputs only", "labels only"):
                told = np.asarray(robust_log_probs(hmm, tokens, k)).argmax(-1)
                right[BAYES, aspect] = (told == labels)[None]
            bar.update()
        for (name, aspect), correct in right.items():
            quantities = {
                "accuracy": correct,
                "cost": right[name, "gold labels"].astype(float) - correct,
                "gain": correct.astype(float) - right[name, "no examples"],
            }
            for quantity, values in quantities.items():
                mean, half_width = (100 * x for x in estimate(values))
                # rule of three: no case in N prompts is still compatible with a rate of 3 / N
                rows.append((name, k, aspect, quantity, mean, max(half_width, 300 / number)))
    table = pd.DataFrame(rows, columns=["model", "example_length", "aspect", "quantity", "value", "half_width"])
    table.attrs["models"] = [one.record() for one in models]
    return table


def pick(rows: pd.DataFrame, model: str, k: int, quantity: str) -> pd.DataFrame:
    """Estimates by aspect."""
    chosen = rows[(rows.model == model) & (rows.example_length == k) & (rows.quantity == quantity)]
    return chosen.set_index("aspect")


def readers(rows: pd.DataFrame) -> list[str]:
    return [BAYES, *(name for name in rows.model.unique() if name != BAYES)]


def plot(rows: pd.DataFrame) -> Figure:
    lengths, names = sorted(rows.example_length.unique()), readers(rows)
    figure, grid = plt.subplots(2, len(lengths), figsize=(5.6 * len(lengths), 8.4), sharex=True, squeeze=False)
    places = np.arange(len(ASPECTS))
    for column, k in zip(grid.T, lengths, strict=True):
        for index, name in enumerate(names):
            colour = COLOURS.get(name, f"C{index}")
            shift = (index - (len(names) - 1) / 2) * 0.26
            for panel, quantity in zip(column, ("accuracy", "cost"), strict=True):
                line = pick(rows, name, k, quantity).reindex(ASPECTS)
                panel.bar(places + shift, line.value, 0.24, yerr=line.half_width, color=colour, label=name,
                          error_kw={"lw": 1, "capsize": 2})  # fmt: skip
        column[0].set(title=f"k = {k}, 16 examples", ylim=(0, 102))
        column[1].axhline(0, color="black", lw=0.8)
        draw_published(column[1])
        column[1].set_xticks(places, [aspect.replace(" ", "\n") for aspect in ASPECTS], rotation=0, size=8)
        exact = pick(rows, BAYES, k, "accuracy")
        for place, aspect in enumerate(ASPECTS):
            if aspect not in exact.index:  # without format it is not defined
                shift = (names.index(BAYES) - (len(names) - 1) / 2) * 0.26
                for panel in column:
                    panel.text(place + shift, 1, "not defined", ha="center", va="bottom", size=7, rotation=90)
    lowest, highest = (end(panel.get_ylim()[side] for panel in grid[1]) for side, end in ((0, min), (1, max)))
    for panel in grid[1]:
        panel.set_ylim(lowest, highest)
    grid[0, 0].set_ylabel("accuracy, %")
    grid[1, 0].set_ylabel("points lost against gold labels")
    figure.legend(*grid[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names) + 1)
    return figure


def draw_published(panel: plt.Axes) -> None:
    """Min et al.'s ranges of points lost, behind the bars."""
    table = pd.read_csv(PAPER_VALUES / "min2022.csv")
    for index, line in enumerate(table[table.least < table.most].to_dict("records")):
        place = ASPECTS.index(line["aspect"])
        panel.add_patch(
            plt.Rectangle((place - 0.46, line["least"]), 0.92, line["most"] - line["least"], fc="#cccccc", ec="none",
                          zorder=0, label=None if index else "Min et al. 2022, range")
        )  # fmt: skip


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Labels need not be right; set, inputs and format matter."""
    table: list[Claim] = []
    for name in readers(rows):
        for k in sorted(rows.example_length.unique()):
            accuracy, cost, gain = (pick(rows, name, k, quantity) for quantity in ("accuracy", "cost", "gain"))

            def said(aspect: str, accuracy=accuracy, cost=cost) -> str:
                return (
                    f"{accuracy.value['gold labels']:.1f} → {accuracy.value[aspect]:.1f} %, "
                    f"{cost.value[aspect]:.1f} ± {cost.half_width[aspect]:.1f} points"
                )

            wrong = Estimate(*cost.loc["random labels", ["value", "half_width"]])
            table.append(
                Claim(
                    f"{name}, k = {k}: labels may be random",
                    "0 to 5 points lost; 2.6 classification, 1.7 multi-choice",
                    said("random labels"),
                    judged(wrong.mean + wrong.half_width <= SMALL_COST, wrong.mean <= SMALL_COST),
                )
            )
            for aspect, paper in (
                ("inputs from outside", "3 to 16 points lost"),
                ("labels from outside", "5 to 16 points lost (direct models), 0 to 2 (channel models)"),
            ):
                lost = Estimate(*cost.loc[aspect, ["value", "half_width"]])
                verdict = judged(lost.half_width < lost.mean <= MOST_LOST - lost.half_width, lost.mean > 0)
                table.append(Claim(f"{name}, k = {k}: it costs to have {aspect}", paper, said(aspect), verdict))
            for aspect in ("inputs only", "labels only"):
                if aspect in cost.index:
                    more = Estimate(*gain.loc[aspect, ["value", "half_width"]])
                    table.append(
                        Claim(
                            f"{name}, k = {k}: with {aspect} examples are worth what none are",
                            "about as without examples",
                            f"{accuracy.value[aspect]:.1f} %, no examples {accuracy.value['no examples']:.1f} %: "
                            f"{more.mean:+.1f} ± {more.half_width:.1f} points",
                            judged(abs(more.mean) + more.half_width <= FLAT, more.mean <= FLAT),
                        )
                    )
    return table
