"""Why random labels cost our models so much: impossible moves, and models that predict documents."""

import functools
from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, near_zero, no_more, positive, show
from figures.lab.presets import KINDS, presets
from figures.lab.runs import Models, Run
from figures.lab.style import WIDTH, legend_below
from figures.lab.tables import Table, only, over_seeds, pick
from figures.learning.aspects import RANGES, by_length, cells, in_words, paper_range
from figures.learning.common import LENGTH_COLOURS, add_accuracy, any_run, one_of_each, percent_right
from figures.learning.labels import EXAMPLES, GOLD, RANDOM, share_name
from icl_synth.aspects import alter, examples_of, gold_labels, wrong_labels
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.documents import sample_documents
from icl_synth.evaluate import EXAMPLE_LENGTHS
from icl_synth.labels import mixed, with_labels, wrong_by_possibility
from icl_synth.prompt_layout import most_examples
from icl_synth.prompt_readers import document_log_probs
from icl_synth.prompts import Prompts, sample_prompts
from icl_synth.tuning import common_length, prompt_batch, tuned, tuning

TITLE = "Why random labels cost: impossible moves, or prompts read as documents? (beyond Min et al. 2022)"
DIFFERS = (
    "In Min et al. random labels cost at most 5 points; our models lose more where examples are short. We believed "
    "that a wrong label costs because it makes a move that no concept makes, and because our models predict documents, "
    "in which no such move occurs. Three questions decide. First: do wrong labels cost less where they are possible? "
    "One set of prompts shows wrong labels that can follow their input, and that the delimiter can follow, under the "
    "prompt's concept; another shows wrong labels that cannot; in both, no label is right. Second: does exact Bayes "
    "lose as much where it takes the prompt for one document, and lets a share of moves lead anywhere? This share is "
    "fitted to each model and seed, by the squares of differences in points lost over all lengths and labels, on "
    "every other prompt, and judged on the rest. Third: do 300 steps on prompts cure it? Each model is tuned on "
    "prompts as the world samples them, on prompts with random labels, and, to tell the steps from what they show, on "
    "documents, always with the same rates, a tenth of those of its training, and on as many tokens. Prompts of all "
    "lengths are filled up to the context and cut to one length of text. The questions are ours, apart from what Min "
    "et al. found of MetaICL, which was trained on prompts and loses 0.1 to 0.9 points. Every length is a part of each "
    "claim. Exact Bayes loses as much as a model where the difference lies within 5 points of zero, the most that "
    "random labels cost in the paper; the same margin says that tuning on random labels leaves a small cost. A model "
    "that has learned to answer at random loses nothing by random labels either, so that a cure is also asked to "
    "answer more prompts with random labels rightly than tuning on documents does."
)
PUBLISHED = ("min2022.csv",)
PROMPT_SEED, TUNING_SEED = 2204, 2206
POSSIBLE, IMPOSSIBLE = "wrong and possible", "wrong and impossible"
SHARES = (0.75, 0.5, 0.25)  # of right labels
EVERY = 0  # length of rows about all lengths together
MARKERS = ("o", "^", "s", "D")  # of models

Right = dict[tuple[int, str], Float[np.ndarray, " N"]]  # 100 or 0 for each prompt, by length of examples and labels
Asked = dict[tuple[int, str], Prompts]


class Sizes(NamedTuple):
    prompts: int  # at each length of examples
    steps: int = 300  # of tuning
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS
    exponents: tuple[int, ...] = (-6, -5, -4, -3, -2, -1)  # of ten: shares of moves that lead anywhere


