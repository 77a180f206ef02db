"""Shuffle Dyck: brackets of several kinds, each balanced for itself, while kinds may cross (Suzgun et al. 2019).

As Hu et al. 2025 (arXiv 2502.19249) draw them for pretraining. A bracket opens where none is open, closes at the
greatest depth, and otherwise opens with a fixed probability. The kind that opens is uniform over all kinds; the kind
that closes is uniform over those that are open. Token b opens kind b, token K + b closes it. A document ends where it
is cut, so its last brackets may be open.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from icl_synth import checks

OPENS = 0.51  # probability
DEEPEST = 8  # brackets that are open at once


@functools.partial(jax.jit, static_argnames=("num_documents", "length", "kinds"))
def sample_brackets(key: Key[Array, ""], num_documents: int, length: int, kinds: int) -> Int[Array, "B L"]:
    """Documents of B = num_documents, L = length. Raises ValueError for numbers below one."""
    checks.at_least(1, num_documents=num_documents, length=length, kinds=kinds)

    def step(open_now, key):
        moves = jax.random.categorical(key, jnp.log(moves_after(open_now)), axis=-1).astype(jnp.int32)
        return _moved(open_now, moves), moves

    nothing = jnp.zeros((num_documents, kinds), jnp.int32)
    _, moves = jax.lax.scan(step, nothing, jax.random.split(key, length))
    return moves.T


def moves_after(open_now: Int[Array, "B K"]) -> Float[Array, "B M"]:
    """Probabilities of the M = 2 K tokens where so many of each kind are open."""
    kinds, depth = open_now.shape[1], open_now.sum(1, keepdims=True)
    # Python floats alone would be of 64 bits under jax_enable_x64, and other brackets would be drawn
    opens = jnp.where(depth == 0, jnp.float32(1), jnp.where(depth >= DEEPEST, jnp.float32(0), jnp.float32(OPENS)))
    some: Bool[Array, "B K"] = open_now > 0
    closing = (1 - opens) * some / jnp.maximum(some.sum(1, keepdims=True), 1)
    return jnp.concatenate([jnp.broadcast_to(opens / kinds, open_now.shape), closing], axis=1)


def _moved(open_now: Int[Array, "B K"], moves: Int[Array, " B"]) -> Int[Array, "B K"]:
    kinds = open_now.shape[1]
    change = jnp.where(moves < kinds, 1, -1)[:, None]
    return open_now + change * jax.nn.one_hot(moves % kinds, kinds, dtype=jnp.int32)


@functools.partial(jax.jit, static_argnames="kinds")
def token_log_likelihoods(tokens: Int[Array, "B L"], kinds: int) -> Float[Array, "B L"]:
    """log p(x_t | x_<t) in nats, exactly: what is open is known. -inf for a token that closes nothing."""

    def step(open_now, moves):
        found = jnp.take_along_axis(jnp.log(moves_after(open_now)), moves[:, None], axis=1)[:, 0]
        return _moved(open_now, moves), found

    nothing = jnp.zeros((len(tokens), kinds), jnp.int32)
    return jax.lax.scan(step, nothing, jnp.asarray(tokens).T)[1].T
