"""Rounds of assisted generation for the notebook, made the slow and obvious way so that every step can be seen."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray

from decoding.acceptance import keep_likely
from decoding.readers import Reader
from decoding.speedup import expected_tokens, predicted_speedup
from figures.lab.style import BLACK, BLUE, GREY, ORANGE, PINK, SKY, YELLOW

TEXT, ACCEPTED, REJECTED, OWN = "text", "accepted", "rejected", "the target's own"
COLOURS = {TEXT: "#dddddd", ACCEPTED: SKY, REJECTED: "#ffffff", OWN: YELLOW}
EDGES = COLOURS | {REJECTED: ORANGE}
PITCH = 1.45  # of the lines of rounds, in heights of 0.62 each for a token and for the one below it
ROWS, ROOM = 4, 96  # texts and tokens that are read at once, so that each reader is compiled once


class Round(NamedTuple):
    """One round: the text before it, the draft's proposals, how many were accepted, and the target's own token."""

    text: Int[ndarray, " N"]
    proposals: Int[ndarray, " G"]
    kept: int
    own: int


class Step(NamedTuple):
    """How often each next token was accepted from the draft, and how often it was the target's own, beside what both
    expect."""

    target: Float[ndarray, " V"]
    draft: Float[ndarray, " V"]
    accepted: Float[ndarray, " V"]
    own: Float[ndarray, " V"]


def log_probs(reader: Reader, texts: Int[ndarray, "B N"]) -> Float[ndarray, "B N V"]:
    """log p(next | x_<=t) after every token of texts of at most ROOM tokens."""
    number, length = texts.shape
    padded = np.pad(texts, ((0, -number % ROWS), (0, ROOM - length)))
    parts = [_log_probs(reader, jnp.asarray(part)) for part in np.split(padded, len(padded) // ROWS)]
    return np.concatenate([np.asarray(part) for part in parts])[:number, :length].astype(np.float64)


@jax.jit
def _log_probs(reader: Reader, texts: Array) -> Array:
    return jax.nn.log_softmax(reader.read(texts, reader.start(ROWS, ROOM, ROOM))[0])


def likeliest(reader: Reader, text: Int[ndarray, " N"]) -> Int[ndarray, " N"]:
    """The likeliest next token after each token of a text."""
    return log_probs(reader, text[None])[0].argmax(-1)


def draw_rounds(rounds: Sequence[Round], shown: int, before: int = 4) -> Figure:
    """A line for each round: the end of the text, the proposals where they would stand, the target's own token.

    Of all rounds, only the first `shown` are drawn; the picture has room for all.
    """
    start = len(rounds[0].text) - before
    end = max(len(turn.text) + len(turn.proposals) + 1 for turn in rounds)
    figure, panel = plt.subplots(figsize=(7, 0.52 * len(rounds) + 0.8))
    for index, turn in enumerate(rounds[:shown]):
        draw_round(panel, turn, -PITCH * index, len(turn.text) - before)
        panel.text(start - 0.4, 0.31 - PITCH * index, f"round {index + 1}", ha="right", va="center", size=8)
    panel.set(xlim=(start - 3, end), ylim=(-PITCH * (len(rounds) - 1) - 0.8, 0.8))
    panel.axis("off")
    added = len(rounds[shown - 1].text) + rounds[shown - 1].kept + 1 - len(rounds[0].text)
    panel.set_title(f"{counted(shown, 'reading')} of the target, {counted(added, 'new token')}")
    name_kinds(figure, {kind: kind for kind in COLOURS})
    return figure


def draw_round(panel: Axes, turn: Round, y: float, start: int) -> None:
    """One round at a height, with its text from a place on."""
    n = len(turn.text)
    for place in range(start, n):
        draw_token(panel, place, y, int(turn.text[place]), TEXT)
    for g, token in enumerate(turn.proposals):
        draw_token(panel, n + g, y, int(token), ACCEPTED if g < turn.kept else REJECTED)
    # the target's own token takes the place of the first that is rejected: it is written below
    draw_token(panel, n + turn.kept, y - (0.0 if turn.kept == len(turn.proposals) else 0.68), turn.own, OWN)


def draw_token(panel: Axes, place: int, y: float, token: int, kind: str) -> None:
    panel.add_patch(plt.Rectangle((place, y), 0.92, 0.62, fc=COLOURS[kind], ec=EDGES[kind], lw=1.2))
    panel.text(place + 0.46, y + 0.31, "/" if token == 0 else str(token), ha="center", va="center", size=8)
    if kind == REJECTED:
        panel.plot([place + 0.1, place + 0.82], [y + 0.1, y + 0.52], color=EDGES[kind], lw=1)


def counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def name_kinds(figure: Figure, words: Mapping[str, str], framed: str = "") -> None:
    """What the colours mean, and a thick frame if it means something, below all panels."""
    handles = [plt.Rectangle((0, 0), 1, 1, fc=COLOURS[kind], ec=EDGES[kind]) for kind in words]
    labels = list(words.values())
    if framed:
        handles.append(plt.Rectangle((0, 0), 1, 1, fc="none", ec=BLACK, lw=1.8))
        labels.append(framed)
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def origins(rounds: Sequence[Round]) -> list[str]:
    """Of every token that rounds added, whether it was accepted from the draft or is the target's own."""
    return [kind for turn in rounds for kind in [ACCEPTED] * turn.kept + [OWN]]


