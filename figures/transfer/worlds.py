"""Which synthetic world saves most text: fewer concepts, restless entities, shorter documents (exploratory)."""

from collections.abc import Callable
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.claims import Claim, positive, scaled, show
from figures.lab.presets import SEEDS, Suite, presets
from figures.lab.runs import Models
from figures.lab.style import BLACK, BLUE, WIDTH, draw_line, draw_seeds
from figures.lab.tables import Table, only, over_seeds, pick
from figures.transfer import common
from figures.transfer.common import MANY, ONE, RANDOM, curve, saved
from icl_synth.presets.transfer import FIRST, OTHER_WORLDS
from icl_synth.trends import slope

TITLE = "Synthetic documents first, real text after: which synthetic world saves most (exploratory)"
DIFFERS = (
    "Explored beside the registered experiment and named there: `figures/transfer/PREREGISTRATION.md`. The world of "
    "`many` is changed in one thing at a time: the number of its concepts; the persistence of its entities, which is "
    "the weight of keeping the same entity at the next token; the length of its documents. The number of tokens in "
    "the first stage stays. What a world saves is the share of the characters that a model without synthetic "
    "documents needs to reach its final loss on the validation works. That more of the one saves more requires the "
    "slope of the saving to be above zero, per tenfold number of concepts, per unit of persistence and per doubling "
    "of the length. The three slopes are corrected together."
)
PUBLISHED = ()
lacks = common.lacks


class Varied(NamedTuple):
    """What is changed in the world of many concepts."""

    label: str  # of its axis
    more: str  # of it, in words
    step: str  # the unit of a slope
    steps: Callable[[np.ndarray], np.ndarray]  # from values to steps


VARIED = {
    "concepts": Varied("concepts in the world", "more concepts", "tenfold number of concepts", np.log10),
    "persistence": Varied("persistence of entities", "more persistent entities", "unit of persistence", np.asarray),
    "length": Varied("tokens in a document", "longer documents", "doubling of the length", np.log2),
}


class Sizes(NamedTuple):
    seeds: int  # without which nothing is computed


def suite(scale: str) -> Suite:
    """The model without synthetic documents, and one for each world by what is changed and its value."""
    models = {RANDOM: f"{scale}-transfer-{RANDOM}"}
    for arm in (ONE, *OTHER_WORLDS[scale], MANY):
        data, usual = (FIRST[f"{scale}-transfer-first-{name}"].data for name in (arm, MANY))
        for name, value, as_usual in (
            ("concepts", data.concepts, usual.concepts),
            ("persistence", data.entity_persistence, usual.entity_persistence),
            ("length", data.length, usual.length),
        ):
            if value != as_usual or arm == MANY:
                models[f"{name} {value}"] = f"{scale}-transfer-{arm}"
    return Suite(models, SEEDS[scale], curves=True)


PRESETS = presets({scale: suite(scale) for scale in ("quick", "small")}, quick=Sizes(1), small=Sizes(3))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: varied, at, quantity: saved (share of the characters; a value for each seed), and slope (its change by
    step of VARIED, at 0). Raises ValueError for fewer seeds than asked for."""
    table = Table("varied", "at", "quantity")
    for runs in common.all_seeds(models, sizes.seeds):
        reference, seed = curve(runs[RANDOM]), runs[RANDOM].seed
        shares: dict[str, dict[float, float]] = {}
        for name, run in runs.items():
            if name != RANDOM:
                varied, at = name.split()
                shares.setdefault(varied, {})[float(at)] = saved(curve(run), reference)
        for varied, by_value in shares.items():
            for value, share in by_value.items():
                table.add(varied, value, "saved", seed=seed, values=np.array([share]))
            steps, savings = VARIED[varied].steps(np.array(list(by_value))), np.array(list(by_value.values()))
            table.add(varied, 0.0, "slope", seed=seed, values=slope(steps, savings[:, None]))
    return table.rows()


def plot(rows: pd.DataFrame) -> Figure:
    means = pick(over_seeds(rows), quantity="saved")
    figure, panels = plt.subplots(1, 3, figsize=(WIDTH, 3.4), sharey=True)
    for panel, (varied, how) in zip(panels, VARIED.items(), strict=True):
        line, seeds = (pick(table, varied=varied, quantity="saved") for table in (means, rows))
        line, seeds = (table.assign(value=100 * table.value, half_width=100 * table.half_width)
                       for table in (line.sort_values("at"), seeds))  # fmt: skip
        panel.axhline(0, color=BLACK, lw=0.8)
        draw_line(panel, line, "at", color=BLUE, marker="o")
        draw_seeds(panel, seeds, "at", BLUE)
        panel.set_xlabel(how.label)
        panel.set_xscale("linear" if varied == "persistence" else "log")
        panel.set_xticks(line["at"], [f"{at:g}" for at in line["at"]])
        panel.minorticks_off()
    panels[0].set_ylabel("characters saved to the same loss, %")
    best = means.iloc[means.value.argmax()]
    figure.suptitle(f"The world with {described(best.varied, best['at'])} saves most: {100 * best.value:.0f} % of the "
                    "characters", size=11)  # fmt: skip
    return figure


def described(varied: str, at: float) -> str:
    """A world by what is changed in it."""
    if varied == "concepts":
        return f"{at:,.0f} concept{'s' if at > 1 else ''}"
    return f"persistence {at:g}" if varied == "persistence" else f"documents of {at:.0f} tokens"


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Whether more of each of the three saves more."""
    means = over_seeds(rows)
    return [
        Claim(
            f"{how.more} save more (exploratory)",
            "no number",
            f"{show(scaled(only(means, varied=varied, quantity='slope'), 100))} points per {how.step}",
            [positive(only(means, varied=varied, quantity="slope"))],
            own=True,
        )
        for varied, how in VARIED.items()
    ]
