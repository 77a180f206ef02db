"""Loss by sparsity for four ways to prune (Frantar & Alistarh 2023, Fig. 1 and 5 and their text)."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.pruning.apply import Method, Pruning
from figures.lab.claims import Claim, listed, nats, no_more, positive, scaled
from figures.lab.measure import Documents, excess, held_back
from figures.lab.presets import ENDS, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLACK, PUBLISHED_LINE, WIDTH, draw_line, draw_seeds, name_ends
from figures.lab.tables import Table, only, over_seeds, pick
from figures.pruning import common
from figures.pruning.common import COLOURS, MARKERS, NAMES, pruned
from icl_synth.estimates import Estimate

TITLE = "Loss by sparsity: magnitude, Wanda, SparseGPT, ALPS (Frantar & Alistarh 2023, Fig. 1 and 5)"
DIFFERS = (
    "The paper prunes OPT-175B and BLOOM-176B on text; its Fig. 5 is drawn, and how far each method holds on OPT-175B, "
    "by its text (dotted). Ours are models of 0.05 to 4.7 M parameters on a world whose best loss is known, so that "
    "the loss is shown above exact Bayes. Sparsity is that of the matrices inside layers, as in the paper. Small "
    "models have less to spare. The paper draws no line between a loss that is kept and one that is not; it says that "
    "SparseGPT at one sparsity costs what magnitude costs at a smaller one. So we compare those two sparsities, paired "
    "on documents and seeds, and need no line either: SparseGPT at 60 % is to lose no more than magnitude at 10 % "
    "(OPT-175B), and at 50 % no more than magnitude at 30 % (BLOOM-176B). Where magnitude collapses in the paper, at "
    "40 % (OPT-175B) and 60 % (BLOOM-176B), it is to lose more than SparseGPT does at 80 %. Wanda and ALPS are not in "
    "the paper (Sun et al. 2023, Meng et al. 2024): ALPS is to lose less than SparseGPT at 70 %, where its authors' "
    "number stands; SparseGPT against Wanda, at 50 to 80 %, is our question. Wanda drops whole numbers of weights in "
    "each row: 38 of 64 at 60 %."
)
PUBLISHED = common.PUBLISHED
PAPER_DENSE = 8.11  # perplexity of BLOOM-176B (Table 6)
PAPER_HOLDS: dict[Method, int] = {"magnitude": 10, "sparsegpt": 60}  # %, quoted
# sparsities at which SparseGPT is said to cost no more than magnitude does, and the model
ALIKE = ((0.6, 0.1, "OPT-175B, Fig. 1"), (0.5, 0.3, "BLOOM-176B, Fig. 5"))
COLLAPSE = ((0.8, 0.4, "OPT-175B"), (0.8, 0.6, "BLOOM-176B"))  # at which magnitude is said to lose far more
WANDA_AT, ALPS_AT = (0.5, 0.6, 0.7, 0.8), 0.7


class Sizes(NamedTuple):
    documents: int  # that losses are measured on
    sparsities: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


PRESETS = presets(ENDS, quick=Sizes(128), small=Sizes(512), paper=Sizes(100))
Losses = dict[tuple[Method, float], Float[np.ndarray, " B"]]


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, method, sparsity, quantity; value in nats per token.

    Quantities: excess (over exact Bayes), and "above METHOD at SPARSITY": how much more a pruned model loses than
    another, paired.
    """
    table = Table("model", "method", "sparsity", "quantity")
    documents = held_back(next(iter(models.values()))[0], sizes.documents)
    bar = tqdm(total=sum(map(len, models.values())), desc="prunings", unit="model")
    for name, runs in models.items():
        for run in runs:
            add_prunings(table, name, run, sizes, documents)
            bar.update()
    return table.rows()


