"""Signal to noise by bits and by block size (Rouhani et al. 2020 and 2023)."""

import dataclasses
from collections.abc import Callable
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
from figures.block_float.common import FAMILIES, NAMED, UNVERIFIED, above_bound, bound, published
from figures.lab.claims import Claim, between, exactly, near_zero, positive, show
from figures.lab.presets import NONE, presets
from figures.lab.runs import Models
from figures.lab.style import GREY, PUBLISHED_POINT, WIDTH, name_points
from figures.lab.tables import Table, as_estimate, only, over_seeds, pick
from icl_synth.estimates import Estimate

TITLE = "Signal to noise by bits per element and block size (Rouhani et al. 2020, 2023)"
DIFFERS = (
    "Each vector has a scale of its own, drawn as |N(0, 1)|: normal numbers, as in Rouhani et al. 2023, and beside "
    "them uniform ones, Laplace's and Student's t with 3 degrees of freedom. Intervals are over independent draws of "
    "many vectors, and differences between formats are paired by draw. Rounding is to nearest even; MSFP's paper "
    "truncates. Formats of a whole tensor get one float32 scale for each vector. Of normal numbers: MX9 above E4M3 is "
    "asked to lie within half a dB of the published 16, the last digit that the paper gives; MX6 is asked to lie "
    "above E5M2 and below E4M3. Theorem 1 bounds every vector from below, so each vector is held against it, and so "
    "is one that is made to come as near as it can. Our own questions: does MX6 keep its place for the other "
    "distributions, and is a bit of MSFP worth 6.02 dB, within 0.1, for all of them?"
)
PUBLISHED = common.PUBLISHED
SIZED = ("mx9", "msfp16", "mxfp8_e4m3", "msfp14", "mx6", "mxfp4", "msfp12", "mx4")
MSFP = FAMILIES["MSFP"].formats
BIT, BIT_MARGIN = 6.02, 0.1  # dB
NORMAL, WORST = "normal", "made for the bound"
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
DISTRIBUTIONS: dict[str, Draw] = {
    NORMAL: lambda rng, shape: rng.normal(size=shape),
    "uniform": lambda rng, shape: rng.uniform(-1, 1, shape),
    "Laplace": lambda rng, shape: rng.laplace(size=shape),
    "Student's t": lambda rng, shape: rng.standard_t(3, shape),
}
DISTANCES = {"msfp16": "mx9", "fp8_e4m3": "mx9", "fp8_e5m2": "mx6", "mx6": "fp8_e4m3"}  # lower: higher


class Sizes(NamedTuple):
    draws: int = 20
    vectors: int = 500  # in a draw
    length: int = 1024
    block_sizes: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256)
    sized: tuple[str, ...] = SIZED  # formats whose block size is changed
    sub_blocks: tuple[int, ...] = (8, 4, 2)


