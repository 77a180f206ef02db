"""What the block floating point figures share: colours of the families, and pictures of numbers for the notebook."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from compression.block_float.block_model import qsnr
from compression.block_float.formats import Format, Integer, find
from compression.block_float.quantise import quantize
from figures.sources import PAPER_VALUES

PUBLISHED = ("block_float.csv",)
FAMILIES = {
    "MSFP": ("#0072B2", "o", ("msfp16", "msfp15", "msfp14", "msfp13", "msfp12", "msfp11")),
    "SMX": ("#D55E00", "D", ("mx9", "mx6", "mx4")),
    "OCP MX": ("#009E73", "s", ("mxint8", "mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4")),
    "NVFP4": ("#CC79A7", "P", ("nvfp4",)),
    "whole tensor": ("#777777", "x", ("int8", "int4", "fp8_e4m3", "fp8_e5m2")),
}
SINGLE = ("bf16", "fp16", "q3.4")  # numbers that share nothing, or only what the format says
NAMED = [name for _, _, names in FAMILIES.values() for name in names]
FIELDS = {
    "sign": "#000000",
    "own exponent": "#E69F00",
    "digits": "#0072B2",
    "shared exponent, a block's share": "#D55E00",
    "microexponent, a pair's share": "#CC79A7",
}


def family(name: str) -> str:
    """The family that a format belongs to."""
    return next(label for label, (_, _, names) in FAMILIES.items() if name in names)


def published(quantity: str) -> pd.Series:
    """Values of a quantity by format."""
    table = pd.read_csv(PAPER_VALUES / "block_float.csv")
    return table[table.quantity == quantity].set_index("format").value


def fields(format: Format) -> dict[str, float]:
    """Bits an element by what they hold, in the order of FIELDS."""
    element = format.element
    own, digits = (0, element.magnitude) if isinstance(element, Integer) else (element.exponent, element.mantissa)
    shared = 8 / format.block if format.block else 0.0
    return dict(zip(FIELDS, (1, own, digits, shared, 1 / format.sub_block if format.sub_block else 0.0), strict=True))


def draw_number_line(values: np.ndarray, format: str | Format) -> Figure:
    """One block of numbers before and after: the grid its largest one makes, and where each number goes."""
    format = find(format)
    rounded = np.asarray(quantize(values, format))
    top = np.frexp(np.abs(values).max())[1] - 1 - format.element.top_exponent
    grid = np.array(format.element.positive()) * 2.0**top
    figure, panel = plt.subplots(figsize=(9, 2.2))
    panel.vlines([*-grid, *grid], -0.25, 0.25, color="#bbbbbb", lw=0.8, label="values of this block")
    for before, after in zip(values, rounded, strict=True):
        panel.annotate("", (after, 0.3), (before, 0.85), arrowprops={"arrowstyle": "->", "color": "#0072B2", "lw": 1})
    panel.plot(values, np.full(len(values), 0.9), "v", color="black", label="numbers")
    panel.set(
        ylim=(-0.5, 1.2),
        yticks=[],
        xlabel="value",
        title=f"{format.name}: {format.average_bits:g} bits, {qsnr(values, rounded):.1f} dB",
    )
    panel.grid(False)
    figure.legend(loc="outside right center")
    return figure
