"""Pictures of number formats for the notebooks: numbers on the grid of their block, outliers, layers and formats."""

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy import ndarray

from compression.block_float.formats import Format, bfp, find
from compression.block_float.quantise import quantize
from figures.block_float.common import FAMILIES, family_of
from figures.lab.style import BLACK, GREY, PINK, RANGE
from icl_synth.estimates import Estimate, estimate

KEPT, VANISHED, SHADE = BLACK, PINK, "#f7e6f0"
NEAR = 0.01  # nats above float32 that count as next to nothing
KINDS = ("qkv", "out", "up", "down")  # the linear layers of a block of the transformer


def grid_of(values: Float[ndarray, " B"], format: Format, halved: int = 0) -> Float[ndarray, " G"]:
    """All values that a block of these numbers can hold; with `halved` 1, those of a pair whose step is halved."""
    top = np.frexp(np.abs(values).max())[1] - 1 - format.element.top_exponent
    positive = np.array(format.element.positive()) * 2.0 ** (top - halved)
    return np.concatenate([-positive[:0:-1], positive])


def vanished(before: Float[ndarray, "*S"], after: Float[ndarray, "*S"]) -> ndarray:
    """Which numbers became zero."""
    return (after == 0) & (before != 0)


def draw_lines(values: Float[ndarray, " B"], formats: Sequence[str]) -> Figure:
    """A few numbers of one block, and where each goes in some formats; a number line for each format."""
    figure, panel = plt.subplots(figsize=(7.2, 0.6 + 0.8 * len(formats)))
    low, high = min(values.min(), 0) - 0.6, max(values.max(), 0) + 1.2
    lost = {}
    for row, name in enumerate(formats):
        format, after = find(name), np.asarray(quantize(values, name))
        gone = vanished(values, after)
        lost[name] = int(gone.sum())
        for halved, size in ((0, 12), (1, 6)) if format.sub_block else ((0, 12),):
            grid = grid_of(values, format, halved)
            grid = grid[(grid > low) & (grid < high)]
            panel.plot(grid, np.full(len(grid), -row), "|", ms=size, color=GREY)
        for x, y, zero in zip(values, after, gone, strict=True):
            arrow = {"arrowstyle": "->", "color": VANISHED if zero else KEPT, "lw": 1.2, "shrinkA": 0, "shrinkB": 1}
            panel.annotate("", (y, 0.1 - row), (x, 0.5 - row), arrowprops=arrow)
        panel.text(high, -row, "→ " + ",  ".join(f"{y:g}" for y in after), va="center", size=9)
    for x in values:
        panel.text(x, 0.54, f"{x:g}", ha="center", size=9)
    labels = [f"{name.upper()}\n{find(name).average_bits:g} bits" for name in formats]
    panel.set(xlim=(low, high), ylim=(-len(formats) + 0.7, 0.8), xlabel="value")
    panel.set_yticks([-row for row in range(len(formats))], labels, size=9)
    first, *others = (f"{name.upper()} loses {number}" for name, number in lost.items())
    panel.set_title(", ".join([f"{first} of {len(values)} numbers", *others]))
    panel.grid(False)
    panel.spines.left.set_visible(False)
    panel.tick_params(axis="y", length=0)
    return figure


def draw_blocks(values: Float[ndarray, " B"], digits: int, block: int) -> Figure:
    """Numbers in their order, cut into blocks: grey lines are what a block can hold, dots what is stored."""
    format = bfp(block, digits + 1)
    after = np.asarray(quantize(values, format))
    gone = vanished(values, after)
    figure, panel = plt.subplots(figsize=(5.5, 2.6))
    low, high = values.min() - 0.8, values.max() + 0.8
    for start in range(0, len(values), block):
        grid = grid_of(values[start : start + block], format)
        panel.hlines(grid[(grid > low) & (grid < high)], start - 0.42, start + block - 0.58, color=RANGE, lw=0.8)
    places = np.arange(len(values))
    for place in places[gone]:
        panel.axvspan(place - 0.42, place + 0.42, color=SHADE, lw=0, zorder=0)
    panel.vlines(places, values, after, color=[VANISHED if zero else KEPT for zero in gone], lw=0.8)
    panel.plot(places, values, "o", mfc="white", color=KEPT, ms=5, mew=0.9)
    panel.plot(places[~gone], after[~gone], ".", color=KEPT, ms=5)
    panel.plot(places[gone], after[gone], "x", color=VANISHED, ms=7, mew=1.8)
    panel.set(xlim=(-0.6, len(values) - 0.4), ylim=(low, high), xticks=[], yticks=range(-2, 6, 2), ylabel="value")
    words = f"{digits} digits, blocks of {block}: {format.average_bits:g} bits per number, {gone.sum()} vanish"
    panel.set_title(words, size=10)
    panel.grid(False)
    return figure


