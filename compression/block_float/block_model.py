"""Models whose linear layers multiply in a block floating point format: weights alone, or weights and activations.

Products of queries with keys and of attention weights with values stay in the model's precision, and so do embeddings
and sums.
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
from compression.block_float.quantise import Carrier, carrier, matmul, quantize
from icl_synth import checkpoints, devices, layers
from icl_synth.config import TrainConfig
from icl_synth.lstm import LSTM, Layer
from icl_synth.step import initial_state, make_optimizer, make_steps
from icl_synth.training_data import make_data
from icl_synth.transformer import Linear

LAST = ("head",)


class FormatLinear(Linear):
    """x @ kernel + bias with both operands of the product in a format; the product goes through `carrier`."""

    def __init__(self, linear: Linear, format: Format, carrier: Carrier):
        self.name, self.dtype, self.kernel, self.bias = linear.name, linear.dtype, linear.kernel, linear.bias
        self.format, self.carrier = format, carrier

    def __call__(self, x: Float[Array, "*B I"], record: dict[str, Array] | None = None) -> Float[Array, "*B O"]:
        if record is not None:
            record[self.name] = x
        y = matmul(x, self.kernel[...], self.format, precision=self.carrier)
        return y if self.bias is None else y + self.bias[...]


class FormatLayer(Layer):
    """An LSTM layer whose recurrent product is in a format; the product of its input is the given layer's."""

    def __init__(self, layer: Layer, format: Format):
        self.dtype, self.recurrent, self.format = layer.dtype, layer.recurrent, format
        self.input = layer.input

    def __call__(self, x: Float[Array, "T B D"], hidden, cell, record: dict[str, Array] | None):
        assert self.recurrent.bias is not None
        kernel = self.recurrent.kernel[...]
        # once for all steps: blocks lie along the inputs in the forward product, along the outputs in the backward one
        forward, backward = (
            jax.lax.stop_gradient(quantize(weight, self.format, axis=0)) for weight in (kernel, kernel.T)
        )

        def step(carry: tuple[Array, Array], gates: Array) -> tuple[tuple[Array, Array], Array]:
            hidden, cell = carry
            product = recurrent_product(hidden, kernel, forward, backward, self.format)
            i, f, g, o = jnp.split(gates + product, 4, axis=-1)
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
    """matmul(hidden, kernel, format) in float32, with the kernel quantised beforehand for both directions."""
    return jnp.matmul(quantize(hidden, format), forward, precision="highest")


def _recurrent_forward(hidden, kernel, forward, backward, format):
    return recurrent_product(hidden, kernel, forward, backward, format), (hidden, forward, backward)


def _recurrent_backward(format, saved, gradient):
    hidden, forward, backward = saved
    to_hidden = jnp.matmul(quantize(gradient, format), backward, precision="highest")
    to_kernel = matmul(hidden.T, gradient, format, precision="float32")
    return to_hidden, to_kernel, jnp.zeros_like(forward), jnp.zeros_like(backward)


recurrent_product.defvjp(_recurrent_forward, _recurrent_backward)


def in_format(
    model: checkpoints.Model,
    format: str | Format,
    *,
    activations: bool = True,
    keep: tuple[str, ...] = LAST,
    precision: layers.Precision = "auto",
) -> checkpoints.Model:
    """A model with the same weights whose linear layers compute in a format; the given model does not change.

    activations: quantise the inputs of each product as well as its weights.
    keep: names of layers that stay in float32, by default the last one, `head`, as in the papers; a name such as
    `blocks.0` stands for all layers within it.
    precision: what carries the products, chosen here and once, as `quantise.carrier` says.

    A folder written by `checkpoints.export` holds plain models. To save a model with activations in a format, save the
    plain model and the format's name: `export(out_of_format(model), folder, format="msfp12")`, and later
    `in_format(load(folder), "msfp12")`. A model with quantised weights alone is a plain one and is exported as it is.

    Raises ValueError for an unknown format, a format that rounds stochastically, a name in `keep` that is no layer, a
    head that is tied to the embedding and not kept, and a precision that cannot carry the format; TypeError for a model
    whose layers were replaced before.
    """
    checkpoints.check_plain(model)
    format = find(format)
    if format.rounding == "stochastic":
        raise ValueError(f"{format.name} rounds stochastically, and a model has no key for it: choose another rounding")
    chosen = carrier(format, precision)
    graph, weights = checkpoints.split(model)
    kernels = [name.removesuffix(".kernel") for name in weights if name.endswith(".kernel")]
    check_keep(keep, kernels)
    quantised = [name for name in kernels if not is_kept(name, keep)]
    if not activations:
        for name in quantised:
            weights[f"{name}.kernel"] = quantize(jnp.asarray(weights[f"{name}.kernel"]), format, axis=0)
        return checkpoints.merge(graph, weights)
    copy = checkpoints.merge(graph, weights)
    for name in quantised:
        replace_layer(copy, name, format, chosen)
    return copy


