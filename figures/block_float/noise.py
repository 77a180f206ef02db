"""Signal to noise by bits, by block size and by hardware cost (Rouhani et al. 2020 and 2023)."""

import dataclasses
import functools

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from compression.block_float.block_model import qsnr
from compression.block_float.formats import FORMATS, Format, Integer
from compression.block_float.quantise import quantize
from figures import blocks
from figures.blocks import FAMILIES, NAMED, family
from figures.claims import Claim, judged
from figures.recipes import Recipe, Wanted

TITLE = "Signal to noise by bits an element, block size and hardware cost (Rouhani et al. 2020, 2023)"
DIFFERS = (
    "Numbers are normal, their scale itself drawn for each vector of 1,024 as |N(0, 1)|, as in Rouhani et al. 2023. "
    "Rounding is to nearest even; MSFP's paper truncates, which costs about 6 dB at 7 bits. The lower bound is Rouhani "
    "et al.'s for formats with integer elements, of whatever distribution. Formats of a whole tensor are given one "
    "scale for each vector here. The hardware cost of MSFP is the area that its paper's table gives; filled points. "
    "The hollow ones are a model: a parabola in the digits of an element, fitted to the reciprocals of those six "
    "densities, gives other formats with integer elements a cost by their digits alone, without what microexponents "
    "add. It has nothing to say of elements with exponents of their own, which are left out."
)
PUBLISHED = blocks.PUBLISHED
VECTORS, LENGTH = 2000, 1024
BLOCK_SIZES = (4, 8, 16, 32, 64, 128, 256)
SIZED = ("mx9", "msfp16", "mxfp8_e4m3", "msfp14", "mx6", "mxfp4", "msfp12", "mx4")
SUB_BLOCKS = (8, 4, 2)


def wanted(recipe: Recipe) -> Wanted:
    return Wanted({}, ())


def bound(format: Format, length: int) -> float:
    """The least QSNR of a format with integer elements, dB (Rouhani et al. 2023, theorem 1)."""
    assert isinstance(format.element, Integer) and format.block
    beta = 1 if format.sub_block else 0  # 2^d2 - 1 with d2 = 1 bit, or none
    spread = 4.0**beta
    sub_block = format.sub_block or 1
    return 6.02 * format.element.magnitude + 10 * float(
        np.log10(spread / (min(length, format.block) + (spread - 1) * sub_block))
    )


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: quantity, format, x, value (dB). Quantities: qsnr and truncated (x: bits an element), bound, block size and
    its bound (x: elements in a block, format's but for that) and sub-block (x: elements in one, mx9's but for that)."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(VECTORS, LENGTH)) * np.abs(rng.normal(size=(VECTORS, 1)))).astype(np.float32)
    rows: list[tuple[str, str, float, float]] = []
    for name in NAMED:
        format = FORMATS[name]
        quantised = functools.partial(quantize, format=format)
        rounded = quantised(x) if format.block else jax.vmap(quantised)(x)
        rows.append(("qsnr", name, format.average_bits, qsnr(x, rounded)))
        if format.block and isinstance(format.element, Integer):
            rows.append(("bound", name, format.average_bits, bound(format, LENGTH)))
        if family(name) == "MSFP":
            rows.append(("truncated", name, format.average_bits, qsnr(x, quantize(x, format, rounding="truncate"))))
    for name in SIZED:
        for n in BLOCK_SIZES:
            format = dataclasses.replace(FORMATS[name], block=n)
            rows.append(("block size", name, float(n), qsnr(x, quantize(x, format))))
            if isinstance(format.element, Integer):
                rows.append(("bound by block size", name, float(n), bound(format, LENGTH)))
    for n in SUB_BLOCKS:
        rows.append(
            ("sub-block", "mx9", float(n), qsnr(x, quantize(x, Format("mx9", Integer(7), block=16, sub_block=n))))
        )
    table = pd.DataFrame(rows, columns=["quantity", "format", "x", "value"])
    table.attrs["models"] = []
    return table


def plot(rows: pd.DataFrame) -> Figure:
    figure, (bits, sizes, cost) = plt.subplots(1, 3, figsize=(15, 5.2), width_ratios=(1.4, 1.1, 1))
    for label, (colour, marker, names) in FAMILIES.items():
        for quantity, style in (("qsnr", {"marker": marker, "ls": "-" if label in ("MSFP", "SMX") else ""}),
                                ("bound", {"marker": "_", "ls": "", "ms": 9})):  # fmt: skip
            line = rows[(rows.quantity == quantity) & rows.format.isin(names)]
            bits.plot(line.x, line.value, color=colour, label=label if quantity == "qsnr" else None, **style)
            for _, row in line[line.quantity == "qsnr"].iterrows():
                below = label in ("MSFP", "SMX") or (label == "OCP MX" and row.x > 7)
                side, at = ("left", (6, -8)) if below else ("right", (-6, 2))
                short = row.format.removeprefix("msfp").removeprefix("mx").removeprefix("fp8_").removeprefix("fp6_")
                bits.annotate(short, (row.x, row.value), at, textcoords="offset points", size=7, color=colour, ha=side)
    bits.plot([], [], "_", color="black", ms=9, label="least possible, in theory")
    theory = np.array([3.5, 9.0])
    start = float(rows[(rows.quantity == "qsnr") & (rows.format == "msfp11")].value.iloc[0])
    bits.plot(theory, start + 6.02 * (theory - 3.5), ":", color="#777777", lw=1, label="6.02 dB a bit")
    measured = rows[rows.quantity == "qsnr"]
    front = measured.sort_values("x")[lambda line: line.value == line.value.cummax()]
    bits.step(front.x, front.value, where="post", color="#777777", lw=0.8, zorder=0, label="best for its bits")
    known = measured.set_index("format").value
    above = [known[other] + blocks.published(f"qsnr above {other}")["mx9"] for other in ("msfp16", "fp8_e4m3")]
    bits.plot([9, 9], above, "s", mfc="white", color="#777777", label="MX9 by its published distances")
    bits.set(xlabel="bits an element", ylabel="signal to noise, dB", title="all formats")
    bits.legend(loc="upper left", fontsize=8)
    draw_block_sizes(sizes, rows)
    draw_cost(cost, known)
    return figure


