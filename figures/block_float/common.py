"""What the experiments with block floating point share: the families of formats, and published values."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from compression.block_float.formats import Format, Integer, find
from figures.lab import tables
from figures.lab.style import BLUE, GREEN, GREY, ORANGE, PINK

PUBLISHED = ("block_float.csv",)
MIXED = "mxfp4 with mxfp6_e3m2"  # weights in the one, activations and gradients in the other
LAST_DIGIT = 0.01  # nats: the last digit of the losses that Rouhani et al. 2023 print, in both papers
UNVERIFIED = "not verifiable in a public copy"


class Family(NamedTuple):
    """Formats of one kind, the widest first, and how they are drawn."""

    colour: str
    marker: str
    formats: tuple[str, ...]


FAMILIES = {
    "MSFP": Family(BLUE, "o", ("msfp16", "msfp15", "msfp14", "msfp13", "msfp12", "msfp11")),
    "SMX": Family(ORANGE, "D", ("mx9", "mx6", "mx4")),
    "OCP MX": Family(GREEN, "s", ("mxint8", "mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4")),
    "NVFP4": Family(PINK, "P", ("nvfp4",)),
    "whole tensor": Family(GREY, "x", ("int8", "int4", "fp8_e4m3", "fp8_e5m2")),
}
NAMED = [format for family in FAMILIES.values() for format in family.formats]


def family_of(format: str) -> str:
    """The name of the family that a format belongs to."""
    return next(name for name, family in FAMILIES.items() if weights_of(format) in family.formats)


def weights_of(format: str) -> str:
    """The format of the weights, without how it rounds."""
    return format.split(" ")[0].split(":")[0]


def bits_of(format: str) -> float:
    """Bits per element of the weights."""
    return find(weights_of(format)).average_bits


def published(quantity: str) -> pd.Series:
    """Published values of a quantity by format."""
    return tables.published("block_float", quantity=quantity).set_index("format").value


def bound(format: Format, length: int) -> float:
    """The least QSNR of a format with integer elements, dB (Rouhani et al. 2023, theorem 1)."""
    assert isinstance(format.element, Integer) and format.block
    beta = 1 if format.sub_block else 0  # 2^d2 - 1 with d2 = 1 bit, or none
    spread = 4.0**beta
    sub_block = format.sub_block or 1
    return 6.02 * format.element.magnitude + 10 * float(
        np.log10(spread / (min(length, format.block) + (spread - 1) * sub_block))
    )


def above_bound(
    x: Float[np.ndarray, "N L"], rounded: Float[np.ndarray, "N L"], format: Format
) -> Float[np.ndarray, " N"]:
    """QSNR of each vector less the bound, dB; vectors without noise are infinitely far."""
    exact = x.astype(np.float64)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(np.square(exact).sum(1) / np.square(rounded - exact).sum(1)) - bound(format, x.shape[1])


def worst_vector(format: Format, length: int) -> Float[np.ndarray, " L"]:
    """A vector that comes near the bound: in each block one number just over a power of two, the others next to none,
    and all of them halfway between two steps.
    """
    assert isinstance(format.element, Integer) and format.block
    half = 2.0**format.element.smallest_step / 2
    block = np.full(format.block, half / 2 if format.sub_block else half)
    block[: format.sub_block] = half  # beside the largest number there is no finer step
    block[0] = 1 + half
    return np.tile(block, length // format.block).astype(np.float32)
