"""When it stops paying: throughput by batch size, and what verifying costs by width and kind of weights."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from decoding import speedup
from decoding.assisted import assisted_generate
from decoding.generate import generate
from decoding.readers import as_reader
from decoding.turns import every_time
from decoding.variants import in_bfloat16, in_int8, weight_bytes
from figures.assisted import common
from figures.assisted.common import TIMED, Large, Pair, pair, shifted
from figures.lab.claims import Claim, at_least, between, no_more, positive, show
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import BLACK, BLUE, GREY, PUBLISHED_LINE, WIDTH, name_ends
from figures.lab.tables import published
from figures.lab.timings import faster, mean_of, of_turns
from icl_synth.estimates import Estimate, ratio_of_means

TITLE = "Where assistance stops paying: batch size, and what verifying costs in float32, bfloat16 and int8"
DIFFERS = (
    "Every turn times plain and assisted generation of other documents at every batch size; within a turn the batches "
    "are nested. Text is sampled at temperature 1, of one length, without a stop token. An interval is over turns, so "
    "it has the texts' part and the machine's. Rows of a batch advance by themselves in one compiled loop, but the "
    "loop ends with its slowest row. The picture also shows the speed-up if all rows were as fast as their mean: the "
    "gap is the cost of waiting. The rest is that verifying costs more with the batch, since plain decoding then "
    "wastes less. The post is Hugging Face's Assisted Generation (2023); its throughput is distilgpt2's on a GPU. "
    "EAGLE's speed-ups at batches of 1 to 4 are those of another method on a GPU, set beside ours. vLLM's speed-ups "
    "at low load and slow-downs at high load are the most that it reports on two sets of data, without a batch, and "
    "are not drawn. Single reads of the large target (8 layers of 512) are timed by width. The post says that "
    "decoding is bound by moving weights: beside them stand the bytes of the weights over a large copy's bandwidth on "
    "all cores (bytes read and written). It is asked whether throughput at the largest batch over that at batch 1 is "
    "above one, and whether it is at least the post's; whether the speed-up is above one at the smallest batch and at "
    "most one at the largest; and for each kind of weights whether a token's bytes move at half to one and a half "
    "times the copy's bandwidth. The post gives no number for the last; the range is ours: a copy writes as much as "
    "it reads, so that reading alone may be faster."
)
PUBLISHED = common.PUBLISHED
ALONE = True
KINDS = {"float32": "o", "bfloat16": "s", "int8": "^"}  # of weights, with markers
SAMPLING_SEED = 7
MOVING = 0.5, 1.5  # of a copy's bandwidth


class Sizes(NamedTuple):
    documents: int  # that begin the texts
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    widths: tuple[int, ...] = (1, 2, 3, 4, 6, 9, 13, 17)  # tokens of a timed read
    gamma: int = 3  # tokens drafted in a round
    prompt: int = 32  # tokens
    new: int = 128
    turns: int = 6
    large: Large = Large()


PRESETS = presets(TIMED, quick=Sizes(128, (1, 4, 16), (1, 2, 6), turns=3, new=64), small=Sizes(512), paper=Sizes(100))
Row = tuple[str, str, int, int, float]


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity, kind, place, turn, value.

    By batch (place): plain and assisted (seconds of the batch), rounds_mean and rounds_max. By width (place): read
    (seconds) of each kind of weights. Of no place (0): new (tokens that a row gains), bytes of each kind, and
    bandwidth (bytes per second).
    """
    rows = [*batch_rows(pair(models, sizes.documents), sizes), *read_rows(sizes)]
    return pd.DataFrame(rows, columns=["quantity", "kind", "place", "turn", "value"])


