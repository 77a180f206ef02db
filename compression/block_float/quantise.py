"""Block floating point: quantise, encode to integers and back, and multiply matrices the way such hardware would.

A block is `format.block` neighbours along one axis; the last block is filled up with zeros. With a power-of-two scale
(MSFP, SMX, MX) the shared exponent is that of the block's largest element less the exponent of the format's largest
element. NaN or infinity makes its whole block NaN, and the whole tensor in a format with one scale for the tensor; in
bf16 and fp16, which share nothing, each stays what it is.
Arrays are read as float32; float64 is rounded to it first. Numbers below 2^-126 are read as zero and become zero. Where
a tensor has one float32 scale, it becomes zero if its largest number over the largest element is below 2^-126.
`plain` has the same in NumPy, to be read line by line.
"""

import dataclasses
import functools
from typing import Literal, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Integer, Key, Shaped, UInt8

from compression.block_float import blocks, formats, rounding
from compression.block_float.formats import Format, Rounding, ScaleRule
from icl_synth import layers

Carrier = Literal["float32", "bfloat16"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BlockFloat:
    """An encoded array: integers, and one float32 where the format has a scale for the whole tensor.

    elements: signed integers, or the bit patterns of small floats; the last two axes are the blocks and their elements.
    exponents: the exponent of each block, biased by 127 (255 marks a block of NaN); in NVFP4 the bit pattern of its
    E4M3 scale; empty in a format without scales of blocks.
    halved: 1 for a sub-block whose step is halved; empty without sub-blocks.
    tensor_scale: 1 in a format without a scale of the tensor.
    format, shape, axis: of the array; axis is the one that blocks lie along, counted from the first.
    """

    elements: Integer[Array, "*S N B"]
    exponents: UInt8[Array, "*S N E"]
    halved: UInt8[Array, "*S N M"]
    tensor_scale: Float32[Array, ""]
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
) -> Float32[Array, "*S"]:
    """The values that an array takes in a format, in float32; blocks lie along `axis`.

    rounding: "even" (to nearest, ties to even), "away" (to nearest, ties away from 0), "truncate" (towards 0, as in the
    MSFP paper) or "stochastic", which needs `key`. None takes the format's own: "even", unless the format says
    otherwise, as "msfp12:truncate" does.
    scale_rule: "floor", "ceil" or "nearest" rounds log2 of a block's largest element to an integer. None takes the
    format's own: "floor" for all named formats.
    Raises ValueError for an unknown format, rounding or scale rule, an axis that x lacks, an empty or complex array,
    stochastic rounding without key, and a scale rule other than floor for a format without power-of-two scales.
    """
    format, axis = _resolve(x, format, axis, rounding, scale_rule, key)
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
    """The integers that a format stores; `decode` makes of them the values that `quantize` gives.

    Arguments and errors are those of `quantize`. Raises ValueError, too, for bf16 and fp16, which share nothing.
    """
    format, axis = _resolve(x, format, axis, rounding, scale_rule, key)
    if format.scale == "none":
        raise ValueError(f"{format.name} has no shared scale to encode: use x.astype")
    return _encode(jnp.asarray(x, jnp.float32), format, axis, key)


@jax.jit
def decode(encoded: BlockFloat) -> Float32[Array, "*S"]:
    """The values that an encoded array stands for, in float32 and in the array's shape."""
    format, element = encoded.format, encoded.format.element
    elements, stored, halved = (
        blocks.blocks_in_place(part.astype(jnp.int32), encoded.shape, encoded.axis)
        for part in (encoded.elements, encoded.exponents, encoded.halved)
    )
    if isinstance(element, formats.Integer):
        values = elements.astype(jnp.float32) * 2.0**element.smallest_step
    else:
        values = rounding.element_value(elements, element)
    scale = encoded.tensor_scale
    shared = blocks.unshared(values, format)._replace(halved=halved, tensor=scale, broken=jnp.isnan(scale))
    if format.scale == "power":
        shared = shared._replace(exponents=stored - rounding.BIAS, broken=stored == rounding.NOT_FINITE)
    if format.scale == "e4m3":
        shared = shared._replace(fraction=rounding.element_value(stored, formats.E4M3))
    return blocks.from_blocks(blocks.to_values(values, shared, format), encoded.shape, encoded.axis)


