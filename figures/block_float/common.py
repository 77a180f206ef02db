"""What the experiments with block floating point share: the families of formats, and published values."""

from typing import NamedTuple

import pandas as pd

from figures.lab import tables
from figures.lab.style import BLUE, GREEN, GREY, ORANGE, PINK

PUBLISHED = ("block_float.csv",)


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
    return next(name for name, family in FAMILIES.items() if format in family.formats)


def published(quantity: str) -> pd.Series:
    """Published values of a quantity by format."""
    return tables.published("block_float", quantity=quantity).set_index("format").value
