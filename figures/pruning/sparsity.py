"""Loss by sparsity for four ways to prune (Frantar & Alistarh 2023, Fig. 1 and its text)."""

from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.pruning.apply import Method, Pruning
from figures.lab.claims import Claim, judged, positive
from figures.lab.measure import Documents, excess, held_back
from figures.lab.presets import ENDS, presets
from figures.lab.runs import Models, Run
from figures.lab.style import PUBLISHED_LINE, draw_line, legend_below, panels
from figures.lab.tables import Table, only, over_seeds, pick
from figures.pruning import common
from figures.pruning.common import COLOURS, MARKERS, NAMES, pruned, show

TITLE = "Loss by sparsity: magnitude, Wanda, SparseGPT, ALPS (Frantar & Alistarh 2023, Fig. 1)"
DIFFERS = (
    "The paper's Fig. 1 is OPT-175B on text, of which the text quotes how far each method holds (dotted); the line "
    "drawn is SparseGPT on BLOOM-176B. Ours are models of 0.05 to 4.7 M parameters on a world with a known best loss, "
    "so that the loss is shown above exact Bayes; sparsity is measured on the matrices inside layers only, as in the "
    "paper. Small models have less to spare, so the paper's result at 60 % is not to be expected here. A method holds "
    "to a sparsity as long as the model's loss grows by less than 0.05 nats per token, which is 5 % of its perplexity; "
    "the paper draws no such line. The first claim of each model is judged on means: it *holds* where SparseGPT "
    "reaches 50 % and magnitude stops at least 20 points before, and *partly* where magnitude only stops before. "
    "Differences between methods are paired on documents and seeds; a claim about them *holds* where the 95 % interval "
    "lies on the claimed side. Wanda and ALPS are not in the paper (Sun et al. 2023, Meng et al. 2024). Wanda drops "
    "whole numbers of weights in each row: 38 of 64 at 60 %."
)
PUBLISHED = common.PUBLISHED
HOLDS = 0.05
PAPER_HOLDS: dict[Method, tuple[int, str]] = {"magnitude": (10, "about 10 %"), "sparsegpt": (60, "60 %")}  # quoted
PAIRS: tuple[tuple[Method, Method], ...] = (("magnitude", "wanda"), ("wanda", "sparsegpt"), ("sparsegpt", "alps"))


class Sizes(NamedTuple):
    documents: int  # that losses are measured on
    sparsities: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


PRESETS = presets(ENDS, quick=Sizes(128), small=Sizes(512), paper=Sizes(100))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, method, sparsity, quantity; value in nats per token.

    Quantities: excess (over exact Bayes), and above_METHOD (how much more the loss is than with that method, paired).
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
    """The losses of one model at every sparsity, and the differences between methods."""
    table.add(name, "dense", 0.0, "excess", seed=run.seed, values=excess(run.model, documents))
    for sparsity in sizes.sparsities:
        losses = {method: excess(pruned(run, Pruning(method, sparsity)), documents) for method in NAMES}
        for method, values in losses.items():
            table.add(name, method, sparsity, "excess", seed=run.seed, values=values)
        for worse, better in PAIRS:
            values = losses[worse] - losses[better]
            table.add(name, worse, sparsity, f"above_{better}", seed=run.seed, values=values)


def plot(rows: pd.DataFrame) -> Figure:
    rows = over_seeds(rows)
    names = list(rows.model.unique())
    figure, (*ours, theirs) = panels(len(names) + 1, 3, 4.4, 4.0)
    for panel, name in zip(ours, names, strict=True):
        draw_model(panel, rows, name)
    draw_published(theirs)
    theirs.set(xlim=ours[0].get_xlim(), ylim=(0, 27))
    for method, (sparsity, said) in PAPER_HOLDS.items():
        for panel in (*ours, theirs):
            panel.axvline(sparsity, color=COLOURS[method], ls=(0, (1, 3)), lw=1.8, zorder=1,
                          label=f"{NAMES[method]} on OPT-175B (paper) holds to here")  # fmt: skip
        theirs.annotate(said, (sparsity, 1), (5, 0), textcoords="offset points", size=8, color=COLOURS[method])
    legend_below(figure, ours[0], 4)
    return figure