PRESETS = presets(KINDS, quick=Sizes(200, 50, (3, 10), (-5, -3, -1)), small=Sizes(600), paper=Sizes(600))
TUNED = {"documents": "tuned on documents", "prompts": "tuned on prompts", "noise": "tuned on random labels"}


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, example_length, labels, quantity; value in percent, points, or a power of ten (exponent).

    Quantities, all paired: accuracy; cost (against gold labels); spared (how much less wrong labels cost if they are
    possible); exponent (of the share of free moves fitted to a model); unlike documents (the cost less that of exact
    Bayes for documents with this share, on the other half of the prompts); saved (how much less random labels cost
    than after tuning on documents); more right (how much more accurate prompts with them are answered than then).
    """
    table = Table("model", "example_length", "labels", "quantity")
    run = any_run(models)
    hmm, _ = run.config.data.build()
    asked = ask(hmm, sizes, run.config.model.context)
    documents = {e: document_answers(hmm, asked, e) for e in tqdm(sizes.exponents, desc="readers", unit="reader")}
    for exponent, right in documents.items():
        add_costs(table, documents_name(exponent), None, right)
    for name, runs in models.items():
        for one in runs:
            right = {cell: percent_right(one.model, prompts) for cell, prompts in asked.items()}
            add_costs(table, name, one.seed, right)
            add_fit(table, name, one.seed, right, documents)
        add_tuned(table, name, runs, hmm, sizes, asked)
    return table.rows()


def ask(hmm: ConceptHMM, sizes: Sizes, context: int) -> Asked:
    """The same prompts with labels of every kind, by length and kind."""
    asked: Asked = {}
    for k in sizes.lengths:
        keys = jax.random.split(jax.random.fold_in(jax.random.key(PROMPT_SEED), k), 5)
        prompts = sample_prompts(hmm, keys[0], sizes.prompts, min(EXAMPLES, most_examples(context, k)), k)
        gold = gold_labels(hmm, prompts, examples_of(prompts, k)[0][:, :, :-1])
        wrong = wrong_labels(hmm, gold, keys[1])
        possible, impossible = wrong_by_possibility(hmm, prompts, k, gold, keys[2])
        labels = {GOLD: gold, POSSIBLE: possible, IMPOSSIBLE: impossible}
        labels |= {share_name(share): mixed(gold, wrong, share, keys[3]) for share in SHARES}
        asked |= {(k, kind): with_labels(prompts, k, shown) for kind, shown in labels.items()}
        asked[k, RANDOM] = prompts._replace(tokens=alter(hmm, prompts, k, RANDOM, keys[4]))
    return asked


def documents_name(exponent: int) -> str:
    return f"exact Bayes for documents, 1e{exponent}"


def document_answers(hmm: ConceptHMM, asked: Asked, exponent: int) -> Right:
    """Those of exact Bayes for documents of which a share of moves leads anywhere."""
    return {
        cell: 100.0 * np.asarray(document_log_probs(hmm, prompts.tokens, 10.0**exponent).argmax(-1) == prompts.labels)
        for cell, prompts in asked.items()
    }


def costs_of(right: Right) -> Right:
    """Points lost against gold labels."""
    return {(k, labels): right[k, GOLD] - values for (k, labels), values in right.items() if labels != GOLD}


def add_costs(table: Table, name: str, seed: int | None, right: Right) -> None:
    for (k, labels), values in right.items():
        add_accuracy(table, name, k, labels, "accuracy", values=values, seed=seed)
    for (k, labels), values in costs_of(right).items():
        add_accuracy(table, name, k, labels, "cost", values=values, seed=seed)
        if labels == POSSIBLE:
            spared = right[k, POSSIBLE] - right[k, IMPOSSIBLE]
            add_accuracy(table, name, k, labels, "spared", values=spared, seed=seed)


def add_fit(table: Table, name: str, seed: int, right: Right, documents: dict[int, Right]) -> None:
    """The reader of documents that loses most like a model on even prompts, held against the model on odd ones."""
    costs, theirs = costs_of(right), {exponent: costs_of(right) for exponent, right in documents.items()}
    apart = {
        exponent: sum(float(costs[cell][::2].mean() - of_reader[cell][::2].mean()) ** 2 for cell in costs)
        for exponent, of_reader in theirs.items()
    }
    best = min(apart, key=apart.__getitem__)
    table.add(name, EVERY, "all", "exponent", values=np.array([best]), seed=seed)
    for (k, labels), values in costs.items():
        unlike = values[1::2] - theirs[best][k, labels][1::2]
        add_accuracy(table, name, k, labels, "unlike documents", values=unlike, seed=seed)


def add_tuned(table: Table, name: str, runs: list[Run], hmm: ConceptHMM, sizes: Sizes, asked: Asked) -> None:
    """What labels cost after tuning, and how much less than after tuning on documents."""
    config = tuning(runs[0].config, sizes.steps)
    asked = {cell: prompts for cell, prompts in asked.items() if cell[1] in (GOLD, RANDOM)}
    right = {}
    for shown, words in TUNED.items():
        data = functools.partial(batch, hmm, shown, config.batch, config.model.context, sizes.lengths)
        for seed, model in tuned({run.seed: run.model for run in runs}, config, data).items():
            right[shown, seed] = {cell: percent_right(model, prompts) for cell, prompts in asked.items()}
            add_costs(table, f"{name}, {words}", seed, right[shown, seed])
    for (shown, seed), ours in right.items():
        if shown != "documents":
            control = right["documents", seed]
            for k in sizes.lengths:
                who = f"{name}, {TUNED[shown]}", k, RANDOM
                more = ours[k, RANDOM] - control[k, RANDOM]
                add_accuracy(table, *who, "more right", values=more, seed=seed)
                saved = more - (ours[k, GOLD] - control[k, GOLD])
                add_accuracy(table, *who, "saved", values=saved, seed=seed)


def batch(
    hmm: ConceptHMM, shown: str, size: int, context: int, lengths: tuple[int, ...], step: Int[Array, ""]
) -> Int[Array, "B L"]:
    """One batch to be tuned on: documents, or prompts as sampled or with random labels."""
    key = jax.random.fold_in(jax.random.key(TUNING_SEED), step)
    if shown == "documents":
        return sample_documents(hmm, key, size, common_length(context, lengths))[0]
    return prompt_batch(hmm, key, size, context, lengths, random_labels=shown == "noise")


def plot(rows: pd.DataFrame) -> Figure:
    rows = over_seeds(rows)
    names = one_of_each(list(pick(rows, quantity="exponent").model))
    figure, panels = plt.subplots(1, 3, figsize=(WIDTH, 3.5), sharey=True, width_ratios=(1, 0.9, 1.3))
    draw_readers(panels[0], rows, names)
    draw_kinds(panels[1], rows, names)
    draw_tuning(panels[2], rows, names)
    panels[0].set_ylabel("points lost against gold labels")
    legend_below(figure, panels[0], 6)
    spared = [value for name in names for value in cells(rows, model=name, quantity="spared").values()]
    clear = sum(positive(value).verdict == "holds" for value in spared)
    figure.suptitle(
        f"Wrong labels clearly cost less where they are possible in {clear} of {len(spared)} cases", size=11
    )
    return figure


def draw_readers(panel: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    """What random labels cost readers of documents, by their free moves, and models at the share fitted to them."""
    costs = pick(rows, labels=RANDOM, quantity="cost")
    exponents = costs.model.str.extract(r"documents, 1e(-\d+)", expand=False).astype(float)
    for k, line in by_length(costs.assign(exponent=exponents).dropna(subset="exponent")).items():
        panel.plot(line.exponent, line.value, "-", color=LENGTH_COLOURS[k], label=f"k = {k}")
        for name, marker in zip(names, MARKERS, strict=False):
            fitted = only(rows, model=name, quantity="exponent").mean
            cost = only(costs, model=name, example_length=k)
            panel.errorbar(fitted, cost.mean, cost.half_width, marker=marker, ms=4, lw=1, color=LENGTH_COLOURS[k])
    for name, marker in zip(names, MARKERS, strict=False):
        panel.plot([], [], marker, color="black", ls="none", ms=4, label=name)
    panel.set_xlabel("free moves, power of ten")
    panel.set_title("random labels,\nBayes for documents (lines)", size=9)


def draw_kinds(panel: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    draw_costs(panel, [(pick(rows, labels=labels), names) for labels in (IMPOSSIBLE, POSSIBLE)])
    panel.set(xticks=(0, 1), xticklabels=("impossible", "possible"))
    panel.set_title("wrong labels", size=9)


def draw_tuning(panel: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    random = pick(rows, labels=RANDOM)
    after = [(random, [f"{name}, {words}" for name in names]) for words in TUNED.values()]
    draw_costs(panel, [(random, names), *after])
    words = ["none", *(text.removeprefix("tuned on ") for text in TUNED.values())]
    panel.set(xticks=range(4), xticklabels=[text.replace(" ", "\n") for text in words])
    panel.tick_params(axis="x", labelsize=8)
    panel.set_title("random labels, by tuning", size=9)


def draw_costs(panel: Axes, places: list[tuple[pd.DataFrame, list[str]]]) -> None:
    """At each place the costs of some models: a colour for each length of examples, a marker for each model."""
    panel.axhline(0, color="black", lw=0.8)
    for place, (rows, names) in enumerate(places):
        for index, (name, marker) in enumerate(zip(names, MARKERS, strict=False)):
            for step, (k, cost) in enumerate(cells(rows, model=name, quantity="cost").items()):
                x = place + 0.4 * (index - (len(names) - 1) / 2) + 0.08 * (step - 1.5)
                panel.errorbar(x, cost.mean, cost.half_width, marker=marker, ms=3, lw=1, color=LENGTH_COLOURS[k])


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Wrong labels cost because they are impossible in a document; tuning on prompts cures it."""
    rows = over_seeds(rows)
    return [
        claim
        for name in list(pick(rows, quantity="exponent").model)
        for claim in [*cause_claims(rows, name), *tuning_claims(rows, name)]
    ]


