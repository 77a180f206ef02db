"""What pruning costs by the size of the model (Frantar & Alistarh 2023, Fig. 2 and Table 1)."""

from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.stats
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.pruning.apply import Pruning
from figures.lab.claims import Claim, above, judged
from figures.lab.measure import Documents, excess, held_back, parameters
from figures.lab.presets import FAMILIES, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLUE, GREEN, ORANGE, PINK, SKY, YELLOW, draw_line, legend_below
from figures.lab.tables import Table, only, over_seeds, pick
from figures.pruning import common
from figures.pruning.common import pruned, show
from icl_synth import checkpoints
from icl_synth.evaluate import Estimate

TITLE = "What pruning costs by the size of the model (Frantar & Alistarh 2023, Fig. 2 and Table 1)"
DIFFERS = (
    "The paper prunes OPT from 0.125 to 175 billion parameters, trained alike on one corpus. Ours are six transformers "
    "of 0.05 to 4.7 million on one world with one seed each, so that intervals are over documents only. They are not "
    "trained alike: the smallest has 4 blocks, the others 6, and the smaller ones saw more tokens (16 M down to 6 M), "
    "so size is not all that differs. Losses are in nats per token; the paper's perplexities are drawn as their "
    "logarithm above the dense model's. The last panel asks how many weights the task needs, as a post on pruning asks "
    "for the true dimensionality of such networks: where pruned models lie below the line of dense models of as many "
    "weights, training large and pruning beats training small. Lines between models, and their intervals, are "
    "interpolated in logarithms. Verdicts: a trend *holds* where the rank correlation with size is -0.8 or less and "
    "the intervals of the two ends do not overlap, *partly* where the largest loses less than the smallest by its "
    "mean. An order *holds* where neighbours' intervals do not overlap, *partly* where the means have that order; so "
    "does the claim against a dense model of as many weights. That pruning needs fewer weights than training a dense "
    "model *holds* where every pruning that gets so close to Bayes does, with pruned models taken at the upper and "
    "dense ones at the lower ends of their intervals, and *partly* where one does."
)
PUBLISHED = common.PUBLISHED
PRUNINGS = {
    "magnitude 50 %": Pruning("magnitude", 0.5),
    "SparseGPT 50 %": Pruning("sparsegpt", 0.5),
    "SparseGPT 4:8": Pruning("sparsegpt", pattern=(4, 8)),
    "SparseGPT 2:4": Pruning("sparsegpt", pattern=(2, 4)),
    "SparseGPT 75 %": Pruning("sparsegpt", 0.75),
    "ALPS 50 %": Pruning("alps", 0.5),
}
STYLES: dict[str, dict[str, Any]] = {
    "magnitude 50 %": {"color": ORANGE, "marker": "s"},
    "SparseGPT 50 %": {"color": BLUE, "marker": "o"},
    "SparseGPT 4:8": {"color": SKY, "marker": "v"},
    "SparseGPT 2:4": {"color": PINK, "marker": "^"},
    "SparseGPT 75 %": {"color": GREEN, "marker": "D"},
    "ALPS 50 %": {"color": YELLOW, "marker": "P"},
}
LEVELS = (0.05, 0.03)  # nats above Bayes
NEEDED = ("SparseGPT 50 %", "ALPS 50 %", "SparseGPT 75 %")


class Sizes(NamedTuple):
    documents: int  # that losses are measured on