def draw_ways(ways: Mapping[str, tuple[Sequence[int], Sequence[Round]]]) -> Figure:
    """A line for each way to generate: its new tokens by their origin, and how often the target read.

    The first way is the target alone. A token that differs from its own at the same place has a thick frame.
    """
    plain = next(iter(ways.values()))[0]
    figure, panel = plt.subplots(figsize=(7.5, 0.4 * len(ways) + 0.8))
    readings = []  # of the ways whose text is the target's
    for index, (name, (tokens, rounds)) in enumerate(ways.items()):
        differs = np.asarray(tokens) != plain
        kinds = origins(rounds)[: len(plain)]
        for place, (token, kind, wrong) in enumerate(zip(tokens, kinds, differs, strict=True)):
            draw_token(panel, place, -float(index), int(token), kind)
            if wrong:
                frame = (place + 0.03, 0.04 - index)
                panel.add_patch(plt.Rectangle(frame, 0.86, 0.54, fill=False, ec=BLACK, lw=1.8))
        panel.text(-0.4, 0.31 - index, name, ha="right", va="center", size=9)
        panel.text(len(plain) + 0.3, 0.31 - index, counted(len(rounds), "reading"), va="center", size=9)
        readings += [] if differs.any() else [len(rounds)]
    panel.set(xlim=(-8.2, len(plain) + 3.4), ylim=(-len(ways) + 0.8, 0.9))
    panel.axis("off")
    panel.set_title(
        f"{len(readings)} of {len(ways)} ways give the same text, with {min(readings)} to {max(readings)} readings"
    )
    words = {ACCEPTED: ACCEPTED, OWN: "chosen by the target\nafter the text so far"}
    name_kinds(figure, words, framed="not the token that the\ntarget alone would write")
    return figure


def draw_step(panel: Axes, step: Step, top: Int[ndarray, " K"], width: float) -> int:
    """Next tokens by origin, what was rejected above them, and the target's probabilities; returns the bars' number."""
    p, q, accepted, own = (gathered(values, top) for values in step)
    x, over = np.arange(len(p)), np.maximum(q - p, 0)
    panel.bar(x, accepted, 0.7, color=SKY)
    panel.bar(x, own, 0.7, bottom=accepted, color=YELLOW)
    panel.bar(x, over, 0.7, bottom=p, fc="none", ec=ORANGE, hatch="////", lw=np.where(over > 0, 1, 0))
    panel.plot(x, p, "_", ms=width, mew=2.2, color=BLACK)
    panel.set(xticks=x, xlabel="next token")
    panel.grid(axis="x", visible=False)
    return len(x)


def draw_three(step: Step) -> Figure:
    """The example of three tokens, with its parts named."""
    figure, panel = plt.subplots(figsize=(3.6, 2.3))
    draw_step(panel, step, np.arange(3), 30)
    panel.set(ylabel="probability", xticklabels="abc", ylim=(0, 0.66))
    words = [(0, step.accepted[0] / 2, ACCEPTED), (0, step.accepted[0] + step.own[0] / 2, "drawn anew")]
    for x, y, word in [*words, (2, (step.target[2] + step.draft[2]) / 2, REJECTED)]:
        panel.text(x, y, word, ha="center", va="center", size=8, backgroundcolor="white" if x else "none")
    panel.set_title(f"{100 * step.accepted.sum():.0f} of 100 proposals are accepted")
    return figure


