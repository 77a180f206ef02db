"""Block floating point: quantise, encode to integers and back, and multiply matrices the way such hardware would.

A block is `format.block` neighbours along one axis, the last one filled up with zeros. With a power-of-two scale (MSFP,
SMX, MX) the shared exponent is that of the block's largest element less the exponent of the format's largest element.
NaN or infinity makes all of its block NaN, or all of a tensor that has one scale; in bf16 and fp16, which share
nothing, each stays what it is. Arrays are read as float32, float64 is rounded to it first. Numbers below 2^-126 are
taken as, and become, zero; where a tensor has one float32 scale, so does a tensor whose largest number over its largest
element is below that.
"""

import dataclasses
import functools
from typing import SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Key, Shaped, UInt8

from compression.block_float import blocks, formats, rounding
from compression.block_float.formats import Format, Rounding, ScaleRule
from icl_synth import layers


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BlockFloat:
    """An encoded array: integers only, but for one float32 where the format has a scale of the whole tensor.

    elements: blocks on the last axis, [..., blocks, block]; signed integers, or the bit patterns of small floats.
    exponents: of each block, biased by 127 (255: all NaN); for NVFP4 the bit pattern of its E4M3 scale; empty where
    the format has none.
    halved: for each sub-block, whether its step is halved; empty without sub-blocks.
    tensor_scale: 1 where there is none.
    """

    elements: Integer[Array, "*S N B"]
    exponents: UInt8[Array, "*S N E"]
    halved: UInt8[Array, "*S N M"]
    tensor_scale: Float[Array, ""]
    format: Format = dataclasses.field(metadata={"static": True})
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    axis: int = dataclasses.field(metadata={"static": True})


def quantize(
    x: Shaped[Array | np.ndarray, "*S"],
    format: str | Format,
    *,
    axis: SupportsIndex = -1,
    rounding: Rounding | None = None,
    scale_rule: ScaleRule | None = None,
    key: Key[Array, ""] | None = None,
) -> Float[Array, "*S"]:
    """The float32 values that an array has in a format, blocks lying along `axis`.

    rounding and scale_rule replace the format's own, "even" and "floor" for all named ones: "even" (nearest, ties to
    even), "away" (nearest, ties away from 0), "truncate" (towards 0: MSFP in its paper) or "stochastic", which needs
    `key`; "floor", "ceil" or "nearest" makes log2 of a block's largest element whole.
    Raises ValueError for an unknown format, rounding or scale rule, an axis that x lacks, an empty array or a complex
    one, stochastic rounding without key, and a scale rule other than floor for a format without power-of-two scales.
    """
    format, axis = _check(x, format, axis, rounding, scale_rule, key)
    return _quantize(jnp.asarray(x, jnp.float32), format, axis, key)


def encode(
    x: Shaped[Array | np.ndarray, "*S"],
    format: str | Format,
    *,
    axis: SupportsIndex = -1,
    rounding: Rounding | None = None,
    scale_rule: ScaleRule | None = None,
    key: Key[Array, ""] | None = None,
) -> BlockFloat:
    """The integers that are stored; `decode` gives back what `quantize` gives. Arguments and errors are quantize's.

    Raises ValueError, too, for bf16 and fp16, which share nothing: use astype.
    """
    format, axis = _check(x, format, axis, rounding, scale_rule, key)
    if format.scale == "none":
        raise ValueError(f"{format.name} has no shared scale to encode: use x.astype")
    return _encode(jnp.asarray(x, jnp.float32), format, axis, key)


@jax.jit
def decode(encoded: BlockFloat) -> Float[Array, "*S"]:
    """The float32 array of the original shape."""
    format, element = encoded.format, encoded.format.element
    elements, stored, halved = (
        blocks.not_last(part.astype(jnp.int32), encoded.shape, encoded.axis)
        for part in (encoded.elements, encoded.exponents, encoded.halved)
    )
    if isinstance(element, formats.Integer):
        values = elements * 2.0**element.smallest_step
    else:
        values = rounding.element_value(elements, element)
    scale = encoded.tensor_scale
    shared = blocks.unshared(values, format)._replace(halved=halved, tensor=scale, broken=jnp.isnan(scale))
    if format.scale == "power":
        shared = shared._replace(exponents=stored - rounding.BIAS, broken=stored == rounding.NOT_FINITE)
    if format.scale == "e4m3":
        shared = shared._replace(fraction=rounding.element_value(stored, formats.E4M3))
    return blocks.from_blocks(blocks.to_values(values, shared, format), encoded.shape, encoded.axis)


