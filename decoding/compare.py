"""Assisted generation beside plain, measured and predicted, in one run."""

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Int
from numpy import ndarray

from decoding import speedup
from decoding.assisted import assisted_generate
from decoding.generate import generate
from decoding.readers import Reader


class Measured(NamedTuple):
    """One gamma: seconds of several runs, and what the costs predict from its acceptance."""

    gamma: int
    seconds: list[float]
    acceptance: float
    tokens_a_round: float  # of the row with most rounds, which sets the time
    predicted: float  # speed-up, E from the acceptance alone
    predicted_from_rounds: float  # speed-up, E as counted


class Comparison(NamedTuple):
    """Plain seconds of several runs, the costs of a round, and a line for each gamma."""

    plain: list[float]
    costs: speedup.Costs
    lines: list[Measured]

    def speedup(self, line: Measured) -> float:
        """Of the fastest runs."""
        return min(self.plain) / min(line.seconds)


def timed(work: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of several calls after the first."""
    jax.block_until_ready(work())
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append(time.perf_counter() - began)
    return seconds


def compare(
    target: Reader,
    draft: Reader,
    prompts: Sequence[Int[Array | ndarray, "B L"]],
    probe: Int[Array | ndarray, "B L"],
    num_tokens: int,
    gammas: Sequence[int],
    repeats: int = 3,
    **how: Any,
) -> Comparison:
    """Time `generate` and, for each gamma, `assisted_generate` on the same prompts; `how` is passed to both.

    Each of `prompts` is a batch that runs by itself, all of one shape; their fastest times are added up. c and v are
    timed alone; o, the rest of a round, is what is left of a round at gamma = 2 on the batch `probe`, and then
    predicts all gammas on the others.
    """
    plain = _add(timed(functools.partial(generate, target, prompt, num_tokens, **how), repeats) for prompt in prompts)
    batch, length = prompts[0].shape
    widths = tuple(sorted({gamma + 1 for gamma in (2, *gammas)}))
    alone = speedup.measure(target, draft, batch, length + num_tokens, widths)
    rounds, _, seconds = _assist(target, draft, [probe], num_tokens, 2, repeats, how)
    costs = speedup.Costs(alone.draft, alone.verify, min(seconds) / rounds - alone.round(2))
    token = min(plain) / (len(prompts) * num_tokens)
    lines = []
    for gamma in gammas:
        rounds, accepted, seconds = _assist(target, draft, prompts, num_tokens, gamma, repeats, how)
        tokens = len(prompts) * (num_tokens - 1) / rounds
        predicted = costs.speedup(accepted, gamma, token), token * tokens / costs.round(gamma)
        lines.append(Measured(gamma, seconds, accepted, tokens, *predicted))
    return Comparison(plain, costs, lines)


def _assist(
    target: Reader, draft: Reader, prompts: Sequence, num_tokens: int, gamma: int, repeats: int, how: dict[str, Any]
) -> tuple[int, float, list[float]]:
    """Rounds of the slowest rows, acceptance, and seconds, over all prompts."""
    runs = [
        functools.partial(assisted_generate, target, draft, prompt, num_tokens, num_draft=gamma, **how)
        for prompt in prompts
    ]
    found = [run() for run in runs]
    accepted, examined = (sum(int(getattr(one, name).sum()) for one in found) for name in ("accepted", "examined"))
    seconds = _add(timed(run, repeats) for run in runs)
    return sum(int(one.rounds.max()) for one in found), accepted / max(1, examined), seconds


def _add(timings: Iterable[list[float]]) -> list[float]:
    """Sums over prompts: of the fastest runs, of the second fastest, ..."""
    return [sum(ranked) for ranked in zip(*(sorted(timing) for timing in timings), strict=True)]
