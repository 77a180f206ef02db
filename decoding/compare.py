"""Assisted generation beside plain, measured and predicted, in one run."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int
from numpy import ndarray

from decoding import speedup
from decoding.assisted import assisted_generate
from decoding.checks import whole
from decoding.generate import generate
from decoding.readers import Reader


class Measured(NamedTuple):
    """One gamma: seconds of plain and of assisted generation, and what the costs of the same minute predict.

    Seconds are of what follows the first new token, which the prefill gives in both.
    """

    gamma: int
    tokens: int  # how many a row was given, over all prompts; `token` is the seconds of one
    plain: float
    assisted: float
    acceptance: float
    tokens_a_round: float  # of the row with most rounds, which sets the time
    costs: speedup.Costs

    @property
    def speedup(self) -> float:
        return self.plain / self.assisted

    @property
    def token(self) -> float:
        """Seconds of a plain token."""
        return self.plain / self.tokens

    @property
    def predicted(self) -> float:
        """Speed-up, E from the acceptance alone."""
        return self.costs.speedup(self.acceptance, self.gamma, self.token)

    @property
    def predicted_from_rounds(self) -> float:
        """Speed-up, E as counted."""
        return self.token * self.tokens_a_round / self.costs.round(self.gamma)


def timed(work: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of several calls, at least one, after the first."""
    whole("repeats", repeats, 1)
    jax.block_until_ready(work())
    return [_seconds(work) for _ in range(repeats)]


def in_turns(works: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Seconds of the fastest of several calls of each, after a first one, every work once before any is repeated."""
    whole("repeats", repeats, 1)
    jax.block_until_ready([work() for work in works])
    return [min(turns) for turns in zip(*([_seconds(work) for work in works] for _ in range(repeats)), strict=True)]


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - began


def compare(
    target: Reader,
    draft: Reader,
    prompts: Sequence[Int[Array | ndarray, "B L"]],
    probe: Int[Array | ndarray, "B L"],
    num_tokens: int,
    gammas: Sequence[int],
    repeats: int = 3,
    **how: Any,
) -> list[Measured]:
    """Time `generate` and, for each gamma, `assisted_generate` on the same prompts; `how` is passed to both.

    Each of `prompts` is a batch that runs by itself, all of one shape; the fastest of several times of each is added
    up, less that of the first token alone. A machine's speed drifts over minutes, so all that is compared takes turns:
    for each gamma the plain runs, the assisted ones, the draft's steps (c) and the target's windows (v). o, the rest
    of a round, is what is left of a round at gamma = 2 on the batch `probe`, and then predicts all gammas on the
    others. Raises ValueError for fewer than two tokens, one repeat, one prompt or one proposal, prompts of different
    shapes and a stop token, with which tokens could not be counted beforehand; otherwise as `assisted_generate`.
    """
    num_tokens, repeats = whole("num_tokens", num_tokens, 2), whole("repeats", repeats, 1)
    gammas = [whole("gammas", gamma, 1) for gamma in gammas]
    shapes = {np.shape(prompt) for prompt in prompts}
    if len(shapes) != 1:
        raise ValueError(f"prompts must be one batch or more, all of one shape, got shapes {sorted(shapes)}")
    if how.get("stop") is not None:
        raise ValueError(f"stop must be left out, all rows be continued to the end: got {how['stop']}")
    first = _measure(target, draft, [probe], num_tokens, 2, repeats, how, 0.0)
    rest = first.assisted / first.tokens * first.tokens_a_round - first.costs.round(2)
    return [_measure(target, draft, prompts, num_tokens, gamma, repeats, how, rest) for gamma in gammas]


def _measure(
    target: Reader,
    draft: Reader,
    prompts: Sequence,
    num_tokens: int,
    gamma: int,
    repeats: int,
    how: dict[str, Any],
    rest: float,
) -> Measured:
    plain, drafted = [], []
    for prompt in prompts:
        for count in (num_tokens, 1):
            plain.append(functools.partial(generate, target, prompt, count, **how))
            drafted.append(functools.partial(assisted_generate, target, draft, prompt, count, num_draft=gamma, **how))
    batch, length = prompts[0].shape
    reads = [
        functools.partial(speedup.read_often, reader, batch, length + num_tokens, width)
        for reader, width in ((draft, 1), (target, gamma + 1))
    ]
    found = [run() for run in drafted[::2]]
    *texts, step, window = in_turns([*plain, *drafted, *reads], repeats)
    alone, helped = texts[: len(plain)], texts[len(plain) :]
    accepted, examined = (sum(int(getattr(one, name).sum()) for one in found) for name in ("accepted", "examined"))
    return Measured(
        gamma,
        len(prompts) * (num_tokens - 1),
        sum(alone[::2]) - sum(alone[1::2]),
        sum(helped[::2]) - sum(helped[1::2]),
        accepted / max(1, examined),
        len(prompts) * (num_tokens - 1) / sum(int(one.rounds.max()) for one in found),
        speedup.Costs(step / speedup.READS, {gamma + 1: window / speedup.READS}, rest),
    )
