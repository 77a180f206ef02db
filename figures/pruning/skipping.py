"""Which layers to leave dense where the rest is at 2:4 (Frantar & Alistarh 2023, Fig. 7)."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.pruning.apply import Pruning
from figures.lab.claims import Claim, listed, nats, positive
from figures.lab.measure import Documents, excess, held_back
from figures.lab.presets import ONE_SEED, SEEDS, Suite, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLACK, BLUE, GREY, PINK, PUBLISHED_POINT, WIDTH
from figures.lab.tables import Table, only, over_seeds, pick
from figures.pruning import common
from figures.pruning.common import PARTS, THIRDS, all_but, partly_pruned, pruned
from icl_synth.estimates import Estimate

TITLE = "Which third of the layers to leave dense, the rest at 2:4 (Frantar & Alistarh 2023, Fig. 7)"
DIFFERS = (
    "The paper prunes two thirds of the layers of OPT-175B and BLOOM-176B to 2:4 and leaves dense either all layers of "
    "one kind (attention, first and second feed-forward) or a third of the blocks. Ours are transformers of 6 blocks "
    "(`paper`: of 12); in each block a third of the weights is attention and a third each feed-forward layer, so that "
    "every choice leaves a third dense. The paper's perplexities are read off a figure and drawn as nats above its "
    "dense models' (8.34 and 8.11). Its text finds a clear trend by place, later layers being more sensitive, so that "
    "leaving the last third dense is best, and none by kind, which differs between models: the first is judged, for "
    "every pair of thirds, on differences paired by seed and document; the second only drawn. Pruning the first two "
    "thirds alone is to cost less than pruning all (Tables 5 and 6)."
)
PUBLISHED = common.PUBLISHED
PATTERN = Pruning(pattern=(2, 4))
SKIPPED = (*PARTS, *THIRDS)  # what is left dense
DENSE = {"OPT-175B": 8.34, "BLOOM-176B": 8.11}  # perplexities (Tables 5 and 6)
FULL = "nothing"


class Sizes(NamedTuple):
    documents: int  # that losses are measured on


SUITES = {
    "quick": Suite({"transformer": "quick"}, SEEDS["quick"]),
    "small": Suite({"transformer": "small", "width 256": "small-w256"}, SEEDS["small"], ONE_SEED),
    "paper": Suite({"transformer, 12 layers": "paper-12l"}, SEEDS["paper"]),  # blocks come in thirds
}
PRESETS = presets(SUITES, quick=Sizes(128), small=Sizes(512), paper=Sizes(100))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, skipped (what is left dense), quantity; value in nats per token.

    Quantities: cost (loss above the dense model's) and "above THIRD" (more than with that third left dense, paired).
    """
    table = Table("model", "skipped", "quantity")
    documents = held_back(next(iter(models.values()))[0], sizes.documents)
    bar = tqdm(total=sum(map(len, models.values())), desc="models", unit="model")
    for name, runs in models.items():
        for run in runs:
            add_choices(table, name, run, documents)
            bar.update()
    return table.rows()


def add_choices(table: Table, name: str, run: Run, documents: Documents) -> None:
    """What 2:4 costs one model with each choice of layers left dense, and with none."""
    dense = excess(run.model, documents)
    costs = {FULL: excess(pruned(run, PATTERN), documents) - dense}
    for skipped in SKIPPED:
        model = partly_pruned(run, PATTERN, all_but(skipped, PARTS, run.model.config.depth))
        costs[skipped] = excess(model, documents) - dense
    for skipped, cost in costs.items():
        table.add(name, skipped, "cost", seed=run.seed, values=cost)
    for worse, better in ((FULL, "back third"), *pairs()):
        table.add(name, worse, f"above {better}", seed=run.seed, values=costs[worse] - costs[better])


def pairs() -> list[tuple[str, str]]:
    """Thirds, the earlier of which is said to be the worse to leave dense."""
    return [(early, late) for place, early in enumerate(THIRDS) for late in THIRDS[place + 1 :]]


def plot(rows: pd.DataFrame) -> Figure:
    means = over_seeds(rows)
    names = list(rows.model.unique())
    figure, panels = plt.subplots(1, len(names) + 1, figsize=(WIDTH, 3.8), squeeze=False, sharey=True)
    for panel, name in zip(panels[0], names, strict=False):
        draw_model(panel, pick(rows, model=name), pick(means, model=name))
        panel.set_title(f"ours: {name}")
    draw_published(panels[0, -1])
    panels[0, 0].set_yticks(range(len(SKIPPED)), labels=SKIPPED[::-1])
    panels[0, 0].set(ylabel="left dense", ylim=(-0.5, 5.7))
    figure.supxlabel("loss above the dense model's, nats per token", size=10)
    found = ", ".join(f"the {best_left_dense(means, name)} of {name}" for name in names)
    figure.suptitle(f"All but a third of the layers at 2:4, it costs least to leave dense\n{found}", size=11)
    return figure


