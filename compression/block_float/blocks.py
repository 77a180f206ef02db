"""How an array is cut into blocks, and what the numbers of a block share.

Blocks lie where they are, so that no axis has to be moved: an array is seen as [A N B C], the axes before the blocked
one taken together, N blocks of B numbers, and the axes after it.
"""

import math
import operator
from typing import NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from compression.block_float import formats, rounding
from compression.block_float.formats import Format, ScaleRule

ROOT_TWO = 0x3504F4  # mantissa of the square root of 2: from it on, log2 is nearer to the next whole number
LOWEST, HIGHEST = -127, 127  # of a shared exponent of 8 bits


class Shared(NamedTuple):
    """What the elements of a block share; an element stands for element * 2^(exponent - halved) * fraction * tensor."""

    exponents: Int[Array, "A N 1 C"]
    halved: Int[Array, "A N M C"]
    fraction: Float[Array, "A N 1 C"]
    tensor: Float[Array, ""]
    broken: Bool[Array, "A N 1 C"]


def whole_axis(axis: SupportsIndex, shape: tuple[int, ...]) -> int:
    """The axis counted from the first one. Raises ValueError for one that the shape lacks."""
    try:
        return range(len(shape))[operator.index(axis)]
    except (TypeError, IndexError):
        raise ValueError(f"axis {axis} is not one of an array of shape {shape}") from None


def to_blocks(x: Array, format: Format, axis: int) -> Float[Array, "A N B C"]:
    """The array cut into blocks along an axis, the last block filled up with zeros; without blocks all of it is one."""
    length = x.shape[axis]
    block = format.block or length
    padded = jnp.pad(x, [(0, -length % block if i == axis else 0) for i in range(x.ndim)])
    return padded.reshape(math.prod(x.shape[:axis]), -1, block, math.prod(x.shape[axis + 1 :]))


def from_blocks(blocks: Float[Array, "A N B C"], shape: tuple[int, ...], axis: int) -> Array:
    """The array of that shape which was cut."""
    whole = blocks.reshape(*shape[:axis], -1, *shape[axis + 1 :])
    return jax.lax.slice_in_dim(whole, 0, shape[axis], axis=axis)


def last(part: Shaped[Array, "A N K C"], shape: tuple[int, ...], axis: int) -> Shaped[Array, "*S N K"]:
    """What belongs to blocks, with these on the last axes and the array's other axes before them."""
    return jnp.moveaxis(part, 3, 1).reshape(*shape[:axis], *shape[axis + 1 :], *part.shape[1:3])


def not_last(part: Shaped[Array, "*S N K"], shape: tuple[int, ...], axis: int) -> Shaped[Array, "A N K C"]:
    """The inverse of `last`."""
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    return jnp.moveaxis(part.reshape(outer, inner, *part.shape[-2:]), 1, 3)


def unshared(blocks: Array, format: Format) -> Shared:
    """Every scale 1, but for the exponent that is part of a fixed-point format."""
    one = blocks[:, :, :1].shape
    exponents = jnp.full(one, format.fixed_exponent)
    return Shared(
        exponents, jnp.zeros((*one[:2], 0, one[3]), jnp.int32), jnp.ones(one), jnp.ones(()), jnp.zeros(one, bool)
    )


def share(blocks: Float[Array, "A N B C"], format: Format) -> Shared:
    """The scales that a format gives to these blocks."""
    shared, bits = unshared(blocks, format), rounding.magnitude_bits(blocks)
    pairs = bits.reshape(*bits.shape[:2], -1, format.sub_block or bits.shape[2], bits.shape[3]).max(3)
    largest = pairs.max(2, keepdims=True)
    broken = rounding.exponent(largest) > HIGHEST
    if format.scale == "power":
        top = whole_log2(largest, format.scale_rule)
        exponents = jnp.clip(top - format.element.top_exponent, LOWEST, HIGHEST)
        shared = shared._replace(exponents=exponents, broken=broken)
        if format.sub_block:
            shared = shared._replace(halved=jnp.clip(top - whole_log2(pairs, format.scale_rule), 0, 1))
        return shared
    whole = jax.lax.bitcast_convert_type(largest.max(), jnp.float32)
    whole = jnp.where(whole < 2.0**-126, 1.0, whole)
    if format.scale == "float":
        shared = shared._replace(tensor=whole / format.element.largest)
    if format.scale == "e4m3":
        tensor = whole / (format.element.largest * formats.E4M3.largest)
        blocks_largest = jax.lax.bitcast_convert_type(largest, jnp.float32)
        fraction = rounding.to_element(blocks_largest / tensor / format.element.largest, formats.E4M3)
        shared = shared._replace(tensor=tensor, fraction=fraction)
    return shared._replace(broken=jnp.broadcast_to(broken.any(), broken.shape))


def whole_log2(largest: Int[Array, "A N K C"], rule: ScaleRule) -> Int[Array, "A N K C"]:
    """log2 of the largest elements from their bits, made whole by the rule."""
    mantissa = largest & ((1 << rounding.MANTISSA) - 1)
    up = {"floor": False, "ceil": mantissa > 0, "nearest": mantissa >= ROOT_TWO}[rule]
    return rounding.exponent(largest) + jnp.asarray(up, jnp.int32)


def to_elements(
    blocks: Float[Array, "A N B C"], shared: Shared, format: Format, key: Array | None
) -> Float[Array, "A N B C"]:
    """The elements in their own units."""
    units = rounding.scaled(blocks, -exponents_of(shared, format))
    if format.scale in ("float", "e4m3"):
        scale = shared.fraction * shared.tensor
        # by its exponent first: the reciprocal that XLA makes of a huge scale would be subnormal
        octave = rounding.exponent(rounding.magnitude_bits(scale))
        units = jnp.where(scale > 0, rounding.scaled(units, -octave) / rounding.scaled(scale, -octave), 0.0)
    return jnp.where(shared.broken, 0.0, rounding.to_element(units, format.element, format.rounding, key))


def exponents_of(shared: Shared, format: Format) -> Int[Array, "A N #B C"]:
    if not format.sub_block:
        return shared.exponents
    return shared.exponents - jnp.repeat(shared.halved, format.sub_block, axis=2)


def to_values(elements: Float[Array, "A N B C"], shared: Shared, format: Format) -> Float[Array, "A N B C"]:
    """What the elements stand for."""
    values = rounding.scaled(elements, exponents_of(shared, format)) * (shared.fraction * shared.tensor)
    return jnp.where(shared.broken, jnp.nan, values)


def rounded(
    blocks: Float[Array, "A N B C"], shared: Shared, format: Format, key: Array | None
) -> Float[Array, "A N B C"]:
    """to_values(to_elements(...)) of a format with power-of-two scales, in fewer steps: numbers are rounded where they
    stand, without going through the elements' own units."""
    element, exponents = format.element, exponents_of(shared, format)
    if isinstance(element, formats.Integer):
        step = exponents + element.smallest_step
    else:
        octave = jnp.maximum(rounding.exponent(rounding.magnitude_bits(blocks)), exponents + element.bottom_exponent)
        step = jnp.minimum(octave, HIGHEST) - element.mantissa
    steps = rounding.to_integer(rounding.times(blocks, -step), format.rounding, key)
    intact = jnp.where(shared.broken, jnp.nan, 1.0)
    if isinstance(element, formats.Integer):
        most = 2.0**element.magnitude - 1
        return rounding.without_subnormals(rounding.times(jnp.clip(steps, -most, most), step, intact))
    largest = rounding.times(intact, exponents, element.largest)
    return rounding.without_subnormals(jnp.clip(rounding.times(steps, step), -largest, largest))
