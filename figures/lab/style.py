"""How everything is drawn: one colour for each kind of model (Okabe and Ito's palette), lines with their intervals."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
YELLOW, SKY, BLACK, GREY, RANGE = "#E69F00", "#56B4E9", "#000000", "#777777", "#cccccc"
CYCLE = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, BLACK)
BAYES = "exact Bayes"
MODELS = {
    BAYES: BLACK,
    "transformer": BLUE,
    "LSTM": ORANGE,
    "transformer, 4 layers": GREEN,
    "transformer, 12 layers": BLUE,
    "transformer, 16 layers": PINK,
}
# of the papers' models beside ours
PUBLISHED_MODELS = {
    "transformer, 4 layers": GREEN,
    "transformer, 12 layers": SKY,
    "transformer, 16 layers": PINK,
    "LSTM": YELLOW,
}
PUBLISHED_LINE: dict[str, Any] = {"color": GREY, "ls": "--", "lw": 1.0, "marker": "s", "mfc": "white"}
PUBLISHED_POINT: dict[str, Any] = {"color": GREY, "ls": "none", "marker": "s", "mfc": "white"}


def draw_line(panel: Axes, line: pd.DataFrame, x: str, **style: Any) -> None:
    """Values with their 95 % intervals."""
    panel.errorbar(line[x], line.value, line.half_width, capsize=2, elinewidth=1, **style)


def draw_band(panel: Axes, x: Any, line: pd.DataFrame, **style: Any) -> None:
    """Values as a line with points, their 95 % intervals as a band."""
    panel.plot(x, line.value, **({"marker": "o"} | style))
    panel.fill_between(
        x, line.value - line.half_width, line.value + line.half_width, color=style["color"], alpha=0.18, lw=0
    )


def panels(number: int, across: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels in rows of at most `across`, each of this size in inches."""
    across = min(across, number)
    down = -(-number // across)
    figure, grid = plt.subplots(down, across, figsize=(width * across, height * down), squeeze=False)
    flat = list(grid.flat)
    for spare in flat[number:]:
        spare.remove()
    return figure, flat[:number]


def places(shown: tuple[int, ...] | list[int]) -> dict[int, int]:
    """Equal steps along an axis for numbers that double."""
    return {number: place for place, number in enumerate(shown)}


def legend_below(figure: Figure, panel: Axes, columns: int, **how: Any) -> None:
    """The labels of a panel in a legend below all of them."""
    figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=columns, **how)


def span(values: pd.Series) -> tuple[float, float]:
    return float(np.min(values)), float(np.max(values))
