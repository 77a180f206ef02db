"""From acceptance and costs to speed: the model of Leviathan et al. 2023, with the costs that they leave out.

A round that drafts gamma tokens commits E = (1 - alpha^(gamma + 1)) / (1 - alpha) tokens on average (their equation 1)
and takes gamma c + v(gamma) + o of the time of one plain token: c for a draft's token, v for verifying gamma + 1
tokens at once, o for everything else. They take v = 1 and o = 0.
"""

import dataclasses
import functools
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from decoding.checks import whole
from decoding.readers import Reader, at
from icl_synth import checks

MOST = 20  # proposals of a round, where a schedule chooses them
WIDTHS = (1, 2, 3, 5, 9)  # verifying windows that are compiled for such a schedule, besides that for the most
READS = 20  # timed together
REPEATS = 5


def expected_tokens(alpha: float | np.ndarray, gamma: int | np.ndarray) -> np.ndarray | np.floating:
    """E: mean tokens that a round commits, each proposal accepted with probability alpha.

    Raises ValueError for an alpha outside 0 to 1 and a negative gamma; so do all that follows from it.
    """
    alpha, gamma = np.asarray(alpha, float), np.asarray(gamma)
    if not ((alpha >= 0) & (alpha <= 1)).all() or not (gamma >= 0).all():
        raise ValueError(f"alpha must be between 0 and 1 and gamma at least 0, got {alpha} and {gamma}")
    inside = np.minimum(alpha, 1 - 1e-12)
    return (1 - inside ** (gamma + 1)) / (1 - inside)


def predicted_speedup(alpha: float, gamma: int, draft: float, verify: float = 1.0, overhead: float = 0.0) -> float:
    """E / (gamma c + v + o), all costs in plain tokens' time. Raises ValueError where they do not add up above 0."""
    cost = gamma * draft + verify + overhead
    checks.positive(**{"gamma * draft + verify + overhead": cost})
    return float(expected_tokens(alpha, gamma) / cost)


def predicted_operations(alpha: float, gamma: int, draft: float) -> float:
    """Arithmetic operations over plain decoding's (Leviathan et al. 2023, theorem 3.11), c counting operations.

    Raises ValueError where they do not add up above 0.
    """
    operations = gamma * draft + gamma + 1
    checks.positive(**{"gamma * draft + gamma + 1": operations})
    return float(operations / expected_tokens(alpha, gamma))


def optimal_num_draft(alpha: float, draft: float, most: int = MOST) -> int:
    """The gamma of the greatest predicted speed-up where verifying is free; 0 where plain decoding is faster.

    Raises ValueError for most < 0.
    """
    gammas = range(whole("most", most, 0) + 1)
    return int(np.argmax([predicted_speedup(alpha, gamma, draft) for gamma in gammas]))


@dataclasses.dataclass(frozen=True)
class Costs:
    """Seconds, for a whole batch: of a draft's token, of verifying by the number of tokens, of the rest of a round.

    Raises ValueError for what can be no time; the rest, which is what measured rounds leave, may be below 0.
    """

    draft: float
    verify: dict[int, float]
    overhead: float = 0.0

    def __post_init__(self):
        if not 0 <= self.draft < math.inf or not math.isfinite(self.overhead):
            raise ValueError(f"draft must be at least 0 and overhead a number, got {self.draft} and {self.overhead}")
        checks.positive(**{f"verify[{width}]": seconds for width, seconds in self.verify.items()})

    def round(self, gamma: int) -> float:
        """Seconds of a round that drafts gamma tokens, verified in the narrowest window that was measured.

        Raises ValueError for a negative gamma and where no window is wide enough.
        """
        checks.at_least(0, gamma=gamma)
        widths = [width for width in self.verify if width > gamma]
        if not widths:
            raise ValueError(f"no window for {gamma} proposals was measured, only {sorted(self.verify)} tokens")
        return gamma * self.draft + self.verify[min(widths)] + self.overhead

    def speedup(self, alpha: float, gamma: int, plain: float) -> float:
        """Predicted, over `plain` seconds a token."""
        return plain * float(expected_tokens(alpha, gamma)) / self.round(gamma)


def windows(most: int) -> tuple[int, ...]:
    """Widths of the verifying windows of a schedule that drafts at most so many tokens a round, one or more."""
    most = whole("most", most, 1)
    return (*(width for width in WIDTHS if width <= most), most + 1)


def measure(target: Reader, draft: Reader, batch: int, room: int, most: int = MOST) -> Costs:
    """Time the draft's single steps and the target's windows in the middle of a text; overhead is left at 0.

    Each is the minimum of several runs of a compiled loop. Raises ValueError for a batch, room or most below 1.
    """
    verify = {width: read_seconds(target, batch, room, width) for width in windows(most)}
    return Costs(read_seconds(draft, batch, room, 1), verify)


def copy_bandwidth() -> float:
    """Bytes a second, read and written, that all cores move when XLA adds one to 400 MB of numbers where they lie."""
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    numbers = add(jnp.zeros(100_000_000)).block_until_ready()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        numbers = add(numbers).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * numbers.nbytes / min(seconds)


def read_seconds(reader: Reader, batch: int, room: int, width: int) -> float:
    """Seconds of reading `width` tokens for every row, with half the room behind them."""
    read_often(reader, batch, room, width).block_until_ready()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        read_often(reader, batch, room, width).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return min(seconds) / READS


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def read_often(reader: Reader, batch: int, room: int, width: int) -> Int[Array, "B W"]:
    """Read `width` tokens READS times over, each time those that the last logits make likeliest."""
    for name, number in {"batch": batch, "room": room, "width": width}.items():
        whole(name, number, 1)
    tokens = jax.random.randint(jax.random.key(0), (batch, width), 0, reader.vocab_size, jnp.int32)
    place = jnp.full(batch, room // 2, jnp.int32)
    state = reader.start(batch, room, width)

    def again(_: Any, carry: tuple) -> tuple:
        tokens, state = carry
        logits, state = reader.read(tokens, at(state, place))
        return logits.argmax(-1).astype(tokens.dtype), state

    return jax.lax.fori_loop(0, READS, again, (tokens, state))[0]
