"""Number formats as data: what an element holds, how many elements share a scale, and how that scale is chosen.

The formats are MSFP (Rouhani et al., NeurIPS 2020), shared microexponents "SMX" (Rouhani et al. 2023), OCP Microscaling
1.0 "MX", NVFP4, and formats with one scale for a tensor or none, to compare them with. An element is a small integer or
a small float; an element times its scale is a float32 number.
"""

import dataclasses
import math
import re
from typing import Literal, SupportsIndex, get_args

LARGEST_BLOCK = 2**16  # blocks are filled up with zeros, so an absurd size would fill the memory


def check_count(phrase: str, number: int, least: int, most: int) -> None:
    """Raise ValueError for a number that is not an integer from `least` to `most`."""
    if not isinstance(number, SupportsIndex) or not least <= number <= most:
        raise ValueError(f"{phrase.format(f'{least} to {most}')}, got {number!r}")


def check_block(name: str, size: int | None) -> None:
    """Raise ValueError for a size of blocks that is not an integer from 1 to LARGEST_BLOCK, nor None."""
    if size is None:
        return
    if not isinstance(size, SupportsIndex):
        raise ValueError(f"a {name} holds a whole number of elements, got {size!r}")
    if size < 1:
        raise ValueError(f"a {name} holds at least one element, got {size}")
    if size > LARGEST_BLOCK:
        raise ValueError(f"a {name} holds at most {LARGEST_BLOCK} elements, got {size}")


@dataclasses.dataclass(frozen=True)
class Integer:
    """A sign and `magnitude` bits: -(2^m - 1) to 2^m - 1 steps, without a second zero and without -2^m.

    Raises ValueError for a magnitude outside 1..15 bits.
    """

    magnitude: int

    def __post_init__(self):
        check_count("an integer element has {} magnitude bits", self.magnitude, 1, 15)

    @property
    def bits(self) -> int:
        return 1 + self.magnitude

    @property
    def code_type(self) -> str:
        """The type in which `encode` stores elements."""
        return "int8" if self.bits <= 8 else "int16"

    @property
    def largest(self) -> float:
        """The largest element, in units of the shared power of two: just under 2."""
        return (2**self.magnitude - 1) / 2 ** (self.magnitude - 1)

    @property
    def smallest_step(self) -> int:
        """Exponent of the distance between neighbours, in units of the shared power of two."""
        return 1 - self.magnitude

    @property
    def top_exponent(self) -> int:
        """Exponent of the largest element."""
        return 0

    def positive(self) -> list[float]:
        """Every element from 0 up, in units of the shared power of two."""
        return [n * 2.0**self.smallest_step for n in range(2**self.magnitude)]


@dataclasses.dataclass(frozen=True)
class Float:
    """A sign, `exponent` bits and `mantissa` bits, with subnormals.

    A number that is too large becomes `largest`, or infinity in an element that `overflows`.
    Raises ValueError for sizes outside 2..8 exponent bits and 0..10 mantissa bits.
    """

    exponent: int
    mantissa: int
    largest: float
    overflows: bool = False  # as IEEE numbers do

    def __post_init__(self):
        check_count("a float element has {} exponent bits", self.exponent, 2, 8)
        check_count("a float element has {} mantissa bits", self.mantissa, 0, 10)

    @property
    def bits(self) -> int:
        return 1 + self.exponent + self.mantissa

    @property
    def code_type(self) -> str:
        """The type in which `encode` stores bit patterns."""
        return "uint8" if self.bits <= 8 else "uint16"

    @property
    def bottom_exponent(self) -> int:
        """Exponent of the smallest normal element."""
        return 2 - 2 ** (self.exponent - 1)

    @property
    def smallest_step(self) -> int:
        """Exponent of the smallest element above 0."""
        return self.bottom_exponent - self.mantissa

    @property
    def top_exponent(self) -> int:
        """Exponent of the largest element."""
        return math.frexp(self.largest)[1] - 1

    def positive(self) -> list[float]:
        """Every finite element from 0 up."""
        step = 2.0**self.smallest_step
        values = [n * step for n in range(2**self.mantissa)]
        for octave in range(self.top_exponent - self.bottom_exponent + 1):
            values += [(2**self.mantissa + n) * step * 2.0**octave for n in range(2**self.mantissa)]
        return [value for value in values if value <= self.largest]


Scale = Literal["power", "float", "e4m3", "fixed", "none"]
ScaleRule = Literal["floor", "ceil", "nearest"]
Rounding = Literal["even", "away", "truncate", "stochastic"]