def best_left_dense(rows: pd.DataFrame, name: str) -> str:
    """The choice that costs one model least."""
    return min(SKIPPED, key=lambda skipped: only(rows, model=name, skipped=skipped, quantity="cost").mean)


def draw_model(panel: Axes, rows: pd.DataFrame, means: pd.DataFrame) -> None:
    """The cost of each choice, seeds as dots, and of pruning everything."""
    for place, skipped in enumerate(SKIPPED[::-1]):
        cost, seeds = only(means, skipped=skipped, quantity="cost"), pick(rows, skipped=skipped, quantity="cost").value
        colour = BLUE if skipped in THIRDS else PINK
        panel.plot(seeds, np.full(len(seeds), place - 0.17), ".", ms=4, color=colour, alpha=0.5)
        panel.errorbar(cost.mean, place, xerr=cost.half_width, color=colour, marker="o", elinewidth=1, capsize=2)
    full = only(means, skipped=FULL, quantity="cost")
    panel.axvline(full.mean, color=BLACK, ls=":", lw=1)
    panel.annotate("all at 2:4", (full.mean, 5.65), (-3, 0), textcoords="offset points", size=8, ha="right", va="top")


def draw_published(panel: Axes) -> None:
    """The cost of each choice in the paper's models."""
    for (model, dense), marker in zip(DENSE.items(), "sD", strict=True):
        values = [common.published("other", quantity=f"2:4 skipping {s}, {model}").nats.iloc[0] for s in SKIPPED[::-1]]
        nats = np.array(values) - np.log(dense)
        panel.plot(nats, range(len(SKIPPED)), **PUBLISHED_POINT | {"marker": marker})
        panel.annotate(model.split("-")[0], (nats[-1], len(SKIPPED) - 1), (0, 7), textcoords="offset points", size=8,
                       ha="center", color=GREY)  # fmt: skip
    panel.set_title("Frantar & Alistarh")
    panel.margins(x=0.15)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Later blocks are more sensitive; some layers left dense help."""
    rows = over_seeds(rows)
    judges = (place_claim, kind_claim, help_claim)
    return [judge(rows, name) for name in rows.model.unique() for judge in judges]


def costs(rows: pd.DataFrame, name: str, choices: tuple[str, ...]) -> dict[str, Estimate]:
    return {skipped: only(rows, model=name, skipped=skipped, quantity="cost") for skipped in choices}


def paper_values(choices: tuple[str, ...]) -> str:
    """The paper's perplexities of these choices."""
    parts = []
    for model in DENSE:
        values = [common.published("other", quantity=f"2:4 skipping {s}, {model}").perplexity.iloc[0] for s in choices]
        parts.append(f"{', '.join(f'{value:g}' for value in values)} ({model})")
    return f"perplexity {'; '.join(parts)}, Fig. 7, digitised"


def place_claim(rows: pd.DataFrame, name: str) -> Claim:
    more = [only(rows, model=name, skipped=worse, quantity=f"above {better}") for worse, better in pairs()]
    return Claim(
        f"{name}: the later the third that is left dense, the less 2:4 costs",
        f"front, middle, back: {paper_values(THIRDS)}",
        f"{listed(costs(rows, name, THIRDS), 3)} nats",
        [positive(value) for value in more],
    )


def kind_claim(rows: pd.DataFrame, name: str) -> Claim:
    kinds = tuple(PARTS)
    return Claim(
        f"{name}: which kind of layer is best left dense",
        f"differs between models: {', '.join(kinds)}: {paper_values(kinds)}",
        f"{listed(costs(rows, name, kinds), 3)} nats",
        [],
    )


def help_claim(rows: pd.DataFrame, name: str) -> Claim:
    less = only(rows, model=name, skipped=FULL, quantity="above back third")
    return Claim(
        f"{name}: the last third left dense costs less than all at 2:4",
        "8.38 against 8.74 (OPT-175B, Table 5), 8.50 against 9.20 (BLOOM-176B, Table 6)",
        f"{nats(less)} nats less",
        [positive(less)],
    )
