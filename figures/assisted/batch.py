"""When it stops paying: throughput by batch size, and what verifying costs by width and kind of weights."""

import functools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from decoding import speedup
from decoding.assisted import assisted_generate
from decoding.compare import in_turns
from decoding.generate import generate
from decoding.readers import as_reader
from decoding.variants import in_bfloat16, in_int8, weight_bytes
from figures import decoding
from figures.claims import Claim, judged
from figures.decoding import COLOURS, PAPER, large_pair, pair, published
from figures.recipes import Recipe, Wanted, trained

TITLE = "Where assistance stops paying: batch size, and what verifying costs in float32, bfloat16 and int8"
DIFFERS = (
    "Batches are nested: that of one text is the first text of the others, whose speed-up is its own. Rows of a batch "
    "advance by themselves in one compiled loop, but the loop ends with its slowest row: the middle panel shows the "
    "measured speed-up beside what it would be were all rows as fast as their mean, so the gap is what waiting costs; "
    "the rest is that verifying grows dearer with the batch: plain decoding then wastes less. Greedy, texts of one "
    "length, no stop token. Greedy text of this world soon repeats itself, which any draft guesses: of 64 such texts "
    "(held-back documents' first 32 tokens and the target's next 128) 63 had a period of 16 tokens or fewer in their "
    "last 48; of as many sampled texts none. So these speed-ups are those of repetitive text; sampled ones, which are "
    "those of ordinary text, are lower (`fig_assisted_speed`). The post's throughput is distilgpt2's on a GPU; EAGLE "
    "drafts in another way; vLLM's speed-ups at low load and slow-downs at high load are of no stated batch and not "
    "drawn. The right panel times single reads of the large target (8 layers of 512) by width; the post says that "
    "decoding is bound by moving weights: dashed lines are the bytes of the weights over the bandwidth of a large copy "
    "on all cores (read and written bytes). Decoding is bound by moving weights from memory where a token takes about "
    "as long as that, between two thirds of it, since a copy writes too, and twice (*holds*; *partly* to four times); "
    "where it is faster still, the weights stay in the processor's cache, and the claim fails. That a batch multiplies "
    "throughput *holds* from a factor of ten on, *partly* from two."
)
PUBLISHED = decoding.PUBLISHED
BATCHES = (1, 2, 4, 8, 16, 32, 64)
READ_WIDTHS = (1, 2, 3, 4, 6, 9, 13, 17)
GAMMA, PROMPT, NEW, REPEATS = 3, 32, 128, 5


