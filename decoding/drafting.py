"""A round's proposals: what the draft says after the committed text, token by token."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from decoding import flaws
from decoding.readers import Reader
from decoding.sampling import Sampling, distribution, draw
from decoding.schedules import Plan


class Proposals(NamedTuple):
    """What the draft proposes in one round; in each row the first `wanted` tokens count."""

    tokens: Int[Array, "B G"]
    q: Float[Array, "B Q V"]  # the distributions that they were drawn from: Q = G, or 0 where greedy
    wanted: Int[Array, "B"]
    state: Any  # of the draft, after the tokens
    flawed: flaws.Flaws  # of the draft's logits, in this round and before


def no_proposals(
    draft: Reader, state: Any, wanted: Int[Array, "B"], plan: Plan, how: Sampling, flawed: flaws.Flaws
) -> Proposals:
    """Room for plan.most proposals, all of them token 0."""
    batch = len(wanted)
    q = jnp.zeros((batch, 0 if how.greedy else plan.most, draft.vocab_size), jnp.float32)
    return Proposals(jnp.zeros((batch, plan.most), jnp.int32), q, wanted, state, flawed)


def propose(
    draft: Reader,
    empty: Proposals,
    pair: Int[Array, "B 2"],
    length: Int[Array, "B"],
    plan: Plan,
    how: Sampling,
    key: Key[Array, ""],
) -> Proposals:
    """Fill in as many proposals as the row that wants most of them.

    pair: the last two of each row's `length` committed tokens. The draft's state stands before them: after a round
    that accepted everything it has not read its own last proposal.
    """

    def more(carry: tuple[Array, Proposals]) -> tuple[Array, Proposals]:
        place, made = carry
        newest = jax.lax.dynamic_slice_in_dim(made.tokens, place - 1, 1, axis=1)
        logits, state = draft.read(newest, made.state)
        return place + 1, add_proposal(made._replace(state=state), place, logits[:, 0], length, plan, how, key)

    logits, state = draft.read(pair, empty.state)
    first = add_proposal(empty._replace(state=state), jnp.int32(0), logits[:, 1], length, plan, how, key)
    _, made = jax.lax.while_loop(lambda carry: (carry[0] < carry[1].wanted).any(), more, (jnp.int32(1), first))
    return made


def add_proposal(
    made: Proposals,
    place: Int[Array, ""],
    logits: Float[Array, "B V"],
    length: Int[Array, "B"],
    plan: Plan,
    how: Sampling,
    key: Key[Array, ""],
) -> Proposals:
    """Choose the token at `place` from the draft's logits there.

    The confidence schedule stops a row with its first proposal made at a top probability, at temperature 1, below
    plan.confidence.
    """
    used = (place < made.wanted)[:, None]
    flawed = flaws.note(made.flawed, logits[:, None], how, length + place, used)
    q, wanted = made.q, made.wanted
    if how.greedy:
        token = logits.argmax(-1).astype(jnp.int32)
    else:
        probs = distribution(logits, how)
        token = draw(jax.random.fold_in(key, place), probs)
        q = jax.lax.dynamic_update_index_in_dim(q, probs, place, 1)
    if plan.schedule == "confidence":
        top = jax.nn.softmax(logits).max(-1)
        wanted = jnp.where(top < plan.confidence, jnp.minimum(wanted, place + 1), wanted)
    tokens = jax.lax.dynamic_update_index_in_dim(made.tokens, token, place, 1)
    return Proposals(tokens, q, wanted, made.state, flawed)