def check_keep(keep: tuple[str, ...], kernels: list[str]) -> None:
    """Raise ValueError for a name that is no layer, and for a tied head that is not kept."""
    for name in keep:
        if name not in kernels and not any(kernel.startswith(f"{name}.") for kernel in kernels) and name not in LAST:
            raise ValueError(f"keep names {name!r}, which is no layer of this model: {', '.join(kernels)}")
    if "head" not in keep and "head" not in kernels:
        raise ValueError("the head is the embedding itself and stays in float32: leave head in keep")


def is_kept(name: str, keep: tuple[str, ...]) -> bool:
    """Whether a layer is named by `keep`, itself or by a part of the model that it lies in."""
    return any(name == part or name.startswith(f"{part}.") for part in keep)


def replace_layer(model: checkpoints.Model, name: str, format: Format, carrier: Carrier) -> None:
    """Put the layer of that name, such as "blocks.0.qkv", in a format; the model is changed."""
    if model.head is not None and name == "head":
        model.head = FormatLinear(model.head, format, carrier)
        return
    _, index, part = name.split(".")
    if not isinstance(model, LSTM):
        block = model.blocks[int(index)]
        setattr(block, part, FormatLinear(getattr(block, part), format, carrier))
    elif part == "input":
        model.layers[int(index)].input = FormatLinear(model.layers[int(index)].input, format, carrier)
    else:
        model.layers[int(index)] = FormatLayer(model.layers[int(index)], format)


def out_of_format(model: checkpoints.Model) -> checkpoints.Model:
    """The plain model with the weights of a model of `in_format`, so that it can be saved, after `fine_tune` too.

    Raises TypeError for a model whose layers were replaced by other means.
    """
    graph, expected = checkpoints.abstract(model.config, model.dtype)
    weights = checkpoints.split(model)[1]
    if weights.keys() != expected.keys():
        raise TypeError("the model is neither plain nor made by in_format: give the model it was made from")
    return checkpoints.merge(graph, weights)


class LayerNoise(NamedTuple):
    """Signal-to-noise ratios of a layer in a format, in dB: of its weights, its inputs and its outputs."""

    name: str
    weights: float
    inputs: float
    outputs: float


def report(model: checkpoints.Model, format: str | Format, tokens: Int[Array | np.ndarray, "B T"]) -> list[LayerNoise]:
    """The noise that a format adds to each linear layer on these documents; layers read the float32 model's inputs.

    The ratio of an array of zeros, such as fresh weights, is NaN. Raises ValueError for an unknown format, a format
    that rounds stochastically, and tokens outside the model's vocabulary.
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
    """Quantisation signal-to-noise ratio in dB: -10 log10(|quantised - exact|^2 / |exact|^2) (Rouhani et al. 2023).

    Raises ValueError for arrays of different shapes, and for exact numbers that are all 0.
    """
    if np.shape(exact) != np.shape(quantised):
        raise ValueError(f"exact and quantised must have one shape, got {np.shape(exact)} and {np.shape(quantised)}")
    if not np.any(exact):
        raise ValueError(f"exact must hold a number that is not 0, got only zeros of shape {np.shape(exact)}")
    return _decibels(exact, quantised)


def _decibels(exact: Array | np.ndarray, quantised: Array | np.ndarray) -> float:
    exact, quantised = np.asarray(exact, np.float64), np.asarray(quantised, np.float64)
    return float(-10 * np.log10(np.square(quantised - exact).sum() / np.square(exact).sum()))


def computes_in_format(model: checkpoints.Model) -> bool:
    """Whether some product of the model is in a format."""
    return any(isinstance(part, FormatLinear | FormatLayer) for _, part in nnx.iter_modules(model))


def fine_tune(model: checkpoints.Model, config: TrainConfig) -> checkpoints.Model:
    """Train a model of `in_format` further; both passes compute in its format, and its weights stay float32.

    config: steps, rates and documents; take another seed than the model was trained with, or it reads the same
    documents again. Raises ValueError for a model without products in a format, such as one with quantised weights
    alone.
    """
    if not computes_in_format(model):
        raise ValueError("no product of this model is in a format: make it by in_format with activations")
    mesh = devices.mesh()
    graph, weights = checkpoints.split(model)
    optimizer = make_optimizer(config.optimizer, config.steps)
    advance = make_steps(config, graph, optimizer, make_data(config), mesh)
    state = initial_state(config, optimizer, mesh, weights)
    bar = trange(0, config.steps, 20, desc="fine-tuning", unit="20 steps", leave=False)
    for done in bar:
        state, loss = advance(state, min(20, config.steps - done))
        bar.set_postfix(loss=f"{float(loss):.3f}", refresh=False)
    return checkpoints.merge(graph, state.weights)
