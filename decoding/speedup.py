"""From acceptance and costs to speed: the model of Leviathan et al. 2023, with the costs that they leave out.

A round that drafts gamma tokens commits E = (1 - alpha^(gamma + 1)) / (1 - alpha) tokens on average (their equation 1)
and takes gamma c + v(gamma) + o plain tokens' time: c for a draft's token, v for verifying gamma + 1 tokens at once,
o, the overhead, for everything else. The paper has v = 1 and o = 0. An overhead is measured as a difference, which
noise can make negative; all functions here count a negative overhead as 0.
"""

import dataclasses
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from decoding.checks import real, whole
from decoding.readers import Reader, at
from icl_synth import checks

MOST = 20  # proposals of a round under a schedule that chooses their number
WIDTHS = (1, 2, 3, 5, 9)  # verifying windows compiled for such a schedule, besides the widest
READS = 20  # timed together
AT_LEAST_0, ABOVE_0 = "at least 0 and finite", "above 0 and finite"
REPEATS = 5  # of which the fastest counts


def expected_tokens(alpha: float | np.ndarray, gamma: int | np.ndarray) -> np.ndarray | np.floating:
    """E: tokens that a round commits on average where each proposal is accepted with probability alpha.

    Raises ValueError for an alpha outside 0 to 1 and a negative gamma, as do the functions that use it.
    """
    alpha, gamma = np.asarray(alpha, float), np.asarray(gamma, float)
    if not ((alpha >= 0) & (alpha <= 1)).all() or not (gamma >= 0).all():
        raise ValueError(f"alpha must be between 0 and 1 and gamma at least 0, got {alpha} and {gamma}")
    inside = np.minimum(alpha, 1 - 1e-12)
    return (1 - inside ** (gamma + 1)) / (1 - inside)


def predicted_speedup(alpha: float, gamma: int, draft: float, verify: float = 1.0, overhead: float = 0.0) -> float:
    """E / (gamma c + v + o), all costs in plain tokens' time.

    Raises ValueError for a draft below 0, a verify that is not above 0, and numbers that are not finite.
    """
    real("draft", draft, AT_LEAST_0, 0.0)
    checks.positive(verify=real("verify", verify, ABOVE_0))
    cost = gamma * draft + verify + max(0.0, real("overhead", overhead, "a finite number"))
    return float(expected_tokens(alpha, gamma) / cost)


def predicted_operations(alpha: float, gamma: int, draft: float) -> float:
    """Arithmetic operations over plain decoding's (Leviathan et al. 2023, theorem 3.11).

    draft: operations of a draft's token over the target's. Raises ValueError for one below 0.
    """
    operations = gamma * real("draft", draft, AT_LEAST_0, 0.0) + gamma + 1
    return float(operations / expected_tokens(alpha, gamma))


def optimal_num_draft(alpha: float, draft: float, most: int = MOST) -> int:
    """The gamma up to `most` with the greatest predicted speed-up, verifying free; 0 where plain decoding is faster.

    Raises ValueError for most < 0.
    """
    gammas = range(whole("most", most, 0) + 1)
    return int(np.argmax([predicted_speedup(alpha, gamma, draft) for gamma in gammas]))


@dataclasses.dataclass(frozen=True)
class Costs:
    """Seconds of a batch's round by parts. Raises ValueError for what can be no time.

    The overhead keeps its measured value, which may be below 0.
    """

    draft: float  # of a draft's token
    verify: dict[int, float]  # of verifying so many tokens at once
    overhead: float = 0.0  # of everything else

    def __post_init__(self):
        real("draft", self.draft, AT_LEAST_0, 0.0)
        real("overhead", self.overhead, "a finite number")
        for width, seconds in self.verify.items():
            whole("a width of verify", width, 1)
            checks.positive(**{f"verify[{width}]": real(f"verify[{width}]", seconds, ABOVE_0)})

    def round(self, gamma: int) -> float:
        """Seconds of a round that drafts gamma tokens, verified in the narrowest window that was measured.

        Raises ValueError for a negative gamma and where no window is wide enough.
        """
        whole("gamma", gamma, 0)
        widths = [width for width in self.verify if width > gamma]
        if not widths:
            raise ValueError(f"no window for {gamma} proposals was measured, only {sorted(self.verify)} tokens")
        return gamma * self.draft + self.verify[min(widths)] + max(0.0, self.overhead)

    def speedup(self, alpha: float, gamma: int, plain: float) -> float:
        """Predicted speed-up over plain decoding at `plain` seconds per token."""
        return plain * float(expected_tokens(alpha, gamma)) / self.round(gamma)


def windows(most: int) -> tuple[int, ...]:
    """Widths of the verifying windows of a schedule that drafts at most `most` tokens a round, `most` >= 1."""
    most = whole("most", most, 1)
    return (*(width for width in WIDTHS if width <= most), most + 1)


def measure(target: Reader, draft: Reader, batch: int, room: int, most: int = MOST) -> Costs:
    """Time the draft's single steps and the target's windows in the middle of a text; overhead is left at 0.

    Each number is the fastest of several runs of a compiled loop. Raises ValueError for a batch, room or most below 1.
    """
    verify = {width: read_seconds(target, batch, room, width) for width in windows(most)}
    return Costs(read_seconds(draft, batch, room, 1), verify)


def copy_bandwidth() -> float:
    """Bytes per second, reads and writes together, of all cores while XLA adds one to 400 MB of numbers in place."""
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    numbers = add(jnp.zeros(100_000_000)).block_until_ready()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        numbers = add(numbers).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * numbers.nbytes / min(seconds)


def read_seconds(reader: Reader, batch: int, room: int, width: int) -> float:
    """Seconds of reading `width` tokens in every row after half the room."""
    read_often(reader, batch, room, width).block_until_ready()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        read_often(reader, batch, room, width).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return min(seconds) / READS


def read_often(reader: Reader, batch: int, room: int, width: int) -> Int[Array, "B W"]:
    """Read `width` tokens READS times, each time those that the last logits make likeliest, and return the last.

    One compiled loop. Raises ValueError for a batch, room or width below 1.
    """
    shape = (whole(name, number, 1) for name, number in {"batch": batch, "room": room, "width": width}.items())
    return _read_often(reader, *shape)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _read_often(reader: Reader, batch: int, room: int, width: int) -> Int[Array, "B W"]:
    tokens = jax.random.randint(jax.random.key(0), (batch, width), 0, reader.vocab_size, jnp.int32)
    place = jnp.full(batch, room // 2, jnp.int32)
    state = reader.start(batch, room, width)

    def again(_: Any, carry: tuple) -> tuple:
        tokens, state = carry
        logits, state = reader.read(tokens, at(state, place))
        return logits.argmax(-1).astype(tokens.dtype), state

    return jax.lax.fori_loop(0, READS, again, (tokens, state))[0]