def add_prunings(table: Table, name: str, run: Run, sizes: Sizes, documents: Documents) -> None:
    """The losses of one model by every method at every sparsity, and the differences that claims speak of."""
    table.add(name, "dense", 0.0, "excess", seed=run.seed, values=excess(run.model, documents))
    losses: Losses = {}
    for sparsity in sizes.sparsities:
        for method in NAMES:
            losses[method, sparsity] = excess(pruned(run, Pruning(method, sparsity)), documents)
            table.add(name, method, sparsity, "excess", seed=run.seed, values=losses[method, sparsity])
    for worse, better in pairs():
        values = losses[worse] - losses[better]
        table.add(name, *worse, above_label(*better), seed=run.seed, values=values)


def pairs() -> list[tuple[tuple[Method, float], tuple[Method, float]]]:
    """The prunings, each by its method and sparsity, of which the first is said to lose more than the second."""
    magnitude: list[tuple[tuple[Method, float], tuple[Method, float]]] = [
        (("magnitude", less), ("sparsegpt", more)) for more, less, _ in (*ALIKE, *COLLAPSE)
    ]
    wanda: list[tuple[tuple[Method, float], tuple[Method, float]]] = [
        (("wanda", sparsity), ("sparsegpt", sparsity)) for sparsity in WANDA_AT
    ]
    return [*magnitude, *wanda, (("sparsegpt", ALPS_AT), ("alps", ALPS_AT))]


def above_label(method: Method, sparsity: float) -> str:
    return f"above {method} at {sparsity:g}"


def plot(rows: pd.DataFrame) -> Figure:
    name = common.largest(pick(rows, method="dense", quantity="excess"))
    rows = pick(rows, model=name, quantity="excess")
    means = over_seeds(rows)
    figure, (ours, theirs) = plt.subplots(1, 2, figsize=(WIDTH, 4.0), width_ratios=(1.6, 1), sharey=True)
    ours.set(title=f"ours: {name}", yscale="log", ylabel="loss above exact Bayes, nats per token")
    ours.yaxis.set_major_formatter("{x:g}")
    draw_published(theirs)
    draw_model(ours, rows, means)
    for panel in (ours, theirs):
        panel.set_xlabel("weights dropped, %")
    most = {label: only(means, method=method, sparsity=ALPS_AT).mean for method, label in NAMES.items()}
    best, *_, worst = order = sorted(most, key=most.__getitem__)
    found = ", ".join(f"{label} {most[label]:.3f}" for label in order)
    figure.suptitle(f"With {100 * ALPS_AT:.0f} % of the weights dropped, {best} loses least and {worst} most:\n{found} "
                    "nats above exact Bayes", size=11)  # fmt: skip
    return figure


def draw_model(panel: Axes, rows: pd.DataFrame, means: pd.DataFrame) -> None:
    """Loss of one of our models by sparsity, a line for each method."""
    dense = only(means, method="dense").mean
    panel.axhline(dense, color=BLACK, ls=":", lw=1.2)
    ends = []
    for method, label in NAMES.items():
        line, each = (pick(table.assign(x=100 * table.sparsity), method=method) for table in (means, rows))
        draw_seeds(panel, each, "x", COLOURS[method])
        draw_line(panel, line, "x", color=COLOURS[method], marker=MARKERS[method])
        ends.append((label, line.x.iloc[-1], line.value.iloc[-1], COLOURS[method]))
    name_ends(panel, [*ends, ("dense", panel.get_xlim()[1], dense, BLACK)])


