"""Concepts that no training document had, done properly and as the public code does (Xie et al. 2022, Fig. 4)."""

from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Array, Int
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.claims import Claim, judged
from figures.recipes import Recipe, Wanted, trained
from figures.sources import PAPER_VALUES
from icl_synth.aspects import robust_log_probs
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.evaluate import EXAMPLE_LENGTHS, EXAMPLES, answers, estimate, examples_that_fit
from icl_synth.prompts import UnseenPrompts, sample_official_unseen_prompts, sample_prompts

TITLE = "Concepts that training never saw: no learning in context (Xie et al. 2022, Fig. 4)"
DIFFERS = (
    "The paper's unseen concepts are those of its public code: the context's examples are one entity under properties "
    "drawn at random, which no concept makes, and the label is asked of a held-out concept that often cannot say the "
    "test input at all, so that the label is the argmax of 0 / 0. That variant is drawn dashed, over all prompts as "
    "the paper scores them, with the share of labels that mean something beside it. Done properly, solid, prompts come "
    "from the five held-out concepts of the same world, as in-distribution prompts do. Exact Bayes, told the format "
    "and allowing for noise, either knows the held-out concepts, which is the ceiling, or only those of training, as a "
    "model can; a test input that these cannot say has no answer then and counts as wrong. The paper's model is its "
    "4-layer one. *Holds* where proper accuracy at the most examples is less than half of the same model's in "
    "distribution, *partly* where it is lower, intervals apart."
)
PUBLISHED = ("xie2022*.csv",)
PROMPT_SEED, SHARE_OF_PROMPTS = 1115, 0.4
KNOWING, NOT_KNOWING = "exact Bayes, knows them", "exact Bayes of training's concepts"
COLOURS = {KNOWING: "black", NOT_KNOWING: "#777777", "transformer": "#0072B2", "LSTM": "#D55E00"}