@dataclasses.dataclass(frozen=True)
class Format:
    """How numbers are stored.

    scale: "power" gives each block a power of two, in 8 bits; "e4m3" gives each block a small float, and the tensor a
    float32 (NVFP4); "float" gives the tensor a float32; "fixed" makes a power of two part of the format; with "none"
    the elements are the numbers.
    block: elements that share a scale; None makes one block of all elements along the axis.
    sub_block: neighbours that share one further bit, which halves their step (SMX).
    scale_rule: how log2 of a block's largest element is rounded to the shared exponent. "floor" is the rule of MSFP,
    SMX and OCP; the largest elements may then saturate.
    rounding: "even" (to nearest, ties to even), "away" (to nearest, ties away from 0), "truncate" (towards 0, as in the
    MSFP paper) or "stochastic".

    Raises ValueError for an unknown scale, rounding or scale rule, a rule other than floor without power-of-two scales,
    a block or sub-block outside 1..65536, and sub-blocks that do not divide the block.
    """

    name: str
    element: Integer | Float
    scale: Scale = "power"
    block: int | None = None
    sub_block: int | None = None
    fixed_exponent: int = 0
    scale_rule: ScaleRule = "floor"
    rounding: Rounding = "even"

    def __post_init__(self):
        for name, given, choices in (
            ("scale", self.scale, Scale),
            ("rounding", self.rounding, Rounding),
            ("scale rule", self.scale_rule, ScaleRule),
        ):
            if given not in get_args(choices):
                raise ValueError(f"unknown {name} {given!r}: choose one of {', '.join(get_args(choices))}")
        check_block("block", self.block)
        check_block("sub-block", self.sub_block)
        if self.scale_rule != "floor" and self.scale != "power":
            raise ValueError(
                f"{self.name} has no power-of-two scale, so scale_rule must be floor, got {self.scale_rule!r}"
            )
        if self.sub_block and (self.block or 0) % self.sub_block:
            raise ValueError(f"sub-blocks of {self.sub_block} do not divide a block of {self.block}")

    @property
    def average_bits(self) -> float:
        """Bits for each element of a full block, its share of the block's scales included; a tensor's scale is free."""
        shared = 8 / self.block if self.block else 0.0
        return self.element.bits + shared + (1 / self.sub_block if self.sub_block else 0.0)

    @property
    def significant_bits(self) -> int:
        """Significant binary digits of an element: bfloat16 holds the elements of a format exactly up to 8."""
        return self.element.magnitude if isinstance(self.element, Integer) else self.element.mantissa + 1


def bfp(block: int, bits: int) -> Format:
    """Generic block floating point: elements of `bits` bits, sign included, in blocks of `block`.

    Raises ValueError for a block outside 1..65536 and for bits outside 2..16.
    """
    check_count("bits of an element, its sign included, must be {}", bits, 2, 16)
    return Format(f"bfp{bits}_{block}", Integer(bits - 1), block=block)


def fixed_point(integer_bits: int, fraction_bits: int) -> Format:
    """Fixed point: a sign, then bits before and after the binary point, which stands at the same place in every tensor.

    Raises ValueError for a negative number of bits, and for a sum outside 1..15.
    """
    magnitude = integer_bits + fraction_bits
    if integer_bits < 0 or fraction_bits < 0 or not 1 <= magnitude <= 15:
        raise ValueError(
            f"integer and fraction bits must be 0 or more and 1 to 15 together, got {integer_bits} and {fraction_bits}"
        )
    exponent = integer_bits - 1  # of the largest element, which is one step below 2^integer_bits
    return Format(f"q{integer_bits}.{fraction_bits}", Integer(magnitude), scale="fixed", fixed_exponent=exponent)


E4M3, E5M2 = Float(4, 3, 448.0), Float(5, 2, 57344.0)
E2M3, E3M2, E2M1 = Float(2, 3, 7.5), Float(3, 2, 28.0), Float(2, 1, 6.0)

FORMATS = {
    format.name: format
    for format in (
        *(Format(f"msfp{bits + 8}", Integer(bits - 1), block=16) for bits in (8, 7, 6, 5, 4, 3)),
        Format("mx9", Integer(7), block=16, sub_block=2),
        Format("mx6", Integer(4), block=16, sub_block=2),
        Format("mx4", Integer(2), block=16, sub_block=2),
        Format("mxint8", Integer(7), block=32),
        Format("mxfp8_e4m3", E4M3, block=32),
        Format("mxfp8_e5m2", E5M2, block=32),
        Format("mxfp6_e2m3", E2M3, block=32),
        Format("mxfp6_e3m2", E3M2, block=32),
        Format("mxfp4", E2M1, block=32),
        Format("nvfp4", E2M1, scale="e4m3", block=16),
        Format("int8", Integer(7), scale="float"),
        Format("int4", Integer(3), scale="float"),
        Format("fp8_e4m3", E4M3, scale="float"),
        Format("fp8_e5m2", E5M2, scale="float"),
        fixed_point(3, 4),
        Format("bf16", Float(8, 7, 3.3895313892515355e38, overflows=True), scale="none"),
        Format("fp16", Float(5, 10, 65504.0, overflows=True), scale="none"),
    )
}


def find(format: str | Format) -> Format:
    """The format of a name; a Format is returned as it is.

    "bfp5_16" has 5 bits an element in blocks of 16; "q3.4" has 3 bits before the binary point and 4 after it; a colon
    and a rounding may follow any name, as in "msfp12:truncate".
    Raises ValueError for an unknown name, with the choices, and for sizes that `bfp` or `fixed_point` refuses.
    """
    if isinstance(format, Format):
        return format
    name, colon, mode = str(format).partition(":")
    # isdigit and \d take superscripts or other scripts too, and int() refuses thousands of digits in its own words
    block_float = re.fullmatch(r"bfp([0-9]{1,20})_([0-9]{1,20})", name)
    fixed = re.fullmatch(r"q([0-9]{1,20})\.([0-9]{1,20})", name)
    if name in FORMATS:
        named = FORMATS[name]
    elif block_float:
        named = bfp(block=int(block_float[2]), bits=int(block_float[1]))
    elif fixed:
        named = fixed_point(int(fixed[1]), int(fixed[2]))
    else:
        raise ValueError(
            f"unknown format {format!r}: choose one of {', '.join(FORMATS)}, bfpBITS_BLOCK such as bfp5_16, or "
            "qBEFORE.AFTER such as q2.5"
        )
    return dataclasses.replace(named, name=str(format), rounding=mode) if colon else named  # type: ignore[arg-type]
