"""Which parts of a prompt matter: labels, inputs, label set and format changed one by one (Min et al. 2022)."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, judged, near_zero, no_more
from figures.lab.presets import KINDS, presets
from figures.lab.runs import Models
from figures.lab.style import BAYES, MODELS, RANGE, legend_below
from figures.lab.tables import Table, only, over_seeds, pick, published
from figures.learning.common import any_run, learned, percent_right
from icl_synth.aspects import ASPECTS, alter, robust_log_probs
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.prompt_layout import most_examples
from icl_synth.prompts import Prompts, sample_prompts

TITLE = "The four aspects of a prompt: labels, inputs, label set and format, changed one by one (Min et al. 2022)"
DIFFERS = (
    "Min et al. report the points of accuracy that models of 774 M parameters and more lose on 26 data sets of text. "
    "Our models have 0.3 M parameters and learned one world; they answer prompts of that world with 16 examples, as "
    "there, of k tokens each. The world draws its labels at random, so what Min et al. call a gold label is here the "
    "likeliest label of an input under the prompt's concept; the prompts as sampled stand beside it. The label set is "
    "every token that the world emits. Labels from outside are tokens that it never emits, whose embeddings the models "
    "never trained. Inputs from outside are tokens drawn from the whole vocabulary. Exact Bayes is told the format and "
    "allows for one label in a hundred, and one example in a hundred, that is noise; without format it is not "
    "defined. All variants ask the same test inputs, and losses are paired with gold labels. Our models know much "
    "without any example, and a wrong example is text that no concept makes: with short examples, random labels and "
    "strange inputs leave less than no examples at all, while exact Bayes hardly suffers. The robustness that the "
    "theory predicts is therefore found in the ideal reader, and in the models only where the input is long. A small "
    "cost *holds* where its 95 % interval ends at 5 points or below, Min et al.'s upper end, and *partly* where only "
    "the mean does. That a change costs accuracy *holds* where the interval lies above zero and ends below the most "
    "that Min et al. saw, and *partly* where it may be more or only the mean is above zero. That examples without "
    "format are worth as much as none *holds* where the 95 % interval of what they add lies within 2 points of zero on "
    "either side, and *partly* where only the mean does; elsewhere each of these *fails*."
)
PUBLISHED = ("min2022.csv",)
EXAMPLES = 16
PROMPT_SEED = 2202
NO_FORMAT = ("inputs only", "labels only")  # no prompts of the format that exact Bayes is told
FLAT = 2.0  # points
SMALL_COST = 5.0  # points: the most that random labels cost in the paper
MOST_LOST = 16.0  # points: the most that inputs or labels from outside cost there
QUANTITIES = ("accuracy", "cost", "gain")
BAR = 0.26  # of the distance between two aspects

Right = dict[tuple[str, int | None], Float[np.ndarray, " N"]]  # 100 or 0 for each prompt, by reader and seed


class Sizes(NamedTuple):
    prompts: int  # at each length of examples
    lengths: tuple[int, ...] = (3, 5, 10)


PRESETS = presets(KINDS, quick=Sizes(200), small=Sizes(1000), paper=Sizes(1000))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, example_length, aspect, quantity; value in percent or points.

    Quantities: accuracy; cost (accuracy with gold labels less that of the aspect, paired); gain (accuracy of the
    aspect less that of no examples, paired).
    """
    table = Table("model", "example_length", "aspect", "quantity")
    run = any_run(models)
    hmm, _ = run.config.data.build()
    bar = tqdm(total=len(sizes.lengths) * len(ASPECTS), desc="aspects of a prompt", unit="aspect")
    for k in sizes.lengths:
        count = min(EXAMPLES, most_examples(run.config.model.context, k))
        right: dict[str, Right] = {}
        for aspect, prompts in changed_prompts(hmm, sizes.prompts, count, k):
            right[aspect] = {
                (n, r.seed): percent_right(r.model, prompts) for n, several in models.items() for r in several
            }
            if aspect not in NO_FORMAT:
                told = np.asarray(robust_log_probs(hmm, prompts.tokens, k)).argmax(-1)
                right[aspect][BAYES, None] = 100.0 * (told == np.asarray(prompts.labels))
            bar.update()
        add_length(table, k, right)
    return table.rows()


def changed_prompts(hmm: ConceptHMM, number: int, count: int, k: int) -> Iterator[tuple[str, Prompts]]:
    """Every aspect with the prompts in which it is changed; all ask the same test inputs."""
    prompt_key, *keys = jax.random.split(jax.random.fold_in(jax.random.key(PROMPT_SEED), k), 1 + len(ASPECTS))
    prompts = sample_prompts(hmm, prompt_key, number, count, k)
    for aspect, key in zip(ASPECTS, keys, strict=True):
        yield aspect, prompts._replace(tokens=alter(hmm, prompts, k, aspect, key))


def add_length(table: Table, k: int, right: dict[str, Right]) -> None:
    """The quantities of every aspect and reader at one length of examples."""
    for aspect, readers in right.items():
        for (name, seed), correct in readers.items():
            gold, none = (right[reference][name, seed] for reference in ("gold labels", "no examples"))
            for quantity, values in zip(QUANTITIES, (correct, gold - correct, correct - none), strict=True):
                # rule of three: no case in N prompts is still compatible with a rate of 3 / N
                table.add(name, k, aspect, quantity, seed=seed, values=values, least=300 / len(values))


