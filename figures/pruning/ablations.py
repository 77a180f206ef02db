"""Calibration documents, damping and mask blocks (Frantar & Alistarh 2023, ablations)."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from tqdm import tqdm

from compression.pruning.apply import Pruning
from figures.lab.claims import Claim, Verdict, judged, near_zero, positive
from figures.lab.measure import Documents, excess, held_back
from figures.lab.presets import ENDS, presets
from figures.lab.programs import forget_if_many
from figures.lab.runs import Models, Run
from figures.lab.style import CYCLE, PUBLISHED_LINE, draw_line
from figures.lab.tables import Table, only, over_seeds, pick
from figures.pruning import common
from figures.pruning.common import pruned, show
from icl_synth import checkpoints
from icl_synth.evaluate import Estimate

TITLE = "Calibration documents, damping and mask blocks at 50 % (Frantar & Alistarh 2023, ablations)"
DIFFERS = (
    "The paper's ablations are OPT-2.7B, whose layers have 2,560 to 10,240 inputs. Our transformer's layers have 64 "
    "and 256 and the LSTM's 128, so a mask block of 256 columns is the whole of every layer (at width 256, a quarter "
    "of the widest). Our calibration sequences have 256 tokens, the paper's 2,048. Both are drawn as the loss above "
    "the dense model's in nats per token; the paper's comes from digitised perplexities and its dense 12.47. Intervals "
    "are over training seeds and held-back documents. They leave out the draw of the calibration documents, which is "
    "the subject of the last claim: the standard deviation over five draws, averaged over training seeds, with the "
    "upper limit that five draws allow (chi-squared). Verdicts are on differences paired by seed and document. "
    "'Hardly' and 'alike' mean that the whole interval lies within a quarter of the difference named beside it, taken "
    "at its lower end. A claim of two parts *holds* where both do with their intervals; it holds *partly* where one "
    "does, or where both are met by their means. The last claim *holds* where the upper limit is below a tenth of the "
    "loss at its lower end, and *partly* where the means are."
)
PUBLISHED = common.PUBLISHED
PAPER_DENSE = 12.47  # perplexity of OPT-2.7B
AXES = {
    "calibration documents": "calibration documents",
    "damping": "damping, share of the mean diagonal",
    "mask block": "columns in a mask block",
}
PAIRS = (  # quantity, worse setting, better setting
    ("calibration documents", 2, 64),
    ("calibration documents", 64, 256),
    ("damping", 1.0, 0.01),
    ("damping", 0.001, 0.01),
    ("mask block", 1, 16),
    ("mask block", 256, 16),
)


class Sizes(NamedTuple):
    documents: int  # that losses are measured on
    calibration: tuple[int, ...] = (1, 2, 8, 32, 64, 128, 256)  # documents; of these three, those of PAIRS and 128
    dampings: tuple[float, ...] = (0.0001, 0.001, 0.01, 0.1, 1.0)
    mask_blocks: tuple[int, ...] = (1, 4, 16, 64, 256)  # columns
    draws: int = 5  # of the calibration documents

    @property
    def settings(self) -> list[tuple[str, float]]:
        """Each quantity with each of its settings."""
        tried = zip(AXES, (self.calibration, self.dampings, self.mask_blocks), strict=True)
        return [(quantity, setting) for quantity, settings in tried for setting in settings]


PRESETS = presets(ENDS, quick=Sizes(128), small=Sizes(512), paper=Sizes(100))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, quantity, x; value in nats per token.

    Quantities: those of AXES (loss above the dense model's with setting x), "QUANTITY: A above B" for PAIRS, and
    spread (standard deviation of the mean loss over draws of the calibration documents).
    """
    table = Table("model", "quantity", "x")
    documents = held_back(next(iter(models.values()))[0], sizes.documents)
    bar = tqdm(total=sum(map(len, models.values())), desc="prunings", unit="model")
    for name, runs in models.items():
        for run in runs:
            add_settings(table, name, run, sizes, documents)
            add_spread(table, name, run, sizes.draws, documents)
            bar.update()
    return table.rows()


def add_settings(table: Table, name: str, run: Run, sizes: Sizes, documents: Documents) -> None:
    """What each setting costs, and the paired differences between settings."""
    dense, losses = excess(run.model, documents), {}
    for quantity, setting in sizes.settings:
        forget_if_many()
        losses[quantity, setting] = excess(with_setting(run, quantity, setting), documents)
        table.add(name, quantity, float(setting), seed=run.seed, values=losses[quantity, setting] - dense)
    for quantity, worse, better in PAIRS:
        values = losses[quantity, worse] - losses[quantity, better]
        table.add(name, above_label(quantity, worse, better), 0.0, seed=run.seed, values=values)


def with_setting(run: Run, quantity: str, setting: float) -> checkpoints.Model:
    """A model pruned to 50 % with one setting changed."""
    if quantity == "calibration documents":
        return pruned(run, Pruning(), int(setting))
    return pruned(run, Pruning(damping=setting) if quantity == "damping" else Pruning(mask_block_size=int(setting)))


def add_spread(table: Table, name: str, run: Run, draws: int, documents: Documents) -> None:
    """The standard deviation of a seed's loss over draws of the calibration documents, with its upper limit."""
    losses = [excess(pruned(run, Pruning(), seed=draw), documents).mean() for draw in range(draws)]
    spread = float(np.std(losses, ddof=1))
    upper = spread * ((draws - 1) / scipy.stats.chi2.ppf(0.025, draws - 1)) ** 0.5
    table.add(name, "spread", 0.0, seed=run.seed, values=np.array([spread]), least=upper - spread)


def above_label(quantity: str, worse: float, better: float) -> str:
    return f"{quantity}: {worse:g} above {better:g}"