def draw_model(panel: Axes, rows: pd.DataFrame, name: str) -> None:
    """Loss of one of our models by sparsity, a line for each method."""
    dense = only(rows, model=name, method="dense")
    panel.axhline(dense.mean, color="black", ls=":", lw=1.2, label="dense")
    panel.axhline(dense.mean + HOLDS, color="black", ls="-.", lw=0.8, label=f"dense + {HOLDS:g}: holds below")
    for method, label in NAMES.items():
        line = pick(rows, model=name, method=method, quantity="excess")
        draw_line(panel, line.assign(sparsity=100 * line.sparsity), "sparsity", color=COLOURS[method],
                  marker=MARKERS[method], label=label)  # fmt: skip
    panel.set(title=f"ours: {name}", yscale="log", xlabel="weights dropped, %")
    panel.yaxis.set_major_formatter("{x:g}")
    panel.set_ylabel("loss above exact Bayes, nats per token")


def draw_published(panel: Axes) -> None:
    theirs = common.published("other", quantity="sparsity")
    panel.plot(100 * theirs.x, theirs.perplexity, **PUBLISHED_LINE)
    panel.annotate("SparseGPT, BLOOM-176B\n(digitised)", (50, 8.5), (-6, 4), textcoords="offset points", size=8,
                   ha="right", color="#555555")  # fmt: skip
    panel.set(title="Frantar & Alistarh 2023", xlabel="weights dropped, %", ylabel="WikiText2 perplexity")


def holds_to(rows: pd.DataFrame, name: str, method: str) -> float:
    """The largest sparsity up to which the loss has grown by less than HOLDS."""
    line, dense = pick(rows, model=name, method=method, quantity="excess"), only(rows, model=name, method="dense")
    broken = line[line.value - dense.mean >= HOLDS].sparsity
    return float(max([0.0, *line.sparsity[line.sparsity < broken.min()]] if len(broken) else line.sparsity))


def claims(rows: pd.DataFrame) -> list[Claim]:
    """How far each method holds, and their order."""
    rows = over_seeds(rows)
    table = []
    for name in rows.model.unique():
        reach = {method: holds_to(rows, name, method) for method in NAMES}
        table.append(
            Claim(
                f"{name}: SparseGPT holds to half the weights and more, magnitude breaks down long before",
                "SparseGPT to 60 %, magnitude to about 10 % (OPT-175B, Fig. 1)",
                f"loss grows by less than {HOLDS:g} nats up to "
                + ", ".join(f"{NAMES[method]} {100 * share:.0f} %" for method, share in reach.items()),
                judged(
                    reach["sparsegpt"] >= 0.5 and reach["magnitude"] < reach["sparsegpt"] - 0.15,
                    reach["magnitude"] < reach["sparsegpt"],
                ),
                headline=name == "width 256",
            )
        )
        table += [order_claim(rows, name, *pair) for pair in ORDERS]
    return table


ORDERS: tuple[tuple[Method, Method, float, str], ...] = (
    ("wanda", "sparsegpt", 0.6, "no comparison in the paper"),
    ("sparsegpt", "alps", 0.7, "perplexity 52.0 → 39.5 (OPT-1.3B at 70 %; Meng et al. 2024)"),
)


def order_claim(rows: pd.DataFrame, name: str, worse: Method, better: Method, sparsity: float, paper: str) -> Claim:
    less = only(rows, model=name, method=worse, sparsity=sparsity, quantity=f"above_{better}")
    claim = f"{name}: {NAMES[better]} loses less than {NAMES[worse]} at {100 * sparsity:.0f} %"
    return Claim(claim, paper, f"{show(less)} nats less", positive(less))
