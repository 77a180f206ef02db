"""Pictures of the lesson on a real language model: tokens of a text, turned vectors, what prompts and losses do."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from figures.lab.style import BLACK, BLUE, GREY, ORANGE, PINK, WIDTH, plain_log
from figures.lab.tables import over_seeds, pick
from figures.pruning.common import NAMES

ACROSS = 96  # characters in a line of drawn text


def draw_tokens(pieces: list[str], losses: Float[np.ndarray, " N"], most: float = 10.0) -> Figure:
    """A text in its tokens, each as dark as it was hard to predict: nats, up to `most`."""
    lines: list[list[tuple[int, str, float]]] = [[]]
    column = 0
    for piece, loss in zip(pieces, losses, strict=True):
        shown = piece.replace("\n", "↵")
        if column + len(shown) > ACROSS:
            lines.append([])
            column = 0
        lines[-1].append((column, shown, loss))
        column += len(shown)
    figure, panel = plt.subplots(figsize=(WIDTH, 0.26 * len(lines) + 0.9))
    for row, line in enumerate(lines):
        for place, shown, loss in line:
            shade = min(1.0, loss / most)
            box = plt.Rectangle(
                (place, -row - 0.45), len(shown), 0.9, fc=plt.get_cmap("Blues")(0.75 * shade), ec="white"
            )
            panel.add_patch(box)
            panel.text(place + len(shown) / 2, -row, shown.strip(" "), family="monospace", size=6.5, ha="center",
                       va="center", color="white" if shade > 0.7 else BLACK)  # fmt: skip
    panel.set(xlim=(0, ACROSS), ylim=(-len(lines), 0.6))
    panel.axis("off")
    figure.suptitle(f"light: expected; dark: {most:g} nats or more", size=9)
    return figure


def draw_turned(turned: Float[np.ndarray, "T 2"], offset: int, scores: Float[np.ndarray, " T"]) -> Figure:
    """A pair of numbers at each position, turned; and its product with what stands `offset` positions before."""
    figure, (circle, products) = plt.subplots(1, 2, figsize=(WIDTH, 2.9), width_ratios=(1, 1.6))
    for position, (x, y) in enumerate(turned):
        circle.annotate(
            "", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "color": BLUE, "alpha": 0.4 + 0.6 / (1 + position)}
        )
        circle.annotate(str(position), 1.15 * np.array([x, y]), size=7, ha="center", va="center", color=GREY)
    circle.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal", title="one pair by position")
    circle.axis("off")
    products.plot(np.arange(offset, len(turned)), scores[offset:], "o", color=ORANGE)
    products.set(ylim=(-1.1, 1.1), xlim=(-0.5, len(turned) - 0.5), xlabel="position of the query",
                 ylabel="query times key", title=f"the key stands {offset} before the query")  # fmt: skip
    return figure


def draw_losses(losses: dict[str, Float[np.ndarray, " N"]], guess: float) -> Figure:
    """Perplexity of a model and of what was made of it, over the first one's; the guess as a line."""
    figure, panel = plt.subplots(figsize=(WIDTH, 0.45 * len(losses) + 1.0))
    dense = next(iter(losses.values()))
    for place, values in enumerate(losses.values()):
        ratio = np.exp((values - dense).mean())
        panel.plot([1, ratio], [-place, -place], "-", color=BLUE, lw=2)
        panel.plot(ratio, -place, "o", color=GREY if place == 0 else BLUE)
        panel.annotate(f"{ratio:.2f}", (ratio, -place), (7, 0), textcoords="offset points", va="center", size=9)
    panel.axvline(guess, color=PINK, ls="--", lw=1.2)
    panel.annotate("your guess", (guess, 0.45), (4, 0), textcoords="offset points", color=PINK, size=8)
    panel.set_yticks([-place for place in range(len(losses))], list(losses))
    panel.set(xlabel="perplexity, times the dense model's", xscale="log", ylim=(0.4 - len(losses), 0.8))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter("")
    panel.margins(x=0.15)
    return figure


def draw_beside(real: pd.DataFrame, synthetic: pd.DataFrame) -> Figure:
    """What dropping half of the weights costs a real and a synthetic model, by method, from the rows of both."""
    figure, panel = plt.subplots(figsize=(WIDTH, 2.6))
    costs = pick(over_seeds(real), quantity="cost", amount="50 %").set_index("method").value
    excess = pick(over_seeds(synthetic), model="transformer", quantity="excess").set_index(["method", "sparsity"]).value
    for place, method in enumerate(NAMES):
        ours = excess[method, 0.5] - excess["dense", 0.0]
        for value, name, colour in ((ours, "synthetic", BLUE), (costs[method], "real", ORANGE)):
            panel.plot(value, -place, "o", color=colour, label=name if place == 0 else None)
    panel.set_yticks([-place for place in range(len(NAMES))], list(NAMES.values()))
    panel.set(xlabel="loss above the dense model's at 50 %, nats per token", xscale="log", ylim=(0.5 - len(NAMES), 0.5))
    plain_log(panel.xaxis, 2, 5)
    panel.legend()
    return figure
