"""Pictures of pruning for the notebooks: two weights, a walk over columns, outputs of a layer, whole models."""

from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray

from compression.pruning.apply import Method
from compression.pruning.problem import output_error
from figures.lab.style import BLACK, BLUE, GREY, ORANGE, PINK
from figures.pruning.common import COLOURS, NAMES
from icl_synth.estimates import estimate

NAMES_OF_MODELS = NAMES | {"dense": "dense", "sparsegpt 2:4": "SparseGPT, 2:4"}
SETTLED, GOING = "#eeeeee", "#f3c9ae"  # weights that were dropped, and those chosen to go
KINDS = ("qkv", "out", "up", "down")  # the matrices of a block
COLOURS_OF_MODELS = COLOURS | {"dense": BLACK, "sparsegpt 2:4": PINK}
# of their labels, away from the bars of the others: left of the point, above and below
PLACES_OF_MODELS = {"magnitude": ((-7, 6), "right"), "wanda": ((-7, -13), "right")}


class Dropped(NamedTuple):
    """One of two weights dropped: where the weights end, and how much the outputs change, with and without moving."""

    plain: Float[ndarray, " 2"]
    plain_cost: float
    moved: Float[ndarray, " 2"]
    moved_cost: float


def drop(weight: Float[ndarray, " 2"], hessian: Float[ndarray, "2 2"], which: int) -> Dropped:
    inverse, plain = np.linalg.inv(hessian), weight.astype(float)
    plain[which] = 0
    moved = weight - weight[which] / inverse[which, which] * inverse[which]
    return Dropped(plain, float(cost(plain, weight, hessian)), moved, float(cost(moved, weight, hessian)))


def cost(
    at: Float[ndarray, "*S 2"], weight: Float[ndarray, " 2"], hessian: Float[ndarray, "2 2"]
) -> Float[ndarray, "*S"]:
    """The squared change of the outputs."""
    return np.einsum("...i,ij,...j", at - weight, hessian, at - weight)


def draw_two_weights(weight: Float[ndarray, " 2"], hessian: Float[ndarray, "2 2"]) -> Figure:
    """The cost around two weights, and that of dropping either, alone or with the other moved."""
    drops = [drop(weight, hessian, which) for which in (0, 1)]
    points = np.array([weight, *(point for each in drops for point in (each.plain, each.moved))])
    low, reach = points.min(0), np.ptp(points, axis=0)
    x, y = (np.linspace(a - 0.3 * b, a + 1.65 * b, 200) for a, b in zip(low, reach, strict=True))
    ground = cost(np.stack(np.meshgrid(x, y), -1), weight, hessian)
    figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.1), sharex=True, sharey=True)
    for which, (panel, each) in enumerate(zip(panels, drops, strict=True)):
        levels = sorted({round(each.moved_cost, 6), round(each.plain_cost, 6)})
        panel.contour(x, y, ground, levels=levels, colors=GREY, linewidths=0.8)
        draw_drop(panel, weight, each, which)
    panels[0].set_ylabel("$w_2$")
    by_size, best = int(np.abs(weight).argmin()), int(np.argmin([each.moved_cost for each in drops]))
    figure.suptitle(
        f"Magnitude drops $w_{by_size + 1}$ and loses {drops[by_size].plain_cost:g}; "
        f"the surgeon drops $w_{best + 1}$, moves $w_{2 - best}$ and loses {drops[best].moved_cost:g}",
        size=11,
    )
    return figure


def draw_drop(panel: Axes, weight: Float[ndarray, " 2"], each: Dropped, which: int) -> None:
    """The trained weights, and where they end on the axis on which one of them is zero."""
    line = panel.axvline if which == 0 else panel.axhline
    line(0, color=BLACK, lw=1.2)
    for end, colour in ((each.plain, ORANGE), (each.moved, BLUE)):
        panel.annotate("", tuple(end), tuple(weight), arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.6})
        panel.plot(*end, "o", color=colour)
    plain, moved = ((7, -14), (8, 6)) if which == 0 else ((-70, -15), (2, -15))
    label(panel, each.plain, f"dropped: {each.plain_cost:g}", plain, ORANGE)
    label(panel, each.moved, f"and moved: {each.moved_cost:g}", moved, BLUE)
    panel.plot(*weight, "o", color=BLACK)
    label(panel, weight, "trained", (7, 4), BLACK)
    panel.set(title=f"$w_{which + 1}$ goes", xlabel="$w_1$")
    panel.grid(False)