PRESETS = presets(NONE, quick=Sizes(draws=4), small=Sizes(), paper=Sizes())


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity, distribution, format, x; value in dB, the mean of the draws.

    Quantities: qsnr and bound (x: bits per element), above OTHER (paired), slope (of MSFP, dB a bit), least above bound
    (of any vector), block size and its bound (x: elements in a block, format's but for that), sub-block (x: elements in
    one, mx9's but for that) and gain of sub-blocks (of the smallest above the largest, paired).
    """
    table = Table("quantity", "distribution", "format", "x")
    for place, name in enumerate(DISTRIBUTIONS):
        add_formats(table, name, draws(name, place, sizes))
    for name in integer_formats():
        vector = common.worst_vector(FORMATS[name], sizes.length)[None]
        rounded = in_vectors(vector, FORMATS[name])
        table.add("least above bound", WORST, name, 0.0, values=above_bound(vector, rounded, FORMATS[name]))
    add_sizes(table, draws(NORMAL, 0, sizes), sizes)
    return table.rows()


def draws(name: str, place: int, sizes: Sizes) -> list[np.ndarray]:
    """Independent draws of vectors, each vector with its scale."""
    arrays = []
    for n in range(sizes.draws):
        rng = np.random.default_rng((place, n))
        numbers = DISTRIBUTIONS[name](rng, (sizes.vectors, sizes.length))
        arrays.append((numbers * np.abs(rng.normal(size=(sizes.vectors, 1)))).astype(np.float32))
    return arrays


def add_formats(table: Table, distribution: str, arrays: list[np.ndarray]) -> None:
    """Every format as it is, some beside each other, and the integer formats beside their bound."""
    noise = {}
    for name in NAMED:
        format = FORMATS[name]
        rounded = [in_vectors(x, format) for x in arrays]
        noise[name] = np.array([qsnr(x, y) for x, y in zip(arrays, rounded, strict=True)])
        table.add("qsnr", distribution, name, format.average_bits, values=noise[name])
        if name in integer_formats():
            least = min(above_bound(x, y, format).min() for x, y in zip(arrays, rounded, strict=True))
            table.add("least above bound", distribution, name, 0.0, values=np.array([least]))
            if distribution == NORMAL:
                limit = np.array([bound(format, arrays[0].shape[1])])
                table.add("bound", distribution, name, format.average_bits, values=limit)
    for low, high in DISTANCES.items():
        table.add(f"above {low}", distribution, high, 0.0, values=noise[high] - noise[low])
    digits = [FORMATS[name].element.bits - 1 for name in MSFP]  # without the sign
    slopes = np.polyfit(digits, np.array([noise[name] for name in MSFP]), 1)[0]
    table.add("slope", distribution, "msfp", 0.0, values=slopes)


def in_vectors(x: Float[np.ndarray, "N L"], format: Format) -> Float[np.ndarray, "N L"]:
    """The values in a format, a tensor's scale for each vector."""
    rounded = quantize(x, format) if format.block else jax.vmap(lambda vector: quantize(vector, format))(x)
    return np.asarray(rounded)


def add_sizes(table: Table, arrays: list[np.ndarray], sizes: Sizes) -> None:
    """Formats with other block sizes and their bounds, and MX9 with other sub-blocks."""
    for name in sizes.sized:
        for n in sizes.block_sizes:
            format = dataclasses.replace(FORMATS[name], block=n)
            table.add("block size", NORMAL, name, float(n), values=noise_of(arrays, format))
            if isinstance(format.element, Integer):
                least = bound(format, sizes.length)
                table.add("bound by block size", NORMAL, name, float(n), values=np.array([least]))
    noise = {}
    for n in sizes.sub_blocks:
        noise[n] = noise_of(arrays, Format("mx9", Integer(7), block=16, sub_block=n))
        table.add("sub-block", NORMAL, "mx9", float(n), values=noise[n])
    gain = noise[min(sizes.sub_blocks)] - noise[max(sizes.sub_blocks)]
    table.add("gain of sub-blocks", NORMAL, "mx9", 0.0, values=gain)


def noise_of(arrays: list[np.ndarray], format: Format) -> np.ndarray:
    return np.array([qsnr(x, quantize(x, format)) for x in arrays])


def integer_formats() -> list[str]:
    """The formats that theorem 1 is about."""
    return [name for name in NAMED if FORMATS[name].block and isinstance(FORMATS[name].element, Integer)]


def by_format(rows: pd.DataFrame, quantity: str) -> pd.Series:
    return pick(rows, quantity=quantity, distribution=NORMAL).set_index("format").value


def plot(rows: pd.DataFrame) -> Figure:
    rows = over_seeds(rows)
    figure, panel = plt.subplots(figsize=(WIDTH, 5.4))
    panel.set(xlabel="bits per number", ylabel="signal to noise of normal numbers, dB")
    draw_formats(panel, pick(rows, distribution=NORMAL))
    slope, gap = (only(rows, quantity=q, distribution=NORMAL).mean for q in ("slope", "above msfp16"))
    apart = FORMATS["mx9"].average_bits - FORMATS["msfp16"].average_bits
    figure.suptitle(f"A bit of MSFP is worth {slope:.1f} dB; {apart:g} bits more make MX9 {abs(gap):.1f} dB "
                    f"{'better' if gap > 0 else 'worse'} than MSFP16", size=11)  # fmt: skip
    return figure


def draw_formats(panel: Axes, rows: pd.DataFrame) -> None:
    """Every format by its bits, named, and the least that theory allows."""
    noise, bounds = (pick(rows, quantity=quantity).set_index("format") for quantity in ("qsnr", "bound"))
    points: list[tuple[str, float, float, str]] = []
    for place, (label, (colour, marker, names)) in enumerate(FAMILIES.items()):
        line, least = noise[noise.index.isin(names)], bounds[bounds.index.isin(names)]
        panel.plot(line.x, line.value, color=colour, marker=marker, ls="-" if label in ("MSFP", "SMX") else "")
        panel.plot(least.x, least.value, "_", ms=9, color=colour)
        points += [(name.upper(), line.x[name], line.value[name], colour) for name in line.index]
        panel.annotate(label, (0.02, 0.95 - 0.045 * place), xycoords="axes fraction", size=10, color=colour)
    middle = bounds.sort_values("x").iloc[len(bounds) // 2]
    panel.annotate("least possible, by theorem 1", (middle.x, middle.value), (8, 0), textcoords="offset points",
                   va="center", size=8)  # fmt: skip
    above = noise.value["fp8_e4m3"] + published("qsnr above fp8_e4m3")["mx9"]
    panel.plot(FORMATS["mx9"].average_bits, above, **PUBLISHED_POINT)
    panel.annotate("MX9 as published, above FP8_E4M3", (FORMATS["mx9"].average_bits, above), (-7, 3), size=8,
                   textcoords="offset points", ha="right", color=GREY)  # fmt: skip
    name_points(panel, points)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Distances between formats, decibels per bit, the bound."""
    rows = over_seeds(rows)
    judged = [fp8_claim(rows), order_claim(rows), bound_claim(rows)]
    return [*judged, listing_claim(rows), sub_block_claim(rows), order_elsewhere_claim(rows), slope_claim(rows)]


def fp8_claim(rows: pd.DataFrame) -> Claim:
    gap, stated = apart(rows, "fp8_e4m3"), published("qsnr above fp8_e4m3")["mx9"]
    known = by_format(rows, "qsnr")
    return Claim(
        f"MX9 is about {stated:g} dB above FP8's E4M3",
        f"about {stated:g} dB (Rouhani et al. 2023)",
        f"{show(gap, 2)} dB; {known['mx9'] - known['mxfp8_e4m3']:.2f} above MXFP8's E4M3, which shares a power of two",
        [between(gap, stated - 0.5, stated + 0.5)],
    )


def apart(rows: pd.DataFrame, low: str, distribution: str = NORMAL) -> Estimate:
    """How far the format that is set beside `low` lies above it."""
    return only(rows, quantity=f"above {low}", distribution=distribution)


def order_claim(rows: pd.DataFrame) -> Claim:
    above, below = (apart(rows, low) for low in ("fp8_e5m2", "mx6"))
    return Claim(
        "MX6 lies between FP8's E4M3 and E5M2",
        "between them (Rouhani et al. 2023)",
        f"{show(above, 2)} dB above E5M2, {show(below, 2)} dB below E4M3",
        [positive(above), positive(below)],
        headline=True,
    )


def order_elsewhere_claim(rows: pd.DataFrame) -> Claim:
    pairs = {name: [apart(rows, low, name) for low in ("fp8_e5m2", "mx6")] for name in DISTRIBUTIONS if name != NORMAL}
    shown = (f"{name} {above.mean:.1f} above, {below.mean:.1f} below" for name, (above, below) in pairs.items())
    return Claim(
        "MX6 lies between E4M3 and E5M2 for numbers that are not normal",
        "no number",
        f"{'; '.join(shown)} dB",
        [positive(distance) for pair in pairs.values() for distance in pair],
        own=True,
    )


def bound_claim(rows: pd.DataFrame) -> Claim:
    least = pick(rows, quantity="least above bound")
    nearest = least.groupby("distribution", sort=False).value.min()
    shown = ", ".join(f"{name} {value:.2f}" for name, value in nearest.items())
    return Claim(
        "every vector stays above the lower bound of its format",
        "theorem 1, for integer elements (Rouhani et al. 2023)",
        f"nearest of any vector and format, dB above it: {shown}",
        [exactly(bool((least.value >= 0).all()))],
    )


def slope_claim(rows: pd.DataFrame) -> Claim:
    slopes = {row["distribution"]: as_estimate(row) for _, row in pick(rows, quantity="slope").iterrows()}
    return Claim(
        f"a bit of MSFP is worth {BIT:g} dB",
        f"no number; the bound of theorem 1 grows by {BIT:g} dB a bit (Rouhani et al. 2023)",
        f"{', '.join(f'{name} {show(slope, 3)}' for name, slope in slopes.items())} dB a bit",
        [near_zero(slope._replace(mean=slope.mean - BIT), BIT_MARGIN) for slope in slopes.values()],
        own=True,
    )


def listing_claim(rows: pd.DataFrame) -> Claim:
    gaps = {name: apart(rows, "msfp16", name) for name in DISTRIBUTIONS}
    stated = published("qsnr above msfp16")["mx9"]
    return Claim(
        "MX9 above MSFP16",
        f"about {stated:g} dB (Rouhani et al. 2023; {UNVERIFIED})",
        f"{', '.join(f'{name} {show(gap, 2)}' for name, gap in gaps.items())} dB",
        [],
    )


def sub_block_claim(rows: pd.DataFrame) -> Claim:
    gain, stated = only(rows, quantity="gain of sub-blocks"), published("qsnr above sub-blocks of 8")["mx9"]
    return Claim(
        "MX9 with sub-blocks of 2 above MX9 with sub-blocks of 8",
        f"about {stated:g} dB (Rouhani et al. 2023; {UNVERIFIED})",
        f"{show(gain, 2)} dB",
        [],
    )