def plot(rows: pd.DataFrame) -> Figure:
    rows = over_seeds(rows)
    names = list(rows.model.unique())
    ends = [name for name in names if name.startswith("width")]  # far above and below the others: a row of panels each
    groups = [group for group in ([name for name in names if name not in ends], *([end] for end in ends)) if group]
    heights = [1.8, *[1] * (len(groups) - 1)]
    figure, grid = plt.subplots(len(groups), len(AXES), figsize=(12.5, 1 + 2.2 * sum(heights)), sharex="col",
                                sharey="row", squeeze=False, height_ratios=heights)  # fmt: skip
    looks = dict(zip(names, zip(CYCLE, "os^D", strict=False), strict=False))
    for column, (quantity, label) in zip(grid.T, AXES.items(), strict=True):
        theirs = common.published("other", quantity=quantity)
        column[0].plot(theirs.x, theirs.nats - np.log(PAPER_DENSE), **PUBLISHED_LINE,
                       label="Frantar & Alistarh: OPT-2.7B (digitised)")  # fmt: skip
        for panel, group in zip(column, groups, strict=True):
            draw_group(panel, rows, group, quantity, looks)
        column[-1].set_xlabel(label)
    figure.supylabel("loss above the dense model's, nats per token", size=10)
    handles = [part for panel in grid[:, 0] for part in zip(*panel.get_legend_handles_labels(), strict=True)]
    figure.legend(*zip(*handles, strict=True), loc="outside lower center", ncols=3)
    return figure


def draw_group(
    panel: Axes, rows: pd.DataFrame, group: list[str], quantity: str, looks: dict[str, tuple[str, str]]
) -> None:
    """The cost of each setting of one quantity, a line for each model of a group."""
    for name in group:
        colour, marker = looks[name]
        draw_line(panel, pick(rows, model=name, quantity=quantity), "x", color=colour, marker=marker,
                  label=f"ours: {name}")  # fmt: skip
    panel.set(xscale="log", yscale="log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 3, 5, 8)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.minorticks_off()


def at(rows: pd.DataFrame, name: str, quantity: str, setting: float) -> Estimate:
    return only(rows, model=name, quantity=quantity, x=setting)


def above(rows: pd.DataFrame, name: str, quantity: str, worse: float, better: float) -> Estimate:
    return only(rows, model=name, quantity=above_label(quantity, worse, better))


def both(first: Verdict, second: Verdict) -> Verdict:
    """Of a claim of two parts: holds where both hold, partly where one holds or neither fails."""
    parts = {first, second}
    return judged(parts == {"holds"}, "holds" in parts or "fails" not in parts)


def differs_and_alike(differs: Estimate, alike: Estimate) -> Verdict:
    """Of one difference that is positive, and another that is at most a quarter of it."""
    return both(positive(differs), near_zero(alike, (differs.mean - differs.half_width) / 4))


def claims(rows: pd.DataFrame) -> list[Claim]:
    """More documents help and then no more; small dampings are alike; blocks between one column and all are best."""
    rows = over_seeds(rows)
    judges = (documents_claim, damping_claim, mask_block_claim, draw_claim)
    return [judge(rows, name) for name in rows.model.unique() for judge in judges]


def documents_claim(rows: pd.DataFrame, name: str) -> Claim:
    quantity = "calibration documents"
    costs = (show(at(rows, name, quantity, number)) for number in (2, 64, 256))
    return Claim(
        f"{name}: more calibration documents help, and beyond 64 hardly",
        "19 → 13.5 with 2 → 64, flat after (perplexity, OPT-2.7B, digitised)",
        f"{' → '.join(costs)} nats with 2 → 64 → 256",
        differs_and_alike(above(rows, name, quantity, 2, 64), above(rows, name, quantity, 64, 256)),
    )


def damping_claim(rows: pd.DataFrame, name: str) -> Claim:
    small, usual, large = (show(at(rows, name, "damping", x)) for x in (0.001, 0.01, 1.0))
    return Claim(
        f"{name}: dampings of 0.001 and 0.01 are alike, 1 is worse",
        "13.5, 13.5 and 14.5 (perplexity, OPT-2.7B, digitised)",
        f"{small}, {usual} and {large} nats",
        differs_and_alike(above(rows, name, "damping", 1.0, 0.01), above(rows, name, "damping", 0.001, 0.01)),
    )


def mask_block_claim(rows: pd.DataFrame, name: str) -> Claim:
    single, middle, widest = (show(at(rows, name, "mask block", columns)) for columns in (1, 16, 256))
    ends = (positive(above(rows, name, "mask block", end, 16)) for end in (1, 256))
    return Claim(
        f"{name}: mask blocks between one column and all columns lose least",
        "17.5, 13.8 and 14.5 at 1, 4 to 1024 and 4096 columns (perplexity, OPT-2.7B, digitised)",
        f"{single}, {middle} and {widest} nats at 1, 16 and 256 columns",
        both(*ends),
    )


def draw_claim(rows: pd.DataFrame, name: str) -> Claim:
    draws = pick(rows, model=name, quantity="spread")  # a row for each seed in rows of the old form
    spread = Estimate(draws.value.mean(), draws.half_width.max())
    loss = at(rows, name, "calibration documents", 128)
    return Claim(
        f"{name}: the draw of calibration documents hardly matters",
        "perplexity 13.52 ± 0.075 over five draws, 0.006 nats of a loss of 0.08 (OPT-2.7B)",
        f"standard deviation {spread.mean:.4f} nats of a loss of {loss.mean:.3f}",
        judged(spread.mean + spread.half_width < 0.1 * (loss.mean - loss.half_width), spread.mean < 0.1 * loss.mean),
    )