def label(panel: Axes, at: Float[ndarray, " 2"], text: str, offset: tuple[int, int], colour: str) -> None:
    box = {"fc": "white", "ec": "none", "pad": 0.6, "alpha": 0.85}
    panel.annotate(text, tuple(at), offset, textcoords="offset points", size=9, color=colour, bbox=box)


def draw_walk(states: Float[ndarray, "S O I"], kept: Bool[ndarray, "O I"], column: int, block: int) -> Figure:
    """A small layer after so many columns: what each weight is, what is settled, and what was moved."""
    now, start = states[column], states[0]
    chosen = min(kept.shape[1], -(-column // block) * block)
    figure, panel = plt.subplots(figsize=(5.5, 2.2))
    reach = np.abs(states[-1] - start)[kept].max()
    for (row, place), value in np.ndenumerate(now):
        gone = place < chosen and not kept[row, place]
        settled = place < column
        shade = 0.0 if gone else min(1.0, abs(value - start[row, place]) / reach)
        panel.add_patch(
            plt.Rectangle(
                (place, row), 0.94, 0.9, fc=(SETTLED if settled else GOING) if gone else "white", ec=GREY, lw=0.5
            )
        )
        panel.add_patch(plt.Rectangle((place, row), 0.94, 0.9, fc=BLUE, alpha=0.5 * shade, lw=0))
        text = "" if gone and settled else f"{value:.2f}"
        panel.text(place + 0.47, row + 0.45, text, ha="center", va="center", size=9,
                   weight="bold" if settled else "normal")  # fmt: skip
    panel.axvline(column - 0.03, color=BLACK, lw=2)
    panel.set(xlim=(-0.1, kept.shape[1]), ylim=(len(kept), -0.1))
    panel.axis("off")
    panel.set_title(f"{column} of {kept.shape[1]} columns settled, {int((~kept[:, :column]).sum())} weights dropped")
    return figure


def draw_choices(lost: dict[Method, float], refitted: dict[Method, float]) -> Figure:
    """The share of a layer's output that each method loses, and with the weights of its mask at their best."""
    figure, panel = plt.subplots(figsize=(7.2, 2.6))
    best: dict[str, Any] = {"ls": "none", "marker": "D", "color": BLACK, "mfc": "none", "ms": 10}
    for row, method in enumerate(lost):
        panel.plot(lost[method], row, "o", color=COLOURS[method], ms=7)
        panel.plot(refitted[method], row, **best)
    beside: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "top", "size": 9}
    first = next(iter(lost))
    panel.annotate("not moved", (lost[first], 0), (0, -9), color=COLOURS[first], **beside)
    panel.annotate("this mask, weights moved to the best point", (refitted[first], 0), (0, -9), **beside)
    panel.annotate("moved column by column", (lost["sparsegpt"], list(lost).index("sparsegpt")), (0, -9),
                   color=COLOURS["sparsegpt"], **beside)  # fmt: skip
    panel.set(yticks=range(len(lost)), yticklabels=[NAMES[method] for method in lost])
    panel.set(xlabel="share of the layer's output that is lost", ylim=(len(lost) - 0.4, -0.5))
    panel.set_xlim(0, 1.12 * max(lost.values()))
    panel.xaxis.set_major_formatter(percent)
    saved = 1 - refitted["magnitude"] / lost["magnitude"]
    panel.set_title(f"Moving what stays can save {100 * saved:.0f} % of magnitude's error")
    return figure


def percent(share: float, _: object = None) -> str:
    return f"{100 * share:g} %"


def draw_outputs(
    weight: Float[ndarray, "O I"],
    pruned: dict[Method, Float[ndarray, "O I"]],
    hessian: Float[ndarray, "I I"],
    inputs: Float[ndarray, "N I"],
    sparsity: float,
) -> Figure:
    """Some outputs of a layer, dense and pruned by each method to one sparsity; the share that is lost as title."""
    figure, panels = plt.subplots(1, len(pruned), figsize=(6.4, 2.2), sharey=True)
    some = slice(None, None, len(weight) // 4)  # of the outputs
    before = (inputs @ weight[some].T).ravel()
    reach = 1.05 * np.abs(before).max()
    for panel, (method, after) in zip(panels, pruned.items(), strict=True):
        panel.plot([-reach, reach], [-reach, reach], color=GREY, lw=0.8)
        panel.plot(before, (inputs @ after[some].T).ravel(), ".", ms=3, color=COLOURS[method])
        panel.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[0], yticks=[0], aspect="equal")
        lost = 100 * float(output_error(weight, after, hessian))
        panel.set_title(f"{NAMES[method]}\nloses {lost:.{0 if lost >= 10 else 1}f} %", size=9, color=COLOURS[method])
    panels[0].set_ylabel("output, pruned", size=9)
    figure.supxlabel(f"output, dense; {100 * sparsity:.0f} % of the weights dropped", size=9)
    return figure


def draw_alone(costs: dict[str, float], lost: dict[str, float]) -> Figure:
    """What pruning one matrix alone adds to the model's loss: by block and kind, and beside the matrix's own error."""
    blocks = 1 + max(int(name.split(".")[1]) for name in costs)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3), width_ratios=(1, 1.15))
    grid = 1000 * np.array([[costs[f"blocks.{block}.{kind}"] for kind in KINDS] for block in range(blocks)])
    left.imshow(grid, cmap="Blues", vmin=0, vmax=1.6 * grid.max(), aspect="auto")
    for (block, kind), value in np.ndenumerate(grid):
        left.text(kind, block, f"{abs(value) if round(value, 1) == 0 else value:.1f}", ha="center", va="center", size=9)
    left.set(xticks=range(len(KINDS)), xticklabels=KINDS, yticks=range(blocks), ylabel="block")
    left.grid(False)
    worst, last = max(costs, key=lambda name: costs[name]), f"blocks.{blocks - 1}."
    left.set_title(f"{short(worst)} costs the most\n(thousandths of a nat per token)", size=10)
    colours = {name: ORANGE if name.startswith(last) else BLUE for name in costs}
    for name, value in costs.items():
        right.plot(lost[name], 1000 * value, "o", color=colours[name])
    for name in dict.fromkeys((worst, max(lost, key=lambda name: lost[name]))):
        right.annotate(short(name), (lost[name], 1000 * costs[name]), (0, 7), textcoords="offset points", ha="center",
                       size=9, color=colours[name])  # fmt: skip
    correlation = scipy.stats.spearmanr([lost[name] for name in costs], list(costs.values())).statistic
    right.set(xlabel="share of the matrix's output that is lost", ylabel="added loss, thousandths")
    right.set_ylim(top=1150 * costs[worst])
    right.xaxis.set_major_formatter(percent)
    right.set_title(f"Rank correlation of both: {correlation:.2f}\n(orange: the last block)", size=10)
    return figure


