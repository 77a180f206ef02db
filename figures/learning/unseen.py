"""Concepts that no training document had, done properly and as the public code does (Xie et al. 2022, Fig. 4)."""

from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Array, Bool, Int, Key
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, judged
from figures.lab.presets import KINDS, presets
from figures.lab.runs import Models
from figures.lab.style import BLACK, GREY, MODELS, RANGE, draw_band, legend_below, places
from figures.lab.tables import Table, only, over_seeds, pick
from figures.learning.common import add_accuracy, any_run, cells_that_fit, learned, percent_right, quoted_range
from icl_synth.aspects import robust_log_probs
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.evaluate import EXAMPLE_LENGTHS, EXAMPLES, Estimate
from icl_synth.prompts import Prompts, sample_official_unseen_prompts, sample_prompts

TITLE = "Concepts that training never saw: no learning in context (Xie et al. 2022, Fig. 4)"
DIFFERS = (
    "The paper's unseen concepts are those of its public code: the context's examples are one entity under properties "
    "drawn at random, which no concept makes, and the label is asked of a held-out concept that often cannot emit the "
    "test input at all, so that the label is the argmax of 0 / 0. That variant is drawn dashed, over all prompts as "
    "the paper scores them, beside the share of labels that mean something. Done properly, solid, prompts come from "
    "the five held-out concepts of the same world, as in-distribution prompts do. Exact Bayes is told the format and "
    "allows for noise. It knows either the held-out concepts, which is the ceiling, or only those of training, as a "
    "model can; a test input that these cannot emit then has no answer and counts as wrong. The paper's model is its "
    "4-layer one. A claim *holds* where, at the most examples, the 95 % interval of accuracy on unseen concepts ends "
    "below half of the lower end of the same model's in distribution, and holds *partly* where only the mean is below "
    "half of the other mean."
)
PUBLISHED = ("xie2022*.csv",)
PROMPT_SEED = 1115
KNOWING, NOT_KNOWING = "exact Bayes, knows them", "exact Bayes of training's concepts"
DEFINED = "defined"  # of the official variant, the share of labels that mean something
COLOURS = {KNOWING: BLACK, NOT_KNOWING: GREY}
STYLES = {
    "seen": {"ls": "-.", "marker": ""},
    "unseen": {"ls": "-"},
    "official": {"ls": "--", "marker": "s", "mfc": "white"},
}


class Sizes(NamedTuple):
    prompts: int  # of each kind, at each number and length of examples
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS
    numbers: tuple[int, ...] = EXAMPLES  # of examples


PRESETS = presets(KINDS, quick=Sizes(200), small=Sizes(1000), paper=Sizes(1000))