def draw_steps(steps: Mapping[str, Step], shown: int = 6) -> Figure:
    """A panel for each draft. The tokens likeliest for the target have a bar each, all others share one."""
    top = np.argsort(-next(iter(steps.values())).target)[:shown]
    figure, row = plt.subplots(1, len(steps), figsize=(7.5, 2.7), sharey=True)
    for panel, (name, step) in zip(row, steps.items(), strict=True):
        draw_step(panel, step, top, 12)
        panel.set_xticklabels([*("/" if token == 0 else str(token) for token in top), "rest"], size=8)
        panel.set_title(f"{name}:\n{100 * step.accepted.sum():.0f} % accepted", size=10)
    row[0].set_ylabel("probability")
    handles: list[Artist] = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in (SKY, YELLOW)]
    handles += [plt.Rectangle((0, 0), 1, 1, fc="none", ec=ORANGE, hatch="////"), plt.Line2D([], [], color=BLACK, lw=2)]
    figure.legend(handles, [ACCEPTED, "drawn anew", REJECTED, "target"], loc="outside lower center", ncols=4)
    return figure


def gathered(values: Float[ndarray, " V"], top: Int[ndarray, " K"]) -> Float[ndarray, " K1"]:
    """The values of the top tokens, and the sum of all others behind them if there are any."""
    return values[top] if len(top) == len(values) else np.append(values[top], values.sum() - values[top].sum())


def draw_acceptance(curves: Mapping[str, Sequence[float]], temperatures: Sequence[float], guess: float) -> Figure:
    """Acceptance of each draft by temperature, and a guess of the first draft's at temperature 0."""
    figure, panel = plt.subplots(figsize=(5.5, 2.8))
    for (name, curve), colour in zip(curves.items(), (BLUE, PINK, BLACK), strict=True):
        panel.plot(temperatures, curve, "o-", ms=4, color=colour)
        panel.annotate(name, (temperatures[-1], curve[-1]), (6, 0), textcoords="offset points", va="center",
                       color=colour)  # fmt: skip
    panel.plot(temperatures[0], guess, "x", ms=8, mew=2, color=BLUE)
    panel.annotate("your guess", (temperatures[0], guess), (8, 0), textcoords="offset points", va="center", color=BLUE)
    panel.set(xlabel="temperature", ylabel="acceptance", ylim=(0, 1.03), xticks=(0, 0.5, 1, 1.5, 2))
    best = max(curves, key=lambda name: curves[name][temperatures.index(1.0)])
    panel.set_title(f"At temperature 1, proposals of {best} are accepted most")
    return figure


