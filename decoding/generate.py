"""Plain generation, greedy or sampled: prefill and loop are one compiled program for a whole batch."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from decoding import flaws
from decoding.job import PAD, Job, check_job, columns
from decoding.readers import Reader, as_reader, at
from decoding.sampling import Sampling, check_sampling, choose
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
    """Each prompt and its continuation, i32[B, M] with M = L + num_tokens.

    Prompts of different lengths are padded on the right, with any tokens, and `lengths` says where each ends; its
    continuation begins there. A row ends after num_tokens tokens or with the token `stop`, and holds PAD (-1) from
    there on. Temperature 0 takes the likeliest token. Above 0 tokens are drawn with `key`: from the `top_k` likeliest
    tokens and those as likely as the last of these, then from the likeliest that together have probability `top_p`.

    A program is compiled for each batch size, and for lengths up to the next of a few sizes (`job.padded_size`);
    `stop`, temperature and top_p are data. Raises ValueError for prompts that do not fit the model's vocabulary or
    context, for numbers out of range or of the wrong kind, for sampling without a key, and for a model whose logits
    are NaN, +inf, or -inf for every token; TypeError for a model that cannot read.
    """
    reader = as_reader(model)
    how = check_sampling(temperature, top_k, top_p, key, reader.vocab_size)
    job, width = check_job({"model": reader}, prompt, lengths, num_tokens, stop)
    tokens, flawed = _generate(reader, job, how, jax.random.key(0) if key is None else key)
    flaws.refuse({"model": flawed}, how)
    return columns(tokens, width)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Loop:
    """The texts so far, whether each has ended early, and the reader's state before its last token."""

    tokens: Int[Array, "B S"]
    length: Int[Array, "B"]
    stopped: Bool[Array, "B"]
    flawed: flaws.Flaws
    state: Any


@jax.jit
def _generate(reader: Reader, job: Job, how: Sampling, key: Array) -> tuple[Int[Array, "B S"], flaws.Flaws]:
    batch, longest = job.tokens.shape
    rows = jnp.arange(batch)

    def active(loop: Loop) -> Bool[Array, "B"]:
        return ~loop.stopped & (loop.length < job.ends)

    def append(loop: Loop, logits: Array) -> Loop:
        token = choose(logits, how, jax.random.fold_in(key, (loop.length - job.lengths).max()))
        going = active(loop)
        flawed = flaws.note(loop.flawed, logits[:, None], how, loop.length, going[:, None])
        tokens = loop.tokens.at[rows, jnp.where(going, loop.length, job.room)].set(token, mode="drop")
        stopped = loop.stopped | flawed.any | (going & (token == job.stop))
        return Loop(tokens, loop.length + going, stopped, flawed, loop.state)

    def advance(loop: Loop) -> Loop:
        last = jnp.take_along_axis(loop.tokens, loop.length[:, None] - 1, axis=1)
        logits, state = reader.read(last, at(loop.state, loop.length - 1))
        return append(dataclasses.replace(loop, state=state), logits[:, 0])

    tokens = jnp.pad(job.tokens, ((0, 0), (0, job.room - longest)))
    logits, state = reader.prefill(job.tokens, job.lengths, reader.start(batch, job.room, 1))
    loop = append(Loop(tokens, job.lengths, jnp.zeros(batch, bool), flaws.none(batch), state), logits)
    loop = jax.lax.while_loop(lambda loop: active(loop).any(), advance, loop)
    return jnp.where(jnp.arange(job.room) < loop.length[:, None], loop.tokens, PAD), loop.flawed
