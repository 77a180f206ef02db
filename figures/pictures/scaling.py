"""Pictures of the lesson on scaling laws: a law's two terms, a frontier, fits beside a larger budget, a valley."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from numpy import ndarray

from figures.lab import record
from figures.lab.style import BLACK, BLUE, CYCLE, GREEN, GREY, ORANGE, WIDTH, name_ends, plain_log
from figures.scaling.common import in_words, name_sizes
from icl_synth.scaling import Frontier, Law, Runs

TWENTY = 20.0  # tokens for each parameter (Hoffmann et al. 2022)


class Grid(NamedTuple):
    """The ends of R recorded runs."""

    runs: Runs
    """Parameters with attention counted, tokens, loss in nats per token."""
    budget: Float[ndarray, " R"]
    """FLOPs for which each run was planned."""
    width: Float[ndarray, " R"]
    exact: Float[ndarray, " R"]
    """The loss of exact Bayes on the same tokens, nats per token."""

    def select(self, chosen: ndarray) -> "Grid":
        return Grid(self.runs.select(chosen), *(column[chosen] for column in self[1:]))


def recorded_grid(preset: str = "small") -> Grid:
    """The runs that `scaling/isoflop` recorded. Raises FileNotFoundError where there are none."""
    rows = record.read_rows("scaling/isoflop", preset)
    rows = rows[rows.quantity.isin(["tokens", "loss", "exact"])]
    table = rows.pivot(index=["budget", "parameters", "width", "seed"], columns="quantity", values="value")
    table = table.reset_index().astype(float)
    runs = Runs(*(table[name].to_numpy() for name in ("parameters", "tokens", "loss")))
    return Grid(runs, *(table[name].to_numpy() for name in ("budget", "width", "exact")))


def draw_terms(law: Law, flops: float) -> Figure:
    """What each term of a law adds to the loss, by size, where the compute is given."""
    figure, panel = plt.subplots(figsize=(WIDTH, 3.3))
    sizes = np.geomspace(1e4, 1e7, 200)
    too_small, too_short = law.A / sizes**law.alpha, law.B / (flops / 6 / sizes) ** law.beta
    best = float(law.optimal_parameters(flops))
    lowest = float(law.loss(best, flops / 6 / best) - law.E)
    panel.plot(sizes, too_small + too_short, color=BLACK)
    panel.plot(sizes, too_small, color=BLUE)
    panel.plot(sizes, too_short, color=ORANGE)
    panel.plot(best, lowest, "*", ms=12, color=BLACK)
    panel.set(xscale="log", xlabel="parameters N", ylabel="loss above E, nats per token", ylim=(0, 0.6))
    panel.text(9e6, 0.02, r"$A / N^\alpha$: too small a model", color=BLUE, size=9, ha="right")
    panel.text(9e6, 0.42, r"$B / D^\beta$: too few tokens", color=ORANGE, size=9, ha="right")
    panel.set_title(
        f"With {in_words(flops)} the best model has {best / 1e3:,.0f} thousand parameters\n"
        f"and reads {flops / 6 / best / 1e6:,.1f} million tokens, {flops / 6 / best**2:,.0f} for each parameter",
        size=11,
    )
    return figure


def draw_frontier(grid: Grid, found: Frontier) -> Figure:
    """The lowest points of the parabolas by compute, the power law through them, and twenty tokens a parameter."""
    figure, panel = plt.subplots(figsize=(WIDTH, 3.4))
    flops = np.geomspace(grid.budget.min() / 2, grid.budget.max() * 2, 50)
    panel.plot(grid.budget, grid.runs.parameters, ".", color=GREY, ms=4)
    panel.plot(flops, found.optimal_parameters(flops), color=BLUE)
    panel.plot(found.flops, found.parameters, "*", ms=12, color=BLUE)
    panel.plot(flops, np.sqrt(flops / 6 / TWENTY), "--", color=GREY)
    panel.set(xscale="log", yscale="log", xlabel="training FLOPs C", ylabel="parameters N")
    ends = [
        (f"best size,\nC to the {found.a:.2f}", float(flops[-1]), float(found.optimal_parameters(flops[-1])), BLUE),
        ("20 tokens for\neach parameter", float(flops[-1]), float(np.sqrt(flops[-1] / 6 / TWENTY)), GREY),
    ]
    last = grid.budget.max()
    panel.set_title(f"Ten times the compute asks for {10**found.a:.1f} times the parameters;\n"
                    f"at the largest budget {last / 6 / found.optimal_parameters(last) ** 2:.0f} tokens for each are "
                    "best", size=11)  # fmt: skip
    name_ends(panel, ends)
    return figure


def draw_prediction(fitted: Grid, law: Law, held_out: Grid, known: bool) -> Figure:
    """A law's curve at each budget it was fitted to and at one it never saw, in loss above exact Bayes."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.5), width_ratios=(2.4, 1))
    entropy = float(held_out.exact.mean())
    budgets = sorted({*fitted.budget})
    for budget, colour in zip([*budgets, held_out.budget[0]], CYCLE, strict=False):
        points = held_out if budget not in budgets else fitted.select(fitted.budget == budget)
        sizes = np.geomspace(points.runs.parameters.min(), points.runs.parameters.max(), 60)
        colour = BLACK if points is held_out else colour
        left.plot(points.runs.parameters, points.runs.loss - points.exact, "o", ms=4, color=colour,
                  mfc="white" if points is held_out else colour)  # fmt: skip
        left.plot(sizes, law.loss(sizes, budget / 6 / sizes) - entropy, "--" if points is held_out else "-",
                  color=colour, label=f"{in_words(budget)}{', predicted' if points is held_out else ''}")  # fmt: skip
    name_sizes(left)
    left.set(yscale="log", ylabel="loss above exact Bayes, nats per token")
    plain_log(left.yaxis, 2, 5)
    left.legend(fontsize=7)
    right.axhline(entropy, color=BLACK, lw=1)
    lowest = entropy - 0.25  # of the axis: what lies below is drawn at its edge
    right.plot(0, max(law.E, lowest), "D" if law.E > lowest else "v", color=GREEN if known else ORANGE, ms=8,
               clip_on=False)  # fmt: skip
    right.annotate("exact Bayes", (0.5, entropy), (0, 3), textcoords="offset points", size=8, ha="center")
    right.set(xlim=(-1, 1.2), ylim=(lowest, entropy + 0.1), xticks=[], ylabel="E of the law, nats per token")
    right.set_title("E is given" if known else f"E is off by {law.E - entropy:+.3f}", size=9)
    left.set_title(f"The unseen budget is predicted {prediction(law, held_out)}", size=10)
    return figure


