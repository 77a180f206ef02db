"""The formats bit by bit, and what the product of two blocks takes (Rouhani et al. 2020, MSFP)."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compression.block_float import block_packing
from compression.block_float.block_model import qsnr
from compression.block_float.datapath import Operations, count_operations, integer_matmul
from compression.block_float.formats import FORMATS, Format, Integer
from compression.block_float.quantise import encode, quantize
from figures.block_float import common
from figures.block_float.common import FAMILIES, NAMED, UNVERIFIED, family_of, published
from figures.lab.claims import Claim
from figures.lab.presets import NONE, presets
from figures.lab.runs import Models
from figures.lab.style import BLACK, BLUE, GREY, ORANGE, PINK, SKY, YELLOW
from figures.lab.tables import pick

TITLE = "Block floating point formats, bit by bit, and the product of two blocks"
DIFFERS = (
    "Bits per element are computed from the format's parts and, as a check, measured: numbers are encoded, packed to "
    "bytes and counted. The papers' figures are of hardware; here the operations of a product are counted as the "
    "integer product makes them, not built. A float32 multiplication adds exponents itself. The saving is that one "
    "addition of exponents serves a whole block, and that products and sums inside it are of small integers. MSFP's "
    f"densities, multiply-accumulate units on an area and numbers in a memory, are {UNVERIFIED}. In the last panel "
    "they stand as filled points. The hollow points are a model: a parabola in the digits of an element, fitted to the "
    "reciprocals of those areas, gives other formats with integer elements a cost by their digits alone, without what "
    "microexponents add. Formats whose elements have exponents are left out. What is counted here is arithmetic and "
    "could not come out otherwise, and the densities cannot be verified: no claim is judged."
)
PUBLISHED = common.PUBLISHED
SINGLE = ("bf16", "fp16", "q3.4")  # numbers that share nothing, or only what the format says
FIELDS = {
    "sign": BLACK,
    "own exponent": YELLOW,
    "digits": BLUE,
    "shared exponent, a block's share": ORANGE,
    "microexponent, a pair's share": PINK,
}
FLOAT32 = (1, 8, 23, 0.0, 0.0)  # its bits by FIELDS: no format of blocks
COUNTED = "msfp12"  # the format of the product


class Sizes(NamedTuple):
    numbers: int = 2**16  # that are packed
    product: tuple[int, int, int] = (64, 256, 64)  # rows, inner, columns


PRESETS = presets(NONE, quick=Sizes(), small=Sizes(), paper=Sizes())


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: format, quantity, part, value.

    Quantities: field (bits per element by FIELDS), computed and packed (bits per element), qsnr (of normal numbers, dB,
    formats with integer elements), and operations (of a product in MSFP blocks and in float32, by kind).
    """
    rows_of_product, inner, columns = sizes.product
    x = np.random.default_rng(0).normal(size=(sizes.numbers // inner, inner)).astype(np.float32)
    table = [row for name in NAMED for row in bit_rows(name, x)]
    table += [("float32", "field", part, bits) for part, bits in zip(FIELDS, FLOAT32, strict=True)]
    table += [(name, "field", part, bits) for name in SINGLE for part, bits in fields(FORMATS[name]).items()]
    a, b = x[:rows_of_product], x[-columns:].T
    in_blocks = integer_matmul(encode(a, COUNTED), encode(b, COUNTED, axis=0)).operations
    for name, counts in ((COUNTED, in_blocks), ("float32", count_operations(*sizes.product))):
        table += [(name, "operations", part, float(n)) for part, n in zip(Operations._fields, counts, strict=True)]
    return pd.DataFrame(table, columns=["format", "quantity", "part", "value"])


def bit_rows(name: str, x: np.ndarray) -> list[tuple[str, str, str, float]]:
    """Bits per element of a format: by field, in sum, and as packed; and its signal to noise."""
    format = FORMATS[name]
    size = sum(part.nbytes for part in block_packing.pack(encode(x, format)).values())
    rows = [(name, "field", part, bits) for part, bits in fields(format).items()]
    rows += [(name, "computed", "all", format.average_bits), (name, "packed", "all", 8 * size / x.size)]
    if isinstance(format.element, Integer) and format.block:
        rows.append((name, "qsnr", "all", qsnr(x, quantize(x, format))))
    return rows


def fields(format: Format) -> dict[str, float]:
    """Bits per element by what they hold, in the order of FIELDS."""
    element = format.element
    own, digits = (0, element.magnitude) if isinstance(element, Integer) else (element.exponent, element.mantissa)
    shared = 8 / format.block if format.block else 0.0
    return dict(zip(FIELDS, (1, own, digits, shared, 1 / format.sub_block if format.sub_block else 0.0), strict=True))


def plot(rows: pd.DataFrame) -> Figure:
    figure, panels = plt.subplot_mosaic(
        [["bits", "bits"], ["work", "cost"]], figsize=(7.5, 8.8), height_ratios=(1.35, 1)
    )
    block, bits = FORMATS[COUNTED].block, pick(rows, format=COUNTED, quantity="packed").value.iloc[0]
    figure.suptitle(f"{COUNTED.upper()}: {bits:g} bits a number, one sum of exponents for {block} products")
    draw_bits(panels["bits"], pick(rows, quantity="field"))
    panels["bits"].legend(fontsize=8, loc="lower right")
    draw_operations(panels["work"], pick(rows, quantity="operations"))
    draw_cost(panels["cost"], pick(rows, quantity="qsnr").set_index("format").value)
    return figure


def draw_bits(panel: Axes, rows: pd.DataFrame) -> None:
    """A bar for each format, in fields."""
    names = list(rows.format.unique())
    names = [*names[len(NAMED) :], *names[: len(NAMED)]][::-1]  # floating and fixed point first, then what shares
    left = np.zeros(len(names))
    for part, colour in FIELDS.items():
        widths = pick(rows, part=part).set_index("format").value[names]
        panel.barh(names, widths, left=left, color=colour, edgecolor="white", label=part)
        left += widths.to_numpy()
    for height, total in enumerate(left):
        panel.text(total + 0.1, height, f"{total:g}", va="center", size=8)
    panel.set(xlabel="bits per element", xlim=(0, 35))
    panel.tick_params(axis="y", labelsize=8)
    panel.grid(axis="y", visible=False)


def draw_operations(panel: Axes, rows: pd.DataFrame) -> None:
    """Operations by kind, each over the multiplications of the product, which float32 counts."""
    parts = list(Operations._fields)
    products = pick(rows, format="float32", part="float_products").value.iloc[0]
    for side, name, label, colour in ((-1, COUNTED, "blocks of 16", BLUE), (1, "float32", "float32", GREY)):
        counts = pick(rows, format=name).set_index("part").value[parts] / products
        place = np.arange(len(parts)) + side * 0.19
        panel.bar(place, counts, 0.36, color=colour, label=label)
        for x, value in zip(place, counts, strict=True):
            panel.text(x, value + 0.01, f"{value:.3g}", ha="center", size=7)
    panel.set_xticks(range(len(parts)), [part.replace("_", "\n") for part in parts], size=7)
    panel.set_ylabel("operations for each multiplication")
    panel.grid(axis="x", visible=False)
    panel.legend(loc="center", fontsize=8)  # above the sums of exponents, where bars are lowest


def draw_cost(panel: Axes, noise: pd.Series) -> None:
    """Signal to noise against multiply-accumulate density: MSFP's published, other integer elements' by the model."""
    area, memory = published("mac density"), published("memory density")
    names = list(area.index)
    panel.plot(area[names], noise[names], "o-", color=BLUE, label="MSFP, published*")
    panel.plot(memory[names], noise[names], ".--", color=SKY, label="MSFP, memory, published*")
    modelled = [name for name in noise.index if name not in names]
    for name in modelled:
        colour, marker, _ = FAMILIES[family_of(name)]
        panel.plot(modelled_density(name), noise[name], marker, mfc="white", color=colour)
    panel.plot([], [], "o", mfc="white", color="black", label="others, by the model")
    for name in (*names, *modelled):
        place = (area[name] if name in names else modelled_density(name), noise[name])
        panel.annotate(name.removeprefix("msfp"), place, (6, -2), textcoords="offset points", size=7)
    panel.set(xscale="log", xlabel="density, float32 = 1", title=f"* {UNVERIFIED}", xlim=(3.3, 110))
    panel.set_ylabel("signal to noise (ours), dB")
    panel.set_xticks([4, 10, 20, 50], labels=["4", "10", "20", "50"])
    panel.minorticks_off()
    panel.legend(loc="upper right", fontsize=7)


def modelled_density(name: str) -> float:
    """Multiply-accumulate density of integer elements: a parabola in their digits through MSFP's published areas."""
    area = published("mac density")
    digits = [FORMATS[known].element.bits - 1 for known in map(str, area.index)]
    return float(1 / np.polyval(np.polyfit(digits, 1 / area.to_numpy(), 2), FORMATS[name].element.bits - 1))


def claims(rows: pd.DataFrame) -> list[Claim]:
    """MSFP's densities beside what is counted here."""
    work = pick(rows, quantity="operations", format=COUNTED).set_index("part").value
    each = {kind: f"{work[kind] / work.integer_products:.3g}" for kind in ("integer_sums", "exponent_sums")}
    packed = pick(rows, quantity="packed").set_index("format").value
    area, memory = published("mac density"), published("memory density")
    return [
        Claim(
            "MSFP fits more multiply-accumulate units on an area than float32",
            f"{shown(area)} times as many ({UNVERIFIED})",
            f"no circuit; to each integer product {each['integer_sums']} integer sums and {each['exponent_sums']} sums "
            f"of exponents in {COUNTED}",
            [],
        ),
        Claim(
            "MSFP fits more numbers in a memory than float32",
            f"{shown(memory)} times as many ({UNVERIFIED})",
            f"{shown(32 / packed[memory.index])} times as many, by packed bytes",
            [],
        ),
    ]


def shown(values: pd.Series) -> str:
    return ", ".join(f"{value:.1f} ({name})" for name, value in values.items())
