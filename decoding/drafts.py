"""Drafts that need no training: a table of n-grams, a look-up in the text itself, the first layers of a model."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from decoding.checks import matrix, real, whole
from decoding.readers import UNLIMITED
from icl_synth import checkpoints, checks
from icl_synth.transformer import Transformer

LARGEST = 1 << 30  # entries of a table, which take 8 GB while they are counted


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class History:
    """The tokens read so far."""

    tokens: Int[Array, "B S"]
    length: Int[Array, "B"]


class Remembering:
    """A reader whose state is the text itself. A subclass predicts from the text."""

    context = UNLIMITED

    def predict(self, text: Int[Array, "B S"], length: Int[Array, "B"]) -> Float[Array, "B V"]:
        """Logits of the token at position `length`, from the tokens before it."""
        raise NotImplementedError

    def start(self, batch: int, room: int, window: int) -> History:
        return History(jnp.zeros((batch, room + window), jnp.int32), jnp.zeros(batch, jnp.int32))

    def prefill(self, tokens, lengths, state):
        text = state.tokens.at[:, : tokens.shape[1]].set(tokens)
        return self.predict(text, lengths), History(text, lengths)

    def read(self, tokens, state):
        count = tokens.shape[1]
        position = state.length[:, None] + jnp.arange(count)
        text = state.tokens.at[jnp.arange(len(tokens))[:, None], position].set(tokens, mode="drop")
        logits = jax.vmap(lambda length: self.predict(text, length), in_axes=1, out_axes=1)(position + 1)
        return logits, History(text, state.length + count)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NGram(Remembering):
    """log p(next | last n - 1 tokens) from a table with n axes. Tokens 0 stand before the beginning of a text."""

    table: Float[Array, "*N V"]

    @property
    def vocab_size(self) -> int:
        return self.table.shape[-1]

    def predict(self, text, length):
        before = length[:, None] + jnp.arange(1 - self.table.ndim, 0)
        tokens = jnp.take_along_axis(text, jnp.maximum(before, 0), axis=1)
        log_probs = self.table[tuple(jnp.where(before >= 0, tokens, 0).T)]
        return jnp.broadcast_to(log_probs, (len(text), self.vocab_size))  # unigrams are one row for all


def fit_ngram(documents: Int[Array | np.ndarray, "B L"], vocab_size: int, order: int = 2, weight: float = 1.0) -> NGram:
    """n-gram probabilities (n = order) counted in documents and smoothed towards shorter contexts.

    Each context's distribution is the posterior mean under a Dirichlet prior of total count `weight`, centred on the
    distribution after the context without its first token (MacKay & Peto 1995); the unigrams' prior is centred on the
    uniform distribution. Raises ValueError for order < 1, a weight that is not above 0 and finite, a table of more than
    LARGEST entries, documents that are no matrix of integers, and tokens outside the vocabulary.
    """
    vocab_size, order = whole("vocab_size", vocab_size, 1), whole("order", order, 1)
    checks.positive(weight=real("weight", weight, "above 0 and finite"))
    if order * math.log2(vocab_size) > math.log2(LARGEST):
        raise ValueError(f"vocab_size ** order must be at most {LARGEST:,} entries, got {vocab_size} ** {order}")
    documents = matrix("documents", documents)
    checks.tokens(documents, vocab_size, "documents")
    padded = np.pad(documents, ((0, 0), (order - 1, 0)))
    table = np.full(vocab_size, 1 / vocab_size)
    for n in range(1, order + 1):
        counts = np.zeros((vocab_size,) * n)
        length = documents.shape[1]
        np.add.at(counts, tuple(padded[:, order - n + i :][:, :length] for i in range(n)), 1.0)
        table = (counts + weight * table) / (counts.sum(-1, keepdims=True) + weight)
    return NGram(jnp.log(jnp.asarray(table, jnp.float32)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PromptLookup(Remembering):
    """Predicts the token that followed the latest earlier occurrence of the end of the text: no model at all.

    The end is the longest run of up to `longest` last tokens that occurred before. Where not even the last token did,
    all tokens are equally likely. Raises ValueError for vocab_size < 1 and longest < 1.
    """

    vocab_size: int = dataclasses.field(metadata={"static": True})
    longest: int = dataclasses.field(default=3, metadata={"static": True})

    def __post_init__(self):
        for name in ("vocab_size", "longest"):
            whole(name, getattr(self, name), 1)

    def predict(self, text, length):
        room = text.shape[1]
        ends = jnp.arange(room)
        run, same = jnp.zeros(text.shape, jnp.int32), jnp.ones(text.shape, bool)
        for back in range(1, self.longest + 1):
            latest = jnp.take_along_axis(text, jnp.maximum(length - back, 0)[:, None], axis=1)
            earlier = jnp.roll(text, back, axis=1) == latest
            same &= earlier & (ends >= back) & (ends < length[:, None])
            run += same
        best = jnp.argmax(run * room + ends * (run > 0), axis=1)[:, None]
        occurred = jnp.take_along_axis(run, best, axis=1) > 0
        token = jnp.take_along_axis(text, best, axis=1)
        possible = ~occurred | (token == jnp.arange(self.vocab_size))
        return jnp.where(possible, jnp.float32(0), -jnp.inf)


def first_layers(model: checkpoints.Model, depth: int) -> checkpoints.Model:
    """A model of the first `depth` layers, followed by the model's own last norm and head.

    Raises ValueError for a depth outside 1 to the model's depth, TypeError for a model whose layers were replaced (by
    a number format, say).
    """
    checkpoints.check_plain(model)
    depth = whole("depth", depth, 1, model.config.depth)
    config = dataclasses.replace(model.config, depth=depth)
    stack = "blocks" if isinstance(model, Transformer) else "layers"
    dropped = tuple(f"{stack}.{index}." for index in range(depth, model.config.depth))
    weights = {name: w for name, w in checkpoints.split(model)[1].items() if not name.startswith(dropped)}
    graph, _ = checkpoints.split(checkpoints.create(config, dtype=model.dtype))
    return checkpoints.merge(graph, weights)