PRESETS = presets(FAMILIES, quick=Sizes(128), small=Sizes(512), paper=Sizes(100))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, parameters, kept (weights that are not 0), pruning, quantity; value in nats per token.

    Quantities: excess (over exact Bayes) and cost (loss above the dense model's, paired on documents).
    """
    table = Table("model", "parameters", "kept", "pruning", "quantity")
    documents = held_back(next(iter(models.values()))[0], sizes.documents)
    for name, (run,) in tqdm(models.items(), desc="sizes", unit="model"):  # another seed would keep other weights
        add_prunings(table, name, run, documents)
    return table.rows()


def add_prunings(table: Table, name: str, run: Run, documents: Documents) -> None:
    """The losses of one model, dense and after each pruning."""
    size, dense = parameters(run.model), excess(run.model, documents)
    table.add(name, size, size, "dense", "excess", seed=run.seed, values=dense)
    for label, how in PRUNINGS.items():
        model = pruned(run, how)
        loss, kept = excess(model, documents), not_zero(model)
        table.add(name, size, kept, label, "excess", seed=run.seed, values=loss)
        table.add(name, size, kept, label, "cost", seed=run.seed, values=loss - dense)


def not_zero(model: checkpoints.Model) -> int:
    """How many weights are not 0."""
    return sum(int((np.asarray(weight) != 0).sum()) for weight in checkpoints.split(model)[1].values())


def plot(rows: pd.DataFrame) -> Figure:
    rows = over_seeds(rows)
    figure, ((losses, weights), (ours, theirs)) = plt.subplots(2, 2, figsize=(11, 8.6))
    draw_losses(losses, rows, "parameters", tuple(STYLES))
    losses.set(xlabel="parameters of the dense model", title="ours: loss by size")
    draw_losses(weights, rows, "kept", tuple(label for label in STYLES if label != "magnitude 50 %"))
    weights.set(xlabel="weights that are not 0", title="ours: how many weights are needed?")
    for label, style in STYLES.items():
        draw_line(ours, pick(rows, pruning=label, quantity="cost"), "parameters", **style, label=label)
    ours.set_title("ours: what pruning costs")
    draw_published(theirs)
    for panel in (ours, theirs):
        panel.axhline(0, color="black", lw=0.8)
        panel.set(xscale="log", xlabel="parameters", ylabel="loss above the dense model's, nats per token")
        panel.set_yscale("symlog", linthresh=0.1)
    legend_below(figure, losses, 4)
    return figure


def draw_losses(panel: Axes, rows: pd.DataFrame, x: str, prunings: tuple[str, ...]) -> None:
    """Loss above Bayes of dense and pruned models, by parameters or by weights that are left."""
    draw_line(panel, pick(rows, pruning="dense"), x, color="black", marker="o", label="dense")
    for label in prunings:
        draw_line(panel, pick(rows, pruning=label, quantity="excess"), x, **STYLES[label], label=label)
    panel.set(xscale="log", yscale="log", ylabel="loss above exact Bayes, nats per token")


def draw_published(panel: Axes) -> None:
    dense = common.published("size", pruning="dense").set_index("model").nats
    styles = STYLES | {"AdaPrune 50 %": {"color": "black", "marker": "x"}}
    for label, style in styles.items():
        line = common.published("size", pruning=label)
        if len(line):
            panel.plot(line.parameters, line.nats - dense[line.model].to_numpy(), ls="--", lw=1, mfc="white", **style,
                       label=label if label.startswith("AdaPrune") else None)  # fmt: skip
    panel.set_title("Frantar & Alistarh 2023: OPT")
    panel.legend(loc="center left")


def claims(rows: pd.DataFrame) -> list[Claim]:
    """The trend with size, the order of the prunings, pruned against dense, and how many weights the task needs."""
    rows = over_seeds(rows)
    large = rows.model.iloc[-1]
    return [
        trend_claim(rows, "SparseGPT 50 %", "0.287 → -0.017 nats per token (OPT-125M → 175B, Table 1)"),
        trend_claim(rows, "SparseGPT 2:4", "0.320 → 0.046 nats per token (OPT-2.7B → 175B, Table 1)"),
        pattern_claim(rows, large),
        magnitude_claim(rows, large),
        *(same_size_claim(rows, large, label) for label in ("SparseGPT 50 %", "SparseGPT 75 %")),
        *(need_claim(rows, level) for level in LEVELS),
    ]


def cost(rows: pd.DataFrame, name: str, label: str) -> Estimate:
    return only(rows, model=name, pruning=label, quantity="cost")


def trend_claim(rows: pd.DataFrame, label: str, paper: str) -> Claim:
    line = pick(rows, pruning=label, quantity="cost").sort_values("parameters")
    first, last = (cost(rows, name, label) for name in (rows.model.iloc[0], rows.model.iloc[-1]))
    trend = float(scipy.stats.spearmanr(line.parameters, line.value).statistic)
    return Claim(
        f"{label}: the larger the model, the less it loses",
        paper,
        f"{show(first)} → {show(last)} nats, rank correlation over {len(line)} sizes {trend:.2f}",
        judged(trend <= -0.8 and above(first, last) == "holds", last.mean < first.mean),
    )


def pattern_claim(rows: pd.DataFrame, name: str) -> Claim:
    half, loose, strict = (cost(rows, name, f"SparseGPT {pattern}") for pattern in ("50 %", "4:8", "2:4"))
    return Claim(
        f"{name}: 2:4 costs more than 4:8, and 4:8 more than 50 % anywhere",
        "-0.017, 0.012, 0.046 nats per token (OPT-175B: 50 %, 4:8, 2:4; Table 1)",
        f"{show(half)}, {show(loose)}, {show(strict)} nats",
        judged(above(loose, half) == above(strict, loose) == "holds", half.mean < loose.mean < strict.mean),
    )


def magnitude_claim(rows: pd.DataFrame, name: str) -> Claim:
    magnitude, sparsegpt = (cost(rows, name, f"{method} 50 %") for method in ("magnitude", "SparseGPT"))
    return Claim(
        f"{name}: at 50 % magnitude loses more than SparseGPT",
        "8.55 against -0.017 nats per token (OPT-175B, Table 1)",
        f"{show(magnitude)} against {show(sparsegpt)} nats",
        above(magnitude, sparsegpt),
    )


def same_size_claim(rows: pd.DataFrame, name: str, label: str) -> Claim:
    loss = only(rows, model=name, pruning=label, quantity="excess")
    kept = int(pick(rows, model=name, pruning=label, quantity="excess").kept.iloc[0])
    dense = dense_with(rows, kept)
    return Claim(
        f"{name}, {label}: a large model pruned loses less than a dense one with as many weights",
        "no claim of the paper's",
        f"{show(loss)} nats above Bayes with {kept:,} weights, dense {show(dense)}",
        above(dense, loss),
    )


def dense_with(rows: pd.DataFrame, weights: float) -> Estimate:
    """Loss above Bayes of a dense model with so many weights, between those of the family."""
    line = pick(rows, pruning="dense").sort_values("kept")
    low, mean, high = (
        np.exp(np.interp(np.log(weights), np.log(line.kept), log_loss(line, ends))) for ends in (-1, 0, 1)
    )
    return Estimate(float(mean), float(high - low) / 2)


def log_loss(line: pd.DataFrame, ends: int) -> Float[np.ndarray, " N"]:
    """Log of the losses: means, or the lower (-1) or upper (1) ends of their intervals."""
    return np.log(np.maximum(line.value.to_numpy() + ends * line.half_width.to_numpy(), 1e-6))


def need_claim(rows: pd.DataFrame, level: float) -> Claim:
    need = {label: weights_needed(rows, label, level) for label in ("dense", *NEEDED)}
    reaching = [label for label in NEEDED if np.isfinite(need[label])]
    fewest = weights_needed(rows, "dense", level, -1)
    fewer = [weights_needed(rows, label, level, 1) < fewest for label in reaching]
    return Claim(
        f"how many weights the task needs for {level:g} nats above Bayes: fewer after pruning",
        "asked in a post on pruning as the true dimensionality of a network, without a number",
        ", ".join(f"{label} {n:,.0f}" if np.isfinite(n) else f"{label} never" for label, n in need.items()),
        judged(bool(fewer) and all(fewer), any(fewer)),
    )


def weights_needed(rows: pd.DataFrame, label: str, level: float, ends: int = 0) -> float:
    """Weights of a model so pruned whose loss above Bayes is at a level, between those of the family.

    The smallest model's where that is enough, infinite where none gets so low.
    """
    line = pick(rows, pruning=label, quantity="excess").sort_values("kept")
    loss = np.minimum.accumulate(log_loss(line, ends))
    if np.log(level) < loss.min():
        return float("inf")
    return float(np.exp(np.interp(-np.log(level), -loss, np.log(line.kept))))
