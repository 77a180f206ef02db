"""What arms make of a text's own earlier part: position, invented names, second readings, new labels (secondary)."""

from collections.abc import Callable
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, Registered, positive, show
from figures.lab.presets import presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLACK, WIDTH
from figures.lab.tables import Table, only, over_seeds, pick
from figures.transfer import common
from figures.transfer.common import ARMS, CONTEXT, RANDOM, REGISTERED, enough, losses, piece
from icl_synth import checkpoints, text

TITLE = "Synthetic documents first, real text after: names, second readings and new labels in context"
DIFFERS = (
    f"{REGISTERED}These outcomes are secondary and corrected together. Every arm is asked the same texts at its end "
    "and held against the arm without synthetic documents, seed by seed. A name is three invented syllables, as a "
    "speaker of a play; its completion, all but the first letter, is judged at its second mention, where the first "
    "mention had the same name or another invented one. A passage of a test work, and as many random letters, are "
    "read twice. For new labels, six different short lines of the test works, three that end in a question mark and "
    "three in a full stop, are each followed by one of two invented words in brackets; a seventh is to be followed by "
    "the right one. Late characters are those from 128 to 255 of a window, early ones 16 to 63. None of the cited "
    "studies "
    "measures these on text."
)
PUBLISHED = ()
lacks = common.lacks
BINS = ((1, 16), (16, 64), (64, 128), (128, 256))  # of positions
PASSAGE = 96  # characters that are read twice
SHOTS = 6
LONGEST_LINE = 24
MEASURES = {  # what is judged, and in what unit a larger number means that context is used more
    "name": "nats per character saved by the name's first mention",
    "passage": "nats per character saved at the second reading",
    "letters": "nats per character saved at the second reading of random letters",
    "labels": "right labels, %",
    "position": "nats per character by which late characters are easier than early ones",
}


class Sizes(NamedTuple):
    texts: int  # of each kind
    seeds: int  # without which nothing is computed: no look before


PRESETS = presets(common.SUITES, quick=Sizes(32, 1), small=Sizes(256, 6))


class Texts(NamedTuple):
    """Everything that an arm is asked, as tokens."""

    windows: Int[np.ndarray, "N L"]
    named: Int[np.ndarray, "N L"]  # the name mentioned before
    renamed: Int[np.ndarray, "N L"]  # another one before
    passages: Int[np.ndarray, "N L"]
    letters: Int[np.ndarray, "N L"]
    labelled: Int[np.ndarray, "M L"]  # pairs: the right label, the wrong one; filled up on the right
    ends: Int[np.ndarray, " M"]  # where the labels end


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: arm, quantity, at (the first position of a bin, else 0); values over texts, differences a value a seed.

    Quantities: loss by position (nats per character), those of MEASURES, and each of these "above random".
    """
    table = Table("arm", "quantity", "at")
    seeds = common.all_seeds(models, sizes.seeds)
    texts = make_texts(seeds[0][RANDOM], sizes.texts)
    for runs in tqdm(seeds, desc="seeds", unit="seed"):
        seed = runs[RANDOM].seed
        read = {arm: losses(run.model, texts.windows) for arm, run in runs.items()}
        found = {arm: measured(run.model, texts, read[arm]) for arm, run in runs.items()}
        for arm, by_position in read.items():
            for first, end in BINS:
                table.add(
                    arm, "loss by position", first, seed=seed, values=by_position[:, first - 1 : end - 1].mean(-1)
                )
            for measure, values in found[arm].items():
                table.add(arm, measure, 0, seed=seed, values=values)
                if arm != RANDOM:
                    above = np.array([(values - found[RANDOM][measure]).mean()])
                    table.add(arm, f"{measure} above random", 0, seed=seed, values=above)
    return table.rows()


def measured(
    model: checkpoints.Model, texts: Texts, by_position: Float[np.ndarray, "N T"]
) -> dict[str, Float[np.ndarray, " N"]]:
    """The measures of one model, by text; `by_position` are its losses on the windows."""
    named, renamed = (losses(model, sequences)[:, -(NAME - 1) :].mean(-1) for sequences in (texts.named, texts.renamed))
    each, places = losses(model, texts.labelled), np.arange(1, texts.labelled.shape[1])
    asked = (places >= texts.ends[:, None] - LABEL) & (places < texts.ends[:, None])
    labels = np.where(asked, each, 0).sum(-1).reshape(-1, 2)
    early, late = (by_position[:, first - 1 : end - 1].mean(-1) for first, end in (BINS[1], BINS[3]))
    return {
        "name": renamed - named,
        **{
            name: first_less_second(losses(model, sequences))
            for name, sequences in (("passage", texts.passages), ("letters", texts.letters))
        },
        "labels": 100.0 * (labels[:, 0] < labels[:, 1]),
        "position": early - late,
    }


def first_less_second(of: Float[np.ndarray, "N T"]) -> Float[np.ndarray, " N"]:
    """The loss of a passage's first reading less that of its second, without its first character."""
    return of[:, : PASSAGE - 1].mean(-1) - of[:, PASSAGE:].mean(-1)


SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("al", "el", "im", "or", "un", "ax")]
NAME, LABEL = 9, 3  # characters of an invented name, and of a label


