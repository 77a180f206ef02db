"""Signal to noise by bits, by block size and by hardware cost (Rouhani et al. 2020 and 2023)."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compression.block_float.block_model import qsnr
from compression.block_float.formats import FORMATS, Format, Integer
from compression.block_float.quantise import quantize
from figures.block_float import common
from figures.block_float.common import FAMILIES, NAMED, family_of, published
from figures.lab.claims import Claim, Verdict, judged
from figures.lab.presets import NONE, presets
from figures.lab.runs import Models
from figures.lab.style import BLUE, GREY, SKY
from figures.lab.tables import pick

TITLE = "Signal to noise by bits per element, block size and hardware cost (Rouhani et al. 2020, 2023)"
DIFFERS = (
    "Numbers are normal; their scale itself is drawn for each vector of 1,024 as |N(0, 1)|, as in Rouhani et al. 2023. "
    "Rounding is to nearest even; MSFP's paper truncates, and the rows hold what that costs. The lower bound is "
    "Rouhani et al.'s for formats with integer elements, of whatever distribution. Formats of a whole tensor get one "
    "scale for each vector here. The hardware cost of MSFP (filled points) is the area that its paper's table gives. "
    "The hollow points are a model: a parabola in the digits of an element, fitted to the reciprocals of those six "
    "densities, gives other formats with integer elements a cost by their digits alone, without what microexponents "
    "add. It says nothing of elements with exponents of their own, which are left out. The draw of two million numbers "
    "is one, so there are no intervals. A published distance *holds* within 0.5 dB (within 2 dB of the 16 dB above "
    "FP8) and holds *partly* within twice as much; the slope *holds* within 0.1 dB per bit; an order and a bound "
    "*hold* or *fail*."
)
PUBLISHED = common.PUBLISHED
SIZED = ("mx9", "msfp16", "mxfp8_e4m3", "msfp14", "mx6", "mxfp4", "msfp12", "mx4")
MSFP = FAMILIES["MSFP"].formats


class Sizes(NamedTuple):
    vectors: int = 2000
    length: int = 1024
    block_sizes: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256)
    sized: tuple[str, ...] = SIZED  # formats whose block size is changed
    sub_blocks: tuple[int, ...] = (8, 4, 2)


PRESETS = presets(NONE, quick=Sizes(), small=Sizes(), paper=Sizes())
Row = tuple[str, str, float, float]


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity, format, x, value (dB).

    Quantities: qsnr and truncated (x: bits per element), bound, block size and its bound (x: elements in a block,
    format's but for that) and sub-block (x: elements in one, mx9's but for that).
    """
    rng = np.random.default_rng(0)
    scale = (sizes.vectors, 1)
    x = (rng.normal(size=(sizes.vectors, sizes.length)) * np.abs(rng.normal(size=scale))).astype(np.float32)
    rows = [*format_rows(x), *block_size_rows(x, sizes.sized, sizes.block_sizes)]
    for n in sizes.sub_blocks:
        format = Format("mx9", Integer(7), block=16, sub_block=n)
        rows.append(("sub-block", "mx9", float(n), qsnr(x, quantize(x, format))))
    return pd.DataFrame(rows, columns=["quantity", "format", "x", "value"])


def format_rows(x: Float[np.ndarray, "N L"]) -> Iterator[Row]:
    """Every format as it is, its bound, and MSFP truncated."""
    for name in NAMED:
        format = FORMATS[name]
        quantised = functools.partial(quantize, format=format)
        rounded = quantised(x) if format.block else jax.vmap(quantised)(x)
        yield "qsnr", name, format.average_bits, qsnr(x, rounded)
        if format.block and isinstance(format.element, Integer):
            yield "bound", name, format.average_bits, bound(format, x.shape[1])
        if name in MSFP:
            yield "truncated", name, format.average_bits, qsnr(x, quantize(x, format, rounding="truncate"))


def block_size_rows(x: Float[np.ndarray, "N L"], names: tuple[str, ...], block_sizes: tuple[int, ...]) -> Iterator[Row]:
    """Formats with other block sizes, and their bounds."""
    for name in names:
        for n in block_sizes:
            format = dataclasses.replace(FORMATS[name], block=n)
            yield "block size", name, float(n), qsnr(x, quantize(x, format))
            if isinstance(format.element, Integer):
                yield "bound by block size", name, float(n), bound(format, x.shape[1])


