"""Acceptance on a real language model of drafts that need no second model, by kind of text."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.stats
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.block_float.block_model import in_format
from compression.pruning.apply import Pruning
from decoding.along import proposed
from decoding.drafts import PromptLookup, first_layers
from decoding.generate import generate
from decoding.readers import Reader, as_reader
from decoding.variants import in_int8
from figures.lab.claims import Claim, difference, positive, scaled, show
from figures.lab.presets import NONE, presets
from figures.lab.runs import Models
from figures.lab.style import BLUE, GREEN, ORANGE, PINK, SKY, WIDTH, YELLOW
from figures.lab.tables import Table, only, over_seeds, pick
from figures.language import common
from figures.language.common import KINDS, LIST, MODEL, SMOLLM2, Source

TITLE = "What a real language model accepts of drafts that need no second model"
DIFFERS = (
    f"{MODEL}It continues texts of three kinds at temperature 0 and 1: verse of the held-back works, prose of an "
    "essay written for this, and a numbered list that repeats itself with other names. Acceptance is exact along the "
    "text that the model wrote: the share of tokens that would have come from the draft if it was tried. The drafts "
    "are prompt look-up (the latest earlier occurrence of up to 3 last tokens, or of 1; where the last token did not "
    "occur before, it guesses, which counts as rejected), the model's first third of blocks, and copies of it: pruned "
    "to 2:4 by SparseGPT, in int8, in MXFP4, the latter two with rounded activations. Greedy texts of a model so "
    "small soon repeat themselves, whatever they continue, and look-up lives on that. A post guesses that assistance "
    "is fast where tokens are easy: for each draft the correlation of acceptance with the entropy of the model's own "
    "prediction, Spearman's within a text, is to be below zero at temperature 1. Our own question: is look-up "
    "accepted more in the list than in verse and than in prose, greedily? Intervals are over texts. Rule of 30 "
    "November 2026: in the first rows, of the same day, a look-up that found nothing counted as its guess among all "
    "tokens, whose few acceptances are the least likely tokens."
)
PUBLISHED = ()
lacks = common.lacks
LOOKUP, LAST, LAYERS, PRUNED, INT8, MXFP4 = DRAFTS = (
    "look-up, 3 tokens", "look-up, 1 token", "first third of the blocks", "pruned to 2:4", "int8", "MXFP4"
)  # fmt: skip
COLOURS = dict(zip(DRAFTS, (PINK, YELLOW, SKY, ORANGE, GREEN, BLUE), strict=True))
TEMPERATURES = (0.0, 1.0)
SAMPLING_SEED = 7
ROWS_AT_ONCE = 4


class Sizes(NamedTuple):
    texts: int  # of each kind
    new: int  # tokens
    calibration: int  # windows
    prompt: int = 96  # tokens
    source: Source = Source()


PRESETS = presets(
    {name: NONE[name] for name in ("quick", "small")},
    quick=Sizes(4, 32, 4),
    small=Sizes(15, 64, 24),  # as many texts as the prose holds
)


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: kind (of text), draft, temperature, quantity; values over texts.

    Quantities: acceptance (share of a text's tokens that the draft would have given), correlation (of acceptance and
    the target's entropy, within a text, at temperature 1), and entropy of the target (draft: none), nats.
    """
    table, reader = Table("kind", "draft", "temperature", "quantity"), common.read(sizes.source)
    texts_of = {kind: common.prompts(reader, kind, sizes.texts, sizes.prompt) for kind in KINDS}
    target, drafts = as_reader(reader.model), drafts_of(reader, sizes.calibration)
    for kind, prompts in tqdm(texts_of.items(), desc="kinds of text", unit="kind"):
        for temperature in TEMPERATURES:
            key = jax.random.key(SAMPLING_SEED)
            texts = np.asarray(generate(target, prompts, sizes.new, temperature=temperature, key=key))
            p = log_probs(target, texts, sizes.prompt)
            entropy = -(np.exp(p) * p).sum(-1)
            common.add(table, kind, "none", temperature, "entropy", values=entropy.mean(-1))
            for name, draft in drafts.items():
                q, added = log_probs(draft, texts, sizes.prompt), texts[:, sizes.prompt :]
                accepted = (looked_up if name in (LOOKUP, LAST) else proposed)(p, q, added, temperature)
                common.add(table, kind, name, temperature, "acceptance", values=accepted.mean(-1),
                           least=3 / accepted.size)  # fmt: skip
                if temperature:
                    common.add(table, kind, name, temperature, "correlation", values=correlations(accepted, entropy))
    return table.rows()


