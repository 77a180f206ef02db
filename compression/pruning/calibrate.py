"""Compute the Hessian of each linear layer from documents, block after block of a model.

Within a block, documents stream through a few at a time; between blocks their hidden states [B T D] are kept.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from icl_synth import checkpoints, checks
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.documents import sample_documents

DOCUMENTS_AT_ONCE = 8
LONGEST = 1024
BLOCKS = ("blocks.", "layers.")  # how the names of a block's weights begin, in a transformer and in an LSTM


def calibration_documents(
    hmm: ConceptHMM, model: checkpoints.Model, num_documents: int, seed: int = 0
) -> Int[np.ndarray, "B T"]:
    """Sample documents of a world, as long as the model's context but at most 1,024 tokens.

    Raises ValueError for fewer than one document, and for a seed outside 32 bits.
    """
    checks.seed(seed=seed)
    key = jax.random.fold_in(jax.random.key(seed), 3)
    return np.asarray(sample_documents(hmm, key, num_documents, min(model.config.context, LONGEST))[0])


def embed(model: checkpoints.Model, tokens: Int[Array | np.ndarray, "B T"]) -> Float[Array, "B T D"]:
    """Return the inputs of the first block.

    Raises ValueError for documents longer than the model's context, and for tokens outside its vocabulary.
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or not tokens.size:
        raise ValueError(f"calibration documents must be a [documents length] array, got shape {tokens.shape}")
    if tokens.shape[1] > model.config.context:
        raise ValueError(f"documents of {tokens.shape[1]} tokens, but the model's context is {model.config.context}")
    return model.embed(tokens)


def calibrate(model: checkpoints.Model, index: int, hidden: Float[Array, "B T D"]) -> dict[str, Float[Array, "I I"]]:
    """Return the Hessian of each linear layer of block `index`, (2 / B) sum of x x^T over all tokens, by layer name.

    hidden: what the blocks before it made of B documents. The scale is that of the public SparseGPT code.
    Raises ValueError for a block that the model lacks, for no documents, and for hidden states of another width;
    TypeError for a model whose layers were replaced.
    """
    _check(model, index, hidden)
    hessians = _calibrate(*_as_first(model, index), jnp.asarray(hidden, jnp.float32))
    return {name.replace(".0.", f".{index}.", 1): hessian for name, hessian in hessians.items()}


def run(model: checkpoints.Model, index: int, hidden: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
    """Return the outputs of block `index`. Raises as `calibrate` does."""
    _check(model, index, hidden)
    return _run(*_as_first(model, index), jnp.asarray(hidden, jnp.float32))


def _as_first(model: checkpoints.Model, index: int) -> tuple[nnx.GraphDef, checkpoints.Weights]:
    """Put block `index` in the first one's place: blocks have one shape, so that one compiled program serves all."""
    graph, weights = checkpoints.split(model)
    parts = {name: name.split(".", 2) for name in weights if name.startswith(BLOCKS)}
    own = {f"{kind}.0.{rest}": weights[name] for name, (kind, number, rest) in parts.items() if number == str(index)}
    return graph, weights | own


def _check(model: checkpoints.Model, index: int, hidden: Array) -> None:
    checkpoints.check_plain(model)
    depth, width = model.config.depth, model.config.width
    if index not in range(depth):
        raise ValueError(f"index must be that of a block, 0 to {depth - 1}, got {index}")
    if hidden.ndim != 3 or not hidden.size or hidden.shape[2] != width:
        raise ValueError(f"hidden must be [documents tokens {width}] and not empty, got shape {hidden.shape}")


@functools.partial(jax.jit, static_argnums=0)
@jax.default_matmul_precision("highest")
def _calibrate(graph: nnx.GraphDef, weights: checkpoints.Weights, hidden: Array) -> dict[str, Array]:
    model = checkpoints.merge(graph, weights)

    def products(part: Float[Array, "b T D"]) -> dict[str, Array]:
        record: dict[str, Array] = {}
        model.stage(0, part, record=record)
        rows = {name: x.reshape(-1, x.shape[-1]) for name, x in record.items()}
        return {name: x.T @ x for name, x in rows.items()}

    def add(total, part):
        return jax.tree.map(jnp.add, total, products(part)), None

    even = len(hidden) - len(hidden) % DOCUMENTS_AT_ONCE
    total = products(hidden[even:]) if even < len(hidden) else jax.tree.map(jnp.zeros_like, products(hidden[:1]))
    total, _ = jax.lax.scan(add, total, hidden[:even].reshape(-1, DOCUMENTS_AT_ONCE, *hidden.shape[1:]))
    return {name: h * (2 / len(hidden)) for name, h in total.items()}


@functools.partial(jax.jit, static_argnums=0)
def _run(graph: nnx.GraphDef, weights: checkpoints.Weights, hidden: Array) -> Array:
    stage = functools.partial(checkpoints.merge(graph, weights).stage, 0)
    return jax.lax.map(lambda document: stage(document[None])[0], hidden, batch_size=DOCUMENTS_AT_ONCE)
