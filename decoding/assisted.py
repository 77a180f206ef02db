"""Assisted generation: a draft proposes, the target verifies, both go back to what was accepted.

Leviathan et al. 2023 (arXiv 2211.17192), Chen et al. 2023 (arXiv 2302.01318); greedy as in Hugging Face's assisted
generation. At the start of a round a row's text has n tokens, of which the target has read n - 1 and the draft n - 2.
The draft reads two and proposes up to gamma tokens. The target reads the last of the n and all proposals at once.
Proposals are kept up to the first that the target refuses, and one token of the target's own is added. Going back
changes nothing but lengths. All rounds of all rows are one compiled loop, in which rows advance independently.
"""

import dataclasses
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from decoding import flaws, speedup
from decoding.acceptance import accept
from decoding.drafting import Proposals, no_proposals, propose
from decoding.job import PAD, Job, check_job, columns
from decoding.readers import Reader, as_reader, at
from decoding.sampling import Sampling, check_sampling, choose
from decoding.schedules import Plan, Schedule, check_plan, next_wanted, with_costs
from icl_synth import checkpoints
from icl_synth.concept_hmm import ConceptHMM


class Assisted(NamedTuple):
    """The texts and their history. In `round` and `drafted` prompts and PAD hold 0 and False."""

    tokens: Int[Array, "B M"]  # as from generate
    rounds: Int[Array, " B"]  # of drafting and verifying
    accepted: Int[Array, "B G"]  # rounds in which proposal g was accepted
    examined: Int[Array, "B G"]  # rounds in which all before proposal g were accepted, so that g's own fate counted
    drafted: Bool[Array, "B M"]  # tokens that the draft proposed; the others are the target's own
    round: Int[Array, "B M"]  # in which a token was added, from 1; the first new token is the prefill's, round 0
    seconds: float  # of this call: with compilation, if it was the first of its shapes; without measuring costs

    @property
    def acceptance(self) -> float:
        """Share of the examined proposals that was accepted: alpha."""
        return float(self.accepted.sum()) / max(1.0, float(self.examined.sum()))


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
    """The target's own text, made faster by a draft.

    Greedy text is that of `generate(target, ...)`, in float32 up to ties; text above temperature 0 is drawn from the
    same distribution. The schedule sets how many tokens are drafted in a round:

    - "constant": num_draft.
    - "heuristic": num_draft at first; two more after a round that was accepted whole, else one fewer.
    - "confidence": up to and with the first token whose probability as the draft's likeliest, at temperature 1, is
      below `confidence`, whatever num_draft.
    - "optimal": num_draft at first, then the number that promises most tokens per second by the acceptance so far and
      `costs`. Without `costs` these are measured first, which takes some seconds: give them to generate more than
      once. Once `schedules.SURE` proposals have shown that no number pays, the rest is plain generation.

    Schedules other than "constant" draft at most `speedup.MOST` tokens a round, or num_draft where that is more.
    Other arguments, compilation and errors are as for `generate`; the draft's logits are checked too. Besides, raises
    ValueError for vocabularies that differ, num_draft < 1, an unknown schedule, a confidence outside 0 to 1, and costs
    that lack a window.
    """
    target, draft = as_reader(target), as_reader(draft)
    if target.vocab_size != draft.vocab_size:
        raise ValueError(f"the target has {target.vocab_size} tokens, the draft {draft.vocab_size}: they must agree")
    how = check_sampling(temperature, top_k, top_p, key, target.vocab_size)
    job, width = check_job({"target": target, "draft": draft}, prompt, lengths, num_tokens, stop)
    plan = check_plan(schedule, num_draft, confidence, num_tokens)
    if schedule == "optimal":
        plan = with_costs(plan, costs or speedup.measure(target, draft, len(job.tokens), job.room, plan.most))
    key = jax.random.key(0) if key is None else key
    began = time.perf_counter()
    run, of_target, of_draft = jax.block_until_ready(_assist(target, draft, job, how, plan, key))
    seconds = time.perf_counter() - began
    flaws.refuse({"target": of_target, "draft": of_draft}, how)
    texts = {name: columns(getattr(run, name), width) for name in ("tokens", "drafted", "round")}
    return run._replace(**texts, seconds=seconds)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Loop:
    """The texts so far with their history, the two readers' states, and how many tokens each row drafts next.

    The target's state stands before the last token of each row, the draft's before the last two.
    """

    tokens: Int[Array, "B S"]
    length: Int[Array, "B"]
    stopped: Bool[Array, "B"]
    target: Any
    draft: Any
    target_flaws: flaws.Flaws
    draft_flaws: flaws.Flaws
    wanted: Int[Array, "B"]
    rounds: Int[Array, "B"]
    accepted: Int[Array, "B G"]
    examined: Int[Array, "B G"]
    drafted: Bool[Array, "B S"]
    round: Int[Array, "B S"]


