"""Assisted generation: a draft proposes, the target verifies, both go back to what was accepted.

Leviathan et al. 2023 (arXiv 2211.17192), Chen et al. 2023 (arXiv 2302.01318), and greedily as in Hugging Face's
assisted generation. A round, for a row whose text has n tokens: the draft has read n - 2 of them and the target
n - 1; the draft reads two and proposes up to gamma more, the target reads the last of the n and all proposals at
once; proposals are kept up to the first that the target refuses, and one token is the target's own. Going back is
only a matter of lengths. All rounds of all rows are one compiled loop; rows advance by themselves.
"""

import dataclasses
import functools
import time
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from decoding import speedup
from decoding.checks import whole
from decoding.generate import choose
from decoding.readers import Reader, as_reader, at
from decoding.sampling import PAD, Job, Sampling, check_job, check_sampling, distribution, draw
from icl_synth import checkpoints, checks
from icl_synth.concept_hmm import ConceptHMM

Schedule = Literal["constant", "heuristic", "confidence", "optimal"]
SURE = 20  # proposals examined before the optimal schedule may give up drafting


class Assisted(NamedTuple):
    """What was generated and how. In `round` and `drafted` a prompt's tokens are 0 and False, PAD's too."""

    tokens: Int[Array, "B M"]  # as from generate
    rounds: Int[Array, " B"]  # of drafting and verifying
    accepted: Int[Array, "B G"]  # rounds in which proposal g was accepted
    examined: Int[Array, "B G"]  # rounds in which all before proposal g were accepted, so that g's own fate counted
    drafted: Bool[Array, "B M"]  # tokens that the draft proposed; the others are the target's own
    round: Int[Array, "B M"]  # in which a token was added, from 1; the first new one is the prefill's, round 0
    seconds: float  # of this call, with compilation if it was the first of its shapes, but without measuring costs

    @property
    def acceptance(self) -> float:
        """Share of the examined proposals that was accepted: alpha."""
        return float(self.accepted.sum()) / max(1.0, float(self.examined.sum()))


class Plan(NamedTuple):
    """How many tokens are drafted in a round: what is compiled."""

    schedule: Schedule
    start: int  # proposals of the first round
    most: int  # proposals of any round
    widths: tuple[int, ...]  # of the verifying windows