def cause_claims(rows: pd.DataFrame, name: str) -> list[Claim]:
    here = pick(rows, model=name)
    marginal = paper_range(RANDOM, RANGES[RANDOM])[1]
    spared = cells(here, quantity="spared")
    unlike = cells(here, labels=RANDOM, quantity="unlike documents")
    exponent = only(here, quantity="exponent")
    return [
        Claim(
            f"{name}: wrong labels cost less where they make possible moves",
            "no claim",
            f"less by {in_words(spared)}",
            [positive(value) for value in spared.values()],
            own=True,
        ),
        Claim(
            f"{name}: exact Bayes for documents with free moves loses as much from random labels",
            "no claim",
            f"free moves 10^({show(exponent)}); the model loses more by {in_words(unlike)}",
            [near_zero(value, marginal) for value in unlike.values()],
            own=True,
        ),
    ]


def tuning_claims(rows: pd.DataFrame, name: str) -> list[Claim]:
    marginal, meta = (paper_range(RANDOM, setting)[1] for setting in (RANGES[RANDOM], "MetaICL"))
    table = []
    for shown, paper, margin in (("prompts", f"0.1 to {meta:g} points lost by MetaICL (section 4.1)", meta),
                                 ("noise", "no claim", marginal)):  # fmt: skip
        model = f"{name}, {TUNED[shown]}"
        after, saved, more = (
            cells(rows, model=model, labels=RANDOM, quantity=quantity) for quantity in ("cost", "saved", "more right")
        )
        table += [
            Claim(
                f"{model}: random labels cost at most {margin:g} points",
                paper,
                f"lost {in_words(after)}",
                [no_more(cost, margin) for cost in after.values()],
                own=shown == "noise",
            ),
            Claim(
                f"{model}: random labels cost less than after tuning on documents, and more prompts with them are "
                "answered rightly",
                "no claim",
                f"cost less by {in_words(saved)}; more right by {in_words(more)}",
                [positive(value) for value in (*saved.values(), *more.values())],
                own=True,
            ),
        ]
    return table