@jax.jit
def _assist(
    target: Reader, draft: Reader, job: Job, how: Sampling, plan: Plan, key: Array
) -> tuple[Assisted, flaws.Flaws, flaws.Flaws]:
    """All rounds, compiled. The texts are as wide as the job's room, and the seconds are the caller's to tell."""
    loop = prefill(target, draft, job, how, plan, key)
    loop = jax.lax.while_loop(
        lambda loop: active(loop, job).any(), lambda loop: one_round(loop, target, draft, job, how, plan, key), loop
    )
    within = jnp.arange(job.room) < loop.length[:, None]
    tokens, drafted, turns = (array[:, : job.room] for array in (loop.tokens, loop.drafted, loop.round))
    texts = jnp.where(within, tokens, PAD), jnp.where(within, turns, 0)
    run = Assisted(texts[0], loop.rounds, loop.accepted, loop.examined, drafted & within, texts[1], 0.0)
    return run, loop.target_flaws, loop.draft_flaws


def prefill(target: Reader, draft: Reader, job: Job, how: Sampling, plan: Plan, key: Array) -> Loop:
    """Both readers after the prompts, the draft without their last token, and the target's first token added."""
    batch, longest = job.tokens.shape
    window = plan.most + 1
    tokens = jnp.pad(job.tokens, ((0, 0), (0, job.room - longest + window)))  # the last window may pass the room
    logits, target_state = target.prefill(job.tokens, job.lengths, target.start(batch, job.room, window))
    _, draft_state = draft.prefill(job.tokens, job.lengths - 1, draft.start(batch, job.room, window))
    first = choose(logits, how, jax.random.fold_in(key, 0))
    flawed = flaws.note(flaws.none(batch), logits[:, None], how, job.lengths, jnp.ones((batch, 1), bool))
    counts = jnp.zeros((batch, plan.most), jnp.int32)
    return Loop(
        tokens=tokens.at[jnp.arange(batch), job.lengths].set(first),
        length=job.lengths + 1,
        stopped=(first == job.stop) | flawed.any,
        target=target_state,
        draft=draft_state,
        target_flaws=flawed,
        draft_flaws=flaws.none(batch),
        wanted=jnp.full(batch, plan.start, jnp.int32),
        rounds=jnp.zeros(batch, jnp.int32),
        accepted=counts,
        examined=counts,
        drafted=jnp.zeros(tokens.shape, bool),
        round=jnp.zeros(tokens.shape, jnp.int32),
    )


def active(loop: Loop, job: Job) -> Bool[Array, "B"]:
    """Rows that go on."""
    return ~loop.stopped & (loop.length < job.ends)


def one_round(loop: Loop, target: Reader, draft: Reader, job: Job, how: Sampling, plan: Plan, key: Array) -> Loop:
    """Draft, verify, accept, commit: one round of every row that goes on."""
    round_key = jax.random.fold_in(key, loop.rounds.max() + 1)
    to_draft, to_accept, to_add = (jax.random.fold_in(round_key, use) for use in range(3))
    wanted = jnp.where(active(loop, job), jnp.minimum(loop.wanted, job.ends - loop.length - 1), 0)
    made = draft_some(loop, draft, wanted, how, plan, to_draft)
    last = jnp.take_along_axis(loop.tokens, loop.length[:, None] - 1, axis=1)
    window = jnp.concatenate([last, made.tokens], axis=1)
    logits, state = verify(target, window, loop.target, made.wanted, plan)
    kept, own = accept(made.tokens, made.wanted, logits, made.q, how, to_accept, to_add)
    added, count, ended = text_to_add(
        made.tokens, kept, own, jnp.where(active(loop, job), job.ends - loop.length, 0), job.stop
    )
    used = jnp.arange(plan.most + 1) < count[:, None]
    flawed = flaws.note(loop.target_flaws, logits, how, loop.length, used)
    loop = dataclasses.replace(loop, target=state, draft=made.state, target_flaws=flawed, draft_flaws=made.flawed)
    return commit(loop, plan, made.wanted, added, kept, count, ended)


