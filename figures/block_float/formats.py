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
from figures.lab.style import BLACK, BLUE, GREY, ORANGE, PINK, PUBLISHED_LINE, RANGE, SKY, WIDTH, YELLOW, legend_below
from figures.lab.tables import pick

TITLE = "Block floating point formats, bit by bit, and the product of two blocks"
DIFFERS = (
    "Bits per element are computed from the format's parts and, as a check, measured: numbers are encoded, packed to "
    "bytes and counted. The papers' figures are of hardware; here the operations of a product are counted as the "
    "integer product makes them, not built. A float32 multiplication adds exponents itself. The saving is that one "
    "addition of exponents serves a whole block, and that products and sums inside it are of small integers. MSFP's "
    f"densities, multiply-accumulate units on an area and numbers in a memory, are {UNVERIFIED}. In the right panel "
    "they stand as hollow points. The filled points are a model: a parabola in the digits of an element, fitted to the "
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
SHADES = (BLACK, YELLOW, RANGE, SKY, "#00507a")  # of the fields; other colours are of families
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
    figure, (bits, cost) = plt.subplots(1, 2, figsize=(WIDTH, 5.6), width_ratios=(1.3, 1))
    draw_bits(bits, pick(rows, quantity="field"))
    draw_cost(cost, pick(rows, quantity="qsnr").set_index("format").value)
    legend_below(figure, bits, 3, fontsize=8)
    packed = pick(rows, format=COUNTED, quantity="packed").value.iloc[0]
    figure.suptitle(f"{COUNTED.upper()} takes {packed:g} bits a number, for {FORMATS[COUNTED].block} numbers share an "
                    "exponent", size=11)  # fmt: skip
    return figure


def draw_bits(panel: Axes, rows: pd.DataFrame) -> None:
    """A bar for each format in fields, family by family."""
    groups = {"nothing shared": SINGLE} | {label: family.formats for label, family in FAMILIES.items()}
    places: dict[str, float] = {}
    place = 0.0
    for label, names in groups.items():
        colour = FAMILIES[label].colour if label in FAMILIES else BLACK
        panel.annotate(label, (0.99, place - len(names) + 1), xycoords=("axes fraction", "data"), size=9, color=colour,
                       ha="right", va="center")  # fmt: skip
        places |= {name: place - number for number, name in enumerate(names)}
        place -= len(names) + 0.7
    left = pd.Series(0.0, index=list(places))
    for part, colour in zip(FIELDS, SHADES, strict=True):
        widths = pick(rows, part=part).set_index("format").value[left.index]
        panel.barh(list(places.values()), widths, left=left, color=colour, edgecolor="white", label=part)
        left += widths
    for name, total in left.items():
        panel.text(total + 0.1, places[str(name)], f"{total:g}", va="center", size=8)
    panel.set_yticks(list(places.values()), labels=[name.upper() for name in places], size=8)
    panel.set(xlabel="bits per number", xlim=(0, 17.5), ylim=(place + 1, 0.9), title="what the bits hold")
    panel.grid(axis="y", visible=False)


def draw_cost(panel: Axes, noise: pd.Series) -> None:
    """Signal to noise against density: MSFP's published, other integer elements' by the model."""
    area, memory = published("mac density"), published("memory density")
    for label, density, colour in (("multipliers*", area, FAMILIES["MSFP"].colour), ("memory*", memory, GREY)):
        line = noise[density.index]
        panel.plot(density, line, **PUBLISHED_LINE | {"color": colour})
        panel.annotate(label, (density.iloc[-1], line.iloc[-1]), (0, -12), textcoords="offset points", size=8,
                       color=colour, ha="center")  # fmt: skip
    for name in noise.index:
        colour, marker, _ = FAMILIES[family_of(name)]
        known = name in area.index
        place = (area[name] if known else modelled_density(name), noise[name])
        if not known:
            panel.plot(*place, marker, color=colour)
        panel.annotate(name.upper(), place, (7, 2 if known else -3), textcoords="offset points", size=8, color=colour)
    panel.set(
        xscale="log",
        xlabel=f"density, float32 = 1 (filled: modeled)\n* {UNVERIFIED}",
        title="what hardware gains",
        xlim=(3, 200),
    )
    panel.set_ylabel("signal to noise (ours), dB")
    panel.set_xticks([5, 10, 20, 50, 100], labels=["5", "10", "20", "50", "100"])
    panel.minorticks_off()


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
