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
from tqdm import tqdm

from decoding import speedup
from decoding.assisted import assisted_generate
from decoding.generate import generate
from decoding.readers import Reader, as_reader
from decoding.schedules import Schedule
from decoding.turns import every_time
from figures.assisted import common
from figures.assisted.common import BIGRAMS, TABLES, TIMED, Draft, Pair, shifted
from figures.lab.claims import Claim, positive, show
from figures.lab.presets import presets
from figures.lab.programs import forget_if_many
from figures.lab.runs import Models
from figures.lab.style import BLACK, BLUE, GREY, ORANGE, PUBLISHED_POINT, WIDTH
from figures.lab.tables import published
from figures.lab.timings import faster, mean_of, of_turns
from icl_synth.estimates import Estimate, ratio_of_means

TITLE = "Which draft is fastest: size, temperature and schedule, measured"
DIFFERS = (
    "The target is the largest transformer, at batch 1 on this machine's CPU. Every turn continues another document "
    "after 32 tokens: plainly, then assisted; a speed-up is the seconds of all plain turns over those of all assisted "
    "turns, "
    "and its interval is over turns. Each draft runs at its optimal schedule, from its own measured costs, at "
    "temperatures 0 and 1. Acceptance is that of these runs. A cost is the time of a draft's single step over that of "
    "a plain token. The speed-ups pay for verifying, which "
    "Leviathan et al.'s formula takes as free. Greedy text of this world soon repeats itself, which any draft "
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


def first_draft(rows: pd.DataFrame) -> str:
    """The one with all schedules."""
    return str(rows.draft.iloc[0])


def schedules(rows: pd.DataFrame) -> list[str]:
    """Of the first draft at temperatures 0 and 1, constant ones first."""
    names = rows[(rows.draft == first_draft(rows)) & ~rows.schedule.fillna("").isin(["", TURNS])].schedule.unique()
    return sorted(names, key=lambda name: not name.startswith("constant"))


def plot(rows: pd.DataFrame) -> Figure:
    names, first = list(rows.draft.unique()), first_draft(rows)
    figure, (drafts, hows) = plt.subplots(1, 2, figsize=(WIDTH, 4.2), sharex=True)
    speeds = {name: {t: Cell(rows, name, temperature=t).speedup for t in COLOURS} for name in names}
    draw_speeds(drafts, speeds)
    draw_speeds(hows, {how: {t: Cell(rows, first, how, t).speedup for t in COLOURS} for how in schedules(rows)})
    drafts.set_title("each draft, optimal schedule")
    hows.set_title(f"{first}, by schedule")
    paper = published("assisted", setting="bigram draft").iloc[0]
    place = (paper.value, len(names) - 1 - names.index(BIGRAMS))
    drafts.plot(*place, **PUBLISHED_POINT)
    drafts.annotate("Leviathan et al.", place, (0, -6), textcoords="offset points", size=8, color=GREY, va="top")
    fastest = {t: max((speeds[name][t].mean, name) for name in names) for t in COLOURS}
    found = [f"{name} ({speed:.2f}x) at temperature {t:g}" for t, (speed, name) in fastest.items()]
    figure.suptitle("Fastest draft: " + ",\n".join(found), size=11)
    return figure


def draw_speeds(panel: Axes, speeds: dict[str, dict[float, Estimate]]) -> None:
    """Measured speed-ups by temperature, the first on top."""
    places = np.arange(len(speeds))[::-1]
    for (temperature, colour), shift in zip(COLOURS.items(), (0.13, -0.13), strict=True):
        values = [line[temperature] for line in speeds.values()]
        panel.errorbar([v.mean for v in values], places + shift, xerr=[v.half_width for v in values], fmt="o", ms=5,
                       color=colour, elinewidth=1, capsize=2)  # fmt: skip
        panel.annotate(f"temperature {temperature:g}", (values[0].mean, places[0] + shift), (0, 14 * np.sign(shift)),
                       textcoords="offset points", size=8, color=colour, ha="center", va="center")  # fmt: skip
    panel.axvline(1, color=BLACK, lw=0.8)
    panel.set_yticks(places, labels=list(speeds), fontsize=9)
    panel.set(xlabel="measured speed-up", ylim=(-0.6, len(speeds) - 0.2))


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
