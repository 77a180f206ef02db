"""How costs grow with the sizes of a job, beside what is counted; what two seeds at once and a start take."""

import functools
import json
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks import said

Point = dict[str, Any]
"""What benchmarks.our_growth prints."""


class Job(NamedTuple):
    """What is said of a job, and the sizes at which it is measured."""

    name: str
    unit: str
    says: str
    axes: dict[str, tuple[int, ...]]


JOBS = {
    "training": Job(
        "Training step", "token",
        "The transformer of the training step above in float32, one size changed at a time. Where the context grows, "
        "the batch shrinks, so that a step keeps its tokens; beyond 512 tokens attention takes more than its count, "
        "since the library's products of 64 queries with more keys run at less than half the speed.",
        {
            "width": (32, 64, 128, 256, 512),
            "depth": (1, 2, 4, 8, 16),
            "context": (64, 128, 256, 512, 1024, 2048),
            "batch": (2, 4, 8, 16, 32, 64),
            "cores": (1, 2),
        },
    ),
    "decoding": Job(
        "Generation", "token",
        "A transformer of 4 layers of 128: a token in every row with a cache of 256 slots, and a round in which all "
        "gamma proposals of a draft of 1 layer of 64 are accepted. Attention reads every slot, filled or not. A step "
        "costs much the same for one row as for eight, until the rows fill the cores.",
        {
            "batch": (1, 2, 4, 8, 16, 32, 64),
            "length": (64, 128, 256, 512, 1024, 2048, 4096),
            "gamma": (1, 2, 4, 8, 16),
        },
    ),
    "pruning": Job(
        "SparseGPT", "layer",
        "A square layer at 50 %. Small layers are many short products one after another, so the exponent nears its "
        "count from below.",
        {"width": (128, 256, 512, 1024, 2048, 4096, 8192)},
    ),
    "bayes": Job(
        "Exact Bayes", "token",
        "The loss on 64 documents of 256 tokens of the official world, one size changed at a time. With few entities "
        "the products are so small that starting them costs more.",
        {"concepts": (2, 4, 8, 16, 32, 64), "entities": (5, 10, 20, 40, 80), "tokens": (64, 256, 1024, 4096)},
    ),
}  # fmt: skip
UPPER = 3  # sizes at the end of an axis to which an exponent is fitted


def measure() -> dict[str, Any]:
    """Every point in a process of its own, which has the machine to itself."""
    grown = {
        name: {
            axis: {str(size): json.loads(said("benchmarks.our_growth", name, axis, size)) for size in sizes}
            for axis, sizes in job.axes.items()
        }
        for name, job in JOBS.items()
    }
    return {"jobs": grown, "at once": at_once(), "start": [*starts()]}


def at_once() -> list[float] | None:
    """Seconds of a token of trainings side by side, a seed on each core; None where cores cannot be chosen."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))

    def on(core: int) -> float:
        keep = functools.partial(os.sched_setaffinity, 0, {core})
        return median(json.loads(said("benchmarks.our_growth", "training", "cores", 1, preexec_fn=keep))["seconds"])

    with ThreadPoolExecutor(len(cores)) as pool:
        return list(pool.map(on, cores))


def starts() -> Iterator[dict[str, float]]:
    """Seconds of a training of one step by part: with nothing compiled before, and with everything."""
    with tempfile.TemporaryDirectory() as folder:
        cache = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        for run in ("first", "second"):
            printed = said("benchmarks.our_start", f"{folder}/{run}", time.time(), environment=cache)
            yield json.loads(printed.splitlines()[-1])


def exponents(points: dict[str, Point]) -> tuple[float, float]:
    """Of the seconds of a unit and of its operations, over the largest sizes."""
    sizes = np.log([int(size) for size in points])[-UPPER:]
    values = (
        [min(point["seconds"]) for point in points.values()],
        [point["operations"] for point in points.values()],
    )
    # rounded, and a zero without its sign
    measured, counted = (round(float(np.polyfit(sizes, np.log(kind)[-UPPER:], 1)[0]), 4) + 0.0 for kind in values)
    return measured, counted


def axis_table(axis: str, unit: str, points: dict[str, Point]) -> Iterator[str]:
    """A line for each size, and the exponents."""
    yield f"| {axis} | {unit}s a second | operations of a {unit}, millions | memory, MB | first call, s |"
    yield "|---:|---:|---:|---:|---:|"
    for size, point in points.items():
        rate, memory = 1 / min(point["seconds"]), point["memory"]
        rate_cell = f"{rate:,.0f}" if rate > 100 else f"{rate:.3g}"
        memory_cell = "not told" if memory is None else f"{memory / 1e6:,.0f}"
        yield (
            f"| {int(size):,} | {rate_cell} | {point['operations'] / 1e6:,.3g} | {memory_cell} | {point['first']:.1f} |"
        )
    measured, counted = exponents(points)
    yield ""
    yield (
        f"From {sorted(map(int, points))[-UPPER:][0]:,} on, the seconds of a {unit} grow as {axis}^{measured:.2f}, its "
        f"operations as {axis}^{counted:.2f}."
    )
    yield ""


def report(measured: dict[str, Any]) -> list[str]:
    """The section of benchmarks/RESULTS.md."""
    lines = [
        "## How costs grow", "",
        f"The best of several timings. Operations are counted by hand, exponents fitted to the {UPPER} largest sizes. "
        "Memory is the most that the process held beyond its imports. In the pictures a dashed line is what the speed "
        "would be if every operation were as fast as at the best size.", "",
    ]  # fmt: skip
    for name, job in JOBS.items():
        lines += [f"### {job.name}", "", job.says, ""]
        for axis in job.axes:
            lines += axis_table(axis, job.unit, measured["jobs"][name][axis])
        lines += [line for file, _ in pictures(name) for line in (f"![{job.name}]({file})", "")]
    return [*lines, *seeds(measured), *beginnings(measured["start"])]


def pictures(name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The pictures of a job: file, and up to three axes."""
    axes = tuple(JOBS[name].axes)
    for start in range(0, len(axes), 3):
        yield f"growth-{name}{'-' + axes[start] if start else ''}.png", axes[start : start + 3]


def seeds(measured: dict[str, Any]) -> Iterator[str]:
    """Several seeds at once, a process on each core, beside one after another on all."""
    if measured["at once"] is None:
        return
    cores = measured["jobs"]["training"]["cores"]
    alone = 1 / median(cores[str(len(measured["at once"]))]["seconds"])
    together = sum(1 / seconds for seconds in measured["at once"])
    yield "### Several seeds at once"
    yield ""
    yield (
        f"A seed on each core, side by side: {together:,.0f} tokens a second together. One seed on all cores: "
        f"{alone:,.0f}. `--jobs` trains so."
    )
    yield ""


def beginnings(starts: list[dict[str, float]]) -> Iterator[str]:
    """Where the time of a training of one step goes."""
    parts = list(starts[0])
    yield "### Start"
    yield ""
    yield (
        "Seconds of `python -m icl_synth.train --preset quick --steps 1`, from the command to its end, evaluation and "
        "saving included: with nothing compiled before, and with all programs in JAX's cache on disk."
    )
    yield ""
    yield f"| | all | {' | '.join(parts)} |"
    yield "|---|---:|" + "---:|" * len(parts)
    for name, start in zip(("nothing compiled", "all in the cache"), starts, strict=True):
        yield f"| {name} | {sum(start.values()):.1f} | {' | '.join(f'{start.get(p, 0.0):.1f}' for p in parts)} |"
    yield ""
