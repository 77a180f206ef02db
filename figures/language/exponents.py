"""How far apart the numbers of one block lie in a real language model, beside a model of the synthetic world."""

import dataclasses
from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.block_float.exponents import BLOCK, READ, blocks_of, counted, draw_axis, order_claim, percent
from figures.lab.claims import Claim, difference, positive
from figures.lab.presets import NONE, presets
from figures.lab.runs import Models
from figures.lab.style import BLUE, ORANGE, WIDTH, draw_band
from figures.lab.tables import Table, only, over_seeds, pick
from figures.language import common
from figures.language.common import MODEL, SMOLLM2, Source
from icl_synth import checkpoints, pretrained
from icl_synth.concept_hmm import official_ginc
from icl_synth.documents import sample_documents

TITLE = "Exponents inside the blocks of a real language model"
DIFFERS = (
    f"{MODEL}A post on the format says that the numbers inside a linear layer are mostly of one order, and gives no "
    "figure. It meant models such as this one. That is asked of two shares, each the mean over layers: at least half "
    "of all numbers, and of those that are not zero, lie within a decimal order of the largest of their block of "
    f"{BLOCK}. (Of normal numbers more than that do, as the experiment with the synthetic models draws; it pools all "
    "layers and counts the head.) Intervals are over the model's linear layers but the head. Weights of 4 bits with a "
    "scale and an offset for each 32 are coarse where they are small. Real models are known for channels that are far "
    "larger than others. A channel's size is the root of its mean square over all tokens; an outlier is larger than "
    "ten times the median of its layer's input. Our own question: does the real model have a larger share of such "
    "channels than the shipped synthetic transformer, layer by layer on average?"
)
PUBLISHED = ()
lacks = common.lacks
SYNTHETIC = "synthetic transformer"
COLOURS = {SMOLLM2: BLUE, SYNTHETIC: ORANGE}
OUTLIER = 10.0  # times the median channel
DOCUMENT_SEED = 41


class Sizes(NamedTuple):
    windows: int  # of text that make the inputs
    documents: int  # of the synthetic world
    source: Source = Source()


PRESETS = presets({name: NONE[name] for name in ("quick", "small")}, quick=Sizes(2, 16), small=Sizes(8, 32))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, what (weights or inputs), quantity, x; value a share, the mean over the model's linear layers.

    Quantities: those of block_float/exponents, and outliers (share of a layer's input channels whose root mean square
    is above ten times the median one's).
    """
    table, reader = Table("model", "what", "quantity", "x"), common.read(sizes.source)
    hmm, _ = official_ginc(vocab_size=50)
    synthetic = pretrained.load("transformer")
    documents, _ = sample_documents(hmm, jax.random.key(DOCUMENT_SEED), sizes.documents, synthetic.config.context)
    for name, model, tokens in (
        (SMOLLM2, reader.model, reader.judged(sizes.windows)), (SYNTHETIC, synthetic, np.asarray(documents))
    ):  # fmt: skip
        read = {"weights": weights(model), "inputs": inputs(model, tokens)}
        for what, arrays in read.items():
            shares = [list(counted(blocks_of(array))) for array in arrays]
            for each in zip(*shares, strict=True):
                (quantity, x, _), values = each[0], np.array([share for _, _, share in each])
                common.add(table, name, what, quantity, x, values=values)
        common.add(
            table, name, "inputs", "outliers", 0.0, values=np.array([outliers(array) for array in read["inputs"]])
        )
    return table.rows()


def weights(model: checkpoints.Model) -> list[np.ndarray]:
    """Each linear layer's weight, inputs last; the head's is left out, which is the embedding in one of the models."""
    weights = checkpoints.split(model)[1]
    return [np.asarray(w).T for name, w in weights.items() if name.endswith(".kernel") and name != "head.kernel"]


def inputs(model: checkpoints.Model, tokens: Int[np.ndarray, "N L"]) -> list[np.ndarray]:
    """What each linear layer but the head reads, features last; what the gate reads too, `up` reads the same."""
    record: dict[str, jax.Array] = {}
    model(tokens, record=record)
    return [np.asarray(x).reshape(-1, x.shape[-1]) for name, x in record.items() if not name.endswith(("head", "gate"))]


def outliers(x: Float[np.ndarray, "N I"]) -> float:
    """The share of channels whose root mean square is above ten times the median one's."""
    sizes = np.sqrt(np.square(x, dtype=np.float64).mean(0))
    return float((sizes > OUTLIER * np.median(sizes)).mean())


def plot(rows: pd.DataFrame) -> Figure:
    means = over_seeds(rows)
    figure, panels = plt.subplots(1, len(READ), figsize=(WIDTH, 3.9), sharey=True)
    for panel, what in zip(panels, READ, strict=True):
        draw_shares(panel, pick(means, what=what))
        panel.set(title=what, xlabel=f"factor below the largest of the block of {BLOCK}")
    panels[0].set_ylabel("numbers, %")
    found = [only(means, model=SMOLLM2, what=what, quantity="within").mean for what in READ]
    share = only(means, model=SMOLLM2, what="inputs", quantity="outliers").mean
    figure.suptitle(f"{100 * found[0]:.0f} % of {SMOLLM2}'s weights and {100 * found[1]:.0f} % of its inputs are at "
                    f"least a tenth\nof the largest of their block; {100 * share:.2g} % of the channels are outliers",
                    size=11)  # fmt: skip
    return figure


def draw_shares(panel: Axes, means: pd.DataFrame) -> None:
    """The shares of numbers by their distance to the largest in each model."""
    draw_axis(panel)
    for place, (name, colour) in enumerate(COLOURS.items()):
        line = pick(means, model=name, quantity="below")
        shares = line.assign(value=100 * line.value, half_width=100 * line.half_width)
        draw_band(panel, line.x, shares, color=colour, marker="os"[place], ms=4)
        zeros = only(means, model=name, quantity="zero").mean
        label = name + (f" ({100 * zeros:.0f} % are 0)" if zeros > 0.005 else "")
        panel.annotate(label, (0.98, 0.92 - 0.07 * place), xycoords="axes fraction", size=9, color=colour, ha="right")


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Mostly of one order, for weights and inputs; and the outlying channels."""
    rows = over_seeds(rows)
    of_order = (order_claim(rows, SMOLLM2, what) for what in READ)
    return [*(dataclasses.replace(one, headline="inputs" in one.claim) for one in of_order), outlier_claim(rows)]


def outlier_claim(rows: pd.DataFrame) -> Claim:
    real, synthetic = (only(rows, model=name, what="inputs", quantity="outliers") for name in COLOURS)
    return Claim(
        f"{SMOLLM2}: more of its channels are outliers than of the synthetic transformer's",
        "no number",
        f"{percent(real)} of the channels of a layer against {percent(synthetic)}",
        [positive(difference(real, synthetic))],
        own=True,
    )
