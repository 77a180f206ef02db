"""A real language model's loss by sparsity, pruned in four ways (Frantar & Alistarh 2023, Table 1 and Fig. 1)."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.pruning.apply import Method, Pruning
from figures.lab import tables
from figures.lab.claims import Claim, listed, nats, no_more, positive, scaled
from figures.lab.presets import NONE, presets
from figures.lab.runs import Models
from figures.lab.style import GREY, PUBLISHED_POINT, WIDTH, draw_line, name_ends, plain_log
from figures.lab.tables import Table, only, over_seeds, pick
from figures.language import common
from figures.language.common import MODEL, SMOLLM2, WINDOWS, Source
from figures.pruning.common import COLOURS, MARKERS, NAMES
from icl_synth.estimates import Estimate

TITLE = "A real language model by sparsity (Frantar & Alistarh 2023, Table 1 and Fig. 1)"
DIFFERS = (
    f"{MODEL}{WINDOWS}The paper prunes OPT-125M to OPT-175B, calibrates on 128 segments of 2,048 tokens of C4 and "
    "judges on WikiText2. Ours is calibrated on 24 windows (`quick`: 8) of other works of the author that it is "
    "judged on, which helps the methods that calibrate; and weights that lie on sixteen levels make magnitude's order "
    "coarse. Losses are compared as nats above each dense model. The model nearest in size is OPT-125M, and its costs "
    "are the paper's numbers here: SparseGPT at 50 % is to cost no more than it costs there, and less than magnitude; "
    "SparseGPT's cost is to rise from 50 % to 4:8 and 2:4. Of OPT-175B the paper's text says that SparseGPT at 60 % "
    "is as good as magnitude at 10 %; as for the synthetic models, it is to lose no more. ALPS is to lose less than "
    "SparseGPT at 70 % (Meng et al. 2024). SparseGPT against Wanda is our question. All differences are paired by "
    "window."
)
PUBLISHED = ("frantar2023*.csv",)
lacks = common.lacks
PATTERNS = {"4:8": (4, 8), "2:4": (2, 4)}
PAPERS = "OPT-125M"
LEAST = 1e-3  # nats: what is drawn of a cost
WANDA_AT, ALPS_AT = (0.5, 0.6, 0.7), 0.7
Choice = tuple[Method, str]  # and how much, such as "50 %" or "2:4"


class Sizes(NamedTuple):
    windows: int  # that losses are measured on
    calibration: int  # windows
    sparsities: dict[Method, tuple[float, ...]]
    source: Source = Source()


EVERY = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
SOME: dict[Method, tuple[float, ...]] = {
    "magnitude": (0.1, 0.3, 0.5), "wanda": WANDA_AT, "sparsegpt": (0.5, 0.6, 0.7), "alps": (0.7,)
}  # fmt: skip
PRESETS = presets(
    {name: NONE[name] for name in ("quick", "small")},
    quick=Sizes(8, 8, SOME),
    small=Sizes(24, 24, dict.fromkeys(NAMES, EVERY) | {"alps": (0.5, 0.6, 0.7, 0.8)}),
)


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: method, amount (such as 50 % or 2:4), sparsity (share of the weights), quantity; value in nats per token.

    Quantities: loss, bits per character, cost (above the dense model), and "above METHOD at AMOUNT": how much more one
    pruned model loses than another.
    """
    table, reader = Table("method", "amount", "sparsity", "quantity"), common.read(sizes.source)
    windows = reader.judged(sizes.windows)
    dense = common.losses(reader.model, windows)
    of_dense = {"loss": dense, "bits per character": common.bits_per_character(reader, windows, dense)}
    for quantity, values in of_dense.items():
        common.add(table, "dense", "0 %", 0.0, quantity, values=values)
    found: dict[Choice, Float[np.ndarray, " N"]] = {}
    for (method, amount), how in tqdm(choices(sizes), desc="prunings", unit="model"):
        calibration = 1 if method == "magnitude" else sizes.calibration  # which reads no data
        loss = found[method, amount] = common.losses(common.pruned(reader, how, calibration), windows)
        for quantity, values in (("loss", loss), ("cost", loss - dense)):
            common.add(table, method, amount, share(how), quantity, values=values)
    for worse, better in pairs():
        if worse in found and better in found:
            common.add(table, *worse, share_of(worse[1]), above(better), values=found[worse] - found[better])
    return table.rows()