def short(name: str) -> str:
    """A matrix as the axes name it: "up 5" for blocks.5.up."""
    _, block, kind = name.split(".")
    return f"{kind} {block}"


def draw_models(measured: dict[str, tuple[Float[ndarray, " B"], Bool[ndarray, " P"]]]) -> Figure:
    """Loss above exact Bayes and accuracy on prompts of each model, with 95 % intervals."""
    figure, panel = plt.subplots(figsize=(7.2, 3.2))
    found = {name: (estimate(loss), estimate(right)) for name, (loss, right) in measured.items()}
    for name, (loss, right) in found.items():
        colour = COLOURS_OF_MODELS[name]
        panel.errorbar(loss.mean, 100 * right.mean, 100 * right.half_width, loss.half_width, fmt="o", color=colour,
                       elinewidth=1, capsize=2)  # fmt: skip
        at, side = PLACES_OF_MODELS.get(name, ((7, 6), "left"))
        panel.annotate(NAMES_OF_MODELS[name], (loss.mean, 100 * right.mean), at, size=9, ha=side, color=colour,
                       textcoords="offset points")  # fmt: skip
    panel.set(xlabel="loss above exact Bayes, nats per token", ylabel="accuracy on prompts, %")
    panel.set_xlim(0, 1.2 * max(loss.mean for loss, _ in found.values()))
    more = {name: loss.mean - found["dense"][0].mean for name, (loss, _) in found.items() if name != "dense"}
    ends = min(more, key=lambda name: more[name]), max(more, key=lambda name: more[name])
    best, worst = (f"{more[name]:.2f} nats with {NAMES_OF_MODELS[name]}" for name in ends)
    panel.set_title(f"Without half its weights the loss grows by {best}, {worst}", size=10)
    return figure