class Asked(NamedTuple):
    """Prompts of each kind, and which labels of the official ones mean something."""

    prompts: dict[str, Prompts]
    defined: Bool[np.ndarray, " N"]


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, prompts (seen, unseen, official), example_length, num_examples; value: accuracy in percent.

    For the official variant, model "defined" is the share of labels that mean something.
    """
    table = Table("model", "prompts", "example_length", "num_examples")
    config = any_run(models).config
    worlds = hmm, held_out = config.data.build()
    cells = cells_that_fit(config.model.context, sizes.lengths, sizes.numbers)
    for k, n in tqdm(cells, desc="unseen concepts", unit="point"):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(PROMPT_SEED), k), n)
        prompts, defined = draw_kinds(worlds, key, sizes.prompts, n, k)
        for kind, asked in prompts.items():
            for name, runs in models.items():
                for run in runs:
                    add_accuracy(table, name, kind, k, n, values=percent_right(run.model, asked), seed=run.seed)
        add_accuracy(table, DEFINED, "official", k, n, values=100.0 * defined)
        for name, world in ((KNOWING, held_out), (NOT_KNOWING, hmm)):
            right = bayes_answers(world, prompts["unseen"].tokens, k) == np.asarray(prompts["unseen"].labels)
            add_accuracy(table, name, "unseen", k, n, values=100.0 * right)
    return table.rows()


def draw_kinds(worlds: tuple[ConceptHMM, ConceptHMM], key: Key[Array, ""], number: int, n: int, k: int) -> Asked:
    """As many prompts of each kind."""
    hmm, held_out = worlds
    keys = jax.random.split(key, 3)
    seen = sample_prompts(hmm, keys[0], number, n, k)
    unseen = sample_prompts(held_out, keys[1], number, n, k)
    official = sample_official_unseen_prompts(held_out, keys[2], number, n, k)
    like_seen = seen._replace(tokens=official.tokens, labels=official.labels, concepts=official.concepts)
    return Asked({"seen": seen, "unseen": unseen, "official": like_seen}, np.asarray(official.label_defined))


def bayes_answers(world: ConceptHMM, tokens: Int[Array, "B L"], k: int) -> Int[np.ndarray, " B"]:
    """The likeliest label for a reader who is told the format and allows for noise in the examples; -1, which is never
    right, where its world cannot emit the test input."""
    log_probs = np.asarray(robust_log_probs(world, tokens, k))
    return np.where(np.isfinite(log_probs).any(-1), log_probs.argmax(-1), -1)


def learned_models(rows: pd.DataFrame) -> list[str]:
    return learned(rows, KNOWING, NOT_KNOWING, DEFINED)


def plot(rows: pd.DataFrame) -> Figure:
    rows = over_seeds(rows)
    lengths = sorted(rows.example_length.unique())
    figure, panels = plt.subplots(1, len(lengths), figsize=(13, 4.4), sharey=True, squeeze=False)
    for panel, k in zip(panels[0], lengths, strict=True):
        draw_length(panel, pick(rows, example_length=k))
        panel.set_title(f"k = {k}")
    panels[0, 0].set_ylabel("accuracy (crosses: share of labels), %")
    legend_below(figure, panels[0, 0], 4, fontsize=8)
    return figure


def draw_length(panel: Axes, rows: pd.DataFrame) -> None:
    """Accuracy by number of examples at one length: the paper's range, exact Bayes, our models."""
    place = places(EXAMPLES)
    panel.axhspan(*quoted_range("unseen concepts"), color=RANGE, zorder=0,
                  label="Xie et al. 2022, 4 layers, unseen (its code's variant)")  # fmt: skip
    for name, colour in COLOURS.items():
        line = pick(rows, model=name, prompts="unseen")
        panel.plot(line.num_examples.map(place), line.value, ":", color=colour, label=f"unseen: {name}")
    defined = pick(rows, model=DEFINED)
    panel.plot(defined.num_examples.map(place), defined.value, "x", color=GREY, ms=4,
               label="the code's variant: share of labels that mean something")  # fmt: skip
    for name in learned_models(rows):
        for kind, style in STYLES.items():
            line = pick(rows, model=name, prompts=kind)
            variant = "the code's variant" if kind == "official" else kind
            draw_band(panel, line.num_examples.map(place), line, color=MODELS[name], ms=4, lw=1.2,
                      label=f"{name}, {variant}", **style)  # fmt: skip
    panel.set(xticks=range(len(EXAMPLES)), xticklabels=EXAMPLES, ylim=(0, 102))
    panel.set_xlabel("examples in the prompt, n")


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Concepts that training never saw are not learned in context."""
    rows = over_seeds(rows)
    return [unseen_claim(pick(rows, example_length=k), name, k) for name in learned_models(rows) for k in (5, 10)]


def unseen_claim(rows: pd.DataFrame, name: str, k: int) -> Claim:
    most = int(rows.num_examples.max())

    def at(prompts: str, n: int = most, model: str = name) -> Estimate:
        return only(rows, model=model, prompts=prompts, num_examples=n)

    seen, unseen, code = (at(kind) for kind in ("seen", "unseen", "official"))
    least, top = quoted_range("unseen concepts")
    return Claim(
        f"{name}, k = {k}: concepts that training never saw are not learned in context",
        f"{least:g} to {top:g} % over all k and n (Fig. 4; its code's variant)",
        f"{at('unseen', 0).mean:.1f} → {unseen.mean:.1f} ± {unseen.half_width:.1f} % (n = 0 → {most}), in distribution "
        f"{seen.mean:.1f} %, a reader who knows them {at('unseen', model=KNOWING).mean:.1f} %; the code's variant "
        f"{code.mean:.1f} ± {code.half_width:.1f} %",
        judged(unseen.mean + unseen.half_width < (seen.mean - seen.half_width) / 2, unseen.mean < seen.mean / 2),
    )
