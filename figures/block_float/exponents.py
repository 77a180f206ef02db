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
from figures.lab.style import BLACK, GREY, MODELS, RANGE, WIDTH, draw_seeds
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
READ = ("weights", "inputs")  # of the trained models


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
    means = over_seeds(rows)
    figure, panels = plt.subplots(1, len(READ), figsize=(WIDTH, 3.9), sharey=True)
    for panel, what in zip(panels, READ, strict=True):
        draw_shares(panel, rows, means, what)
        panel.set(title=what, xlabel=f"factor below the largest of the block of {BLOCK}")
    panels[0].set_ylabel("numbers, %")
    shares = means[(means.quantity == "within of others") & (means.model != NONE)].value
    normal = only(means, what=NORMAL, quantity="within of others").mean
    span = " to ".join(dict.fromkeys(f"{100 * share:.0f}" for share in (shares.min(), shares.max())))
    figure.suptitle(f"{span} % of the numbers that are not 0 are at least a tenth of the largest,\n"
                    f"of normal numbers {100 * normal:.0f} %", size=11)  # fmt: skip
    return figure


def learned(rows: pd.DataFrame) -> list[str]:
    """The trained models of the rows."""
    return [name for name in rows.model.unique() if name != NONE]


def draw_shares(panel: Axes, rows: pd.DataFrame, means: pd.DataFrame, what: str) -> None:
    """The shares of numbers by their distance to the largest in each model, beside those of normal numbers."""
    zero, rows, means = pick(means, quantity="zero"), pick(rows, quantity="below"), pick(means, quantity="below")
    draw_axis(panel)
    normal = pick(means, what=NORMAL)
    panel.plot(normal.x, 100 * normal.value, ":", color=BLACK)
    panel.annotate(NORMAL, (normal.x.iloc[2], 100 * normal.value.iloc[2]), (8, 6), textcoords="offset points", size=8)
    for place, name in enumerate(learned(means)):
        line, each = (pick(table, model=name, what=what) for table in (means, rows))
        colour = MODELS[name]
        draw_seeds(panel, each.assign(value=100 * each.value), "x", colour)
        panel.plot(line.x, 100 * line.value, color=colour, marker="osDP"[place])
        zeros = only(zero, model=name, what=what).mean
        label = name + (f" ({100 * zeros:.0f} % are 0)" if zeros > 0.005 else "")
        panel.annotate(label, (0.98, 0.9 - 0.07 * place), xycoords="axes fraction", size=9, color=colour, ha="right")


def draw_axis(panel: Axes) -> None:
    """Factors below the largest of a block, the decimal order in grey."""
    panel.axvspan(-0.4, DECIMAL_ORDER, color=RANGE, alpha=0.4, lw=0)
    panel.annotate("a tenth\nand more", (0.04, 0.03), xycoords="axes fraction", size=8, color=GREY)
    steps = range(0, DEEPEST + 1, 2)
    factors = [f"1/{2**step}" if step else "1" for step in steps]
    panel.set_xticks(steps, [*factors[:-1], f"{factors[-1]}\nor less"], size=8)
    panel.set_xlim(-0.4, DEEPEST + 0.4)


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
