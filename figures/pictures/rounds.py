"""Rounds of assisted generation for the notebook, made the slow and obvious way so that every step can be seen."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure
from numpy import ndarray

from icl_synth.checkpoints import Model

COLOURS = {"text": "#dddddd", "accepted": "#56B4E9", "refused": "#ffffff", "the target's own": "#E69F00"}


class Round(NamedTuple):
    """One round: the text before it, what the draft proposed, how many were accepted, and the target's own token."""

    text: Int[ndarray, " N"]
    proposals: Int[ndarray, " G"]
    kept: int
    own: int


def greedy_rounds(target: Model, draft: Model, prompt: Int[ndarray, " L"], gamma: int, count: int) -> list[Round]:
    """The first rounds of greedy assisted generation, every model reading everything again for every token."""

    def likeliest(model: Model, text: Int[ndarray, " N"]) -> Int[ndarray, " N"]:
        room = np.pad(text, (0, len(prompt) + (gamma + 1) * (count + 1) - len(text)))  # one length to compile
        return np.asarray(model(room[None])[0, : len(text)].argmax(-1), prompt.dtype)

    text, rounds = np.append(prompt, likeliest(target, prompt)[-1]), []
    for _ in range(count):
        longer = text
        for _ in range(gamma):
            longer = np.append(longer, likeliest(draft, longer)[-1])
        proposals, wanted = longer[len(text) :], likeliest(target, longer)[len(text) - 1 :]
        kept = int(np.cumprod(proposals == wanted[:-1]).sum())
        rounds.append(Round(text, proposals, kept, int(wanted[kept])))
        text = np.concatenate([text, proposals[:kept], wanted[kept : kept + 1]])
    return rounds


def draw_rounds(rounds: list[Round], before: int = 6) -> Figure:
    """A line for each round: the end of the text, the proposals where they would stand, the target's own token."""
    first = len(rounds[0].text) - before
    last = max(len(one.text) + len(one.proposals) + 1 for one in rounds)
    figure, panel = plt.subplots(figsize=(0.36 * (last - first) + 1.2, 0.62 * len(rounds) + 0.9))

    def box(place: int, y: float, token: int, kind: str) -> None:
        edge = "#D55E00" if kind == "refused" else COLOURS[kind]
        panel.add_patch(plt.Rectangle((place, y), 0.92, 0.62, fc=COLOURS[kind], ec=edge, lw=1.2))
        panel.text(place + 0.46, y + 0.31, "/" if token == 0 else str(token), ha="center", va="center", size=8)
        if kind == "refused":
            panel.plot([place + 0.1, place + 0.82], [y + 0.1, y + 0.52], color=edge, lw=1)

    for index, one in enumerate(rounds):
        y, n = -float(index), len(one.text)
        for place in range(max(first, n - before), n):
            box(place, y, int(one.text[place]), "text")
        for g, token in enumerate(one.proposals):
            # the target's own token takes the place of the first that is refused: it is written half a line lower
            box(n + g, y + (0.0 if g < one.kept else 0.14), int(token), "accepted" if g < one.kept else "refused")
        box(n + one.kept, y - (0.0 if one.kept == len(one.proposals) else 0.36), one.own, "the target's own")
        panel.text(first - 0.4, y + 0.31, f"round {index + 1}", ha="right", va="center", size=8)
    handles = [plt.Rectangle((0, 0), 1, 1, fc=c, ec="#D55E00" if k == "refused" else c) for k, c in COLOURS.items()]
    panel.set(xlim=(first - 3, last), ylim=(-len(rounds) + 0.4, 1))
    panel.axis("off")
    figure.legend(handles, list(COLOURS), loc="outside lower center", ncols=4)
    return figure