def drafts_of(reader: common.Reader, calibration: int) -> dict[str, Reader]:
    """The drafts by name; the pruned one is calibrated on so many windows."""
    model, vocabulary = reader.model, reader.model.config.vocab_size
    pruned = common.pruned(reader, Pruning(pattern=(2, 4)), calibration)
    return {
        LOOKUP: PromptLookup(vocabulary),
        LAST: PromptLookup(vocabulary, longest=1),
        LAYERS: as_reader(first_layers(model, -(-model.config.depth // 3))),
        PRUNED: as_reader(pruned),
        INT8: as_reader(in_int8(model)),
        MXFP4: as_reader(in_format(model, "mxfp4")),
    }


def looked_up(
    p: Float[np.ndarray, "B N V"], q: Float[np.ndarray, "B N V"], tokens: Int[np.ndarray, "B N"], temperature: float
) -> Float[np.ndarray, "B N"]:
    """`proposed` by look-up, which is certain of a token; where it found none, q is flat, and its guess is rejected."""
    return np.where(q.max(-1) < 0, 0.0, proposed(p, q, tokens, temperature))


def log_probs(reader: Reader, texts: Int[np.ndarray, "B L"], start: int) -> Float[np.ndarray, "B N V"]:
    """log p of each token from `start` on, before it is read."""
    parts = [
        _log_probs(reader, jnp.asarray(texts[row : row + ROWS_AT_ONCE]), start)
        for row in range(0, len(texts), ROWS_AT_ONCE)
    ]
    return np.concatenate([np.asarray(part) for part in parts])


@functools.partial(jax.jit, static_argnames="start")
def _log_probs(reader: Reader, texts: Array, start: int) -> Array:
    batch, length = texts.shape
    logits = reader.read(texts, reader.start(batch, length, length))[0]
    return jax.nn.log_softmax(logits[:, start - 1 : -1])


def correlations(accepted: Float[np.ndarray, "B N"], entropy: Float[np.ndarray, "B N"]) -> Float[np.ndarray, " B"]:
    """Spearman's of each text; 0 where all of its tokens are accepted alike."""
    each = [
        scipy.stats.spearmanr(a, e).statistic if np.ptp(a) and np.ptp(e) else 0.0
        for a, e in zip(accepted, entropy, strict=True)
    ]
    return np.nan_to_num(np.array(each))


def plot(rows: pd.DataFrame) -> Figure:
    means = pick(over_seeds(rows), quantity="acceptance")
    figure, panels = plt.subplots(1, len(TEMPERATURES), figsize=(WIDTH, 4.2), sharey=True)
    for panel, temperature in zip(panels, TEMPERATURES, strict=True):
        for place, (draft, colour) in enumerate(COLOURS.items()):
            line = pick(means, draft=draft, temperature=temperature).set_index("kind").loc[list(KINDS)]
            shift = 0.1 * (place - (len(COLOURS) - 1) / 2)
            panel.errorbar(np.arange(len(KINDS)) + shift, line.value, line.half_width, color=colour, fmt="o", ms=4,
                           elinewidth=1, capsize=2, label=draft)  # fmt: skip
        panel.set_xticks(range(len(KINDS)), KINDS)
        panel.grid(axis="x", visible=False)
        panel.set(title="greedy" if temperature == 0 else f"temperature {temperature:g}", ylim=(0, 1.02))
    panels[0].set_ylabel("share of tokens accepted")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    greedy, sampled = (
        [100 * only(means, kind=kind, draft=LOOKUP, temperature=temperature).mean for kind in KINDS]
        for temperature in TEMPERATURES
    )
    each = ", ".join(f"{share:.0f} % ({kind})" for share, kind in zip(sampled, KINDS, strict=True))
    figure.suptitle(
        f"Look-up gives {min(greedy):.0f} to {max(greedy):.0f} % of the greedy tokens of {SMOLLM2},\n"
        f"of the sampled ones {each}", size=11,
    )  # fmt: skip
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Easy tokens are accepted; look-up lives on repetition."""
    rows = over_seeds(rows)
    return [*(easy_claim(rows, draft) for draft in DRAFTS), repeat_claim(rows)]


def easy_claim(rows: pd.DataFrame, draft: str) -> Claim:
    found = {kind: only(rows, kind=kind, draft=draft, quantity="correlation") for kind in KINDS}
    return Claim(
        f"{SMOLLM2}: easy tokens are accepted: acceptance falls with the model's entropy ({draft})",
        "guessed in a post on assisted generation, without a measurement",
        "; ".join(f"{kind} {show(value, 2)}" for kind, value in found.items()) + " (Spearman's)",
        [positive(scaled(value, -1)) for value in found.values()],
        headline=draft == LAYERS,
    )


def repeat_claim(rows: pd.DataFrame) -> Claim:
    shares = {kind: only(rows, kind=kind, draft=LOOKUP, temperature=0.0, quantity="acceptance") for kind in KINDS}
    more = [difference(shares[LIST], share) for kind, share in shares.items() if kind != LIST]
    return Claim(
        f"{SMOLLM2}: look-up is accepted more in a list that repeats than in verse and in prose",
        "no number",
        "; ".join(f"{kind} {show(share, 2)}" for kind, share in shares.items()),
        [positive(value) for value in more],
        own=True,
    )
