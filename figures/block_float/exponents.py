"""How far apart the numbers of one block lie in trained models: are they mostly of one order?"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compression.block_float import rounding
from figures.block_float import common
from figures.lab.claims import Claim, at_least
from figures.lab.presets import KINDS, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLUE, GREY, ORANGE
from figures.lab.tables import Table, only, over_seeds, pick
from icl_synth import checkpoints
from icl_synth.documents import sample_documents
from icl_synth.estimates import Estimate

TITLE = "Exponents inside the blocks of trained models"
DIFFERS = (
    "A post on the format says that the numbers inside a linear layer are mostly of one order, and gives no figure. "
    "Here we look at every block of neighbours along a layer's inputs, in the weights and in the inputs that fresh "
    "documents make: how many binary orders does each number lie below the largest of its block? The transformer's "
    "zeros are what its squared ReLU passes on to the next layer; a zero costs a block nothing. 'Mostly of one order' "
    "means at the least that half of the numbers lie within one decimal order (3.32 binary ones) of the largest. That "
    "is asked of two shares: of all numbers, and of those that are not zero."
)
PUBLISHED = common.PUBLISHED
BLOCK, DEEPEST = 16, 12
DOCUMENT_SEED = 41
DECIMAL_ORDER = np.log2(10)
NONE, NORMAL = "none", "normal numbers"  # their model and what they are


class Sizes(NamedTuple):
    documents: int = 32  # that make the inputs
    normal_blocks: int = 20_000  # of normal numbers beside them


PRESETS = presets(KINDS, quick=Sizes(), small=Sizes(), paper=Sizes())


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, what (weights, inputs or normal numbers), quantity, x; value a share of all numbers.

    Quantities: below (x binary orders under the block's largest, the last counts all deeper ones), zero, within (at
    most a decimal order below it; exact, not by whole exponents) and within of others (the same as a share of the
    numbers that are not zero).
    """
    table = Table("model", "what", "quantity", "x")
    for name, runs in models.items():
        for run in runs:
            for what, arrays in (("weights", weights(run)), ("inputs", inputs(run, sizes.documents))):
                numbers = np.concatenate([blocks_of(array) for array in arrays])
                for quantity, x, share in counted(numbers):
                    table.add(name, what, quantity, x, seed=run.seed, values=np.array([share]))
    normal = np.random.default_rng(0).normal(size=(sizes.normal_blocks, BLOCK)).astype(np.float32)
    for quantity, x, share in counted(normal):
        table.add(NONE, NORMAL, quantity, x, values=np.array([share]))
    return table.rows()


def weights(run: Run) -> list[np.ndarray]:
    """Each linear layer's weight, inputs last."""
    return [np.asarray(w).T for name, w in checkpoints.split(run.model)[1].items() if name.endswith("kernel")]


def inputs(run: Run, documents: int) -> list[np.ndarray]:
    """What each linear layer reads on fresh documents, features last."""
    hmm, _ = run.config.data.build()
    tokens, _ = sample_documents(hmm, jax.random.key(DOCUMENT_SEED), documents, run.config.data.length - 1)
    record: dict[str, jax.Array] = {}
    run.model(tokens, record=record)
    return [np.asarray(x).reshape(-1, x.shape[-1]) for x in record.values()]


def blocks_of(x: Float[np.ndarray, "N I"]) -> Float[np.ndarray, "M B"]:
    """Whole blocks along the last axis."""
    length = x.shape[-1] // BLOCK * BLOCK
    return x[:, :length].reshape(-1, BLOCK)


def counted(numbers: Float[np.ndarray, "M B"]) -> Iterator[tuple[str, float, float]]:
    """Quantity, x and the share of all numbers."""
    exponents = np.asarray(rounding.exponent(rounding.magnitude_bits(jnp.asarray(numbers))))
    below = exponents.max(1, keepdims=True) - exponents
    zero = numbers == 0
    depth = np.minimum(below[~zero], DEEPEST)
    for x in range(DEEPEST + 1):
        yield "below", float(x), float((depth == x).sum() / numbers.size)
    largest = np.abs(numbers).max(1, keepdims=True)
    within = (np.abs(numbers) * 2**DECIMAL_ORDER >= largest) & ~zero
    yield "zero", 0.0, float(zero.mean())
    yield "within", 0.0, float(within.mean())
    yield "within of others", 0.0, float(within.sum() / (~zero).sum())


def plot(rows: pd.DataFrame) -> Figure:
    rows = over_seeds(rows)
    names = learned(rows)
    figure, panels = plt.subplots(1, len(names), figsize=(3.75 * len(names), 3.8), sharey=True, squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        draw_model(panel, rows, name)
    panels[0, 0].set_ylabel("numbers, %")
    shares = rows[(rows.quantity == "within of others") & (rows.model != NONE)].value
    span = f"{100 * shares.min():.0f} to {100 * shares.max():.0f} %"
    figure.suptitle(f"{span} of the numbers that are not 0 lie within a decimal order of the largest", size=10)
    return figure


def learned(rows: pd.DataFrame) -> list[str]:
    """The trained models of the rows."""
    return [name for name in rows.model.unique() if name != NONE]


def draw_model(panel: Axes, rows: pd.DataFrame, name: str) -> None:
    """The shares of numbers by their distance to the largest, beside those of normal numbers."""
    for what, colour, marker in (("weights", BLUE, "o"), ("inputs", ORANGE, "s")):
        line = pick(rows, model=name, what=what, quantity="below")
        zeros = pick(rows, model=name, what=what, quantity="zero").value.iloc[0]
        label = what + (f" ({100 * zeros:.0f} % are 0)" if zeros > 0.005 else "")
        panel.plot(line.x, 100 * line.value, color=colour, marker=marker, label=label)
    normal = pick(rows, what=NORMAL, quantity="below")
    panel.plot(normal.x, 100 * normal.value, ":", color=GREY, label=NORMAL)
    panel.axvspan(-0.4, DECIMAL_ORDER, color="#dddddd", alpha=0.5, lw=0, label="one decimal order")
    panel.set(xlabel=f"binary orders below the largest of the block of {BLOCK}", title=name)
    panel.set_xlim(-0.4, DEEPEST + 0.4)
    panel.set_xticks(range(0, DEEPEST + 1, 2), [*map(str, range(0, DEEPEST, 2)), f"{DEEPEST}+"])
    panel.legend(fontsize=8)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Within one decimal order, for weights and inputs of each model."""
    rows = over_seeds(rows)
    return [order_claim(rows, name, what) for name in learned(rows) for what in ("weights", "inputs")]


def order_claim(rows: pd.DataFrame, name: str, what: str) -> Claim:
    share, others, zero = (
        only(rows, model=name, what=what, quantity=quantity) for quantity in ("within", "within of others", "zero")
    )
    return Claim(
        f"{name}: {what} of a linear layer are mostly of one order",
        "said in a post on the format, without a figure",
        f"{percent(share)} within a decimal order of the largest of their block of {BLOCK}; {100 * zero.mean:.0f} % "
        f"are zero, of the others {percent(others)}",
        [at_least(share, 0.5), at_least(others, 0.5)],
    )


def percent(share: Estimate) -> str:
    return f"{100 * share.mean:.1f} ± {100 * share.half_width:.1f} %"
