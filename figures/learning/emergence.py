"""Loss over Bayes and accuracy in context by tokens of training, one curve for each size. Beyond Xie et al. 2022."""

import itertools
from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, near_zero, positive, show
from figures.lab.measure import excess, held_back
from figures.lab.presets import SEEDS, Suite, presets
from figures.lab.runs import Models
from figures.lab.style import BLACK, BLUE, WIDTH, name_ends, plain_log, span
from figures.lab.tables import Table, as_estimate, only, over_seeds, pick
from figures.learning.common import (
    add_answers,
    any_run,
    by_key,
    draw_mean,
    draw_prompts,
    extreme_cells,
    lengths_of,
)
from icl_synth.presets.worlds import LENGTHS
from icl_synth.trends import extrapolated, slope

TITLE = "When in-context learning emerges: loss over Bayes and accuracy by tokens of training (beyond Xie et al. 2022)"
DIFFERS = (
    "The paper shows models at the end of training only. Each point here is a run of its own, whose learning rates "
    "decay to zero over its own length, so that a short run is not a half-trained long one (the warm-up is always 50 "
    "steps). Transformers have width 32 (4 layers), 64 and 128 (6 layers). Runs of one seed begin with the same "
    "documents, which in `quick` and `small` never repeat. The gain is accuracy with the most examples that fit less "
    "accuracy with none. No claim here is a paper's. That excess falls as a power of the tokens of training requires "
    "that the line through the shorter runs, log excess against log tokens, predict the excess of the longest run to "
    "0.01 nats, to which the paper gives losses; and that it miss by less than a line of log excess against tokens, an "
    "exponential. Both lines have two constants and have not seen the run that they predict; both are fitted for each "
    "seed. That larger models learn from fewer tokens requires that the excess of each be below that of the next "
    "smaller at every number of tokens that both were trained on, by pairs of one seed on the same documents. That the "
    "gain grows requires that its slope over all runs, against the logarithm of their tokens, be above zero at each "
    "length k."
)
PUBLISHED = ()
PROMPT_SEED = 1122
EQUAL = 0.01  # nats per token
COLOURS = ("#8cc5e8", BLUE, "#003b5c")  # of transformers, the wider the darker


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
    "small": Suite(by_steps("small-w32", "small", "small-w128"), SEEDS["small"]),
    "paper": Suite(by_steps("paper-4l"), SEEDS["paper"]),
}
PRESETS = presets(SUITES, quick=Sizes(200, 128), small=Sizes(1000, 512), paper=Sizes(1000, 100))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: width, tokens, quantity, example_length, num_examples.

    Quantities: excess (nats per token over exact Bayes), accuracy (%), gain (points, the most examples against none);
    less_excess, how much less than that of the next smaller model. At the most tokens of a width also power_miss, its
    excess less what a power law through the shorter runs predicts; less_miss, by how much that is nearer than what an
    exponential predicts; and gain_slope, points for twice the tokens.
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
    for width in {width for width, *_ in table.cells}:
        add_laws(table, width)
        for k, n in cells:
            if n:
                add_gain_slope(table, width, k, n)
    add_less_excess(table)
    return table.rows().sort_values(["width", "tokens"], kind="stable")


def by_tokens(
    table: Table, width: int, quantity: str, k: int = 0, n: int = 0
) -> dict[int, dict[int | None, Float[np.ndarray, " N"]]]:
    """What the runs of a width measured: by tokens of training in order, and by seed."""
    here = (width, quantity, k, n)
    found = {cell[1]: seeds for cell, seeds in table.cells.items() if (cell[0], *cell[2:]) == here}
    return dict(sorted(found.items()))


def add_laws(table: Table, width: int) -> None:
    """What two laws fitted to the shorter runs predict of the longest."""
    line = by_tokens(table, width, "excess")
    tokens = np.array(list(line), np.float64)
    for seed, longest in line[max(line)].items():
        shorter = np.stack([seeds[seed] for seeds in line.values()][:-1])
        power, exponential = (
            longest - extrapolated(x[:-1], shorter, x[-1]) for x in (np.log(tokens), tokens / tokens[-1])
        )
        table.add(width, max(line), "power_miss", 0, 0, seed=seed, values=power)
        nearer = np.sign(exponential.mean()) * exponential - np.sign(power.mean()) * power
        table.add(width, max(line), "less_miss", 0, 0, seed=seed, values=nearer)


def add_gain_slope(table: Table, width: int, k: int, n: int) -> None:
    line = by_tokens(table, width, "gain", k, n)
    x = np.log2(list(line))
    for seed in line[max(line)]:
        values = slope(x, np.stack([seeds[seed] for seeds in line.values()]))
        table.add(width, max(line), "gain_slope", k, n, seed=seed, values=values)