def draw_vanishing(sizes: Float[ndarray, " S"], shares: Mapping[str, Float[ndarray, " S"]], guess: float) -> Figure:
    """Share of an outlier's neighbours that become zero, by the outlier's size."""
    figure, panel = plt.subplots(figsize=(5.8, 2.8))
    for name, share in shares.items():
        panel.plot(sizes, 100 * share, color=colour_of(name), ls=line_of(name), drawstyle="steps-post")
        panel.annotate(name.upper(), (sizes[-1], 100 * share[-1]), (5, 0), textcoords="offset points",
                       color=colour_of(name), va="center", size=9)  # fmt: skip
    panel.axvline(guess, color=GREY, ls=":", lw=1)
    panel.annotate("your guess", (guess, 103), ha="center", size=9, color=GREY, annotation_clip=False)
    octaves(panel, sizes)
    panel.set(xlabel="size of the outlier, others about 1", ylabel="neighbours that vanish, %", ylim=(0, 100))
    first, share = next(iter(shares.items()))
    panel.set_title(
        f"In {first.upper()} half of the neighbours vanish beside an outlier of {half(sizes, share):g}", pad=16
    )
    return figure


def half(sizes: Float[ndarray, " S"], share: Float[ndarray, " S"]) -> float:
    """The first size at which half of the neighbours vanish; infinity if they never do."""
    return float(sizes[np.argmax(share >= 0.5)]) if np.any(share >= 0.5) else np.inf


def draw_enlarged(factors: Sequence[float], losses: Mapping[str, Sequence[float]]) -> Figure:
    """Loss above exact Bayes by how much one input of each block is enlarged; float32 does not notice."""
    figure, panel = plt.subplots(figsize=(5.8, 2.8))
    for name, loss in losses.items():
        plain = name == "float32"
        colour = BLACK if plain else colour_of(name)
        panel.plot(factors, loss, "." if plain else "o", ls=":" if plain else line_of(name), ms=4, color=colour)
        lift = {"float32": -6, "msfp16": 5}.get(name, 0)
        panel.annotate(written(name), (factors[-1], loss[-1]), (7, lift), textcoords="offset points", color=colour,
                       va="center", size=9)  # fmt: skip
    octaves(panel, np.asarray(factors))
    panel.set(xlabel="factor of one input in sixteen", ylabel="loss above exact Bayes,\nnats per token")
    decades(panel)
    panel.set_ylim(bottom=0.7 * losses["float32"][0])
    grown = {name: loss[-1] / loss[0] for name, loss in losses.items()}
    most = max(grown, key=lambda name: grown[name])
    of_float32 = "not at all" if abs(grown["float32"] - 1) < 0.005 else f"{grown['float32']:.2f}-fold"
    words = f"{written(most)}'s loss above exact Bayes grows {grown[most]:.0f}-fold, float32's {of_float32}"
    panel.set_title(words, size=10)
    return figure


def decades(panel: Axes) -> None:
    """A logarithmic axis of losses in plain numbers."""
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.minorticks_off()


def octaves(panel: Axes, sizes: Float[ndarray, " S"]) -> None:
    """A logarithmic axis that names powers of two."""
    panel.set_xscale("log", base=2)
    shown = [2.0**k for k in range(int(np.log2(sizes.min())), int(np.log2(sizes.max())) + 1)]
    panel.set_xticks(shown, [f"{size:g}" for size in shown])
    panel.minorticks_off()


def draw_layers(costs: Mapping[str, Float[ndarray, "L K D"]], together: Mapping[str, float]) -> Figure:
    """Loss that each layer adds when it alone is in a format, by block and kind; grey where it may be none."""
    figure, panels = plt.subplots(1, len(costs), figsize=(7.2, 3.1), sharey=True)
    most = 1000 * max(cost.mean(-1).max() for cost in costs.values())
    for panel, (name, cost) in zip(panels, costs.items(), strict=True):
        mean = 1000 * cost.mean(-1)
        panel.imshow(mean, cmap="Blues", vmin=0, vmax=1.5 * most, aspect="auto")
        for (block, kind), value in np.ndenumerate(mean):
            sure = abs(value) > estimate(1000 * cost[block, kind]).half_width
            panel.text(kind, block, f"{value:.1f}", ha="center", va="center", size=9, color=BLACK if sure else GREY)
        panel.set_xticks(range(len(KINDS)), KINDS)
        panel.set_title(f"{name.upper()}: sum of cells {mean.sum():.0f}, together {1000 * together[name]:.0f}", size=10)
        panel.grid(False)
    panels[0].set(ylabel="block of the transformer", yticks=range(len(mean)))
    figure.suptitle(f"Thousandths of a nat per token that a layer adds; block {worst_block(costs)} adds most", size=11)
    return figure


