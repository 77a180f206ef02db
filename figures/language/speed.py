"""Milliseconds a token of a real language model, plainly and assisted without a second model, by kind of text."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from decoding.assisted import assisted_generate
from decoding.drafts import PromptLookup, first_layers
from decoding.generate import generate
from decoding.readers import Reader, as_reader
from decoding.turns import every_time
from decoding.variants import in_int8
from figures.lab.claims import Claim, at_least, positive, show
from figures.lab.presets import NONE, presets
from figures.lab.runs import Models
from figures.lab.style import BLACK, GREEN, PINK, SKY, WIDTH
from figures.lab.tables import published
from figures.lab.timings import faster, mean_of, of_turns, without
from figures.language import common
from figures.language.common import KINDS, LIST, MODEL, SMOLLM2, Source
from icl_synth.estimates import Estimate

TITLE = "How fast a real language model writes, with drafts that need no second model (Leviathan et al. 2023)"
DIFFERS = (
    f"{MODEL}It runs on this machine's CPU in float32 and continues other texts in each turn, greedily; the first new "
    "token, which the prefill gives, is left out. Drafts are prompt look-up, the model's first third of blocks, and "
    "its int8 copy. Leviathan et al. expect a speed-up of 1.25 of bigrams, another draft without a model, where these "
    "are accepted at a rate of about 0.2; they measure none, so that all questions here are ours: is look-up as fast "
    "on the list that repeats, is it faster than plain generation on every kind of text, and does it still help a "
    "batch of 4 (list)? Speed-ups are seconds of all plain turns over seconds of all assisted turns, with an interval "
    "over turns, "
    "which has the texts' part and the machine's."
)
PUBLISHED = ("assisted.csv",)
ALONE = True
lacks = common.lacks
PLAIN, LOOKUP, LAYERS, INT8 = HOW = ("plain", "look-up", "first third of the blocks", "int8 copy")
COLOURS = {LOOKUP: PINK, LAYERS: SKY, INT8: GREEN}
GAMMAS = {LOOKUP: 4, LAYERS: 2, INT8: 4}  # tokens drafted in a round


class Sizes(NamedTuple):
    turns: int
    new: int  # tokens
    batches: tuple[int, ...] = (1, 4)  # beyond the first, of the list alone
    prompt: int = 96  # tokens
    source: Source = Source()


PRESETS = presets(
    {name: NONE[name] for name in ("quick", "small")}, quick=Sizes(3, 24), small=Sizes(8, 64, (1, 2, 4, 8))
)


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: kind (of text), how, batch, quantity (seconds, or tokens of a row), turn; value."""
    reader = common.read(sizes.source)
    target, drafts = as_reader(reader.model), drafts_of(reader)
    rows = []
    cells = [(kind, sizes.batches[0]) for kind in KINDS] + [(LIST, batch) for batch in sizes.batches[1:]]
    for kind, batch in tqdm(cells, desc="kinds and batches", unit="cell"):
        prompts = common.prompts(reader, kind, sizes.turns * batch, sizes.prompt).reshape(sizes.turns, batch, -1)
        chosen = HOW if batch == sizes.batches[0] else (PLAIN, LOOKUP)
        works = {how: work_of(how, target, drafts) for how in chosen}
        lengths = (sizes.new, 1)
        seconds = every_time([[functools.partial(work, prompt, new) for work in works.values() for new in lengths]
                              for prompt in prompts])  # fmt: skip
        for how, whole, first in zip(chosen, seconds.T[::2], seconds.T[1::2], strict=True):
            rows += [(kind, how, batch, "seconds", turn, value) for turn, value in enumerate(without(whole, first))]
        rows += [(kind, PLAIN, batch, "tokens", turn, sizes.new - 1) for turn in range(sizes.turns)]
    return pd.DataFrame(rows, columns=["kind", "how", "batch", "quantity", "turn", "value"])