def draw_promise(gamma: int, alpha: float, cost: float) -> Figure:
    """Left: how likely a round adds so many tokens. Right: the speed-up by proposals per round, with reading free."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(5.5, 2.4))
    mean, most = float(expected_tokens(alpha, gamma)), 12
    count = np.arange(gamma + 1)
    left.bar(count + 1, alpha**count * np.where(count < gamma, 1 - alpha, 1.0), 0.7, color=SKY)
    left.axvline(mean, color=BLACK, lw=1)
    left.set(xlabel="tokens of a round", ylabel="probability", xlim=(0.4, 9.6), ylim=(0, 1), xticks=(1, 3, 5, 7, 9))
    left.set_title(f"{mean:.2f} on average", size=10)
    gammas = range(most + 1)
    right.plot(gammas, [predicted_speedup(alpha, g, cost) for g in gammas], color=BLUE)
    speed = predicted_speedup(alpha, gamma, cost)
    right.plot(gamma, speed, "o", color=BLUE)
    right.set(xlabel="proposals, $\\gamma$", ylabel="speed-up", xlim=(0, most), ylim=(0.8, 5.2), xticks=(0, 4, 8, 12))
    right.set_title(f"{speed:.2f} times as fast", size=10)
    return figure


def draw_speed(
    gamma: int, plain: Float[ndarray, " T"], assisted: Float[ndarray, " T"], alpha: float, c: float, v: float
) -> Figure:
    """Speed-up of all texts together and of each, beside what the formula promises.

    plain, assisted: seconds of each text, with gamma proposals per round. c: cost of a draft's token. v: cost of
    reading gamma + 1 tokens. Both in readings of one token.
    """
    figure, panel = plt.subplots(figsize=(5.5, 2.8))
    many, together = range(2 * gamma + 1), plain.sum() / assisted.sum()
    free, paid = [predicted_speedup(alpha, g, c) for g in many], predicted_speedup(alpha, gamma, c, v)
    panel.axhline(1, color=BLACK, lw=0.8)
    panel.plot(many, free, "--", color=GREY)
    panel.plot(gamma, paid, "D", mfc="white", color=GREY)
    panel.plot(gamma + np.linspace(0.15, 0.35, len(plain)), plain / assisted, ".", ms=5, color=BLUE, alpha=0.5)
    panel.plot(gamma, together, "o", ms=7, color=BLUE)
    top = 1.15 * max(*free, paid, (plain / assisted).max())
    heights = apart([paid, together], 0.16 * top)
    panel.text(many[-1] + 0.2, free[-1], "formula,\n$v = 1$", va="center", size=9, color=GREY)
    words = {"formula,\n$v$ measured": (heights[0], GREY), "measured": (heights[1], BLUE)}
    for word, (height, colour) in words.items():
        panel.text(gamma - 0.3, height, word, ha="right", va="center", size=9, color=colour,
                   bbox={"fc": "white", "ec": "none", "pad": 1, "alpha": 0.85})  # fmt: skip
    panel.set(xlabel="proposals per round, $\\gamma$", ylabel="speed-up", xticks=many, xlim=(0, many[-1] + 0.1),
              ylim=(0, top))  # fmt: skip
    panel.set_title(f"With {gamma} proposals per round {together:.2f} times as fast as the target alone")
    return figure


def explained(gamma: int, together: float, alpha: float, c: float, v: float) -> str:
    """Why assistance was faster or slower than the target alone: what a round costs, what it adds, and the result."""
    promised, drafting = predicted_speedup(alpha, gamma, c, v), gamma * c
    faster = "about as fast" if abs(together - 1) < 0.05 else "faster" if together > 1 else "slower"
    link = "and assistance is" if (promised > 1) == (together > 1) else "yet assistance is"
    return (
        f"A round costs {drafting + v:.2f} readings of one token ({drafting:.2f} to draft, {v:.2f} to check) "
        f"and adds {expected_tokens(alpha, gamma):.2f} tokens.\n"
        f"So the formula promises {promised:.2f} times the speed, {link} {faster}: {together:.2f} times."
    )


def apart(heights: Sequence[float], least: float) -> Float[ndarray, " N"]:
    """Heights for labels in the same order, moved upwards until they are so far apart."""
    moved = np.array(heights)
    order = np.argsort(moved)
    for below, above in itertools.pairwise(order):
        moved[above] = max(moved[above], moved[below] + least)
    return moved


def sampled(
    p: Float[ndarray, " V"], q: Float[ndarray, " V"], proposals: Int[ndarray, " N"], keys: Key[Array, "2"]
) -> tuple[Bool[ndarray, " N"], Int[ndarray, " N"]]:
    """Which proposals the library accepts, and the token that it draws after each: from the residual where the
    proposal was rejected, else the next one."""
    n, v = len(proposals), len(p)
    both = np.broadcast_to(np.float32(p), (n, 2, v)), np.broadcast_to(np.float32(q), (n, 1, v))
    kept, own = keep_likely(jnp.asarray(proposals)[:, None], jnp.ones(n, int), *map(jnp.asarray, both), *keys)
    return np.asarray(kept) == 1, np.asarray(own)


def shares(
    proposals: Int[ndarray, " N"], accepted: Bool[ndarray, " N"], own: Int[ndarray, " N"], vocab_size: int
) -> tuple[Float[ndarray, " V"], Float[ndarray, " V"]]:
    """How often each token was accepted from the draft, and how often the target drew it after a rejection."""
    counts = (np.bincount(tokens, minlength=vocab_size) for tokens in (proposals[accepted], own[~accepted]))
    of_draft, of_target = (count / len(own) for count in counts)
    return of_draft, of_target
