"""Does learning in context make the draft better? Acceptance by example of a prompt, and by temperature."""

from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decoding.drafts import PromptLookup
from decoding.readers import BayesReader, Reader, as_reader
from figures.assisted import common
from figures.assisted.common import SUITES, Pair, acceptance, log_probs, ngrams, pair
from figures.lab.claims import Claim, above, no_more, positive, show
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import CYCLE, GREY, PUBLISHED_LINE, draw_band
from figures.lab.tables import Table, only, over_seeds, pick, published
from icl_synth.prompts import sample_prompts

TITLE = "Acceptance as a prompt reveals its concept, and by temperature"
DIFFERS = (
    "No paper makes this claim: a draft that learns in context should guess the target better with every example; a "
    "table of n-grams, which knows no concept, is the control. Prompts hold examples of ten tokens (k = 10). A point "
    "is the mean over an example's tokens and over prompts, the delimiter left out, at temperature 1, where acceptance "
    "is exactly the sum of min(p, q). Exact Bayes reads prompts as documents, with smoothing 0.001, since spliced "
    "examples are impossible otherwise. The target is the largest transformer. The claim *holds* where acceptance in "
    "the last example is above the first's by more than the interval of their paired difference, *partly* where only "
    "the mean is. The control is claimed not to grow: its whole interval must lie at zero or below. The right panel "
    "reads held-back documents; the paper's models are T5 on text, where temperature 0 accepts more than temperature "
    "1. That claim *holds* where the two intervals do not overlap, *partly* where only the means have this order."
)
PUBLISHED = common.PUBLISHED
PROMPT_SEED, EXAMPLE, SMOOTHING = 53, 10, 1e-3
CONTROL = "trigrams"


class Sizes(NamedTuple):
    documents: int
    prompts: int
    temperatures: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


PRESETS = presets(SUITES, quick=Sizes(128, 100), small=Sizes(512, 500), paper=Sizes(100, 500))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity, draft, place; value a share.

    Quantities: by_example (acceptance, place = examples before), gain (last example's minus first's, paired),
    by_temperature (place = temperature).
    """
    table = Table("quantity", "draft", "place")
    chosen = pair(models, sizes.documents)
    target, vocabulary, seed = as_reader(chosen.target.model), chosen.hmm.vocab_size, chosen.target.seed
    prompts = ask(chosen, sizes.prompts)
    inside = log_probs(target, prompts)[..., :vocabulary]
    outside = log_probs(target, chosen.documents)[..., :vocabulary]
    for name, draft in candidates(chosen).items():
        alpha = by_example(acceptance(inside, log_probs(draft, prompts)[..., :vocabulary]))
        for before, values in enumerate(alpha.T):
            table.add("by_example", name, float(before), seed=seed, values=values)
        table.add("gain", name, 0.0, seed=seed, values=alpha[:, -1] - alpha[:, 0])
        q = log_probs(draft, chosen.documents)[..., :vocabulary]
        for temperature in sizes.temperatures:
            values = acceptance(outside, q, temperature).mean(1)
            table.add("by_temperature", name, temperature, seed=seed, values=values)
    return table.rows()


def candidates(models: Pair) -> dict[str, Reader]:
    """Drafts by name."""
    drafts: dict[str, Reader] = {run.name: as_reader(run.model) for run in models.drafts}
    return drafts | {
        "exact Bayes": BayesReader(models.hmm, SMOOTHING),
        CONTROL: ngrams(models, 3),
        "prompt lookup": PromptLookup(models.target.model.config.vocab_size),
    }


def ask(models: Pair, number: int) -> Int[np.ndarray, "B L"]:
    """Prompts of as many examples as fit."""
    examples = (models.target.config.model.context - EXAMPLE + 1) // (EXAMPLE + 1)
    return np.asarray(sample_prompts(models.hmm, jax.random.key(PROMPT_SEED), number, examples, EXAMPLE).tokens)


def by_example(alpha: Float[np.ndarray, "B L"]) -> Float[np.ndarray, "B N"]:
    """Mean acceptance in each whole example of a prompt.

    Position t predicts token t + 1: within an example, the first token's prediction to the last but one's.
    """
    examples = alpha.shape[1] // (EXAMPLE + 1)
    parts = alpha[:, : examples * (EXAMPLE + 1)].reshape(len(alpha), examples, EXAMPLE + 1)
    return parts[:, :, : EXAMPLE - 1].mean(2)


def plot(rows: pd.DataFrame) -> Figure:
    rows = over_seeds(rows)
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8))
    for panel, quantity in ((left, "by_example"), (right, "by_temperature")):
        lines = pick(rows, quantity=quantity).groupby("draft", sort=False)
        for (name, line), colour, marker in zip(lines, (*CYCLE, GREY), "osD^vP*X", strict=False):
            draw_band(panel, line.place, line, color=colour, marker=marker, ms=4, label=name)
        panel.set_ylabel("acceptance")
    draw_published(right)
    left.set(xlabel="examples before, k = 10", title="inside a prompt, temperature 1")
    right.set(xlabel="temperature", title="documents")
    figure.legend(*right.get_legend_handles_labels(), title="drafts for the largest transformer",
                  loc="outside right center")  # fmt: skip
    return figure


def draw_published(panel: Axes) -> None:
    """The paper's acceptance at temperatures 0 and 1, by task."""
    table = published("assisted", what="speedup")
    table = table[table.setting.str.contains("temperature")]
    for task, line in table.groupby(table.setting.str.split(",").str[0]):
        marker = {"marker": "s" if task == "translation" else "o"}
        panel.plot(line.setting.str[-1].astype(float), line.alpha, **PUBLISHED_LINE | marker, label=f"paper, T5 {task}")


def claims(rows: pd.DataFrame) -> list[Claim]:
    """What examples add to each draft, and what temperature takes."""
    rows = over_seeds(rows)
    return [*(growth_claim(rows, name) for name in rows.draft.unique()), temperature_claim(rows, rows.draft.iloc[0])]


def growth_claim(rows: pd.DataFrame, name: str) -> Claim:
    gain = only(rows, quantity="gain", draft=name)
    curve = pick(rows, quantity="by_example", draft=name).set_index("place").value
    return Claim(
        f"{name}: acceptance {'does not grow (control)' if name == CONTROL else 'grows'} as a prompt reveals its "
        "concept",
        "no claim of a paper's",
        f"{curve.iloc[0]:.3f} → {curve.iloc[-1]:.3f} over {len(curve)} examples, by {show(gain, 3)}",
        no_more(gain, 0.0) if name == CONTROL else positive(gain),
    )


def temperature_claim(rows: pd.DataFrame, name: str) -> Claim:
    cold, warm = (only(rows, quantity="by_temperature", draft=name, place=place) for place in (0.0, 1.0))
    return Claim(
        f"{name}: temperature 0 accepts more than temperature 1",
        "0.75 against 0.62 (translation), 0.65 against 0.53 (summarisation; Leviathan et al., Table 2)",
        f"{show(cold, 3)} against {show(warm, 3)}",
        above(cold, warm),
    )