def drafts_of(reader: common.Reader) -> dict[str, Reader]:
    model = reader.model
    return {
        LOOKUP: PromptLookup(model.config.vocab_size),
        LAYERS: as_reader(first_layers(model, -(-model.config.depth // 3))),
        INT8: as_reader(in_int8(model)),
    }


def work_of(how: str, target: Reader, drafts: dict[str, Reader]) -> Callable[..., Any]:
    """What continues prompts by so many tokens."""
    if how == PLAIN:
        return functools.partial(generate, target)
    return functools.partial(assisted_generate, target, drafts[how], num_draft=GAMMAS[how])


def turns(rows: pd.DataFrame, kind: str, how: str, batch: int) -> Float[np.ndarray, " T"]:
    """Seconds of each turn."""
    return of_turns(rows, kind=kind, how=how, batch=batch, quantity="seconds")


def milliseconds(rows: pd.DataFrame, kind: str, how: str, batch: int) -> Estimate:
    """Of a token of a row."""
    tokens = of_turns(rows, kind=kind, how=PLAIN, batch=batch, quantity="tokens")
    return mean_of(1000 * turns(rows, kind, how, batch) / tokens)


def speedup(rows: pd.DataFrame, kind: str, how: str, batch: int) -> Estimate:
    return faster(turns(rows, kind, PLAIN, batch), turns(rows, kind, how, batch))


def plot(rows: pd.DataFrame) -> Figure:
    first = int(rows.batch.min())
    figure, (kinds, batches) = plt.subplots(1, 2, figsize=(WIDTH, 3.9), sharey=True, width_ratios=(1.4, 1))
    for panel in (kinds, batches):
        panel.axhline(1, color=BLACK, lw=0.8)
    draw_kinds(kinds, rows, first)
    draw_batches(batches, rows)
    kinds.set_ylabel("speed-up over plain generation")
    plain = milliseconds(rows, LIST, PLAIN, first).mean
    best = {kind: speedup(rows, kind, LOOKUP, first).mean for kind in KINDS}
    figure.suptitle(f"{SMOLLM2} writes a token in {plain:.0f} ms; with look-up the list is written\n{best[LIST]:.2f} "
                    f"times as fast, verse {best['verse']:.2f} times", size=11)  # fmt: skip
    return figure


def draw_kinds(panel: Axes, rows: pd.DataFrame, batch: int) -> None:
    """Speed-ups by kind of text."""
    for place, (how, colour) in enumerate(COLOURS.items()):
        found = [speedup(rows, kind, how, batch) for kind in KINDS]
        shift = 0.12 * (place - 1)
        panel.errorbar(np.arange(len(KINDS)) + shift, [value.mean for value in found],
                       [value.half_width for value in found], color=colour, fmt="o", capsize=2, label=how)  # fmt: skip
    panel.set_xticks(range(len(KINDS)), KINDS)
    panel.set_title(f"batch {batch}", size=10)
    panel.legend(fontsize=8, loc="center", bbox_to_anchor=(0.5, 0.22), ncols=3, columnspacing=1)


def draw_batches(panel: Axes, rows: pd.DataFrame) -> None:
    """Look-up's speed-up on the list by batch."""
    batches = sorted(int(batch) for batch in rows[rows.kind == LIST].batch.unique())
    found = [speedup(rows, LIST, LOOKUP, batch) for batch in batches]
    places = range(len(batches))
    panel.errorbar(places, [value.mean for value in found], [value.half_width for value in found], color=PINK,
                   marker="o", capsize=2)  # fmt: skip
    panel.set_xticks(places, [str(batch) for batch in batches])
    panel.set_xlabel("texts at once (batch)")
    panel.set_title(f"{LIST}, {LOOKUP}", size=10)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Look-up on the list beside the published bound for bigrams; and where it still helps."""
    return [list_claim(rows), kinds_claim(rows), batch_claim(rows)]


def list_claim(rows: pd.DataFrame) -> Claim:
    theirs = published("assisted", what="speedup", setting="bigram draft").iloc[0]
    batch = int(rows.batch.min())
    found = speedup(rows, LIST, LOOKUP, batch)
    return Claim(
        f"{SMOLLM2}: a draft without a model makes repeating text at least {theirs.value:g} times as fast",
        f"{theirs.value:g} times (bigrams, acceptance about {theirs.alpha:g}, gamma {theirs.gamma:g}; expected)",
        f"{show(found, 2)} times (look-up, list, batch {batch})",
        [at_least(found, float(theirs.value))],
        own=True,
        headline=True,
    )


def kinds_claim(rows: pd.DataFrame) -> Claim:
    batch = int(rows.batch.min())
    found = {kind: speedup(rows, kind, LOOKUP, batch) for kind in KINDS}
    return Claim(
        f"{SMOLLM2}: look-up is faster than plain generation on every kind of text",
        "no number",
        "; ".join(f"{kind} {show(value, 2)} times" for kind, value in found.items()),
        [positive(value._replace(mean=value.mean - 1)) for value in found.values()],
        own=True,
    )


def batch_claim(rows: pd.DataFrame) -> Claim:
    found = speedup(rows, LIST, LOOKUP, 4)
    return Claim(
        f"{SMOLLM2}: look-up still helps a batch of 4 (list)",
        "no number",
        f"{show(found, 2)} times",
        [positive(found._replace(mean=found.mean - 1))],
        own=True,
    )
