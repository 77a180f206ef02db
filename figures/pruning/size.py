"""What pruning costs by the size of the model (Frantar & Alistarh 2023, Fig. 2 and Table 1)."""

from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.pruning.apply import Pruning
from compression.pruning.calibrate import BLOCKS
from compression.pruning.problem import num_dropped
from figures.lab.claims import Claim, difference, listed, nats, positive, scaled
from figures.lab.measure import excess, held_back, parameters
from figures.lab.presets import FAMILIES, presets
from figures.lab.runs import Models
from figures.lab.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    PINK,
    PUBLISHED_LINE,
    SKY,
    WIDTH,
    draw_line,
    draw_seeds,
    name_ends,
)
from figures.lab.tables import Table, as_estimate, over_seeds, pick
from figures.pruning import common
from figures.pruning.common import between_losses, pruned
from icl_synth import checkpoints
from icl_synth.estimates import Estimate

TITLE = "What pruning costs by the size of the model (Frantar & Alistarh 2023, Fig. 2 and Table 1)"
DIFFERS = (
    "The paper prunes OPT from 0.125 to 175 billion parameters, trained alike on one corpus. Ours are transformers of "
    "0.05 to 4.7 million parameters on one world. They are not trained alike: the smallest has 4 blocks, the others 6, "
    "and the smaller ones saw more tokens, so size is not all that differs. The largest has one training seed and "
    "counts without a spread over seeds. Losses are in nats per token; the paper's perplexities are drawn as their "
    "logarithm above the dense model's. A trend is the slope of the cost (loss above the dense model's) by the "
    "logarithm of the number of parameters, over all sizes, taken as independent though they read the same documents: "
    "it is to fall for SparseGPT's three patterns, and to rise "
    "for magnitude, whose larger models the paper sees drop faster. The order of patterns, and of magnitude and "
    "SparseGPT, is judged at every size, paired on documents and seeds. Our question, which a post on pruning calls "
    "that of the true dimensionality of a network, is whether a pruned model loses less than a dense one with as many "
    "weights, trained by itself. The dense loss is interpolated for each seed between the two nearest sizes, linearly "
    "in logarithms, and the difference is paired on documents (delta method)."
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
STYLES: dict[str, dict[str, Any]] = {  # of what is drawn
    "magnitude 50 %": {"color": ORANGE, "marker": "s"},
    "SparseGPT 50 %": {"color": BLUE, "marker": "o"},
    "SparseGPT 4:8": {"color": SKY, "marker": "v"},
    "SparseGPT 2:4": {"color": PINK, "marker": "^"},
}
PAIRS = (  # which pruning is said to lose more than which
    ("SparseGPT 4:8", "SparseGPT 50 %"),
    ("SparseGPT 2:4", "SparseGPT 4:8"),
    ("magnitude 50 %", "SparseGPT 50 %"),
)
AGAINST_DENSE = ("SparseGPT 50 %", "ALPS 50 %", "SparseGPT 75 %")
Losses = Float[np.ndarray, " B"]


class Sizes(NamedTuple):
    documents: int  # that losses are measured on


PRESETS = presets(FAMILIES, quick=Sizes(128), small=Sizes(512), paper=Sizes(100))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, parameters, kept (weights that are not dropped), pruning, quantity; value in nats per token.

    Quantities, by model, pruning and seed: excess (over exact Bayes), cost (loss above the dense model's), "above
    PRUNING" for PAIRS, and above_dense (loss above that of a dense model with as many weights, interpolated); all
    differences are paired on documents.
    """
    table = Table("model", "parameters", "kept", "pruning", "quantity")
    documents = held_back(next(iter(models.values()))[0], sizes.documents)
    dense: dict[int, dict[int, Losses]] = {}  # by seed and parameters
    losses: dict[tuple[str, int, str, int], Losses] = {}  # by model, parameters, pruning and seed
    for name, runs in tqdm(models.items(), desc="sizes", unit="model"):
        for run in runs:
            size = parameters(run.model)
            dense.setdefault(run.seed, {})[size] = excess(run.model, documents)
            table.add(name, size, size, "dense", "excess", seed=run.seed, values=dense[run.seed][size])
            for label, how in PRUNINGS.items():
                losses[name, size, label, run.seed] = excess(pruned(run, how), documents)
    kept = {
        (name, label): weights_kept(runs[0].model, how)
        for name, runs in models.items()
        for label, how in PRUNINGS.items()
    }
    for (name, size, label, seed), values in losses.items():
        cell = (name, size, kept[name, label], label)
        table.add(*cell, "excess", seed=seed, values=values)
        table.add(*cell, "cost", seed=seed, values=values - dense[seed][size])
        for worse, better in PAIRS:
            if label == worse:
                table.add(*cell, f"above {better}", seed=seed, values=values - losses[name, size, better, seed])
        if label in AGAINST_DENSE and kept[name, label] >= min(dense[seed]):
            table.add(*cell, "above_dense", seed=seed, values=values - dense_with(dense[seed], kept[name, label]))
    return table.rows()


def weights_kept(model: checkpoints.Model, how: Pruning) -> int:
    """How many weights are not dropped, those outside blocks included."""
    dropped = 1 - how.pattern[0] / how.pattern[1] if how.pattern else how.sparsity
    inside = [
        weight.shape
        for name, weight in checkpoints.split(model)[1].items()
        if name.startswith(BLOCKS) and name.endswith(".kernel")
    ]
    return parameters(model) - sum(num_dropped(dropped, *shape) for shape in inside)


def dense_with(dense: dict[int, Losses], weights: int) -> Losses:
    """Losses of a dense model with so many weights, between the nearest two of the family."""
    smaller = max(size for size in dense if size <= weights)
    larger = min((size for size in dense if size > smaller), default=smaller)
    if larger == smaller:
        return dense[smaller]
    return between_losses(weights, (smaller, dense[smaller]), (larger, dense[larger]))


def plot(rows: pd.DataFrame) -> Figure:
    means = over_seeds(rows)
    figure, panel = plt.subplots(figsize=(WIDTH, 4.6))
    panel.axhline(0, color=BLACK, lw=0.8)
    draw_published(panel)
    draw_costs(panel, pick(rows, quantity="cost"), pick(means, quantity="cost"))
    panel.set(xlabel="parameters of the dense model", ylabel="loss above the dense model's, nats per token")
    magnitude, ours = ("more" if slope(means, label).mean > 0 else "less" for label in list(STYLES)[:2])
    figure.suptitle(f"The larger our models, the {magnitude} magnitude and the {ours} SparseGPT costs at 50 %;\n"
                    "the paper's lose more by magnitude and less by SparseGPT", size=11)  # fmt: skip
    return figure


def draw_costs(panel: Axes, rows: pd.DataFrame, means: pd.DataFrame) -> None:
    """What each pruning costs our models by their size."""
    ends = []
    for label in STYLES:
        line, style = pick(means, pruning=label).sort_values("parameters"), STYLES[label]
        draw_seeds(panel, pick(rows, pruning=label), "parameters", style["color"])
        draw_line(panel, line, "parameters", **style)
        ends.append((label, line.parameters.iloc[0], line.value.iloc[0], style["color"]))
    panel.set(xscale="log", xlim=(means.parameters.min() / 30, 4e11), ylim=(-0.06, 12))
    panel.set_yscale("symlog", linthresh=0.1, linscale=0.6)
    ticks = (-0.05, 0, 0.05, 0.1, 0.3, 1, 3, 10)
    panel.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    name_ends(panel, ends, side=-1)


def draw_published(panel: Axes) -> None:
    """The paper's costs as nats above its dense models'."""
    dense = common.published("size", pruning="dense").set_index("model").nats
    for label in STYLES:
        line = common.published("size", pruning=label)
        panel.plot(line.parameters, line.nats - dense[line.model].to_numpy(), **PUBLISHED_LINE | STYLES[label])
    panel.annotate("Frantar & Alistarh 2023: OPT", (0.98, 0.58), xycoords="axes fraction", size=9, color=GREY,
                   ha="right")  # fmt: skip


def claims(rows: pd.DataFrame) -> list[Claim]:
    """The trend with size, the order of the prunings, and pruned against dense."""
    rows = over_seeds(rows)
    return [
        trend_claim(rows, "SparseGPT 50 %", "0.287 → -0.017 nats per token (OPT-125M → 175B, Table 1)"),
        trend_claim(rows, "SparseGPT 4:8", "0.183 → 0.012 nats per token (OPT-2.7B → 175B, Table 1)"),
        trend_claim(rows, "SparseGPT 2:4", "0.320 → 0.046 nats per token (OPT-2.7B → 175B, Table 1)"),
        trend_claim(rows, "magnitude 50 %", "1.94 → 8.55 nats per token (OPT-125M → 175B, Table 1)", rises=True),
        pattern_claim(rows),
        magnitude_claim(rows),
        *(same_size_claim(rows, label) for label in AGAINST_DENSE),
    ]


def by_model(rows: pd.DataFrame, label: str, quantity: str) -> dict[str, Estimate]:
    """A quantity of a pruning at every size that has it."""
    line = pick(rows, pruning=label, quantity=quantity).sort_values("parameters")
    return {row.model: as_estimate(row) for _, row in line.iterrows()}


def slope(rows: pd.DataFrame, label: str) -> Estimate:
    """Of the cost by the logarithm (base 10) of the parameters: least squares over sizes, taken as independent."""
    line = pick(rows, pruning=label, quantity="cost")
    places = np.log10(line.parameters.to_numpy())
    coefficients = (places - places.mean()) / ((places - places.mean()) ** 2).sum()
    total = Estimate(0.0, 0.0)
    for coefficient, (_, row) in zip(coefficients, line.iterrows(), strict=True):
        total = difference(total, scaled(as_estimate(row), -float(coefficient)))
    return total


def trend_claim(rows: pd.DataFrame, label: str, paper: str, rises: bool = False) -> Claim:
    costs, trend = list(by_model(rows, label, "cost").values()), slope(rows, label)
    return Claim(
        f"{label}: the larger the model, the {'more' if rises else 'less'} it loses",
        paper,
        f"{nats(costs[0])} → {nats(costs[-1])} nats; slope {nats(trend)} nats a tenfold of the parameters",
        [positive(trend if rises else scaled(trend, -1))],
    )


def pattern_claim(rows: pd.DataFrame) -> Claim:
    loose, strict = (by_model(rows, worse, f"above {better}") for worse, better in PAIRS[:2])
    return Claim(
        "2:4 costs more than 4:8, and 4:8 more than 50 % anywhere",
        "-0.017, 0.012, 0.046 nats per token (OPT-175B: 50 %, 4:8, 2:4), in this order from 2.7B on (Table 1)",
        f"4:8 above 50 %: {listed(loose, 3)} nats. 2:4 above 4:8: {listed(strict, 3)} nats",
        [positive(more) for more in (*loose.values(), *strict.values())],
    )


def magnitude_claim(rows: pd.DataFrame) -> Claim:
    worse, better = PAIRS[2]
    more = by_model(rows, worse, f"above {better}")
    return Claim(
        "at 50 % magnitude loses more than SparseGPT",
        "8.55 against -0.017 nats per token (OPT-175B), at every size (Table 1)",
        f"more by {listed(more, 3)} nats",
        [positive(value) for value in more.values()],
    )


def same_size_claim(rows: pd.DataFrame, label: str) -> Claim:
    above = by_model(rows, label, "above_dense")
    losses = by_model(rows, label, "excess")
    return Claim(
        f"{label}: a large model pruned loses less than a dense one with as many weights",
        "no claim of the paper's",
        "; ".join(
            f"{name} {nats(losses[name])} nats above Bayes, {nats(value)} above dense" for name, value in above.items()
        ),
        [positive(scaled(value, -1)) for value in above.values()],
        own=True,
    )
