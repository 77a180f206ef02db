"""Which blocks and layers of a real language model bear 2:4 (Frantar & Alistarh 2023, Fig. 7 and Tables 5 and 6)."""

from collections.abc import Iterator
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.pruning.apply import Pruning
from figures.lab import tables
from figures.lab.claims import Claim, listed, positive
from figures.lab.presets import NONE, presets
from figures.lab.runs import Models
from figures.lab.style import BLUE, GREY, PINK, PUBLISHED_POINT, WIDTH
from figures.lab.tables import Table, only, over_seeds
from figures.language import common
from figures.language.common import MODEL, SMOLLM2, WINDOWS, Reader, Source
from figures.pruning.common import THIRDS, all_but, prune_chosen
from icl_synth import checkpoints
from icl_synth.estimates import Estimate

TITLE = "Which layers of a real language model bear 2:4 (Frantar & Alistarh 2023, Fig. 7, Tables 5 and 6)"
DIFFERS = (
    f"{MODEL}{WINDOWS}The paper leaves dense a third of the layers of OPT-175B and BLOOM-176B, by kind or by place, "
    "and prunes a first part of the blocks. SmolLM2 has 30 blocks; its feed-forward layer has a gate beside the two "
    "layers of the paper's models, so that there are four kinds: attention holds a quarter of a block's weights, each "
    "of the others as much. The paper's text finds that later blocks are more sensitive, so that it is best to leave "
    "the last third dense; that is asked of every pair of thirds. From half of the blocks on, pruning more of them is "
    "to cost more, step by step (Tables 5 and 6; below half the paper's cost is about nothing). Which kind is best "
    "left dense differs between the paper's models and is not judged. Differences are paired by window."
)
PUBLISHED = ("frantar2023*.csv",)
lacks = common.lacks
PATTERN = Pruning(pattern=(2, 4))
ALL = "all"  # pruned
KINDS = {"attention": ("qkv", "out"), "gate": ("gate",), "up": ("up",), "down": ("down",)}
FRONT, MIDDLE, BACK = THIRDS
SHARES = {"first half": 1 / 2, "first two thirds": 2 / 3, "first four fifths": 4 / 5}  # pruned
PAPER_SHARES = {"first half": 0.5, "first two thirds": 0.6667, "first four fifths": 0.8, ALL: 1.0}


class Sizes(NamedTuple):
    windows: int  # that losses are measured on
    calibration: int  # windows
    source: Source = Source()


PRESETS = presets({name: NONE[name] for name in ("quick", "small")}, quick=Sizes(8, 8), small=Sizes(24, 24))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: pruned (all, or a first part of the blocks), dense (what is left dense of it), quantity; nats per token.

    Quantities: cost (loss above the dense model's) and "above PRUNED, DENSE left" (more than another's cost, paired).
    """
    table, reader = Table("pruned", "dense", "quantity"), common.read(sizes.source)
    windows = reader.judged(sizes.windows)
    dense = common.losses(reader.model, windows)
    costs: dict[tuple[str, str], Float[np.ndarray, " N"]] = {}
    for choice, model in tqdm(prunings(reader, sizes.calibration), total=3 + len(KINDS) + len(SHARES), unit="model"):
        costs[choice] = common.losses(model, windows) - dense
        common.add(table, *choice, "cost", values=costs[choice])
    for worse, better in pairs():
        common.add(table, *worse, above(better), values=costs[worse] - costs[better])
    return table.rows()


def prunings(reader: Reader, calibration: int) -> Iterator[tuple[tuple[str, str], checkpoints.Model]]:
    """Each choice with its model. A first part of the blocks is pruned as it is where all are, for they come first."""
    tokens, depth = reader.calibration(calibration), reader.model.config.depth
    whole = prune_chosen(reader.model, tokens, PATTERN, lambda _: True)
    yield (ALL, "nothing"), whole
    for name, share in SHARES.items():
        yield (name, "nothing"), first_blocks(reader.model, whole, round(share * depth))
    yield (ALL, BACK), first_blocks(reader.model, whole, round(2 / 3 * depth))
    for left in (FRONT, MIDDLE, *KINDS):
        yield (ALL, left), prune_chosen(reader.model, tokens, PATTERN, all_but(left, KINDS, depth))


def first_blocks(dense: checkpoints.Model, pruned: checkpoints.Model, number: int) -> checkpoints.Model:
    """The dense model with so many first blocks of the pruned one."""
    graph, weights = checkpoints.split(dense)
    names = tuple(f"blocks.{index}." for index in range(number))
    taken = {name: weight for name, weight in checkpoints.split(pruned)[1].items() if name.startswith(names)}
    return checkpoints.merge(graph, weights | taken)


def pairs() -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Choices of which the first is said to cost more than the second."""
    thirds = [((ALL, early), (ALL, late)) for place, early in enumerate(THIRDS) for late in THIRDS[place + 1 :]]
    shares = [(name, "nothing") for name in (*SHARES, ALL)]
    return [*thirds, *zip(shares[1:], shares[:-1], strict=True)]


def above(better: tuple[str, str]) -> str:
    return f"above {better[0]}, {better[1]} left"


