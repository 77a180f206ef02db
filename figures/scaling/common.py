"""What the experiments of scaling laws share: the grid of runs, their losses, and fits with bootstrap intervals."""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes

from figures.lab.claims import Finding, at_least, between, few_draws, no_more, show
from figures.lab.presets import RECORDED, Suite
from figures.lab.runs import Models, Run
from figures.lab.style import BLUE, GREEN, ORANGE, PINK, plain_log
from figures.lab.tables import Table, only
from icl_synth.estimates import Estimate
from icl_synth.presets.scaling import SCALING_WIDTHS
from icl_synth.scaling import Counts, Form, Frontier, Runs, budgets, count, envelope, frontier, isoflop, parametric
from icl_synth.scaling.runs import draw_at_budgets, interval

ADDITIVE, OUTER = Form(), Form(outer=True)
APPROACHES = ("envelope", "isoflop", "parametric")
LOG_EXCESS = "isoflop, log excess"
SHIFT = 20.0  # makes logarithms of losses above exact Bayes positive, as runs must be; no lowest point moves
COLOURS = {"envelope": GREEN, "isoflop": BLUE, "parametric": ORANGE, "parametric, outer exponent": PINK}
SAMPLE_SEED = 21
PLAIN = (
    "Hoffmann et al. train 70 M to 16 B parameters on text and do not know its entropy. Ours are transformers "
    "of depth 4 with 0.01 to 3.2 M parameters on documents of the concept-HMM, whose entropy exact Bayes gives "
    "on the very tokens of the losses. At each of five budgets of compute, from 1e12 to 1e14 FLOPs, sizes were chosen "
    "around the best one that was expected. With the first seed the best ones were smaller and near the edge, and none "
    "was four times too small, so smaller sizes were added to every budget. Each run decays its rates to zero over its "
    "own steps and warms up for 5 % of them. "
    "Compute is C = 6 N D, where N counts weights and the products of attention (layers x context x width), "
    "which are more than the weights of the smallest model and under a tenth of the largest's. "
    "Budgets have three, three, two, two and one seed. Rules were amended after the rows of the first seed "
    "(`figures/scaling/AMENDMENTS.md`). "
)
RESAMPLED = (
    "Intervals of 95 % are by 1,000 samples (100 in `quick`), from the 2.5th to the 97.5th percentile. Approach 3 "
    "draws runs with replacement, as many of each budget as there are, and every sample is fitted from the whole grid "
    "of starts. Approaches 1 and 2 need every size and keep every run: a residual bootstrap adds, to a "
    "parabola through the logarithm of the loss above exact Bayes by log N at each budget, residuals drawn from "
    "those of all runs, enlarged for the constants of the parabolas. A budget whose lowest point leaves the sizes is "
    "left out of a sample, and a sample without two budgets is left out. "
)
FEW = 3  # values, fewer of which judge nothing


# sizes that were added to those planned, by budget
ADDED = {1e12: (16,), 3e12: (24,), 1e13: (24, 32), 3e13: (40,), 1e14: (48,)}


def _suite(preset: str, seeds: dict[float, tuple[int, ...]]) -> Suite:
    """A model for each budget and width, with the seeds of its budget."""
    grid = SCALING_WIDTHS[preset]
    names = {flops: [name_of(flops, width) for width in widths] for flops, widths in grid.items()}
    models = {
        name_of(flops, width): f"{preset}-scaling-{flops:.0e}-w{width}" for flops in grid for width in grid[flops]
    }
    every = tuple(sorted({seed for several in seeds.values() for seed in several}))
    fewer = {name: seeds[flops] for flops, members in names.items() for name in members}
    return Suite(models, every, fewer, curves=preset in RECORDED)


def name_of(flops: float, width: int) -> str:
    return f"{flops:.0e} FLOPs, width {width}"


GRID = {
    "quick": _suite("quick", {1e11: (0,), 3e11: (0,), 1e12: (0,)}),
    "small": _suite("small", {1e12: (0, 1, 2), 3e12: (0, 1, 2), 1e13: (0, 1), 3e13: (0, 1), 1e14: (0,)}),
}


class Sizes(NamedTuple):
    draws: int = 1000  # bootstrap samples of the runs