def assisted_generate(
    target: checkpoints.Model | ConceptHMM | Reader,
    draft: checkpoints.Model | ConceptHMM | Reader,
    prompt: Int[Array | np.ndarray, "B L"],
    num_tokens: int,
    *,
    num_draft: int = 5,
    schedule: Schedule = "constant",
    confidence: float = 0.4,
    costs: speedup.Costs | None = None,
    lengths: Int[Array | np.ndarray, " B"] | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: int | None = None,
    key: Key[Array, ""] | None = None,
) -> Assisted:
    """The target's own text, made faster by a draft: identical to `generate(target, ...)` where greedy, in float32
    up to ties; drawn from the same distribution above temperature 0.

    schedule: how many tokens are drafted in a round. "constant": num_draft. "heuristic": num_draft at first, two more
    after a round that was accepted whole, else one fewer. "confidence": up to and with the first token for which the
    draft's likeliest has, at temperature 1, less than `confidence`, whatever num_draft. "optimal": what promises most
    tokens a second, from the acceptance so far and `costs`, which are measured first, some seconds, if not given: to
    generate more than once, give them; none at all, for the rest of the call, once `SURE` proposals have shown that
    the draft does not pay. A schedule drafts at most `speedup.MOST` tokens a round, or num_draft if that is more.
    Other arguments and errors as `generate`; besides, ValueError for vocabularies that differ, num_draft < 1, an
    unknown schedule, a confidence outside 0 to 1, costs that lack a window or by which a round takes no time.
    """
    target, draft = as_reader(target), as_reader(draft)
    if target.vocab_size != draft.vocab_size:
        raise ValueError(f"the target has {target.vocab_size} tokens, the draft {draft.vocab_size}: they must agree")
    num_draft = whole("num_draft", num_draft, 1)
    if schedule not in get_args(Schedule):
        raise ValueError(f"unknown schedule {schedule!r}: choose one of {', '.join(get_args(Schedule))}")
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    how = check_sampling(temperature, top_k, top_p, key, target.vocab_size)
    job, num_tokens, stop = check_job({"target": target, "draft": draft}, prompt, lengths, num_tokens, stop)
    if schedule == "constant":
        plan = Plan(schedule, num_draft, num_draft, (num_draft + 1,))
    else:
        most = min(max(num_draft, speedup.MOST), num_tokens)
        plan = Plan(schedule, min(num_draft, most), most, speedup.windows(most))
    if schedule == "optimal":
        costs = costs or speedup.measure(target, draft, len(job.tokens), job.tokens.shape[1] + num_tokens, most)
        rounds = [costs.round(gamma) for gamma in range(plan.most + 1)]
        checks.positive(**{"seconds of a round by costs": min(rounds)})
        spent = jnp.asarray(rounds, jnp.float32)
    else:
        spent = jnp.zeros(plan.most + 1)
    key = jax.random.key(0) if key is None else key
    began = time.perf_counter()
    found = _assist(target, draft, job, how, plan, key, jnp.float32(confidence), spent, num_tokens, stop)
    return jax.block_until_ready(found)._replace(seconds=time.perf_counter() - began)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Loop:
    """The texts so far with their history, the two states, and how many tokens each row drafts next."""

    tokens: Int[Array, "B S"]
    length: Int[Array, "B"]
    stopped: Bool[Array, "B"]
    target: Any
    draft: Any
    wanted: Int[Array, "B"]
    rounds: Int[Array, "B"]
    accepted: Int[Array, "B G"]
    examined: Int[Array, "B G"]
    drafted: Bool[Array, "B S"]
    round: Int[Array, "B S"]


