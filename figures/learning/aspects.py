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

from figures.lab.claims import Claim, between, no_more, positive, show
from figures.lab.presets import KINDS, presets
from figures.lab.runs import Models
from figures.lab.style import BAYES, RANGE, WIDTH, legend_below, panels
from figures.lab.tables import Table, as_estimate, over_seeds, pick, published
from figures.learning.common import LENGTH_COLOURS, any_run, learned, one_of_each, percent_right
from icl_synth.aspects import ASPECTS, alter, robust_log_probs
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.estimates import Estimate
from icl_synth.evaluate import EXAMPLE_LENGTHS
from icl_synth.prompt_layout import most_examples
from icl_synth.prompts import Prompts, sample_prompts

TITLE = "The four aspects of a prompt: labels, inputs, label set and format, changed one by one (Min et al. 2022)"
DIFFERS = (
    "Min et al. ask models of 774 M parameters and more about 26 data sets of text. Our models have 0.3 M parameters "
    "and learned one world; they answer prompts of that world with 16 examples, as there, of k tokens each. What Min "
    "et al. call a gold label is here the likeliest label of an input under the prompt's concept; the prompts as "
    "sampled stand beside it. The label set is every token that the world emits, while theirs has a few labels. Labels "
    "from outside are tokens that the world never emits, whose embeddings the models never trained. Inputs from "
    "outside are tokens drawn from the whole vocabulary, before random labels, as theirs are. "
    "Exact Bayes is told the format and allows for one label in a hundred, and one example in a hundred, that is "
    "noise; without format it is not defined, and its claims leave out lengths at which it answers every test input "
    "without any example. All variants ask the same test inputs, and every difference is paired. As in the paper, "
    "random labels are held against gold labels and against no examples; inputs and labels from outside against "
    "random labels. Every length k is a part of each claim. A cost is small where it is at most 5 points, the most "
    "that random labels cost in the paper. Prompts without format are no better than none where they gain at most 2 "
    "points, a difference that the paper calls no significant drop."
)
PUBLISHED = ("min2022.csv",)
EXAMPLES = 16
PROMPT_SEED = 2202
NO_FORMAT = ("inputs only", "labels only")  # no prompts of the format that exact Bayes is told
REFERENCES = {"cost": "gold labels", "cost against random labels": "random labels"}  # what an aspect loses against

RANGES = {  # the paper's settings that our models are held against
    "random labels": "classification and multi-choice",
    "labels from outside": "direct models",
    "inputs from outside": "Channel MetaICL, Direct GPT-J and Channel GPT-J",
}

Right = dict[tuple[str, int | None], Float[np.ndarray, " N"]]  # 100 or 0 for each prompt, by reader and seed


class Sizes(NamedTuple):
    prompts: int  # at each length of examples
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS


PRESETS = presets(KINDS, quick=Sizes(200, (3, 10)), small=Sizes(1000), paper=Sizes(1000))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, example_length, aspect, quantity; value in percent or points.

    Quantities: accuracy; cost and cost against random labels (accuracy with gold or random labels less that of the
    aspect, paired); gain (accuracy of the aspect less that of no examples, paired).
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
    key_of = dict(zip(ASPECTS, keys, strict=True))
    random = prompts._replace(tokens=alter(hmm, prompts, k, "random labels", key_of["random labels"]))
    for aspect, key in key_of.items():
        # inputs from outside are held against random labels, so that the labels are random in both
        changed = random if aspect == "inputs from outside" else prompts
        yield aspect, prompts._replace(tokens=alter(hmm, changed, k, aspect, key))


def add_length(table: Table, k: int, right: dict[str, Right]) -> None:
    """The quantities of every aspect and reader at one length of examples."""
    for aspect, readers in right.items():
        for (name, seed), correct in readers.items():
            quantities = {"accuracy": correct, "gain": correct - right["no examples"][name, seed]} | {
                cost: right[reference][name, seed] - correct for cost, reference in REFERENCES.items()
            }
            for quantity, values in quantities.items():
                # rule of three: no case in N prompts is still compatible with a rate of 3 / N
                table.add(name, k, aspect, quantity, seed=seed, values=values, least=300 / len(values))


# comparisons of the figure: an aspect, what it is held against, our quantity and its sign as a gain
COMPARISONS = (
    ("random labels", "no examples", "gain", 1),
    ("random labels", "gold labels", "cost", -1),
    ("labels from outside", "random labels", "cost against random labels", -1),
    ("inputs from outside", "random labels", "cost against random labels", -1),
    ("inputs only", "no examples", "gain", 1),
    ("labels only", "no examples", "gain", 1),
)


def plot(rows: pd.DataFrame) -> Figure:
    rows = over_seeds(rows)
    names = [*one_of_each(learned(rows, BAYES)), BAYES]
    figure, grid = panels(len(names), 3, WIDTH / len(names), 3.6)
    for panel, name in zip(grid, names, strict=True):
        draw_comparisons(panel, pick(rows, model=name))
        panel.set(title=name, xlabel="points gained", ylim=(len(COMPARISONS) - 0.5, -0.5))
        panel.axvline(0, color="black", lw=0.8)
        panel.tick_params(axis="y", length=0, labelsize=8)
        panel.set_yticks(range(len(COMPARISONS)), [f"{aspect}\nagainst {other}" for aspect, other, *_ in COMPARISONS])
        if panel not in grid[::3]:
            panel.set_yticklabels([])
    legend_below(figure, grid[0], 5)
    gains = [cells(rows, model=name, aspect="random labels", quantity="gain") for name in names[:-1]]
    kept = [gain for of_model in gains for gain in of_model.values()]
    helped = sum(positive(gain).verdict == "holds" for gain in kept)
    figure.suptitle(
        f"For trained models, examples with random labels clearly beat none in {helped} of {len(kept)} cases", size=11
    )
    return figure


