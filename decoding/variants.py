"""The same model at another cost: matrices in bfloat16 or int8, multiplied as they are stored, or wider layers.

At batch 1 a plain token costs hardly more than reading all weights once. So narrow weights are faster where the
hardware multiplies them natively, and verifying several tokens at once is cheap.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from decoding.checks import whole
from icl_synth import checkpoints, layers
from icl_synth.transformer import Linear, Transformer, TransformerConfig


def in_bfloat16(model: checkpoints.Model) -> checkpoints.Model:
    """The same model with the matrices of its linear layers stored in bfloat16.

    The operands of all products are rounded, sums stay float32. Embeddings, and a head tied to them, are stored as
    before. Raises TypeError for a model whose layers were replaced already.
    """
    checkpoints.check_plain(model)
    graph, _ = checkpoints.split(checkpoints.create(model.config, dtype="bfloat16"))
    weights = checkpoints.split(model)[1]
    for name in weights:
        if name.endswith(".kernel"):
            weights[name] = jnp.asarray(weights[name], jnp.bfloat16)
    return checkpoints.merge(graph, weights)


def in_int8(model: checkpoints.Model) -> Transformer:
    """The same model with int8 weights and inputs in all linear layers but the last; it cannot be trained.

    Weights have one scale for each output, inputs one for each row, set by the largest magnitude. Products are summed
    in int32. Products inside attention stay in float32. Raises TypeError for models other than transformers and for a
    model whose layers were replaced already.
    """
    if not isinstance(model, Transformer):
        raise TypeError(f"int8 products are for transformers, got {type(model).__name__}")
    checkpoints.check_plain(model)
    copy = checkpoints.merge(*checkpoints.split(model))
    assert isinstance(copy, Transformer)
    for block in copy.blocks:
        for name, part in list(vars(block).items()):
            if isinstance(part, Linear):
                setattr(block, name, Int8Linear(part))
    return copy


class Int8Linear(Linear):
    """x @ kernel + bias in int8 with int32 sums."""

    def __init__(self, linear: Linear):
        self.name, self.dtype, self.bias = linear.name, linear.dtype, linear.bias
        values, scale = to_int8(linear.kernel[...], 0)
        self.kernel, self.scale = nnx.Param(values), nnx.Param(scale)

    def __call__(self, x: Float[Array, "*B I"], record: dict[str, Array] | None = None) -> Float[Array, "*B O"]:
        if record is not None:
            record[self.name] = x
        rows, row_scale = to_int8(x, -1)
        sums = layers.narrow_product(rows, self.kernel[...], jnp.int32)
        y = sums.astype(jnp.float32) * row_scale * self.scale[...]
        return y if self.bias is None else y + self.bias[...]


def to_int8(x: Float[Array, "*S"], axis: int) -> tuple[Array, Array]:
    """x as int8, rounded to nearest even, and its scale along an axis; the scale of a row of zeros is 1."""
    largest = jnp.abs(x).max(axis, keepdims=True)
    scale = jnp.where(largest > 0, largest / 127, 1.0)
    return jnp.round(x / scale).astype(jnp.int8), scale


def widened(model: checkpoints.Model, times: int, depth: int) -> Transformer:
    """The same function at `times` the width and with `depth` blocks, to time shapes that would take long to train.

    Channels are repeated, and the further blocks add zero. Every product costs what it costs at that width in the
    model's precision; every logit is the small model's up to rounding. Raises ValueError for times < 1, for fewer
    blocks than the model's, and for models other than transformers of modern style (a tied head would be scaled with
    its repeated embedding); TypeError for a model whose layers were replaced already.
    """
    checkpoints.check_plain(model)
    config = model.config
    if not isinstance(config, TransformerConfig) or config.style != "modern":
        raise ValueError(f"only transformers of modern style can be widened, got {config}")
    times, depth = whole("times", times, 1), whole("depth", depth, config.depth)
    shape = dataclasses.replace(config, depth=depth, width=times * config.width, heads=times * config.heads)
    graph, fresh = checkpoints.split(checkpoints.create(shape, dtype=model.dtype))
    weights = dict(fresh)
    for name, value in checkpoints.split(model)[1].items():
        old = np.asarray(value)
        if name.endswith("qkv.kernel"):
            wide = np.concatenate([np.tile(part, (times, times)) / times for part in np.split(old, 3, axis=1)], axis=1)
        elif name == "head.kernel":
            wide = np.tile(old, (times, 1)) / times
        elif name.endswith(".kernel"):
            wide = np.tile(old, (times, times)) / times
        elif "query_norm" in name or "key_norm" in name:
            wide = old
        else:
            wide = np.tile(old, (1,) * (old.ndim - 1) + (times,))
        weights[name] = jnp.asarray(wide)
    wider = checkpoints.merge(graph, weights)
    assert isinstance(wider, Transformer)
    return wider


def weight_bytes(model: checkpoints.Model) -> int:
    """Bytes of all weights that every token reads. Of a table of embeddings a token reads one row, unless it is also
    the head."""
    rows = {"positions"} if isinstance(model, Transformer) and model.head is None else {"embedding"}
    return sum(int(np.asarray(w).nbytes) for name, w in checkpoints.split(model)[1].items() if name not in rows)
