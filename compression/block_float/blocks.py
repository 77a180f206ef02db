"""How an array is cut into blocks, and what the elements of a block share.

Blocks stay where they lie, so that no axis has to be moved. An array is seen as [A N B C]: A stands for all axes before
the blocked one, N for blocks, B for the elements of a block, C for all axes after the blocked one.
"""

import math
import operator
from typing import NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32, Shaped

from compression.block_float import formats, rounding
from compression.block_float.formats import Format, ScaleRule

ROOT_TWO = 0x3504F4  # first mantissa above that of the square root of 2: there log2 is nearer to the next integer
LOWEST, HIGHEST = -127, 127  # of a shared exponent of 8 bits
LANES = 8  # numbers that a CPU compares at once


class Shared(NamedTuple):
    """What the elements of a block share; an element stands for element * 2^(exponent - halved) * fraction * tensor.

    halved is 1 for a sub-block (M of them) whose step is halved; broken marks blocks that hold NaN or infinity.
    """

    exponents: Int32[Array, "A N 1 C"]
    halved: Int32[Array, "A N M C"]
    fraction: Float32[Array, "A N 1 C"]
    tensor: Float32[Array, ""]
    broken: Bool[Array, "A N 1 C"]


def axis_from_start(axis: SupportsIndex, shape: tuple[int, ...]) -> int:
    """The axis counted from the first one. Raises ValueError for an axis that the shape lacks."""
    try:
        return range(len(shape))[operator.index(axis)]
    except (TypeError, IndexError):
        raise ValueError(f"axis {axis} is not one of an array of shape {shape}") from None


def to_blocks(x: Float32[Array, "*S"], format: Format, axis: int) -> Float32[Array, "A N B C"]:
    """The array cut into blocks along an axis, the last block filled up with zeros; without a block size, one block."""
    length = x.shape[axis]
    block = format.block or length
    padded = jnp.pad(x, [(0, -length % block if i == axis else 0) for i in range(x.ndim)])
    return padded.reshape(math.prod(x.shape[:axis]), -1, block, math.prod(x.shape[axis + 1 :]))


def from_blocks(blocks: Float32[Array, "A N B C"], shape: tuple[int, ...], axis: int) -> Float32[Array, "*S"]:
    """The array of that shape from its blocks."""
    padded = blocks.reshape(*shape[:axis], -1, *shape[axis + 1 :])
    return jax.lax.slice_in_dim(padded, 0, shape[axis], axis=axis)


def blocks_last(part: Shaped[Array, "A N K C"], shape: tuple[int, ...], axis: int) -> Shaped[Array, "*S N K"]:
    """K numbers of each block, with the blocks moved behind the array's other axes."""
    return jnp.moveaxis(part, 3, 1).reshape(*shape[:axis], *shape[axis + 1 :], *part.shape[1:3])


def blocks_in_place(part: Shaped[Array, "*S N K"], shape: tuple[int, ...], axis: int) -> Shaped[Array, "A N K C"]:
    """The inverse of `blocks_last`."""
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    return jnp.moveaxis(part.reshape(outer, inner, *part.shape[-2:]), 1, 3)


def unshared(blocks: Float32[Array, "A N B C"], format: Format) -> Shared:
    """Every scale 1, except for the exponent that is part of a fixed-point format."""
    outer, number, _, inner = blocks.shape
    cells = (outer, number, 1, inner)
    return Shared(
        exponents=jnp.full(cells, format.fixed_exponent, jnp.int32),
        halved=jnp.zeros((outer, number, 0, inner), jnp.int32),
        fraction=jnp.ones(cells, jnp.float32),
        tensor=jnp.ones((), jnp.float32),
        broken=jnp.zeros(cells, bool),
    )


def share(blocks: Float32[Array, "A N B C"], format: Format) -> Shared:
    """The scales that a format gives to these blocks."""
    shared, bits = unshared(blocks, format), rounding.magnitude_bits(blocks)
    largest = most(bits, bits.shape[2])
    broken = rounding.exponent(largest) > HIGHEST
    if format.scale == "power":
        top = integer_log2(largest, format.scale_rule)
        exponents = jnp.clip(top - format.element.top_exponent, LOWEST, HIGHEST)
        shared = shared._replace(exponents=exponents, broken=broken)
        if format.sub_block:
            own_top = integer_log2(most(bits, format.sub_block), format.scale_rule)
            shared = shared._replace(halved=jnp.clip(top - own_top, 0, 1))
        return shared
    tensor_largest = jax.lax.bitcast_convert_type(largest.max(), jnp.float32)
    tensor_largest = jnp.where(tensor_largest < 2.0**-126, 1.0, tensor_largest)
    if format.scale == "float":
        shared = shared._replace(tensor=tensor_largest / format.element.largest)
    if format.scale == "e4m3":
        tensor = tensor_largest / (format.element.largest * formats.E4M3.largest)
        block_largest = jax.lax.bitcast_convert_type(largest, jnp.float32)
        fraction = rounding.to_element(block_largest / tensor / format.element.largest, formats.E4M3)
        shared = shared._replace(tensor=tensor, fraction=fraction)
    return shared._replace(broken=jnp.broadcast_to(broken.any(), broken.shape))


