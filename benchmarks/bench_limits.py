"""What this machine can do at most, and which share of it each job reaches.

`python -m benchmarks.bench_limits CORES` prints operations, bytes and random bits a second on so many cores as JSON.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from benchmarks import said

SIZES = (512, 1024, 2048)  # of square products, of which the fastest counts
REPEATS = 7
BITS = 2**24  # 32-bit numbers drawn at once
UNITS = {
    "float32": ("float32 products", 1e9, "billion operations a second"),
    "bfloat16": ("bfloat16 products, summed in float32", 1e9, "billion operations a second"),
    "int8": ("int8 products, summed in int32", 1e9, "billion operations a second"),
    "copy": ("adding one to numbers in memory, read and written", 1e9, "GB a second"),
    "random": ("random bits (threefry)", 1e9, "billion bits a second"),
}
Limits = dict[str, float]  # a second, by what


def of_cores(cores: int) -> Limits:
    """The limits of so many cores, in this process. Before JAX starts."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    import jax
    import jax.numpy as jnp

    from decoding.speedup import copy_bandwidth

    def fastest(work: Callable[..., Any], *arguments: Any) -> float:
        """Seconds of the fastest of several calls after the first."""
        jax.block_until_ready(work(*arguments))
        seconds = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            jax.block_until_ready(work(*arguments))
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    def product(kind: str, sums: str) -> float:
        multiply = jax.jit(lambda a, b: jnp.dot(a, b, preferred_element_type=sums))
        ones = {size: jnp.ones((size, size), kind) for size in SIZES}
        return max(2 * size**3 / fastest(multiply, a, a) for size, a in ones.items())

    draw = jax.jit(lambda key: jax.random.bits(key, (BITS,)))
    return {
        "float32": product("float32", "float32"),
        "bfloat16": product("bfloat16", "float32"),
        "int8": product("int8", "int32"),
        "copy": copy_bandwidth(),
        "random": 32 * BITS / fastest(draw, jax.random.key(0)),
    }


def measure() -> dict[str, Limits]:
    """The limits of one core and of all, each in a process of its own."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {str(number): json.loads(said("benchmarks.bench_limits", number)) for number in dict.fromkeys((1, cores))}


Share = tuple[str, str, float, str]
"""A job, what was counted by hand, how much of it a second, and the limit that it is held against: all cores'."""


def of_training(measured: dict[str, Any]) -> Iterator[Share]:
    from benchmarks.our_step import MODELS

    per_token = {kind: training_operations(model) for kind, (model, _) in MODELS.items()}
    for kind, programs in measured.items():
        for program in ("ours, float32", "ours, bfloat16"):
            counted = f"{per_token[kind] / 1e6:.1f} million operations a token"
            rate = per_token[kind] * median(programs[program])
            yield f"training step, {kind}, {program[6:]}", counted, rate, program[6:]


def of_documents(measured: dict[str, Any]) -> Iterator[Share]:
    yield "sampling documents", "64 random bits a token", 64 * median(measured["ours, 2 devices"]), "random"


def of_pruning(measured: dict[str, Any]) -> Iterator[Share]:
    for line in measured["layers"]:
        outputs, inputs = map(int, line["layer"].split(",")[0].split(" x "))
        work = inputs**3 / 3 + outputs * inputs**2
        yield (f"SparseGPT, {line['layer']}", f"{work / 1e9:.2f} billion operations", work / median(line["ours"]),
               "float32")  # fmt: skip


def of_blocks(measured: dict[str, Any]) -> Iterator[Share]:
    from benchmarks.bench_blocks import FORMATS, SIZE

    own = measured["ours"]
    for name in FORMATS:
        yield f"quantising, {name}", "8 bytes a number", 8 * SIZE**2 / median(own[f"quantise {name}"]), "copy"
    # of a product in a format only where it is known what carries it
    for name, limit in ({"float32": "float32"} | measured.get("carriers", {})).items():
        yield f"product, {name}", "that of float32", 2 * SIZE**3 / median(own[f"product {name}"]), limit


def of_generation(measured: dict[str, Any]) -> Iterator[Share]:
    for name, one in measured["large"].items():
        if name != "copy":
            plain = median(line["plain"] for line in one["greedy"])
            yield f"plain generation, 8 x 512, {name}", "the weights once a token", one["bytes"] / plain, "copy"


SHARES: dict[str, Callable[[dict[str, Any]], Iterator[Share]]] = {
    "training": of_training,
    "documents": of_documents,
    "pruning": of_pruning,
    "block_float": of_blocks,
    "generation": of_generation,
}


def in_one_run(known: dict[str, dict[str, Any]]) -> Iterator[Share]:
    """The shares of all parts that were measured where and when the limits were."""
    when = [known["limits"][name] for name in ("date", "device", "commit")]
    for name, of_part in SHARES.items():
        if name in known and [known[name][key] for key in ("date", "device", "commit")] == when:
            yield from of_part(known[name]["measured"])


def training_operations(model: Any) -> float:
    """Of a training step per token: six for each weight in a product, and those of attention."""
    from icl_synth import checkpoints
    from icl_synth.scaling.counts import count
    from icl_synth.transformer import TransformerConfig

    if isinstance(model, TransformerConfig):
        counts = count(model, model.context)
        return 6.0 * (counts.parameters - model.vocab_size * model.width + counts.attention)
    weights = checkpoints.abstract(model)[1]
    return 6.0 * sum(w.size for name, w in weights.items() if len(w.shape) > 1 and "embedding" not in name)


def report(limits: dict[str, Limits], known: dict[str, dict[str, Any]]) -> list[str]:
    """The section of benchmarks/RESULTS.md."""
    cores = list(limits)
    lines = [
        "## The machine's limits",
        "",
        "The fastest of several calls.",
        "",
        f"| what | unit | {' | '.join(f'cores: {n}' for n in cores)} |",
        "|---|---|" + "---:|" * len(cores),
    ]
    for name, (what, scale, unit) in UNITS.items():
        lines.append(f"| {what} | {unit} | {' | '.join(f'{limits[n][name] / scale:,.1f}' for n in cores)} |")
    lines += [
        "",
        f"Each job beside what it is limited by, medians, cores: {cores[-1]}. Operations and bytes: by hand. Documents "
        "draw by xoshiro128++, which costs less than threefry, so their share may exceed 1.",
        "",
        "| job | counted | a second, billions | limit | share |",
        "|---|---|---:|---|---:|",
    ]
    for job, counted, rate, limit in in_one_run(known):
        share = rate / limits[cores[-1]][limit]
        lines.append(f"| {job} | {counted} | {rate / 1e9:,.1f} | {UNITS[limit][0]} | {share:.2f} |")
    return [*lines, ""]


if __name__ == "__main__":
    print(json.dumps(of_cores(int(sys.argv[1]))))
