"""Block floating point: quantise, encode to integers and back, and multiply matrices the way such hardware would.

A block is `format.block` neighbours along one axis, the last one filled up with zeros. With a power-of-two scale (MSFP,
SMX, MX) the shared exponent is that of the block's largest element less the exponent of the format's largest element.
NaN or infinity in a block makes all of it NaN. Numbers below 2^-126 are taken as, and become, zero.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Key, Shaped, UInt8

from compression import blocks, formats, rounding
from compression.blocks import ScaleRule
from compression.formats import Format
from compression.rounding import Rounding
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
    if mode not in rounding.ROUNDINGS:
        raise ValueError(f"unknown rounding {mode!r}: choose one of {', '.join(rounding.ROUNDINGS)}")
    if scale_rule not in blocks.SCALE_RULES:
        raise ValueError(f"unknown scale rule {scale_rule!r}: choose one of {', '.join(blocks.SCALE_RULES)}")
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
    parts = blocks.to_blocks(x, format, axis)
    shared = blocks.share(parts, format, rule)
    values = blocks.to_values(blocks.to_elements(parts, shared, format, mode, key), shared, format)
    return blocks.from_blocks(values, x.shape, axis)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _encode(x: Array, format: Format, axis: int, mode: Rounding, rule: ScaleRule, key: Array | None) -> BlockFloat:
    parts, element = blocks.to_blocks(x, format, axis), format.element
    shared = blocks.share(parts, format, rule)
    elements = blocks.to_elements(parts, shared, format, mode, key)
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
    matrix units for it, else in float32. Products of two elements are exact either way; only the order of the float32
    sums is not that of `datapath.integer_matmul`. So results differ by at most I 2^-23 sum_i |a_i b_i|, and not at
    all where every partial sum is a whole multiple, below 2^24 times, of one power of two.
    Gradients are straight-through, and each of the two products that make them quantises its operands anew along its
    own contraction axis: the backward pass is in the format too.
    Raises ValueError for an unknown format.
    """
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
    return matmul(gradient, b.T, format), matmul(rows.T, columns, format)


matmul.defvjp(_matmul_forward, _matmul_backward)
