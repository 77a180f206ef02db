"""One point of how a cost grows, in a process of its own: `python -m benchmarks.our_growth JOB AXIS VALUE`.

Prints JSON: seconds for each unit of work, of several timings; operations of a unit, counted by hand; bytes of memory
at its peak beyond what the imports take (null where the system does not tell); seconds of the first call, which
compiles.
"""

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks.bench_limits import training_operations
from benchmarks.our_pruning import problem
from benchmarks.our_step import BATCH, stepping
from compression.pruning.sparsegpt import sparsegpt
from decoding import speedup
from decoding.readers import Reader, as_reader
from icl_synth import checkpoints
from icl_synth.bayes import token_log_likelihoods
from icl_synth.concept_hmm import WorldConfig, sample_concept_hmm
from icl_synth.scaling.counts import count
from icl_synth.transformer import TransformerConfig

TIMINGS, AT_LEAST = 3, 0.3  # seconds of a timing
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
TOKENS = 4096  # of a training step where the context grows
ROOM = 256  # tokens of a text that is generated, where its length does not grow
CONTEXT = 4096  # of the model that generates


class Work(NamedTuple):
    """A call that may be repeated, and what it does."""

    call: Callable[[], Any]
    units: int
    """Tokens, or layers."""
    operations: float
    """Counted for each unit."""


def training(axis: str, value: int) -> Work:
    """A step of the transformer of `make bench`, one number changed. A unit is a token."""
    sizes = {"width": 128, "depth": 4, "context": 256, "batch": BATCH} | {axis: value}
    if axis == "context":
        sizes["batch"] = max(1, TOKENS // value)
    heads = max(1, sizes["width"] // 32)
    model = TransformerConfig(50, sizes["context"], sizes["depth"], sizes["width"], heads)
    step = stepping(model, sizes["batch"], 1, "float32")
    operations = training_operations(model) / (value if axis == "cores" else 1)
    return Work(lambda: step(1), sizes["batch"] * sizes["context"], operations)


def reader(width: int, depth: int, context: int) -> Reader:
    """A model that generates, with the weights that it begins with."""
    return as_reader(checkpoints.create(TransformerConfig(50, context, depth, width, width // 32)))


def reading_operations(config: Any, room: int) -> float:
    """Of reading a token: two for each weight in a product, and queries and scores against every slot of the cache."""
    weights = count(config, config.context).parameters - config.vocab_size * config.width
    return 2.0 * weights + 4.0 * config.depth * config.width * room


def decoding(axis: str, value: int) -> Work:
    """A reading of one token in every row (gamma: a round of so many proposals). A unit is a token of the text."""
    batch, room = (value if axis == axis_ else other for axis_, other in (("batch", 1), ("length", ROOM)))
    target = reader(128, 4, CONTEXT)
    read = functools.partial(speedup.read_often, target, batch, room)
    operations = reading_operations(target.config, room)
    if axis != "gamma":
        return Work(lambda: read(1).block_until_ready(), speedup.READS * batch, operations)
    draft = reader(64, 1, CONTEXT)
    propose = functools.partial(speedup.read_often, draft, batch, room)

    def rounds() -> None:
        for _ in range(value):
            propose(1).block_until_ready()
        read(value + 1).block_until_ready()

    share = value / (value + 1)  # proposals of the draft for each token, all accepted
    return Work(rounds, speedup.READS * (value + 1), operations + share * reading_operations(draft.config, room))


def pruning(_: str, width: int) -> Work:
    """SparseGPT of a square layer. A unit is a layer: a factorisation, and two operations for each pair of columns."""
    weight, hessian = map(jax.numpy.asarray, problem(width, width))
    return Work(lambda: jax.block_until_ready(sparsegpt(weight, hessian)), 1, width**3 / 3 + width**3)


def bayes(axis: str, value: int) -> Work:
    """Exact Bayes' loss on documents. A unit is a token, at which each concept's state moves by two matrices."""
    documents, tokens = 64, value if axis == "tokens" else 256
    world = WorldConfig(**({axis: value} if axis != "tokens" else {}))
    hmm = sample_concept_hmm(jax.random.key(0), world)
    text = jax.random.randint(jax.random.key(1), (documents, tokens), 0, world.vocab_size)
    entities, properties = world.entities, world.properties
    operations = 2.0 * world.concepts * entities * properties * (entities + properties)
    return Work(lambda: token_log_likelihoods(hmm, text, 0.1).block_until_ready(), documents * tokens, operations)


JOBS: dict[str, Callable[[str, int], Work]] = {
    "training": training,
    "decoding": decoding,
    "pruning": pruning,
    "bayes": bayes,
}


def resident(name: str) -> int | None:
    """Bytes of memory that Linux says this process has (VmRSS), or had at its most (VmHWM)."""
    if not CLEAR.exists():
        return None
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return 1024 * int(lines[name].split()[0])


def main(job: str, axis: str, value: int) -> dict[str, Any]:
    """Measure one point. Where cores are counted, this process keeps to so many of them."""
    if axis == "cores" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:value])
    imported = resident("VmRSS")
    work = JOBS[job](axis, value)
    if CLEAR.exists():
        CLEAR.write_text("5")  # the most begins anew: making the problem may take more than solving it
    began = time.perf_counter()
    work.call()
    first = time.perf_counter() - began
    found = {"seconds": [timing(work) for _ in range(TIMINGS)], "operations": work.operations, "first": first}
    most = resident("VmHWM")
    return found | {"memory": None if most is None or imported is None else most - imported}


def timing(work: Work) -> float:
    """Seconds of a unit, over calls of at least AT_LEAST together."""
    began, calls = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < AT_LEAST or not calls:
        work.call()
        calls += 1
    return passed / (calls * work.units)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
