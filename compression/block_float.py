"""Block floating point: quantise, encode to integers and back, and multiply matrices the way such hardware would.

A block is `format.block` neighbours along one axis, the last one filled up with zeros. With a power-of-two scale (MSFP,
SMX, MX) the shared exponent is that of the block's largest element less the exponent of the format's largest element.
NaN or infinity in a block makes all of it NaN. Numbers below 2^-126 are taken as, and become, zero.
"""

import dataclasses
import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Shaped, UInt8

from compression import formats, rounding
from compression.formats import Format
from compression.rounding import Rounding

ScaleRule = Literal["floor", "ceil", "nearest"]
SCALE_RULES = ("floor", "ceil", "nearest")
ROOT_TWO = 0x3504F3  # mantissa of the square root of 2: from it on, log2 is nearer to the next whole number
LOWEST, HIGHEST = -127, 127  # of a shared exponent of 8 bits


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BlockFloat:
    """An encoded array: integers only, but for one float32 where the format has a scale of the whole tensor.

    elements: blocks on the last axis, [..., blocks, block]; signed integers, or the bit patterns of small floats.
    exponents: of each block, biased by 127 (255: all NaN); for NVFP4 the bit pattern of its E4M3 scale. Empty
    where the format has none.
    halved: for each sub-block, whether its step is halved; empty without sub-blocks.
    tensor_scale: 1 where there is none.
    """

    elements: Int[Array, "*S N B"]
    exponents: UInt8[Array, "*S N"]
    halved: UInt8[Array, "*S N M"]
    tensor_scale: Float[Array, ""]
    format: Format = dataclasses.field(metadata={"static": True})
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    axis: int = dataclasses.field(metadata={"static": True})


class _Shared(NamedTuple):
    """What the elements of a block share; an element stands for element * 2^(exponent - halved) * fraction * tensor."""

    exponents: Int[Array, "*S N 1"]
    halved: Int[Array, "*S N M"]
    fraction: Float[Array, "*S N 1"]
    tensor: Float[Array, ""]
    broken: Bool[Array, "*S N 1"]


def quantize(
    x: Shaped[Array | np.ndarray, "*S"],
    format: str | Format,
    *,
    axis: int = -1,
    rounding: Rounding = "even",
    scale_rule: ScaleRule = "floor",
    key: Key[Array, ""] | None = None,
) -> Float[Array, "*S"]:
    """The float32 values that an array has in a format, blocks lying along `axis`.

    rounding: "even" (nearest, ties to even), "away" (nearest, ties away from 0), "truncate" (towards 0: MSFP in its
    paper) or "stochastic", which needs `key`. scale_rule: how log2 of a block's largest element becomes the shared
    exponent; "floor" is MSFP's, SMX's and OCP's, the largest elements may then saturate.
    Raises ValueError for an unknown format, rounding or scale rule, an axis that x lacks, stochastic rounding without
    key, and a scale rule other than floor for a format without power-of-two scales.
    """
    format, axis = _check(x, format, axis, rounding, scale_rule, key)
    return _quantize(jnp.asarray(x, jnp.float32), format, axis, rounding, scale_rule, key)


def encode(
    x: Shaped[Array | np.ndarray, "*S"],
    format: str | Format,
    *,
    axis: int = -1,
    rounding: Rounding = "even",
    scale_rule: ScaleRule = "floor",
    key: Key[Array, ""] | None = None,
) -> BlockFloat:
    """The integers that are stored; `decode` gives back what `quantize` gives. Arguments and errors are quantize's.

    Raises ValueError, too, for bf16 and fp16, which share nothing: use astype.
    """
    format, axis = _check(x, format, axis, rounding, scale_rule, key)
    if format.scale == "none":
        raise ValueError(f"{format.name} has no shared scale to encode: use x.astype")
    return _encode(jnp.asarray(x, jnp.float32), format, axis, rounding, scale_rule, key)


@jax.jit
def decode(encoded: BlockFloat) -> Float[Array, "*S"]:
    """The float32 array of the original shape."""
    format, element, stored = encoded.format, encoded.format.element, encoded.exponents.astype(jnp.int32)[..., None]
    if isinstance(element, formats.Integer):
        elements = encoded.elements.astype(jnp.float32) * 2.0**element.smallest_step
    else:
        elements = rounding.element_value(encoded.elements.astype(jnp.int32), element)
    shared = _unshared(elements, format)._replace(
        halved=encoded.halved.astype(jnp.int32), tensor=encoded.tensor_scale, broken=jnp.isnan(encoded.tensor_scale)
    )
    if format.scale == "power":
        shared = shared._replace(exponents=stored - rounding.BIAS, broken=stored == rounding.NOT_FINITE)
    if format.scale == "e4m3":
        shared = shared._replace(fraction=rounding.element_value(stored, formats.E4M3))
    return _from_blocks(_values(elements, shared, format), encoded.shape, encoded.axis)


