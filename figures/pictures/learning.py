"""Pictures of a model that learns to predict documents, for the notebooks: its loss, its answers, its belief."""

import jax
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from numpy import ndarray

from figures.lab.style import BLACK, BLUE, GREY, MODELS, ORANGE
from figures.pictures.worlds import named
from icl_synth.estimates import Z
from icl_synth.transformer import Transformer

CHANCE = 1 / 5  # of naming one of the five concepts


def draw_training(tokens: ndarray, losses: ndarray, exact: float) -> Figure:
    """The loss of batches by millions of tokens of training, above the loss that no model can go below."""
    figure, panel = plt.subplots(figsize=(6.5, 3))
    panel.plot(tokens, losses, color=BLUE)
    panel.axhline(exact, color=BLACK, lw=1.2)
    panel.text(tokens[-1], exact, "exact Bayes", ha="right", va="bottom")
    panel.set(xlabel="million tokens of training", ylabel="nats per token", ylim=(0, None))
    panel.set_title(f"{losses[-1] - exact:.2f} nats above exact Bayes after {tokens[-1]:.1f} million tokens")
    return figure


def draw_next_tokens(predictions: dict[str, Float[ndarray, " V"]], label: int, most: int = 6) -> Figure:
    """What readers of one prompt expect next: the likeliest tokens of the last reader, which is the ideal one."""
    *_, ideal = predictions.values()
    shown = np.argsort(-ideal)[:most]
    figure, panel = plt.subplots(figsize=(5.5, 2.6))
    for place, (name, predicted) in enumerate(predictions.items()):
        at = np.arange(most) + 0.4 * (place - 0.5)
        panel.bar(at, predicted[shown], 0.38, color=MODELS[name], label=name)
    panel.set(xticks=range(most), xticklabels=[named(token) for token in shown], ylabel="probability")
    panel.set_xlabel("next token")
    panel.set_title(f"asked for: {named(label)}")
    panel.legend()
    return figure


def draw_accuracy(right: dict[str, dict[int, Float[ndarray, " N"]]]) -> Figure:
    """Share of prompts answered rightly by number of examples, with 95 % intervals over prompts."""
    figure, panel = plt.subplots(figsize=(6.5, 3.2))
    for name, by_number in right.items():
        place = np.arange(len(by_number))
        means = np.array([values.mean() for values in by_number.values()])
        errors = np.array([Z * values.std() / len(values) ** 0.5 for values in by_number.values()])
        panel.errorbar(place, means, errors, marker="o", color=MODELS[name], capsize=2, elinewidth=1)
        panel.text(place[-1] + 0.1, means[-1], name, color=MODELS[name], va="center")
    panel.set(xticks=place, xticklabels=list(by_number), xlabel="examples in the prompt", ylabel="accuracy")
    panel.set_xlim(-0.2, len(by_number) + 0.4)
    first, last = (right["transformer"][n].mean() for n in (min(by_number), max(by_number)))
    panel.set_title(
        f"The transformer answers {first:.0%} of prompts correctly without examples, {last:.0%} with the most"
    )
    return figure


def rest_of(model: Transformer, layer: int, hidden: Float[Array, "B T D"]) -> Float[ndarray, "B T V"]:
    """Log-probabilities of the next token from activations after so many blocks; of a model with a head of its own."""
    assert model.head is not None
    for index in range(layer, model.config.depth):
        hidden = model.stage(index, hidden)
    return np.asarray(jax.nn.log_softmax(model.head(model.norm(hidden))))


def draw_layers(named: Float[ndarray, " L"], pushed: Float[ndarray, " L"]) -> Figure:
    """After each block: how often a probe names the true concept, and what a push towards another one changes."""
    figure, panel = plt.subplots(figsize=(6.5, 3))
    for words, line, colour in (("a probe names the concept", named, BLUE), ("a push is followed", pushed, ORANGE)):
        panel.plot(line, "o-", color=colour)
        panel.text(len(line) - 0.9, line[-1], words, color=colour, va="center")
    panel.plot([0, len(named) - 1], [CHANCE, CHANCE], ":", color=GREY, lw=1)
    panel.text(len(named) - 0.9, CHANCE, "a guess of the concept", color=GREY, va="center")
    panel.set(xlabel="after block", ylabel="share", ylim=(-0.03, 1.03), xticks=range(len(named)))
    panel.set_xlim(-0.2, len(named) + 1.8)
    panel.set_title(f"Read best after block {named.argmax()}, changed best after block {pushed.argmax()}")
    return figure


def draw_steering(strengths: list[float], nearer: dict[str, Float[ndarray, " S"]], at: float) -> Figure:
    """The share of each concept in what a model predicts, by how far its activations were pushed."""
    figure, panel = plt.subplots(figsize=(5.5, 2.6))
    colours = {"the document's concept": BLUE, "the concept pushed to": ORANGE, "the others": GREY}
    for name, share in nearer.items():
        panel.plot(strengths, share, color=colours[name], alpha=0.25)
        done = np.linspace(0, at)
        panel.plot(done, np.interp(done, strengths, share), color=colours[name])
        panel.text(strengths[-1] * 1.02, share[-1], name, color=colours[name], va="center", size=9)
    panel.axvline(at, color=BLACK, ls=":", lw=1)
    panel.set(xlabel="push along the probe's direction", ylabel="share in the prediction", ylim=(-0.02, 1.02))
    panel.set(xlim=(0, strengths[-1] * 1.5), xticks=strengths[:: len(strengths) // 4])
    now = {name: float(np.interp(at, strengths, share)) for name, share in nearer.items()}
    panel.set_title(f"push {at:g}: {now['the concept pushed to']:.0%} the concept pushed to")
    return figure
