"""Tokens a second of the document sampler, beside a loop that numba compiles, vectorised NumPy and a plain loop.

All rows come from one run, so that their ratios say something even where another program slows all of them.
"""

import functools
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from statistics import median

import numpy as np

from benchmarks import said
from icl_synth.concept_hmm import OfficialParameters, official_parameters

LENGTH = 1024
REPEATS = 5
NUMBA = "numba, all cores"


def public_loop(world: OfficialParameters, stream: np.random.RandomState, documents: int) -> int:
    """In the manner of the public code, whose source was not at hand: a token at a time, each a search in a row."""
    full = [np.kron(world.entity_transitions, properties) for properties in world.property_transitions]
    cumulative = [np.cumsum(transition, axis=1) for transition in full]
    emission = np.eye(world.memory.max() + 1)[world.memory.ravel()]
    for _ in range(documents):
        concept = stream.choice(5)
        state = int((np.cumsum(world.start[concept].ravel()) > stream.rand()).argmax())
        tokens = [int((np.cumsum(emission[state]) > stream.rand()).argmax())]
        for _ in range(LENGTH - 1):
            state = int((cumulative[concept][state] > stream.rand()).argmax())
            tokens.append(int((np.cumsum(emission[state]) > stream.rand()).argmax()))
    return documents * LENGTH


def vectorised_numpy(world: OfficialParameters, stream: np.random.Generator, documents: int) -> int:
    """All documents at once in NumPy, with the factorised matrices: the best that is short."""
    properties = world.property_transitions[:5].cumsum(-1)[:, :, :-1].astype(np.float32)
    entities = world.entity_transitions.cumsum(-1)[:, :-1].astype(np.float32)
    concept = stream.integers(0, 5, documents)
    start = world.start.reshape(len(world.start), -1).cumsum(-1)[concept, :-1]
    entity, property_ = np.divmod((stream.random(documents)[:, None] >= start).sum(1), 10)
    tokens = np.empty((LENGTH, documents), np.uint8)
    for position in range(LENGTH):
        tokens[position] = world.memory[entity, property_]
        draws = stream.random((2, documents, 1), np.float32)
        property_ = (draws[0] >= properties[concept, property_]).sum(1)
        entity = (draws[1] >= entities[entity]).sum(1)
    tokens.T.astype(np.int32)
    return documents * LENGTH


def numba_loop(world: OfficialParameters) -> Callable[[int], int]:
    """A loop over documents on all cores, compiled by numba; each document draws from its thread's generator."""
    import numba

    @numba.njit(parallel=True)
    def fill(concept, starts, properties, entities, memory, tokens):
        for document in numba.prange(len(tokens)):
            state, chance = 0, random.random()
            while chance >= starts[concept[document], state]:
                state += 1
            entity, property_ = state // memory.shape[1], state % memory.shape[1]
            moves = properties[concept[document]]
            for position in range(LENGTH):
                tokens[document, position] = memory[entity, property_]
                chance, move = random.random(), 0
                while chance >= moves[property_, move]:
                    move += 1
                property_, chance, move = move, random.random(), 0
                while chance >= entities[entity, move]:
                    move += 1
                entity = move

    stream = np.random.default_rng(0)
    tables = [world.start[:5].reshape(5, -1), world.property_transitions[:5], world.entity_transitions]
    tables = [table.cumsum(-1) for table in tables]
    for table in tables:
        table[..., -1] = np.inf  # whatever the rounding

    def sample(documents: int) -> int:
        tokens = np.empty((documents, LENGTH), np.int32)
        fill(stream.integers(0, 5, documents), *tables, world.memory, tokens)
        return tokens.size

    return sample


def ours(devices: int) -> list[float]:
    """Rates of `stream_documents` in a process of its own, since JAX fixes its devices when it starts."""
    return json.loads(said("benchmarks.bench_documents", "--devices", devices))


def measure_ours(devices: int) -> list[float]:
    import jax

    jax.config.update("jax_num_cpu_devices", devices)
    from icl_synth.concept_hmm import official_ginc
    from icl_synth.documents import stream_documents

    hmm, _ = official_ginc()
    key = jax.random.key(0)
    return rates(lambda: sum(tokens.size for tokens, _ in stream_documents(hmm, key, 32 * 1024, LENGTH)))


def rates(sample: Callable[[], int]) -> list[float]:
    """Tokens a second of each repeat, after one run to compile and warm up."""
    sample()
    measured = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        tokens = sample()
        measured.append(tokens / (time.perf_counter() - start))
    return measured


def measure() -> dict[str, list[float]]:
    """Tokens a second of each program."""
    world = official_parameters()
    return {
        "plain Python loop, as the public code": rates(lambda: public_loop(world, np.random.RandomState(0), 20)),
        "vectorised NumPy": rates(lambda: vectorised_numpy(world, np.random.default_rng(0), 1024)),
        NUMBA: rates(functools.partial(numba_loop(world), 32 * 1024)),
        "ours, 1 device": ours(1),
        "ours, 2 devices": ours(2),
    }


def strongest(measured: Mapping[str, list[float]]) -> str:
    """The fastest program that is not ours."""
    return max((name for name in measured if not name.startswith("ours")), key=lambda name: median(measured[name]))


def report(measured: dict[str, list[float]]) -> list[str]:
    """The section of benchmarks/RESULTS.md."""
    loop, fastest = median(next(iter(measured.values()))), median(measured[strongest(measured)])
    lines = ["## Sampling documents", "", "Tokens a second.", ""]
    lines += [
        "| program | median | best | ratio to the loop | ratio to the fastest peer |",
        "|---|---:|---:|---:|---:|",
    ]
    for program, rates in measured.items():
        ratios = f"{median(rates) / loop:.0f} | {median(rates) / fastest:.1f}"
        lines.append(f"| {program} | {median(rates):,.0f} | {max(rates):,.0f} | {ratios} |")
    return [*lines, ""]


if __name__ == "__main__":
    print(json.dumps(measure_ours(int(sys.argv[-1])) if "--devices" in sys.argv else measure()))
