"""Which draft: measured speed-up of small models and tables at temperatures 0 and 1, and the schedules of drafting."""

import functools
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from tqdm import tqdm

from decoding import speedup
from decoding.assisted import assisted_generate
from decoding.generate import generate
from decoding.readers import Reader, as_reader
from decoding.schedules import Schedule
from decoding.turns import every_time
from figures.assisted import common
from figures.assisted.common import BIGRAMS, TABLES, TIMED, Draft, Pair, faster, mean_of, of_turns, shifted
from figures.lab.claims import Claim, positive, show
from figures.lab.presets import presets
from figures.lab.programs import forget_if_many
from figures.lab.runs import Models
from figures.lab.style import BLUE, GREY, ORANGE, PUBLISHED_POINT, YELLOW
from figures.lab.tables import published
from icl_synth.estimates import Estimate, ratio_of_means

TITLE = "Which draft is fastest: size, temperature and schedule, measured"
DIFFERS = (
    "The target is the largest transformer, at batch 1 on this machine's CPU. Every turn continues another document "
    "after 32 tokens: plainly, then assisted; a speed-up is the seconds of all turns over the seconds of all turns, "
    "and its interval is over turns. Each draft runs at its optimal schedule, from its own measured costs, at "
    "temperatures 0 and 1. Acceptance is that of these runs. A cost is the time of a draft's single step over that of "
    "a plain token. Lines are the greatest speed-up over gamma by Leviathan et al.'s formula, which takes verifying as "
    "free; the measured speed-ups pay for verifying. Greedy text of this world soon repeats itself, which any draft "
    "guesses, prompt lookup best of all; sampled text does not. In the paper's Table 2 the smallest draft is the "
    "fastest at both temperatures; the claim asks, at both, whether the smallest transformer's speed-up is above that "
    "of each larger one on the same texts. A bigram table pays where its speed-up is above one. The post says that a "
    "lower temperature makes assisted generation faster; the claim asks whether a token takes longer at each "
    "temperature than at the next lower one, with the smallest draft and constant gamma = 5, timed in turns on the "
    "same beginnings. Our own question is whether gamma chosen from costs and acceptance is faster than every other "
    "schedule on the same texts. Compressed copies of the target, which cost here what the target costs, are in "
    "assisted/temperature."
)
PUBLISHED = common.PUBLISHED
ALONE = True
SAMPLING_SEED = 11
GAMMA = 5  # of schedules that take a number
OPTIMAL, TURNS = "optimal", f"{GAMMA}, temperatures in turns"
OUTLINE = withStroke(linewidth=2, foreground="white")
LABEL: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7, "path_effects": [OUTLINE]}
COLOURS = {0.0: BLUE, 1.0: ORANGE}  # of temperatures


class Sizes(NamedTuple):
    documents: int  # of which the first begin the texts
    schedules: tuple[Schedule, ...] = ("heuristic", "confidence")  # of the first draft, beside optimal and constant
    constants: tuple[int, ...] = (1, 2, 3, GAMMA, 8)  # tokens per round
    temperatures: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5)  # of the first draft, in turns
    tables: tuple[str, ...] = TABLES  # drafts that are not trained
    turns: int = 8
    prompt: int = 32  # tokens
    new: int = 192