def choices(sizes: Sizes) -> list[tuple[Choice, Pruning]]:
    """Each method at its sparsities; both patterns by SparseGPT and by magnitude."""
    chosen: list[tuple[Choice, Pruning]] = []
    for method, sparsities in sizes.sparsities.items():
        chosen += [((method, percent(sparsity)), Pruning(method, sparsity)) for sparsity in sparsities]
    for method in ("sparsegpt", "magnitude"):
        chosen += [((method, name), Pruning(method, pattern=pattern)) for name, pattern in PATTERNS.items()]
    return chosen


def percent(sparsity: float) -> str:
    return f"{100 * sparsity:.0f} %"


def share(how: Pruning) -> float:
    """The share of weights that is dropped."""
    return 0.5 if how.pattern else how.sparsity


def share_of(amount: str) -> float:
    return 0.5 if amount in PATTERNS else float(amount.removesuffix(" %")) / 100


def pairs() -> list[tuple[Choice, Choice]]:
    """Prunings of which the first is said to lose more than the second."""
    wanda: list[tuple[Choice, Choice]] = [(("wanda", percent(at)), ("sparsegpt", percent(at))) for at in WANDA_AT]
    return [
        (("magnitude", "50 %"), ("sparsegpt", "50 %")),
        (("magnitude", "10 %"), ("sparsegpt", "60 %")),
        (("sparsegpt", "4:8"), ("sparsegpt", "50 %")),
        (("sparsegpt", "2:4"), ("sparsegpt", "4:8")),
        (("sparsegpt", percent(ALPS_AT)), ("alps", percent(ALPS_AT))),
        *wanda,
    ]


def above(better: Choice) -> str:
    return f"above {better[0]} at {better[1]}"


def plot(rows: pd.DataFrame) -> Figure:
    rows = over_seeds(rows)
    costs = pick(rows, quantity="cost")
    figure, panel = plt.subplots(figsize=(WIDTH, 4.6))
    panel.set(xlabel="weights dropped, %", ylabel="loss above the dense model's, nats per token", yscale="log")
    panel.set_ylim(costs.value.clip(lower=LEAST).min() / 2, 2 * costs.value.max())  # intervals may reach below zero
    plain_log(panel.yaxis, 3)
    draw_costs(panel, costs)
    draw_published(panel)
    few = {NAMES[method]: only(costs, method=method, amount="50 %").mean for method in ("sparsegpt", "magnitude")}
    found = " and ".join(f"{name} {np.exp(cost):.2f} times" for name, cost in few.items())
    figure.suptitle(f"With half of {SMOLLM2}'s weights dropped, perplexity is\n{found} the dense model's", size=11)
    return figure


def draw_costs(panel: Axes, costs: pd.DataFrame) -> None:
    """A line for each method; points beside 50 % for the patterns."""
    ends = []
    for method, name in NAMES.items():
        line = pick(costs, method=method)
        line = line[~line.amount.isin(list(PATTERNS))].sort_values("sparsity")
        line = line.assign(x=100 * line.sparsity)
        draw_line(panel, line, "x", color=COLOURS[method], marker=MARKERS[method])
        ends.append((name, line.x.iloc[-1], line.value.iloc[-1], COLOURS[method]))
        for place, pattern in enumerate(PATTERNS):
            for row in pick(costs, method=method, amount=pattern).to_dict("records"):
                panel.plot(52 + 2 * place, row["value"], MARKERS[method], mfc="white", color=COLOURS[method])
                panel.annotate(pattern, (52 + 2 * place, row["value"]), (0, 6), textcoords="offset points", size=8,
                               ha="center", color=COLOURS[method])  # fmt: skip
    panel.margins(x=0.02)
    panel.set_xlim(right=92)
    name_ends(panel, ends)


def draw_published(panel: Axes) -> None:
    """What 50 % costs OPT-125M."""
    for pruning, where in (("magnitude 50 %", (-60, 45)), ("SparseGPT 50 %", (40, -45))):  # where nothing is drawn
        nats = paper_cost(pruning)
        panel.plot(50, nats, **PUBLISHED_POINT)
        panel.annotate(f"{PAPERS}, {pruning.split()[0]}", (50, nats), where, textcoords="offset points", size=8,
                       color=GREY, ha="center", va="center",
                       arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.5})  # fmt: skip


