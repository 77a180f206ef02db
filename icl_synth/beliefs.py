"""How far a model's predictions are from Bayes because of the concepts that it believes in, and how far for the rest.

A model is a black box that gives a distribution of the next token. Its belief is read off as the mixture that is
nearest to this distribution, of the concepts' exact predictions and of two that know no history. Without these two,
Bayes with uniform noise would pass for a reader who believes in several concepts.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from icl_synth.concept_hmm import ConceptHMM

EM_STEPS = 200  # of expectation maximisation
SMOOTHING = 1e-3  # share of jumps, for concepts that a history rules out
ROUNDING = 1e-6  # what taking off the jumps leaves in float32
Predict = Callable[[ConceptHMM, float], Float[np.ndarray, "*B V"]]


class Split(NamedTuple):
    """KL(Bayes || model) in two parts, nats. The second is no divergence and may be a little below 0."""

    belief: Float[Array | np.ndarray, "*B"]
    within: Float[Array | np.ndarray, "*B"]


def by_concept(hmm: ConceptHMM, predict: Predict) -> Float[np.ndarray, "*B C V"]:
    """Probabilities of the next token given each concept.

    predict: the exact probabilities of a world with some smoothing, after histories of at least one token; all 0 where
    a history is impossible. A concept that a history rules out gets the prediction of its smoothed filter, with an
    exact last move.
    """
    each = []
    for concept in range(hmm.num_concepts):
        world = hmm.select([concept])
        exact, smoothed = predict(world, 0.0), predict(world, SMOOTHING)
        moved = (smoothed - SMOOTHING * emitted(hmm)) / (1 - SMOOTHING)
        moved = np.where(moved < ROUNDING, 0.0, moved)
        moved /= moved.sum(-1, keepdims=True)
        each.append(np.where(exact.sum(-1, keepdims=True) > 0, exact, moved))
    return np.stack(each, axis=-2).astype(np.float32)


def without_history(hmm: ConceptHMM) -> Float[np.ndarray, "2 V"]:
    """Predictions that know nothing of a history: all tokens alike, and as often as states emit them."""
    uniform = np.full(hmm.vocab_size, 1 / hmm.vocab_size)
    return np.stack([uniform, emitted(hmm)]).astype(np.float32)


def emitted(hmm: ConceptHMM) -> Float[np.ndarray, " V"]:
    """The share of states that emit each token."""
    return np.bincount(np.asarray(hmm.memory).ravel(), minlength=hmm.vocab_size) / hmm.memory.size


@jax.jit
def split_divergence(
    exact: Float[Array, "*B V"],
    learned: Float[Array, "*B V"],
    of_concepts: Float[Array, "*B C V"],
    ignorant: Float[Array, "N V"],
) -> Split:
    """KL(exact || learned) in two parts: what the wrong weights of concepts make, and the rest.

    exact: probabilities. learned: log-probabilities. of_concepts: probabilities given each concept. ignorant: those
    without a history. The first part is the divergence between two readers who are as ignorant as the model: one with
    the exact weights of concepts and one with the model's.
    """
    ignorant = jnp.broadcast_to(ignorant, (*of_concepts.shape[:-2], *ignorant.shape))
    parts = jnp.concatenate([of_concepts, ignorant], axis=-2)
    weights = nearest_weights(jnp.exp(learned), parts)
    concepts = of_concepts.shape[-2]
    noise = jnp.einsum("...n,...nv->...v", weights[..., concepts:], ignorant)
    mixture = jnp.einsum("...c,...cv->...v", weights, parts)
    as_ignorant = weights[..., :concepts].sum(-1, keepdims=True) * exact + noise
    belief = divergence(as_ignorant, jnp.log(jnp.maximum(mixture, jnp.finfo(jnp.float32).tiny)))
    return Split(belief, divergence(exact, learned) - belief)


def divergence(exact: Float[Array, "*B V"], log_other: Float[Array, "*B V"]) -> Float[Array, "*B"]:
    """KL(exact || other) over the tokens that exact allows, nats."""
    possible = exact > 0
    return jnp.where(possible, exact * (jnp.log(jnp.where(possible, exact, 1.0)) - log_other), 0.0).sum(-1)


@jax.jit
def nearest_weights(learned: Float[Array, "*B V"], parts: Float[Array, "*B C V"]) -> Float[Array, "*B C"]:
    """The weights of the mixture of the parts that has the least KL(learned || mixture).

    Expectation maximisation from equal weights: each step multiplies a weight by the mean, under `learned`, of its
    part over the mixture.
    """
    learned = learned / learned.sum(-1, keepdims=True)

    def step(_, weights):
        mixture = jnp.einsum("...c,...cv->...v", weights, parts)
        ratio = learned / jnp.where(mixture > 0, mixture, 1.0)
        return weights * jnp.einsum("...v,...cv->...c", ratio, parts)

    return jax.lax.fori_loop(0, EM_STEPS, step, jnp.full(parts.shape[:-1], 1 / parts.shape[-2], jnp.float32))