def draw_comparisons(panel: Axes, rows: pd.DataFrame) -> None:
    """Every comparison of one reader, a dot for each length of examples, over the ranges of the paper."""
    lengths = sorted(rows.example_length.unique())
    for place, (aspect, _, quantity, sign) in enumerate(COMPARISONS):
        if quantity != "gain":
            least, most = paper_range(aspect, RANGES[aspect])
            panel.add_patch(
                plt.Rectangle((-most, place - 0.4), most - least, 0.8, fc=RANGE, ec="none", zorder=0,
                              label="Min et al." if place == 1 else None)
            )  # fmt: skip
        for index, k in enumerate(lengths):
            line = pick(rows, aspect=aspect, quantity=quantity, example_length=k)
            height = place + (index - (len(lengths) - 1) / 2) * 0.18
            panel.errorbar(sign * line.value, [height] * len(line), xerr=line.half_width, fmt="o", ms=4, lw=1.2,
                           color=LENGTH_COLOURS[k], label=None if place else f"k = {k}")  # fmt: skip


def paper_range(aspect: str, setting: str) -> tuple[float, float]:
    """The least and the most points that an aspect costs in the paper, in one setting."""
    line = published("min2022", aspect=aspect, setting=setting).iloc[0]
    return float(line["least"]), float(line["most"])


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Labels need not be right; the label set, the inputs and the format matter."""
    rows = over_seeds(rows)
    table = []
    for name in [*learned(rows, BAYES), BAYES]:
        here = answerable(rows) if name == BAYES else pick(rows, model=name)
        table += random_labels_claims(here, name) + outside_claims(here, name, "inputs from outside")
        table += outside_claims(here, name, "labels from outside")
        table += [no_format_claim(here, name, aspect) for aspect in NO_FORMAT if name != BAYES]
    return [claim for claim in table if claim.findings]


def answerable(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of exact Bayes at lengths at which it does not answer everything without any example."""
    rows = pick(rows, model=BAYES)
    alone = pick(rows, aspect="no examples", quantity="accuracy")
    open_lengths = alone[alone.value + alone.half_width < 100].example_length
    return rows[rows.example_length.isin(open_lengths)]


def by_length(rows: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """The rows by the length of examples, the shortest first."""
    return {k: pick(rows, example_length=k) for k in sorted(rows.example_length.unique().tolist())}


def cells(rows: pd.DataFrame, **where: object) -> dict[int, Estimate]:
    """One quantity by the length of examples."""
    lines = pick(rows, **where).sort_values("example_length")
    return {int(line["example_length"]): as_estimate(line) for _, line in lines.iterrows()}


def in_words(values: dict[int, Estimate]) -> str:
    """Every length with its value: k = 3: 1.0 ± 0.5; k = 5: ..., in points."""
    return "; ".join(f"k = {k}: {show(value)}" for k, value in values.items()) + " points"


def random_labels_claims(here: pd.DataFrame, name: str) -> list[Claim]:
    lost, gained = (cells(here, aspect="random labels", quantity=quantity) for quantity in ("cost", "gain"))
    least, most = paper_range("random labels", RANGES["random labels"])
    return [
        Claim(
            f"{name}: examples with random labels are better than none",
            "yes, of nearly all models (section 4.1, Fig. 3)",
            f"gained {in_words(gained)}",
            [positive(gain) for gain in gained.values()],
            headline=name == "transformer",
        ),
        Claim(
            f"{name}: random labels cost little against gold labels",
            f"{least:g} to {most:g} points lost; 2.6 classification, 1.7 multi-choice (section 4.1)",
            f"lost {in_words(lost)}",
            [no_more(cost, most) for cost in lost.values()],
            headline=name == "transformer",
        ),
    ]


def outside_claims(here: pd.DataFrame, name: str, aspect: str) -> list[Claim]:
    lost = cells(here, aspect=aspect, quantity="cost against random labels")
    least, most = paper_range(aspect, RANGES[aspect])
    place = "section 5.1, Fig. 8, all but Direct MetaICL" if aspect == "inputs from outside" else "section 5.2, Fig. 9"
    return [
        Claim(
            f"{name}: {aspect} cost accuracy against random labels",
            f"yes ({place})",
            f"lost {in_words(lost)}",
            [positive(cost) for cost in lost.values()],
        ),
        Claim(
            f"{name}: {aspect} cost what they cost in the paper",
            f"{least:g} to {most:g} points lost against random labels ({place})",
            f"lost {in_words(lost)}",
            [between(cost, least, most) for cost in lost.values()],
        ),
    ]


def no_format_claim(here: pd.DataFrame, name: str, aspect: str) -> Claim:
    margin = paper_range("labels from outside", "channel models")[1]
    gained = cells(here, aspect=aspect, quantity="gain")
    return Claim(
        f"{name}: examples of {aspect} are no better than none",
        "close to or worse than no examples (section 5.3, Fig. 10)",
        f"gained {in_words(gained)}",
        [no_more(gain, margin) for gain in gained.values()],
    )
