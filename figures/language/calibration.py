"""How much text SparseGPT needs on a real language model, and whether it has to be text (Frantar & Alistarh 2023)."""

import itertools
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.pruning.apply import Pruning, prune_model
from figures.lab import tables
from figures.lab.claims import Claim, listed, nats, positive
from figures.lab.presets import NONE, presets
from figures.lab.runs import Models
from figures.lab.style import BLUE, GREY, PINK, PUBLISHED_LINE, WIDTH, draw_line
from figures.lab.tables import Table, only, over_seeds, pick
from figures.language import common
from figures.language.common import MODEL, SMOLLM2, WINDOWS, Source
from icl_synth.estimates import Estimate

TITLE = "Calibration of a real language model: how much text, and of what kind (Frantar & Alistarh 2023, Fig. 8)"
DIFFERS = (
    f"{MODEL}{WINDOWS}Windows to calibrate on are drawn at random from the training works, three times for each "
    "number; the interval has the part of the draws (written as seeds, by Student's t) and that of the judged windows "
    "(by the normal factor). The paper calibrates OPT-2.7B at 50 % on up to 256 segments of C4 of 2,048 tokens, four "
    "of our windows each, and judges on WikiText2; our text is by the author that is judged. In its figure more "
    "segments help until it levels off. So each step from 2 to 8 and to 32 windows is to lower the loss, and the "
    "second is to lower it by less than the first. Whether it must be text is our question: 32 windows of tokens "
    "drawn evenly from the vocabulary, and of the works' own tokens in random order, are each to cost more than 32 "
    "windows of text."
)
PUBLISHED = ("frantar2023*.csv",)
lacks = common.lacks
HALF = Pruning(sparsity=0.5)
STEPS = (2, 8, 32)  # windows to calibrate on
EVERY = 10**6  # more windows than there are
TEXT, SHUFFLED, UNIFORM = KINDS = ("text", "shuffled tokens", "uniform tokens")


class Sizes(NamedTuple):
    windows: int  # that losses are measured on
    draws: int  # of windows to calibrate on
    source: Source = Source()


