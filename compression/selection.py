"""Which weights to drop: the smallest scores of a block, or all but n of every m.

Arrays here have inputs first, [I O], so that n of m neighbouring inputs are rows. Scores are at least 0; +inf means
never. The k-th smallest is found by bisection on the bits of the floats, whose order as integers is their order as
numbers: 31 counting passes instead of a sort, and over several devices only the counts travel.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

INFINITY = 0x7F800000  # bits of +inf


def least(high: int, holds: Callable[[Int[Array, ""]], Bool[Array, ""]]) -> Int[Array, ""]:
    """The least t in 0..high for which holds(t), which is false up to some t and true from there to `high`."""

    def halve(_, bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        yes = holds(middle)
        return jnp.where(yes, low, middle + 1), jnp.where(yes, middle, high)

    return jax.lax.fori_loop(0, high.bit_length(), halve, (jnp.int32(0), jnp.int32(high)))[1]


def smallest(scores: Float[Array, "I O"], count: int | Int[Array, ""]) -> Bool[Array, "I O"]:
    """True for exactly `count` of the smallest scores; among equal ones the first in row-major order."""
    bits = jax.lax.bitcast_convert_type(scores, jnp.int32)
    threshold = least(INFINITY, lambda t: (bits <= t).sum() >= count)
    ties, missing = bits == threshold, count - (bits < threshold).sum()
    position = jnp.arange(scores.size, dtype=jnp.int32).reshape(scores.shape)
    end = least(scores.size, lambda t: (ties & (position < t)).sum() >= missing)
    return (bits < threshold) | (ties & (position < end))


def up_to_threshold(scores: Float[Array, "I O"], count: int | Int[Array, ""]) -> Bool[Array, "I O"]:
    """True for scores <= sorted(scores)[count], the rule of public code: one weight more than `count`, and all ties."""
    bits = jax.lax.bitcast_convert_type(scores, jnp.int32)
    return bits <= least(INFINITY, lambda t: (bits <= t).sum() > count)


def in_groups(scores: Float[Array, "I O"], pattern: tuple[int, int]) -> Bool[Array, "I O"]:
    """True for all but the n largest scores of every m along the first axis; among equal ones the first go."""
    keep, group = pattern
    grouped = scores.reshape(-1, group, scores.shape[-1])
    first, second = grouped[:, :, None], grouped[:, None]
    before = (jnp.arange(group)[:, None] < jnp.arange(group))[..., None]
    rank = ((first < second) | ((first == second) & before)).sum(1)  # how many of its group go before each
    return (rank < group - keep).reshape(scores.shape)
