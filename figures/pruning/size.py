"""What pruning costs by the size of the model (Frantar & Alistarh 2023, Fig. 2 and Table 1)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.stats
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.pruning.apply import Pruning
from figures import pruning
from figures.claims import Claim, above, judged
from figures.pruning import draw_line, excess, held_back, only, pick, pruned, show
from figures.recipes import Recipe, Wanted, trained
from icl_synth import checkpoints
from icl_synth.evaluate import estimate

TITLE = "What pruning costs by the size of the model (Frantar & Alistarh 2023, Fig. 2 and Table 1)"
DIFFERS = (
    "The paper prunes OPT from 0.125 to 175 thousand million parameters, trained alike on one corpus; ours are six "
    "transformers of 0.05 to 4.7 million on one world, one seed each, so that intervals are over documents only. They "
    "are not trained alike: the smallest has 4 blocks, the others 6, and the smaller ones saw more tokens (16 M down "
    "to 6 M), so size is not all that differs. Losses are in nats a token, so the paper's perplexities are drawn as "
    "their logarithm above the dense model's. The last panel asks how many weights the task needs, as a post on "
    "pruning asks for the true dimensionality of such networks: where pruned models lie below the line of dense models "
    "of as many weights, training large and pruning beats training small. Lines between models are interpolated in "
    "logarithms of both. Verdicts: a trend *holds* where the rank correlation with size is -.8 or less and the ends' "
    "intervals are apart, *partly* where the largest loses less than the smallest; an order *holds* where neighbours' "
    "intervals are apart; against a dense model of as many weights, where the interval lies below its line; that "
    "pruning needs fewer weights than training a dense model, where every pruning that gets so close to Bayes does, "
    "*partly* where one does."
)
PUBLISHED = pruning.PUBLISHED
PRUNINGS = {
    "magnitude 50 %": Pruning("magnitude", 0.5),
    "SparseGPT 50 %": Pruning("sparsegpt", 0.5),
    "SparseGPT 4:8": Pruning("sparsegpt", pattern=(4, 8)),
    "SparseGPT 2:4": Pruning("sparsegpt", pattern=(2, 4)),
    "SparseGPT 75 %": Pruning("sparsegpt", 0.75),
    "ALPS 50 %": Pruning("alps", 0.5),
}
LEVELS = (0.05, 0.03)  # nats above Bayes
NEEDED = ("SparseGPT 50 %", "ALPS 50 %", "SparseGPT 75 %")
STYLES = {
    "magnitude 50 %": {"color": "#D55E00", "marker": "s"},
    "SparseGPT 50 %": {"color": "#0072B2", "marker": "o"},
    "SparseGPT 4:8": {"color": "#56B4E9", "marker": "v"},
    "SparseGPT 2:4": {"color": "#CC79A7", "marker": "^"},
    "SparseGPT 75 %": {"color": "#009E73", "marker": "D"},
    "ALPS 50 %": {"color": "#E69F00", "marker": "P"},
}


def wanted(recipe: Recipe) -> Wanted:
    return recipe.sizes


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: model, parameters, kept (weights not 0), pruning, quantity, value, half_width (95 %), nats a token.

    Quantities: excess (over exact Bayes) and cost (loss above the dense model's, paired on documents).
    """
    models = trained(wanted(recipe))
    documents = held_back(models[0], recipe)
    rows = []
    for one in tqdm(models, desc="sizes", unit="model"):
        size, dense = pruning.parameters(one.model), excess(one.model, documents)
        rows.append((one.name, size, size, "dense", "excess", *estimate(dense)))
        for label, how in PRUNINGS.items():
            model = pruned(one, how)
            kept = sum(int((np.asarray(weight) != 0).sum()) for weight in checkpoints.split(model)[1].values())
            loss = excess(model, documents)
            rows.append((one.name, size, kept, label, "excess", *estimate(loss)))
            rows.append((one.name, size, kept, label, "cost", *estimate(loss - dense)))
    columns = ["model", "parameters", "kept", "pruning", "quantity", "value", "half_width"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["models"] = [one.record() for one in models]
    return table


def plot(rows: pd.DataFrame) -> Figure:
    figure, ((losses, weights), (ours, theirs)) = plt.subplots(2, 2, figsize=(11, 8.6))
    values = pruning.published("size")
    dense = values[values.pruning == "dense"].set_index("model").nats
    for label, style in STYLES.items():
        draw_line(ours, pick(rows, pruning=label, quantity="cost"), "parameters", **style, label=label)
        line = values[values.pruning == label]
        if len(line):
            theirs.plot(line.parameters, line.nats - dense[line.model].to_numpy(), "--", lw=1, mfc="white", **style)
    line = values[values.pruning == "AdaPrune 50 %"]
    theirs.plot(
        line.parameters, line.nats - dense[line.model].to_numpy(), "k--", marker="x", lw=1, label="AdaPrune 50 %"
    )
    for panel in (ours, theirs):
        panel.axhline(0, color="black", lw=0.8)
        panel.set(xscale="log", xlabel="parameters")
        panel.set_ylabel("loss above the dense model's, nats a token")
        panel.set_yscale("symlog", linthresh=0.1)
    ours.set_title("ours: what pruning costs")
    theirs.set_title("Frantar & Alistarh 2023: OPT")
    theirs.legend(loc="center left")
    for panel, place in ((losses, "parameters"), (weights, "kept")):
        draw_line(panel, pick(rows, pruning="dense"), place, color="black", marker="o", label="dense")
        for label, style in STYLES.items():
            if panel is losses or label != "magnitude 50 %":
                draw_line(panel, pick(rows, pruning=label, quantity="excess"), place, **style, label=label)
        panel.set(xscale="log", yscale="log")
        panel.set_ylabel("loss above exact Bayes, nats a token")
    losses.set(xlabel="parameters of the dense model", title="ours: loss by size")
    weights.set(xlabel="weights that are not 0", title="ours: how many weights are needed?")
    figure.legend(*losses.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """The trend with size, the order of the patterns, and magnitude against SparseGPT."""
    table = []
    small, large = rows.model.iloc[0], rows.model.iloc[-1]
    quoted = {"SparseGPT 50 %": ".287 → -.017", "SparseGPT 2:4": ".320 → .046"}
    place = {"SparseGPT 50 %": "OPT-125M → 175B", "SparseGPT 2:4": "OPT-2.7B → 175B"}
    for label, numbers in quoted.items():
        line = pick(rows, pruning=label, quantity="cost").sort_values("parameters")
        first, last = (only(rows, model=name, pruning=label, quantity="cost") for name in (small, large))
        trend = float(scipy.stats.spearmanr(line.parameters, line.value).statistic)
        table.append(
            Claim(
                f"{label}: the larger the model, the less it loses",
                f"{numbers} nats a token ({place[label]}, Table 1)",
                f"{show(first)} → {show(last)} nats, rank correlation over {len(line)} sizes {trend:.2f}",
                judged(trend <= -0.8 and above(first, last) == "holds", last.mean < first.mean),
            )
        )
    half, loose, strict, size = (
        only(rows, model=large, pruning=label, quantity="cost")
        for label in ("SparseGPT 50 %", "SparseGPT 4:8", "SparseGPT 2:4", "magnitude 50 %")
    )
    table.append(
        Claim(
            f"{large}: 2:4 costs more than 4:8, and 4:8 more than 50 % anywhere",
            "-.017, .012, .046 nats a token (OPT-175B: 50 %, 4:8, 2:4; Table 1)",
            f"{show(half)}, {show(loose)}, {show(strict)} nats",
            judged(above(loose, half) == above(strict, loose) == "holds", half.mean < loose.mean < strict.mean),
        )
    )
    table.append(
        Claim(
            f"{large}: at 50 % magnitude loses more than SparseGPT",
            "8.55 against -.017 nats a token (OPT-175B, Table 1)",
            f"{show(size)} against {show(half)} nats",
            above(size, half),
        )
    )
    for label in ("SparseGPT 50 %", "SparseGPT 75 %"):
        row = pick(rows, model=large, pruning=label, quantity="excess").iloc[0]
        dense = dense_with(rows, row.kept)
        table.append(
            Claim(
                f"{large}, {label}: a large model pruned loses less than a dense one with as many weights",
                "no claim of the paper's",
                f"{row.value:.3f} ± {row.half_width:.3f} nats above Bayes with {row.kept:,} weights, dense {dense:.3f}",
                judged(row.value + row.half_width < dense, row.value < dense),
            )
        )
    for level in LEVELS:
        need = {label: weights_needed(rows, label, level) for label in ("dense", *NEEDED)}
        reached = [need[label] < need["dense"] for label in NEEDED if np.isfinite(need[label])]
        table.append(
            Claim(
                f"how many weights the task needs for {level:g} nats above Bayes: fewer after pruning",
                "asked in a post on pruning as the true dimensionality of a network, without a number",
                ", ".join(f"{label} {n:,.0f}" if np.isfinite(n) else f"{label} never" for label, n in need.items()),
                judged(bool(reached) and all(reached), any(reached)),
            )
        )
    return table


def weights_needed(rows: pd.DataFrame, label: str, level: float) -> float:
    """Weights of a model so pruned whose loss above Bayes is at a level, between those of the family; the smallest
    model's where that is enough, infinite where none gets so low."""
    line = pick(rows, pruning=label, quantity="excess").sort_values("kept")
    loss = np.log(np.minimum.accumulate(line.value.clip(lower=1e-6)))
    if np.log(level) < loss.min():
        return float("inf")
    return float(np.exp(np.interp(-np.log(level), -loss, np.log(line.kept))))


def dense_with(rows: pd.DataFrame, weights: float) -> float:
    """Loss above Bayes of a dense model with so many weights, between those of the family."""
    line = pick(rows, pruning="dense").sort_values("kept")
    return float(np.exp(np.interp(np.log(weights), np.log(line.kept), np.log(line.value.clip(lower=1e-6)))))
