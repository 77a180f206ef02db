"""Exact Bayes over documents and prompts: the ceiling that every model is held against.

A forward filter over (concept, entity, property). The transition is a Kronecker product, so a step multiplies by
the property matrix and then by the entity matrix, never by the 100 x 100 product. Each concept's filter is
normalised by itself and its likelihood is kept as a logarithm, so a concept that trails by hundreds of nats can
still take over when an impossible transition rules out the leader.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from icl_synth.concept_hmm import ConceptHMM


class _Filter(NamedTuple):
    """p(state | x_<t, concept), log p(concept | x_<t), and whether x_<t is possible at all."""

    states: Float[Array, "B C E P"]
    log_weights: Float[Array, "B C"]
    possible: Array


def _initial(hmm: ConceptHMM, batch: int) -> _Filter:
    C = hmm.num_concepts
    states = jnp.broadcast_to(hmm.start, (batch, *hmm.start.shape))
    return _Filter(states, jnp.full((batch, C), -jnp.log(C)), jnp.ones(batch, bool))


def _observe(hmm: ConceptHMM, belief: _Filter, tokens: Int[Array, "B"]) -> tuple[_Filter, Float[Array, "B"]]:
    """Condition on one token a document; also its log-probability in nats."""
    states = jnp.where((hmm.memory == tokens[:, None, None])[:, None], belief.states, 0.0)
    evidence = states.sum((2, 3))
    joint = belief.log_weights + jnp.log(evidence)
    log_prob = jax.nn.logsumexp(joint, axis=1)
    possible = belief.possible & (log_prob > -jnp.inf)
    states = states / jnp.where(evidence > 0, evidence, 1.0)[:, :, None, None]
    log_weights = jnp.where(possible[:, None], joint - log_prob[:, None], belief.log_weights)
    return _Filter(states, log_weights, possible), jnp.where(possible, log_prob, -jnp.inf)


def _advance(hmm: ConceptHMM, belief: _Filter, smoothing: float) -> _Filter:
    """One transition, (1 - smoothing) * T + smoothing / (E * P)."""
    states = jnp.einsum("bcep,cpq->bceq", belief.states, hmm.property_transitions)
    entity_axes = "ef" if hmm.entities_shared else "cef"
    states = jnp.einsum(f"bcep,{entity_axes}->bcfp", states, hmm.entity_transitions)
    uniform = belief.states.sum((2, 3), keepdims=True) / hmm.memory.size
    return belief._replace(states=(1 - smoothing) * states + smoothing * uniform)


@functools.partial(jax.jit, static_argnames="smoothing")
def token_log_likelihoods(
    hmm: ConceptHMM, tokens: Int[Array, "B L"], smoothing: float = 0.0
) -> Float[Array, "B L"]:
    """log p(x_t | x_<t) of the tokens themselves, in nats; position 0 from the start distribution.

    Minus its mean is the loss of an ideal model on these tokens. An impossible token and all after it hold -inf.
    """

    def step(belief, token):
        belief, log_prob = _observe(hmm, belief, token)
        return _advance(hmm, belief, smoothing), log_prob

    return jax.lax.scan(step, _initial(hmm, tokens.shape[0]), tokens.T)[1].T