def batch_rows(models: Pair, sizes: Sizes) -> Iterator[Row]:
    """Plain and assisted generation of nested batches; each turn has its own texts where the documents suffice."""
    target, draft = as_reader(models.target.model), as_reader(models.draft.model)
    length, new = common.lengths(models.target.config.model.context, sizes.prompt, sizes.new)
    texts = np.resize(models.documents[:, :length], (sizes.turns, max(sizes.batches), length))
    how: dict[str, Any] = {"temperature": 1.0, "key": jax.random.key(SAMPLING_SEED)}
    yield "new", "", 0, 0, new
    for batch in tqdm(sizes.batches, desc="batches"):
        works = [
            (
                functools.partial(generate, target, text[:batch], new, **how),
                functools.partial(assisted_generate, target, draft, text[:batch], new, num_draft=sizes.gamma, **how),
            )
            for text in texts
        ]
        seconds, runs = every_time(works), [helped() for _, helped in works]
        for turn, ((plain, assisted), run) in enumerate(zip(seconds, runs, strict=True)):
            yield "plain", "", batch, turn, plain
            yield "assisted", "", batch, turn, assisted
            yield "rounds_mean", "", batch, turn, float(run.rounds.mean())
            yield "rounds_max", "", batch, turn, int(run.rounds.max())


def read_rows(sizes: Sizes) -> Iterator[Row]:
    """Single reads of the large target by width, for each kind of weights."""
    large, _ = sizes.large.models()
    room = min(sizes.prompt + sizes.new, large.config.context)
    models = {"float32": large, "bfloat16": in_bfloat16(large), "int8": in_int8(large)}
    for kind, model in models.items():
        yield "bytes", kind, 0, 0, weight_bytes(model)
    readers = [as_reader(model) for model in models.values()]
    for width in sizes.widths:
        reads = [functools.partial(speedup.read_often, reader, 1, room, width) for reader in readers]
        for turn, seconds in enumerate(every_time([reads] * sizes.turns)):
            for kind, together in zip(models, seconds, strict=True):
                yield "read", kind, width, turn, together / speedup.READS
    for turn in range(sizes.turns):
        yield "bandwidth", "", 0, turn, speedup.copy_bandwidth()


def places(rows: pd.DataFrame, quantity: str) -> list[int]:
    """Batches or widths at which a quantity was measured."""
    return [int(place) for place in rows[rows.quantity == quantity].place.unique()]


def turns(rows: pd.DataFrame, quantity: str, place: int = 0, kind: str = "") -> Float[np.ndarray, " T"]:
    return of_turns(rows.assign(kind=rows.kind.fillna("")), quantity=quantity, kind=kind, place=place)


def throughput(rows: pd.DataFrame, quantity: str, batch: int) -> Float[np.ndarray, " T"]:
    """Tokens a second in each turn."""
    return batch * turns(rows, "new")[0] / turns(rows, quantity, batch)


def speed(rows: pd.DataFrame, batch: int) -> Estimate:
    """Of assistance at a batch."""
    return faster(turns(rows, "plain", batch), turns(rows, "assisted", batch))


def plot(rows: pd.DataFrame) -> Figure:
    figure, panel = plt.subplots(figsize=(WIDTH, 4.2))
    speeds = {batch: speed(rows, batch) for batch in places(rows, "plain")}
    draw_speedup(panel, rows, speeds)
    paying = ", ".join(str(batch) for batch, value in speeds.items() if value.mean > 1)
    first, *_, last = speeds
    figure.suptitle(f"Assistance is faster at batch {paying or 'none'}:\n{speeds[first].mean:.2f} times as fast at "
                    f"{first}, {speeds[last].mean:.2f} times at {last}", size=11)  # fmt: skip
    return figure


