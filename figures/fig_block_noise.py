"""Signal to noise by bits, by block size and by hardware cost (Rouhani et al. 2020 and 2023)."""

import functools

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from compression.block_float import quantize
from compression.block_model import qsnr
from compression.formats import FORMATS, Format, Integer
from figures import blocks
from figures.blocks import FAMILIES, NAMED, family
from figures.claims import Claim, judged
from figures.recipes import Recipe, Wanted

TITLE = "Signal to noise by bits an element, block size and hardware cost (Rouhani et al. 2020, 2023)"
DIFFERS = (
    "Numbers are normal, their scale itself drawn for each vector of 1,024 as |N(0, 1)|, as in Rouhani et al. 2023. "
    "Rounding is to nearest even; MSFP's paper truncates, which costs about 6 dB at 7 bits. The lower bound is Rouhani "
    "et al.'s for formats with integer elements, of whatever distribution. Formats of a whole tensor are given one "
    "scale for each vector here. The hardware cost is the area that the MSFP paper's table gives its own formats; it "
    "gives none for the others, and no cost was found that is measured alike for all, so that panel has MSFP only."
)
PUBLISHED = blocks.PUBLISHED
VECTORS, LENGTH = 2000, 1024
BLOCK_SIZES = (4, 8, 16, 32, 64, 128, 256)
BITS = (8, 6, 4)
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
    """Rows: quantity, format, x, value (dB). Quantities: qsnr and truncated (x: bits an element), bound, block size
    (x: elements in a block, format: sign and digits) and sub-block (x: elements in one, format mx9's but for that)."""
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
    for bits in BITS:
        rows += [("block size", f"{bits} bits", float(n), qsnr(x, quantize(x, f"bfp{bits}_{n}"))) for n in BLOCK_SIZES]
    for n in SUB_BLOCKS:
        rows.append(
            ("sub-block", "mx9", float(n), qsnr(x, quantize(x, Format("mx9", Integer(7), block=16, sub_block=n))))
        )
    table = pd.DataFrame(rows, columns=["quantity", "format", "x", "value"])
    table.attrs["models"] = []
    return table


def plot(rows: pd.DataFrame) -> Figure:
    figure, (bits, sizes, cost) = plt.subplots(1, 3, figsize=(14, 4.6), width_ratios=(1.5, 1, 1))
    for label, (colour, marker, names) in FAMILIES.items():
        for quantity, style in (("qsnr", {"marker": marker, "ls": "-" if label in ("MSFP", "SMX") else ""}),
                                ("bound", {"marker": "_", "ls": "", "ms": 9})):  # fmt: skip
            line = rows[(rows.quantity == quantity) & rows.format.isin(names)]
            bits.plot(line.x, line.value, color=colour, label=label if quantity == "qsnr" else None, **style)
            for _, row in line[line.quantity == "qsnr"].iterrows():
                side, at = ("right", (-6, -3)) if label == "whole tensor" else ("left", (6, -8))
                short = row.format.removeprefix("msfp").removeprefix("mx").removeprefix("fp8_").removeprefix("fp6_")
                bits.annotate(short, (row.x, row.value), at, textcoords="offset points", size=7, color=colour, ha=side)
    bits.plot([], [], "_", color="black", ms=9, label="least possible, in theory")
    theory = np.array([3.5, 9.0])
    start = float(rows[(rows.quantity == "qsnr") & (rows.format == "msfp11")].value.iloc[0])
    bits.plot(theory, start + 6.02 * (theory - 3.5), ":", color="#777777", lw=1, label="6.02 dB a bit")
    bits.set(xlabel="bits an element", ylabel="signal to noise, dB", title="all formats")
    bits.legend(loc="upper left")
    for n, colour in zip(BITS, ("#0072B2", "#009E73", "#D55E00"), strict=True):
        line = rows[(rows.quantity == "block size") & (rows.format == f"{n} bits")]
        sizes.plot(line.x, line.value, "o-", color=colour, label=f"{n} bits, sign included")
    sizes.set(xscale="log", xlabel="elements in a block", ylabel="signal to noise, dB", title="block size")
    sizes.set_xticks(BLOCK_SIZES, labels=map(str, BLOCK_SIZES))
    sizes.minorticks_off()
    sizes.legend(loc="center right", bbox_to_anchor=(1, 0.62))
    area, memory = blocks.published("mac density"), blocks.published("memory density")
    noise = rows[(rows.quantity == "qsnr") & rows.format.isin(area.index)].set_index("format").value
    cost.plot(area[noise.index], noise, "o-", color="#0072B2", label="multiply-accumulate")
    cost.plot(memory[noise.index], noise, "s--", color="#E69F00", label="memory")
    for name in map(str, noise.index):
        place = (area[name], noise[name])
        cost.annotate(name.removeprefix("msfp"), place, (5, 3), textcoords="offset points", size=8)
    cost.set(xscale="log", xlabel="density, float32 = 1 (Rouhani et al. 2020)", title="MSFP: what is gained in area")
    cost.set_ylabel("signal to noise (ours), dB")
    cost.set_xticks([4, 10, 20, 50], labels=["4", "10", "20", "50"])
    cost.minorticks_off()
    cost.legend(loc="upper right")
    return figure


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
            "no distribution of numbers brings the formats with integer elements below the bound",
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