def plot(rows: pd.DataFrame) -> Figure:
    rows = over_seeds(rows)
    lengths = sorted(rows.example_length.unique())
    figure, grid = plt.subplots(2, len(lengths), figsize=(5.6 * len(lengths), 8.4), sharex=True, squeeze=False)
    for (accuracies, costs), k in zip(grid.T, lengths, strict=True):
        here = pick(rows, example_length=k)
        draw_bars(accuracies, pick(here, quantity="accuracy"))
        draw_bars(costs, pick(here, quantity="cost"))
        accuracies.set(title=f"k = {k}, 16 examples", ylim=(0, 102))
        costs.axhline(0, color="black", lw=0.8)
        draw_published(costs)
        costs.set_xticks(range(len(ASPECTS)), [aspect.replace(" ", "\n") for aspect in ASPECTS], rotation=0, size=8)
    limits = [panel.get_ylim() for panel in grid[1]]
    for panel in grid[1]:
        panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    grid[0, 0].set_ylabel("accuracy, %")
    grid[1, 0].set_ylabel("points lost against gold labels")
    legend_below(figure, grid[1, 0], 5)
    return figure


def draw_bars(panel: Axes, rows: pd.DataFrame) -> None:
    """One quantity at one length: a group of bars for each aspect, a bar for each reader."""
    names = [BAYES, *learned(rows, BAYES)]
    for index, name in enumerate(names):
        shift = (index - (len(names) - 1) / 2) * BAR
        line = pick(rows, model=name).set_index("aspect").reindex(ASPECTS)
        panel.bar(np.arange(len(ASPECTS)) + shift, line.value, BAR - 0.02, yerr=line.half_width, color=MODELS[name],
                  label=name, error_kw={"lw": 1, "capsize": 2})  # fmt: skip
        for place in np.flatnonzero(line.value.isna()):
            panel.text(place + shift, 1, "not defined", ha="center", va="bottom", size=7, rotation=90)


def draw_published(panel: Axes) -> None:
    """Min et al.'s ranges of points lost, behind the bars."""
    table = published("min2022")
    for index, line in enumerate(table[table.least < table.most].to_dict("records")):
        place = ASPECTS.index(line["aspect"])
        panel.add_patch(
            plt.Rectangle((place - 0.46, line["least"]), 0.92, line["most"] - line["least"], fc=RANGE, ec="none",
                          zorder=0, label=None if index else "Min et al. 2022, range")
        )  # fmt: skip


FROM_OUTSIDE = (
    ("inputs from outside", "3 to 16 points lost"),
    ("labels from outside", "5 to 16 points lost (direct models), 0 to 2 (channel models)"),
)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Labels need not be right; the label set, the inputs and the format matter."""
    rows = over_seeds(rows)
    table = []
    for name in [BAYES, *learned(rows, BAYES)]:
        for k in sorted(rows.example_length.unique()):
            here = pick(rows, model=name, example_length=k)
            table.append(random_labels_claim(here, name, k))
            table += [outside_claim(here, name, k, aspect, paper) for aspect, paper in FROM_OUTSIDE]
            table += [no_format_claim(here, name, k, aspect) for aspect in NO_FORMAT if aspect in set(here.aspect)]
    return table


def loss_in_words(here: pd.DataFrame, aspect: str) -> str:
    """Accuracy with gold labels and with the aspect changed, and their difference."""
    gold, changed = (only(here, aspect=which, quantity="accuracy").mean for which in ("gold labels", aspect))
    lost = only(here, aspect=aspect, quantity="cost")
    return f"{gold:.1f} → {changed:.1f} %, {lost.mean:.1f} ± {lost.half_width:.1f} points"


def random_labels_claim(here: pd.DataFrame, name: str, k: int) -> Claim:
    return Claim(
        f"{name}, k = {k}: labels may be random",
        "0 to 5 points lost; 2.6 classification, 1.7 multi-choice",
        loss_in_words(here, "random labels"),
        no_more(only(here, aspect="random labels", quantity="cost"), SMALL_COST),
        headline=(name, k) == ("transformer", 5),
    )


def outside_claim(here: pd.DataFrame, name: str, k: int, aspect: str, paper: str) -> Claim:
    lost = only(here, aspect=aspect, quantity="cost")
    verdict = judged(lost.half_width < lost.mean <= MOST_LOST - lost.half_width, lost.mean > 0)
    return Claim(f"{name}, k = {k}: {aspect} cost accuracy", paper, loss_in_words(here, aspect), verdict)


def no_format_claim(here: pd.DataFrame, name: str, k: int, aspect: str) -> Claim:
    with_it, without = (only(here, aspect=which, quantity="accuracy").mean for which in (aspect, "no examples"))
    more = only(here, aspect=aspect, quantity="gain")
    return Claim(
        f"{name}, k = {k}: examples of {aspect} are worth as much as none",
        "about as without examples",
        f"{with_it:.1f} %, no examples {without:.1f} %: {more.mean:+.1f} ± {more.half_width:.1f} points",
        near_zero(more, FLAT),
    )