def draw_speedup(panel: Axes, rows: pd.DataFrame, speeds: dict[int, Estimate]) -> None:
    """Speed-up by batch, measured and without waiting, and EAGLE's."""
    batches, means = list(speeds), np.array([value.mean for value in speeds.values()])
    waiting = [turns(rows, "rounds_max", batch).sum() / turns(rows, "rounds_mean", batch).sum() for batch in batches]
    panel.errorbar(batches, means, [value.half_width for value in speeds.values()], fmt="D-", color=BLUE, capsize=2,
                   elinewidth=1)  # fmt: skip
    panel.plot(batches, means * waiting, ":", color=BLUE)
    eagle = published("assisted", what="speedup by batch")
    panel.plot(eagle.setting.str.removeprefix("batch ").astype(int), eagle.value, **PUBLISHED_LINE)
    panel.axhline(1, color=BLACK, lw=0.8)
    panel.set(xscale="log", xlabel="texts in a batch", ylabel="speed-up over plain generation")
    panel.set_title("largest trained transformer, drafted by the smallest, sampled at temperature 1", size=10)
    panel.set_xticks(batches, labels=map(str, batches))
    panel.minorticks_off()
    ends = {"measured": means[-1], "if no text waited\nfor the slowest": means[-1] * waiting[-1]}
    name_ends(panel, [(name, batches[-1], float(height), BLUE) for name, height in ends.items()])
    panel.annotate("EAGLE on a GPU,\nVicuna 7B, greedy", (4, eagle.value.iloc[-1]), (8, 0), textcoords="offset points",
                   size=8, va="center", color=GREY)  # fmt: skip


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Throughput by batch, the batch at which assistance stops paying, and whether moving weights is the bound."""
    return [throughput_claim(rows), batch_claim(rows), *(weights_claim(rows, kind) for kind in KINDS)]


def throughput_claim(rows: pd.DataFrame) -> Claim:
    batches = places(rows, "plain")
    least, most = (throughput(rows, "plain", batch) for batch in (batches[0], batches[-1]))
    factor = mean_of(ratio_of_means(most, least))
    before, after = published("assisted", what="tokens a second").value
    return Claim(
        "a batch multiplies throughput",
        f"{before:,.0f} → {after:,.0f} tokens per second from batch 1 to 64, {after / before:.0f}x (distilgpt2; post)",
        f"{least.mean():,.0f} → {most.mean():,.0f} from batch {batches[0]} to {batches[-1]}, {show(factor)}x",
        [positive(shifted(factor, -1)), at_least(factor, after / before)],
    )


def batch_claim(rows: pd.DataFrame) -> Claim:
    speeds = {batch: speed(rows, batch) for batch in places(rows, "plain")}
    smallest, *_, largest = speeds.values()
    elsewhere = published("assisted", what="speedup by load").value
    eagle = published("assisted", what="speedup by batch").value
    return Claim(
        "assistance pays at small batches and loses at large ones",
        f"up to {elsewhere.iloc[0]:g} and {elsewhere.iloc[1]:g}x at low load, up to {elsewhere.iloc[2]:g} and "
        f"{elsewhere.iloc[3]:g}x slower at high load (vLLM); {' / '.join(f'{x:g}' for x in eagle)}x at batches 1 to 4 "
        "(EAGLE, Table 7, Vicuna 7B)",
        ", ".join(f"{show(value, 2)}x at {batch}" for batch, value in speeds.items()),
        [positive(shifted(smallest, -1)), no_more(largest, 1.0)],
    )


def weights_claim(rows: pd.DataFrame, kind: str) -> Claim:
    read, six = (turns(rows, "read", width, kind) for width in (1, 6))
    size, bandwidth = turns(rows, "bytes", 0, kind)[0], turns(rows, "bandwidth")
    share = mean_of(size / read / bandwidth)
    return Claim(
        f"{kind}: decoding at batch 1 is bound by moving weights",
        "said in the post, without a number",
        f"{size / 1e6:.0f} MB per token in {show(mean_of(1e3 * read), 2)} ms, {show(share, 2)} of a copy's "
        f"{bandwidth.mean() / 1e9:.1f} GB/s; 6 tokens at once {show(mean_of(1e3 * six), 2)} ms",
        [between(share, *MOVING)],
    )
