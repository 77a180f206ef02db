"""The product of two blocks as hardware makes it: integer products and sums, and one addition of exponents.

The reference that `block_float.matmul` is held against, written to be read; and what it costs, counted.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from compression import formats, rounding
from compression.block_float import BlockFloat


class Blocks(NamedTuple):
    """An encoded matrix as integers; one stands for integer * 2^exponent * factor. factor is NaN in a broken block."""

    integers: Int[Array, "R N B"]
    exponents: Int[Array, "R N"]
    factor: Float[Array, "R N"]


@jax.jit
def integer_matmul(a: BlockFloat, b: BlockFloat) -> Float[Array, "M O"]:
    """a [M I], encoded along its last axis, times b [I O], encoded along its first.

    Where two blocks meet, integer products are added as integers, exponents are added once, and the result becomes a
    float32; the results of the blocks are added in float32 from the first to the last, starting from 0.
    Raises ValueError for operands in different formats, encoded along other axes or of shapes that do not multiply,
    and for elements whose products do not fit 32-bit integers (fp8, and block floating point above 14 bits).
    """
    if a.format != b.format or (len(a.shape), len(b.shape), a.axis, b.axis) != (2, 2, 1, 0):
        raise ValueError("need a [M I] encoded along axis 1 and b [I O] encoded along axis 0, in one format")
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"shapes {a.shape} and {b.shape} do not multiply")
    block, digits = a.elements.shape[-1], largest_integer(a.format).bit_length()
    if 2 * digits + (block - 1).bit_length() > 31:
        raise ValueError(f"sums of {block} products of {a.format.name} elements do not fit 32-bit integers: use matmul")

    def add(total: Float[Array, "M O"], meeting: tuple[Blocks, Blocks]) -> tuple[Float[Array, "M O"], None]:
        left, right = meeting
        dot = jnp.einsum("mb,ob->mo", left.integers, right.integers)
        exponents = left.exponents[:, None] + right.exponents
        factor = left.factor[:, None] * right.factor
        return total + rounding.scaled(dot.astype(jnp.float32), exponents) * factor, None

    block_by_block = jax.tree.map(lambda part: jnp.moveaxis(part, 1, 0), (to_integers(a), to_integers(b)))
    total, _ = jax.lax.scan(add, jnp.zeros((a.shape[0], b.shape[1])), block_by_block)
    return total * (a.tensor_scale * b.tensor_scale)


def largest_integer(format: formats.Format) -> int:
    """The largest element as a multiple of the smallest step that a block of the format can hold."""
    return round(format.element.largest * 2.0**-format.element.smallest_step) << (1 if format.sub_block else 0)


def to_integers(x: BlockFloat) -> Blocks:
    """A step is that of the format's smallest element, halved once more where sub-blocks may halve it."""
    format, element, stored = x.format, x.format.element, x.exponents.astype(jnp.int32)
    integers = x.elements.astype(jnp.int32)
    if isinstance(element, formats.Float):
        integers = (rounding.element_value(integers, element) * 2.0**-element.smallest_step).astype(jnp.int32)
    none = jnp.zeros(integers.shape[:-1], jnp.int32)
    exponents, factor = none + format.fixed_exponent, none + 1.0
    if format.scale == "power":
        exponents = stored[..., 0] - rounding.BIAS
        factor = jnp.where(stored[..., 0] == rounding.NOT_FINITE, jnp.nan, 1.0)
    if format.scale == "e4m3":
        factor = rounding.element_value(stored[..., 0], formats.E4M3)
    if format.sub_block:
        integers <<= 1 - jnp.repeat(x.halved.astype(jnp.int32), format.sub_block, axis=-1)
        exponents -= 1
    return Blocks(integers, exponents + element.smallest_step, factor)


class Operations(NamedTuple):
    """What a product takes: small-integer work, exponents, and float32 work."""

    integer_products: int
    integer_sums: int
    exponent_sums: int
    float_products: int
    float_sums: int


def count_operations(rows: int, inner: int, columns: int, block: int | None = None) -> Operations:
    """Operations of a product [rows inner] x [inner columns]: in blocks with power-of-two scales, or in float32.

    Every float product adds exponents too; they are counted with it. The sum of a block takes one less than its
    products, and each block's result is added to a float32 total.
    """
    if block is None:
        return Operations(0, 0, 0, rows * inner * columns, rows * inner * columns)
    meetings = rows * columns * -(-inner // block)
    return Operations(meetings * block, meetings * (block - 1), meetings, 0, meetings)
