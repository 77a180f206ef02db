"""Products whose weights are in one format and whose activations and gradients are in another."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from compression.block_float.formats import Format, find
from compression.block_float.quantise import matmul, quantize
from icl_synth import checkpoints
from icl_synth.transformer import Linear, Transformer


class MixedLinear(Linear):
    """x @ kernel + bias with the kernel in one format and x in another."""

    def __init__(self, linear: Linear, weights: Format, others: Format):
        self.name, self.dtype, self.kernel, self.bias = linear.name, linear.dtype, linear.kernel, linear.bias
        self.weights, self.others = weights, others

    def __call__(self, x: Float[Array, "*B I"], record: dict[str, Array] | None = None) -> Float[Array, "*B O"]:
        if record is not None:
            record[self.name] = x
        y = mixed_matmul(x, self.kernel[...], self.weights, self.others)
        return y if self.bias is None else y + self.bias[...]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def mixed_matmul(
    x: Float[Array, "*B I"], kernel: Float[Array, "I O"], weights: Format, others: Format
) -> Float[Array, "*B O"]:
    """x @ kernel in float32, x quantised in the format `others` and the kernel in `weights`, in blocks along I.

    Gradients are straight-through. Both products that make them quantise their operands anew, each along its own
    contraction axis: the gradient and x in `others`, the kernel in `weights`.
    """
    return jnp.matmul(quantize(x, others), quantize(kernel, weights, axis=0), precision="highest")


def _forward(x, kernel, weights, others):
    return mixed_matmul(x, kernel, weights, others), (x, kernel)


def _backward(weights, others, saved, gradient):
    x, kernel = saved
    to_x = mixed_matmul(gradient, kernel.T, weights, others)
    rows, columns = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    return to_x, matmul(rows.T, columns, others, precision="float32")


mixed_matmul.defvjp(_forward, _backward)


def in_two_formats(
    model: checkpoints.Model, weights: str | Format, others: str | Format, *, keep_head: bool = True
) -> checkpoints.Model:
    """A transformer with the same weights whose linear layers hold them in one format and read inputs in another.

    The given model does not change. The head stays in float32, as in `in_format`, unless `keep_head` is False.
    Raises ValueError for an unknown format, and for a head that is tied to the embedding and not kept; TypeError for a
    model whose layers were replaced before or that is no transformer.
    """
    checkpoints.check_plain(model)
    copy = checkpoints.merge(*checkpoints.split(model))
    if not isinstance(copy, Transformer):
        raise TypeError(f"only a transformer takes two formats, got {type(model).__name__}")
    if copy.head is None and not keep_head:
        raise ValueError("the head is the embedding itself and stays in float32: leave keep_head True")
    formats = find(weights), find(others)
    for block in copy.blocks:
        for name, part in list(vars(block).items()):
            if isinstance(part, Linear):
                setattr(block, name, MixedLinear(part, *formats))
    if copy.head is not None and not keep_head:
        copy.head = MixedLinear(copy.head, *formats)
    return copy
