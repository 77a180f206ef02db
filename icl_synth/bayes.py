"""Exact Bayes over documents and prompts: the ceiling that every model is held against.

A forward filter over (concept, entity, property). The transition is a Kronecker product, so a step multiplies by
the property matrix and then by the entity matrix, never by their 100 x 100 product. The filter of each concept is
normalised separately and its likelihood is kept as a logarithm, so that a concept that trails by hundreds of nats
can still take over when an impossible move rules out the leader.

In all functions the concept is uniform a priori and log-probabilities are in nats. `smoothing` replaces each
transition T by (1 - smoothing) * T + smoothing / (E * P), which gives spliced prompts a likelihood above zero. An
impossible token has log-probability -inf, never NaN, and so has every token after it: no prediction is defined
there. Functions of documents or prompts raise ValueError for a smoothing outside [0, 1]. Arithmetic is in float32.
"""

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from icl_synth import checks
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.prompt_layout import split_prompts

Smoothing = float | Float[Array, ""]
einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)  # a GPU's default keeps ten bits


def checked(function: Callable) -> Callable:
    """Validate smoothing and noise before jit, where they are tracers."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def validated(*arguments, **named):
        given = signature.bind(*arguments, **named).arguments
        checks.within(0, 1, smoothing=given.get("smoothing", 0.0))
        checks.within(0, 0.5, noise=given.get("noise", 0.0))
        return function(*arguments, **named)

    return validated


def in_float32(share: Smoothing) -> Smoothing:
    """An array in float32, which under jax_enable_x64 may have come in float64; a Python number takes any precision."""
    return share if isinstance(share, float) else jnp.asarray(share, jnp.float32)


class Belief(NamedTuple):
    """Beliefs about the state at t given x_<t: p(state | concept), log p(concept), and whether x_<t can occur."""

    states: Float[Array, "B C E P"]
    log_concepts: Float[Array, "B C"]
    possible: Bool[Array, "B"]


def prior(hmm: ConceptHMM, batch: int) -> Belief:
    """The belief before the first token: a uniform concept, states from the start distribution."""
    concepts = jnp.full((batch, hmm.num_concepts), -jnp.log(jnp.float32(hmm.num_concepts)))
    return Belief(jnp.broadcast_to(hmm.start, (batch, *hmm.start.shape)), concepts, jnp.ones(batch, bool))


def observe(hmm: ConceptHMM, belief: Belief, tokens: Int[Array, "B"]) -> tuple[Belief, Float[Array, "B"]]:
    """Condition on the token emitted now; also return its log-probability.

    An impossible token leaves the beliefs about the concept as they were.
    """
    states = jnp.where((hmm.memory == tokens[:, None, None])[:, None], belief.states, 0.0)
    evidence = states.sum((2, 3))
    joint = belief.log_concepts + jnp.log(evidence)
    log_prob = jax.nn.logsumexp(joint, axis=1)
    possible = belief.possible & (log_prob > -jnp.inf)
    states = states / jnp.where(evidence > 0, evidence, 1.0)[:, :, None, None]
    log_concepts = jnp.where(possible[:, None], joint - log_prob[:, None], belief.log_concepts)
    return Belief(states, log_concepts, possible), jnp.where(possible, log_prob, -jnp.inf)


def advance(hmm: ConceptHMM, belief: Belief, smoothing: Smoothing = 0.0) -> Belief:
    """Move the state by one transition."""
    states = einsum("bcep,cpq->bceq", belief.states, hmm.property_transitions)
    entity_axes = "ef" if hmm.entities_shared else "cef"
    states = einsum(f"bcep,{entity_axes}->bcfp", states, hmm.entity_transitions)
    uniform = belief.states.sum((2, 3), keepdims=True) / hmm.memory.size
    return belief._replace(states=_smooth(states, uniform, smoothing))


def _smooth(moved: Float[Array, "*S"], uniform: Float[Array, "*#S"], smoothing: Smoothing) -> Float[Array, "*S"]:
    smoothing = in_float32(smoothing)
    return (1 - smoothing) * moved + smoothing * uniform


def predict(hmm: ConceptHMM, belief: Belief) -> Float[Array, "B V"]:
    """Log-probability of every token to be emitted now."""
    emits = jax.nn.one_hot(hmm.memory, hmm.vocab_size, dtype=jnp.float32)
    tokens = jnp.log(einsum("bcep,epv->bcv", belief.states, emits))
    log_probs = jax.nn.logsumexp(belief.log_concepts[:, :, None] + tokens, axis=1)
    return jnp.where(belief.possible[:, None], log_probs, -jnp.inf)


@checked
@jax.jit
def token_log_likelihoods(
    hmm: ConceptHMM, tokens: Int[Array, "B L"], smoothing: Smoothing = 0.0
) -> Float[Array, "B L"]:
    """log p(x_t | x_<t) of the tokens themselves. Minus its mean is the loss of an ideal model on these tokens."""

    def step(belief, token):
        belief, log_prob = observe(hmm, belief, token)
        return advance(hmm, belief, smoothing), log_prob

    return jax.lax.scan(step, prior(hmm, len(tokens)), tokens.T)[1].T


@checked
@jax.jit
def next_token_log_probs(
    hmm: ConceptHMM, tokens: Int[Array, "B L"], smoothing: Smoothing = 0.0
) -> Float[Array, "B L V"]:
    """Position t holds log p(x_t = v | x_<t) for every token v; t = 0 comes from the start distribution."""

    def step(belief, token):
        log_probs = predict(hmm, belief)
        return advance(hmm, observe(hmm, belief, token)[0], smoothing), log_probs

    return jax.lax.scan(step, prior(hmm, len(tokens)), tokens.T)[1].swapaxes(0, 1)


@checked
@jax.jit
def concept_posterior(hmm: ConceptHMM, tokens: Int[Array, "B L"], smoothing: Smoothing = 0.0) -> Float[Array, "B L C"]:
    """p(concept | x_<=t) at position t. From an impossible token on, the last defined posterior stays."""

    def step(belief, token):
        belief = observe(hmm, belief, token)[0]
        return advance(hmm, belief, smoothing), jnp.exp(belief.log_concepts)

    return jax.lax.scan(step, prior(hmm, len(tokens)), tokens.T)[1].swapaxes(0, 1)


@checked
@functools.partial(jax.jit, static_argnames="example_length")
def prompt_log_probs(
    hmm: ConceptHMM, tokens: Int[Array, "B L"], example_length: int, smoothing: Smoothing = 0.0
) -> Float[Array, "B V"]:
    """Log-probability of every label, for a reader who knows how prompts are made.

    It knows that examples of `example_length` tokens, the last without its label, are joined by a delimiter; that
    each starts afresh with a uniform entity; and that all share one concept and one unknown start property, uniform
    over 1..P-1. Tokens as from `prompts.sample_prompts`. Raises ValueError where no prompt has L tokens.
    """

    def answer(prompt: Int[Array, "L"]) -> Float[Array, "V"]:
        examples, test = split_prompts(prompt, example_length)
        belief = _after_examples(hmm, _log_likelihood_by_start(hmm, examples, smoothing).sum(0))

        def step(belief, token):
            return advance(hmm, observe(hmm, belief, token[None])[0], smoothing), None

        return predict(hmm, jax.lax.scan(step, belief, test)[0])[0]

    return map_in_batches(answer, tokens, 64)


def _after_examples(hmm: ConceptHMM, log_starts: Float[Array, "C P"]) -> Belief:
    """The belief at the first token of the test input, given log p(examples | concept, start property)."""
    log_starts = log_starts.at[:, 0].set(-jnp.inf)  # no example starts at the delimiter's property
    evidence = jax.nn.logsumexp(log_starts)
    log_starts -= jnp.where(evidence > -jnp.inf, evidence, 0.0)
    log_concepts = jax.nn.logsumexp(log_starts, axis=1)
    of_concept = jnp.exp(log_starts - jnp.where(log_concepts > -jnp.inf, log_concepts, 0.0)[:, None])
    states = jnp.broadcast_to(of_concept[:, None] / hmm.num_entities, hmm.start.shape)
    return Belief(states[None], log_concepts[None], (evidence > -jnp.inf)[None])


def map_in_batches(function: Callable, rows: Shaped[Array | np.ndarray, "B ..."], size: int) -> PyTree:
    """function of every row, `size` rows at a time.

    Copies of the first row fill up the last batch: `jax.lax.map` would compile the remainder separately.
    """
    checks.at_least(1, prompts=len(rows))
    size = min(size, len(rows))
    padded = jnp.concatenate([rows, jnp.repeat(rows[:1], -len(rows) % size, axis=0)])
    return jax.tree.map(lambda x: x[: len(rows)], jax.lax.map(function, padded, batch_size=size))


def _log_likelihood_by_start(
    hmm: ConceptHMM, examples: Int[Array, "N K"], smoothing: Smoothing
) -> Float[Array, "N C P"]:
    """log p(example | concept, start property), entity uniform: backwards, so that one pass serves every start."""
    axes = "ef" if hmm.entities_shared else "cef"

    def observe_back(message, token):
        seen = jnp.where((hmm.memory == token[:, None, None])[:, None], message[0], 0.0)
        largest = seen.max((2, 3), keepdims=True)
        return seen / jnp.where(largest > 0, largest, 1.0), message[1] + jnp.log(largest[:, :, 0])

    def step(message, token):
        seen, log_scale = observe_back(message, token)
        moved = einsum("ncfq,cpq->ncfp", seen, hmm.property_transitions)
        moved = einsum(f"ncfp,{axes}->ncep", moved, hmm.entity_transitions)
        return (_smooth(moved, seen.mean((2, 3), keepdims=True), smoothing), log_scale), None

    shape = (examples.shape[0], *hmm.start.shape)
    last = jnp.ones(shape, jnp.float32), jnp.zeros((*shape[:2], 1), jnp.float32)
    message, _ = jax.lax.scan(step, last, examples[:, :0:-1].T)
    seen, log_scale = observe_back(message, examples[:, 0])
    return jnp.log(seen.mean(2)) + log_scale
