"""When it stops paying: throughput by batch size, and what verifying costs by width and kind of weights."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from decoding import speedup
from decoding.assisted import assisted_generate
from decoding.compare import in_turns
from decoding.generate import generate
from decoding.readers import as_reader
from decoding.variants import in_bfloat16, in_int8, weight_bytes
from figures.assisted import common
from figures.assisted.common import SUITES, Large, Pair, pair
from figures.lab.claims import Claim, judged
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import BLUE, CYCLE, ORANGE, PUBLISHED_LINE, PUBLISHED_POINT
from figures.lab.tables import pick, published

TITLE = "Where assistance stops paying: batch size, and what verifying costs in float32, bfloat16 and int8"
DIFFERS = (
    "Batches are nested: the batch of one text is the first text of the others, so its speed-up is that of this text "
    "alone. Rows of a batch advance by themselves in one compiled loop, but the loop ends with its slowest row. The "
    "middle panel shows the measured speed-up beside the one there would be if all rows were as fast as their mean, so "
    "the gap is the cost of waiting; the rest is that verifying costs more with the batch, since plain decoding then "
    "wastes less. Generation is greedy, texts have one length, and there is no stop token. Greedy text of this world "
    "soon repeats itself, which any draft guesses; sampled text does not. So these speed-ups are those of repetitive "
    "text; those of sampled text, which are lower, are in assisted/speed. The post's throughput is distilgpt2's on a "
    "GPU; EAGLE drafts in another way; vLLM states no batch for its speed-ups at low load and slow-downs at high load, "
    "which are not drawn. The right panel times single reads of the large target (8 layers of 512) by width. The post "
    "says that decoding is bound by moving weights: dashed lines are the bytes of the weights over the bandwidth of a "
    "large copy on all cores (read and written bytes). That claim *holds* where a token takes between two thirds of "
    "that time (a copy writes too) and twice it, and *partly* up to four times; a token that is faster still finds its "
    "weights in the processor's cache, and the claim fails. That a batch multiplies throughput *holds* from a factor "
    "of ten on, *partly* from two. That assistance pays at small batches and loses at large ones rests on one greedy, "
    "repetitive text at batch 1 and has no interval, so it never *holds*; it holds *partly* where assistance is at "
    "least 1.05 times faster at the smallest batch and at least 1.05 times slower at the largest."
)
PUBLISHED = common.PUBLISHED
ALONE = True
KINDS = {"float32": "o", "bfloat16": "s", "int8": "^"}  # of weights, with markers
TOLD_APART = 1.05  # speed-ups nearer to one are not told from none in one run


class Sizes(NamedTuple):
    documents: int  # of which the first begin the texts
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    widths: tuple[int, ...] = (1, 2, 3, 4, 6, 9, 13, 17)  # tokens of a timed read
    gamma: int = 3  # tokens drafted in a round
    prompt: int = 32  # tokens
    new: int = 128
    repeats: int = 5
    large: Large = Large()


PRESETS = presets(SUITES, quick=Sizes(128), small=Sizes(512), paper=Sizes(100))
Row = tuple[str, str, int, float]


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity, kind, place, value.

    By batch (place): plain and assisted (tokens per second), rounds_mean and rounds_max, acceptance. By width (place):
    read_ms of each kind of weights; bytes of each kind, and bandwidth (bytes per second).
    """
    rows = [*batch_rows(pair(models, sizes.documents), sizes), *read_rows(sizes)]
    return pd.DataFrame(rows, columns=["quantity", "kind", "place", "value"])


def batch_rows(models: Pair, sizes: Sizes) -> Iterator[Row]:
    """Plain and assisted generation of nested batches."""
    target, draft = as_reader(models.target.model), as_reader(models.draft.model)
    context = models.target.config.model.context
    length = min(sizes.prompt, context // 4)
    new = min(sizes.new, context - length)
    repeated = np.resize(models.documents[:, :length], (max(sizes.batches), length))
    for batch in tqdm(sizes.batches, desc="batches"):
        alone = functools.partial(generate, target, repeated[:batch], new)
        helped = functools.partial(assisted_generate, target, draft, repeated[:batch], new, num_draft=sizes.gamma)
        run = helped()
        plain, assisted = in_turns([alone, helped], sizes.repeats)
        yield "plain", "", batch, batch * new / plain
        yield "assisted", "", batch, batch * new / assisted
        yield "rounds_mean", "", batch, float(run.rounds.mean())
        yield "rounds_max", "", batch, int(run.rounds.max())
        yield "acceptance", "", batch, run.acceptance


def read_rows(sizes: Sizes) -> Iterator[Row]:
    """Single reads of the large target by width, for each kind of weights."""
    large, _ = sizes.large.models()
    room = min(sizes.prompt + sizes.new, large.config.context)
    models = {"float32": large, "bfloat16": in_bfloat16(large), "int8": in_int8(large)}
    for kind, model in models.items():
        yield "bytes", kind, 0, weight_bytes(model)
    readers = [as_reader(model) for model in models.values()]
    for width in sizes.widths:
        reads = [functools.partial(speedup.read_often, reader, 1, room, width) for reader in readers]
        for kind, seconds in zip(models, in_turns(reads, sizes.repeats), strict=True):
            yield "read_ms", kind, width, 1e3 * seconds / speedup.READS
    yield "bandwidth", "", 0, speedup.copy_bandwidth()


def curve(rows: pd.DataFrame, quantity: str, kind: str = "") -> pd.Series:
    """Values by batch or width."""
    return pick(rows.assign(kind=rows.kind.fillna("")), quantity=quantity, kind=kind).set_index("place").value


def plot(rows: pd.DataFrame) -> Figure:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 5.2))
    draw_throughput(left, rows)
    draw_speedup(middle, rows)
    batches = list(curve(rows, "plain").index)
    for panel in (left, middle):
        panel.set(xscale="log", xticks=batches, xticklabels=batches, xlabel="batch")
        panel.xaxis.minorticks_off()
    draw_reads(right, rows)
    for panel in (left, middle, right):
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
    return figure


