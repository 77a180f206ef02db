"""How an array is cut into blocks, and what the numbers of a block share."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from compression import formats, rounding
from compression.formats import Format
from compression.rounding import Rounding

ScaleRule = Literal["floor", "ceil", "nearest"]
SCALE_RULES = ("floor", "ceil", "nearest")
ROOT_TWO = 0x3504F3  # mantissa of the square root of 2: from it on, log2 is nearer to the next whole number
LOWEST, HIGHEST = -127, 127  # of a shared exponent of 8 bits


class Shared(NamedTuple):
    """What the elements of a block share; an element stands for element * 2^(exponent - halved) * fraction * tensor."""

    exponents: Int[Array, "*S N 1"]
    halved: Int[Array, "*S N M"]
    fraction: Float[Array, "*S N 1"]
    tensor: Float[Array, ""]
    broken: Bool[Array, "*S N 1"]


def to_blocks(x: Array, format: Format, axis: int) -> Float[Array, "*S N B"]:
    """The blocks on the last axis; without blocks the whole axis is one."""
    x = jnp.moveaxis(x, axis, -1)
    block = format.block or x.shape[-1]
    padded = jnp.pad(x, ((0, 0),) * (x.ndim - 1) + ((0, -x.shape[-1] % block),))
    return padded.reshape(*x.shape[:-1], -1, block)


def from_blocks(blocks: Float[Array, "*S N B"], shape: tuple[int, ...], axis: int) -> Array:
    flat = blocks.reshape(*blocks.shape[:-2], -1)[..., : shape[axis]]
    return jnp.moveaxis(flat, -1, axis)


def unshared(blocks: Array, format: Format) -> Shared:
    """Every scale 1, but for the exponent that is part of a fixed-point format."""
    one = blocks[..., :1].shape
    exponents = jnp.full(one, format.fixed_exponent)
    return Shared(exponents, jnp.zeros((*one[:-1], 0), jnp.int32), jnp.ones(one), jnp.ones(()), jnp.zeros(one, bool))


def share(blocks: Float[Array, "*S N B"], format: Format, rule: ScaleRule) -> Shared:
    """The scales that a format gives to these blocks."""
    shared, bits = unshared(blocks, format), rounding.magnitude_bits(blocks)
    largest = bits.max(-1, keepdims=True)
    broken = rounding.exponent(largest) > HIGHEST
    if format.scale == "power":
        top = whole_log2(largest, rule)
        exponents = jnp.clip(top - format.element.top_exponent, LOWEST, HIGHEST)
        shared = shared._replace(exponents=exponents, broken=broken)
        if format.sub_block:
            pairs = bits.reshape(*bits.shape[:-1], -1, format.sub_block).max(-1)
            shared = shared._replace(halved=jnp.clip(top - rounding.exponent(pairs), 0, 1))
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


def whole_log2(largest: Int[Array, "*S N 1"], rule: ScaleRule) -> Int[Array, "*S N 1"]:
    """log2 of the largest element from its bits, made whole by the rule."""
    mantissa = largest & ((1 << rounding.MANTISSA) - 1)
    up = {"floor": False, "ceil": mantissa > 0, "nearest": mantissa >= ROOT_TWO}[rule]
    return rounding.exponent(largest) + jnp.asarray(up, jnp.int32)


def to_elements(
    blocks: Float[Array, "*S N B"], shared: Shared, format: Format, mode: Rounding, key: Array | None
) -> Float[Array, "*S N B"]:
    """The elements in their own units."""
    units = rounding.scaled(blocks, -exponents_of(shared, format))
    if format.scale in ("float", "e4m3"):
        scale = shared.fraction * shared.tensor
        # by its exponent first: the reciprocal that XLA makes of a huge scale would be subnormal
        octave = rounding.exponent(rounding.magnitude_bits(scale))
        units = jnp.where(scale > 0, rounding.scaled(units, -octave) / rounding.scaled(scale, -octave), 0.0)
    return jnp.where(shared.broken, 0.0, rounding.to_element(units, format.element, mode, key))


def exponents_of(shared: Shared, format: Format) -> Int[Array, "*S N #B"]:
    if not format.sub_block:
        return shared.exponents
    return shared.exponents - jnp.repeat(shared.halved, format.sub_block, axis=-1)


def to_values(elements: Float[Array, "*S N B"], shared: Shared, format: Format) -> Float[Array, "*S N B"]:
    """What the elements stand for."""
    values = rounding.scaled(elements, exponents_of(shared, format)) * (shared.fraction * shared.tensor)
    return jnp.where(shared.broken, jnp.nan, values)
