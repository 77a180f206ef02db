"""How costs grow with the sizes of a job, beside what is counted; what several seeds at once and a start take."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks import said
from icl_synth.devices import cores

Point = dict[str, Any]
"""What benchmarks.our_growth prints."""


class Job(NamedTuple):
    """What is said of a job, and the sizes at which it is measured."""

    name: str
    unit: str
    says: str
    axes: dict[str, tuple[int, ...]]


CONTEXTS = (64, 128, 256, 512, 1024, 2048)
STEP = {"width": 128, "depth": 4, "context": 256}  # of the transformer whose step is timed, and which generates
ROOM, SHORT = 256, 16  # tokens of a text that is generated, where its length does not grow
SHORT_TEXTS, BATCHES = "batch of short texts", (1, 2, 4, 8, 16, 32, 64)
CAN_KEEP_TO_CORES = hasattr(os, "sched_setaffinity") and cores() > 1
JOBS = {
    "training": Job(
        "Training step", "token",
        "The transformer of the training step above in float32, one size changed at a time. Where the context grows, "
        "the batch shrinks, so that a step keeps its tokens. Where cores change, operations are each core's.",
        {
            "width": (32, 64, 128, 256, 512),
            "depth": (1, 2, 4, 8, 16),
            "context": CONTEXTS,
            "batch": (2, 4, 8, 16, 32, 64),
            "cores": (1, cores()) if CAN_KEEP_TO_CORES else (),
        },
    ),
    "attention": Job(
        "Attention", "token",
        "Causal attention of one document with its gradients, 4 heads of 32, as in a layer of that step. Only its "
        "products are counted; softmax and mask are not.",
        {"context": CONTEXTS},
    ),
    "decoding": Job(
        "Generation", "token",
        "A transformer of 4 layers of 128 reads a token in every row, after a cache with room for 256 more. Attention "
        f"reads every slot, filled or not. A {SHORT_TEXTS} has room for {SHORT} more: where a token of a "
        "large batch takes longer only after long texts, reading their cache takes it. By gamma: the readings of a "
        "round in which all proposals of a draft of 1 layer of 64 are accepted.",
        {
            "batch": BATCHES,
            SHORT_TEXTS: BATCHES,
            "length": (64, 128, 256, 512, 1024, 2048, 4096),
            "gamma": (1, 2, 4, 8, 16),
        },
    ),
    "pruning": Job(
        "SparseGPT", "layer", "A square layer at 50 %.", {"width": (128, 256, 512, 1024, 2048, 4096, 8192)}
    ),
    "bayes": Job(
        "Exact Bayes", "token",
        "The loss on 64 documents of 256 tokens of the official world, one size changed at a time. Only the products "
        "that move a state are counted; what else is done to its entities x properties numbers grows as entities^1.",
        {"concepts": (2, 4, 8, 16, 32, 64), "entities": (5, 10, 20, 40, 80), "tokens": (64, 256, 1024, 4096)},
    ),
}  # fmt: skip
UPPER = 3  # sizes at the end of an axis to which an exponent is fitted
TRAINING = ("training", "cores")
TURNS = 3
AT_ONCE_SECONDS = 3.0  # of a timing of trainings side by side, which do not begin at the same moment
ACROSS = 3  # panels of a picture


def measure() -> dict[str, Any]:
    """Every point in a process of its own, which has the machine to itself."""
    grown = {
        name: {
            axis: {str(size): json.loads(said("benchmarks.our_growth", name, axis, size)) for size in sizes}
            for axis, sizes in job.axes.items()
            if sizes
        }
        for name, job in JOBS.items()
    }
    return {"jobs": grown, "at once": at_once() if CAN_KEEP_TO_CORES else None, "start": [*starts()]}


def at_once() -> dict[str, list[float]]:
    """Seconds of a token of one training on all cores, and of trainings side by side, a seed on each core: in turns,
    for a machine may be slower a minute later."""
    seconds: dict[str, list[float]] = {"one": [], "side by side": []}
    for _ in range(TURNS):
        seconds["one"] += json.loads(said("benchmarks.our_growth", *TRAINING, cores(), AT_ONCE_SECONDS))["seconds"]
        seconds["side by side"].append(1 / sum(1 / of_one for of_one in side_by_side()))
    return seconds


def side_by_side() -> list[float]:
    """Seconds of a token of each of the trainings that run at once: the best of each."""
    command = [sys.executable, "-m", "benchmarks.our_growth", *TRAINING, "1", str(AT_ONCE_SECONDS)]
    processes = []
    for core in sorted(os.sched_getaffinity(0)):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        os.sched_setaffinity(process.pid, {core})
        processes.append(process)
    printed = [process.communicate()[0] for process in processes]
    return [min(json.loads(text)["seconds"]) for text in printed]


def starts() -> Iterator[dict[str, Any]]:
    """What benchmarks.our_start prints: with nothing compiled before, and with everything."""
    with tempfile.TemporaryDirectory() as folder:
        cache = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        for run in ("first", "second"):
            printed = said("benchmarks.our_start", f"{folder}/{run}", time.time(), environment=cache)
            yield json.loads(printed.splitlines()[-1])


def exponents(points: dict[str, Point]) -> tuple[float, float]:
    """Of the seconds of a unit and of its operations, over the largest sizes."""
    sizes = np.log([int(size) for size in points])[-UPPER:]
    seconds = [min(point["seconds"]) for point in points.values()]
    operations = [point["operations"] for point in points.values()]
    slopes = (float(np.polyfit(sizes, np.log(kind)[-UPPER:], 1)[0]) for kind in (seconds, operations))
    measured, counted = (round(slope, 4) + 0.0 for slope in slopes)  # a zero without its sign
    return measured, counted


def axis_table(axis: str, unit: str, points: dict[str, Point]) -> Iterator[str]:
    """A line for each size, and the exponents."""
    yield f"| {axis} | {unit}s per second | operations of a {unit}, millions | memory, MB | first call, s |"
    yield "|---:|---:|---:|---:|---:|"
    for size, point in points.items():
        rate, memory = 1 / min(point["seconds"]), point["memory"]
        cells = [
            f"{int(size):,}",
            f"{rate:,.0f}" if rate > 100 else f"{rate:.3g}",
            f"{point['operations'] / 1e6:,.3g}",
            "not told" if memory is None else f"{memory / 1e6:,.0f}",
            f"{point['first']:.1f}",
        ]
        yield f"| {' | '.join(cells)} |"
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
        "The best of several timings. Sizes are measured one after another, so that a machine whose speed changes in "
        f"between scatters them. Operations are counted by hand, exponents fitted to the {UPPER} largest sizes. "
        "Memory is the most that the process held beyond its imports, compiling and data included. In the pictures a "
        "dashed line is what the speed would be if every operation were as fast as at the best size.", "",
    ]  # fmt: skip
    for name, axes in measured["jobs"].items():
        job = JOBS[name]
        lines += [f"### {job.name}", "", job.says, ""]
        for axis, points in axes.items():
            lines += axis_table(axis, job.unit, points)
        lines += bends(name, measured["jobs"])
        lines += [line for file, _ in pictures(name, [*axes]) for line in (f"![{job.name}]({file})", "")]
    return [*lines, *seeds(measured), *beginnings(measured["start"])]


def bends(name: str, jobs: dict[str, dict[str, dict[str, Point]]]) -> list[str]:
    """What bends a job's line beside what is counted: attention in training, the cache's bytes in generation."""

    def best(job: str, axis: str, size: int) -> float:
        return min(jobs[job][axis][str(size)]["seconds"])

    if name == "attention":
        shortest, *_, longest = CONTEXTS
        step, alone = (best(job, "context", longest) - best(job, "context", shortest) for job in ("training", name))
        return [
            f"In the training step a token takes {1e6 * step:.0f} µs longer at a context of {longest:,} than at "
            f"{shortest}. The attention of its {STEP['depth']} layers takes {1e6 * STEP['depth'] * alone:.0f} µs "
            "longer when it is timed alone, as here.", "",
        ]  # fmt: skip
    if name == "decoding":
        batches = JOBS[name].axes["batch"]
        held = {batch: 8.0 * batch * STEP["depth"] * STEP["width"] * (ROOM + 1) for batch in batches}
        rates = {batch: held[batch] / (batch * best(name, "batch", batch)) for batch in batches}
        told = (f"{held[n] / 1e6:.1f} MB at batch {n}, {rates[n] / 1e9:.1f} GB per second" for n in batches[::2])
        return [f"A reading goes through all keys and values: {'; '.join(told)}.", ""]
    return []


def pictures(name: str, axes: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The pictures of a job: file, and up to three axes."""
    for start in range(0, len(axes), ACROSS):
        yield f"growth-{name}{'-' + axes[start] if start else ''}.png", axes[start : start + ACROSS]


