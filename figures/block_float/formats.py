"""The formats bit by bit, and what the product of two blocks takes (Rouhani et al. 2020, MSFP)."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compression.block_float import block_packing
from compression.block_float.datapath import Operations, count_operations, integer_matmul
from compression.block_float.formats import FORMATS, Format, Integer
from compression.block_float.quantise import encode
from figures.block_float import common
from figures.block_float.common import NAMED
from figures.lab.claims import Claim, judged
from figures.lab.presets import NONE, presets
from figures.lab.runs import Models
from figures.lab.style import BLACK, BLUE, GREY, ORANGE, PINK, YELLOW
from figures.lab.tables import pick

TITLE = "Block floating point formats, bit by bit, and the product of two blocks"
DIFFERS = (
    "Bits per element are computed from the format's parts and, as a check, measured: 2^16 numbers are encoded, packed "
    "to bytes and counted. The papers' figures are of hardware; here the operations of a product are counted as the "
    "integer product makes them, not built. A float32 multiplication adds exponents itself. The saving is that one "
    "addition of exponents serves a whole block, and that products and sums inside it are of small integers. A claim "
    "*holds* where the counts are exactly the claimed ones; packed bits may differ from computed ones by 0.001, since "
    "a whole tensor has a scale of its own."
)
PUBLISHED = common.PUBLISHED
SINGLE = ("bf16", "fp16", "q3.4")  # numbers that share nothing, or only what the format says
FIELDS = {
    "sign": BLACK,
    "own exponent": YELLOW,
    "digits": BLUE,
    "shared exponent, a block's share": ORANGE,
    "microexponent, a pair's share": PINK,
}
FLOAT32 = (1, 8, 23, 0.0, 0.0)  # its bits by FIELDS: no format of blocks
COUNTED = "msfp12"  # the format of the product


class Sizes(NamedTuple):
    numbers: int = 2**16  # that are packed
    product: tuple[int, int, int] = (64, 256, 64)  # rows, inner, columns


PRESETS = presets(NONE, quick=Sizes(), small=Sizes(), paper=Sizes())


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: format, quantity, part, value.

    Quantities: field (bits per element by FIELDS), computed and packed (bits per element), and operations (of a
    product in MSFP blocks and in float32, by kind).
    """
    rows_of_product, inner, columns = sizes.product
    x = np.random.default_rng(0).normal(size=(sizes.numbers // inner, inner)).astype(np.float32)
    table = [row for name in NAMED for row in bit_rows(name, x)]
    table += [("float32", "field", part, bits) for part, bits in zip(FIELDS, FLOAT32, strict=True)]
    table += [(name, "field", part, bits) for name in SINGLE for part, bits in fields(FORMATS[name]).items()]
    a, b = x[:rows_of_product], x[-columns:].T
    in_blocks = integer_matmul(encode(a, COUNTED), encode(b, COUNTED, axis=0)).operations
    for name, counts in ((COUNTED, in_blocks), ("float32", count_operations(*sizes.product))):
        table += [(name, "operations", part, float(n)) for part, n in zip(Operations._fields, counts, strict=True)]
    return pd.DataFrame(table, columns=["format", "quantity", "part", "value"])


def bit_rows(name: str, x: np.ndarray) -> list[tuple[str, str, str, float]]:
    """Bits per element of a format: by field, in sum, and as packed."""
    format = FORMATS[name]
    size = sum(part.nbytes for part in block_packing.pack(encode(x, format)).values())
    rows = [(name, "field", part, bits) for part, bits in fields(format).items()]
    return [*rows, (name, "computed", "all", format.average_bits), (name, "packed", "all", 8 * size / x.size)]


def fields(format: Format) -> dict[str, float]:
    """Bits per element by what they hold, in the order of FIELDS."""
    element = format.element
    own, digits = (0, element.magnitude) if isinstance(element, Integer) else (element.exponent, element.mantissa)
    shared = 8 / format.block if format.block else 0.0
    return dict(zip(FIELDS, (1, own, digits, shared, 1 / format.sub_block if format.sub_block else 0.0), strict=True))


def plot(rows: pd.DataFrame) -> Figure:
    figure, (bits, work) = plt.subplots(1, 2, figsize=(12, 5.2), width_ratios=(1.9, 1))
    draw_bits(bits, pick(rows, quantity="field"))
    figure.legend(*bits.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    draw_operations(work, pick(rows, quantity="operations"))
    return figure


def draw_bits(panel: Axes, rows: pd.DataFrame) -> None:
    """A bar for each format, in fields."""
    names = list(rows.format.unique())
    names = [*names[len(NAMED) :], *names[: len(NAMED)]][::-1]  # floating and fixed point first, then what shares
    left = np.zeros(len(names))
    for part, colour in FIELDS.items():
        widths = pick(rows, part=part).set_index("format").value[names]
        panel.barh(names, widths, left=left, color=colour, edgecolor="white", label=part)
        left += widths.to_numpy()
    for height, total in enumerate(left):
        panel.text(total + 0.1, height, f"{total:g}", va="center", size=9)
    panel.set(xlabel="bits per element", xlim=(0, 35))
    panel.grid(axis="y", visible=False)


def draw_operations(panel: Axes, rows: pd.DataFrame) -> None:
    """Operations by kind, each over the multiplications of the product, which float32 counts."""
    parts = list(Operations._fields)
    products = pick(rows, format="float32", part="float_products").value.iloc[0]
    for side, name, label, colour in ((-1, COUNTED, "blocks of 16", BLUE), (1, "float32", "float32", GREY)):
        counts = pick(rows, format=name).set_index("part").value[parts] / products
        place = np.arange(len(parts)) + side * 0.19
        panel.bar(place, counts, 0.36, color=colour, label=label)
        for x, value in zip(place, counts, strict=True):
            panel.text(x, value + 0.01, f"{value:.3g}", ha="center", size=8)
    panel.set_xticks(range(len(parts)), [part.replace("_", "\n") for part in parts])
    panel.set_ylabel("operations for each multiplication of the product")
    panel.grid(axis="x", visible=False)
    panel.legend(loc="upper center")


def claims(rows: pd.DataFrame) -> list[Claim]:
    """One exponent for a block; the bits of MSFP12."""
    work = pick(rows, format=COUNTED, quantity="operations").set_index("part").value
    meetings = work["exponent_sums"]  # of two blocks
    sizes = rows[rows.quantity.isin(["computed", "packed"])].pivot(index="format", columns="quantity", values="value")
    off = float((sizes.packed - sizes.computed).abs().max())
    return [
        Claim(
            "two blocks of 16 meet in a fixed-point product and one operation on exponents",
            "16 integer products, 15 integer sums, 1 sum of exponents (MSFP)",
            f"{work['integer_products'] / meetings:g} integer products and {work['integer_sums'] / meetings:g} integer "
            f"sums to each sum of exponents; {work['float_products']:g} float products",
            judged(work["float_products"] == 0 and work["integer_sums"] == 15 * meetings),
        ),
        Claim(
            "MSFP12 takes 4.5 bits per element",
            "4.5 (MSFP, sign, 3 bits and a 16th of 8)",
            f"{sizes.computed['msfp12']:g} computed, {sizes.packed['msfp12']:g} in packed bytes; over all "
            f"{len(sizes)} formats the two differ by at most {off:.4f}",
            judged(sizes.packed["msfp12"] == 4.5 and off < 0.001),
        ),
    ]
