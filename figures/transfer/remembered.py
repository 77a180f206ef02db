"""Whether a model still answers the synthetic world's prompts after real text, by the characters read (secondary)."""

from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, Registered, positive, show
from figures.lab.presets import MORE_SEEDS, Suite, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLACK, BLUE, GREY, WIDTH, draw_band, draw_seeds
from figures.lab.tables import Table, only, over_seeds, pick
from figures.transfer import common
from figures.transfer.common import REGISTERED, enough, kept
from icl_synth import checkpoints
from icl_synth.evaluate import answers
from icl_synth.prompts import sample_prompts

TITLE = "Synthetic documents first, real text after: is the synthetic world's in-context learning forgotten?"
DIFFERS = (
    f"{REGISTERED}The text has another alphabet, so that a model that has read it has an embedding and a head of its "
    "own. Asked about the synthetic world it gets those of the first stage back; all between them is as the text left "
    "it. So what is lost may be lost because the inside speaks another language than its old ends, and not because it "
    "cannot learn in context: the claim speaks of answers through the old ends. The floor is the inside of a model "
    "that read the same text alone. Prompts of the model's own world have examples of 5 tokens. What examples add is "
    "the accuracy with 8 of them less that without. It is to be smaller after the text than before it, and still "
    "larger than the floor's. The question is secondary and corrected as two."
)
PUBLISHED = ()
lacks = common.lacks
FIRST, AFTER, FLOOR = "before the text", "after the text", "the text alone"
EXAMPLES, EXAMPLE_LENGTH = 8, 5
PROMPT_SEED = 4401
OWN = ("embedding", "head")  # weights that belong to an alphabet


class Sizes(NamedTuple):
    prompts: int
    every: int  # of the models that stayed, one in so many
    seeds: int  # without which nothing is computed: no look before


SUITES = {
    scale: Suite(
        {FIRST: f"{scale}-transfer-first-many", AFTER: f"{scale}-transfer-many", FLOOR: f"{scale}-transfer-random"},
        MORE_SEEDS[scale],
    )
    for scale in ("quick", "small")
}
PRESETS = presets(SUITES, quick=Sizes(200, 1, 1), small=Sizes(1000, 2, 6))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: tokens (characters of text read), quantity; value in points, a value for each prompt and seed.

    Quantities: none (accuracy without examples), few (with 8), added (few less none), at the end floor (added to the
    inside of a model that read the text alone), above floor, and lost (added before the text less added after it).
    """
    table = Table("tokens", "quantity")
    for runs in tqdm(common.all_seeds(models, sizes.seeds), desc="seeds", unit="seed"):
        first, after = runs[FIRST], runs[AFTER]
        seed, tokens_a_step = after.seed, after.config.batch * (after.config.data.length - 1)
        stages = [(0, first.model)]
        stages += [(step, in_old_alphabet(read(), first)) for step, read in kept(after)[:: -sizes.every][::-1]]
        added = []
        for step, model in stages:
            none, few = (accuracy(model, first, number, sizes.prompts) for number in (0, EXAMPLES))
            added.append(few - none)
            for quantity, values in (("none", none), ("few", few), ("added", added[-1])):
                table.add(step * tokens_a_step, quantity, seed=seed, values=values)
        alone = in_old_alphabet(runs[FLOOR].model, first)
        none, few = (accuracy(alone, first, number, sizes.prompts) for number in (0, EXAMPLES))
        ends = {"floor": few - none, "above floor": added[-1] - (few - none), "lost": added[0] - added[-1]}
        for quantity, values in ends.items():
            table.add(stages[-1][0] * tokens_a_step, quantity, seed=seed, values=values)
    return table.rows()


def in_old_alphabet(model: checkpoints.Model, first: Run) -> checkpoints.Model:
    """A model that read text with the embedding and the head of the first stage."""
    graph, old = checkpoints.split(first.model)
    new = checkpoints.split(model)[1]
    return checkpoints.merge(graph, {name: old[name] if name.startswith(OWN) else new[name] for name in old})


def accuracy(model: checkpoints.Model, first: Run, examples: int, prompts: int) -> Float[np.ndarray, " N"]:
    """100 or 0 for each prompt of the first stage's own world."""
    hmm, _ = first.config.data.build()
    asked = sample_prompts(hmm, jax.random.key(PROMPT_SEED), prompts, examples, EXAMPLE_LENGTH)
    return 100.0 * (answers(model, asked) == np.asarray(asked.labels))


def plot(rows: pd.DataFrame) -> Figure:
    means = over_seeds(rows)
    figure, panel = plt.subplots(figsize=(WIDTH, 3.8))
    for quantity, colour, label in (("few", BLUE, f"{EXAMPLES} examples"), ("none", GREY, "no examples")):
        line = pick(means, quantity=quantity)
        draw_band(panel, line.tokens / 1e6, line, color=colour, ms=4)
        draw_seeds(panel, pick(rows, quantity=quantity).assign(tokens=lambda r: r.tokens / 1e6), "tokens", colour)
        panel.annotate(label, (line.tokens.iloc[-1] / 1e6, line.value.iloc[-1]), (6, 0), textcoords="offset points",
                       color=colour, va="center", size=9)  # fmt: skip
    panel.axvline(0, color=BLACK, lw=0.6, ls=":")
    panel.set(xlabel="million characters of text read", ylabel="right answers, %")
    panel.margins(x=0.16)
    before, after = ends(means)
    figure.suptitle(f"Examples add {before.mean:.0f} points in the synthetic world before the text\nand "
                    f"{after.mean:.0f} after it", size=11)  # fmt: skip
    return figure


def ends(means: pd.DataFrame):
    """What examples add before the text, and at its end."""
    added = pick(means, quantity="added")
    return (only(added, tokens=tokens) for tokens in (added.tokens.min(), added.tokens.max()))


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Less is left after the text; more is left than the floor."""
    number, means = rows.seed.nunique() if "seed" in rows else 0, over_seeds(rows)
    before, after = ends(means)
    lost, above, floor = (only(means, quantity=quantity) for quantity in ("lost", "above floor", "floor"))
    return [
        Registered(
            "after the text, examples add less through the old embedding and head (secondary)",
            "no number",
            f"{show(lost)} points of {show(before)} lost",
            [enough(number, positive(lost))],
            family="secondary",
        ),
        Registered(
            "after the text, they still add more than to a model that read the text alone (secondary)",
            "no number",
            f"{show(after)} points against {show(floor)}",
            [enough(number, positive(above))],
            family="secondary",
        ),
    ]
