"""Models whose linear layers multiply in a block floating point format: weights alone, or weights and activations.

Products of queries with keys and of attention weights with values stay as they are, and so do embeddings and sums.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from tqdm import trange

from compression.block_float.formats import Format, find
from compression.block_float.quantise import matmul, quantize
from icl_synth import checkpoints, devices
from icl_synth.config import TrainConfig
from icl_synth.lstm import LSTM, Layer
from icl_synth.step import initial_state, make_data, make_optimizer, make_steps
from icl_synth.transformer import Linear

LAST = ("head",)


class FormatLinear(Linear):
    """x @ kernel + bias with both operands of the product in a format."""

    def __init__(self, linear: Linear, format: Format):
        self.name, self.dtype, self.kernel, self.bias = linear.name, linear.dtype, linear.kernel, linear.bias
        self.format = format

    def __call__(self, x: Float[Array, "*B I"], record: dict[str, Array] | None = None) -> Float[Array, "*B O"]:
        if record is not None:
            record[self.name] = x
        y = matmul(x, self.kernel[...], self.format)
        return y if self.bias is None else y + self.bias[...]


class FormatLayer(Layer):
    """An LSTM layer with its recurrent product in a format; that of its input is the given layer's."""

    def __init__(self, layer: Layer, format: Format):
        self.dtype, self.recurrent, self.format = layer.dtype, layer.recurrent, format
        self.input = layer.input

    def __call__(self, x: Float[Array, "T B D"], hidden, cell, record: dict[str, Array] | None):
        assert self.recurrent.bias is not None
        kernel = self.recurrent.kernel[...]
        # the same for all steps: the kernel as forward products read it, and as backward ones do
        forward, backward = (
            jax.lax.stop_gradient(quantize(weight, self.format, axis=0)) for weight in (kernel, kernel.T)
        )

        def step(carry: tuple[Array, Array], gates: Array) -> tuple[tuple[Array, Array], Array]:
            hidden, cell = carry
            read = recurrent_product(hidden, kernel, forward, backward, self.format)
            i, f, g, o = jnp.split(gates + read, 4, axis=-1)
            cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
            return (hidden, cell), hidden

        gates = self.input(x, record) + self.recurrent.bias[...]
        (hidden_after, cell_after), outputs = jax.lax.scan(step, (hidden, cell), gates)
        if record is not None:
            record[self.recurrent.name] = jnp.concatenate([hidden[None], outputs[:-1]])
        return outputs, hidden_after, cell_after


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def recurrent_product(
    hidden: Float[Array, "B D"],
    kernel: Float[Array, "D O"],
    forward: Float[Array, "D O"],
    backward: Float[Array, "O D"],
    format: Format,
) -> Float[Array, "B O"]:
    """block_float.matmul(hidden, kernel, format) with the kernel already quantised for both directions."""
    return jnp.matmul(quantize(hidden, format), forward, precision="highest")


def _recurrent_forward(hidden, kernel, forward, backward, format):
    return recurrent_product(hidden, kernel, forward, backward, format), (hidden, forward, backward)


def _recurrent_backward(format, saved, gradient):
    hidden, forward, backward = saved
    to_hidden = jnp.matmul(quantize(gradient, format), backward, precision="highest")
    return to_hidden, matmul(hidden.T, gradient, format), jnp.zeros_like(forward), jnp.zeros_like(backward)


recurrent_product.defvjp(_recurrent_forward, _recurrent_backward)


