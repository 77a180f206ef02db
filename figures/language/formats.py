"""A real language model in block floating point: what formats cost, in weights, activations and inner blocks."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.block_float.block_model import in_format
from figures.block_float.common import FAMILIES, LAST_DIGIT, bits_of, family_of, published
from figures.block_float.models import SIX_TO_NINE
from figures.lab.claims import Claim, listed, near_zero, no_more, positive, show
from figures.lab.presets import NONE, presets
from figures.lab.runs import Models
from figures.lab.style import BLACK, GREY, PUBLISHED_POINT, RANGE, WIDTH, name_points
from figures.lab.tables import Table, as_estimate, only, over_seeds, pick
from figures.language import common
from figures.language.common import MODEL, SMOLLM2, WINDOWS, Source
from icl_synth import checkpoints
from icl_synth.estimates import Estimate

TITLE = "A real language model in block floating point (Rouhani et al. 2020, 2023; OCP Microscaling)"
DIFFERS = (
    f"{MODEL}{WINDOWS}The weights were rounded to 4 bits in blocks of 32 before we got them; a format with other "
    "blocks rounds them once more, so that weights do not cost what they would in a model never rounded. "
    "Every linear layer but the head, which is the embedding, is in the format; products inside attention stay in "
    "float32. OCP gives perplexities per word of LLaMA-7B on WikiText: MXINT8 as a direct cast, weights and "
    "activations, may cost no more nats per word than it costs there; a window's cost per word is that per token "
    "times its tokens per word. Our own questions: do MX formats of 6 to 9 bits (but MXINT8) stay within "
    f"{LAST_DIGIT:g} nats per token of float32, as is asked of the synthetic models; do activations cost more than "
    "weights (both are to cost more than twice what weights alone cost, in MSFP12, MX6 and MXFP4); and does it help "
    "to leave the first and the last block in float32, in the same three?"
)
PUBLISHED = ("block_float.csv",)
lacks = common.lacks
ALL_FORMATS = (
    "msfp16", "msfp12", "msfp11", "mx9", "mx6", "mxint8", "mxfp4", "mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2",
    "mxfp6_e2m3", "mx4", "nvfp4", "int8",
)  # fmt: skip
LOOKED_INTO = ("msfp12", "mx6", "mxfp4")
FLOAT32 = "float32"
BOTH, WEIGHTS, INNER = WHERE = ("weights and activations", "weights", "all but the first and last block")


class Sizes(NamedTuple):
    windows: int  # that losses are measured on
    formats: tuple[str, ...]
    source: Source = Source()


PRESETS = presets(
    {name: NONE[name] for name in ("quick", "small")},
    quick=Sizes(4, ("msfp12", "mxfp4", "mxint8", *SIX_TO_NINE)),
    small=Sizes(24, ALL_FORMATS),
)


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: format, where, quantity; value in nats per token.

    Quantities: loss (of float32), cost (loss above float32's), cost per word (of MXINT8), beyond (cost of both less
    twice that of weights alone) and saved (by leaving the first and the last block in float32); differences are paired
    by window.
    """
    table, reader = Table("format", "where", "quantity"), common.read(sizes.source)
    windows = reader.judged(sizes.windows)
    dense = common.losses(reader.model, windows)
    common.add(table, FLOAT32, "nowhere", "loss", values=dense)
    found: dict[tuple[str, str], Float[np.ndarray, " N"]] = {}
    for format in tqdm(sizes.formats, desc="formats", unit="format"):
        for where in WHERE if format in LOOKED_INTO else (BOTH, WEIGHTS):
            found[format, where] = common.losses(cast(reader.model, format, where), windows) - dense
            common.add(table, format, where, "cost", values=found[format, where])
        if format == "mxint8":
            each = tokens_per_word(reader, windows)
            common.add(table, format, BOTH, "cost per word", values=found[format, BOTH] * each)
        common.add(table, format, BOTH, "beyond", values=found[format, BOTH] - 2 * found[format, WEIGHTS])
        if format in LOOKED_INTO:
            common.add(table, format, INNER, "saved", values=found[format, BOTH] - found[format, INNER])
    return table.rows()


def tokens_per_word(reader: common.Reader, windows: Int[np.ndarray, "N L"]) -> Float[np.ndarray, " N"]:
    """Of each window, without its first token."""
    return np.array([(windows.shape[1] - 1) / len(reader.language.decode(window[1:]).split()) for window in windows])


def cast(model: checkpoints.Model, format: str, where: str) -> checkpoints.Model:
    """The model with a format in its weights, in weights and activations, or in those of the inner blocks."""
    ends = ("blocks.0", f"blocks.{model.config.depth - 1}")
    return in_format(model, format, activations=where != WEIGHTS, keep=("head", *ends) if where == INNER else ("head",))