def make_texts(run: Run, number: int) -> Texts:
    """The texts, the same for all runs. Raises ValueError for test works with too few short lines."""
    rng, works = np.random.default_rng(0), common.works(run, "test")
    read = text.read(run.config.data.text)
    names = list(works)
    pieces: Callable[[int], list[np.ndarray]] = lambda length: [  # noqa: E731 (drawn one after another)
        piece(rng, works[names[place % len(names)]], length) for place in range(number)
    ]
    letters = read.encode("".join(letter for letter in read.alphabet if letter.islower()))
    passages, random = pieces(PASSAGE), [rng.choice(letters, PASSAGE) for _ in range(number)]
    kept, replaced = zip(*(named(read, rng, *parts) for parts in zip(pieces(60), pieces(90), strict=True)), strict=True)
    lines = short_lines(read, works)
    labelled = [tokens for _ in range(number) for tokens in labels(read, rng, lines)]
    return Texts(
        np.stack(pieces(CONTEXT)), np.stack(kept), np.stack(replaced), np.stack([np.tile(p, 2) for p in passages]),
        np.stack([np.tile(p, 2) for p in random]), filled(labelled), np.array(list(map(len, labelled))),
    )  # fmt: skip


def invented(rng: np.random.Generator) -> str:
    return "".join(rng.choice(SYLLABLES, 3))


def named(
    read: text.Text, rng: np.random.Generator, before: Int[np.ndarray, " A"], between: Int[np.ndarray, " B"]
) -> tuple[Int[np.ndarray, " L"], Int[np.ndarray, " L"]]:
    """A play in which an invented speaker speaks twice; and the same with another speaker the first time."""
    name, other = (invented(rng).capitalize() for _ in range(2))
    return tuple(
        read.encode(f"{read.decode(before)}\n\n{first}.\n{read.decode(between)}\n\n{name}") for first in (name, other)
    )  # type: ignore[return-value]


def short_lines(read: text.Text, works: dict[str, Int[np.ndarray, " _"]]) -> tuple[list[str], list[str]]:
    """Lines that end as questions, and others that end as sentences; no speakers' names, which are in capitals."""
    lines = dict.fromkeys(line.strip() for work in works.values() for line in read.decode(work).split("\n"))
    fit = [line for line in lines if 12 <= len(line) <= LONGEST_LINE and not line.isupper() and "[" not in line]
    questions, others = ([line for line in fit if line.endswith(mark)] for mark in "?.")
    if min(len(questions), len(others)) <= SHOTS:
        raise ValueError(f"the test works have {len(questions)} short questions and {len(others)} other short lines")
    return questions, others


def labels(
    read: text.Text, rng: np.random.Generator, lines: tuple[list[str], list[str]]
) -> tuple[Int[np.ndarray, " L"], Int[np.ndarray, " L"]]:
    """Six lines with their labels and a seventh, none twice: once with the right label, once with the other."""
    words = list(rng.choice(SYLLABLES, 2, replace=False))
    kinds = [*rng.permutation([0, 1] * (SHOTS // 2)), rng.integers(2)]
    drawn = [iter(rng.choice(some, SHOTS, replace=False)) for some in lines]
    begun = "\n".join(f"{next(drawn[kind])} [{words[kind]}]" for kind in kinds).removesuffix(f"{words[kinds[-1]]}]")
    return tuple(read.encode(begun + words[kind]) for kind in (kinds[-1], 1 - kinds[-1]))  # type: ignore[return-value]


def filled(sequences: list[Int[np.ndarray, " _"]]) -> Int[np.ndarray, "M L"]:
    """As long as the longest, with any token on the right."""
    longest = max(map(len, sequences))
    return np.stack([np.pad(tokens, (0, longest - len(tokens))) for tokens in sequences])


def plot(rows: pd.DataFrame) -> Figure:
    means = over_seeds(rows)
    figure, panels = plt.subplots(1, 3, figsize=(WIDTH, 4.0), sharey=True)
    for panel, measure in zip(panels, ("name", "passage", "labels"), strict=True):
        draw_measure(panel, rows, means, measure)
    panels[0].set_yticks([-place for place in range(len(ARMS))], [name for _, name in ARMS.values()], size=8)
    gain = only(means, arm="many", quantity="name above random")
    figure.suptitle(f"Many concepts first: an invented name's first mention saves {gain.mean:+.3f} ± "
                    f"{gain.half_width:.3f} nats\nper character more at its second", size=11)  # fmt: skip
    return figure


def draw_measure(panel: Axes, rows: pd.DataFrame, means: pd.DataFrame, measure: str) -> None:
    """A measure by arm, seeds as dots."""
    for place, (arm, (colour, _)) in enumerate(ARMS.items()):
        value = only(means, arm=arm, quantity=measure)
        dots = pick(rows, arm=arm, quantity=measure).value
        panel.plot(dots, np.full(len(dots), -place - 0.2), ".", ms=4, color=colour, alpha=0.5)
        panel.errorbar(value.mean, -place, xerr=value.half_width, color=colour, marker="o", capsize=2)
    panel.axvline(only(means, arm=RANDOM, quantity=measure).mean, color=BLACK, lw=0.6, ls=":")
    unit = MEASURES[measure].replace(" saved", "\nsaved").replace(" at the", "\nat the")
    panel.set_title(measure, size=10)
    panel.set_xlabel(unit, size=8)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Whether many concepts first make a model use its context more, by measure."""
    number, means = rows.seed.nunique() if "seed" in rows else 0, over_seeds(rows)
    return [measure_claim(means, measure, number) for measure in MEASURES]


def measure_claim(means: pd.DataFrame, measure: str, number: int) -> Claim:
    above = only(means, arm="many", quantity=f"{measure} above random")
    each = {arm: only(means, arm=arm, quantity=measure) for arm in (RANDOM, "many")}
    return Registered(
        f"many concepts first: more {MEASURES[measure].split(' of ')[0]} ({measure}, secondary)",
        "no number on text",
        f"{show(above, 3)} more: {show(each['many'], 3)} against {show(each[RANDOM], 3)}",
        [enough(number, positive(above))],
        family="secondary",
    )