def wanted(recipe: Recipe) -> Wanted:
    return decoding.wanted(recipe)


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: quantity, kind, place, value.

    By batch (place): plain and assisted (tokens a second), rounds_mean and rounds_max, acceptance. By width (place):
    read_ms of each kind of weights; bytes of each kind, and bandwidth (bytes a second).
    """
    models = trained(wanted(recipe))
    found = pair(models, recipe)
    target, draft = as_reader(found.target.model), as_reader(found.draft.model)
    length = min(PROMPT, found.target.config.model.context // 4)
    new, rows = min(NEW, found.target.config.model.context - length), []
    repeated = np.resize(found.documents[:, :length], (max(BATCHES), length))
    for batch in tqdm(BATCHES, desc="batches"):
        prompt = repeated[:batch]
        run = assisted_generate(target, draft, prompt, new, num_draft=GAMMA)
        plain, assisted = in_turns(
            [
                functools.partial(generate, target, prompt, new),
                functools.partial(assisted_generate, target, draft, prompt, new, num_draft=GAMMA),
            ],
            REPEATS,
        )
        rows += [
            ("plain", "", batch, batch * new / plain),
            ("assisted", "", batch, batch * new / assisted),
            ("rounds_mean", "", batch, float(run.rounds.mean())),
            ("rounds_max", "", batch, int(run.rounds.max())),
            ("acceptance", "", batch, run.acceptance),
        ]
    large, _ = large_pair()
    room = min(PROMPT + NEW, large.config.context)
    kinds = {"float32": large, "bfloat16": in_bfloat16(large), "int8": in_int8(large)}
    rows += [("bytes", kind, 0, weight_bytes(model)) for kind, model in kinds.items()]
    readers = [as_reader(model) for model in kinds.values()]
    for width in READ_WIDTHS:
        works = [functools.partial(speedup.read_often, reader, 1, room, width) for reader in readers]
        seconds = in_turns(works, REPEATS)
        rows += [("read_ms", kind, width, 1e3 * s / speedup.READS) for kind, s in zip(kinds, seconds, strict=True)]
    rows.append(("bandwidth", "", 0, speedup.copy_bandwidth()))
    table = pd.DataFrame(rows, columns=["quantity", "kind", "place", "value"])
    table.attrs["models"] = [one.record() for one in models]
    return table


def curve(rows: pd.DataFrame, quantity: str, kind: str = "") -> pd.Series:
    """Values by batch or width."""
    chosen = rows[(rows.quantity == quantity) & (rows.kind.fillna("") == kind)]
    return chosen.set_index("place").value


def plot(rows: pd.DataFrame) -> Figure:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 5.2))
    for name, colour, marker in (("plain", COLOURS[0], "o"), ("assisted", COLOURS[1], "D")):
        left.plot(curve(rows, name), color=colour, marker=marker, label=name)
    post = published()[published().what == "tokens a second"]
    left.plot((1, 64), post.value, **(PAPER | {"ls": "--", "lw": 1.0}), label="distilgpt2 on a GPU (Hugging Face)")
    left.set(yscale="log", ylabel="tokens a second", title="largest trained transformer")
    speed = curve(rows, "assisted") / curve(rows, "plain")
    waiting = curve(rows, "rounds_max") / curve(rows, "rounds_mean")
    middle.plot(speed, "D-", color=COLOURS[1], label="measured")
    middle.plot(speed * waiting, "D:", mfc="white", color=COLOURS[1], label="if no row waited for the slowest")
    eagle = published()[published().source.str.startswith("EAGLE")]
    middle.plot((1, 2, 3, 4), eagle.value, **PAPER, label="EAGLE, batch 1 to 4")
    middle.axhline(1, color="black", lw=0.8)
    middle.set(ylabel="speed-up of assistance", title="the same, three tokens drafted a round")
    for panel in (left, middle):
        panel.set(xscale="log", xticks=BATCHES, xticklabels=BATCHES, xlabel="batch")
        panel.xaxis.minorticks_off()
    for kind, colour, marker in zip(("float32", "bfloat16", "int8"), COLOURS, "os^", strict=False):
        right.plot(curve(rows, "read_ms", kind), color=colour, marker=marker, label=kind)
        floor = 1e3 * curve(rows, "bytes", kind)[0] / curve(rows, "bandwidth")[0]
        right.axhline(floor, color=colour, ls="--", lw=1)
    right.plot([], [], "--", color="black", lw=1, label="bytes / bandwidth of a copy")
    right.set(
        xlabel="tokens read at once", ylabel="ms a read", ylim=(0, None), title="8 layers of 512, by kind of weights"
    )
    for panel in (left, middle, right):
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Throughput by batch, the batch at which assistance stops paying, and whether moving weights is the bound."""
    plain, speed = curve(rows, "plain"), curve(rows, "assisted") / curve(rows, "plain")
    losing = speed.index[speed < 1].to_list()
    elsewhere = published().set_index("setting").value
    table = [
        Claim(
            "a batch multiplies throughput",
            "418 → 16,266 tokens a second from batch 1 to 64, 39x (distilgpt2; post)",
            f"{plain.iloc[0]:,.0f} → {plain.iloc[-1]:,.0f}, {plain.iloc[-1] / plain.iloc[0]:.1f}x",
            judged(plain.iloc[-1] > 10 * plain.iloc[0], plain.iloc[-1] > 2 * plain.iloc[0]),
        ),
        Claim(
            "assistance pays at small batches and loses at large ones",
            f"{elsewhere['low load, least']:g} to {elsewhere['low load, most']:g}x at low load, "
            f"{elsewhere['high load, slower by least']:g} to {elsewhere['high load, slower by most']:g}x slower at "
            f"high load (vLLM); {elsewhere['batch 1']:g} to {elsewhere['batch 4']:g}x at batch 1 to 4 (EAGLE)",
            ", ".join(f"{value:.2f}x at {batch}" for batch, value in speed.items())
            + (f"; loses from batch {min(losing)}" if losing else "; never loses"),
            judged(speed.iloc[0] > 1 and speed.iloc[-1] < 1, bool(speed.iloc[0] > speed.iloc[-1])),
        ),
    ]
    bandwidth = curve(rows, "bandwidth")[0]
    for kind in ("float32", "bfloat16", "int8"):
        read, size = curve(rows, "read_ms", kind), curve(rows, "bytes", kind)[0]
        share = size / (read[1] / 1e3) / bandwidth
        table.append(
            Claim(
                f"{kind}: decoding at batch 1 is bound by moving weights",
                "said in the post, without a number",
                f"{size / 1e6:.0f} MB a token in {read[1]:.2f} ms, {share:.2f} of a copy's {bandwidth / 1e9:.1f} GB/s; "
                f"6 tokens at once {read[6]:.2f} ms",
                judged(0.5 <= share <= 1.5, 0.25 <= share <= 1.5),
            )
        )
    return table