def plot(rows: pd.DataFrame) -> Figure:
    costs = pick(over_seeds(rows), quantity="cost")
    figure, panels = plt.subplots(1, 2, figsize=(WIDTH, 4.4), sharey=True)
    for panel, where in zip(panels, (WEIGHTS, BOTH), strict=True):
        panel.axhspan(-LAST_DIGIT, LAST_DIGIT, color=RANGE, alpha=0.4, lw=0)
        panel.axhline(0, color=BLACK, lw=0.8)
        panel.set_yscale("symlog", linthresh=LAST_DIGIT)
        panel.set(title=where, xlabel="bits per number of the weights")
    most = 2 * max(costs.value.max(), LAST_DIGIT)
    panels[0].set_ylabel("loss above float32's, nats per token")
    panels[0].set_ylim(min(-LAST_DIGIT / 4, 1.2 * costs.value.min()), most)
    ticks = [tick for tick in (0, LAST_DIGIT / 2, LAST_DIGIT, 0.1, 1, 10) if tick < most]
    panels[0].set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    panels[0].minorticks_off()
    for panel, where in zip(panels, (WEIGHTS, BOTH), strict=True):
        draw_formats(panel, pick(costs, where=where), where)
    both = pick(costs, where=BOTH)
    figure.suptitle(f"Weights and activations of {SMOLLM2} in a format: {(both.value <= LAST_DIGIT).sum()} of "
                    f"{len(both)} formats\ncost at most {LAST_DIGIT:g} nats per token", size=11)  # fmt: skip
    return figure


def draw_formats(panel: Axes, costs: pd.DataFrame, where: str) -> None:
    """A point for each format by its bits, named; LLaMA-7B's beside it."""
    points = []
    for row in costs.to_dict("records"):
        family, bits = FAMILIES[family_of(row["format"])], bits_of(row["format"])
        panel.errorbar(bits, row["value"], row["half_width"], color=family.colour, marker=family.marker, capsize=2)
        points.append((row["format"].upper(), bits, row["value"], family.colour))
    if where == BOTH:
        panel.plot(bits_of("mxint8"), paper_nats(), **PUBLISHED_POINT)
        points.append(("MXINT8, LLaMA-7B", bits_of("mxint8"), paper_nats(), GREY))
    panel.margins(x=0.12)
    name_points(panel, points)


def paper_nats() -> float:
    """What MXINT8 costs LLaMA-7B, nats a word."""
    llama = published("word perplexity")
    return float(np.log(llama["mxint8"] / llama[FLOAT32]))


def claims(rows: pd.DataFrame) -> list[Claim]:
    """MXINT8 by OCP's perplexities; the rest are our own questions."""
    rows = over_seeds(rows)
    return [mxint8_claim(rows), cast_claim(rows), activation_claim(rows), ends_claim(rows)]


def of_formats(rows: pd.DataFrame, where: str, quantity: str, formats: tuple[str, ...]) -> dict[str, Estimate]:
    """A quantity of those formats that were measured."""
    chosen = pick(rows, where=where, quantity=quantity)
    return {row["format"]: as_estimate(row) for _, row in chosen.iterrows() if row["format"] in formats}


def mxint8_claim(rows: pd.DataFrame) -> Claim:
    llama, cost = published("word perplexity"), only(rows, format="mxint8", where=BOTH, quantity="cost per word")
    return Claim(
        f"{SMOLLM2}: MXINT8 as a direct cast costs no more than {paper_nats():.4f} nats per word",
        f"perplexity per word {llama[FLOAT32]} → {llama['mxint8']}, {paper_nats():.4f} nats a word (LLaMA-7B on "
        "WikiText; OCP Microscaling)",
        f"{show(cost, 4)} nats per word",
        [no_more(cost, paper_nats())],
        headline=True,
    )


def cast_claim(rows: pd.DataFrame) -> Claim:
    costs = of_formats(rows, BOTH, "cost", SIX_TO_NINE)
    return Claim(
        f"{SMOLLM2}: MX formats of 6 to 9 bits (but MXINT8) stay within {LAST_DIGIT:g} nats of float32, cast",
        "no number",
        f"{listed(costs, 4)} nats more",
        [near_zero(cost, LAST_DIGIT) for cost in costs.values()],
        own=True,
    )


def activation_claim(rows: pd.DataFrame) -> Claim:
    beyond = of_formats(rows, BOTH, "beyond", LOOKED_INTO)
    return Claim(
        f"{SMOLLM2}: activations in a format cost more than weights in it",
        "no number",
        f"both, less twice the weights alone: {listed(beyond, 4)} nats",
        [positive(value) for value in beyond.values()],
        own=True,
    )


def ends_claim(rows: pd.DataFrame) -> Claim:
    saved = of_formats(rows, INNER, "saved", LOOKED_INTO)
    return Claim(
        f"{SMOLLM2}: it helps to leave the first and the last block in float32",
        "no number",
        f"{listed(saved, 4)} nats less",
        [positive(value) for value in saved.values()],
        own=True,
    )
