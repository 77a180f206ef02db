"""How many labels are right, how many are shown, and how they are distributed: ablations of Min et al. 2022."""

from typing import Any, NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, at_least, no_more, positive
from figures.lab.presets import KINDS, presets
from figures.lab.runs import Models
from figures.lab.style import GREY, RANGE, WIDTH, legend_below, places
from figures.lab.tables import Table, over_seeds, pick, published
from figures.learning.aspects import RANGES, by_length, cells, in_words, paper_range
from figures.learning.common import LENGTH_COLOURS, any_run, few_lengths, learned, one_of_each, percent_right
from icl_synth.aspects import alter, examples_of, gold_labels, wrong_labels
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.evaluate import EXAMPLE_LENGTHS, examples_that_fit
from icl_synth.labels import labels_of_the_task, last_examples, mixed, with_labels
from icl_synth.prompts import Prompts, sample_prompts

TITLE = "Labels in a prompt: how many are right, how many are shown (Min et al. 2022, Fig. 4 and 5)"
DIFFERS = (
    "As in Min et al., a share of the labels shown is right, to a whole number of examples in random places, and the "
    "others are drawn from the label set without the right one; right is the likeliest label under the prompt's "
    "concept. Random labels are drawn uniformly from the label set, the labels of the task from the exact distribution "
    "of labels given concept and start property. Prompts with fewer examples are the ends of those with more, so that "
    "all ask the same test inputs. Short contexts hold fewer than the paper's 32 examples where examples are long. "
    "Every share, number and length is a part of its claim. Insensitive to the share means that no share costs more "
    "than 5 points, the most that the paper calls marginal. All wrong labels keep the gain where at least 92 % of the "
    "gain from gold labels remains, the least of the three numbers that the paper gives (a fourth setting loses nearly "
    "10 points). The gap between gold and random labels is small at any number of examples where it is at most the "
    "paper's 1.6 points. The gain saturates at 8 examples where more is gained up to 8 than from 8 to the most that "
    "fit; the paper gives no number."
)
PUBLISHED = ("min2022.csv",)
EXAMPLES = 16
PROMPT_SEED = 2203
SHARES = (0.75, 0.5, 0.25, 0.0)
WRONG, RANDOM, NONE = "0 % right", "random labels", "no examples"
GOLD, TASK = "gold labels", "labels of the task"
STYLES: tuple[dict[str, Any], ...] = ({"ls": "-", "marker": "o"}, {"ls": ":", "marker": "^"})  # of models

Cell = tuple[int, str]  # number of examples and their labels
Right = dict[Cell, Float[np.ndarray, " N"]]  # 100 or 0 for each prompt


class Sizes(NamedTuple):
    prompts: int  # at each length of examples
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS
    numbers: tuple[int, ...] = (4, 8, 16, 32)  # of examples
    enough: int = 8  # from which the gain saturates