def paper_perplexity(pruning: str, model: str = PAPERS) -> float:
    return float(tables.published("frantar2023_size", model=model, pruning=pruning).perplexity.iloc[0])


def paper_cost(pruning: str) -> float:
    """Nats above the dense model."""
    return float(np.log(paper_perplexity(pruning) / paper_perplexity("dense")))


def claims(rows: pd.DataFrame) -> list[Claim]:
    """SparseGPT beside OPT-125M's cost, magnitude, patterns, ALPS and Wanda."""
    rows = over_seeds(rows)
    return [half_claim(rows), alike_claim(rows), pattern_claim(rows), alps_claim(rows), wanda_claim(rows)]


def more(rows: pd.DataFrame, worse: Choice, better: Choice) -> Estimate:
    method, amount = worse
    return only(rows, method=method, amount=amount, quantity=above(better))


def half_claim(rows: pd.DataFrame) -> Claim:
    cost = only(rows, method="sparsegpt", amount="50 %", quantity="cost")
    less = more(rows, ("magnitude", "50 %"), ("sparsegpt", "50 %"))
    dense = only(rows, method="dense", quantity="loss")
    perplexities = [paper_perplexity(pruning) for pruning in ("dense", "SparseGPT 50 %", "magnitude 50 %")]
    return Claim(
        f"{SMOLLM2}: SparseGPT at 50 % costs no more than it costs {PAPERS}, and less than magnitude",
        f"perplexity {perplexities[0]:g} → {perplexities[1]:g}, {paper_cost('SparseGPT 50 %'):.3f} nats; magnitude "
        f"{perplexities[2]:g}, {paper_cost('magnitude 50 %'):.3f} nats ({PAPERS}, Table 1)",
        f"perplexity {np.exp(dense.mean):.1f} → {np.exp(dense.mean + cost.mean):.1f}, {nats(cost)} nats; magnitude "
        f"{nats(less)} nats more",
        [no_more(cost, paper_cost("SparseGPT 50 %")), positive(less)],
        headline=True,
    )


def alike_claim(rows: pd.DataFrame) -> Claim:
    less = more(rows, ("magnitude", "10 %"), ("sparsegpt", "60 %"))
    cost = scaled(less, -1)
    return Claim(
        f"{SMOLLM2}: SparseGPT at 60 % costs no more than magnitude at 10 %, as with OPT-175B",
        "60 % as magnitude's 10 % (OPT-175B, Fig. 1)",
        f"{nats(cost)} nats more",
        [no_more(cost, 0.0)],
    )


def pattern_claim(rows: pd.DataFrame) -> Claim:
    steps = {
        f"{worse} above {better}": more(rows, ("sparsegpt", worse), ("sparsegpt", better))
        for worse, better in (("4:8", "50 %"), ("2:4", "4:8"))
    }
    theirs = (f"{paper_perplexity(f'SparseGPT {amount}', 'OPT-175B'):g}" for amount in ("50 %", "4:8", "2:4"))
    return Claim(
        f"{SMOLLM2}: SparseGPT's patterns cost more than 50 % anywhere, 2:4 more than 4:8",
        f"perplexity {', '.join(theirs)} for 50 %, 4:8, 2:4 (OPT-175B, Table 1)",
        f"{listed(steps, 3)} nats",
        [positive(step) for step in steps.values()],
    )


def alps_claim(rows: pd.DataFrame) -> Claim:
    less = more(rows, ("sparsegpt", percent(ALPS_AT)), ("alps", percent(ALPS_AT)))
    return Claim(
        f"{SMOLLM2}: ALPS loses less than SparseGPT at 70 %",
        "perplexity 52.0 → 39.5 (OPT-1.3B at 70 %; Meng et al. 2024)",
        f"{nats(less)} nats less",
        [positive(less)],
    )


def wanda_claim(rows: pd.DataFrame) -> Claim:
    less = {percent(at): more(rows, ("wanda", percent(at)), ("sparsegpt", percent(at))) for at in WANDA_AT}
    return Claim(
        f"{SMOLLM2}: SparseGPT loses less than Wanda at 50 to 70 %",
        "no comparison in the paper",
        f"less by {listed(less, 3)} nats",
        [positive(value) for value in less.values()],
        own=True,
    )