def seeds(measured: dict[str, Any]) -> Iterator[str]:
    """Several seeds at once, a process on each core, beside one after another on all."""
    if measured["at once"] is None:
        return
    rates = {how: 1 / min(seconds) for how, seconds in measured["at once"].items()}
    yield "### Several seeds at once"
    yield ""
    yield (
        f"A seed on each core, side by side: {rates['side by side']:,.0f} tokens per second together. One seed on all "
        f"cores: {rates['one']:,.0f}. Best of {TURNS} turns. `--jobs` trains side by side."
    )
    yield ""


def beginnings(starts: list[dict[str, Any]]) -> Iterator[str]:
    """Where the time of a training of one step goes."""
    parts = list(starts[0]["parts"])
    yield "### Start"
    yield ""
    yield (
        "Seconds of `python -m icl_synth.train --preset quick --steps 1 --optimizer.warmup-steps 0`, from the command "
        "to the end of the first step, and to the program's end, after evaluating and saving. The other columns are "
        "parts of the latter."
    )
    yield ""
    yield f"| programs | first step | all | {' | '.join(parts)} |"
    yield "|---|---:|---:|" + "---:|" * len(parts)
    for name, start in zip(("none compiled before", "all in JAX's cache on disk"), starts, strict=True):
        seconds = [start["first step"], sum(start["parts"].values()), *(start["parts"].get(p, 0.0) for p in parts)]
        yield f"| {name} | {' | '.join(f'{value:.1f}' for value in seconds)} |"
    yield ""
