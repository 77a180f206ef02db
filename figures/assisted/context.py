"""Does learning in context make the draft better? Acceptance by example of a prompt."""

from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from decoding.along import acceptance
from figures.assisted.common import BIGRAMS, SUITES, TRIGRAMS, Pair, colours, log_probs, pair, trained, untrained
from figures.lab.claims import Claim, no_more, positive, show
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import WIDTH, draw_line, draw_seeds, name_ends
from figures.lab.tables import Table, only, over_seeds, pick
from icl_synth.prompts import sample_prompts

TITLE = "Acceptance as a prompt reveals its concept"
DIFFERS = (
    "No paper makes this claim. A draft that learns in context should guess the target better with every example; "
    "tables of n-grams, which know no concept, are the controls. Prompts hold examples of ten tokens (k = 10). A point "
    "is the mean over an example's tokens, over prompts and over the draft's seeds, the delimiter left out. Acceptance "
    "is exact: the sum of min(p, q) at temperature 1. Exact Bayes reads prompts as documents, with smoothing 0.001, "
    "since spliced examples are impossible otherwise. The target is the largest transformer, of one seed. For each "
    "draft the claim asks whether acceptance in the last example minus that in the first of the same prompt is above "
    "zero; for the controls it asks whether it is at most zero."
)
PUBLISHED = ()
PROMPT_SEED, EXAMPLE = 53, 10
CONTROLS = (TRIGRAMS, BIGRAMS)


class Sizes(NamedTuple):
    prompts: int


PRESETS = presets(SUITES, quick=Sizes(100), small=Sizes(500), paper=Sizes(500))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity, draft, place; value a share.

    Quantities: by_example (acceptance, place = examples before), gain (last example's minus first's, paired).
    """
    table = Table("quantity", "draft", "place")
    chosen = pair(models, 1)
    prompts = ask(chosen, sizes.prompts)
    p = log_probs(chosen.target.model, prompts)
    for name, seed, draft in (*trained(chosen), *untrained(chosen)):
        alpha = by_example(acceptance(p, log_probs(draft, prompts)))
        for before, values in enumerate(alpha.T):
            table.add("by_example", name, float(before), seed=seed, values=values)
        table.add("gain", name, 0.0, seed=seed, values=alpha[:, -1] - alpha[:, 0])
    return table.rows()


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
    means = over_seeds(rows)
    figure, panel = plt.subplots(figsize=(WIDTH, 4.4))
    panel.set(xlabel="examples before, of ten tokens", ylabel="acceptance, temperature 1", ylim=(0, 1))
    ends = []
    for (name, colour), marker in zip(colours(means.draft.unique()).items(), "osD^vP*X", strict=False):
        line, each = (pick(table, quantity="by_example", draft=name) for table in (means, rows))
        draw_seeds(panel, each, "place", colour)
        draw_line(panel, line, "place", color=colour, marker=marker, ms=4, lw=1.2)
        ends.append((name, line.place.iloc[-1], line.value.iloc[-1], colour))
    name_ends(panel, ends)
    gains = pick(means, quantity="gain").set_index("draft")
    least, most = str(gains.value.idxmin()), str(gains.value.idxmax())
    risen = int((gains.value - gains.half_width > 0).sum())
    figure.suptitle(f"From the first example to the last, {risen} of {len(gains)} drafts are accepted more;\n"
                    f"acceptance changes by {gains.value[least]:+.3f} ({least}) to {gains.value[most]:+.3f} ({most})",
                    size=11)  # fmt: skip
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """What examples add to each draft."""
    rows = over_seeds(rows)
    return [growth_claim(rows, name) for name in rows.draft.unique()]


def growth_claim(rows: pd.DataFrame, name: str) -> Claim:
    gain = only(rows, quantity="gain", draft=name)
    curve = pick(rows, quantity="by_example", draft=name).set_index("place").value
    return Claim(
        f"{name}: acceptance {'does not grow (control)' if name in CONTROLS else 'grows'} as a prompt reveals its "
        "concept",
        "no claim of a paper's",
        f"{curve.iloc[0]:.3f} → {curve.iloc[-1]:.3f} over {len(curve)} examples, by {show(gain, 3)}",
        [no_more(gain, 0.0) if name in CONTROLS else positive(gain)],
        own=True,
    )
