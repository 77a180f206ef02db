"""Pictures of a world for the notebooks: its transitions, a document by hidden state, the posterior collapsing."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from numpy import ndarray

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


def draw_transitions(hmm: ConceptHMM) -> Figure:
    """A shared entity matrix and the property matrix of each of five concepts, on one colour scale: official worlds."""
    matrices = [np.asarray(hmm.entity_transitions), *np.asarray(hmm.property_transitions)]
    titles = ["entities (shared)", *(f"properties, concept {c}" for c in range(hmm.num_concepts))]
    figure, panels = plt.subplots(2, 3, figsize=(9, 6.2), sharex=True, sharey=True)
    for panel, matrix, title in zip(panels.flat, matrices, titles, strict=True):
        image = panel.imshow(np.ma.masked_equal(matrix, 0), vmin=0, vmax=1)  # an impossible move stays white
        panel.set(title=title, xticks=range(0, 10, 3), yticks=range(0, 10, 3))
        panel.grid(False)
    figure.supxlabel("to")
    figure.supylabel("from")
    figure.colorbar(image, ax=panels, label="probability", shrink=0.7)
    return figure


def draw_memory(hmm: ConceptHMM) -> Figure:
    """The table of tokens: the token that an entity emits in each property."""
    figure, panel = plt.subplots(figsize=(6, 4.4))
    panel.imshow(np.asarray(hmm.memory) > 0, cmap="Blues", vmin=0, vmax=4)
    for (entity, property_), token in np.ndenumerate(np.asarray(hmm.memory)):
        panel.text(property_, entity, "/" if token == 0 else token, ha="center", va="center")
    panel.set(xlabel="property", ylabel="entity", xticks=range(hmm.num_properties), yticks=range(hmm.num_entities))
    panel.grid(False)
    return figure


def draw_document(path: HiddenPath, columns: int = 24) -> Figure:
    """Tokens in reading order: entity (also the background) and property small beneath; "/" is the delimiter."""
    rows = -(-len(path.tokens) // columns)
    figure, panel = plt.subplots(figsize=(0.48 * columns, 0.62 * rows + 0.6))
    for t, (entity, property_, token) in enumerate(zip(*path, strict=True)):
        x, y = t % columns, -(t // columns)
        panel.add_patch(plt.Rectangle((x, y), 0.96, 0.9, color=ENTITY_COLOURS[entity], alpha=0.45, lw=0))
        panel.text(x + 0.48, y + 0.56, "/" if token == 0 else token, ha="center", va="center", weight="bold")
        panel.text(x + 0.48, y + 0.18, f"e{entity} p{property_}", ha="center", va="center", size=6.5)
    handles = [plt.Rectangle((0, 0), 1, 1, color=ENTITY_COLOURS[e], alpha=0.45) for e in range(10)]
    panel.set(xlim=(0, columns), ylim=(1 - rows, 1))
    panel.axis("off")
    figure.legend(handles, [f"entity {e}" for e in range(10)], loc="outside lower center", ncols=10,
                  handlelength=1, columnspacing=1)  # fmt: skip
    return figure


def draw_posterior(posterior: Float[ndarray, "L C"], truth: int) -> Figure:
    """The probability of each concept as one document is read."""
    figure, panel = plt.subplots(figsize=(8, 3.2))
    read = np.arange(1, len(posterior) + 1)
    for concept in range(posterior.shape[1]):
        label = f"concept {concept}" + (" (true)" if concept == truth else "")
        panel.plot(read, posterior[:, concept], "o-" if concept == truth else ".-", label=label,
                   lw=2.4 if concept == truth else 1.2)  # fmt: skip
    panel.set(xlabel="tokens read", ylabel="posterior", ylim=(-0.03, 1.03))
    figure.legend(loc="outside right center")
    return figure