def _check(x, format, axis, mode, scale_rule, key) -> tuple[Format, int]:
    format = formats.find(format)
    if mode not in rounding.ROUNDINGS:
        raise ValueError(f"unknown rounding {mode!r}: choose one of {', '.join(rounding.ROUNDINGS)}")
    if scale_rule not in SCALE_RULES:
        raise ValueError(f"unknown scale rule {scale_rule!r}: choose one of {', '.join(SCALE_RULES)}")
    if mode == "stochastic" and key is None:
        raise ValueError("stochastic rounding needs a key: key=jax.random.key(seed)")
    if scale_rule != "floor" and format.scale != "power":
        raise ValueError(f"{format.name} has no power-of-two scale, so scale_rule must be floor, got {scale_rule!r}")
    if not -np.ndim(x) <= axis < np.ndim(x):
        raise ValueError(f"axis {axis} is not one of an array of shape {np.shape(x)}")
    return format, axis % np.ndim(x)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _quantize(x: Array, format: Format, axis: int, mode: Rounding, rule: ScaleRule, key: Array | None) -> Array:
    if format.scale == "none":
        return rounding.to_element(x, format.element, mode, key)
    blocks = _to_blocks(x, format, axis)
    shared = _share(blocks, format, rule)
    return _from_blocks(_values(_elements(blocks, shared, format, mode, key), shared, format), x.shape, axis)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _encode(x: Array, format: Format, axis: int, mode: Rounding, rule: ScaleRule, key: Array | None) -> BlockFloat:
    blocks, element = _to_blocks(x, format, axis), format.element
    shared = _share(blocks, format, rule)
    elements = _elements(blocks, shared, format, mode, key)
    if isinstance(element, formats.Integer):
        codes = (elements * 2.0**-element.smallest_step).astype(jnp.int8 if element.bits <= 8 else jnp.int16)
    else:
        codes = rounding.element_code(elements, element).astype(jnp.uint8)
    stored = shared.exponents[..., :0]
    if format.scale == "power":
        stored = jnp.where(shared.broken, rounding.NOT_FINITE, shared.exponents + rounding.BIAS)
    if format.scale == "e4m3":
        stored = rounding.element_code(shared.fraction, formats.E4M3)
    tensor = shared.tensor if format.scale == "power" else jnp.where(shared.broken.any(), jnp.nan, shared.tensor)
    stored = stored.reshape(*blocks.shape[:-1], -1)[..., 0] if stored.size else jnp.zeros((*blocks.shape[:-2], 0))
    return BlockFloat(codes, stored.astype(jnp.uint8), shared.halved.astype(jnp.uint8), tensor, format, x.shape, axis)


def _to_blocks(x: Array, format: Format, axis: int) -> Float[Array, "*S N B"]:
    """The blocks on the last axis; without blocks the whole axis is one."""
    x = jnp.moveaxis(x, axis, -1)
    block = format.block or x.shape[-1]
    padded = jnp.pad(x, ((0, 0),) * (x.ndim - 1) + ((0, -x.shape[-1] % block),))
    return padded.reshape(*x.shape[:-1], -1, block)


def _from_blocks(blocks: Float[Array, "*S N B"], shape: tuple[int, ...], axis: int) -> Array:
    flat = blocks.reshape(*blocks.shape[:-2], -1)[..., : shape[axis]]
    return jnp.moveaxis(flat, -1, axis)


def _unshared(blocks: Array, format: Format) -> _Shared:
    """Every scale 1, but for the exponent that is part of a fixed-point format."""
    one = blocks[..., :1].shape
    exponents = jnp.full(one, format.fixed_exponent)
    return _Shared(exponents, jnp.zeros((*one[:-1], 0), jnp.int32), jnp.ones(one), jnp.ones(()), jnp.zeros(one, bool))


def _share(blocks: Float[Array, "*S N B"], format: Format, rule: ScaleRule) -> _Shared:
    """The scales that a format gives to these blocks."""
    shared, bits = _unshared(blocks, format), rounding.magnitude_bits(blocks)
    largest = bits.max(-1, keepdims=True)
    broken = rounding.exponent(largest) > HIGHEST
    if format.scale == "power":
        top = _log2(largest, rule)
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


def _log2(largest: Int[Array, "*S N 1"], rule: ScaleRule) -> Int[Array, "*S N 1"]:
    """log2 of the largest element from its bits, made whole by the rule."""
    mantissa = largest & ((1 << rounding.MANTISSA) - 1)
    up = {"floor": False, "ceil": mantissa > 0, "nearest": mantissa >= ROOT_TWO}[rule]
    return rounding.exponent(largest) + jnp.asarray(up, jnp.int32)


def _elements(
    blocks: Float[Array, "*S N B"], shared: _Shared, format: Format, mode: Rounding, key: Array | None
) -> Float[Array, "*S N B"]:
    """The elements in their own units."""
    units = rounding.scaled(blocks, -_exponents(shared, format))
    if format.scale in ("float", "e4m3"):
        scale = shared.fraction * shared.tensor
        units = jnp.where(scale > 0, units / jnp.where(scale > 0, scale, 1.0), 0.0)
    return rounding.to_element(units, format.element, mode, key)


def _exponents(shared: _Shared, format: Format) -> Int[Array, "*S N #B"]:
    if not format.sub_block:
        return shared.exponents
    return shared.exponents - jnp.repeat(shared.halved, format.sub_block, axis=-1)


def _values(elements: Float[Array, "*S N B"], shared: _Shared, format: Format) -> Float[Array, "*S N B"]:
    """What the elements stand for."""
    values = rounding.scaled(elements, _exponents(shared, format)) * (shared.fraction * shared.tensor)
    return jnp.where(shared.broken, jnp.nan, values)
