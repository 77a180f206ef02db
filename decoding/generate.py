"""Plain generation, greedy or sampled: prefill and the whole loop are one compiled program, for any batch."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from decoding.readers import Reader, as_reader, at
from decoding.sampling import PAD, Job, Sampling, check_job, check_sampling, distribution, draw
from icl_synth import checkpoints
from icl_synth.concept_hmm import ConceptHMM


def generate(
    model: checkpoints.Model | ConceptHMM | Reader,
    prompt: Int[Array | np.ndarray, "B L"],
    num_tokens: int,
    *,
    lengths: Int[Array | np.ndarray, " B"] | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: int | None = None,
    key: Key[Array, ""] | None = None,
) -> Int[Array, "B M"]:
    """Each prompt and what the model says next, i32[B, L + num_tokens].

    Prompts of different lengths are filled up on the right, with `lengths` telling where each ends; each is continued
    from there, and PAD (-1) stands after it. So it does after `stop`, with which a row ends. Temperature 0 takes the
    likeliest token; above 0 tokens are drawn, from the `top_k` likeliest and what is as likely as the last of them, or
    from the likeliest that together have `top_p`. Raises ValueError for prompts that do not fit the model's vocabulary
    or context, a negative temperature, sampling without a key, and other numbers out of range; TypeError for a model
    that cannot read.
    """
    reader = as_reader(model)
    how = check_sampling(temperature, top_k, top_p, key, reader.vocab_size)
    job, num_tokens, stop = check_job({"model": reader}, prompt, lengths, num_tokens, stop)
    return _generate(reader, job, how, jax.random.key(0) if key is None else key, num_tokens, stop)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Loop:
    """The texts so far, whether each has met the stop token, and the reader's state before its last token."""

    tokens: Int[Array, "B S"]
    length: Int[Array, "B"]
    stopped: Array
    state: Any


@functools.partial(jax.jit, static_argnums=(4, 5))
def _generate(reader: Reader, job: Job, how: Sampling, key: Array, num_tokens: int, stop: int | None) -> Array:
    batch, longest = job.tokens.shape
    room = longest + num_tokens
    rows = jnp.arange(batch)

    def append(loop: Loop, logits: Array) -> Loop:
        token = choose(logits, how, jax.random.fold_in(key, (loop.length - job.lengths).max()))
        active = ~loop.stopped & (loop.length < job.ends)
        tokens = loop.tokens.at[rows, jnp.where(active, loop.length, room)].set(token, mode="drop")
        stopped = loop.stopped | (active & (token == stop)) if stop is not None else loop.stopped
        return Loop(tokens, loop.length + active, stopped, loop.state)

    def advance(loop: Loop) -> Loop:
        last = jnp.take_along_axis(loop.tokens, loop.length[:, None] - 1, axis=1)
        logits, state = reader.read(last, at(loop.state, loop.length - 1))
        return append(dataclasses.replace(loop, state=state), logits[:, 0])

    tokens = jnp.pad(job.tokens, ((0, 0), (0, num_tokens)))
    logits, state = reader.prefill(job.tokens, job.lengths, reader.start(batch, room, 1))
    loop = append(Loop(tokens, job.lengths, jnp.zeros(batch, bool), state), logits)
    loop = jax.lax.while_loop(lambda loop: (~loop.stopped & (loop.length < job.ends)).any(), advance, loop)
    return jnp.where(jnp.arange(room) < loop.length[:, None], loop.tokens, PAD)


def choose(logits: Array, how: Sampling, key: Array) -> Array:
    """A token for each row."""
    if how.greedy:
        return logits.argmax(-1).astype(jnp.int32)
    return draw(key, distribution(logits, how))
