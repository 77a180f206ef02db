"""Pictures of how costs grow: units of work per second by size, beside what counted operations would make of them."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from benchmarks.bench_growth import ACROSS, JOBS, Point, exponents, pictures
from figures.lab import style
from figures.lab.record import STYLE

HERE = Path(__file__).parent


def draw(measured: dict[str, Any]) -> None:
    """Draw every picture of the part into benchmarks/."""
    with plt.style.context(STYLE):
        for name, points in measured["jobs"].items():
            for file, axes in pictures(name, [*points]):
                draw_axes(HERE / file, name, {axis: points[axis] for axis in axes})


def draw_axes(path: Path, name: str, axes: dict[str, dict[str, Point]]) -> None:
    """One picture, a panel for each size that changes; where only one does, its memory beside it, if it is known."""
    job, number = JOBS[name], max(2, len(axes))
    figure, panels = style.panels(number, ACROSS, style.WIDTH / number, 2.6)
    for panel, (axis, points) in zip(panels, axes.items(), strict=False):
        draw_rates(panel, axis, points)
    panels[0].set_ylabel(f"{job.unit}s per second")
    for panel, (axis, points) in zip(panels[len(axes) :], axes.items(), strict=False):
        draw_memory(panel, axis, {size: point for size, point in points.items() if point["memory"]})
    grows = ", ".join(f"{axis}$^{{{power(exponents(points)[0])}}}$" for axis, points in axes.items())
    figure.suptitle(f"{job.name}: the time of a {job.unit} grows as {grows}", size=11)
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def power(exponent: float) -> str:
    """An exponent to one digit; a zero has no sign."""
    return f"{round(exponent, 1) + 0.0:.1f}"


def draw_rates(panel: Axes, axis: str, points: dict[str, Point]) -> None:
    """What was measured, and what it would be if every operation were as fast as at the best size."""
    rates = np.array([1 / min(point["seconds"]) for point in points.values()])
    operations = np.array([point["operations"] for point in points.values()])
    at_best = (rates * operations).max() / operations
    panel.loglog([int(size) for size in points], at_best, "--", color=style.GREY, lw=1.2)
    panel.loglog([int(size) for size in points], rates, "o-", color=style.BLUE)
    set_ticks(panel, axis, points, np.concatenate([rates, at_best]))
    for exponent, what, colour, side in zip(
        exponents(points), ("measured", "counted"), (style.BLUE, style.GREY), ("left", "right"), strict=True
    ):
        panel.set_title(f"{what}\n{exponent:.2f}", color=colour, size=8, loc=side)


def draw_memory(panel: Axes, axis: str, points: dict[str, Point]) -> None:
    """The most memory of each size; nothing where the system does not tell."""
    if not points:
        panel.remove()
        return
    megabytes = np.array([point["memory"] / 1e6 for point in points.values()])
    panel.loglog([int(size) for size in points], megabytes, "o-", color=style.ORANGE)
    panel.set_ylabel("memory, MB")
    set_ticks(panel, axis, points, megabytes)


def set_ticks(panel: Axes, axis: str, points: dict[str, Point], values: np.ndarray) -> None:
    """Every size named below, and at least a power of ten of values beside."""
    sizes, logs = [int(size) for size in points], np.log10(values)
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(sizes, [str(size) if size < 1000 else f"{size / 1000:.0f}k" for size in sizes], size=8)
    middle, half = (logs.min() + logs.max()) / 2, max(1.0, logs.max() - logs.min()) / 2 + 0.06
    panel.set(xlabel=axis, ylim=(10 ** (middle - half), 10 ** (middle + half)))
    fine = (2.0, 5.0) if half < 1 else ()
    style.plain_log(panel.yaxis, *fine, form=lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
