"""Direct and channel answers: who only conditions on labels needs to know their set less (Min et al. 2022, Fig. 9)."""

from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, no_more, positive
from figures.lab.presets import KINDS, presets
from figures.lab.runs import Models
from figures.lab.style import BAYES, RANGE, WIDTH, legend_below
from figures.lab.tables import Table, over_seeds, pick
from figures.learning.aspects import RANGES, cells, in_words, paper_range
from figures.learning.common import LENGTH_COLOURS, add_accuracy, any_run, in_short, learned, one_of_each
from icl_synth.aspects import alter, examples_of, label_set, robust_log_probs
from icl_synth.channel import best_label, channel_scores, label_log_probs
from icl_synth.evaluate import EXAMPLE_LENGTHS
from icl_synth.labels import label_prior, last_examples
from icl_synth.prompt_layout import most_examples
from icl_synth.prompts import sample_prompts

TITLE = "Direct and channel answers to prompts with random labels and labels from outside (Min et al. 2022, Fig. 9)"
DIFFERS = (
    "A channel model of the paper reads each label before its input and answers with the label under which the test "
    "input is likeliest. Our models learned documents, in which no label stands before its input: read in that order, "
    "a prompt would ask them for moves that no concept makes. We ask for the same quantity in the order that they "
    "know. By Bayes' rule p(input | label) is, up to a factor that all labels share, p(label | input) / p(label). Both "
    "are the model's own, after the same 16 examples; p(label) is the mean over the test input and three other inputs "
    "of the same concept and start property. Direct and channel answers are the best of the label set, all tokens that "
    "the world emits. A channel answer prefers labels that are rare with other inputs, and labels of this world are "
    "far from equally frequent: exact Bayes, told the format and asked in the same two ways, shows what that costs. "
    "The paper compares models that were trained for either order. This experiment tests its explanation, that a "
    "model that "
    "only conditions on labels does not need to know their set; it does not test the "
    "paper's models. Labels from outside are held "
    "against random labels, random labels against gold labels and against no examples, always on the same test "
    "inputs. Every length is a part of each claim. Labels from outside cost channel answers little where they cost at "
    "most 2 points, random labels where they cost at most 5, as in the paper."
)
PUBLISHED = ("min2022.csv",)
EXAMPLES = 16
PROMPT_SEED = 2205
GOLD, RANDOM, OUTSIDE, NONE = ASKED = ("gold labels", "random labels", "labels from outside", "no examples")
ANSWERS = ("direct", "channel")

Scores = tuple[Float[np.ndarray, "N V"], Float[np.ndarray, "N V"]]  # log p(label | input), log p(label)
Right = dict[str, Float[np.ndarray, " N"]]  # 100 or 0 for each prompt, by what the prompts show


class Sizes(NamedTuple):
    prompts: int  # at each length of examples
    others: int = 3  # other inputs of the task, over which p(label) is a mean
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS


PRESETS = presets(KINDS, quick=Sizes(100, lengths=(3, 10)), small=Sizes(400), paper=Sizes(400))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, example_length, labels (what the prompts show), answer, quantity; value in percent or points.

    Quantities, all paired: accuracy; of random labels, cost (against gold labels) and gain (over no examples); of
    labels from outside, cost (against random labels) and more than channel (what that costs direct answers more).
    """
    table = Table("model", "example_length", "labels", "answer", "quantity")
    run = any_run(models)
    hmm, _ = run.config.data.build()
    for k in tqdm(sizes.lengths, desc="direct and channel", unit="length"):
        shown = min(EXAMPLES, most_examples(run.config.model.context, k))
        key, *keys = jax.random.split(jax.random.fold_in(jax.random.key(PROMPT_SEED), k), 1 + len(ASKED))
        drawn = sample_prompts(hmm, key, sizes.prompts, shown + sizes.others, k)
        others = examples_of(drawn, k)[0][:, : sizes.others, :-1]
        prompts = last_examples(drawn, k, shown)
        asked = {
            labels: prompts._replace(tokens=alter(hmm, prompts, k, labels, one))
            for labels, one in zip(ASKED, keys, strict=True)
        }
        truth, known = np.asarray(prompts.labels), label_set(hmm)
        for name, runs in models.items():
            for one in runs:
                scores = {labels: label_log_probs(one.model, altered, others) for labels, altered in asked.items()}
                add_answers(table, (name, k), one.seed, scores, truth, known)
        scores = {
            labels: (
                np.asarray(robust_log_probs(hmm, altered.tokens, k)),
                np.asarray(label_prior(hmm, altered.tokens, k)),
            )
            for labels, altered in asked.items()
        }
        add_answers(table, (BAYES, k), None, scores, truth, known)
    return table.rows()


def add_answers(
    table: Table,
    who: tuple[str, int],
    seed: int | None,
    scores: dict[str, Scores],
    truth: Int[np.ndarray, " N"],
    known: Int[np.ndarray, " Y"],
) -> None:
    """The quantities of both answers of one reader at one length."""
    told = {
        "direct": {labels: direct for labels, (direct, _) in scores.items()},
        "channel": {labels: channel_scores(direct, prior) for labels, (direct, prior) in scores.items()},
    }
    lost = {}
    for answer, by_labels in told.items():
        right: Right = {labels: 100.0 * (best_label(best, known) == truth) for labels, best in by_labels.items()}
        lost[answer] = right[RANDOM] - right[OUTSIDE]
        for labels, values in right.items():
            add_accuracy(table, *who, labels, answer, "accuracy", values=values, seed=seed)
        add_accuracy(table, *who, RANDOM, answer, "cost", values=right[GOLD] - right[RANDOM], seed=seed)
        add_accuracy(table, *who, RANDOM, answer, "gain", values=right[RANDOM] - right[NONE], seed=seed)
        add_accuracy(table, *who, OUTSIDE, answer, "cost", values=lost[answer], seed=seed)
    more = lost["direct"] - lost["channel"]
    add_accuracy(table, *who, OUTSIDE, "direct", "more than channel", values=more, seed=seed)


def plot(rows: pd.DataFrame) -> Figure:
    """What labels from outside cost direct and channel answers."""
    rows = over_seeds(rows)
    names = [*one_of_each(learned(rows, BAYES)), BAYES]
    figure, panels = plt.subplots(1, len(ANSWERS), figsize=(WIDTH, 3.6), sharey=True)
    for panel, answer in zip(panels, ANSWERS, strict=True):
        draw_costs(panel, rows, names, answer)
        panel.set_title(f"{answer} answers")
    panels[0].set_ylabel("points lost by labels from outside")
    legend_below(figure, panels[0], 5)
    more = [gap for name in names[:-1] for gap in cells(rows, model=name, quantity="more than channel").values()]
    clear = sum(positive(gap).verdict == "holds" for gap in more)
    figure.suptitle(f"Labels from outside clearly cost direct answers more in {clear} of {len(more)} cases", size=11)
    return figure


def draw_costs(panel: Axes, rows: pd.DataFrame, names: list[str], answer: str) -> None:
    """What labels from outside cost one kind of answer, a dot for each length, over the paper's range."""
    panel.axhspan(*paper_range(OUTSIDE, f"{answer} models"), color=RANGE, lw=0, zorder=0, label="Min et al.")
    for place, name in enumerate(names):
        costs = cells(rows, model=name, labels=OUTSIDE, quantity="cost", answer=answer)
        for index, (k, cost) in enumerate(costs.items()):
            x = place + 0.15 * (index - (len(costs) - 1) / 2)
            panel.errorbar(x, cost.mean, cost.half_width, fmt="o", ms=4, lw=1, color=LENGTH_COLOURS[k],
                           label=None if place else f"k = {k}")  # fmt: skip
    panel.axhline(0, color="black", lw=0.8)
    panel.set(xticks=range(len(names)), xticklabels=[in_short(name) for name in names], xlim=(-0.5, len(names) - 0.5))
    panel.grid(visible=False, axis="x")


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Channel answers need the label set less than direct ones, and random labels harm them little."""
    rows = over_seeds(rows)
    return [claim for name in learned(rows, BAYES) for claim in model_claims(pick(rows, model=name), name)]


def model_claims(here: pd.DataFrame, name: str) -> list[Claim]:
    channel = pick(here, answer="channel")
    outside, random = (cells(channel, labels=labels, quantity="cost") for labels in (OUTSIDE, RANDOM))
    gained = cells(channel, labels=RANDOM, quantity="gain")
    more = cells(here, labels=OUTSIDE, quantity="more than channel")
    small, marginal = paper_range(OUTSIDE, "channel models")[1], paper_range(RANDOM, RANGES[RANDOM])[1]
    return [
        Claim(
            f"{name}: labels from outside cost direct answers more than channel answers",
            "5 to 16 points against 0 to 2 (section 5.2, Fig. 9)",
            f"more by {in_words(more)}",
            [positive(value) for value in more.values()],
        ),
        Claim(
            f"{name}, channel: labels from outside cost little against random labels",
            f"0 to {small:g} points lost, or even a gain (section 5.2, Fig. 9)",
            f"lost {in_words(outside)}",
            [no_more(cost, small) for cost in outside.values()],
        ),
        Claim(
            f"{name}, channel: random labels cost little against gold labels",
            f"0 to {marginal:g} points lost (section 4.1, Fig. 3)",
            f"lost {in_words(random)}",
            [no_more(cost, marginal) for cost in random.values()],
        ),
        Claim(
            f"{name}, channel: examples with random labels are better than none",
            "yes, of nearly all models (section 4.1, Fig. 3)",
            f"gained {in_words(gained)}",
            [positive(gain) for gain in gained.values()],
        ),
    ]
