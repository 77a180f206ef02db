"""Pictures of pruning for the notebooks: two weights and their loss, masks of a layer, errors layer by layer."""

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray

from compression.pruning.apply import LayerReport, Method
from figures.lab.style import BLACK, BLUE, ORANGE
from figures.pruning.common import COLOURS, NAMES

LEVELS = np.array([0.02, 0.1, 0.3, 0.7, 1.4, 2.5]) / 3  # of the loss, in its largest value


def draw_two_weights(weight: Float[ndarray, " 2"], hessian: Float[ndarray, "2 2"]) -> Figure:
    """A layer of two weights: the loss around them, and the cost of dropping either, alone or with the other moved."""
    reach = 1.8 * np.abs(weight).max()
    axis = np.linspace(-0.45 * reach, reach, 200)
    ground = two_weight_loss(np.stack(np.meshgrid(axis, axis), -1), weight, hessian)
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 4.6), sharex=True, sharey=True)
    for dropped, panel in enumerate(panels):
        panel.contour(axis, axis, ground, levels=LEVELS * ground.max(), colors="#999999", linewidths=0.8)
        draw_drop(panel, weight, hessian, dropped)
    panels[0].set_ylabel("w2")
    return figure


def two_weight_loss(
    at: Float[ndarray, "*S 2"], weight: Float[ndarray, " 2"], hessian: Float[ndarray, "2 2"]
) -> Float[ndarray, "*S"]:
    """Half the quadratic form of the distance to the trained weights."""
    return 0.5 * np.einsum("...i,ij,...j", at - weight, hessian, at - weight)


def draw_drop(panel: Axes, weight: Float[ndarray, " 2"], hessian: Float[ndarray, "2 2"], dropped: int) -> None:
    """Dropping one of two weights: the other stays, or moves to the lowest point of the line that is left."""
    inverse = np.linalg.inv(hessian)
    plain = weight.copy()
    plain[dropped] = 0
    refitted = weight - weight[dropped] / inverse[dropped, dropped] * inverse[dropped]
    line = panel.axvline if dropped == 0 else panel.axhline
    line(0, color=BLACK, lw=0.8)
    for end, colour, label in ((plain, ORANGE, "dropped"), (refitted, BLUE, "dropped, the other refitted")):
        panel.annotate("", tuple(end), tuple(weight), arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.6})
        panel.plot(*end, "o", color=colour, label=f"{label}: loss {two_weight_loss(end, weight, hessian):.3f}")
    panel.plot(*weight, "o", color=BLACK, label="trained")
    panel.set(title=f"w{dropped + 1} goes, w{2 - dropped} stays", xlabel="w1", aspect="equal")
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14))


def draw_masks(masks: dict[str, Bool[ndarray, "O I"]], outputs: int = 48, inputs: int = 64) -> Figure:
    """A corner of one layer's mask for each way to prune: dark where a weight stays."""
    figure, panels = plt.subplots(1, len(masks), figsize=(3.1 * len(masks), 3.0), sharey=True)
    for panel, (label, mask) in zip(panels, masks.items(), strict=True):
        panel.imshow(mask[:outputs, :inputs], cmap="Blues", vmin=0, vmax=1.3, aspect="auto", interpolation="nearest")
        panel.set(title=f"{label}: {100 * mask.mean():.0f} % stay", xlabel="input")
        panel.grid(False)
    panels[0].set_ylabel("output")
    return figure


def draw_layer_errors(reports: dict[Method, list[LayerReport]]) -> Figure:
    """The share of each layer's output that is lost, a bar for each method."""
    figure, panel = plt.subplots(figsize=(11, 3.6))
    width = 0.8 / len(reports)
    for i, (method, report) in enumerate(reports.items()):
        place = np.arange(len(report)) + (i - (len(reports) - 1) / 2) * width
        panel.bar(place, [layer.error for layer in report], width, color=COLOURS[method], label=NAMES[method])
    panel.set_xticks(range(len(report)), [layer.name.removeprefix("blocks.") for layer in report], rotation=60)
    panel.set(yscale="log", ylabel="share of output lost")
    panel.grid(axis="x", visible=False)
    figure.legend(loc="outside upper center", ncols=len(reports))
    return figure