def plot(rows: pd.DataFrame) -> Figure:
    means = over_seeds(rows)
    figure, (shares, left) = plt.subplots(1, 2, figsize=(WIDTH, 3.8))
    draw_shares(shares, means)
    draw_left(left, means)
    best = min((*KINDS, *THIRDS), key=lambda name: cost_of(means, ALL, name).mean)
    figure.suptitle(f"2:4 of all blocks costs {SMOLLM2} {cost_of(means, ALL, 'nothing').mean:.2f} nats per token;\n"
                    f"it helps most to leave dense: {best}", size=11)  # fmt: skip
    return figure


def cost_of(rows: pd.DataFrame, pruned: str, left: str) -> Estimate:
    return only(rows, pruned=pruned, dense=left, quantity="cost")


def draw_shares(panel: Axes, means: pd.DataFrame) -> None:
    """The cost by the share of the blocks, beside those of the paper's models, each as a share of pruning all."""
    places = {**SHARES, ALL: 1.0}
    costs = {name: cost_of(means, name, "nothing") for name in places}
    whole = costs[ALL].mean
    heights, half_widths = ([getattr(cost, part) for cost in costs.values()] for part in ("mean", "half_width"))
    panel.errorbar(list(places.values()), np.array(heights) / whole, np.array(half_widths) / abs(whole), color=BLUE,
                   marker="o", capsize=2)  # fmt: skip
    for model, marker in (("OPT-175B", "s"), ("BLOOM-176B", "D")):
        line = paper_costs(model)
        panel.plot(list(PAPER_SHARES.values()), line / line[-1], **PUBLISHED_POINT | {"marker": marker})
        panel.annotate(model, (0.5, line[0] / line[-1]), (7, 0), textcoords="offset points", size=8, color=GREY,
                       va="center")  # fmt: skip
    panel.axhline(0, color=GREY, lw=0.6)
    panel.set(xlabel="share of the blocks at 2:4, from the first", ylabel="cost, as a share of pruning all")


def paper_costs(model: str) -> Float[np.ndarray, " S"]:
    """Nats above the dense model by the share of the blocks."""
    table = tables.published("frantar2023_other", quantity=f"share of layers at 2:4, {model}, WikiText2")
    perplexity = table.set_index("x").perplexity
    return np.log(np.array([perplexity[share] for share in PAPER_SHARES.values()]) / perplexity[0])


def draw_left(panel: Axes, means: pd.DataFrame) -> None:
    """The cost of 2:4 by what is left dense."""
    choices = ("nothing", *KINDS, *THIRDS)[::-1]
    for place, left in enumerate(choices):
        cost = cost_of(means, ALL, left)
        colour = GREY if left == "nothing" else BLUE if left in THIRDS else PINK
        panel.errorbar(cost.mean, place, xerr=cost.half_width, color=colour, marker="o", elinewidth=1, capsize=2)
    panel.set_yticks(range(len(choices)), labels=choices)
    panel.set(xlabel="loss above the dense model's,\nnats per token", ylabel="left dense, all else at 2:4")


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Later blocks are more sensitive; more blocks cost more."""
    rows = over_seeds(rows)
    return [place_claim(rows), share_claim(rows), kind_claim(rows)]


def more(rows: pd.DataFrame, worse: tuple[str, str], better: tuple[str, str]) -> Estimate:
    return only(rows, pruned=worse[0], dense=worse[1], quantity=above(better))


def place_claim(rows: pd.DataFrame) -> Claim:
    found = pairs()[: len(THIRDS)]
    values = (tables.published("frantar2023_other", quantity=f"2:4 skipping {third}, OPT-175B") for third in THIRDS)
    return Claim(
        f"{SMOLLM2}: the later the third that is left dense, the less 2:4 costs",
        f"front, middle, back: perplexity {', '.join(f'{v.perplexity.iloc[0]:g}' for v in values)} (OPT-175B, Fig. 7, "
        "digitised)",
        f"{listed({third: cost_of(rows, ALL, third) for third in THIRDS}, 3)} nats",
        [positive(more(rows, *pair)) for pair in found],
        headline=True,
    )


def share_claim(rows: pd.DataFrame) -> Claim:
    steps = {f"{worse[0]} above {better[0]}": more(rows, worse, better) for worse, better in pairs()[len(THIRDS) :]}
    theirs = tables.published("frantar2023_other", quantity="share of layers at 2:4, OPT-175B, WikiText2").perplexity
    return Claim(
        f"{SMOLLM2}: from half of the blocks on, more blocks at 2:4 cost more",
        f"perplexity from none to all: {', '.join(f'{value:g}' for value in theirs)} (OPT-175B, Table 5)",
        f"{listed(steps, 3)} nats",
        [positive(step) for step in steps.values()],
    )


def kind_claim(rows: pd.DataFrame) -> Claim:
    return Claim(
        f"{SMOLLM2}: which kind of layer is best left dense",
        "differs between the paper's models (Fig. 7)",
        f"{listed({kind: cost_of(rows, ALL, kind) for kind in KINDS}, 3)} nats",
        [],
    )
