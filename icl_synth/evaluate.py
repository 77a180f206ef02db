"""How good a model is: losses by position, accuracy on prompts, distance to the exact Bayes predictor."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, PyTree, Shaped

from icl_synth import bayes, checkpoints, checks, devices
from icl_synth.concept_hmm import ConceptHMM
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
    """function(model, rows) for rows on the leading axis, a few at a time on every device of the mesh."""
    mesh = mesh or devices.mesh()
    count, at_once = len(jax.tree.leaves(rows)[0]), ROWS_AT_ONCE * mesh.shape["data"]
    # the last call is filled up with copies of the first row
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

    # whole on every process, so that each can read it
    return jax.lax.with_sharding_constraint(share(weights, rows), NamedSharding(mesh, P()))


def token_losses(
    graph: nnx.GraphDef, weights: checkpoints.Weights, tokens: Int[np.ndarray, "B L"], mesh: Mesh | None = None
) -> Float[np.ndarray, "B T"]:
    """-log p(x_t | x_<t) in nats for the T = L - 1 tokens after the first.

    Raises ValueError for no or too short documents.
    """
    checks.at_least(1, documents=len(tokens))
    checks.at_least(2, length=tokens.shape[1])
    return map_rows(_token_losses, graph, weights, tokens, mesh)


def _token_losses(model, tokens):
    log_probs = jax.nn.log_softmax(model(tokens[:, :-1]))
    return -jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1)[..., 0]


class BayesComparison(NamedTuple):
    """A model beside the exact predictor on the same tokens, at the T = L - 1 positions after the first; nats."""

    model_loss: Float[np.ndarray, "B T"]
    bayes_loss: Float[np.ndarray, "B T"]
    kl: Float[np.ndarray, "B T"]  # KL(Bayes || model) of the whole next-token distribution

    @property
    def excess(self) -> Float[np.ndarray, "B T"]:
        return self.model_loss - self.bayes_loss


def compare_with_bayes(
    model: checkpoints.Model, hmm: ConceptHMM, tokens: Int[Array | np.ndarray, "B L"], mesh: Mesh | None = None
) -> BayesComparison:
    """Loss and divergence of a model against exact Bayes, by document and position.

    Where a document is impossible in this world the exact loss is infinite and the divergence counts nothing. Raises
    ValueError for tokens outside the world's vocabulary, and for a model that does not know all of them.
    """
    tokens = np.asarray(tokens)
    checks.tokens(tokens, hmm.vocab_size)
    checks.at_least(1, documents=len(tokens))
    checks.at_least(2, length=tokens.shape[1])
    checks.at_least(hmm.vocab_size, **{"the model's vocab_size": model.config.vocab_size})
    graph, weights = checkpoints.split(model)
    exact = np.asarray(bayes.next_token_log_probs(hmm, jnp.asarray(tokens)))[:, 1:]
    learned = map_rows(_log_probs, graph, weights, np.asarray(tokens)[:, :-1], mesh)[..., : hmm.vocab_size]
    possible = np.isfinite(exact)
    kl = np.where(possible, np.exp(exact) * (np.where(possible, exact, 0.0) - learned), 0.0).sum(-1)

    def pick(log_probs):
        return -np.take_along_axis(log_probs, np.asarray(tokens)[:, 1:, None], axis=-1)[..., 0]

    return BayesComparison(pick(learned), pick(exact), kl)


def _log_probs(model, tokens):
    return jax.nn.log_softmax(model(tokens))


def answers(model: checkpoints.Model, prompts: Prompts, mesh: Mesh | None = None) -> Int[np.ndarray, " B"]:
    """The token a model finds likeliest after each prompt: greedy over the whole vocabulary, as the paper scores.

    Raises ValueError for what are not tokens of the model's vocabulary.
    """
    checks.tokens(prompts.tokens, model.config.vocab_size)
    graph, weights = checkpoints.split(model)
    tokens, length = pad_to_bucket(np.asarray(prompts.tokens), model.config.context), prompts.tokens.shape[1]
    return map_rows(_answers, graph, weights, (tokens, np.full(len(tokens), length - 1)), mesh)


def _answers(model, rows):
    tokens, last = rows
    return jnp.take_along_axis(model(tokens), last[:, None, None], axis=1)[:, 0].argmax(-1)


def pad_to_bucket(tokens: Int[np.ndarray, "B L"], most: int) -> Int[np.ndarray, "B M"]:
    """Zeros behind the tokens up to a multiple of 64 or `most`: few lengths to compile, and no model looks ahead."""
    length = tokens.shape[1]
    padded = max(length, min(length + -length % BUCKET, most))
    return np.pad(tokens, ((0, 0), (0, padded - length)))


class Estimate(NamedTuple):
    """A mean and the half width of its 95 % interval."""

    mean: float
    half_width: float


def estimate(values: Shaped[np.ndarray, "*S N"]) -> Estimate:
    """Mean over S training seeds and N prompts or documents that all seeds share, with a 95 % interval.

    Both are samples: the variance of the seeds' means (Student's t, S - 1 degrees of freedom) and that of the
    prompts' means over seeds add up. With one seed only the prompts' part can be known, with one prompt only the
    seeds', and what cannot be known counts as none. Raises ValueError for no values and for more axes than these two.
    """
    values = np.atleast_2d(np.asarray(values, np.float64))
    if values.ndim != 2 or not values.size:
        raise ValueError(f"values must be [seeds prompts] or [prompts], at least one, got shape {values.shape}")
    seeds, prompts = values.shape
    over_prompts = 1.96 * values.mean(0).std(ddof=1) / prompts**0.5 if prompts > 1 else 0.0
    over_seeds = scipy.stats.t.ppf(0.975, seeds - 1) * values.mean(1).std(ddof=1) / seeds**0.5 if seeds > 1 else 0.0
    return Estimate(float(values.mean()), float(np.hypot(over_prompts, over_seeds)))


def ratio_of_means(now: Shaped[np.ndarray, " N"], before: Shaped[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """now.mean() / before.mean(), as values whose mean it is and whose spread gives its interval (delta method).

    A `before` of nothing but zeros counts as one case in N.
    """
    whole = max(before.mean(), 1 / len(before))
    ratio = now.mean() / whole
    return ratio + (now - ratio * before) / whole


def examples_that_fit(context: int, example_length: int, numbers: tuple[int, ...] = EXAMPLES) -> list[int]:
    """The numbers of in-context examples whose prompts fit a context: n examples and a last one without its label."""
    checks.at_least(2, example_length=example_length)
    return [n for n in numbers if n * (example_length + 1) + example_length - 1 <= context]