def bound(format: Format, length: int) -> float:
    """The least QSNR of a format with integer elements, dB (Rouhani et al. 2023, theorem 1)."""
    assert isinstance(format.element, Integer) and format.block
    beta = 1 if format.sub_block else 0  # 2^d2 - 1 with d2 = 1 bit, or none
    spread = 4.0**beta
    sub_block = format.sub_block or 1
    return 6.02 * format.element.magnitude + 10 * float(
        np.log10(spread / (min(length, format.block) + (spread - 1) * sub_block))
    )


def by_format(rows: pd.DataFrame, quantity: str) -> pd.Series:
    return pick(rows, quantity=quantity).set_index("format").value


def plot(rows: pd.DataFrame) -> Figure:
    figure, (bits, sizes, cost) = plt.subplots(1, 3, figsize=(15, 5.2), width_ratios=(1.4, 1.1, 1))
    draw_bits(bits, rows)
    draw_block_sizes(sizes, rows)
    draw_cost(cost, by_format(rows, "qsnr"))
    return figure


def draw_bits(panel: Axes, rows: pd.DataFrame) -> None:
    """Every format by its bits, the bounds, and the best for its bits."""
    for label, (colour, marker, names) in FAMILIES.items():
        joined = label in ("MSFP", "SMX")
        line, least = (pick(rows, quantity=q) for q in ("qsnr", "bound"))
        line, least = line[line.format.isin(names)], least[least.format.isin(names)]
        panel.plot(line.x, line.value, color=colour, marker=marker, ls="-" if joined else "", label=label)
        panel.plot(least.x, least.value, "_", ms=9, color=colour)
        for row in line.to_dict("records"):
            below = joined or (label == "OCP MX" and row["x"] > 7)
            side, offset = ("left", (6, -8)) if below else ("right", (-6, 2))
            panel.annotate(short(row["format"]), (row["x"], row["value"]), offset, textcoords="offset points", size=7,
                           color=colour, ha=side)  # fmt: skip
    known, theory = by_format(rows, "qsnr"), np.array([3.5, 9.0])
    panel.plot([], [], "_", color="black", ms=9, label="least possible, in theory")
    panel.plot(theory, known["msfp11"] + 6.02 * (theory - 3.5), ":", color=GREY, lw=1, label="6.02 dB per bit")
    front = pick(rows, quantity="qsnr").sort_values("x")[lambda line: line.value == line.value.cummax()]
    panel.step(front.x, front.value, where="post", color=GREY, lw=0.8, zorder=0, label="best for its bits")
    above = [known[other] + published(f"qsnr above {other}")["mx9"] for other in ("msfp16", "fp8_e4m3")]
    panel.plot([9, 9], above, "s", mfc="white", color=GREY, label="MX9 by its published distances")
    panel.set(xlabel="bits per element", ylabel="signal to noise, dB", title="all formats")
    panel.legend(loc="upper left", fontsize=8)


def short(format: str) -> str:
    """The name without its family's."""
    for beginning in ("msfp", "mx", "fp8_", "fp6_"):
        format = format.removeprefix(beginning)
    return format


def draw_block_sizes(panel: Axes, rows: pd.DataFrame) -> None:
    """Each format with other block sizes, named at its line's end, and the least that theory allows."""
    ends: dict[str, float] = {}
    sized, bounds = (pick(rows, quantity=quantity) for quantity in ("block size", "bound by block size"))
    for name in sized.format.unique():
        colour, marker, _ = FAMILIES[family_of(name)]
        line, least = pick(sized, format=name), pick(bounds, format=name)
        panel.plot(line.x, line.value, marker=marker, ms=4, color=colour)
        panel.plot(least.x, least.value, ":", lw=0.8, color=colour)
        ends[name] = line.value.iloc[-1]
    ticks = [int(x) for x in sized.x.unique()]
    height = np.inf
    for name in sorted(ends, key=ends.__getitem__, reverse=True):
        height = min(ends[name], height - 1.8)  # below the name before
        panel.annotate(name, (ticks[-1], height), (8, -3), textcoords="offset points", size=8,
                       color=FAMILIES[family_of(name)].colour)  # fmt: skip
    panel.plot([], [], ":", color="black", label="least possible, in theory")
    panel.set(xscale="log", xlabel="elements in a block", ylabel="signal to noise, dB", title="block size",
              xlim=(ticks[0] / 1.3, ticks[-1] * 6))  # fmt: skip
    panel.set_xticks(ticks, labels=map(str, ticks))
    panel.minorticks_off()
    panel.legend(loc="lower left", fontsize=8)