@functools.partial(jax.jit, static_argnums=(4, 8, 9))
def _assist(
    target: Reader,
    draft: Reader,
    job: Job,
    how: Sampling,
    plan: Plan,
    key: Array,
    confidence: Array,
    spent: Float[Array, "G1"],
    num_tokens: int,
    stop: int | None,
) -> Assisted:
    batch, longest = job.tokens.shape
    window = plan.most + 1
    room = longest + num_tokens
    places = jnp.arange(window)
    write = jax.vmap(lambda old, new, start: jax.lax.dynamic_update_slice(old, new, (start,)))

    def active(loop: Loop) -> Bool[Array, "B"]:
        return ~loop.stopped & (loop.length < job.ends)

    def turn(loop: Loop) -> Loop:
        round_key = jax.random.fold_in(key, loop.rounds.max() + 1)
        to_draft, to_accept, to_add = (jax.random.fold_in(round_key, use) for use in range(3))
        live, n = active(loop), loop.length
        wanted = jnp.where(live, jnp.minimum(loop.wanted, job.ends - n - 1), 0)
        if plan.schedule == "optimal":
            given_up = (loop.wanted == 0).all()
            empty = (*nothing(), wanted)
            proposals, q, wanted, draft_state = jax.lax.cond(
                given_up, lambda: (*empty, loop.draft), lambda: propose(loop, wanted, to_draft)
            )
        else:
            proposals, q, wanted, draft_state = propose(loop, wanted, to_draft)
        last = jnp.take_along_axis(loop.tokens, n[:, None] - 1, axis=1)
        logits, target_state = verify(jnp.concatenate([last, proposals], axis=1), at(loop.target, n - 1), wanted)
        if how.greedy:
            kept, own = keep_equal(proposals, wanted, logits)
        else:
            kept, own = keep_likely(proposals, wanted, distribution(logits, how), q, to_accept, to_add)
        drafted = places < kept[:, None]
        added = jnp.where(drafted, jnp.pad(proposals, ((0, 0), (0, 1))), own[:, None])
        count = jnp.where(live, jnp.minimum(kept + 1, job.ends - n), 0)
        stopped = loop.stopped
        if stop is not None:
            ends_here = (added == stop) & (places < count[:, None])
            stopped |= ends_here.any(1)
            count = jnp.where(ends_here.any(1), ends_here.argmax(1) + 1, count)
        length, rounds = n + count, loop.rounds + live
        # what follows a stop token was proposed for nothing and tells nothing
        examined = places[:-1] < jnp.minimum(jnp.minimum(kept + 1, wanted), count)[:, None]
        accepted = loop.accepted + (places[:-1] < jnp.minimum(kept, count)[:, None])
        examined = loop.examined + examined
        return Loop(
            tokens=write(loop.tokens, added, n),
            length=length,
            stopped=stopped,
            target=at(target_state, length - 1),
            draft=at(draft_state, length - 2),
            wanted=next_wanted(loop.wanted, wanted, kept, accepted, examined),
            rounds=rounds,
            accepted=accepted,
            examined=examined,
            drafted=write(loop.drafted, drafted, n),
            round=write(loop.round, jnp.broadcast_to(rounds[:, None], added.shape), n),
        )

    def nothing() -> tuple[Array, Array]:
        """No proposals, drawn from nothing."""
        q = jnp.zeros((batch, 0 if how.greedy else plan.most, draft.vocab_size))
        return jnp.zeros((batch, plan.most), jnp.int32), q

    def propose(loop: Loop, wanted: Array, draft_key: Array) -> tuple[Array, Array, Array, Any]:
        """Up to plan.most tokens a row, what they were drawn from, how many each row wants, the draft's state."""

        def add(place: Array | int, proposals: Array, q: Array, wanted: Array, logits: Array) -> tuple[Array, ...]:
            if how.greedy:
                token = choose(logits, how, draft_key)
            else:
                probs = distribution(logits, how)
                token = draw(jax.random.fold_in(draft_key, place), probs)
                q = jax.lax.dynamic_update_index_in_dim(q, probs, place, 1)
            if plan.schedule == "confidence":
                top = jax.nn.softmax(logits).max(-1)
                wanted = jnp.where(top < confidence, jnp.minimum(wanted, place + 1), wanted)
            return jax.lax.dynamic_update_index_in_dim(proposals, token, place, 1), q, wanted

        def more(carry: tuple) -> tuple:
            place, proposals, q, wanted, state = carry
            newest = jax.lax.dynamic_slice_in_dim(proposals, place - 1, 1, axis=1)
            logits, state = draft.read(newest, state)
            return (place + 1, *add(place, proposals, q, wanted, logits[:, 0]), state)

        pair = jnp.take_along_axis(loop.tokens, loop.length[:, None] + jnp.arange(-2, 0), axis=1)
        logits, state = draft.read(pair, at(loop.draft, loop.length - 2))
        carry = (1, *add(0, *nothing(), wanted, logits[:, 1]), state)
        carry = jax.lax.while_loop(lambda carry: (carry[0] < carry[3]).any(), more, carry)
        return carry[1:]

    def verify(tokens: Int[Array, "B W"], state: Any, wanted: Array) -> tuple[Array, Any]:
        """The target's logits after the last token and after every proposal, from a window no wider than needed."""
        if len(plan.widths) == 1:
            return target.read(tokens, state)

        def through(width: int) -> Any:
            def read(tokens: Array, state: Any) -> tuple[Array, Any]:
                logits, state = target.read(tokens[:, :width], state)
                return jnp.pad(logits, ((0, 0), (0, window - width), (0, 0))), state

            return read

        enough = jnp.searchsorted(jnp.array(plan.widths), wanted.max() + 1)
        return jax.lax.switch(enough, [through(width) for width in plan.widths], tokens, state)

    def next_wanted(before: Array, wanted: Array, kept: Array, accepted: Array, examined: Array) -> Array:
        if plan.schedule == "heuristic":
            after = jnp.where(kept == wanted, before + 2, before - 1)
            return jnp.clip(after, 1, plan.most)
        if plan.schedule == "optimal":
            alpha = (accepted.sum() + 1) / (examined.sum() + 2)
            rate = jnp.cumsum(alpha ** jnp.arange(plan.most + 1)) / spent
            rate = rate.at[0].set(jnp.where(examined.sum() < SURE, 0.0, rate[0]))
            return jnp.where(before > 0, rate.argmax(), 0).astype(jnp.int32)  # given up for good: nothing more is seen
        return before

    tokens = jnp.pad(job.tokens, ((0, 0), (0, num_tokens + window)))
    logits, target_state = target.prefill(job.tokens, job.lengths, target.start(batch, room, window))
    _, draft_state = draft.prefill(job.tokens, job.lengths - 1, draft.start(batch, room, window))
    first = choose(logits, how, jax.random.fold_in(key, 0))
    none = jnp.zeros((batch, plan.most), jnp.int32)
    loop = Loop(
        tokens=tokens.at[jnp.arange(batch), job.lengths].set(first),
        length=job.lengths + 1,
        stopped=first == stop if stop is not None else jnp.zeros(batch, bool),
        target=target_state,
        draft=draft_state,
        wanted=jnp.full(batch, plan.most if plan.schedule == "confidence" else plan.start, jnp.int32),
        rounds=jnp.zeros(batch, jnp.int32),
        accepted=none,
        examined=none,
        drafted=jnp.zeros(tokens.shape, bool),
        round=jnp.zeros(tokens.shape, jnp.int32),
    )
    loop = jax.lax.while_loop(lambda loop: active(loop).any(), turn, loop)
    within = jnp.arange(room) < loop.length[:, None]
    return Assisted(
        tokens=jnp.where(within, loop.tokens[:, :room], PAD),
        rounds=loop.rounds,
        accepted=loop.accepted,
        examined=loop.examined,
        drafted=loop.drafted[:, :room] & within,
        round=jnp.where(within, loop.round[:, :room], 0),
        seconds=0.0,  # the caller's to tell
    )


