"""The formats bit by bit, and what the product of two blocks takes (Rouhani et al. 2020, MSFP)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from compression.block_float import block_packing
from compression.block_float.datapath import Operations, count_operations, integer_matmul
from compression.block_float.formats import FORMATS, Float, Format
from compression.block_float.quantise import encode
from figures import blocks
from figures.blocks import FIELDS, NAMED, SINGLE, fields
from figures.claims import Claim, judged
from figures.recipes import Recipe, Wanted

TITLE = "Block floating point formats, bit by bit, and the product of two blocks"
DIFFERS = (
    "Bits an element are computed from the format's parts and, as a check, measured: 2^16 numbers are encoded, packed "
    "to bytes and counted. The papers' figures are of hardware; here the operations of a product are counted as the "
    "integer product makes them, not built. A float32 multiplication adds exponents itself, so what is saved is that "
    "one addition of exponents serves a whole block, and that products and sums inside it are of small integers."
)
PUBLISHED = blocks.PUBLISHED
NUMBERS = 2**16
WIDTHS = (64, 256, 64)  # rows, inner, columns of the counted product
FLOAT32 = Format("float32", Float(8, 23, float(np.finfo(np.float32).max)), scale="none")


def wanted(recipe: Recipe) -> Wanted:
    return Wanted({}, ())


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: format, quantity, part, value. Quantities: field (bits an element by FIELDS), computed and packed (bits an
    element), and operations (of a product in MSFP blocks and in float32, by what is done)."""
    x = np.random.default_rng(0).normal(size=(NUMBERS // 256, 256)).astype(np.float32)
    rows: list[tuple[str, str, str, float]] = []
    for name in NAMED:
        format = FORMATS[name]
        size = sum(part.nbytes for part in block_packing.pack(encode(x, format)).values())
        rows += [(name, "field", part, bits) for part, bits in fields(format).items()]
        rows += [(name, "computed", "all", format.average_bits), (name, "packed", "all", 8 * size / NUMBERS)]
    for format in (FLOAT32, *(FORMATS[name] for name in SINGLE)):
        rows += [(format.name, "field", part, bits) for part, bits in fields(format).items()]
    a, b = x[: WIDTHS[0], : WIDTHS[1]], x[-WIDTHS[2] :, : WIDTHS[1]].T
    in_blocks = integer_matmul(encode(a, "msfp12"), encode(b, "msfp12", axis=0)).operations
    for name, counted in (("msfp12", in_blocks), ("float32", count_operations(*WIDTHS))):
        rows += [(name, "operations", part, float(n)) for part, n in zip(Operations._fields, counted, strict=True)]
    table = pd.DataFrame(rows, columns=["format", "quantity", "part", "value"])
    table.attrs["models"] = []
    return table


def plot(rows: pd.DataFrame) -> Figure:
    figure, (bits, work) = plt.subplots(1, 2, figsize=(12, 5.2), width_ratios=(1.9, 1))
    names = list(rows.format[rows.quantity == "field"].unique())
    names = [*names[len(NAMED) :], *names[: len(NAMED)]][::-1]  # floating and fixed point first, then what shares
    left = np.zeros(len(names))
    for part, colour in FIELDS.items():
        chosen = rows[(rows.quantity == "field") & (rows.part == part)].set_index("format").value[names]
        bits.barh(names, chosen, left=left, color=colour, edgecolor="white", label=part)
        left += chosen.to_numpy()
    for height, total in enumerate(left):
        bits.text(total + 0.1, height, f"{total:g}", va="center", size=9)
    bits.set(xlabel="bits an element", xlim=(0, 35))
    bits.grid(axis="y", visible=False)
    figure.legend(*bits.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    parts = Operations._fields
    products = WIDTHS[0] * WIDTHS[1] * WIDTHS[2]
    for offset, (name, colour) in enumerate((("msfp12", "#0072B2"), ("float32", "#777777"))):
        counted = rows[(rows.format == name) & (rows.quantity == "operations")].set_index("part").value[list(parts)]
        place = np.arange(len(parts)) + (offset - 0.5) * 0.38
        work.bar(place, counted / products, 0.36, color=colour, label="blocks of 16" if offset == 0 else "float32")
        for x, value in zip(place, counted / products, strict=True):
            work.text(x, value + 0.01, f"{value:.3g}", ha="center", size=8)
    work.set_xticks(range(len(parts)), [part.replace("_", "\n") for part in parts])
    work.set_ylabel("operations for each multiplication of the product")
    work.grid(axis="x", visible=False)
    work.legend(loc="upper center")
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """One exponent for a block; the bits of MSFP12."""
    work = rows[(rows.format == "msfp12") & (rows.quantity == "operations")].set_index("part").value
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
            "MSFP12 takes 4.5 bits an element",
            "4.5 (MSFP, sign, 3 bits and a 16th of 8)",
            f"{sizes.computed['msfp12']:g} computed, {sizes.packed['msfp12']:g} in packed bytes; over all "
            f"{len(sizes)} formats the two differ by at most {off:.4f}",
            judged(sizes.packed["msfp12"] == 4.5 and off < 0.001),
        ),
    ]
