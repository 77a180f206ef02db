"""Pictures of a world for the notebooks: its transitions, a document by hidden state, the posterior collapsing."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from numpy import ndarray

from figures.lab.style import BLUE, GREY, MODELS, ORANGE
from icl_synth.concept_hmm import ConceptHMM

ENTITY_COLOURS = [plt.get_cmap("tab10")(i) for i in range(10)]


class HiddenPath(NamedTuple):
    """A document with the hidden states behind it."""

    entities: Int[ndarray, " L"]
    properties: Int[ndarray, " L"]
    tokens: Int[ndarray, " L"]


def sample_path(hmm: ConceptHMM, concept: int, length: int, seed: int = 0) -> HiddenPath:
    """One document, drawn the slow and obvious way so that its hidden states can be seen."""
    rng = np.random.default_rng(seed)
    shared = np.asarray(hmm.entity_transitions, np.float64)
    entity_rows = shared if hmm.entities_shared else shared[concept]
    property_rows = np.asarray(hmm.property_transitions[concept], np.float64)
    start = np.asarray(hmm.start[concept], np.float64).ravel()

    entity, property_ = divmod(draw(rng, start), hmm.num_properties)
    states = []
    for _ in range(length):
        states.append((entity, property_))
        entity, property_ = draw(rng, entity_rows[entity]), draw(rng, property_rows[property_])
    entities, properties = np.array(states).T
    return HiddenPath(entities, properties, np.asarray(hmm.memory)[entities, properties])


def draw(rng: np.random.Generator, weights: Float[ndarray, " N"]) -> int:
    """An index in proportion to its weight."""
    return int(rng.choice(len(weights), p=weights / weights.sum()))


def draw_transitions(hmm: ConceptHMM, concepts: Sequence[int]) -> Figure:
    """The shared entity matrix and the property matrices of some concepts; crosses are impossible moves."""
    matrices = {"entities, shared": hmm.entity_transitions}
    matrices |= {f"properties, concept {c}": hmm.property_transitions[c] for c in concepts}
    figure, panels = plt.subplots(1, len(matrices), figsize=(7.5, 2.9), sharey=True)
    for panel, (title, matrix) in zip(panels, matrices.items(), strict=True):
        moves = np.asarray(matrix)
        image = panel.imshow(moves, vmin=0, vmax=1, cmap="Blues")
        panel.plot(*np.argwhere(moves == 0).T[::-1], "x", color=GREY, ms=3, mew=0.7)
        panel.set(title=title, xlabel="to", xticks=range(0, 10, 3), yticks=range(0, 10, 3))
        panel.grid(False)
    panels[0].set_ylabel("from")
    figure.colorbar(image, ax=panels, label="probability", shrink=0.8)
    return figure


def draw_memory(hmm: ConceptHMM) -> Figure:
    """The table of tokens: the token that an entity emits in each property; shaded if another pair emits it too."""
    memory = np.asarray(hmm.memory)
    shared = np.bincount(memory.ravel())[memory] > 1
    figure, panel = plt.subplots(figsize=(5, 3.7))
    panel.imshow(shared & (memory > 0), cmap="Blues", vmin=0, vmax=4)
    for (entity, property_), token in np.ndenumerate(memory):
        panel.text(property_, entity, named(token), ha="center", va="center", size=9)
    panel.set(xlabel="property", ylabel="entity", xticks=range(hmm.num_properties), yticks=range(hmm.num_entities))
    panel.grid(False)
    return figure


def named(token: int) -> str:
    """A token as it is written; the delimiter is a slash."""
    return "/" if token == 0 else str(token)


def draw_document(path: HiddenPath, columns: int = 15) -> Figure:
    """Tokens in reading order: entity (also the background) and property small beneath; "/" is the delimiter."""
    rows = -(-len(path.tokens) // columns)
    figure, panel = plt.subplots(figsize=(0.48 * columns, 0.62 * rows + 0.6))
    for t, (entity, property_, token) in enumerate(zip(*path, strict=True)):
        x, y = t % columns, -(t // columns)
        panel.add_patch(plt.Rectangle((x, y), 0.96, 0.9, color=ENTITY_COLOURS[entity], alpha=0.45, lw=0))
        panel.text(x + 0.48, y + 0.56, named(token), ha="center", va="center", weight="bold")
        panel.text(x + 0.48, y + 0.18, f"e{entity} p{property_}", ha="center", va="center", size=7)
    shown = sorted(set(path.entities.tolist()))
    handles = [plt.Rectangle((0, 0), 1, 1, color=ENTITY_COLOURS[e], alpha=0.45) for e in shown]
    panel.set(xlim=(0, columns), ylim=(1 - rows, 1))
    panel.axis("off")
    figure.legend(handles, [f"entity {e}" for e in shown], loc="outside lower center", ncols=5, handlelength=1)
    return figure


def draw_belief(true: Float[ndarray, "B L"], slow: int) -> Figure:
    """Belief in the true concept of many documents as they are read: the middle half of them, and one slow one."""
    figure, panel = plt.subplots(figsize=(7, 3.2))
    read = np.arange(1, true.shape[1] + 1)
    low, middle, high = np.quantile(true, (0.25, 0.5, 0.75), axis=0)
    panel.fill_between(read, low, high, color=BLUE, alpha=0.2, lw=0)
    panel.plot(read, middle, "o-", ms=3, color=BLUE)
    panel.plot(read, true[slow], ".-", lw=1, color=ORANGE)
    panel.axhline(0.9, color=GREY, ls=":", lw=1)
    lowest = int(true[slow].argmin())
    words = "median document (band: middle half)"
    panel.annotate(words, (read[-1], middle[-1] - 0.04), ha="right", va="top", color=BLUE)
    panel.annotate("the slowest", (read[lowest] + 0.4, true[slow, lowest]), va="center", color=ORANGE)
    panel.set(xlabel="tokens read", ylabel="belief in the true concept", ylim=(-0.03, 1.03))
    settled = int(np.argmax(middle > 0.9)) + 1
    panel.set_title(f"Half of the documents are settled after {settled} tokens")
    return figure


def draw_reading(tokens: Int[ndarray, " L"], belief: Float[ndarray, " C"], concept: int) -> Figure:
    """What was read, and the belief in each concept; the true one is coloured."""
    figure, panel = plt.subplots(figsize=(5.5, 2.4))
    colours = [BLUE if c == concept else GREY for c in range(len(belief))]
    panel.bar(range(len(belief)), belief, color=colours)
    panel.set(ylim=(0, 1), ylabel="belief", xlabel="concept", xticks=range(len(belief)))
    lines = [" ".join(map(named, tokens[start : start + 12])) for start in range(0, len(tokens), 12)]
    panel.set_title("read: " + "\n".join(lines), size=9, loc="left")
    return figure


def draw_surprise(tokens: Int[ndarray, " L"], surprises: dict[str, Float[ndarray, " L"]]) -> Figure:
    """How surprised readers are by each token of a document, in nats."""
    figure, panel = plt.subplots(figsize=(7.4, 2.6))
    for place, (name, nats) in enumerate(surprises.items()):
        panel.bar(np.arange(len(tokens)) + 0.4 * (place - 0.5), nats, 0.38, color=MODELS[name], label=name)
    panel.set(xticks=range(len(tokens)), xticklabels=map(named, tokens), ylabel="nats", xlim=(-0.7, len(tokens)))
    panel.tick_params(axis="x", labelsize=8)
    means = ", ".join(f"{name} {nats.mean():.2f}" for name, nats in surprises.items())
    panel.set_title(f"mean surprise: {means}")
    panel.legend()
    return figure
