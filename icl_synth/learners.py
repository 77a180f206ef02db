"""Two readers of a document whose concept may be none that they know: one remembers concepts, one counts moves."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from icl_synth import bayes
from icl_synth.concept_hmm import ConceptHMM

SCALINGS = 8  # alternations of columns and rows, after which both sum to one


@bayes.checked
@jax.jit
def remembered_log_probs(
    hmm: ConceptHMM, tokens: Int[Array, "B L"], smoothing: bayes.Smoothing = 0.0
) -> Float[Array, "B L V"]:
    """`bayes.next_token_log_probs` for thousands of concepts: the states of all are summed before they emit.

    It holds no [B C V] array; a concept that trails by more than float32 can tell adds nothing.
    """
    emits = _emissions(hmm)

    def step(belief, token):
        states = bayes.einsum("bc,bcep->bep", jnp.exp(belief.log_concepts), belief.states)
        log_probs = jnp.log(bayes.einsum("bep,epv->bv", states, emits))
        return bayes.advance(hmm, bayes.observe(hmm, belief, token)[0], smoothing), log_probs

    return jax.lax.scan(step, bayes.prior(hmm, len(tokens)), tokens.T)[1].swapaxes(0, 1)


@functools.partial(jax.jit, static_argnames="prior")
def counted_log_probs(hmm: ConceptHMM, tokens: Int[Array, "B L"], prior: float = 1.0) -> Float[Array, "B L V"]:
    """log p(x_t = v | x_<t) for a reader who knows the tokens and the entities' moves, and no concept.

    It filters the state and counts how often each property is expected to have followed each other so far. A row of
    its matrix of moves begins as `prior` moves spread over all properties, the mean of a Dirichlet distribution, and
    the matrix is scaled until its columns sum to one as its rows do, for a concept mixes permutations. It is not exact
    Bayes with the prior of concepts, which cannot be computed, and so an upper bound of that reader's loss.
    """
    emits, P = _emissions(hmm), hmm.num_properties
    entities = hmm.entity_transitions if hmm.entities_shared else hmm.entity_transitions.mean(0)

    def read(row: Int[Array, "L"]) -> Float[Array, "L V"]:
        def step(carry, at):
            states, counts = carry  # by the property before, the property and the entity now
            token, moved = at
            log_probs = jnp.log(bayes.einsum("pqf,fqv->v", states, emits))
            seen = jnp.where((hmm.memory == token).T, states, 0.0)
            seen /= seen.sum()
            counts += moved * seen.sum(2)
            now = bayes.einsum("pqf,fg->qg", seen, entities)
            return (now[:, None] * _moves(counts, prior)[:, :, None], counts), log_probs

        start = hmm.start.mean(0).T / P  # the first token follows none
        carry = jnp.broadcast_to(start, (P, *start.shape)), jnp.zeros((P, P))
        return jax.lax.scan(step, carry, (row, jnp.arange(len(row)) > 0))[1]

    return bayes.map_in_batches(read, tokens, 64)


def _emissions(hmm: ConceptHMM) -> Float[Array, "E P V"]:
    return jax.nn.one_hot(hmm.memory, hmm.vocab_size, dtype=jnp.float32)


def _moves(counts: Float[Array, "P P"], prior: float) -> Float[Array, "P P"]:
    matrix = counts + prior / len(counts)
    for _ in range(SCALINGS):
        matrix /= matrix.sum(0)
        matrix /= matrix.sum(1, keepdims=True)
    return matrix