def _check(x, format, axis, mode, scale_rule, key) -> tuple[Format, int]:
    format = formats.find(format)
    changes = {"rounding": mode or format.rounding, "scale_rule": scale_rule or format.scale_rule}
    format = dataclasses.replace(format, **changes)
    if format.rounding == "stochastic" and key is None:
        raise ValueError("stochastic rounding needs a key: key=jax.random.key(seed)")
    axis = blocks.whole_axis(axis, np.shape(x))
    if np.size(x) == 0:
        raise ValueError(f"an array of shape {np.shape(x)} is empty: there is nothing to quantise")
    if np.iscomplexobj(x):
        raise ValueError("an array of complex numbers has no such format: quantise its real and imaginary parts")
    return format, axis


@functools.partial(jax.jit, static_argnums=(1, 2))
def _quantize(x: Array, format: Format, axis: int, key: Array | None) -> Array:
    if format.scale == "none":
        return rounding.to_element(x, format.element, format.rounding, key)
    parts = blocks.to_blocks(x, format, axis)
    shared = blocks.share(parts, format)
    if format.scale == "power":
        values = blocks.rounded(parts, shared, format, key)
    else:
        values = blocks.to_values(blocks.to_elements(parts, shared, format, key), shared, format)
    return blocks.from_blocks(values, x.shape, axis)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _encode(x: Array, format: Format, axis: int, key: Array | None) -> BlockFloat:
    parts, element = blocks.to_blocks(x, format, axis), format.element
    shared = blocks.share(parts, format)
    elements = blocks.to_elements(parts, shared, format, key)
    if isinstance(element, formats.Integer):
        codes = (elements * 2.0**-element.smallest_step).astype(jnp.int8 if element.bits <= 8 else jnp.int16)
    else:
        codes = rounding.element_code(elements, element).astype(jnp.uint8)
    stored, tensor = shared.exponents[:, :, :0], jnp.where(shared.broken.any(), jnp.nan, shared.tensor)
    if format.scale == "power":
        tensor = shared.tensor
        stored = jnp.where(shared.broken, rounding.NOT_FINITE, shared.exponents + rounding.BIAS)
    if format.scale == "e4m3":
        stored = rounding.element_code(shared.fraction, formats.E4M3)
    codes, stored, halved = (
        blocks.last(part, x.shape, axis) for part in (codes, stored.astype(jnp.uint8), shared.halved.astype(jnp.uint8))
    )
    return BlockFloat(codes, stored, halved, tensor, format, x.shape, axis)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(
    a: Float[Array | np.ndarray, "*B I"], b: Float[Array | np.ndarray, "I O"], format: str | Format
) -> Float[Array, "*B O"]:
    """a @ b with both operands quantised in blocks along the contraction axis I; sums and result in float32.

    Quantised values go through one ordinary product: in bfloat16, where that holds every value and the machine has
    matrix units for it, else in float32. Where scales are powers of two and elements have at most 12 digits, products
    of two elements are exact either way, and only the order of the float32 sums is not that of
    `datapath.integer_matmul`: any order of adding I numbers is off by at most I 2^-24 times the sum of their
    magnitudes, so both differ by at most I 2^-23 sum_i |a_i b_i| (and by what float32 cannot hold, below 2^-126 for
    each product), and not at all where every partial sum is a whole multiple, below 2^24 times, of one power of two.
    Other formats round each product once more, which doubles that bound.
    Gradients are straight-through, and each of the two products that make them quantises its operands anew along its
    own contraction axis: the backward pass is in the format too.
    Raises ValueError for an unknown format, one that rounds stochastically, and shapes that do not multiply.
    """
    if np.ndim(a) < 1 or np.ndim(b) != 2 or np.shape(a)[-1] != np.shape(b)[0]:
        raise ValueError(f"need a [..., I] and b [I, O], got {np.shape(a)} and {np.shape(b)}")
    return _product(a, b, formats.find(format))


def _product(a: Array | np.ndarray, b: Array | np.ndarray, format: Format) -> Array:
    carrier = jnp.bfloat16 if _exact_in_bfloat16(format) and _has_matrix_units() else jnp.float32
    a, b = (quantize(x, format, axis=axis).astype(carrier) for x, axis in ((a, -1), (b, 0)))
    return jnp.matmul(a, b, preferred_element_type=jnp.float32, precision="highest")


def _exact_in_bfloat16(format: Format) -> bool:
    return format.significant_bits <= 8 and format.scale in ("power", "fixed", "none")


@functools.cache
def _has_matrix_units() -> bool:
    with jax.ensure_compile_time_eval():  # it may be asked for while a model is traced
        return layers.choose_precision("auto")[0] == "bfloat16"


def _matmul_forward(a, b, format):
    return matmul(a, b, format), (a, b)


def _matmul_backward(format, saved, gradient):
    a, b = saved
    rows, columns = a.reshape(-1, a.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    return matmul(gradient, b.T, format).astype(a.dtype), matmul(rows.T, columns, format).astype(b.dtype)


matmul.defvjp(_matmul_forward, _matmul_backward)