def draw_block_sizes(panel: Axes, rows: pd.DataFrame) -> None:
    """Each format with other block sizes, named at its line's end, and the least that theory allows."""
    ends: dict[str, float] = {}
    for name in SIZED:
        colour, marker, _ = FAMILIES[family(name)]
        line, least = (
            rows[(rows.quantity == q) & (rows.format == name)] for q in ("block size", "bound by block size")
        )
        panel.plot(line.x, line.value, marker=marker, ms=4, color=colour)
        panel.plot(least.x, least.value, ":", lw=0.8, color=colour)
        ends[name] = line.value.iloc[-1]
    height = np.inf
    for name in sorted(ends, key=ends.__getitem__, reverse=True):
        height = min(ends[name], height - 1.8)  # below the name before
        panel.annotate(name, (BLOCK_SIZES[-1], height), (8, -3), textcoords="offset points", size=8,
                       color=FAMILIES[family(name)][0])  # fmt: skip
    panel.plot([], [], ":", color="black", label="least possible, in theory")
    panel.set(xscale="log", xlabel="elements in a block", ylabel="signal to noise, dB", title="block size",
              xlim=(BLOCK_SIZES[0] / 1.3, BLOCK_SIZES[-1] * 6))  # fmt: skip
    panel.set_xticks(BLOCK_SIZES, labels=map(str, BLOCK_SIZES))
    panel.minorticks_off()
    panel.legend(loc="lower left", fontsize=8)


def draw_cost(panel: Axes, noise: pd.Series) -> None:
    """Signal to noise against multiply-accumulate density: MSFP's published, other integer elements' by the model."""
    area, memory = blocks.published("mac density"), blocks.published("memory density")
    names = list(area.index)
    panel.plot(area[names], noise[names], "o-", color="#0072B2", label="MSFP, published")
    panel.plot(memory[names], noise[names], ".--", color="#56B4E9", label="MSFP, memory, published")
    modelled = [name for name, format in FORMATS.items() if isinstance(format.element, Integer) and format.block]
    modelled = [name for name in modelled if name not in names]
    for name in modelled:
        colour, marker, _ = FAMILIES[family(name)]
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
    area = blocks.published("mac density")
    digits = [FORMATS[known].element.bits - 1 for known in map(str, area.index)]
    return float(1 / np.polyval(np.polyfit(digits, 1 / area.to_numpy(), 2), FORMATS[name].element.bits - 1))


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Distances between formats, decibels a bit, the bound."""
    value = rows[rows.quantity == "qsnr"].set_index("format").value
    table = []
    for other, allowed in (("msfp16", 0.5), ("fp8_e4m3", 2.0)):
        stated = blocks.published(f"qsnr above {other}")["mx9"]
        gap = value["mx9"] - value[other]
        table.append(
            Claim(
                f"MX9 is about {stated:g} dB above {other}",
                f"about {stated:g} dB (Rouhani et al. 2023)",
                f"{gap:.2f} dB",
                judged(abs(gap - stated) <= allowed, gap > 0),
            )
        )
    table.append(
        Claim(
            "MX6 lies between FP8's E4M3 and E5M2",
            "between them (Rouhani et al. 2023)",
            f"{value['fp8_e5m2']:.1f} < {value['mx6']:.1f} < {value['fp8_e4m3']:.1f} dB",
            judged(value["fp8_e5m2"] < value["mx6"] < value["fp8_e4m3"]),
        )
    )
    slope = np.polyfit([7, 6, 5, 4, 3, 2], [value[f"msfp{n}"] for n in (16, 15, 14, 13, 12, 11)], 1)[0]
    table.append(
        Claim(
            "a bit more is worth 6.02 dB",
            "6.02 dB a bit (Rouhani et al. 2023, theorem 1)",
            f"{slope:.2f} dB a bit over MSFP11 to 16",
            judged(abs(slope - 6.02) < 0.1),
        )
    )
    least = rows[rows.quantity == "bound"].set_index("format").value
    margin = (value[least.index] - least).min()
    table.append(
        Claim(
            "the formats with integer elements stay above their lower bound (normal numbers here)",
            "theorem 1 (Rouhani et al. 2023)",
            f"{margin:.1f} dB or more above it over {len(least)} formats",
            judged(margin > 0),
        )
    )
    sub = rows[rows.quantity == "sub-block"].set_index("x").value
    table.append(
        Claim(
            "sub-blocks of 2 instead of 8 are worth 2 dB",
            "+2 dB (Rouhani et al. 2023)",
            f"{sub[2.0] - sub[8.0]:.2f} dB",
            judged(abs(sub[2.0] - sub[8.0] - 2) <= 0.5, sub[2.0] > sub[8.0]),
        )
    )
    return table
