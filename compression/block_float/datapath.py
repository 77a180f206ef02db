"""The product of two encoded matrices as hardware makes it: integer products and sums, one addition of exponents.

The reference for `quantise.matmul`, vectorised in NumPy, for every format that can be encoded; it counts its
operations. `plain.plain_matmul` does the same number by number.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from compression.block_float import formats, rounding
from compression.block_float.quantise import BlockFloat
from icl_synth import checks


class Blocks(NamedTuple):
    """An encoded matrix as integers: an element stands for integer * 2^exponent * factor, NaN in a broken block."""

    integers: Int[ndarray, "R N B"]
    exponents: Int[ndarray, "R N"]
    factor: Float[ndarray, "R N"]


class Operations(NamedTuple):
    """The operations of a product: on small integers, on exponents, and in float32."""

    integer_products: int
    integer_sums: int
    exponent_sums: int
    float_products: int
    float_sums: int


class Product(NamedTuple):
    """The product of two encoded matrices, and its operations."""

    values: Float[ndarray, "M O"]
    operations: Operations


def integer_matmul(a: BlockFloat, b: BlockFloat) -> Product:
    """a [M I], encoded along its last axis, times b [I O], encoded along its first.

    For each pair of blocks, integer products are added as integers, the exponents are added once, and the result is
    rounded to float32; these results are added in float32 from the first block to the last, starting from 0. Formats
    whose blocks have no exponents multiply scales instead of adding exponents; fixed point is counted likewise, though
    its scales are known beforehand. A microexponent shifts an operand's integers before they are multiplied; these
    shifts are not counted.
    Raises ValueError for operands in different formats, encoded along other axes or of shapes that do not multiply,
    and for elements whose products do not fit 64-bit integers (FP8 E5M2).
    """
    if a.format != b.format or (len(a.shape), len(b.shape), a.axis, b.axis) != (2, 2, 1, 0):
        raise ValueError("need a [M I] encoded along axis 1 and b [I O] encoded along axis 0, in one format")
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"shapes {a.shape} and {b.shape} do not multiply")
    block, digits = a.elements.shape[-1], largest_integer(a.format).bit_length()
    if 2 * digits + (block - 1).bit_length() > 63:
        raise ValueError(f"sums of {block} products of {a.format.name} elements do not fit 64-bit integers: use matmul")
    left, right = to_integers(a), to_integers(b)
    total, counts = np.zeros((a.shape[0], b.shape[1]), np.float32), np.zeros(5, np.int64)
    for n in range(left.integers.shape[1]):
        dot = left.integers[:, n] @ right.integers[:, n].T
        exponents = left.exponents[:, n, None] + right.exponents[:, n]
        factor = left.factor[:, n, None] * right.factor[:, n]
        total = total + as_float(dot, exponents) * factor
        scaling = (exponents.size, 0) if a.format.scale == "power" else (0, factor.size)
        counts += (dot.size * block, dot.size * (block - 1), *scaling, total.size)
    tensor = np.float32(a.tensor_scale) * np.float32(b.tensor_scale)
    return Product(total * tensor, Operations(*counts.tolist()))


def as_float(integers: Int[ndarray, "*S"], exponents: Int[ndarray, "*#S"]) -> Float[ndarray, "*S"]:
    """integer * 2^exponent, rounded once to float32; a result below 2^-126 becomes zero."""
    with np.errstate(under="ignore"):
        values = np.ldexp(integers.astype(np.float32), exponents)
    return np.where(np.abs(values) < 2.0**-126, np.float32(0), values)


def largest_integer(format: formats.Format) -> int:
    """The largest element, in units of the smallest step that a block of the format can have."""
    return round(format.element.largest * 2.0**-format.element.smallest_step) << (1 if format.sub_block else 0)


def to_integers(x: BlockFloat) -> Blocks:
    """The elements in units of the smallest step that their block can have: halved where sub-blocks may halve it."""
    format, element = x.format, x.format.element
    integers, stored = np.asarray(x.elements, np.int64), np.asarray(x.exponents, np.int64)
    if isinstance(element, formats.Float):
        values = np.asarray(rounding.element_value(jnp.asarray(x.elements, jnp.int32), element), np.float64)
        integers = (values * 2.0**-element.smallest_step).astype(np.int64)
    none = np.zeros(integers.shape[:-1], np.int64)
    exponents, factor = none + format.fixed_exponent, (none + 1).astype(np.float32)
    if format.scale == "power":
        exponents = stored[..., 0] - rounding.BIAS
        factor = np.where(stored[..., 0] == rounding.NOT_FINITE, np.float32(np.nan), np.float32(1))
    if format.scale == "e4m3":
        factor = np.asarray(rounding.element_value(jnp.asarray(stored[..., 0], jnp.int32), formats.E4M3))
    if format.sub_block:
        integers = integers << (1 - np.repeat(np.asarray(x.halved, np.int64), format.sub_block, axis=-1))
        exponents = exponents - 1
    return Blocks(integers, exponents + element.smallest_step, factor)


def count_operations(rows: int, inner: int, columns: int, block: int | None = None) -> Operations:
    """Operations of a product [rows inner] x [inner columns]: in blocks with power-of-two scales, or in float32.

    The count of `integer_matmul` in closed form, for shapes that are too large to run. A float product includes its
    addition of exponents. The sum of a block takes one addition less than it has products, and each block's result is
    added to a float32 total. Without `block`, all products and sums are float32 ones.
    Raises ValueError for negative numbers, and for a block below 1.
    """
    checks.at_least(0, rows=rows, inner=inner, columns=columns)
    if block is None:
        return Operations(0, 0, 0, rows * inner * columns, rows * inner * columns)
    checks.at_least(1, block=block)
    meetings = rows * columns * -(-inner // block)
    return Operations(meetings * block, meetings * (block - 1), meetings, 0, meetings)
