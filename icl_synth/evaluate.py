"""Evaluation of models: loss by position, accuracy on prompts, distance from the exact Bayes predictor."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, PyTree

from icl_synth import bayes, checkpoints, checks, devices
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.prompt_layout import prompt_length
from icl_synth.prompts import Prompts

EXAMPLE_LENGTHS = (3, 5, 8, 10)  # k of Xie et al. 2022
EXAMPLES = (0, 1, 2, 4, 8, 16, 32, 64)  # n
ROWS_AT_ONCE = 4
BUCKET = 64


def map_rows(
    function: Callable[[checkpoints.Model, Any], PyTree],
    graph: nnx.GraphDef,
    weights: checkpoints.Weights,
    rows: PyTree,
    mesh: Mesh | None = None,
) -> PyTree:
    """function(model, rows) for rows on the leading axis, four at a time on every device of the mesh.

    Compiled once for each function, model shape, mesh and shape of rows: pass a function defined at top level.
    """
    mesh = mesh or devices.mesh()
    count, at_once = len(jax.tree.leaves(rows)[0]), ROWS_AT_ONCE * mesh.shape["data"]
    # copies of the first row fill up the last call
    padded = jax.tree.map(lambda x: np.concatenate([x, np.repeat(x[:1], -count % at_once, axis=0)]), rows)
    mapped = _map_padded(function, graph, mesh, weights, padded)
    return jax.tree.map(lambda x: np.asarray(x)[:count], mapped)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _map_padded(function, graph, mesh, weights, rows):
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data"), check_vma=False)
    def share(weights, rows):
        model = checkpoints.merge(graph, weights)
        parts = jax.tree.map(lambda x: x.reshape(-1, ROWS_AT_ONCE, *x.shape[1:]), rows)
        mapped = jax.lax.map(lambda part: function(model, part), parts)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), mapped)

    # replicated, so that every process can read all rows
    return jax.lax.with_sharding_constraint(share(weights, rows), NamedSharding(mesh, P()))


def token_losses(
    graph: nnx.GraphDef, weights: checkpoints.Weights, tokens: Int[np.ndarray, "B L"], mesh: Mesh | None = None
) -> Float[np.ndarray, "B T"]:
    """-log p(x_t | x_<t) in nats for the T = L - 1 tokens after the first.

    Raises ValueError for no documents, and for documents of fewer than two tokens.
    """
    checks.at_least(1, documents=len(tokens))
    checks.at_least(2, length=tokens.shape[1])
    return map_rows(_token_losses, graph, weights, tokens, mesh)


def _token_losses(model, tokens):
    log_probs = jax.nn.log_softmax(model(tokens[:, :-1]))
    return -jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1)[..., 0]


class BayesComparison(NamedTuple):
    """A model and the exact predictor on the same tokens, at the T = L - 1 positions after the first, in nats."""

    model_loss: Float[np.ndarray, "B T"]
    bayes_loss: Float[np.ndarray, "B T"]
    kl: Float[np.ndarray, "B T"]  # KL(Bayes || model) of the whole next-token distribution

    @property
    def excess(self) -> Float[np.ndarray, "B T"]:
        return self.model_loss - self.bayes_loss


def compare_with_bayes(
    model: checkpoints.Model, hmm: ConceptHMM, tokens: Int[Array | np.ndarray, "B L"], mesh: Mesh | None = None
) -> BayesComparison:
    """Loss of a model and its divergence from exact Bayes, by document and position.

    Where a document is impossible in this world the exact loss is infinite and the divergence 0. Raises ValueError
    for tokens outside the world's vocabulary, and for a model whose vocabulary is smaller than the world's.
    """
    tokens = np.asarray(tokens)
    checks.tokens(tokens, hmm.vocab_size)
    checks.at_least(1, documents=len(tokens))
    checks.at_least(2, length=tokens.shape[1])
    checks.at_least(hmm.vocab_size, **{"the model's vocab_size": model.config.vocab_size})
    graph, weights = checkpoints.split(model)
    exact = np.asarray(bayes.next_token_log_probs(hmm, jnp.asarray(tokens)))[:, 1:]
    learned = map_rows(log_probs, graph, weights, tokens[:, :-1], mesh)[..., : hmm.vocab_size]
    return BayesComparison(_loss(learned, tokens), _loss(exact, tokens), kl_to_bayes(exact, learned))


def _loss(log_probs: Float[np.ndarray, "B T V"], tokens: Int[np.ndarray, "B L"]) -> Float[np.ndarray, "B T"]:
    return -np.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1)[..., 0]


def kl_to_bayes(exact: Float[np.ndarray, "*B V"], learned: Float[np.ndarray, "*B V"]) -> Float[np.ndarray, "*B"]:
    """KL(Bayes || model) of the next-token distribution, in nats, from the log-probabilities of both.

    A token that is impossible under Bayes adds nothing, whatever probability the model gives it.
    """
    possible = np.isfinite(exact)
    return np.where(possible, np.exp(exact) * (np.where(possible, exact, 0.0) - learned), 0.0).sum(-1)


def log_probs(model: checkpoints.Model, tokens: Int[Array, "B T"]) -> Float[Array, "B T V"]:
    """Log-probabilities of the next token, in nats: a function for `map_rows`."""
    return jax.nn.log_softmax(model(tokens))


def answers(model: checkpoints.Model, prompts: Prompts, mesh: Mesh | None = None) -> Int[np.ndarray, " B"]:
    """The likeliest token after each prompt under a model, greedy over the whole vocabulary, as the paper scores.

    Raises ValueError for tokens outside the model's vocabulary.
    """
    checks.tokens(prompts.tokens, model.config.vocab_size)
    graph, weights = checkpoints.split(model)
    tokens, length = pad_to_bucket(np.asarray(prompts.tokens), model.config.context), prompts.tokens.shape[1]
    return map_rows(_answers, graph, weights, (tokens, np.full(len(tokens), length - 1, np.int32)), mesh)


def _answers(model, rows):
    tokens, last = rows
    return jnp.take_along_axis(model(tokens), last[:, None, None], axis=1)[:, 0].argmax(-1).astype(jnp.int32)


def pad_to_bucket(tokens: Int[np.ndarray, "B L"], most: int) -> Int[np.ndarray, "B M"]:
    """Pad tokens with zeros to a multiple of 64, or to `most`: few lengths compile, and no model looks ahead."""
    length = tokens.shape[1]
    padded = max(length, min(length + -length % BUCKET, most))
    return np.pad(tokens, ((0, 0), (0, padded - length)))


def examples_that_fit(context: int, example_length: int, numbers: tuple[int, ...] = EXAMPLES) -> list[int]:
    """Those of the numbers of in-context examples whose prompts fit a context of so many tokens.

    Raises ValueError for examples below two tokens.
    """
    return [n for n in numbers if prompt_length(n, example_length) <= context]
