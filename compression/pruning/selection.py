"""Which weights to drop: the smallest scores of a block, or all but n of every m.

Arrays here have inputs first, [I O], so that n of m neighbouring inputs are rows. Scores are float32 and at least 0; a
score of +inf is dropped last. The k-th smallest score is found digit by digit in the bits of the floats, which sort as
integers in the order of the numbers: three histograms replace a sort.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

DIGITS = ((20, 11), (10, 10), (0, 10))  # (shift, width) of the three parts of a float's 31 bits below its sign


class Kth(NamedTuple):
    """The k-th smallest of some integers; how many equal it; how many of those belong to the k smallest."""

    value: Int[Array, ""]
    equal: Int[Array, ""]
    needed: Int[Array, ""]


def kth_smallest(bits: Int[Array, "I O"], k: int | Int[Array, ""]) -> Kth:
    """Find the k-th smallest, counted from 1, by radix selection; for k = 0 the value is 0 and none are needed."""
    value, needed = jnp.int32(0), jnp.int32(k)
    for shift, width in DIGITS:
        size = 1 << width
        digit = (bits >> shift) & (size - 1)
        digit = jnp.where(bits >> shift >> width == value, digit, size)  # `size` where an earlier digit differs
        histogram = jnp.zeros(size + 1, jnp.int32).at[digit.ravel()].add(1)[:-1]
        up_to = jnp.cumsum(histogram)
        here = (up_to < needed).sum(dtype=jnp.int32)
        equal = histogram[here]
        needed -= up_to[here] - equal
        value = (value << width) + here
    return Kth(value, equal, jnp.maximum(needed, 0))


def smallest(scores: Float[Array, "I O"], count: int | Int[Array, ""]) -> Bool[Array, "I O"]:
    """Return True for exactly `count` of the smallest scores; of equal scores the first in row-major order go."""
    bits = jax.lax.bitcast_convert_type(scores, jnp.int32)
    last = kth_smallest(bits, count)
    ties = bits == last.value

    def first_ties():
        return ties & (jnp.cumsum(ties.ravel()).reshape(ties.shape) <= last.needed)

    return (bits < last.value) | jax.lax.cond(last.equal == last.needed, lambda: ties, first_ties)


def up_to_threshold(scores: Float[Array, "I O"], count: int | Int[Array, ""]) -> Bool[Array, "I O"]:
    """Return True for scores <= sorted(scores)[count], the public code's rule: one more than `count`, and all ties."""
    bits = jax.lax.bitcast_convert_type(scores, jnp.int32)
    return bits <= kth_smallest(bits, count + 1).value


@functools.partial(jax.jit, static_argnames="pattern")
def in_groups(scores: Float[Array, "I O"], pattern: tuple[int, int]) -> Bool[Array, "I O"]:
    """Return True for all but the n largest scores of every m along the first axis; of equal scores the first go."""
    keep, group = pattern
    grouped = scores.reshape(-1, group, scores.shape[-1])
    first, second = grouped[:, :, None], grouped[:, None]
    before = (jnp.arange(group)[:, None] < jnp.arange(group))[..., None]
    rank = ((first < second) | ((first == second) & before)).sum(1)  # how many of its group are dropped before it
    return (rank < group - keep).reshape(scores.shape)