def keep_equal(
    proposals: Int[Array, "B G"], wanted: Int[Array, "B"], logits: Float[Array, "B W V"]
) -> tuple[Int[Array, "B"], Int[Array, "B"]]:
    """Greedy: how many proposals are what the target would have said, and what it says after those."""
    best = logits.argmax(-1).astype(jnp.int32)
    equal = (proposals == best[:, :-1]) & (jnp.arange(proposals.shape[1]) < wanted[:, None])
    kept = jnp.cumprod(equal, axis=1).sum(1)
    return kept, jnp.take_along_axis(best, kept[:, None], axis=1)[:, 0]


def keep_likely(
    proposals: Int[Array, "B G"],
    wanted: Int[Array, "B"],
    p: Float[Array, "B W V"],
    q: Float[Array, "B G V"],
    to_accept: Key[Array, ""],
    to_add: Key[Array, ""],
) -> tuple[Int[Array, "B"], Int[Array, "B"]]:
    """Sampled: a proposal x stands with probability min(1, p(x) / q(x)); after the last that does, a token from
    norm(max(0, p - q)), or from p where none was refused (Leviathan et al. 2023, Algorithm 1)."""
    chosen = proposals[..., None]
    p_chosen = jnp.take_along_axis(p[:, :-1], chosen, axis=2)[..., 0]
    q_chosen = jnp.take_along_axis(q, chosen, axis=2)[..., 0]
    stands = jax.random.uniform(to_accept, proposals.shape) * q_chosen < p_chosen
    stands &= jnp.arange(proposals.shape[1]) < wanted[:, None]
    kept = jnp.cumprod(stands, axis=1).sum(1)
    here = kept[:, None, None]
    p_here = jnp.take_along_axis(p, here, axis=1)[:, 0]
    q_here = jnp.take_along_axis(q, jnp.minimum(here, q.shape[1] - 1), axis=1)[:, 0]
    rest = jnp.where((kept < wanted)[:, None], jnp.maximum(p_here - q_here, 0.0), p_here)
    # p and q may be equal but for rounding, and a proposal still be refused: then nothing is left but p itself
    rest = jnp.where(rest.sum(1, keepdims=True) > 0, rest, p_here)
    return kept, draw(to_add, rest)