PRESETS = presets({name: NONE[name] for name in ("quick", "small")}, quick=Sizes(8, 2), small=Sizes(24, 3))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: kind (of calibration), number (of windows), quantity; nats per token, with the number of the draw as seed.

    Quantities: cost (loss above the dense model's), gain (of the step from the next fewer windows of text), slowing
    (of gains: the step before less this one) and above text, paired.
    """
    table, reader = Table("kind", "number", "quantity"), common.read(sizes.source)
    windows, every = reader.judged(sizes.windows), reader.calibration(EVERY)
    dense = common.losses(reader.model, windows)
    asked = [(TEXT, number) for number in STEPS] + [(kind, STEPS[-1]) for kind in KINDS[1:]]
    with tqdm(total=sizes.draws * len(asked), desc="prunings", unit="model") as bar:
        for draw in range(sizes.draws):
            costs: dict[tuple[str, int], Float[np.ndarray, " N"]] = {}
            for kind, number in asked:
                model = prune_model(
                    reader.model, calibration(every, kind, number, draw, reader.model.config.vocab_size), HALF
                ).model
                costs[kind, number] = common.losses(model, windows) - dense
                bar.update()
            add_draw(table, draw, costs)
    return table.rows()


def add_draw(table: Table, draw: int, costs: dict[tuple[str, int], Float[np.ndarray, " N"]]) -> None:
    """The costs of one draw, and their differences."""
    for (kind, number), cost in costs.items():
        table.add(kind, number, "cost", seed=draw, values=cost)
    of_text = [costs[TEXT, number] for number in STEPS]
    gains = [few - many for few, many in itertools.pairwise(of_text)]
    for number, gain in zip(STEPS[1:], gains, strict=True):
        table.add(TEXT, number, "gain", seed=draw, values=gain)
    table.add(TEXT, STEPS[-1], "slowing", seed=draw, values=gains[0] - gains[1])
    for kind in KINDS[1:]:
        table.add(kind, STEPS[-1], "above text", seed=draw, values=costs[kind, STEPS[-1]] - costs[TEXT, STEPS[-1]])


def calibration(
    every: Int[np.ndarray, "M L"], kind: str, number: int, draw: int, vocab_size: int
) -> Int[np.ndarray, "N L"]:
    """Windows drawn from all; their tokens in random order; or tokens that are all equally likely."""
    rng = np.random.default_rng(draw)
    tokens = every[rng.permutation(len(every))[:number]]
    if kind == SHUFFLED:
        return rng.permuted(tokens.reshape(-1)).reshape(tokens.shape)
    return rng.integers(0, vocab_size, tokens.shape, np.int32) if kind == UNIFORM else tokens


def plot(rows: pd.DataFrame) -> Figure:
    costs = pick(over_seeds(rows), quantity="cost")
    figure, panel = plt.subplots(figsize=(WIDTH, 3.8))
    line = pick(costs, kind=TEXT)
    draw_line(panel, line, "number", color=BLUE, marker="o")
    for kind, marker in zip(KINDS[1:], "sD", strict=True):
        point = pick(costs, kind=kind)
        draw_line(panel, point, "number", color=PINK, marker=marker, ls="none")
        panel.annotate(kind, (point.number.iloc[0], point.value.iloc[0]), (8, 0), textcoords="offset points", size=8,
                       color=PINK, va="center")  # fmt: skip
    published = tables.published("frantar2023_other", quantity="calibration documents")
    dense = tables.published("frantar2023_size", model="OPT-2.7B", pruning="dense").perplexity.iloc[0]
    theirs = np.log(published.perplexity / dense)
    panel.plot(published.x, theirs, **PUBLISHED_LINE)
    panel.annotate("OPT-2.7B, segments of 2,048 tokens", (published.x.iloc[1], theirs.iloc[1]), (6, 8), size=8,
                   textcoords="offset points", color=GREY)  # fmt: skip
    panel.set(xscale="log", yscale="log", xlabel="windows (of the paper: segments) to calibrate on",
              ylabel="loss above the dense model's,\nnats per token")  # fmt: skip
    ticks = sorted({*line.number, *published.x.astype(int)})
    panel.set_xticks(ticks, [str(number) for number in ticks])
    panel.yaxis.set_major_formatter("{x:g}")
    panel.minorticks_off()
    few, many = (only(costs, kind=TEXT, number=number).mean for number in (STEPS[0], STEPS[-1]))
    figure.suptitle(f"SparseGPT at 50 % costs {SMOLLM2} {few:.2f} nats per token calibrated on {STEPS[0]} windows,\n"
                    f"{many:.2f} on {STEPS[-1]}", size=11)  # fmt: skip
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """More text helps, and ever less; text helps more than other tokens."""
    rows = over_seeds(rows)
    return [amount_claim(rows), kind_claim(rows)]


def amount_claim(rows: pd.DataFrame) -> Claim:
    costs: dict[str, Estimate] = {
        f"{number} windows": only(rows, kind=TEXT, number=number, quantity="cost") for number in STEPS
    }
    gains = [only(rows, kind=TEXT, number=number, quantity="gain") for number in STEPS[1:]]
    slowing = only(rows, kind=TEXT, number=STEPS[-1], quantity="slowing")
    return Claim(
        f"{SMOLLM2}: more windows cost less, and each step gains less than the one before",
        "perplexity 19, 15, 14 with 2, 8, 32 segments (OPT-2.7B, Fig. 8, digitised)",
        f"{listed(costs, 3)} nats; the second step gains {nats(slowing)} less than the first",
        [positive(gain) for gain in (*gains, slowing)],
    )


def kind_claim(rows: pd.DataFrame) -> Claim:
    more = {kind: only(rows, kind=kind, number=STEPS[-1], quantity="above text") for kind in KINDS[1:]}
    return Claim(
        f"{SMOLLM2}: text calibrates better than its tokens shuffled, and than uniform tokens",
        "no such control in the paper",
        f"more than text: {listed(more, 3)} nats",
        [positive(value) for value in more.values()],
        own=True,
    )
