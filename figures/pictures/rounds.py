"""Rounds of assisted generation for the notebook, made the slow and obvious way so that every step can be seen."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray

from figures.lab.style import ORANGE, SKY, YELLOW
from icl_synth.checkpoints import Model

TEXT, ACCEPTED, REFUSED, OWN = "text", "accepted", "refused", "the target's own"
COLOURS = {TEXT: "#dddddd", ACCEPTED: SKY, REFUSED: "#ffffff", OWN: YELLOW}
EDGES = COLOURS | {REFUSED: ORANGE}


class Round(NamedTuple):
    """One round: the text before it, the draft's proposals, how many were accepted, and the target's own token."""

    text: Int[ndarray, " N"]
    proposals: Int[ndarray, " G"]
    kept: int
    own: int


def greedy_rounds(target: Model, draft: Model, prompt: Int[ndarray, " L"], gamma: int, count: int) -> list[Round]:
    """The first rounds of greedy assisted generation, every model reading everything again for every token."""
    room = len(prompt) + (gamma + 1) * (count + 1)  # one length to compile
    text, rounds = np.append(prompt, likeliest(target, prompt, room)[-1]), []
    for _ in range(count):
        longer = text
        for _ in range(gamma):
            longer = np.append(longer, likeliest(draft, longer, room)[-1])
        proposals, wanted = longer[len(text) :], likeliest(target, longer, room)[len(text) - 1 :]
        kept = int(np.cumprod(proposals == wanted[:-1]).sum())
        rounds.append(Round(text, proposals, kept, int(wanted[kept])))
        text = np.concatenate([text, proposals[:kept], wanted[kept : kept + 1]])
    return rounds


def likeliest(model: Model, text: Int[ndarray, " N"], room: int) -> Int[ndarray, " N"]:
    """The likeliest next token after each token of a text, which is padded to `room`."""
    padded = np.pad(text, (0, room - len(text)))
    return np.asarray(model(padded[None])[0, : len(text)].argmax(-1), text.dtype)


def draw_rounds(rounds: list[Round], before: int = 6) -> Figure:
    """A line for each round: the end of the text, the proposals where they would stand, the target's own token."""
    first = len(rounds[0].text) - before
    last = max(len(turn.text) + len(turn.proposals) + 1 for turn in rounds)
    figure, panel = plt.subplots(figsize=(0.36 * (last - first) + 1.2, 0.62 * len(rounds) + 0.9))
    for index, turn in enumerate(rounds):
        draw_round(panel, turn, -float(index), max(first, len(turn.text) - before))
        panel.text(first - 0.4, 0.31 - index, f"round {index + 1}", ha="right", va="center", size=8)
    handles = [plt.Rectangle((0, 0), 1, 1, fc=COLOURS[kind], ec=EDGES[kind]) for kind in COLOURS]
    panel.set(xlim=(first - 3, last), ylim=(-len(rounds) + 0.4, 1))
    panel.axis("off")
    figure.legend(handles, list(COLOURS), loc="outside lower center", ncols=4)
    return figure


def draw_round(panel: Axes, turn: Round, y: float, first: int) -> None:
    """One round at a height, with its text from a place on."""
    n = len(turn.text)
    for place in range(first, n):
        draw_token(panel, place, y, int(turn.text[place]), TEXT)
    for g, token in enumerate(turn.proposals):
        # the target's own token takes the place of the first that is refused: it is written half a line lower
        accepted = g < turn.kept
        draw_token(panel, n + g, y + (0.0 if accepted else 0.14), int(token), ACCEPTED if accepted else REFUSED)
    draw_token(panel, n + turn.kept, y - (0.0 if turn.kept == len(turn.proposals) else 0.36), turn.own, OWN)


def draw_token(panel: Axes, place: int, y: float, token: int, kind: str) -> None:
    panel.add_patch(plt.Rectangle((place, y), 0.92, 0.62, fc=COLOURS[kind], ec=EDGES[kind], lw=1.2))
    panel.text(place + 0.46, y + 0.31, "/" if token == 0 else str(token), ha="center", va="center", size=8)
    if kind == REFUSED:
        panel.plot([place + 0.1, place + 0.82], [y + 0.1, y + 0.52], color=EDGES[kind], lw=1)
