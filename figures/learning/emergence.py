"""Loss over Bayes and accuracy in context by tokens of training, one curve for each size. Beyond Xie et al. 2022."""

import itertools
import math
from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, above, judged
from figures.lab.measure import excess, held_back
from figures.lab.presets import SEEDS, Suite, presets
from figures.lab.runs import Models
from figures.lab.style import BLUE, GREEN, PINK, YELLOW, draw_line, legend_below
from figures.lab.tables import Table, over_seeds, pick
from figures.learning.common import add_answers, any_run, draw_extremes, draw_prompts, extreme_cells, lengths_of
from icl_synth.config import LENGTHS
from icl_synth.evaluate import Estimate

TITLE = "When in-context learning emerges: loss over Bayes and accuracy by tokens of training (beyond Xie et al. 2022)"
DIFFERS = (
    "The paper shows models at the end of training only. Each point here is a run of its own, whose learning rates "
    "decay to zero over its own length, so that a short run is not a half-trained long one (the warm-up is always 50 "
    "steps). Transformers have width 32 (4 layers), 64 and 128 (6 layers), and three training seeds; width 128 has "
    "one, so its intervals are over documents and prompts alone. Runs of one seed begin with the same documents, which "
    "in `quick` and `small` never repeat. The gain is accuracy with the most examples that fit less accuracy with "
    "none. No claim here is a paper's. That excess falls as a power of tokens *holds* where, of five or more points, "
    "log excess against log tokens is straight to R² = 0.98 and the slopes between neighbours differ by at most a "
    "factor of two, and *partly* where it is straight to 0.95. The tokens that a model needs to reach an excess of 0.1 "
    "nats are read between two points on logarithmic axes: from the means, and as a range from both ends of the 95 % "
    "intervals. That larger models need fewer *holds* where the range of each lies below that of the next smaller, and "
    "*partly* where the largest needs fewer than the smallest by the means. That the gain grows *holds* where the "
    "interval of the longest run lies above that of the shortest, and *partly* where only the means have this order."
)
PUBLISHED = ()
PROMPT_SEED = 1122
ENOUGH = 0.1  # nats per token
COLOURS = (YELLOW, BLUE, GREEN, PINK)


class Sizes(NamedTuple):
    prompts: int  # at each number and length of examples
    documents: int
    lengths: tuple[int, ...] = (5, 10)  # of examples


def by_steps(*names: str) -> dict[str, str]:
    """The shorter runs of these training presets and the presets themselves."""
    suite: dict[str, str] = {}
    for name in names:
        suite |= {f"{name}, {steps} steps": f"{name}-{steps}" for steps in LENGTHS[name]}
        suite[f"{name}, all steps"] = name
    return suite


