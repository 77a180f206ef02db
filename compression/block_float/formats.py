"""Number formats as data: what one element holds, how many elements share a scale, and how that scale is chosen.

MSFP (Rouhani et al., NeurIPS 2020), shared microexponents "SMX" (Rouhani et al. 2023), OCP Microscaling 1.0 "MX",
NVFP4, and the formats of a whole tensor or of single numbers that they are held against. An element is a small integer
or a small float; times its scale it is a float32 number.
"""

import dataclasses
import math
from typing import Literal, get_args


@dataclasses.dataclass(frozen=True)
class Integer:
    """A sign and `magnitude` bits: -(2^m - 1) to 2^m - 1 steps, no second zero, no -2^m."""

    magnitude: int

    @property
    def bits(self) -> int:
        return 1 + self.magnitude

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
    """A sign, `exponent` and `mantissa` bits, subnormals; what is too large becomes `largest` or, where the element
    `overflows`, infinity."""

    exponent: int
    mantissa: int
    largest: float
    overflows: bool = False  # as IEEE numbers do

    @property
    def bits(self) -> int:
        return 1 + self.exponent + self.mantissa

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

    scale: "power", a power of two for each block, 8 bits; "e4m3", a small float for each block and one float32 for the
    tensor (NVFP4); "float", one float32 for the tensor; "fixed", a power of two that is part of the format; "none",
    the elements are the numbers. sub_block: neighbours that share one further bit, which halves their step.
    scale_rule: how log2 of a block's largest element becomes the shared exponent; "floor" is MSFP's, SMX's and OCP's,
    and the largest elements may then saturate. rounding: "even" (nearest, ties to even), "away" (nearest, ties away
    from 0), "truncate" (towards 0, as MSFP in its paper) or "stochastic".

    Raises ValueError for an unknown scale, rounding or scale rule, a rule other than floor without power-of-two scales,
    a block or sub-block below 1, and sub-blocks that do not divide the block.
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
        for name, given, known in (
            ("scale", self.scale, Scale),
            ("rounding", self.rounding, Rounding),
            ("scale rule", self.scale_rule, ScaleRule),
        ):
            if given not in get_args(known):
                raise ValueError(f"unknown {name} {given!r}: choose one of {', '.join(get_args(known))}")
        for name, size in (("block", self.block), ("sub-block", self.sub_block)):
            if size is not None and size < 1:
                raise ValueError(f"a {name} holds at least one element, got {size}")
        if self.scale_rule != "floor" and self.scale != "power":
            raise ValueError(
                f"{self.name} has no power-of-two scale, so scale_rule must be floor, got {self.scale_rule!r}"
            )
        if self.sub_block and (self.block or 0) % self.sub_block:
            raise ValueError(f"sub-blocks of {self.sub_block} do not divide a block of {self.block}")

    @property
    def average_bits(self) -> float:
        """Bits an element, its share of the scales included (whole blocks; a scale of the whole tensor is free)."""
        shared = 8 / self.block if self.block else 0.0
        return self.element.bits + shared + (1 / self.sub_block if self.sub_block else 0.0)

    @property
    def significant_bits(self) -> int:
        """Bits that hold every element's digits: at most 8 make the format exact in bfloat16."""
        return self.element.magnitude if isinstance(self.element, Integer) else self.element.mantissa + 1


def bfp(block: int, bits: int) -> Format:
    """Generic block floating point: `bits` an element with its sign, `block` elements to a shared exponent.

    Raises ValueError for a block below 1 and bits outside 2..16.
    """
    if not 2 <= bits <= 16:
        raise ValueError(f"bits of an element, its sign included, must be 2 to 16, got {bits}")
    return Format(f"bfp{bits}_{block}", Integer(bits - 1), block=block)


def fixed_point(integer_bits: int, fraction_bits: int) -> Format:
    """Fixed point: a sign, bits before and after the binary point, the same for every tensor.

    Raises ValueError where they are not 1 to 15 together.
    """
    magnitude = integer_bits + fraction_bits
    if integer_bits < 0 or fraction_bits < 0 or not 1 <= magnitude <= 15:
        raise ValueError(
            f"integer and fraction bits must be 0 or more and 1 to 15 together, got {integer_bits} and {fraction_bits}"
        )
    exponent = integer_bits - 1  # of the largest element, 2^integer_bits less one step
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
    """The format of that name; "bfp5_16" is 5 bits an element in blocks of 16, "q3.4" 3 bits before the binary point
    and 4 after it; "msfp12:truncate" is MSFP12 with that rounding. Raises ValueError naming the choices."""
    if isinstance(format, Format):
        return format
    name, _, mode = str(format).partition(":")
    bits, separator, block = name.removeprefix("bfp").partition("_")
    before, point, after = name.removeprefix("q").partition(".")
    if name in FORMATS:
        found = FORMATS[name]
    elif name.startswith("bfp") and separator and bits.isdigit() and block.isdigit():
        found = bfp(int(block), int(bits))
    elif name.startswith("q") and point and before.isdigit() and after.isdigit():
        found = fixed_point(int(before), int(after))
    else:
        raise ValueError(
            f"unknown format {format!r}: choose one of {', '.join(FORMATS)}, bfpBITS_BLOCK such as bfp5_16, or "
            "qBEFORE.AFTER such as q2.5"
        )
    return dataclasses.replace(found, name=str(format), rounding=mode) if mode else found  # type: ignore[arg-type]
