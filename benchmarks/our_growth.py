"""One point of how a cost grows, in a process of its own: `python -m benchmarks.our_growth JOB AXIS VALUE [SECONDS]`.

Prints JSON: seconds for each unit of work, of several timings; operations of a unit, counted by hand; bytes of memory
at its peak beyond what the imports take, with compiling and the data (null where the system does not tell); seconds of
the first call, which compiles.
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

from benchmarks.bench_growth import ROOM, SHORT, SHORT_TEXTS, STEP
from benchmarks.bench_limits import training_operations
from benchmarks.our_pruning import problem
from benchmarks.our_step import BATCH, stepping
from compression.pruning.sparsegpt import sparsegpt
from decoding import speedup
from decoding.readers import Reader, as_reader
from icl_synth import checkpoints
from icl_synth.bayes import token_log_likelihoods
from icl_synth.concept_hmm import WorldConfig, sample_concept_hmm
from icl_synth.layers import causal_attention
from icl_synth.scaling.counts import count
from icl_synth.transformer import TransformerConfig

TIMINGS, AT_LEAST = 3, 0.3  # seconds of a timing
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
TOKENS = 4096  # of a training step where the context grows
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
    sizes = STEP | {"batch": BATCH} | {axis: value}
    if axis == "context":
        sizes["batch"] = max(1, TOKENS // value)
    heads = max(1, sizes["width"] // 32)
    model = TransformerConfig(50, sizes["context"], sizes["depth"], sizes["width"], heads)
    step = stepping(model, sizes["batch"], 1, "float32")
    operations = training_operations(model) / (value if axis == "cores" else 1)  # each core's
    return Work(lambda: step(1), sizes["batch"] * sizes["context"], operations)


def attention(_: str, context: int) -> Work:
    """Causal attention of one document with its gradients, as in a layer of that step. A unit is a token."""
    config = TransformerConfig(50, context, 1, STEP["width"], STEP["width"] // 32)
    shape = (1, config.heads, context, 32)
    query, key, value = (jax.random.normal(jax.random.key(i), shape) for i in range(3))
    gradients = jax.jit(jax.grad(lambda *of: causal_attention(*of, "float32").sum(), argnums=(0, 1, 2)))
    operations = 6.0 * count(config, context).attention
    return Work(lambda: jax.block_until_ready(gradients(query, key, value)), context, operations)


def reader(width: int, depth: int, context: int) -> Reader:
    """A model that generates, with the weights that it begins with."""
    return as_reader(checkpoints.create(TransformerConfig(50, context, depth, width, width // 32)))


def reading_operations(config: Any, room: int) -> float:
    """Of reading a token: two for each weight, and queries and scores against every slot of the cache."""
    weights = count(config, config.context).parameters - config.vocab_size * config.width
    return 2.0 * weights + 4.0 * config.depth * config.width * room


def decoding(axis: str, value: int) -> Work:
    """A reading of one token in every row (gamma: the readings of a round, all accepted). A unit is a token."""
    sizes = {"batch": 1, "length": ROOM, "gamma": 0} | {axis: value}
    if axis == SHORT_TEXTS:
        sizes |= {"batch": value, "length": SHORT}
    batch, room, gamma = sizes["batch"], sizes["length"], sizes["gamma"]
    target, draft = reader(STEP["width"], STEP["depth"], CONTEXT), reader(64, 1, CONTEXT)
    read = functools.partial(speedup.read_often, target, batch, room)
    propose = functools.partial(speedup.read_often, draft, batch, room)

    def rounds() -> None:
        for _ in range(gamma):
            propose(1).block_until_ready()
        read(gamma + 1).block_until_ready()

    of_target = reading_operations(target.config, room + gamma + 1)
    of_draft = gamma * reading_operations(draft.config, room + 1)
    return Work(rounds, speedup.READS * batch * (gamma + 1), of_target + of_draft / (gamma + 1))


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
    "attention": attention,
    "decoding": decoding,
    "pruning": pruning,
    "bayes": bayes,
}


def resident(name: str) -> int | None:
    """Bytes of memory that Linux says this process has (VmRSS), or had at its most (VmHWM)."""
    if not STATUS.exists():
        return None
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return 1024 * int(lines[name].split()[0])


def begin_anew() -> bool:
    """Let Linux count the most memory from here on: making a problem may take more than solving it."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True


def main(job: str, axis: str, value: int, at_least: float = AT_LEAST) -> dict[str, Any]:
    """Measure one point, by timings of at least so many seconds. Where cores are counted, keep to so many of them."""
    if axis == "cores":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:value])
    imported = resident("VmRSS")
    work = JOBS[job](axis, value)
    counted = begin_anew()
    began = time.perf_counter()
    work.call()
    first = time.perf_counter() - began
    seconds = [timing(work, at_least) for _ in range(TIMINGS)]
    most = resident("VmHWM") if counted else None
    memory = None if most is None or imported is None else most - imported
    return {"seconds": seconds, "operations": work.operations, "first": first, "memory": memory}


def timing(work: Work, at_least: float) -> float:
    """Seconds of a unit, over calls of at least so many seconds together."""
    began, calls = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < at_least or not calls:
        work.call()
        calls += 1
    return passed / (calls * work.units)


if __name__ == "__main__":
    job, axis, value, *at_least = sys.argv[1:]
    print(json.dumps(main(job, axis, int(value), *map(float, at_least))))
