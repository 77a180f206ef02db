"""Pictures of prompts for the notebooks: their tokens with the changed ones marked, and what readers make of them."""

from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray

from figures.lab.style import BLACK, BLUE, GREY, MODELS, PINK
from figures.pictures.worlds import named

INPUT, LABEL, CHANGED = "#e4e4e4", "#f7dfae", PINK


def draw_cell(panel: Axes, x: float, y: float, text: str, fill: str, changed: bool = False) -> None:
    """One token; a changed one has a thick border."""
    edge: dict[str, Any] = {"ec": CHANGED, "lw": 1.8} if changed else {"ec": "none"}
    panel.add_patch(plt.Rectangle((x + 0.06, y + 0.1), 0.88, 0.8, fc=fill, **edge))
    style: dict[str, Any] = {"weight": "bold", "color": BLACK} if changed else {"color": "#333333"}
    panel.text(x + 0.5, y + 0.5, text, ha="center", va="center", size=8, **style)


def draw_gap(panel: Axes, x: float, y: float) -> None:
    """A token that was taken away."""
    panel.add_patch(plt.Rectangle((x + 0.06, y + 0.1), 0.88, 0.8, fc="none", ec=CHANGED, lw=0.8, ls=":"))


def draw_example(
    panel: Axes, x: float, y: float, shown: Int[ndarray, " W"] | None, original: Int[ndarray, " K"]
) -> None:
    """An example in its place, held against what stood there; it may be gone, or may lack its input or its label."""
    k = len(original)
    width = 0 if shown is None else len(shown)
    first = k - 1 if width == 1 else 0  # a single token is a label
    for place in range(k):
        if shown is None or not first <= place < first + width:
            draw_gap(panel, x + place, y)
            continue
        token = int(shown[place - first])
        changed = token != original[place]
        draw_cell(panel, x + place, y, named(token), LABEL if place == k - 1 else INPUT, changed)


def draw_prompt(
    panel: Axes, y: float, shown: Int[ndarray, "M W"], original: Int[ndarray, "N K"], test: Int[ndarray, " J"]
) -> None:
    """A prompt in one line: examples, delimiters and the test input."""
    number, k = original.shape
    for i in range(number):
        gone = i >= len(shown)
        draw_example(panel, i * (k + 1), y, None if gone else shown[i], original[i])
        if not gone:
            panel.text(i * (k + 1) + k + 0.5, y + 0.5, "/", ha="center", va="center", size=8, color=GREY)
    draw_test(panel, number * (k + 1), y, test)


def draw_test(panel: Axes, x: float, y: float, test: Int[ndarray, " J"]) -> None:
    """The test input, and a question mark in the place of its label."""
    for place, token in enumerate(test):
        draw_cell(panel, x + place, y, named(int(token)), INPUT)
    panel.text(x + len(test) + 0.5, y + 0.5, "?", ha="center", va="center", size=9, weight="bold")


def draw_key(figure: Figure, words: Iterable[str] = ("input", "label", "changed", "taken away")) -> None:
    """What the cells mean."""
    looks: dict[str, dict[str, Any]] = {
        "input": {"fc": INPUT, "ec": "none"},
        "label": {"fc": LABEL, "ec": "none"},
        "changed": {"fc": "white", "ec": CHANGED, "lw": 1.8},
        "taken away": {"fc": "none", "ec": CHANGED, "lw": 0.8, "ls": ":"},
    }
    handles = [plt.Rectangle((0, 0), 1, 1, **looks[word]) for word in words]
    figure.legend(handles, list(words), loc="outside lower center", ncols=4, handlelength=1.2)


def draw_variants(variants: dict[str, Int[ndarray, "M W"]], test: Int[ndarray, " J"]) -> Figure:
    """The variants of a prompt, a line for each; the first one is the prompt itself."""
    original = next(iter(variants.values()))
    number, k = original.shape
    figure, panel = plt.subplots(figsize=(7.2, 0.3 * len(variants) + 0.7))
    for line, (name, shown) in enumerate(variants.items()):
        draw_prompt(panel, -line, shown, original, test)
        panel.text(-0.4, 0.5 - line, name, ha="right", va="center", size=9)
    panel.set(xlim=(-7, (number + 1) * (k + 1)), ylim=(1 - len(variants), 1))
    panel.axis("off")
    draw_key(figure)
    return figure


