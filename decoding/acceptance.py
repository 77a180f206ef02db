"""Which proposals stand, and the token that the target adds after them: Leviathan et al. 2023, Algorithm 1."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from decoding.sampling import Sampling, distribution, draw


def accept(
    proposals: Int[Array, "B G"],
    wanted: Int[Array, "B"],
    logits: Float[Array, "B W V"],
    q: Float[Array, "B Q V"],
    how: Sampling,
    to_accept: Key[Array, ""],
    to_add: Key[Array, ""],
) -> tuple[Int[Array, "B"], Int[Array, "B"]]:
    """How many of each row's first `wanted` proposals stand, and the token after those.

    logits: the target's after the last committed token and after each proposal, W = G + 1. q: the distributions that
    the proposals were drawn from, Q = G; Q = 0 where greedy.
    """
    if how.greedy:
        return keep_equal(proposals, wanted, logits)
    return keep_likely(proposals, wanted, distribution(logits, how), q, to_accept, to_add)


def keep_equal(
    proposals: Int[Array, "B G"], wanted: Int[Array, "B"], logits: Float[Array, "B W V"]
) -> tuple[Int[Array, "B"], Int[Array, "B"]]:
    """Greedy: proposals stand up to the first that is not the target's own choice, which is then added."""
    best = logits.argmax(-1).astype(jnp.int32)
    kept = leading(proposals == best[:, :-1], wanted)
    return kept, jnp.take_along_axis(best, kept[:, None], axis=1)[:, 0]


def keep_likely(
    proposals: Int[Array, "B G"],
    wanted: Int[Array, "B"],
    p: Float[Array, "B W V"],
    q: Float[Array, "B G V"],
    to_accept: Key[Array, ""],
    to_add: Key[Array, ""],
) -> tuple[Int[Array, "B"], Int[Array, "B"]]:
    """Sampled: a proposal x stands with probability min(1, p(x) / q(x)), up to the first that is refused.

    Added is a token from norm(max(0, p - q)) at the refused place, or from p after the last where none was refused.
    """
    chosen = proposals[..., None]
    p_chosen = jnp.take_along_axis(p[:, :-1], chosen, axis=2)[..., 0]
    q_chosen = jnp.take_along_axis(q, chosen, axis=2)[..., 0]
    kept = leading(jax.random.uniform(to_accept, proposals.shape, jnp.float32) * q_chosen < p_chosen, wanted)
    here = kept[:, None, None]
    p_here = jnp.take_along_axis(p, here, axis=1)[:, 0]
    q_here = jnp.take_along_axis(q, jnp.minimum(here, q.shape[1] - 1), axis=1)[:, 0]
    rest = jnp.where((kept < wanted)[:, None], jnp.maximum(p_here - q_here, 0.0), p_here)
    # p and q may be equal but for rounding and a proposal still be refused: then only p itself is left
    rest = jnp.where(rest.sum(1, keepdims=True) > 0, rest, p_here)
    return kept, draw(to_add, rest)


def leading(stands: Bool[Array, "B G"], wanted: Int[Array, "B"]) -> Int[Array, "B"]:
    """How many of the first `wanted` stand before the first that does not."""
    stands &= jnp.arange(stands.shape[1]) < wanted[:, None]
    return jnp.cumprod(stands, axis=1, dtype=jnp.int32).sum(1, dtype=jnp.int32)
