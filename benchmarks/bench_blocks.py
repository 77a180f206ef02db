"""Block floating point: quantising and multiplying beside a plain PyTorch emulation; whole models in a format.

`python -m benchmarks.bench_blocks` prints our own figures; ours and the peer's run in processes of their own.
"""

import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks import said

SIZE, REPEATS = 1024, 9
FORMATS = ("mxint8", "mxfp8_e4m3", "mxfp4", "msfp12", "mx9")
PEER = ("mxint8", "mxfp8_e4m3", "mxfp4")
MODEL_FORMATS = ("msfp12", "mx9", "mxfp8_e4m3")
DOCUMENTS = 64
# milliseconds of microxcaling itself, one thread, as recorded on another machine: quantising, and the 1024^3 product
PUBLIC = {"mxint8": (17, 50), "mxfp8_e4m3": (30, 76), "mxfp4": (30, None)}


def timed(work: Callable[[], object]) -> list[float]:
    """Seconds of each of several calls after the first."""
    import jax

    jax.block_until_ready(work())
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append(time.perf_counter() - start)
    return seconds


def ours() -> dict[str, list[float]]:
    """Seconds by "what format", on one device with as many threads as the machine has cores."""
    import jax

    from compression.block_float.block_model import in_format
    from compression.block_float.quantise import matmul, quantize
    from icl_synth import pretrained
    from icl_synth.checkpoints import merge, split

    a, b = (jax.random.normal(key, (SIZE, SIZE)) for key in jax.random.split(jax.random.key(0)))
    plain = jax.jit(lambda a, b: a @ b)
    found = {"product float32": timed(lambda: plain(a, b))}
    for name in FORMATS:
        product = jax.jit(lambda a, b, name=name: matmul(a, b, name))
        found[f"quantise {name}"] = timed(lambda name=name: quantize(a, name))
        found[f"product {name}"] = timed(lambda product=product: product(a, b))
    tokens = jax.random.randint(jax.random.key(1), (DOCUMENTS, 256), 0, 50)
    for kind in ("transformer", "lstm"):
        for name in ("float32", *MODEL_FORMATS):
            model = pretrained.load(kind)
            graph, weights = split(model if name == "float32" else in_format(model, name))

            @jax.jit
            def read(weights, tokens, graph=graph):
                parts = tokens.reshape(-1, 8, 256)
                return jax.lax.map(lambda part: merge(graph, weights)(part).max(), parts)

            found[f"{kind} {name}"] = timed(lambda read=read, weights=weights: read(weights, tokens))
    return found


def peer(name: str, threads: int) -> tuple[list[float], list[float]]:
    seconds = [float(word) for word in said("benchmarks.torch_blocks", name, threads, REPEATS).split()]
    return seconds[:REPEATS], seconds[REPEATS:]


def cell(seconds: list[float]) -> str:
    return f"{1e3 * min(seconds):.2f} ({1e3 * median(seconds):.2f})"


def measure() -> dict[str, Any]:
    """Seconds of our work by "what format", and of the peer's quantising and products, on one and two threads.

    And the type that carries each format's products here.
    """
    from compression.block_float import carrier

    runs = {name: [peer(name, threads) for threads in (1, 2)] for name in PEER}
    ours, carriers = json.loads(said("benchmarks.bench_blocks")), {name: carrier(name) for name in FORMATS}
    return {"ours": ours, "PyTorch": runs, "carriers": carriers}


def report(measured: dict[str, Any]) -> list[str]:
    """The section of benchmarks/RESULTS.md."""
    own = measured["ours"]
    lines = [
        "## Block floating point",
        "",
        f"Milliseconds, minimum (median) of {REPEATS}: quantising {SIZE} x {SIZE} numbers, and a product of two such "
        "matrices with both quantised in it. PyTorch is a plain emulation in the manner of microxcaling, the fastest "
        "of eager and compiled, one and two threads; the last column is microxcaling itself, one thread, on another "
        "machine.",
        "",
        "| format | quantise, ours | PyTorch | ratio | product, ours | of float32's | PyTorch | public code |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        f"| float32 | | | | {cell(own['product float32'])} | 1.00 | | |",
        *(format_line(name, own, measured["PyTorch"].get(name)) for name in FORMATS),
        "",
        f"The pretrained models read {DOCUMENTS} documents of 256 tokens, weights and inputs of every layer but the "
        "last in the format: milliseconds, minimum (median), and times float32.",
        "",
        "| model | " + " | ".join(("float32", *MODEL_FORMATS)) + " |",
        "|---|" + "---:|" * (1 + len(MODEL_FORMATS)),
    ]
    for kind in ("transformer", "lstm"):
        base = min(own[f"{kind} float32"])
        times = [own[f"{kind} {name}"] for name in ("float32", *MODEL_FORMATS)]
        lines.append(f"| {kind} | {' | '.join(f'{cell(values)}, {min(values) / base:.2f}' for values in times)} |")
    return [*lines, ""]


def format_line(name: str, own: dict[str, list[float]], runs: list[list[list[float]]] | None) -> str:
    """Quantising and a product in one format, beside the peer's where it has it."""
    quantise, product = own[f"quantise {name}"], own[f"product {name}"]
    theirs = ratio = their_product = ""
    if runs:
        best, best_product = (min(part, key=min) for part in zip(*runs, strict=True))
        theirs, their_product, ratio = cell(best), cell(best_product), f"{min(best) / min(quantise):.1f}"
    public = ", ".join(str(ms) for ms in PUBLIC.get(name, ()) if ms)
    share = f"{min(product) / min(own['product float32']):.2f}"
    return f"| {' | '.join((name, cell(quantise), theirs, ratio, cell(product), share, their_product, public))} |"


if __name__ == "__main__":
    print(json.dumps(ours()))