def draw_cost(panel: Axes, noise: pd.Series) -> None:
    """Signal to noise against multiply-accumulate density: MSFP's published, other integer elements' by the model."""
    area, memory = published("mac density"), published("memory density")
    names = list(area.index)
    panel.plot(area[names], noise[names], "o-", color=BLUE, label="MSFP, published")
    panel.plot(memory[names], noise[names], ".--", color=SKY, label="MSFP, memory, published")
    modelled = [name for name, format in FORMATS.items() if isinstance(format.element, Integer) and format.block]
    modelled = [name for name in modelled if name not in names]
    for name in modelled:
        colour, marker, _ = FAMILIES[family_of(name)]
        panel.plot(modelled_density(name), noise[name], marker, mfc="white", color=colour)
    panel.plot([], [], "o", mfc="white", color="black", label="others, by the model")
    for name in (*names, *modelled):
        place = (area[name] if name in names else modelled_density(name), noise[name])
        panel.annotate(name.removeprefix("msfp"), place, (6, -2), textcoords="offset points", size=7)
    panel.set(xscale="log", xlabel="density, float32 = 1", title="hardware (Rouhani et al. 2020)", xlim=(3.3, 110))
    panel.set_ylabel("signal to noise (ours), dB")
    panel.set_xticks([4, 10, 20, 50], labels=["4", "10", "20", "50"])
    panel.minorticks_off()
    panel.legend(loc="upper right", fontsize=8)


def modelled_density(name: str) -> float:
    """Multiply-accumulate density of integer elements: a parabola in their digits through MSFP's published areas."""
    area = published("mac density")
    digits = [FORMATS[known].element.bits - 1 for known in map(str, area.index)]
    return float(1 / np.polyval(np.polyfit(digits, 1 / area.to_numpy(), 2), FORMATS[name].element.bits - 1))


def near(distance: float, stated: float, allowed: float) -> Verdict:
    """Holds within the allowed distance from a stated number, partly within twice as much."""
    return judged(abs(distance - stated) <= allowed, abs(distance - stated) <= 2 * allowed)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Distances between formats, decibels per bit, the bound."""
    return [
        distance_claim(rows, "msfp16", 0.5),
        distance_claim(rows, "fp8_e4m3", 2.0),
        order_claim(rows),
        slope_claim(rows),
        bound_claim(rows),
        sub_block_claim(rows),
    ]


def distance_claim(rows: pd.DataFrame, other: str, allowed: float) -> Claim:
    known, stated = by_format(rows, "qsnr"), published(f"qsnr above {other}")["mx9"]
    gap = known["mx9"] - known[other]
    return Claim(
        f"MX9 is about {stated:g} dB above {other}",
        f"about {stated:g} dB (Rouhani et al. 2023)",
        f"{gap:.2f} dB",
        near(gap, stated, allowed),
        headline=other == "msfp16",
    )


def order_claim(rows: pd.DataFrame) -> Claim:
    low, middle, high = (by_format(rows, "qsnr")[name] for name in ("fp8_e5m2", "mx6", "fp8_e4m3"))
    return Claim(
        "MX6 lies between FP8's E4M3 and E5M2",
        "between them (Rouhani et al. 2023)",
        f"E5M2 {low:.1f}, MX6 {middle:.1f}, E4M3 {high:.1f} dB",
        judged(low < middle < high),
    )


def slope_claim(rows: pd.DataFrame) -> Claim:
    slope = np.polyfit([7, 6, 5, 4, 3, 2], by_format(rows, "qsnr")[list(MSFP)], 1)[0]
    return Claim(
        "a bit more is worth 6.02 dB",
        "6.02 dB per bit (Rouhani et al. 2023, theorem 1)",
        f"{slope:.2f} dB per bit over MSFP11 to 16",
        judged(abs(slope - 6.02) < 0.1),
    )


def bound_claim(rows: pd.DataFrame) -> Claim:
    least = by_format(rows, "bound")
    margin = (by_format(rows, "qsnr")[least.index] - least).min()
    return Claim(
        "the formats with integer elements stay above their lower bound (normal numbers here)",
        "theorem 1 (Rouhani et al. 2023)",
        f"{margin:.1f} dB or more above it over {len(least)} formats",
        judged(margin > 0),
    )


def sub_block_claim(rows: pd.DataFrame) -> Claim:
    known = pick(rows, quantity="sub-block").set_index("x").value
    gain = known[2.0] - known[8.0]
    return Claim(
        "sub-blocks of 2 instead of 8 are worth 2 dB",
        "+2 dB (Rouhani et al. 2023)",
        f"{gain:.2f} dB",
        near(gain, 2, 0.5),
    )
