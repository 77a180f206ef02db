"""How far a model's predictions are from Bayes because of the concepts that it believes in, and how far within them.

A model is a black box that gives a distribution of the next token. Its belief is read off as the mixture of the
concepts' exact predictions that is nearest to this distribution.
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
    anywhere = np.bincount(np.asarray(hmm.memory).ravel(), minlength=hmm.vocab_size) / hmm.memory.size
    each = []
    for concept in range(hmm.num_concepts):
        world = hmm.select([concept])
        exact, smoothed = predict(world, 0.0), predict(world, SMOOTHING)
        moved = (smoothed - SMOOTHING * anywhere) / (1 - SMOOTHING)
        moved = np.where(moved < ROUNDING, 0.0, moved)
        moved /= moved.sum(-1, keepdims=True)
        each.append(np.where(exact.sum(-1, keepdims=True) > 0, exact, moved))
    return np.stack(each, axis=-2).astype(np.float32)


@jax.jit
def split_divergence(
    exact: Float[Array, "*B V"], learned: Float[Array, "*B V"], of_concepts: Float[Array, "*B C V"]
) -> Split:
    """KL(exact || learned) in two parts: KL(exact || mixture), and what is left.

    exact: probabilities. learned: log-probabilities. of_concepts: probabilities, all 0 for a concept that the history
    rules out. The mixture is that of the concepts' predictions which is nearest to the learned distribution.
    """
    mixture = nearest_mixture(jnp.exp(learned), of_concepts)
    belief = divergence(exact, jnp.log(jnp.maximum(mixture, jnp.finfo(jnp.float32).tiny)))
    return Split(belief, divergence(exact, learned) - belief)


def divergence(exact: Float[Array, "*B V"], log_other: Float[Array, "*B V"]) -> Float[Array, "*B"]:
    """KL(exact || other) over the tokens that exact allows, nats."""
    possible = exact > 0
    return jnp.where(possible, exact * (jnp.log(jnp.where(possible, exact, 1.0)) - log_other), 0.0).sum(-1)


def nearest_mixture(learned: Float[Array, "*B V"], of_concepts: Float[Array, "*B C V"]) -> Float[Array, "*B V"]:
    """The mixture with the least KL(learned || mixture), over the tokens that some concept allows.

    Expectation maximisation from equal weights: each step multiplies a concept's weight by the mean, under `learned`,
    of its prediction over the mixture's.
    """
    possible = of_concepts.sum(-2) > 0
    learned = jnp.where(possible, learned, 0.0)
    learned = learned / learned.sum(-1, keepdims=True)
    alive = (of_concepts.sum(-1) > 0).astype(of_concepts.dtype)

    def step(_, weights):
        mixture = jnp.einsum("...c,...cv->...v", weights, of_concepts)
        ratio = jnp.where(possible, learned / jnp.where(mixture > 0, mixture, 1.0), 0.0)
        return weights * jnp.einsum("...v,...cv->...c", ratio, of_concepts)

    weights = jax.lax.fori_loop(0, EM_STEPS, step, alive / alive.sum(-1, keepdims=True))
    return jnp.einsum("...c,...cv->...v", weights, of_concepts)
