"""Assisted and plain generation measured in one run, beside the predicted speed-up."""

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
from decoding.job import padded_room
from decoding.readers import Reader


class Measured(NamedTuple):
    """Seconds of plain and of assisted generation at one gamma, and the costs measured in the same minute.

    Seconds are of the tokens after the first new one, which the prefill gives in both.
    """

    gamma: int
    tokens: int  # that a row gained after the first, summed over prompts
    plain: float
    assisted: float
    acceptance: float
    tokens_a_round: float  # in the row with most rounds, which sets the time
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
        """Speed-up by costs, with E from the acceptance."""
        return self.costs.speedup(self.acceptance, self.gamma, self.token)

    @property
    def predicted_from_rounds(self) -> float:
        """Speed-up by costs, with E as counted."""
        return self.token * self.tokens_a_round / self.costs.round(self.gamma)


def timed(work: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each of several calls, after one that may compile. Raises ValueError for repeats < 1."""
    whole("repeats", repeats, 1)
    jax.block_until_ready(work())
    return [seconds_of(work) for _ in range(repeats)]


def in_turns(works: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Seconds of the fastest of several calls of each work, after one that may compile.

    Every work runs once before any is repeated, since a machine's speed drifts. Raises ValueError for repeats < 1.
    """
    whole("repeats", repeats, 1)
    jax.block_until_ready([work() for work in works])
    return [min(turns) for turns in zip(*([seconds_of(work) for work in works] for _ in range(repeats)), strict=True)]


def seconds_of(work: Callable[[], Any]) -> float:
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

    Each of `prompts` is a batch that runs by itself; all have one shape. Times are the fastest of several, summed over
    prompts, less those of generating the first token alone. A machine's speed drifts over minutes, so what is compared
    takes turns: for each gamma the plain runs, the assisted runs, the draft's steps (c) and the target's windows (v).
    The overhead o is what c and v leave of a round at gamma = 2 on the batch `probe`; it predicts all gammas on the
    others. Noise can make it negative; `Costs` counts it as 0 then. Where noise makes the first token take as long as
    all of them, it is not subtracted.

    Raises ValueError for fewer than two tokens, one repeat, one prompt or one proposal, for prompts of different
    shapes, and for a stop token, with which tokens cannot be counted beforehand; otherwise as `assisted_generate`.
    """
    num_tokens, repeats = whole("num_tokens", num_tokens, 2), whole("repeats", repeats, 1)
    gammas = [whole("gammas", gamma, 1) for gamma in gammas]
    shapes = {np.shape(prompt) for prompt in prompts}
    if len(shapes) != 1:
        raise ValueError(f"prompts must be one batch or more, all of one shape, got shapes {sorted(shapes)}")
    if how.get("stop") is not None:
        raise ValueError(f"stop must be left out, so that every row has num_tokens: got {how['stop']}")
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
    batch, length = np.shape(prompts[0])
    room = padded_room(length + num_tokens, target, draft)
    reads = [
        functools.partial(speedup.read_often, reader, batch, room, width)
        for reader, width in ((draft, 1), (target, gamma + 1))
    ]
    runs = [work() for work in drafted[::2]]
    *texts, step, window = in_turns([*plain, *drafted, *reads], repeats)
    alone, helped = texts[: len(plain)], texts[len(plain) :]
    accepted, examined = (sum(int(getattr(run, name).sum()) for run in runs) for name in ("accepted", "examined"))
    tokens = len(prompts) * (num_tokens - 1)
    return Measured(
        gamma,
        tokens,
        _without_first(alone[::2], alone[1::2]),
        _without_first(helped[::2], helped[1::2]),
        accepted / max(1, examined),
        tokens / sum(int(run.rounds.max()) for run in runs),
        speedup.Costs(step / speedup.READS, {gamma + 1: window / speedup.READS}, rest),
    )


def _without_first(texts: Sequence[float], firsts: Sequence[float]) -> float:
    """Seconds of whole texts less those of their first tokens, which noise may make the longer."""
    whole_texts, first_tokens = sum(texts), sum(firsts)
    return whole_texts - first_tokens if first_tokens < whole_texts else whole_texts
