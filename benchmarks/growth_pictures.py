"""Pictures of how costs grow: units of work per second by size, beside what counted operations would make of them."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

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
    """One picture, a panel for each size that changes."""
    job = JOBS[name]
    figure, panels = style.panels(len(axes), 3, style.WIDTH / max(2, len(axes)), 2.6)
    for panel, axis in zip(panels, axes, strict=True):
        draw_axis(panel, axis, points[axis])
    panels[0].set_ylabel(f"{job.unit}s per second")
    grows = ", ".join(f"{axis}$^{{{exponents(points[axis])[0]:.1f}}}$" for axis in axes)
    figure.suptitle(f"{job.name}: the time of a {job.unit} grows as {grows}", size=11)
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def draw_axis(panel: Axes, axis: str, points: dict[str, Point]) -> None:
    """What was measured, and the inverse of the counted operations through its last point."""
    sizes = [int(size) for size in points]
    rates = np.array([1 / min(point["seconds"]) for point in points.values()])
    counted = np.array([1 / point["operations"] for point in points.values()])
    panel.loglog(sizes, rates[-1] * counted / counted[-1], "--", color=style.GREY, lw=1.2)
    panel.loglog(sizes, rates, "o-", color=style.BLUE)
    panel.set(xlabel=axis)
    style.plain_log(panel.xaxis, *((2.0, 5.0) if max(sizes) / min(sizes) < 100 else ()), form="{x:,.0f}")
    grows, of_operations = exponents(points)
    for height, what, colour in ((0.14, f"measured {grows:.2f}", style.BLUE),
                                 (0.05, f"operations {of_operations:.2f}", style.GREY)):  # fmt: skip
        panel.text(0.05, height, what, color=colour, transform=panel.transAxes, size=8)