PRESETS = presets(
    TIMED,
    quick=Sizes(128, ("heuristic",), (1, 3, GAMMA), (0.0, 1.0, 1.5), ("bigrams",), turns=4, new=96),
    small=Sizes(512),
    paper=Sizes(100),
)
Row = tuple[str, str, float, str, int, float]


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: draft, schedule, temperature, quantity, turn, value.

    Quantities: plain and assisted (seconds per new token of a turn's text), accepted and examined; of a draft, under
    no schedule: step (seconds of its token) and token (of a plain one).
    """
    chosen = common.pair(models, sizes.documents)
    timing = Timing.of(chosen, sizes)
    rows: list[Row] = []
    tables = [draft for draft in common.untrained(chosen) if draft.name in sizes.tables]
    for place, draft in enumerate(tqdm([*common.trained(chosen), *tables], desc="drafts")):
        forget_if_many()
        costs, lines = timing.costs_of(draft)
        rows += lines
        for temperature in COLOURS:
            rows += timing.rows(draft, OPTIMAL, temperature, schedule="optimal", costs=costs, num_draft=GAMMA)
        if place == 0:
            rows += timing.schedule_rows(draft, sizes)
            rows += timing.temperature_rows(draft, sizes.temperatures)
    return pd.DataFrame(rows, columns=["draft", "schedule", "temperature", "quantity", "turn", "value"])


class Timing(NamedTuple):
    """What drafts are timed with: a target, a text to begin each turn, and tokens that are added."""

    target: Reader
    prompts: Int[np.ndarray, "T L"]
    new: int

    @classmethod
    def of(cls, models: Pair, sizes: Sizes) -> "Timing":
        length, new = common.lengths(models.target.config.model.context, sizes.prompt, sizes.new)
        return cls(as_reader(models.target.model), models.documents[: sizes.turns, :length], new)

    def costs_of(self, draft: Draft) -> tuple[speedup.Costs, list[Row]]:
        """Costs of drafting and verifying, and rows of a draft's step and of a plain token."""
        room = self.prompts.shape[1] + self.new
        widths = speedup.windows(min(speedup.MOST, self.new))
        reads = [(draft.reader, 1), (self.target, 1), *((self.target, width) for width in widths)]
        works = [functools.partial(speedup.read_often, reader, 1, room, width) for reader, width in reads]
        seconds = every_time([works] * len(self.prompts)) / speedup.READS
        step, _, *verify = np.median(seconds, axis=0)
        rows = [
            (draft.name, "", 0.0, quantity, turn, float(value))
            for quantity, column in (("step", 0), ("token", 1))
            for turn, value in enumerate(seconds[:, column])
        ]
        return speedup.Costs(float(step), {w: float(v) for w, v in zip(widths, verify, strict=True)}), rows

    def rows(self, draft: Draft, name: str, temperature: float, **schedule: Any) -> Iterator[Row]:
        """Plain and assisted generation of every turn's text under a schedule called `name`."""
        how: dict[str, Any] = {"temperature": temperature, "key": jax.random.key(SAMPLING_SEED)}
        alone = functools.partial(generate, self.target, num_tokens=self.new, **how)
        helped = functools.partial(assisted_generate, self.target, draft.reader, num_tokens=self.new, **how, **schedule)
        works = [(functools.partial(alone, text[None]), functools.partial(helped, text[None])) for text in self.prompts]
        seconds = every_time(works) / self.new
        for turn, ((plain, assisted), (_, work)) in enumerate(zip(seconds, works, strict=True)):
            run = work()
            counts = {"accepted": int(run.accepted.sum()), "examined": int(run.examined.sum())}
            for quantity, value in ({"plain": plain, "assisted": assisted} | counts).items():
                yield draft.name, name, temperature, quantity, turn, float(value)

    def schedule_rows(self, draft: Draft, sizes: Sizes) -> Iterator[Row]:
        """One draft under the other schedules at temperatures 0 and 1."""
        for temperature in COLOURS:
            for schedule in sizes.schedules:
                yield from self.rows(draft, schedule, temperature, schedule=schedule, num_draft=GAMMA)
            for gamma in sizes.constants:
                yield from self.rows(draft, f"constant {gamma}", temperature, num_draft=gamma)

    def temperature_rows(self, draft: Draft, temperatures: tuple[float, ...]) -> Iterator[Row]:
        """One draft at constant gamma at every temperature, which take turns on every text."""
        works = [
            [
                functools.partial(
                    assisted_generate, self.target, draft.reader, text[None], num_tokens=self.new,
                    temperature=temperature, key=jax.random.key(SAMPLING_SEED), num_draft=GAMMA,
                )
                for temperature in temperatures
            ]
            for text in self.prompts
        ]  # fmt: skip
        for turn, seconds in enumerate(every_time(works) / self.new):
            for temperature, value in zip(temperatures, seconds, strict=True):
                yield draft.name, TURNS, temperature, "assisted", turn, float(value)


class Cell:
    """What was measured of a draft under a schedule at a temperature, by turn."""

    def __init__(self, rows: pd.DataFrame, draft: str, schedule: str = OPTIMAL, temperature: float = 1.0):
        self.rows = rows[(rows.draft == draft) & (rows.schedule == schedule) & (rows.temperature == temperature)]

    def turns(self, quantity: str) -> Float[np.ndarray, " T"]:
        return of_turns(self.rows, quantity=quantity)

    @property
    def ratios(self) -> Float[np.ndarray, " T"]:
        """Values whose mean is the speed-up."""
        return ratio_of_means(self.turns("plain"), self.turns("assisted"))

    @property
    def speedup(self) -> Estimate:
        return faster(self.turns("plain"), self.turns("assisted"))

    @property
    def acceptance(self) -> Estimate:
        return mean_of(ratio_of_means(self.turns("accepted"), self.turns("examined")))


def cost(rows: pd.DataFrame, draft: str) -> float:
    """Of a draft's token, in plain tokens."""
    step, token = (of_turns(rows, draft=draft, quantity=quantity) for quantity in ("step", "token"))
    return float(step.mean() / token.mean())


def first_draft(rows: pd.DataFrame) -> str:
    """The one with all schedules."""
    return str(rows.draft.iloc[0])


def schedules(rows: pd.DataFrame) -> list[str]:
    """Of the first draft at temperatures 0 and 1, constant ones first."""
    names = rows[(rows.draft == first_draft(rows)) & ~rows.schedule.fillna("").isin(["", TURNS])].schedule.unique()
    return sorted(names, key=lambda name: not name.startswith("constant"))


def plot(rows: pd.DataFrame) -> Figure:
    names = list(rows.draft.unique())
    first = first_draft(rows)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 5), width_ratios=(1.2, 1, 1))
    draw_map(left, rows, names)
    draw_bars(middle, {name: {t: Cell(rows, name, temperature=t).speedup for t in COLOURS} for name in names})
    draw_bars(right, {how: {t: Cell(rows, first, how, t).speedup for t in COLOURS} for how in schedules(rows)})
    paper = published("assisted", setting="bigram draft").iloc[0]
    place = paper.value, len(names) - 1 - names.index(BIGRAMS)
    middle.plot(*place, **PUBLISHED_POINT)
    middle.annotate("Leviathan et al.", place, (6, -3), **LABEL)
    fastest = max(names, key=lambda name: Cell(rows, name).speedup.mean)
    middle.set_title(f"sampled, {fastest} is fastest")
    right.set_title(f"{first} by schedule")
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
    return figure


