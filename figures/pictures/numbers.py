"""Pictures of number formats for the notebooks: one block of numbers on the grid that it makes."""

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from numpy import ndarray

from compression.block_float.block_model import qsnr
from compression.block_float.formats import Format, find
from compression.block_float.quantise import quantize
from figures.lab.style import BLUE


def draw_number_line(values: Float[ndarray, " B"], format: str | Format) -> Figure:
    """One block of numbers before and after: the grid that its largest number makes, and where each number goes."""
    format = find(format)
    rounded = np.asarray(quantize(values, format))
    top = np.frexp(np.abs(values).max())[1] - 1 - format.element.top_exponent
    grid = np.array(format.element.positive()) * 2.0**top
    figure, panel = plt.subplots(figsize=(9, 2.2))
    panel.vlines([*-grid, *grid], -0.25, 0.25, color="#bbbbbb", lw=0.8, label="values of this block")
    for before, after in zip(values, rounded, strict=True):
        panel.annotate("", (after, 0.3), (before, 0.85), arrowprops={"arrowstyle": "->", "color": BLUE, "lw": 1})
    panel.plot(values, np.full(len(values), 0.9), "v", color="black", label="numbers")
    panel.set(ylim=(-0.5, 1.2), yticks=[], xlabel="value")
    panel.set_title(f"{format.name}: {format.average_bits:g} bits, {qsnr(values, rounded):.1f} dB")
    panel.grid(False)
    figure.legend(loc="outside right center")
    return figure