def add_less_excess(table: Table) -> None:
    """Neighbours in size at equal tokens."""
    widths = sorted({width for width, *_ in table.cells})
    for small, large in itertools.pairwise(widths):
        before, after = (by_tokens(table, width, "excess") for width in (small, large))
        for tokens in before.keys() & after.keys():
            for seed, values in after[tokens].items():
                less = before[tokens][seed] - values
                table.add(large, tokens, "less_excess", 0, 0, seed=seed, values=less)


def plot(rows: pd.DataFrame) -> Figure:
    """The losses, and what examples add at each length, a line for each width."""
    lengths = lengths_of(rows)
    figure, (left, *gains) = plt.subplots(1, 1 + len(lengths), figsize=(WIDTH, 3.6))
    ends = []
    for width, colour in zip(sorted(rows.width.unique()), COLOURS, strict=False):
        here = pick(rows, width=width)
        draw_mean(left, pick(here, quantity="excess"), "tokens", color=colour)
        for panel, k in zip(gains, lengths, strict=True):
            line = pick(here, quantity="gain", example_length=k)
            draw_mean(panel, line, "tokens", color=colour)
        last = over_seeds(line).sort_values("tokens").iloc[-1]
        ends.append((f"width {width}", rows.tokens.max(), last.value, colour))
    low, high = span(pd.Series([end for panel in gains for end in panel.get_ylim()]))
    for panel, k in zip(gains, lengths, strict=True):
        panel.set(ylim=(low, high), title=f"points added, k = {k}")
        panel.axhline(0, color=BLACK, lw=0.8)
    left.set(title="nats above Bayes", yscale="log")
    plain_log(left.yaxis, 2, 5)
    for panel in (left, *gains):
        panel.set(xscale="log", xlabel="million tokens of training")
        plain_log(panel.xaxis, 3, form=lambda tokens, _: f"{tokens / 1e6:g}")
    name_ends(gains[-1], ends)
    slopes = pick(over_seeds(rows), quantity="gain_slope")
    clear = sum(positive(as_estimate(row)).verdict == "holds" for _, row in slopes.iterrows())
    figure.suptitle(
        f"What examples add clearly grows with training in {clear} of {len(slopes)} cases (width and k)", size=11
    )
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """A power law for each size, the larger learns from fewer tokens, and what examples add grows with training."""
    rows = over_seeds(rows)
    table = []
    for width in sorted(rows.width.unique()):
        here = pick(rows, width=width)
        table += [*power_claims(here, width), gain_claim(here, width)]
    larger = pick(rows, quantity="less_excess")
    return [*table, size_claim(larger)] if len(larger) else table


def power_claims(here: pd.DataFrame, width: int) -> list[Claim]:
    line = pick(here, quantity="excess")
    miss, less = (only(here, quantity=quantity) for quantity in ("power_miss", "less_miss"))
    return [
        Claim(
            f"width {width}: excess over Bayes falls as a power of the tokens of training",
            "no claim of a paper's",
            f"{line.value.iloc[0]:.3f} → {line.value.iloc[-1]:.4f} nats from {line.tokens.iloc[0] / 1e6:.1f} to "
            f"{line.tokens.iloc[-1] / 1e6:.1f} M tokens; the last is {show(miss, 4)} above what the others predict",
            [near_zero(miss, EQUAL)],
            own=True,
        ),
        Claim(
            f"width {width}: a power of the tokens predicts the longest run better than an exponential",
            "no claim of a paper's",
            f"it misses by {show(less, 4)} nats less",
            [positive(less)],
            own=True,
        ),
    ]


def gain_claim(here: pd.DataFrame, width: int) -> Claim:
    slopes = {k: only(here, quantity="gain_slope", example_length=k) for k in lengths_of(here)}
    return Claim(
        f"width {width}: what examples add grows with training",
        "no claim of a paper's",
        f"{by_key(slopes)} points for twice the tokens",
        [positive(part) for part in slopes.values()],
        own=True,
    )


def size_claim(larger: pd.DataFrame) -> Claim:
    parts = [(row, as_estimate(row)) for _, row in larger.iterrows()]
    return Claim(
        "the larger the model, the fewer tokens it needs: at equal tokens its excess is lower",
        "no claim of a paper's",
        ", ".join(f"width {row.width}, {row.tokens / 1e6:.1f} M: {show(part, 3)}" for row, part in parts)
        + " nats below the next smaller",
        [positive(part) for _, part in parts],
        own=True,
    )