def _resolve(x, format, axis, mode, scale_rule, key) -> tuple[Format, int]:
    """The format with its rounding and scale rule, and the axis from the start; or a ValueError."""
    format = formats.find(format)
    changes = {"rounding": mode or format.rounding, "scale_rule": scale_rule or format.scale_rule}
    format = dataclasses.replace(format, **changes)
    if format.rounding == "stochastic" and key is None:
        raise ValueError("stochastic rounding needs a key: key=jax.random.key(seed)")
    axis = blocks.axis_from_start(axis, np.shape(x))
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
        codes = elements * 2.0**-element.smallest_step
    else:
        codes = rounding.element_code(elements, element)
    stored, tensor = shared.exponents[:, :, :0], jnp.where(shared.broken.any(), jnp.nan, shared.tensor)
    if format.scale == "power":  # which marks each broken block by its exponent
        tensor = shared.tensor
        stored = jnp.where(shared.broken, rounding.NOT_FINITE, shared.exponents + rounding.BIAS)
    if format.scale == "e4m3":
        stored = rounding.element_code(shared.fraction, formats.E4M3)
    codes, stored, halved = (
        blocks.blocks_last(part.astype(kind), x.shape, axis)
        for part, kind in ((codes, element.code_type), (stored, jnp.uint8), (shared.halved, jnp.uint8))
    )
    return BlockFloat(codes, stored, halved, tensor, format, x.shape, axis)


def matmul(
    a: Float[Array | np.ndarray, "*B I"],
    b: Float[Array | np.ndarray, "I O"],
    format: str | Format,
    *,
    precision: layers.Precision = "auto",
) -> Float32[Array, "*B O"]:
    """a @ b with both operands quantised in blocks along the contraction axis I; sums and result in float32.

    Quantised values go through one ordinary product, whose operands `precision` chooses as `carrier` says.
    Where scales are powers of two and elements have at most 12 digits, products of two elements are exact either way,
    and only the order of the float32 sums differs from that of `datapath.integer_matmul`. Any order of adding I numbers
    is off by at most I 2^-24 times the sum of their magnitudes, so both differ by at most I 2^-23 sum_i |a_i b_i|, plus
    what float32 cannot hold: 2^-126 for each product. They agree exactly where all partial sums are multiples, below
    2^24 times, of one power of two. Other formats round each product once more, which doubles the bound.
    Gradients are straight-through; each of the two products that make them quantises its operands anew along its own
    contraction axis, so the backward pass is in the format too.
    Raises ValueError for an unknown format, a format that rounds stochastically, shapes that do not multiply, and a
    precision that `carrier` refuses.
    """
    if np.ndim(a) < 1 or np.ndim(b) != 2 or np.shape(a)[-1] != np.shape(b)[0]:
        raise ValueError(f"need a [..., I] and b [I, O], got {np.shape(a)} and {np.shape(b)}")
    format = formats.find(format)
    return _product(a, b, format, carrier(format, precision))


def carrier(format: str | Format, precision: layers.Precision = "auto") -> Carrier:
    """The type of the operands in `matmul`'s one product.

    "auto" takes bfloat16 where it holds every value of the format and the processor multiplies it fast (an accelerator,
    or a CPU with AMX), and float32 elsewhere. The rule looks at the processor's features and never at the clock, so one
    machine always gives the same digits; "float32" gives the same operands on every machine.
    Raises ValueError for an unknown precision, and for bfloat16 where it does not hold every value of the format.
    """
    format = formats.find(format)
    exact = format.significant_bits <= 8 and format.scale in ("power", "fixed", "none")
    if precision == "bfloat16" and not exact:
        raise ValueError(f"bfloat16 does not hold every value of {format.name}: ask for float32")
    chosen = _processor_choice() if precision == "auto" else layers.choose_precision(precision)[0]
    return chosen if exact else "float32"


@functools.cache
def _processor_choice() -> Carrier:
    return layers.choose_precision("auto")[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _product(a: Array | np.ndarray, b: Array | np.ndarray, format: Format, carrier: Carrier) -> Array:
    a, b = (quantize(x, format, axis=axis).astype(carrier) for x, axis in ((a, -1), (b, 0)))
    return jnp.matmul(a, b, preferred_element_type=jnp.float32, precision="highest")


def _product_forward(a, b, format, carrier):
    return _product(a, b, format, carrier), (a, b)


def _product_backward(format, carrier, saved, gradient):
    a, b = saved
    rows, columns = a.reshape(-1, a.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    to_a = _product(gradient, b.T, format, carrier)
    to_b = _product(rows.T, columns, format, carrier)
    return to_a.astype(a.dtype), to_b.astype(b.dtype)


_product.defvjp(_product_forward, _product_backward)