def in_format(
    model: checkpoints.Model, format: str | Format, *, activations: bool = True, keep: tuple[str, ...] = LAST
) -> checkpoints.Model:
    """A model with the same weights whose linear layers compute in a format; the given one is left as it is.

    activations: quantise the inputs of each product too, not only its weights. keep: names of layers that stay in
    float32, as in the papers the last one, `head`; or a part such as `blocks.0`, for all that lie in it.
    `checkpoints.export` writes the weights alone: of weights-only models as quantised, of others in float32, without
    the format. Raises ValueError for an unknown format or one that rounds stochastically, for a name in `keep` that is
    no layer, and where a head that is tied to the embedding should not be kept; TypeError for a model whose layers were
    replaced already.
    """
    checkpoints.check_plain(model)
    format = find(format)
    if format.rounding == "stochastic":
        raise ValueError(f"{format.name} rounds stochastically, and a model has no key for it: choose another rounding")
    graph, weights = checkpoints.split(model)
    kernels = [name.removesuffix(".kernel") for name in weights if name.endswith(".kernel")]
    for name in keep:
        if name not in kernels and not any(kernel.startswith(f"{name}.") for kernel in kernels) and name not in LAST:
            raise ValueError(f"keep names {name!r}, which is no layer of this model: {', '.join(kernels)}")

    if "head" not in keep and "head.kernel" not in weights:
        raise ValueError("the head is the embedding itself and stays in float32: leave head in keep")

    def kept(name: str) -> bool:
        return any(name == one or name.startswith(f"{one}.") for one in keep)

    if not activations:
        for kernel in kernels:
            if not kept(kernel):
                name = f"{kernel}.kernel"
                weights[name] = quantize(jnp.asarray(weights[name]), format, axis=0)
        return checkpoints.merge(graph, weights)
    copy = checkpoints.merge(graph, weights)
    if isinstance(copy, LSTM):
        for index, layer in enumerate(copy.layers):
            if not kept(f"layers.{index}.input"):
                layer.input = FormatLinear(layer.input, format)
            if not kept(f"layers.{index}.recurrent"):
                copy.layers[index] = FormatLayer(layer, format)
    else:
        for index, block in enumerate(copy.blocks):
            for part in ("qkv", "out", "up", "down"):
                if not kept(f"blocks.{index}.{part}"):
                    setattr(block, part, FormatLinear(getattr(block, part), format))
    if copy.head is not None and not kept("head"):
        copy.head = FormatLinear(copy.head, format)
    return copy


class LayerNoise(NamedTuple):
    """One layer: signal-to-noise ratios in dB of its weights, its inputs and its outputs in a format."""

    name: str
    weights: float
    inputs: float
    outputs: float


def report(model: checkpoints.Model, format: str | Format, tokens: Int[Array | np.ndarray, "B T"]) -> list[LayerNoise]:
    """What a format does to each linear layer on these documents, its inputs being those of the float32 model.

    Ratios of what is all 0, as fresh weights may be, are NaN. Raises ValueError for an unknown format or one that
    rounds stochastically, and for what are not tokens of the model's vocabulary.
    """
    record: dict[str, Array] = {}
    model(np.asarray(tokens), record=record)
    weights, lines = checkpoints.split(model)[1], []
    for name, inputs in record.items():
        rows, kernel = inputs.reshape(-1, inputs.shape[-1]), jnp.asarray(weights[f"{name}.kernel"])
        read, held = quantize(rows, format), quantize(kernel, format, axis=0)
        exact = jnp.matmul(rows, kernel, precision="highest")
        pairs = (kernel, held), (rows, read), (exact, matmul(rows, kernel, format))
        lines.append(LayerNoise(name, *(_decibels(*pair) for pair in pairs)))
    return lines


def qsnr(exact: Array | np.ndarray, quantised: Array | np.ndarray) -> float:
    """-10 log10(|quantised - exact|^2 / |exact|^2), dB (Rouhani et al. 2023).

    Raises ValueError for arrays of two shapes, and for exact numbers that are all 0.
    """
    if np.shape(exact) != np.shape(quantised):
        raise ValueError(f"exact and quantised must have one shape, got {np.shape(exact)} and {np.shape(quantised)}")
    if not np.any(exact):
        raise ValueError(f"exact must hold a number that is not 0, got only zeros of shape {np.shape(exact)}")
    return _decibels(exact, quantised)


def _decibels(exact: Array | np.ndarray, quantised: Array | np.ndarray) -> float:
    exact, quantised = np.asarray(exact, np.float64), np.asarray(quantised, np.float64)
    return float(-10 * np.log10(np.square(quantised - exact).sum() / np.square(exact).sum()))


def fine_tune(model: checkpoints.Model, config: TrainConfig) -> checkpoints.Model:
    """Train a model of `in_format` further, forwards and backwards in its format; its weights stay float32.

    config: steps, rates and documents; its seed should not be the one the model was trained with. Raises ValueError
    for a model whose products are in no format, as those of weights-only models are.
    """
    if not any(isinstance(part, FormatLinear) for _, part in nnx.iter_modules(model)):
        raise ValueError("no product of this model is in a format: make it by in_format with activations")
    mesh = devices.mesh()
    graph, weights = checkpoints.split(model)
    optimizer = make_optimizer(config.optimizer, config.steps)
    advance = make_steps(config, graph, optimizer, make_data(config, config.data.build()[0]), mesh)
    state = initial_state(config, optimizer, mesh, weights)
    bar = trange(0, config.steps, 20, desc="fine-tuning", unit="20 steps", leave=False)
    for done in bar:
        state, loss = advance(state, min(20, config.steps - done))
        bar.set_postfix(loss=f"{float(loss):.3f}")
    return checkpoints.merge(graph, state.weights)
