"""How everything is drawn: one colour for each kind of model (Okabe and Ito's palette), lines with their intervals."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from scipy.optimize import isotonic_regression

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
YELLOW, SKY, BLACK, GREY, RANGE = "#E69F00", "#56B4E9", "#000000", "#777777", "#cccccc"
WIDTH = 7.3  # inches of a figure, to which saving adds a margin
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
# where a point's name may stand: to which side, and how many lines higher; the first that covers least is taken
BESIDE = (
    (1, 0), (-1, 0), (1, -0.8), (-1, 0.8), (1, 0.8), (-1, -0.8), (0, 1.3), (0, -1.3),
    *((side, up) for up in (1.8, -1.8, 2.8, -2.8, 3.8, -3.8) for side in (1, -1, 0)),
)  # fmt: skip
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


def draw_seeds(panel: Axes, rows: pd.DataFrame, x: str, colour: str, shift: float = 0.0) -> None:
    """A dot for each training seed, where there are several."""
    if "seed" in rows and rows.seed.nunique() > 1:
        rows = rows[rows.seed.notna()]
        panel.plot(rows[x] + shift, rows.value, ".", ms=4, color=colour, alpha=0.5)


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


def plain_log(axis: Axis, *between: float, form: str | Callable[[float, float], str] = "{x:g}") -> None:
    """Powers of ten on a logarithmic axis, and what lies between (2 for 0.2, 2, 20, ...), as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1.0, *between)))
    axis.set_major_formatter(form)
    axis.set_minor_locator(NullLocator())


def name_ends(panel: Axes, ends: list[tuple[str, float, float, str]], side: int = 1) -> None:
    """Names of lines beside their ends (name, x, y, colour), moved apart where they would overlap; side -1: left.

    Nothing that changes the limits of the panel may follow.
    """
    panel.set(xlim=panel.get_xlim(), ylim=panel.get_ylim())
    whole: Any = panel.get_figure(root=True)
    line = 0.145 / (whole.get_figheight() * panel.get_position().height)  # the height of a line of text, as a share
    ends, to_axes = sorted(ends, key=lambda end: end[2]), panel.transData + panel.transAxes.inverted()
    tall = np.array([line * (1 + name.count("\n")) for name, *_ in ends])
    steps = np.cumsum(tall) - tall / 2
    heights = np.clip([to_axes.transform((x, y))[1] for _, x, y, _ in ends], 0, 1)
    for (name, x, _, colour), height in zip(ends, isotonic_regression(heights - steps).x + steps, strict=True):
        panel.annotate(name, (x, height), (7 * side, 0), xycoords=("data", "axes fraction"), color=colour, size=8,
                       textcoords="offset points", annotation_clip=False, va="center",
                       ha="left" if side > 0 else "right")  # fmt: skip


def name_points(panel: Axes, points: list[tuple[str, float, float, str]]) -> None:
    """Names beside points (name, x, y, colour), each on the side where it covers least of what is drawn and written.

    Nothing that changes the limits of the panel may follow.
    """
    whole: Any = panel.get_figure(root=True)
    whole.draw_without_rendering()  # now it is known where the panel lies
    size, unit = 8, whole.dpi / 72
    taken = [(x - r, y - r, x + r, y + r) for x, y, r in _drawn(panel, unit)]
    taken += [(-1e4, 0.0, panel.bbox.x0, 1e4), (panel.bbox.x1, 0.0, 1e4, 1e4)]  # beside the panel
    for name, x, y, colour in points:
        (left, low), wide, high = panel.transData.transform((x, y)), 0.62 * size * len(name) * unit, 1.1 * size * unit
        boxes = {}
        for side, up in BESIDE:
            start, base = left + 7 * unit * side - (wide * (1 - side) / 2), low + high * up - high / 2
            boxes[side, up] = (start, base, start + wide, base + high)
        best = min(boxes, key=lambda where: sum(_overlap(boxes[where], box) for box in taken))
        taken.append(boxes[best])
        far = (
            {"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkA": 0, "shrinkB": 2} if abs(best[1]) > 1.5 else None
        )
        panel.annotate(name, (x, y), (7 * best[0], 1.1 * size * best[1]), textcoords="offset points", size=size,
                       color=colour, va="center", ha={1: "left", 0: "center", -1: "right"}[best[0]],
                       arrowprops=far)  # fmt: skip


def _drawn(panel: Axes, unit: float) -> Iterator[tuple[float, float, float]]:
    """Places in pixels, with their radii, of the points of a panel and of steps along its lines."""
    for line in panel.lines:
        corners = line.get_transform().transform(line.get_xydata())
        corners = corners[np.isfinite(corners).all(1)]
        if line.get_marker() not in ("None", ""):
            yield from ((x, y, 4 * unit) for x, y in corners)
        if line.get_linestyle() not in ("None", ""):
            for start, end in itertools.pairwise(corners):
                steps = np.linspace(0, 1, 2 + int(np.hypot(*(end - start)) / (3 * unit)))[:, None]
                yield from ((x, y, unit) for x, y in start + steps * (end - start))


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The area that two boxes share."""
    wide, high = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    return max(0.0, wide) * max(0.0, high)


def span(values: pd.Series) -> tuple[float, float]:
    return float(np.min(values)), float(np.max(values))