def draw_flips(
    prompts: Int[ndarray, "F N K"],
    test: Int[ndarray, " J"],
    beliefs: Sequence[float],
    answers: Sequence[int],
    right: int,
) -> Figure:
    """A prompt whose labels are made wrong one by one; at the right, what the two readers make of it."""
    _, number, k = prompts.shape
    end = (number + 1) * (k + 1)
    figure, panel = plt.subplots(figsize=(7.2, 0.34 * len(prompts) + 1.1))
    for line, shown in enumerate(prompts):
        draw_prompt(panel, -line, shown, prompts[0], test)
        draw_bar(panel, end, -line, beliefs[line])
        mark, colour = ("\u2713", BLUE) if answers[line] == right else ("\u2717", GREY)
        words = f"{named(answers[line])} {mark}"
        panel.text(end + 7, 0.5 - line, words, ha="center", va="center", weight="bold", color=colour)
    panel.text(end + 2.2, 1.2, "exact belief in\nthe true concept", ha="center", va="bottom", size=8.5)
    panel.text(end + 7, 1.2, "transformer's\nanswer", ha="center", va="bottom", size=8.5, color=BLUE)
    panel.set(xlim=(0, end + 9), ylim=(1 - len(prompts), 2.6))
    panel.axis("off")
    panel.set_title(
        f"{len(prompts) - 1} wrong labels take the exact belief from {beliefs[0]:.2f} to {beliefs[-1]:.2f}; "
        f"the right answer is {named(right)}",
        size=10,
    )
    draw_key(figure, ("input", "label", "changed"))
    return figure


def draw_bar(panel: Axes, x: float, y: float, belief: float) -> None:
    """A belief as a bar of at most 3 cells, and its value."""
    panel.add_patch(plt.Rectangle((x, y + 0.25), 3, 0.5, fc="#eeeeee", ec="none"))
    panel.add_patch(plt.Rectangle((x, y + 0.25), 3 * belief, 0.5, fc=BLACK, ec="none"))
    panel.text(x + 3.25, y + 0.5, f"{belief:.2f}", va="center", size=8)


def draw_odds(odds: dict[int, Float[ndarray, " W"]]) -> Figure:
    """Of the tiny world: log odds for the true concept by the number of wrong labels, a line for each length."""
    figure, panel = plt.subplots(figsize=(6.6, 3.3))
    white = {"fc": "white", "ec": "none", "pad": 1.0}
    shades = plt.get_cmap("Greys")(np.linspace(0.4, 0.95, len(odds)))
    for shade, (k, line) in zip(shades, odds.items(), strict=True):
        panel.plot(range(len(line)), line, "o-", color=shade)
        panel.annotate(f"k = {k}", (len(line) - 1 + 0.12, line[-1]), va="center", color=shade, bbox=white)
    panel.axhline(0, color=GREY, lw=1, ls=":")
    panel.annotate("cannot tell", (0, 0), (0, -3), textcoords="offset points", va="top", size=9, color=GREY)
    number = len(line) - 1
    panel.set(xlabel=f"wrong labels among {number} examples", ylabel="log odds for the true concept, nats")
    panel.set(xticks=range(number + 1), xlim=(-0.15, number + 0.7))
    ends = {k: line[-1] for k, line in odds.items()}
    misled, lost = (
        [k for k, end in ends.items() if test(end)] for test in (lambda x: x < -1e-9, lambda x: abs(x) < 1e-9)
    )
    panel.set_title(
        f"All labels wrong: examples of {either(misled)} tokens mislead, of {either(lost)} tell nothing, "
        "longer ones still tell",
        size=10,
    )
    return figure


def either(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers)) or "no"


def draw_costs(
    beliefs: dict[int, Float[ndarray, "B F"]],
    right: dict[int, Float[ndarray, "B F"]],
    alone: dict[int, float],
) -> Figure:
    """Exact belief and the transformer's accuracy by the number of wrong labels, a panel for each length."""
    figure, panels = plt.subplots(1, len(beliefs), figsize=(7.5, 3.0), sharey=True)
    for panel, (k, belief) in zip(panels, beliefs.items(), strict=True):
        draw_mean(panel, belief, BLACK)
        draw_mean(panel, right[k], BLUE)
        panel.axhline(alone[k], color=BLUE, ls=":", lw=1.2)
        panel.set(title=f"k = {k}", xlabel="wrong labels", ylim=(-0.02, 1.04), xticks=range(0, belief.shape[1], 2))
    last, final = panels[-1], belief.shape[1] - 1
    last.annotate("exact belief", (final, 0.97), ha="right", va="top", size=9)
    last.annotate(
        "transformer's\naccuracy", (final, right[k].mean(0).min() - 0.08), ha="right", va="top", size=9, color=BLUE
    )
    first = next(iter(alone))
    panels[0].annotate("transformer, no examples", (0, alone[first] - 0.02), va="top", size=8, color=BLUE)
    panels[0].set_ylabel("mean over prompts")
    lost = [[100 * (values[:, 0] * 1.0 - values[:, -1]).mean() for values in of.values()] for of in (beliefs, right)]
    belief_lost, accuracy_lost = (", ".join(f"{points:.0f}" for points in np.array(of) + 0.0) for of in lost)
    figure.suptitle(
        f"If all labels are wrong, the exact reader loses {belief_lost} points of belief\n"
        f"and the transformer {accuracy_lost} points of accuracy",
        size=10,
    )
    return figure


