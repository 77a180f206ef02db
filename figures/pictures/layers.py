"""Pictures of pruning for the notebooks: two weights and their loss, masks of a layer, errors layer by layer."""

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from numpy import ndarray

from compression.pruning.apply import LayerReport, Method
from figures.pruning import COLOURS, NAMES


def draw_two_weights(weight: Float[ndarray, " 2"], hessian: Float[ndarray, "2 2"]) -> Figure:
    """A layer of two weights: the loss around them, and what dropping either costs, plainly and made good."""

    def loss(w):
        return 0.5 * np.einsum("...i,ij,...j", w - weight, hessian, w - weight)

    reach = 1.8 * np.abs(weight).max()
    axis = np.linspace(-0.45 * reach, reach, 200)
    ground = loss(np.stack(np.meshgrid(axis, axis), -1))
    inverse = np.linalg.inv(hessian)
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 4.6), sharex=True, sharey=True)
    for dropped, panel in enumerate(panels):
        kept = 1 - dropped
        plain = weight.copy()
        plain[dropped] = 0
        good = weight - weight[dropped] / inverse[dropped, dropped] * inverse[dropped]
        panel.contour(axis, axis, ground, levels=np.array([0.02, 0.1, 0.3, 0.7, 1.4, 2.5]) * ground.max() / 3,
                      colors="#999999", linewidths=0.8)  # fmt: skip
        line = panel.axvline if dropped == 0 else panel.axhline
        line(0, color="black", lw=0.8)
        for end, colour, label in ((plain, "#D55E00", "dropped"), (good, "#0072B2", "dropped, the other made good")):
            panel.annotate("", end, weight, arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.6})
            panel.plot(*end, "o", color=colour, label=f"{label}: loss {loss(end):.3f}")
        panel.plot(*weight, "o", color="black", label="trained")
        panel.set(title=f"w{dropped + 1} goes, w{kept + 1} stays", xlabel="w1", aspect="equal")
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14))
    panels[0].set_ylabel("w2")
    return figure


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
