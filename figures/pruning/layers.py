"""What SparseGPT leaves to gain in a layer, and which blocks of a model bear 2:4 (Frantar & Alistarh 2023)."""

from typing import NamedTuple

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.pruning.apply import Pruning
from compression.pruning.baselines import least_squares
from compression.pruning.calibrate import calibrate, calibration_documents, embed
from compression.pruning.calibrate import run as run_block
from compression.pruning.problem import damped, output_error
from compression.pruning.sparsegpt import sparsegpt
from figures.lab.claims import Claim, judged, positive
from figures.lab.measure import Documents, excess, held_back
from figures.lab.presets import ENDS, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLUE, CYCLE, GREEN, GREY, PINK, PUBLISHED_LINE, YELLOW, draw_line
from figures.lab.tables import Table, only, over_seeds, pick
from figures.pruning import common
from figures.pruning.common import CALIBRATION, pruned, show
from icl_synth import checkpoints
from icl_synth.evaluate import Estimate

TITLE = "SparseGPT against exact reconstruction, and 2:4 in the first blocks only (Frantar & Alistarh 2023)"
DIFFERS = (
    "Exact reconstruction solves, for the mask that SparseGPT chose at 50 %, the least squares of each row. Both "
    "errors are shares of the layer's output on inputs of the dense model, with the damping (1 % of H's mean diagonal) "
    "that both methods minimise. The paper reports about 20 % more error than exact on average: the claim *holds* "
    "where the interval over training seeds lies between 10 and 30 %, and *partly* where the mean is at most 50 %; "
    "with one training seed there is no interval, so it holds *partly* at best. Where the average is far above the "
    "median, a few layers make it. For partial 2:4 the paper takes the first half to four fifths of OPT-175B's layers, "
    "ours one to all blocks of a small transformer; the paper's perplexities are drawn as nats above its dense model's "
    "8.35. That claim is judged on the difference between the halves, paired by seed and document: it *holds* where "
    "the whole interval is above zero, *partly* where only the mean is."
)
PUBLISHED = common.PUBLISHED
KINDS_OF_LAYER = {"qkv": (BLUE, "o"), "out": (YELLOW, "D"), "up": (GREEN, "s"), "down": (PINK, "^")}
PAPER_DENSE, PAPER_RATIO = 8.35, 1.2  # perplexity of OPT-175B; error over that of exact reconstruction


class Sizes(NamedTuple):
    documents: int  # that losses are measured on


SUITES = {  # of transformers only
    name: suite._replace(models={model: training for model, training in suite.models.items() if model != "LSTM"})
    for name, suite in ENDS.items()
}
PRESETS = presets(SUITES, quick=Sizes(128), small=Sizes(512), paper=Sizes(100))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity, model, layer, x; value a ratio, or nats per token.

    Quantities: ratio (a layer's error over that of exact reconstruction), its mean and median over layers, cost (loss
    above the dense model's with the first share x of blocks at 2:4), and how much more of it the later half of the
    blocks adds than the first.
    """
    table = Table("quantity", "model", "layer", "x")
    documents = held_back(next(iter(models.values()))[0], sizes.documents)
    bar = tqdm(total=sum(map(len, models.values())), desc="layers", unit="model")
    for name, runs in models.items():
        for run in runs:
            add_ratios(table, name, run)
            add_blocks(table, name, run, documents)
            bar.update()
    return table.rows()


def add_ratios(table: Table, name: str, run: Run) -> None:
    ratios = layer_ratios(run)
    everything = np.array(list(ratios.values()))
    quantities = [("ratio", layer, ratio) for layer, ratio in ratios.items()]
    quantities += [("mean ratio", "all", everything.mean()), ("median ratio", "all", float(np.median(everything)))]
    for quantity, layer, ratio in quantities:
        table.add(quantity, name, layer, 0.0, seed=run.seed, values=np.array([ratio]))


def layer_ratios(run: Run) -> dict[str, float]:
    """Each layer's lost output at 50 % by SparseGPT, over that of exact reconstruction on the same mask."""
    hmm, _ = run.config.data.build()
    weights, ratios = checkpoints.split(run.model)[1], {}
    hidden = embed(run.model, calibration_documents(hmm, run.model, CALIBRATION))
    for index in range(run.model.config.depth):
        for layer, hessian in calibrate(run.model, index, hidden).items():
            weight = jnp.asarray(weights[f"{layer}.kernel"]).T
            greedy = sparsegpt(weight, hessian)
            exact, loss = least_squares(weight, hessian, greedy.mask), damped(hessian, 0.01)
            ratios[layer] = float(output_error(weight, greedy.weight, loss)) / float(output_error(weight, exact, loss))
        hidden = run_block(run.model, index, hidden)
    return ratios


def add_blocks(table: Table, name: str, run: Run, documents: Documents) -> None:
    """What 2:4 costs in the first blocks, one to all."""
    depth, losses = run.model.config.depth, [excess(run.model, documents)]
    for first in range(1, depth + 1):
        losses.append(excess(pruned(run, Pruning(pattern=(2, 4), first_blocks=first)), documents))
        table.add("cost", name, "all", first / depth, seed=run.seed, values=losses[-1] - losses[0])
    halves = losses[-1] - 2 * losses[depth // 2] + losses[0]
    table.add("later half above first", name, "all", 0.5, seed=run.seed, values=halves)


def plot(rows: pd.DataFrame) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2))
    name = rows.model.iloc[0]
    draw_ratios(left, pick(rows, quantity="ratio", model=name))
    left.set_title(f"ours: {name}, 50 %")
    draw_blocks(right, over_seeds(rows))
    return figure