SUITES = {
    "quick": Suite(by_steps("quick-draft"), SEEDS["quick"]),
    "small": Suite(by_steps("small-w32", "small"), SEEDS["small"], by_steps("small-w128")),
    "paper": Suite(by_steps("paper-4l"), SEEDS["paper"]),
}
PRESETS = presets(SUITES, quick=Sizes(200, 128), small=Sizes(1000, 512), paper=Sizes(1000, 100))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: width, tokens, quantity, example_length, num_examples.

    Quantities: excess (nats per token over exact Bayes), accuracy (%), gain (points, the most examples against none).
    """
    table = Table("width", "tokens", "quantity", "example_length", "num_examples")
    hmm, _ = any_run(models).config.data.build()
    documents = held_back(any_run(models), sizes.documents)
    runs = [run for several in models.values() for run in several]
    cells = extreme_cells(min(run.config.model.context for run in runs), sizes.lengths)
    prompts = draw_prompts(hmm, jax.random.key(PROMPT_SEED), sizes.prompts, cells)
    for run in tqdm(runs, desc="lengths of training", unit="run"):
        who = run.config.model.width, int(run.metrics[-1]["tokens"])
        table.add(*who, "excess", 0, 0, seed=run.seed, values=excess(run.model, documents))
        add_answers(table, *who, run=run, prompts=prompts)
    return table.rows().sort_values(["width", "tokens"], kind="stable")


def plot(rows: pd.DataFrame) -> Figure:
    rows = over_seeds(rows)
    lengths = lengths_of(rows)
    figure, (left, *panels) = plt.subplots(1, 1 + len(lengths), figsize=(12, 4.2))
    colours = dict(zip(sorted(rows.width.unique()), COLOURS, strict=False))
    for width, colour in colours.items():
        line = pick(rows, width=width, quantity="excess")
        draw_line(left, line, "tokens", color=colour, marker="o", label=f"width {width}")
    for panel, k in zip(panels, lengths, strict=True):
        for width, colour in colours.items():
            line = pick(rows, width=width, quantity="accuracy", example_length=k)
            most = draw_extremes(panel, line, "tokens", color=colour)
        panel.set(title=f"k = {k}: {most} examples (full), none (open)", ylim=(0, 102), ylabel="accuracy, %")
    left.set(title="held-back documents", ylabel="loss above exact Bayes, nats per token", yscale="log")
    for panel in (left, *panels):
        panel.set(xscale="log", xlabel="tokens of training")
    legend_below(figure, left, len(COLOURS))
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """A power law for each size, the larger learns from fewer tokens, and what examples add grows with training."""
    rows = over_seeds(rows)
    table = []
    lines = {width: pick(rows, width=width, quantity="excess") for width in sorted(rows.width.unique())}
    for width, line in lines.items():
        table.append(power_claim(line, width))
        for k in lengths_of(rows):
            table.append(gain_claim(pick(rows, width=width, quantity="gain", example_length=k), width, k))
    return [*table, size_claim(lines)] if len(lines) > 1 else table


def power_claim(line: pd.DataFrame, width: int) -> Claim:
    x, y = np.log(line.tokens.to_numpy()), np.log(np.maximum(line.value.to_numpy(), 1e-6))
    slopes = np.diff(y) / np.diff(x)
    straight = float(np.corrcoef(x, y)[0, 1] ** 2) if y.std() > 0 else 0.0
    even = bool((slopes < 0).all()) and slopes.min() >= 2 * slopes.max()
    return Claim(
        f"width {width}: excess over Bayes falls as a power of the tokens of training",
        "no claim of a paper's",
        f"{line.value.iloc[0]:.3f} → {line.value.iloc[-1]:.3f} nats from {line.tokens.iloc[0] / 1e6:.1f} to "
        f"{line.tokens.iloc[-1] / 1e6:.1f} M tokens, exponent {np.polyfit(x, y, 1)[0]:.2f} (between neighbours "
        f"{slopes.max():.2f} to {slopes.min():.2f}), R² {straight:.3f}",
        judged(len(x) >= 5 and even and straight >= 0.98, len(x) >= 5 and straight >= 0.95),
    )


def gain_claim(gains: pd.DataFrame, width: int, k: int) -> Claim:
    first, last = (Estimate(*gains.iloc[place][["value", "half_width"]]) for place in (0, -1))
    most = gains.iloc[int(gains.value.argmax())]
    return Claim(
        f"width {width}, k = {k}: what examples add grows with training",
        "no claim of a paper's",
        f"{first.mean:+.1f} ± {first.half_width:.1f} → {last.mean:+.1f} ± {last.half_width:.1f} points, "
        f"largest {most.value:+.1f} at {most.tokens / 1e6:.1f} M tokens",
        above(last, first),
    )


class Needed(NamedTuple):
    """Tokens of training that an excess takes, by the mean and by the ends of its intervals; infinite: not reached."""

    least: float
    mean: float
    most: float


def size_claim(lines: dict[int, pd.DataFrame]) -> Claim:
    needed = {width: tokens_needed(line) for width, line in lines.items()}
    neighbours = list(itertools.pairwise(needed.values()))
    smallest, *_, largest = needed.values()
    return Claim(
        f"the larger the model, the fewer tokens it needs to come within {ENOUGH} nats of exact Bayes",
        "no claim of a paper's",
        ", ".join(f"width {width}: {in_words(tokens)}" for width, tokens in needed.items()),
        judged(all(large.most < small.least for small, large in neighbours), largest.mean < smallest.mean),
    )


def tokens_needed(line: pd.DataFrame) -> Needed:
    """Where excess comes down to ENOUGH."""
    tokens = line.tokens.to_numpy()
    ends = (line.value + side * line.half_width for side in (-1, 0, 1))
    return Needed(*(first_below(tokens, end.to_numpy(), ENOUGH) for end in ends))


def in_words(needed: Needed) -> str:
    if math.isinf(needed.mean):
        return "not reached"
    most = "never" if math.isinf(needed.most) else f"{needed.most / 1e6:.1f}"
    return f"{needed.mean / 1e6:.1f} M ({needed.least / 1e6:.1f} to {most})"


def first_below(x: Shaped[np.ndarray, " N"], y: Float[np.ndarray, " N"], level: float) -> float:
    """x where the line through the points, straight on logarithmic axes, first comes down to a level; infinite where
    it does not, and the first x where all points are below."""
    below = np.flatnonzero(y <= level)
    if not below.size:
        return math.inf
    if below[0] == 0:
        return float(x[0])
    ends = slice(below[0] - 1, below[0] + 1)
    (x0, x1), (y0, y1) = np.log(x[ends]), np.log(np.maximum(y[ends], 1e-6))
    return float(np.exp(x0 + (x1 - x0) * (np.log(level) - y0) / (y1 - y0)))