class Point(NamedTuple):
    """A run at its end, or at an evaluation on the way."""

    budget: float
    """FLOPs that its training was planned for."""
    width: int
    seed: int
    tokens: float
    loss: float
    """On held-back documents, nats per token."""
    exact: float
    """That of exact Bayes on the same tokens."""
    counts: Counts

    @property
    def excess(self) -> float:
        return self.loss - self.exact


def points(models: Models) -> list[Point]:
    """The end of every run. Raises ValueError for one whose loss is below that of exact Bayes."""
    ends = [curve[-1] for curve in curves(models)]
    if below := [point for point in ends if point.excess <= 0]:
        raise ValueError(
            f"{below[0]} lost less than exact Bayes: train it for more than chance, or evaluate it on more"
        )
    return ends


def curves(models: Models) -> list[list[Point]]:
    """The evaluations of every run."""
    return [list(_curve(name, run)) for name, runs in models.items() for run in runs]


def _curve(name: str, run: Run) -> Iterator[Point]:
    budget, width = float(name.split()[0]), run.config.model.width
    counts = count(run.config.model, run.config.data.length - 1)
    for line in run.metrics:
        yield Point(budget, width, run.seed, line["tokens"], line["loss"], line["bayes_loss"], counts)


def with_attention(counts: Counts) -> int:
    """N as compute counts it."""
    return counts.parameters + counts.attention


def as_runs(chosen: list[Point], counted: Callable[[Counts], int] = with_attention) -> Runs:
    """Points as a scaling law sees them."""
    return Runs(
        np.array([counted(point.counts) for point in chosen], np.float64),
        np.array([point.tokens for point in chosen], np.float64),
        np.array([point.loss for point in chosen], np.float64),
    )


def budgets_of(chosen: list[Point]) -> list[float]:
    return sorted({point.budget for point in chosen})


def up_to(chosen: list[Point], budget: float) -> list[Point]:
    """The points of budgets no larger than this one."""
    return [point for point in chosen if point.budget <= budget]


def nearest(here: list[Point], size: float) -> int:
    """The width whose parameters are nearest to a size, by their ratio."""
    return min(here, key=lambda point: abs(np.log(with_attention(point.counts) / size))).width


def exact_of(chosen: list[Point]) -> Float[np.ndarray, " R"]:
    return np.array([point.exact for point in chosen])


def resampled(chosen: list[Point], draws: int) -> Float[np.ndarray, "S R"]:
    """Losses of R runs as they might have come out too: the residual bootstrap of RESAMPLED."""
    sizes = np.log([with_attention(point.counts) for point in chosen])
    planned, log_excess = np.array([(point.budget, np.log(point.excess)) for point in chosen]).T
    smooth, constants = np.empty(len(chosen)), 0
    for budget in budgets_of(chosen):
        here = planned == budget
        degree = min(2, len(np.unique(sizes[here])) - 1)
        centred = sizes[here] - sizes[here].mean()
        smooth[here] = np.polyval(np.polyfit(centred, log_excess[here], degree), centred)
        constants += degree + 1
    residuals = (log_excess - smooth) * np.sqrt(len(chosen) / max(1, len(chosen) - constants))
    drawn = np.random.default_rng(SAMPLE_SEED).choice(residuals, (draws, len(chosen)))
    return exact_of(chosen) + np.exp(smooth + drawn)


def frontier_of(approach: str, runs: Runs, exact: Float[np.ndarray, " R"]) -> Frontier:
    """Approach 1 or 2. Raises ValueError for runs without a frontier.

    The envelope is read off the logarithm of the loss above exact Bayes, which is nearly straight between budgets, and
    up to the largest budget but one: beyond it few sizes have a run on either side.
    """
    if approach == "isoflop":
        return isoflop(runs)
    above = runs._replace(loss=SHIFT + np.log(runs.loss - exact))
    if approach == LOG_EXCESS:
        return isoflop(above)
    *_, before, _ = budgets(runs)
    return envelope(above, most=float(runs.flops[before].max()))


def optimum(ends: list[Point]) -> Frontier | None:
    """Approach 2, which says what size is called best; None for too few runs, as `quick` may have."""
    try:
        return isoflop(as_runs(ends))
    except ValueError:
        return None


class Samples(NamedTuple):
    """Bootstrap samples of R runs."""

    losses: Float[np.ndarray, "S R"]
    """Other losses of the same runs, for approaches 1 and 2."""
    runs: Int[np.ndarray, "S R"]
    """Which runs, for approach 3."""