def most(bits: Int32[Array, "A N B C"], group: int) -> Int32[Array, "A N K C"]:
    """The greatest of each `group` neighbours in a block, B = K group.

    XLA takes the greatest along an array's last axis number by number on a CPU (seen with jaxlib 0.10.2). So vectors of
    LANES come first, and a barrier keeps XLA from joining both steps to one again.
    """
    outer, number, _, inner = bits.shape
    if inner == 1 and group % LANES == 0 and group > LANES and jax.default_backend() == "cpu":
        lanes = bits.reshape(outer, number, -1, group // LANES, LANES).max(3)
        return jax.lax.optimization_barrier(lanes).max(3, keepdims=True)
    return bits.reshape(outer, number, -1, group, inner).max(3)


def integer_log2(largest: Int32[Array, "A N K C"], rule: ScaleRule) -> Int32[Array, "A N K C"]:
    """log2 of numbers, given as the bits of their magnitudes, rounded to an integer by the rule."""
    if rule == "floor":
        return rounding.exponent(largest)
    mantissa = largest & ((1 << rounding.MANTISSA) - 1)
    upward = mantissa > 0 if rule == "ceil" else mantissa >= ROOT_TWO
    return rounding.exponent(largest) + upward.astype(jnp.int32)


def to_elements(
    blocks: Float32[Array, "A N B C"], shared: Shared, format: Format, key: Array | None
) -> Float32[Array, "A N B C"]:
    """The elements in their own units."""
    units = rounding.scaled(blocks, -element_exponents(shared, format))
    if format.scale in ("float", "e4m3"):
        scale = shared.fraction * shared.tensor
        # by its exponent first: the reciprocal that XLA makes of a huge scale would be subnormal
        octave = rounding.exponent(rounding.magnitude_bits(scale))
        units = jnp.where(scale > 0, rounding.scaled(units, -octave) / rounding.scaled(scale, -octave), 0.0)
    return jnp.where(shared.broken, 0.0, rounding.to_element(units, format.element, format.rounding, key))


def element_exponents(shared: Shared, format: Format) -> Int32[Array, "A N #B C"]:
    """The exponent of each element's scale: the block's, less one where the sub-block is halved."""
    if not format.sub_block:
        return shared.exponents
    return shared.exponents - jnp.repeat(shared.halved, format.sub_block, axis=2)


def to_values(elements: Float32[Array, "A N B C"], shared: Shared, format: Format) -> Float32[Array, "A N B C"]:
    """The float32 numbers that the elements stand for."""
    values = rounding.scaled(elements, element_exponents(shared, format)) * (shared.fraction * shared.tensor)
    return jnp.where(shared.broken, jnp.nan, values)


def rounded(
    blocks: Float32[Array, "A N B C"], shared: Shared, format: Format, key: Array | None
) -> Float32[Array, "A N B C"]:
    """to_values(to_elements(...)) of a format with power-of-two scales, in fewer steps.

    Numbers are rounded in place and never scaled to the elements' own units.
    """
    element, exponents = format.element, element_exponents(shared, format)
    if isinstance(element, formats.Integer):
        step = exponents + element.smallest_step
    else:
        octave = jnp.maximum(rounding.exponent(rounding.magnitude_bits(blocks)), exponents + element.bottom_exponent)
        step = jnp.minimum(octave, HIGHEST) - element.mantissa
    steps = rounding.to_integer(rounding.times(blocks, -step), format.rounding, key)
    intact = jnp.where(shared.broken, jnp.float32(jnp.nan), jnp.float32(1))
    if isinstance(element, formats.Integer):
        greatest = 2.0**element.magnitude - 1
        return rounding.without_subnormals(rounding.times(jnp.clip(steps, -greatest, greatest), step, intact))
    largest = rounding.times(intact, exponents, element.largest)
    return rounding.without_subnormals(jnp.clip(rounding.times(steps, step), -largest, largest))