def draw_ratios(panel: Axes, rows: pd.DataFrame) -> None:
    """Each layer's ratio by block, a dot for each training seed and a line of their means."""
    rows = rows.assign(block=rows.layer.str.extract(r"(\d+)", expand=False).astype(int) + 1)
    for kind, (colour, marker) in KINDS_OF_LAYER.items():
        points = rows[rows.layer.str.endswith(kind)]
        panel.plot(points.block, points.value, marker, ms=3.5, color=colour, alpha=0.6)
        mean = points.groupby("block").value.mean()
        panel.plot(mean.index, mean, color=colour, lw=1.2, marker=marker, label=kind)
    panel.axhline(PAPER_RATIO, color=GREY, ls="--", lw=1, label="Frantar & Alistarh 2023, average")
    panel.axhline(1.0, color="black", lw=0.8)
    panel.set(xlabel="block", ylabel="error, times that of exact reconstruction", yscale="log")
    panel.set_xticks(range(1, int(rows.block.max()) + 1))
    panel.set_yticks([1, 2, 5, 10, 20], labels=["1", "2", "5", "10", "20"])
    panel.tick_params(axis="y", which="minor", labelleft=False)
    panel.legend()


def draw_blocks(panel: Axes, rows: pd.DataFrame) -> None:
    """The cost of 2:4 by the share of blocks that have it."""
    for name, colour in zip(rows.model.unique(), CYCLE, strict=False):
        line = pick(rows, quantity="cost", model=name)
        draw_line(panel, line.assign(x=100 * line.x), "x", color=colour, marker="o", label=f"ours: {name}")
    theirs = common.published("other", quantity="share of layers at 2:4")
    panel.plot(100 * theirs.x, theirs.nats - np.log(PAPER_DENSE), **PUBLISHED_LINE,
               label="Frantar & Alistarh 2023: OPT-175B")  # fmt: skip
    panel.axhline(0, color="black", lw=0.8)
    panel.set(xlabel="first blocks at 2:4, %", ylabel="loss above the dense model's, nats per token")
    panel.set_title("partial 2:4")
    panel.legend()


def percent(ratio: Estimate) -> str:
    """Above one; without an interval where there is one seed."""
    interval = f" ± {100 * ratio.half_width:.0f}" if ratio.half_width > 0 else ""
    return f"{100 * (ratio.mean - 1):.0f}{interval} %"


def claims(rows: pd.DataFrame) -> list[Claim]:
    """The distance to exact reconstruction; which half of the blocks is the more sensitive."""
    rows = over_seeds(rows)
    return [judge(rows, name) for name in rows.model.unique() for judge in (ratio_claim, halves_claim)]


def ratio_claim(rows: pd.DataFrame, name: str) -> Claim:
    ratio, middle = (only(rows, quantity=f"{which} ratio", model=name) for which in ("mean", "median"))
    inside = 1.1 <= ratio.mean - ratio.half_width and ratio.mean + ratio.half_width <= 1.3
    return Claim(
        f"{name}: SparseGPT's layer error is about 20 % above exact reconstruction's",
        "about 20 % on average",
        f"{percent(ratio)} on average over layers, {percent(middle)} in the median layer",
        judged(inside and ratio.half_width > 0, ratio.mean <= 1.5),
    )


def halves_claim(rows: pd.DataFrame, name: str) -> Claim:
    shares = sorted(pick(rows, quantity="cost", model=name).x)
    half, everything = (
        only(rows, quantity="cost", model=name, x=x) for x in (shares[len(shares) // 2 - 1], shares[-1])
    )
    more = only(rows, quantity="later half above first", model=name)
    return Claim(
        f"{name}: 2:4 in the later half of the blocks costs more than in the first",
        "8.35 → 8.22 with the first half, → 8.74 with all (perplexity, OPT-175B)",
        f"{show(half)} nats with the first half, {show(everything)} with all: the later half {show(more)} more",
        positive(more),
    )