def samples_of(chosen: list[Point], draws: int) -> Samples:
    """The samples of RESAMPLED, the same for all fits of the same points."""
    return Samples(resampled(chosen, draws), draw_at_budgets(as_runs(chosen), draws, SAMPLE_SEED))


def exponents(
    approach: str, runs: Runs, exact: Float[np.ndarray, " R"], samples: Samples, form: Form = ADDITIVE
) -> tuple[float, Float[np.ndarray, " S"]]:
    """The exponent a of an approach, and those of samples. Raises ValueError for runs without a frontier."""
    if approach == "parametric":
        return float(parametric.fit(runs, form).a), parametric.bootstrap(runs, samples.runs, form).a
    found = functools.partial(frontier_of, approach, exact=exact)
    return found(runs).a, frontier.bootstrap(found, [runs._replace(loss=loss) for loss in samples.losses])


class Sided(NamedTuple):
    """A fitted number with the ends of its 95 % interval, which need not lie equally far from it."""

    value: float
    low: float
    high: float

    def show(self, digits: int) -> str:
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"

    def of(self, change: Callable[[float], float]) -> "Sided":
        """A rising function of the number."""
        return Sided(*(float(change(end)) for end in self))

    @property
    def reach(self) -> tuple[list[float], list[float]]:
        """How far the interval reaches below and above the number, for an error bar."""
        return [max(self.value - self.low, 0.0)], [max(self.high - self.value, 0.0)]


def add_sampled(table: Table, quantity: str, *cell: object, value: float, drawn: Float[np.ndarray, " S"]) -> None:
    """A fitted number, and the ends of its 95 % interval by bootstrap as quantities of their own."""
    for name, end in zip((quantity, *ends_of(quantity)), (value, *interval(drawn)), strict=True):
        table.add(name, *cell, values=np.array([end]))


def ends_of(quantity: str) -> tuple[str, str]:
    return f"{quantity}, low", f"{quantity}, high"


def sided(rows: pd.DataFrame, quantity: str, **where: object) -> Sided:
    """What `add_sampled` added. Raises KeyError where it is not there."""
    return Sided(*(only(rows, quantity=name, **where).mean for name in (quantity, *ends_of(quantity))))


def within(number: Sided, low: float, high: float) -> Finding:
    """That a fitted number lies in a range: `claims.between` with the side of the interval that faces its border."""
    below, above = (Estimate(number.value, half[0], np.inf) for half in number.reach)
    if number.value < low:
        return between(above, low, high)
    if number.value > high:
        return between(below, low, high)
    both = at_least(below, low), no_more(above, high)
    holds = all(finding.verdict == "holds" for finding in both)
    return Finding("holds" if holds else "inconclusive", max(finding.p for finding in both))


def over_budgets(rows: pd.DataFrame) -> Estimate:
    """The mean over budgets, each the mean of its rows, with Student's interval: runs of a budget are no repetitions of
    one another."""
    return few(rows.groupby("budget").value.mean())


def few(values: pd.Series) -> Estimate:
    """The mean of few values with Student's interval."""
    return Estimate(float(values.mean()), few_draws(values.to_numpy(float)), len(values) - 1)


def told(value: Estimate, digits: int) -> str:
    """A mean of few values for a claim."""
    if value.df < 0:
        return "no values"
    return show(value, digits) if value.df else f"{value.mean:.{digits}f} (one value)"


def judged(value: Estimate, finding: Callable[[Estimate], Finding]) -> list[Finding]:
    """A finding on the mean of few values; none where there are fewer than FEW."""
    return [finding(value)] if value.df >= FEW - 1 else []


def name_sizes(panel: Axes) -> None:
    """A logarithmic axis of sizes, in thousands."""
    panel.set(xscale="log", xlabel="parameters, thousands, attention counted")
    plain_log(panel.xaxis, 2, 5, form=lambda size, _: f"{size / 1e3:g}")


def in_words(flops: float) -> str:
    digit, power = f"{flops:.0e}".split("e")
    return f"${'' if digit == '1' else digit + chr(92) + 'cdot'}10^{{{int(power)}}}$ FLOPs"


def by_budget(rows: pd.DataFrame) -> Iterator[tuple[float, pd.DataFrame]]:
    """The rows of each budget, from small to large."""
    for budget in sorted(rows.budget.unique()):
        yield budget, rows[rows.budget == budget]