def draw_bars(panel: Axes, speeds: dict[str, dict[float, Estimate]]) -> None:
    """Measured speed-ups, the first on top, by temperature."""
    places = np.arange(len(speeds))[::-1]
    for (temperature, colour), shift in zip(COLOURS.items(), (0.2, -0.2), strict=True):
        values = [line[temperature] for line in speeds.values()]
        panel.barh(places + shift, [v.mean for v in values], 0.38, xerr=[v.half_width for v in values], color=colour,
                   error_kw={"lw": 1, "capsize": 2}, label=f"temperature {temperature:g}")  # fmt: skip
    panel.axvline(1, color="black", lw=0.8)
    panel.set_yticks(places, labels=list(speeds), fontsize=8)
    panel.set_xlabel("measured speed-up")


def draw_map(panel: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    """Acceptance in sampled runs (log odds) against cost, and the greatest speed-up of the formula."""
    panel.set(xscale="log", yscale="logit", xlim=(0.004, 13), ylim=(0.05, 0.993))
    costs, alphas = np.geomspace(0.004, 3, 300), 1 / (1 + np.exp(-np.linspace(-4, 7, 300)))
    gammas = np.arange(41)[:, None, None]
    best = (speedup.expected_tokens(alphas[:, None], gammas) / (gammas * costs + 1)).max(0)
    lines = panel.contour(costs, alphas, best, levels=(1.01, 1.25, 1.5, 2, 3, 5, 8), colors="#bbbbbb", linewidths=0.9)
    panel.clabel(lines, fmt="%gx", fontsize=7, colors="#777777")
    for name in names:
        alpha, place = Cell(rows, name).acceptance, cost(rows, name)
        height = float(np.clip(alpha.mean, 0.06, 0.99))  # the axis has no 0 and no 1
        panel.errorbar(place, height, alpha.half_width, marker="o", capsize=2, color=YELLOW if name in TABLES else GREY)
        panel.annotate(name, (place, height), (6, 3), **LABEL)
    ticks = (0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98)
    panel.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.set(xlabel="cost of a draft's token, in plain tokens", ylabel="acceptance in runs at temperature 1")
    panel.set_title("lines: greatest speed-up, verifying free")


def claims(rows: pd.DataFrame) -> list[Claim]:
    """The sizes, the bigram table, temperature, and the schedules."""
    return [size_claim(rows), bigram_claim(rows), latency_claim(rows), schedule_claim(rows)]


def size_claim(rows: pd.DataFrame) -> Claim:
    smallest, *larger = common.sizes_of(rows.draft.unique())
    cells = [(name, t) for t in COLOURS for name in larger]
    gains = [
        mean_of(Cell(rows, smallest, temperature=t).ratios - Cell(rows, name, temperature=t).ratios)
        for name, t in cells
    ]
    table = published("assisted", what="speedup")
    table = table[table.draft.fillna("").str.startswith("T5")]
    paper = "; ".join(
        f"{at}: {' / '.join(f'{v:g}' for v in g.value)}" for at, g in table.groupby("setting", sort=False)
    )
    return Claim(
        "among transformers of several sizes the smallest drafts fastest, at temperatures 0 and 1",
        f"T5-small / base / large, x: {paper} (Leviathan et al., Table 2)",
        "; ".join(
            f"{name} {' and '.join(show(Cell(rows, name, temperature=t).speedup, 2) for t in COLOURS)}x"
            for name in (smallest, *larger)
        ),
        [positive(gain) for gain in gains],
    )


def bigram_claim(rows: pd.DataFrame) -> Claim:
    cells = {t: Cell(rows, BIGRAMS, temperature=t) for t in COLOURS}
    paper = published("assisted", setting="bigram draft").iloc[0]
    return Claim(
        "a bigram table is a draft that pays, at temperatures 0 and 1",
        f"{paper.value:g}x at gamma = {paper.gamma:g}, alpha about {paper.alpha:g} (Leviathan et al.)",
        "; ".join(
            f"{show(cell.speedup, 2)}x, alpha {cell.acceptance.mean:.2f} at temperature {t:g}"
            for t, cell in cells.items()
        ),
        [positive(shifted(cell.speedup, -1)) for cell in cells.values()],
    )


def latency_claim(rows: pd.DataFrame) -> Claim:
    """Seconds of a token on the same beginnings, each temperature's less the next lower one's."""
    first = first_draft(rows)
    temperatures = sorted(rows[(rows.draft == first) & (rows.schedule == TURNS)].temperature.unique())
    taken = [1e3 * Cell(rows, first, TURNS, t).turns("assisted") for t in temperatures]
    return Claim(
        f"{first}: a lower temperature makes assisted generation faster",
        "said in the post, without a number",
        "; ".join(f"{show(mean_of(ms), 3)} ms a token at {t:g}" for t, ms in zip(temperatures, taken, strict=True)),
        [positive(mean_of(warm - cold)) for cold, warm in itertools.pairwise(taken)],
    )


def schedule_claim(rows: pd.DataFrame) -> Claim:
    first, others = first_draft(rows), [name for name in schedules(rows) if name != OPTIMAL]
    gains = [
        mean_of(Cell(rows, first, OPTIMAL, t).ratios - Cell(rows, first, name, t).ratios)
        for t in COLOURS
        for name in others
    ]
    return Claim(
        f"{first}: gamma chosen from measured costs and acceptance is faster than every other schedule",
        "no claim of a paper's; the post offers constant and heuristic",
        "; ".join(
            f"{name} {' and '.join(show(Cell(rows, first, name, t).speedup, 2) for t in COLOURS)}x"
            for name in (OPTIMAL, *others)
        ),
        [positive(gain) for gain in gains],
        own=True,
    )