def prediction(law: Law, held_out: Grid) -> str:
    """How far off a law's losses above exact Bayes are: the mean absolute logarithm of their ratio to those measured,
    where none lies below exact Bayes."""
    runs = held_out.runs
    predicted = law.loss(runs.parameters, runs.tokens) - held_out.exact
    if (below := (predicted <= 0).sum()) > 0:
        return f"below exact Bayes at {below} of {len(predicted)} sizes"
    off = np.abs(np.log(predicted / (runs.loss - held_out.exact))).mean()
    return f"with losses above Bayes off by a factor of {np.exp(off):.2f}"


def draw_valley(floors: Float[ndarray, " F"], losses: dict[str, Float[ndarray, " F"]], entropy: float) -> Figure:
    """The smallest Huber loss for each assumed E, over the least of all, by how many budgets were fitted."""
    figure, panel = plt.subplots(figsize=(WIDTH, 3.3))
    ends, highest = [], 1.5
    for (name, values), colour in zip(losses.items(), CYCLE, strict=False):
        ratio = values / values.min()
        panel.plot(floors, ratio, color=colour)
        panel.plot(floors[ratio.argmin()], 1, "o", color=colour)
        highest = max(highest, float(ratio[-1]))
        ends.append((name, float(floors[-1]), float(ratio[-1]), colour))
    panel.axvline(entropy, color=BLACK, lw=1)
    panel.annotate("exact Bayes", (entropy, highest), (-4, 0), textcoords="offset points", ha="right", size=8)
    panel.set(xlabel="assumed E, nats per token", ylabel="Huber loss over the least", ylim=(0.95, 1.05 * highest))
    few, *_, of_all = (reach(floors, values) for values in losses.values())
    said = f"E spans {few} nats\nwith few budgets, {of_all} with all"
    panel.set_title(f"Huber loss at most a tenth above the least: {said}", size=11)
    name_ends(panel, ends)
    return figure


def reach(floors: Float[ndarray, " F"], values: Float[ndarray, " F"]) -> str:
    """The range of E whose loss is at most a tenth above the least; what goes on beyond the picture is said."""
    inside = floors[values <= 1.1 * values.min()]
    open_ended = inside.min() == floors.min() or inside.max() == floors.max()
    return f"{'at least ' if open_ended else ''}{np.ptp(inside):.3f}"
