"""Pictures of the lesson on synthetic documents before text: tokens saved, and what two models expect of a text."""

import matplotlib.pyplot as plt
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray

from figures.lab.style import BLACK, BLUE, GREY, ORANGE, WIDTH, name_ends

ACROSS = 46  # characters in a line of drawn text


def draw_saved(
    tokens: Float[ndarray, " E"], of_random: Float[ndarray, " E"], of_arm: Float[ndarray, " E"], needed: float
) -> Figure:
    """Two learning curves, the loss at which the first ends, and where the second reaches it."""
    figure, panel = plt.subplots(figsize=(WIDTH, 3.2))
    panel.plot(tokens, of_random, "o-", color=BLACK)
    panel.plot(tokens, of_arm, "o-", color=BLUE)
    reached, end = of_random[-1], tokens[-1]
    panel.axhline(reached, color=GREY, ls=":", lw=1)
    panel.annotate("", (needed, reached), (end, reached), arrowprops={"arrowstyle": "->", "color": ORANGE, "lw": 2})
    panel.annotate(f"saved: {end - needed:.0f} of {end:.0f}", ((needed + end) / 2, reached), (0, -12),
                   textcoords="offset points", ha="center", color=ORANGE, size=9)  # fmt: skip
    panel.set(xlabel="tokens of text read", ylabel="loss, nats per token")
    panel.set_title(f"The arm needs {needed:.0f} tokens to be as good as random at its end", size=11)
    name_ends(panel, [("random", end, float(reached), BLACK), ("an arm", end, float(of_arm[-1]), BLUE)])
    return figure


def draw_readings(readings: dict[str, tuple[str, Float[ndarray, " T"]]], most: float = 5.0) -> Figure:
    """A text as several models read it, each character as dark as it was hard to predict: nats, up to `most`."""
    down = max(len(broken(characters)) for characters, _ in readings.values())
    figure, panels = plt.subplots(1, len(readings), figsize=(WIDTH, 0.24 * (down + 3)))
    for panel, (name, (characters, losses)) in zip(panels, readings.items(), strict=True):
        draw_characters(panel, characters, losses, most)
        panel.set_title(f"{name}: {losses.mean():.2f} nats per character", size=9, loc="left")
    figure.suptitle(f"light: expected; dark: {most:g} nats or more", size=9)
    return figure


def broken(characters: str) -> list[tuple[int, int]]:
    """Where each drawn line begins and ends: at the line ends of a text, and after so many characters."""
    lines, start = [], 0
    for place, character in enumerate(characters, 1):
        if character == "\n" or place - start == ACROSS or place == len(characters):
            lines.append((start, place))
            start = place
    return lines


def draw_characters(panel: Axes, characters: str, losses: Float[ndarray, " T"], most: float) -> None:
    shades = plt.get_cmap("Blues")
    lines = broken(characters)
    for row, (start, end) in enumerate(lines):
        for column, place in enumerate(range(start, end)):
            shade = min(1.0, float(losses[place]) / most)
            panel.add_patch(plt.Rectangle((column, -row - 0.5), 1, 1, fc=shades(0.75 * shade), ec="none"))
            panel.text(column + 0.5, -row, characters[place].replace("\n", "↵"), family="monospace", size=7,
                       ha="center", va="center", color="white" if shade > 0.7 else BLACK)  # fmt: skip
    panel.set(xlim=(0, ACROSS), ylim=(-len(lines) + 0.4, 0.6))
    panel.axis("off")