def wanted(recipe: Recipe) -> Wanted:
    return recipe.kinds


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: model, prompts (seen, unseen, official), example_length, num_examples, accuracy, half_width (95 %), %.

    For the official variant, model "defined" is the share of labels that mean something.
    """
    models = trained(wanted(recipe))
    hmm, held_out = models[0].config.data.build()
    context, number = models[0].config.model.context, max(2, round(SHARE_OF_PROMPTS * recipe.prompts))
    rows: list[tuple] = []
    cells = [(k, n) for k in EXAMPLE_LENGTHS for n in examples_that_fit(context, k)]
    for k, n in tqdm(cells, desc="unseen concepts", unit="point"):
        keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(jax.random.key(PROMPT_SEED), k), n), 3)
        kinds: dict[str, Any] = {
            "seen": sample_prompts(hmm, keys[0], number, n, k),
            "unseen": sample_prompts(held_out, keys[1], number, n, k),
            "official": sample_official_unseen_prompts(held_out, keys[2], number, n, k),
        }
        for kind, prompts in kinds.items():
            labels, asked = np.asarray(prompts.labels), kinds["seen"]._replace(tokens=prompts.tokens)
            for name in recipe.models:
                right = np.stack([answers(one.model, asked) == labels for one in models if one.name == name])
                rows.append((name, kind, k, n, *(100 * x for x in estimate(right))))
            if isinstance(prompts, UnseenPrompts):
                rows.append(("defined", kind, k, n, *(100 * x for x in estimate(np.asarray(prompts.label_defined)))))
            elif kind == "unseen":
                for name, world in ((KNOWING, held_out), (NOT_KNOWING, hmm)):
                    rows.append(
                        (
                            name,
                            kind,
                            k,
                            n,
                            *(100 * x for x in estimate(bayes_answers(world, prompts.tokens, k) == labels)),
                        )
                    )
    columns = ["model", "prompts", "example_length", "num_examples", "accuracy", "half_width"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["models"] = [one.record() for one in models]
    return table


def bayes_answers(world: ConceptHMM, tokens: Int[Array, "B L"], k: int) -> Int[np.ndarray, " B"]:
    """The likeliest label for a reader who is told the format and allows for noise in the examples; -1, which is never
    right, where its world cannot say the test input."""
    log_probs = np.asarray(robust_log_probs(world, tokens, k))
    return np.where(np.isfinite(log_probs).any(-1), log_probs.argmax(-1), -1)


def pick(rows: pd.DataFrame, model: str, prompts: str, k: int) -> pd.DataFrame:
    chosen = rows[(rows.model == model) & (rows.prompts == prompts) & (rows.example_length == k)]
    return chosen.sort_values("num_examples")


def learned(rows: pd.DataFrame) -> list[str]:
    return [name for name in rows.model.unique() if name not in (KNOWING, NOT_KNOWING, "defined")]


def published(setting: str) -> pd.Series:
    table = pd.read_csv(PAPER_VALUES / "xie2022_ablations.csv")
    return table[table.setting == setting].iloc[0]


def plot(rows: pd.DataFrame) -> Figure:
    figure, panels = plt.subplots(1, len(EXAMPLE_LENGTHS), figsize=(13, 4.4), sharey=True)
    place = {n: i for i, n in enumerate(EXAMPLES)}
    theirs = published("unseen concepts")
    for panel, k in zip(panels, EXAMPLE_LENGTHS, strict=True):
        panel.axhspan(theirs.least_percent, theirs.most_percent, color="#cccccc", zorder=0,
                      label="Xie et al. 2022, 4 layers, unseen (its code's variant)")  # fmt: skip
        for name in (KNOWING, NOT_KNOWING):
            line = pick(rows, name, "unseen", k)
            panel.plot(line.num_examples.map(place), line.accuracy, ":", color=COLOURS[name], label=f"unseen: {name}")
        defined = pick(rows, "defined", "official", k)
        panel.plot(defined.num_examples.map(place), defined.accuracy, "x", color="#777777", ms=4,
                   label="the code's variant: share of labels that mean something")  # fmt: skip
        for index, name in enumerate(learned(rows)):
            colour = COLOURS.get(name, f"C{index}")
            for kind, style in (("seen", "-."), ("unseen", "o-"), ("official", "s--")):
                line = pick(rows, name, kind, k)
                x, label = line.num_examples.map(place), "the code's variant" if kind == "official" else kind
                panel.plot(x, line.accuracy, style, color=colour, ms=4, lw=1.2, label=f"{name}, {label}",
                           mfc="white" if kind == "official" else None)  # fmt: skip
                low, high = line.accuracy - line.half_width, line.accuracy + line.half_width
                panel.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
        panel.set(title=f"k = {k}", xticks=range(len(EXAMPLES)), xticklabels=EXAMPLES, ylim=(0, 102))
        panel.set_xlabel("examples in the prompt, n")
    panels[0].set_ylabel("accuracy (crosses: share of labels), %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """No learning in context of unseen concepts, and labels of the code's variant that mean nothing."""
    table, theirs = [], published("unseen concepts")
    for name in learned(rows):
        for k in (5, 10):
            seen, unseen, code = (pick(rows, name, kind, k).iloc[-1] for kind in ("seen", "unseen", "official"))
            first, knowing = pick(rows, name, "unseen", k).iloc[0], pick(rows, KNOWING, "unseen", k).iloc[-1]
            apart = unseen.accuracy + unseen.half_width < seen.accuracy - seen.half_width
            table.append(
                Claim(
                    f"{name}, k = {k}: concepts that training never saw are not learnt in context",
                    f"{theirs.least_percent:g} to {theirs.most_percent:g} % over all k and n (Fig. 4; its code's "
                    "variant)",
                    f"{first.accuracy:.1f} → {unseen.accuracy:.1f} ± {unseen.half_width:.1f} % (n = 0 → "
                    f"{unseen.num_examples}), in distribution {seen.accuracy:.1f} %, a reader who knows them "
                    f"{knowing.accuracy:.1f} %; the code's variant {code.accuracy:.1f} ± {code.half_width:.1f} %",
                    judged(apart and unseen.accuracy < seen.accuracy / 2, apart),
                )
            )
    return table