def draw_published(panel: Axes) -> None:
    """The paper's curves as nats above its dense model, and how far it says that each method holds."""
    methods: tuple[Method, ...] = ("magnitude", "sparsegpt")
    for method in methods:
        line = common.published("other", quantity=f"sparsity, {NAMES[method]}")
        line = line.assign(x=100 * line.x, nats=line.nats - np.log(PAPER_DENSE))[line.perplexity > PAPER_DENSE]
        panel.plot(line.x, line.nats, **PUBLISHED_LINE | {"color": COLOURS[method], "marker": MARKERS[method]})
        panel.annotate(NAMES[method], (line.x.iloc[-1], line.nats.iloc[-1]), (10, 7), textcoords="offset points",
                       size=8, color=COLOURS[method], ha="right")  # fmt: skip
    for method, sparsity in PAPER_HOLDS.items():
        panel.axvline(sparsity, color=COLOURS[method], ls=(0, (1, 3)), lw=1.6, zorder=1)
        panel.annotate("OPT-175B holds to here", (sparsity, 0.02), (3, 0), xycoords=("data", "axes fraction"), size=8,
                       textcoords="offset points", rotation=90, color=COLOURS[method])  # fmt: skip
    panel.set(title="Frantar & Alistarh 2023:\nBLOOM-176B, above dense", xlim=(0, 90))


def claims(rows: pd.DataFrame) -> list[Claim]:
    """How far each method holds against magnitude, and the order of methods."""
    rows = over_seeds(rows)
    judges = (alike_claim, collapse_claim, alps_claim, wanda_claim)
    return [judge(rows, name) for name in rows.model.unique() for judge in judges]


def above(
    rows: pd.DataFrame, name: str, worse: Method, sparsity: float, better: Method, at: float | None = None
) -> Estimate:
    quantity = above_label(better, sparsity if at is None else at)
    return only(rows, model=name, method=worse, sparsity=sparsity, quantity=quantity)


def against_magnitude(
    rows: pd.DataFrame, name: str, cells: tuple[tuple[float, float, str], ...]
) -> dict[str, Estimate]:
    """How much more SparseGPT loses than magnitude, by the two sparsities."""
    return {
        f"SparseGPT at {100 * more:.0f} % less magnitude at {100 * less:.0f} %": scaled(
            above(rows, name, "magnitude", less, "sparsegpt", more), -1
        )
        for more, less, _ in cells
    }


def alike_claim(rows: pd.DataFrame, name: str) -> Claim:
    costs = against_magnitude(rows, name, ALIKE)
    return Claim(
        f"{name}: SparseGPT at 60 % costs no more than magnitude at 10 %, at 50 % no more than magnitude at 30 %",
        "; ".join(f"{100 * more:.0f} % as magnitude's {100 * less:.0f} % ({model})" for more, less, model in ALIKE),
        f"{listed(costs, 3)} nats",
        [no_more(cost, 0.0) for cost in costs.values()],
        headline=name == "width 256",
    )


def collapse_claim(rows: pd.DataFrame, name: str) -> Claim:
    costs = against_magnitude(rows, name, COLLAPSE)
    return Claim(
        f"{name}: magnitude at 40 and 60 % loses more than SparseGPT at 80 %",
        "magnitude's perplexity above 100 at 40 % (OPT-175B) and 60 % (BLOOM-176B), SparseGPT's reasonable at 80 %",
        f"{listed(costs, 3)} nats",
        [positive(scaled(cost, -1)) for cost in costs.values()],
    )


def alps_claim(rows: pd.DataFrame, name: str) -> Claim:
    less = above(rows, name, "sparsegpt", ALPS_AT, "alps")
    return Claim(
        f"{name}: ALPS loses less than SparseGPT at 70 %",
        "perplexity 52.0 → 39.5 (OPT-1.3B at 70 %; Meng et al. 2024)",
        f"{nats(less)} nats less",
        [positive(less)],
    )


def wanda_claim(rows: pd.DataFrame, name: str) -> Claim:
    less = {f"{100 * sparsity:.0f} %": above(rows, name, "wanda", sparsity, "sparsegpt") for sparsity in WANDA_AT}
    return Claim(
        f"{name}: SparseGPT loses less than Wanda at 50 to 80 %",
        "no comparison in the paper",
        f"less by {listed(less, 3)} nats",
        [positive(value) for value in less.values()],
        own=True,
    )