def draw_throughput(panel: Axes, rows: pd.DataFrame) -> None:
    for name, colour, marker in (("plain", BLUE, "o"), ("assisted", ORANGE, "D")):
        panel.plot(curve(rows, name), color=colour, marker=marker, label=name)
    post = published("assisted", what="tokens a second")
    panel.plot((1, 64), post.value, **PUBLISHED_LINE, label="distilgpt2 on a GPU (Hugging Face)")
    panel.set(yscale="log", ylabel="tokens per second", title="largest trained transformer")


def draw_speedup(panel: Axes, rows: pd.DataFrame) -> None:
    speed = curve(rows, "assisted") / curve(rows, "plain")
    waiting = curve(rows, "rounds_max") / curve(rows, "rounds_mean")
    panel.plot(speed, "D-", color=ORANGE, label="measured")
    panel.plot(speed * waiting, "D:", mfc="white", color=ORANGE, label="if no row waited for the slowest")
    eagle = published("assisted", source="EAGLE, batch 1 to 4")
    panel.plot((1, 2, 3, 4), eagle.value, **PUBLISHED_POINT, label="EAGLE, batch 1 to 4")
    panel.axhline(1, color="black", lw=0.8)
    panel.set(ylabel="speed-up of assistance", title="the same, three tokens drafted in a round")


def draw_reads(panel: Axes, rows: pd.DataFrame) -> None:
    for (kind, marker), colour in zip(KINDS.items(), CYCLE, strict=False):
        panel.plot(curve(rows, "read_ms", kind), color=colour, marker=marker, label=kind)
        floor = 1e3 * curve(rows, "bytes", kind)[0] / curve(rows, "bandwidth")[0]
        panel.axhline(floor, color=colour, ls="--", lw=1)
    panel.plot([], [], "--", color="black", lw=1, label="bytes / bandwidth of a copy")
    panel.set(xlabel="tokens read at once", ylabel="ms per read", ylim=(0, None))
    panel.set_title("8 layers of 512, by kind of weights")


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Throughput by batch, the batch at which assistance stops paying, and whether moving weights is the bound."""
    return [throughput_claim(rows), batch_claim(rows), *(weights_claim(rows, kind) for kind in KINDS)]


def throughput_claim(rows: pd.DataFrame) -> Claim:
    plain = curve(rows, "plain")
    factor = plain.iloc[-1] / plain.iloc[0]
    return Claim(
        "a batch multiplies throughput",
        "418 → 16,266 tokens per second from batch 1 to 64, 39x (distilgpt2; post)",
        f"{plain.iloc[0]:,.0f} → {plain.iloc[-1]:,.0f}, {factor:.1f}x",
        judged(factor > 10, factor > 2),
    )


def batch_claim(rows: pd.DataFrame) -> Claim:
    """Without an interval, and from one text at batch 1, it cannot hold."""
    speed = curve(rows, "assisted") / curve(rows, "plain")
    losing = speed.index[speed < 1].to_list()
    elsewhere = published("assisted", what="speedup by load").set_index("setting").value
    return Claim(
        "assistance pays at small batches and loses at large ones",
        f"{elsewhere['low load, least']:g} to {elsewhere['low load, most']:g}x at low load, "
        f"{elsewhere['high load, slower by least']:g} to {elsewhere['high load, slower by most']:g}x slower at "
        f"high load (vLLM); {elsewhere['batch 1']:g} to {elsewhere['batch 4']:g}x at batch 1 to 4 (EAGLE)",
        ", ".join(f"{value:.2f}x at {batch}" for batch, value in speed.items())
        + (f"; loses from batch {min(losing)}" if losing else "; never loses")
        + "; greedy, repetitive text, one at batch 1, no interval",
        judged(False, bool(speed.iloc[0] >= TOLD_APART and speed.iloc[-1] <= 1 / TOLD_APART)),
    )


def weights_claim(rows: pd.DataFrame, kind: str) -> Claim:
    bandwidth, size = curve(rows, "bandwidth")[0], curve(rows, "bytes", kind)[0]
    read = curve(rows, "read_ms", kind)
    share = size / (read[1] / 1e3) / bandwidth
    return Claim(
        f"{kind}: decoding at batch 1 is bound by moving weights",
        "said in the post, without a number",
        f"{size / 1e6:.0f} MB per token in {read[1]:.2f} ms, {share:.2f} of a copy's {bandwidth / 1e9:.1f} GB/s; "
        f"6 tokens at once {read[6]:.2f} ms",
        judged(0.5 <= share <= 1.5, 0.25 <= share <= 1.5),
    )