def draw_mean(panel: Axes, values: Float[ndarray, "B F"], colour: str) -> None:
    """The mean over rows and its 95 % interval, clipped to what a share can be."""
    mean = values.mean(0)
    half = 1.96 * values.std(0) / np.sqrt(len(values))
    panel.plot(range(len(mean)), mean, "o-", ms=3, color=colour)
    panel.fill_between(
        range(len(mean)), np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1), color=colour, alpha=0.18, lw=0
    )


def draw_doubt(doubt: dict[int, Float[ndarray, "N 2"]], most: float) -> Figure:
    """Doubt about the concept after the inputs and after whole examples, by their number; a panel for each length."""
    figure, panels = plt.subplots(1, len(doubt), figsize=(7.5, 2.9), sharey=True)
    for panel, (k, values) in zip(panels, doubt.items(), strict=True):
        read = range(len(values) + 1)
        inputs, both = np.vstack([[most, most], values]).T
        panel.fill_between(read, both, inputs, color=LABEL)
        panel.plot(read, inputs, "o-", ms=3, color=GREY)
        panel.plot(read, both, "o-", ms=3, color=BLACK)
        panel.set(title=f"k = {k}", xlabel="examples read", xticks=range(0, len(values) + 1, 2), ylim=(-0.03, None))
    inputs, both = np.vstack([[most, most], next(iter(doubt.values()))]).T
    end = len(inputs) - 1
    panels[0].annotate("inputs alone", (end, inputs[-1] - 0.03), ha="right", va="top", size=9, color=GREY)
    panels[0].annotate("only labels tell this", (end, 0.6 * inputs[-1]), ha="right", size=9, color="#8a6100")
    panels[0].annotate("inputs and labels", (end, both[-1] + 0.1), ha="right", va="bottom", size=8.5)
    panels[0].set_ylabel("doubt about the concept, nats")
    shares = [100 * (values[0, 0] - values[0, 1]) / (most - values[0, 1]) for values in doubt.values()]
    words = ", ".join(f"{share:.0f} % (k = {k})" for k, share in zip(doubt, shares, strict=True))
    figure.suptitle(f"Of what one example tells, only its label tells {words}", size=10)
    return figure


def draw_aspect(
    shown: Int[ndarray, "M W"],
    original: Int[ndarray, "N K"],
    test: Int[ndarray, " J"],
    counts: dict[str, int],
    before: dict[str, int],
    prompts: int,
) -> Figure:
    """The first examples of a prompt, one in a line, and how often each reader is right about such prompts.

    Args:
        shown: The examples shown, of which some parts may be gone.
        original: The examples as they were sampled.
        test: The test input.
        counts: How many prompts each reader answers rightly, if it is defined.
        before: The same of prompts as sampled.
        prompts: How many there are.
    """
    figure, (left, panel) = plt.subplots(1, 2, figsize=(5.5, 2.4), width_ratios=(1, 1))
    k = original.shape[1]
    for line in range(3):
        draw_example(left, 0, -line, shown[line] if line < len(shown) else None, original[line])
    left.text(k / 2, -2.4, "...", ha="center", va="center", color=GREY)
    draw_test(left, 0, -3.8, test)
    width = max(k, 7)
    left.set(xlim=((k - width) / 2, (k + width) / 2), ylim=(-3.9, 1))
    left.axis("off")
    for line, name in enumerate(before):
        colour, count = MODELS[name], counts.get(name)
        if count is None:
            panel.text(0, -line + 0.2, name, color=colour, size=9, va="bottom")
            panel.text(0, -line, "not defined without format", color=GREY, size=8, va="center")
            continue
        gained = 100 * (count - before[name]) / prompts
        words = f"{name}, {gained:+.0f} points" if count != before[name] else name
        panel.text(0, -line + 0.2, words, color=colour, size=9, va="bottom")
        low, high = interval(count, prompts)
        panel.plot([low, high], [-line, -line], color=colour, lw=2)
        panel.plot(count / prompts, -line, "o", color=colour)
        panel.plot(before[name] / prompts, -line, "|", ms=11, mew=1.5, color=GREY)
    panel.set(xlim=(-0.03, 1.03), ylim=(-2.5, 0.8), yticks=[], xlabel="accuracy (grey: as sampled)")
    panel.spines["left"].set_visible(False)
    return figure


def interval(count: int, number: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    found = scipy.stats.binomtest(count, number).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
