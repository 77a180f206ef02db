"""Block floating point in plain NumPy, in the order of the papers and to be read line by line.

It covers elements that are integers under a power-of-two scale: MSFP (Rouhani et al., NeurIPS 2020) and MXINT8, and SMX
(Rouhani et al. 2023), where pairs of a block share one further bit. Numbers must be finite and results not below
2^-126. The tests hold `quantise` and `datapath` against these functions.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float32

from compression.block_float.formats import Format, Integer, find

ROUND: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "even": np.rint,
    "truncate": np.trunc,
    "away": lambda steps: np.copysign(np.floor(np.abs(steps) + 0.5), steps),
}


def plain_quantize(x: Float[np.ndarray, "*S I"], format: str | Format) -> Float32[np.ndarray, "*S I"]:
    """`quantize` along the last axis. Raises ValueError for a format that is not covered here."""
    format = _covered(format)
    block, values = format.block or x.shape[-1], np.zeros(x.shape, np.float32)
    for row in np.ndindex(x.shape[:-1]):
        for start in range(0, x.shape[-1], block):
            integers, exponent = plain_block(x[row][start : start + block], format)
            values[row][start : start + block] = [math.ldexp(integer, exponent) for integer in integers]
    return values


def plain_matmul(
    a: Float[np.ndarray, "M I"], b: Float[np.ndarray, "I O"], format: str | Format
) -> Float32[np.ndarray, "M O"]:
    """a @ b as hardware makes it, block by block. Raises ValueError for a format that is not covered here."""
    format = _covered(format)
    block, total = format.block or len(b), np.zeros((len(a), b.shape[1]), np.float32)
    for start in range(0, len(b), block):
        rows = [plain_block(row[start : start + block], format) for row in a]
        columns = [plain_block(column[start : start + block], format) for column in b.T]
        for m, (left, left_exponent) in enumerate(rows):
            for o, (right, right_exponent) in enumerate(columns):
                dot = sum(p * q for p, q in zip(left, right, strict=True))  # products and sums of integers
                exponent = left_exponent + right_exponent  # one addition of exponents for two blocks
                total[m, o] += np.float32(math.ldexp(dot, exponent))  # blocks are accumulated in float32
    return total


def plain_block(numbers: Float[np.ndarray, " B"], format: Format) -> tuple[list[int], int]:
    """Integers and an exponent e for the numbers of one block: each becomes integer * 2^e."""
    bits, most = format.element.magnitude, 2**format.element.magnitude - 1  # type: ignore[union-attr]
    numbers, sub_block = numbers.astype(np.float32), format.sub_block or len(numbers)
    shared = exponent_of(numbers)  # the block's exponent is that of its largest number
    smallest_step = shared - (bits - 1) - (1 if format.sub_block else 0)
    integers: list[int] = []
    for start in range(0, len(numbers), sub_block):
        part = numbers[start : start + sub_block].astype(np.float64)
        halved = min(1, shared - exponent_of(part))  # SMX's further bit; 0 where the whole block is one part
        step = shared - (bits - 1) - halved
        steps = ROUND[format.rounding](np.ldexp(part, -step))  # the shift right that aligns a number with the largest
        integers += [int(number) << (step - smallest_step) for number in np.clip(steps, -most, most)]
    return integers, smallest_step


def exponent_of(numbers: Float[np.ndarray, " B"]) -> int:
    """floor(log2) of the largest magnitude; -127 for zeros."""
    largest = float(np.abs(numbers).max())
    return math.frexp(largest)[1] - 1 if largest else -127  # frexp is exact, with a fraction in [1/2, 1)


def _covered(format: str | Format) -> Format:
    format = find(format)
    usual = format.scale == "power" and format.scale_rule == "floor" and format.rounding in ROUND
    if not usual or not isinstance(format.element, Integer):
        raise ValueError(f"{format.name} is not in plain form: it needs integer elements, power-of-two scales by the "
                         "floor rule, and no stochastic rounding")  # fmt: skip
    return format