def draft_some(loop: Loop, draft: Reader, wanted: Array, how: Sampling, plan: Plan, key: Array) -> Proposals:
    """The round's proposals; none at all once the optimal schedule has given up."""
    empty = no_proposals(draft, loop.draft, wanted, plan, how, loop.draft_flaws)

    def some() -> Proposals:
        pair = jnp.take_along_axis(loop.tokens, loop.length[:, None] + jnp.arange(-2, 0), axis=1)
        return propose(draft, empty, pair, loop.length, plan, how, key)

    if plan.schedule == "optimal":
        return jax.lax.cond((loop.wanted == 0).all(), lambda: empty, some)
    return some()


def verify(
    target: Reader, window: Int[Array, "B W"], state: Any, wanted: Int[Array, "B"], plan: Plan
) -> tuple[Float[Array, "B W V"], Any]:
    """The target's logits after each token of a window, and its state; only as many are read as a row needs.

    Logits that were not read are 0: those past the narrowest of plan.widths that holds `wanted` + 1 tokens.
    """
    if len(plan.widths) == 1:
        return target.read(window, state)

    def narrow(width: int) -> Any:
        def read(window: Array, state: Any) -> tuple[Array, Any]:
            logits, state = target.read(window[:, :width], state)
            return jnp.pad(logits, ((0, 0), (0, plan.most + 1 - width), (0, 0))), state

        return read

    enough = jnp.searchsorted(jnp.array(plan.widths), wanted.max() + 1)
    return jax.lax.switch(enough, [narrow(width) for width in plan.widths], window, state)


def text_to_add(
    proposals: Int[Array, "B G"],
    kept: Int[Array, "B"],
    own: Int[Array, "B"],
    missing: Int[Array, "B"],
    stop: Int[Array, ""],
) -> tuple[Int[Array, "B W"], Int[Array, "B"], Bool[Array, "B"]]:
    """A window that begins with what a row gains: its kept proposals and the target's own token.

    Also how many of them count, at most `missing` and none after a stop token, and whether there was one.
    """
    places = jnp.arange(proposals.shape[1] + 1)
    drafted = places < kept[:, None]
    added = jnp.where(drafted, jnp.pad(proposals, ((0, 0), (0, 1))), own[:, None])
    count = jnp.minimum(kept + 1, missing)
    stops = (added == stop) & (places < count[:, None])
    ended = stops.any(1)
    return added, jnp.where(ended, stops.argmax(1).astype(jnp.int32) + 1, count), ended


def commit(
    loop: Loop,
    plan: Plan,
    wanted: Int[Array, "B"],
    added: Int[Array, "B W"],
    kept: Int[Array, "B"],
    count: Int[Array, "B"],
    ended: Bool[Array, "B"],
) -> Loop:
    """Write the window, advance each row by `count` tokens, take both states back to there, and count."""
    n, places = loop.length, jnp.arange(plan.most)
    write = jax.vmap(lambda old, new, start: jax.lax.dynamic_update_slice(old, new, (start,)))
    length, rounds = n + count, loop.rounds + (count > 0)
    # what follows a stop token was proposed for nothing and tells nothing
    accepted = loop.accepted + (places < jnp.minimum(kept, count)[:, None])
    examined = loop.examined + (places < jnp.minimum(jnp.minimum(kept + 1, wanted), count)[:, None])
    return dataclasses.replace(
        loop,
        tokens=write(loop.tokens, added, n),
        length=length,
        stopped=loop.stopped | ended | loop.target_flaws.any | loop.draft_flaws.any,
        target=at(loop.target, length - 1),
        draft=at(loop.draft, length - 2),
        wanted=next_wanted(plan, loop.wanted, wanted, kept, accepted, examined),
        rounds=rounds,
        accepted=accepted,
        examined=examined,
        drafted=write(loop.drafted, jnp.arange(plan.most + 1) < kept[:, None], n),
        round=write(loop.round, jnp.broadcast_to(rounds[:, None], added.shape), n),
    )