def worst_block(costs: Mapping[str, Float[ndarray, "L K D"]]) -> int:
    """The block whose layers add most in all formats together."""
    return int(np.sum([cost.mean(-1).sum(-1) for cost in costs.values()], axis=0).argmax())


def draw_formats(losses: Mapping[str, Float[ndarray, " D"]], rights: Mapping[str, ndarray]) -> Figure:
    """Loss above exact Bayes and accuracy on prompts by bits per number, float32 as a line; bars are 95 % intervals of
    the difference from float32."""
    figure, (loss, accuracy) = plt.subplots(1, 2, figsize=(7.2, 3.1))
    for panel, values, scale in ((loss, losses, 1), (accuracy, rights, 100)):
        exact, changes = scale * values["float32"].mean(), changed(values, scale)
        panel.axhline(exact, color=BLACK, ls=":", lw=1.2)
        panel.annotate("float32", (3.1, exact), (0, 3), textcoords="offset points", size=9)
        for name in (name for name in values if name != "float32"):
            colour, marker, _ = FAMILIES[family_of(name)]
            bits, mean = bits_of(name), exact + changes[name].mean
            panel.errorbar(bits, mean, changes[name].half_width, fmt=marker, color=colour, capsize=2, lw=1)
            left = name in ("mxfp4", "msfp16")
            panel.annotate(written(name), (bits, mean), (-6 if left else 6, 6), textcoords="offset points",
                           color=colour, size=8, ha="right" if left else "left", va="center")  # fmt: skip
        panel.set(xlabel="bits per number", xlim=(2.9, 10), xticks=range(3, 11))
    loss.set_ylabel("loss above exact Bayes,\nnats per token")
    decades(loss)
    loss.set_ylim(bottom=0.7 * losses["float32"].mean())
    accuracy.set_ylabel("right answers to prompts, %")
    added = changed(losses)
    fit = narrowest(name for name, cost in added.items() if cost.mean < NEAR)
    figure.suptitle(f"{bits_of(fit):g} bits per number ({written(fit)}) add {added[fit].mean:.3f} nats to the loss")
    return figure


def enough(losses: Mapping[str, Float[ndarray, " D"]], rights: Mapping[str, ndarray]) -> str:
    """How few bits cost next to nothing, by the loss and by accuracy: a sentence."""
    added, points = changed(losses), changed(rights, 100)
    by_loss = narrowest(name for name, cost in added.items() if cost.mean < NEAR)
    by_accuracy = narrowest(name for name, change in points.items() if change.mean + change.half_width >= 0)
    shown = [
        f"{written(name)} changes it by {points[name].mean:.1f} ± {points[name].half_width:.1f} points"
        for name in dict.fromkeys((by_accuracy, by_loss))
    ]
    return (
        f"By the loss {bits_of(by_loss):g} bits per number are enough: {written(by_loss)} adds "
        f"{added[by_loss].mean:.4f} nats per token.\n"
        f"By accuracy it takes {bits_of(by_accuracy):g}: {', '.join(shown)}."
    )


def changed(values: Mapping[str, ndarray], scale: float = 1) -> dict[str, Estimate]:
    """How far each format is from float32, paired by document or prompt."""
    exact = values["float32"].astype(float)
    return {name: estimate(scale * (value - exact)) for name, value in values.items()}


def narrowest(names: Iterable[str]) -> str:
    """The format of the fewest bits per number."""
    return min(names, key=bits_of)


def bits_of(name: str) -> float:
    return 32 if name == "float32" else find(name).average_bits


def written(name: str) -> str:
    """The name of a format as papers write it."""
    return name if name == "float32" else name.upper()


def colour_of(name: str) -> str:
    return FAMILIES[family_of(name)].colour


def line_of(name: str) -> str:
    """MSFP16 is dashed beside its narrow sister."""
    return "--" if name == "msfp16" else "-"