PRESETS = presets(KINDS, quick=Sizes(200, (3, 10), (4, 8, 16)), small=Sizes(600), paper=Sizes(600))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, example_length, num_examples, labels, quantity; value in percent or points.

    Quantities, all paired: accuracy; cost (against gold labels); gain (over no examples); kept (the gain less the
    share of gold labels' gain that the paper's models keep); more than random labels; early less late (the gain up to
    enough examples less that from there to the most).
    """
    table = Table("model", "example_length", "num_examples", "labels", "quantity")
    run = any_run(models)
    hmm, _ = run.config.data.build()
    for k in tqdm(sizes.lengths, desc="labels", unit="length"):
        asked = ask(hmm, k, sizes, run.config.model.context)
        for name, runs in models.items():
            for one in runs:
                right = {cell: percent_right(one.model, prompts) for cell, prompts in asked.items()}
                add_quantities(table, (name, k), one.seed, right, sizes.enough)
    return table.rows()


def ask(hmm: ConceptHMM, k: int, sizes: Sizes, context: int) -> dict[Cell, Prompts]:
    """Every number of examples that fits with gold and with random labels; at one number, all other labels too."""
    numbers = examples_that_fit(context, k, sizes.numbers)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(PROMPT_SEED), k), 5)
    longest = sample_prompts(hmm, keys[0], sizes.prompts, max(numbers), k)
    gold = gold_labels(hmm, longest, examples_of(longest, k)[0][:, :, :-1])
    random = examples_of(longest._replace(tokens=alter(hmm, longest, k, RANDOM, keys[1])), k)[0][:, :, -1]

    def relabelled(number: int, labels: Int[Array, "B N"]) -> Prompts:
        shown = last_examples(longest, k, number)
        return with_labels(shown, k, labels[:, labels.shape[1] - number :])

    asked = {(0, NONE): last_examples(longest, k, 0)}
    for number in numbers:
        asked |= {(number, GOLD): relabelled(number, gold), (number, RANDOM): relabelled(number, random)}
    shown = max(number for number in numbers if number <= EXAMPLES)
    some, right = last_examples(longest, k, shown), gold[:, max(numbers) - shown :]
    wrong = wrong_labels(hmm, right, keys[2])
    for share in SHARES:
        asked[shown, share_name(share)] = relabelled(shown, mixed(right, wrong, share, keys[3]))
    asked[shown, TASK] = relabelled(shown, labels_of_the_task(hmm, some, k, keys[4]))
    return asked


def share_name(share: float) -> str:
    return f"{100 * share:.0f} % right"


def add_quantities(table: Table, who: tuple[str, int], seed: int, right: Right, enough: int) -> None:
    """The quantities of one model at one length."""

    def add(number: int, labels: str, **values: Float[np.ndarray, " N"]) -> None:
        for name, of_prompts in values.items():
            # rule of three: no case in N prompts is still compatible with a rate of 3 / N
            cell = (*who, number, labels, name.replace("_", " "))
            table.add(*cell, seed=seed, values=of_prompts, least=300 / len(of_prompts))

    none, numbers = right[0, NONE], sorted({number for number, _ in right})
    shown = max(number for number in numbers if number <= EXAMPLES)
    for (number, labels), correct in right.items():
        add(number, labels, accuracy=correct, gain=correct - none)
        if number:
            add(number, labels, cost=right[number, GOLD] - correct)
    kept = right[shown, WRONG] - none - paper_kept() / 100 * (right[shown, GOLD] - none)
    add(shown, WRONG, kept=kept)
    add(shown, TASK, more_than_random_labels=right[shown, TASK] - right[shown, RANDOM])
    for labels in (GOLD, RANDOM):
        add(numbers[-1], labels, early_less_late=2 * right[enough, labels] - none - right[numbers[-1], labels])


def paper_kept() -> float:
    """The least percentage of the gain from gold labels that wrong ones keep in the paper."""
    return float(published("min2022", quantity="percent of the gain from gold labels kept").least.min())


def plot(rows: pd.DataFrame) -> Figure:
    """The shortest and the longest examples."""
    rows = over_seeds(rows)
    names, lengths = one_of_each(learned(rows)), few_lengths(rows, 2)
    costs = pick(rows[rows.example_length.isin(lengths)], quantity="cost")
    figure, (shares, numbers) = plt.subplots(1, 2, figsize=(WIDTH, 3.6), sharey=True)
    draw_shares(shares, costs, names)
    draw_numbers(numbers, costs, names)
    shares.set_ylabel("points lost against gold labels")
    for panel in (shares, numbers):
        panel.axhline(0, color="black", lw=0.8)
    for k in lengths:
        shares.plot([], [], color=LENGTH_COLOURS[k], label=f"k = {k}")
    for name, style in zip(names, STYLES, strict=False):
        shares.plot([], [], color=GREY, label=name, **style)
    legend_below(figure, shares, 5)
    lost = [cost.mean for name in names for cost in cells(rows, model=name, labels=WRONG, quantity="cost").values()]
    figure.suptitle(f"If all labels shown are wrong, {round(min(lost))} to {round(max(lost))} points are lost", size=11)
    return figure


def draw_shares(panel: Axes, costs: pd.DataFrame, names: list[str]) -> None:
    """Points lost by the share of right labels; the paper's range for random labels."""
    percent = {share_name(share): 100 * share for share in SHARES}
    wrong = costs[costs.labels.isin(percent)]
    panel.axhspan(*paper_range(RANDOM, RANGES[RANDOM]), color=RANGE, zorder=0, label="Min et al.")
    draw_lines(panel, wrong.assign(x=wrong.labels.map(percent)), names)
    panel.set(title=f"{EXAMPLES} examples", xlabel="right labels, %", xticks=list(percent.values()))


def draw_numbers(panel: Axes, costs: pd.DataFrame, names: list[str]) -> None:
    """Points that random labels cost by the number of examples; the paper's range."""
    random = pick(costs, labels=RANDOM)
    place = places(sorted(random.num_examples.unique()))
    panel.axhspan(*paper_range(RANDOM, "4 to 32 demonstrations"), color=RANGE, zorder=0)
    draw_lines(panel, random.assign(x=random.num_examples.map(place)), names)
    panel.set(title="random labels", xlabel="examples, n", xticks=list(place.values()), xticklabels=list(place))


