"""Which rate the second stage has: half, once or twice the recipe's, on a seed that enters no outcome."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.claims import Claim
from figures.lab.presets import Suite, presets
from figures.lab.runs import Models
from figures.lab.style import WIDTH
from figures.lab.tables import Table, only, over_seeds
from figures.transfer import common
from figures.transfer.common import ARMS, MANY, RANDOM, REGISTERED, curve

TITLE = "Synthetic documents first, real text after: the choice of the rate"
DIFFERS = (
    f"{REGISTERED}The factor with the lowest mean of both arms' final losses on the validation works is taken for all "
    "arms of the other experiments. Nothing is judged."
)
PUBLISHED = ()
lacks = common.lacks
FACTORS = {"half": 0.5, "once": 1.0, "double": 2.0}
SEED = 99


class Sizes(NamedTuple):
    """Nothing is asked but what training writes down."""


def suite(scale: str) -> Suite:
    """Both arms at each factor."""
    arms = [(arm, factor) for arm in (RANDOM, MANY) for factor in FACTORS]
    return Suite({f"{arm}, {factor}": f"{scale}-transfer-{arm}-rate-{factor}" for arm, factor in arms}, (SEED,))


PRESETS = presets({scale: suite(scale) for scale in ("quick", "small")}, quick=Sizes(), small=Sizes())


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: arm, factor, quantity (final validation loss, nats per character)."""
    table = Table("arm", "factor", "quantity")
    for name, (run,) in models.items():
        arm, factor = name.split(", ")
        table.add(arm, FACTORS[factor], "loss", seed=run.seed, values=np.array([curve(run).loss[-1]]))
    return table.rows()


def chosen(rows: pd.DataFrame) -> float:
    """The factor with the lowest mean loss of both arms."""
    return min(FACTORS.values(), key=lambda factor: rows[rows.factor == factor].value.mean())


def plot(rows: pd.DataFrame) -> Figure:
    figure, panel = plt.subplots(figsize=(WIDTH, 3.2))
    for arm in (RANDOM, MANY):
        line = rows[rows.arm == arm].sort_values("factor")
        panel.plot(line.factor, line.value, "o-", color=ARMS[arm][0], label=arm)
    panel.set(xscale="log", xlabel="rate, times the recipe's", ylabel="final validation loss,\nnats per character")
    panel.set_xticks(list(FACTORS.values()), [f"{factor:g}" for factor in FACTORS.values()])
    panel.minorticks_off()
    panel.legend()
    figure.suptitle(f"Both arms together end lowest at {chosen(rows):g} times the recipe's rate", size=11)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """What was found; nothing is claimed."""
    means = over_seeds(rows)
    losses = "; ".join(
        f"{factor:g} times {np.mean([only(means, arm=arm, factor=factor).mean for arm in (RANDOM, MANY)]):.4f}"
        for factor in FACTORS.values()
    )
    return [
        Claim(
            "the rate of the second stage", "none", f"{losses} nats per character: {chosen(rows):g} times", [], own=True
        )
    ]
