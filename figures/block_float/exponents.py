"""How far numbers of one block lie apart, in trained models: are they mostly of one order?"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from compression.block_float import rounding
from figures import blocks
from figures.claims import Claim, judged
from figures.recipes import Recipe, Trained, Wanted, trained
from icl_synth import checkpoints
from icl_synth.documents import sample_documents

TITLE = "Exponents inside the blocks of trained models"
DIFFERS = (
    "A post on the format says that the numbers inside a linear layer are mostly of one order, and gives no figure. "
    "Here every block of 16 neighbours along a layer's inputs is looked at, in the weights and in the inputs that 32 "
    "fresh documents make, over three training seeds: how many binary orders lies each number below the largest of its "
    "block? *Holds* where at least half of the numbers lie within one decimal order (3.32 binary ones), which is what "
    "'mostly of one order' would mean at least; *partly* where that is so of those that are not zero, since a zero "
    "costs a block nothing. The transformer's zeros are what its squared ReLU passes on to the layer after it."
)
PUBLISHED = blocks.PUBLISHED
BLOCK, DEEPEST = 16, 12
DOCUMENTS = 32
DOCUMENT_SEED = 41
DECIMAL_ORDER = np.log2(10)


def wanted(recipe: Recipe) -> Wanted:
    return recipe.kinds


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: model, what (weights, inputs or normal numbers), quantity, x, value (a share of all numbers).

    Quantities: below (x binary orders under the block's largest, the last counts all deeper ones), zero, and within
    (at most a decimal order below it; exact, not by whole exponents).
    """
    models, rows = trained(wanted(recipe)), []
    for name in recipe.models:
        seeds = [one for one in models if one.name == name]
        for what, arrays in (("weights", weights), ("inputs", inputs)):
            found = [blocks_of(x) for one in seeds for x in arrays(one)]
            rows += counted(name, what, np.concatenate(found))
    normal = np.random.default_rng(0).normal(size=(20_000, BLOCK)).astype(np.float32)
    rows += counted("none", "normal numbers", normal)
    table = pd.DataFrame(rows, columns=["model", "what", "quantity", "x", "value"])
    table.attrs["models"] = [one.record() for one in models]
    return table


def weights(one: Trained) -> list[np.ndarray]:
    """Each linear layer's weight, inputs last."""
    return [np.asarray(w).T for name, w in checkpoints.split(one.model)[1].items() if name.endswith("kernel")]


def inputs(one: Trained) -> list[np.ndarray]:
    """What each linear layer reads on fresh documents, features last."""
    hmm, _ = one.config.data.build()
    tokens, _ = sample_documents(hmm, jax.random.key(DOCUMENT_SEED), DOCUMENTS, one.config.data.length - 1)
    record: dict[str, jax.Array] = {}
    one.model(tokens, record=record)
    return [np.asarray(x).reshape(-1, x.shape[-1]) for x in record.values()]


def blocks_of(x: np.ndarray) -> np.ndarray:
    """Whole blocks along the last axis."""
    whole = x.shape[-1] // BLOCK * BLOCK
    return x[:, :whole].reshape(-1, BLOCK)


def counted(model: str, what: str, numbers: np.ndarray) -> list[tuple[str, str, str, float, float]]:
    exponents = np.asarray(rounding.exponent(rounding.magnitude_bits(jnp.asarray(numbers))))
    below = exponents.max(1, keepdims=True) - exponents
    zero = numbers == 0
    depth = np.minimum(below[~zero], DEEPEST)
    rows = [(model, what, "below", float(x), float((depth == x).sum() / numbers.size)) for x in range(DEEPEST + 1)]
    largest = np.abs(numbers).max(1, keepdims=True)
    within = (np.abs(numbers) * 2**DECIMAL_ORDER >= largest) & ~zero
    return [*rows, (model, what, "zero", 0.0, float(zero.mean())), (model, what, "within", 0.0, float(within.mean()))]


def plot(rows: pd.DataFrame) -> Figure:
    names = [name for name in rows.model.unique() if name != "none"]
    figure, panels = plt.subplots(1, len(names), figsize=(5.2 * len(names), 4.0), sharey=True, squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        for what, colour, marker in (("weights", "#0072B2", "o"), ("inputs", "#D55E00", "s")):
            chosen = rows[(rows.model == name) & (rows.what == what)]
            line, zeros = chosen[chosen.quantity == "below"], chosen[chosen.quantity == "zero"].value.iloc[0]
            label = f"{what}" + (f" ({100 * zeros:.0f} % are 0)" if zeros > 0.005 else "")
            panel.plot(line.x, 100 * line.value, color=colour, marker=marker, label=label)
        normal = rows[(rows.what == "normal numbers") & (rows.quantity == "below")]
        panel.plot(normal.x, 100 * normal.value, ":", color="#777777", label="normal numbers")
        panel.axvspan(-0.4, DECIMAL_ORDER, color="#dddddd", alpha=0.5, lw=0, label="one decimal order")
        panel.set(xlabel="binary orders below the largest of the block of 16", title=name, xlim=(-0.4, DEEPEST + 0.4))
        panel.set_xticks(range(0, DEEPEST + 1, 2), [*map(str, range(0, DEEPEST, 2)), f"{DEEPEST}+"])
        panel.legend()
    panels[0, 0].set_ylabel("numbers, %")
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Within one decimal order, for weights and inputs of each model."""
    table = []
    for name in [name for name in rows.model.unique() if name != "none"]:
        for what in ("weights", "inputs"):
            chosen = rows[(rows.model == name) & (rows.what == what)].set_index("quantity").value
            share = float(chosen["within"])
            others = share / (1 - float(chosen["zero"]))
            table.append(
                Claim(
                    f"{name}: {what} of a linear layer are mostly of one order",
                    "said in a post on the format, without a figure",
                    f"{100 * share:.0f} % within a decimal order of the largest of their block of 16, "
                    f"{100 * float(chosen['zero']):.0f} % are zero; of the others {100 * others:.0f} %",
                    judged(share >= 0.5, others >= 0.5),
                )
            )
    return table
