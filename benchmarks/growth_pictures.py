"""Pictures of how costs grow: units of work per second by size, beside what counted operations would make of them."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from benchmarks.bench_growth import JOBS, Point, exponents, pictures
from figures.lab import style
from figures.lab.record import STYLE

HERE = Path(__file__).parent


def draw(measured: dict[str, Any]) -> None:
    """Draw every picture of the part into benchmarks/."""
    with plt.style.context(STYLE):
        for name in JOBS:
            for file, axes in pictures(name):
                draw_axes(HERE / file, name, axes, measured["jobs"][name])


def draw_axes(path: Path, name: str, axes: tuple[str, ...], points: dict[str, dict[str, Point]]) -> None:
    """One picture, a panel for each size that changes; where only one does, its memory beside it."""
    job, number = JOBS[name], max(2, len(axes))
    figure, panels = style.panels(number, 3, style.WIDTH / number, 2.6)
    for panel, axis in zip(panels, axes, strict=False):
        draw_rates(panel, axis, points[axis])
    panels[0].set_ylabel(f"{job.unit}s per second")
    if len(axes) < number:
        draw_memory(panels[1], axes[0], points[axes[0]])
    grows = ", ".join(f"{axis}$^{{{exponents(points[axis])[0]:.1f}}}$" for axis in axes)
    figure.suptitle(f"{job.name}: the time of a {job.unit} grows as {grows}", size=11)
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def draw_rates(panel: Axes, axis: str, points: dict[str, Point]) -> None:
    """What was measured, and what it would be if every operation were as fast as at the best size."""
    rates = np.array([1 / min(point["seconds"]) for point in points.values()])
    operations = np.array([point["operations"] for point in points.values()])
    at_best = (rates * operations).max() / operations
    panel.loglog([int(size) for size in points], at_best, "--", color=style.GREY, lw=1.2)
    panel.loglog([int(size) for size in points], rates, "o-", color=style.BLUE)
    spread(panel, axis, points, np.concatenate([rates, at_best]))
    for exponent, what, colour, side in zip(
        exponents(points), ("measured", "counted"), (style.BLUE, style.GREY), ("left", "right"), strict=True
    ):
        panel.set_title(f"{what} {exponent:.2f}", color=colour, size=8, loc=side)


def draw_memory(panel: Axes, axis: str, points: dict[str, Point]) -> None:
    """The most memory of each size."""
    megabytes = np.array([(point["memory"] or np.nan) / 1e6 for point in points.values()])
    panel.loglog([int(size) for size in points], megabytes, "o-", color=style.ORANGE)
    panel.set_ylabel("memory, MB")
    spread(panel, axis, points, megabytes)


def spread(panel: Axes, axis: str, points: dict[str, Point], values: np.ndarray) -> None:
    """Every size named below, and at least a power of ten of values beside."""
    sizes = [int(size) for size in points]
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(sizes, [str(size) if size < 1000 else f"{size / 1000:.0f}k" for size in sizes], size=8)
    middle, reach = np.exp(np.log([np.nanmin(values), np.nanmax(values)]).mean()), np.nanmax(values) / np.nanmin(values)
    reach = 1.15 * max(np.sqrt(reach), np.sqrt(10))
    panel.set(xlabel=axis, ylim=(middle / reach, middle * reach))
    style.plain_log(
        panel.yaxis, *((2.0, 5.0) if reach < 10 else ()), form=lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}"
    )