def draw_lines(panel: Axes, costs: pd.DataFrame, names: list[str]) -> None:
    """A line for each model, by its style, and length of examples, by its colour; bars side by side."""
    step = 0.012 * (costs.x.max() - costs.x.min())
    for index, (name, style) in enumerate(zip(names, STYLES, strict=False)):
        for k, line in by_length(pick(costs, model=name)).items():
            line = line.assign(x=line.x + step * (2 * index - 1)).sort_values("x")
            panel.errorbar(line.x, line.value, line.half_width, color=LENGTH_COLOURS[k], elinewidth=0.8, ms=4, **style)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Right labels matter little, and a few examples are enough."""
    rows = over_seeds(rows)
    table = []
    for name in learned(rows):
        here = pick(rows, model=name)
        table += share_claims(here, name) + number_claims(here, name)
    return table


def share_claims(here: pd.DataFrame, name: str) -> list[Claim]:
    marginal = paper_range(RANDOM, RANGES[RANDOM])[1]
    costs = {share: cells(here, labels=share_name(share), quantity="cost") for share in SHARES}
    gained, kept = (cells(here, labels=WRONG, quantity=quantity) for quantity in ("gain", "kept"))
    more = cells(here, labels=TASK, quantity="more than random labels")
    shown = int(pick(here, labels=WRONG).num_examples.iloc[0])
    gold = cells(here, labels=GOLD, quantity="gain", num_examples=shown)
    return [
        Claim(
            f"{name}: accuracy hardly depends on the share of right labels",
            "fairly insensitive; if all are wrong, one of four settings loses nearly 10 points (section 4.2, Fig. 4)",
            ". ".join(f"{share_name(share)}: lost {in_words(values)}" for share, values in costs.items()),
            [no_more(cost, marginal) for values in costs.values() for cost in values.values()],
        ),
        Claim(
            f"{name}: examples whose labels are all wrong are better than none",
            "yes, in all four settings (section 4.2, Fig. 4)",
            f"gained {in_words(gained)}",
            [positive(gain) for gain in gained.values()],
            headline=name == "transformer",
        ),
        Claim(
            f"{name}: all wrong labels keep most of what gold labels gain",
            "92, 97 and 100 % kept; one setting loses nearly 10 points (section 4.2, Fig. 4)",
            f"gold labels gained {in_words(gold)}; wrong ones more than {paper_kept():g} % of it by {in_words(kept)}",
            [at_least(value, 0.0) for value in kept.values()],
        ),
        Claim(
            f"{name}: random labels of the task's distribution cost less than uniform ones",
            "1.3 instead of 1.9, 3.5 instead of 5.0 points lost by two channel models (appendix C.2)",
            f"lost less by {in_words(more)}",
            [positive(value) for value in more.values()],
        ),
    ]


def number_claims(here: pd.DataFrame, name: str) -> list[Claim]:
    most = paper_range(RANDOM, "4 to 32 demonstrations")[1]
    numbers = sorted(pick(here, labels=RANDOM).num_examples.unique())
    gaps = {n: cells(here, labels=RANDOM, quantity="cost", num_examples=n) for n in numbers}
    table = [
        Claim(
            f"{name}: random labels cost little at every number of examples",
            f"0.8 to {most:g} points lost (section 4.2, Fig. 5)",
            ". ".join(f"n = {n}: lost {in_words(values)}" for n, values in gaps.items()),
            [no_more(gap, most) for values in gaps.values() for gap in values.values()],
        )
    ]
    for labels in (GOLD, RANDOM):
        gains = cells(here, labels=labels, quantity="gain", num_examples=numbers[0])
        early = cells(here, labels=labels, quantity="early less late")
        table += [
            Claim(
                f"{name}: {numbers[0]} examples with {labels} are better than none",
                "yes, already 4 (section 4.2, Fig. 5)",
                f"gained {in_words(gains)}",
                [positive(gain) for gain in gains.values()],
            ),
            Claim(
                f"{name}: the gain from examples with {labels} saturates at 8",
                "not much more from 8 on (section 4.2, Fig. 5)",
                f"up to 8 examples gained more than from there to the most by {in_words(early)}",
                [positive(value) for value in early.values()],
            ),
        ]
    return table
