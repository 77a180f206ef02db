"""A stacked LSTM language model with the transformer's interface: tokens in, logits out, a state to continue from.

Gates and biases follow torch.nn.LSTM (order input, forget, cell, output; an input and a recurrent bias), so the
paper's shape has the paper's 28,426,803 parameters.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key

from icl_synth import checks, layers
from icl_synth.transformer import Linear


@dataclasses.dataclass(frozen=True)
class LSTMConfig:
    """Shape of an LSTM."""

    vocab_size: int = 50
    """Number of tokens the model knows."""
    context: int = 256
    """Inputs in a training sequence at most; the model itself reads any length."""
    depth: int = 2
    """Number of stacked layers."""
    width: int = 128
    """Size of the embedding and of each layer's state."""
    dropout: float = 0.0
    """Probability of dropping an activation of the embedding or of a layer's output."""

    def __post_init__(self):
        for name in ("vocab_size", "context", "depth", "width"):
            checks.at_least(1, **{f"model.{name}": getattr(self, name)})
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout must be in [0, 1), got {self.dropout}")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LSTMState:
    """What each layer carries from token to token, N layers, and the number of tokens read."""

    hidden: Float[Array, "N B D"]
    cell: Float[Array, "N B D"]
    length: Int[Array, " B"]


class Layer(nnx.Module):
    """One LSTM layer. The input products of all positions are one matmul; only the recurrence is a loop."""

    def __init__(self, name: str, width: int, dtype: str, rngs: nnx.Rngs):
        std = (3 * width) ** -0.5
        self.dtype = dtype
        self.input = Linear(f"{name}.input", width, 4 * width, std, True, dtype, rngs)
        self.recurrent = Linear(f"{name}.recurrent", width, 4 * width, std, True, dtype, rngs)

    def __call__(self, x: Float[Array, "T B D"], hidden, cell, record: dict[str, Array] | None):
        assert self.recurrent.bias is not None
        gates = self.input(x, record) + self.recurrent.bias[...]
        outputs, hidden_after, cell_after = recurrence(gates, self.recurrent.kernel[...], hidden, cell, self.dtype)
        if record is not None:
            record[self.recurrent.name] = jnp.concatenate([hidden[None], outputs[:-1]])
        return outputs, hidden_after, cell_after


class LSTM(nnx.Module):
    """Tokens to next-token logits; model.extend(tokens, state) continues from a state, with equal logits."""

    def __init__(self, config: LSTMConfig, rngs: nnx.Rngs, dtype: str = "float32"):
        self.config, self.dtype = config, dtype
        self.embedding = nnx.Param(jax.random.normal(rngs.params(), (config.vocab_size, config.width), jnp.float32))
        self.layers = nnx.List([Layer(f"layers.{i}", config.width, dtype, rngs) for i in range(config.depth)])
        self.head = Linear("head", config.width, config.vocab_size, config.width**-0.5, True, dtype, rngs)

    def __call__(
        self,
        tokens: Int[Array | np.ndarray, "B T"],
        *,
        key: Key[Array, ""] | None = None,
        record: dict[str, Array] | None = None,
    ) -> Float[Array, "B T V"]:
        """Logits after each token. `key` turns dropout on; `record` is filled with the input of each linear layer.

        Raises ValueError unless `tokens` holds tokens of the vocabulary.
        """
        return self._run(tokens, self.init_state(tokens.shape[0]), key, record)[0]

    def embed(self, tokens: Int[Array | np.ndarray, "B T"]) -> Float[Array, "B T D"]:
        """The input of the first layer. Raises ValueError unless `tokens` holds tokens of the vocabulary."""
        checks.tokens(tokens, self.config.vocab_size)
        return self.embedding[...][tokens]

    def stage(
        self, index: int, x: Float[Array, "B T D"], *, record: dict[str, Array] | None = None
    ) -> Float[Array, "B T D"]:
        """The output of layer `index` for its input, from a state of zeros; `record` is that of a call of the model."""
        zeros = jnp.zeros((x.shape[0], self.config.width), jnp.float32)
        return self.layers[index](x.swapaxes(0, 1), zeros, zeros, record)[0].swapaxes(0, 1)

    def init_state(self, batch_size: int, length: int | None = None) -> LSTMState:
        """The state before any token. `length` is ignored: only a transformer needs it."""
        checks.at_least(1, batch_size=batch_size)
        zeros = jnp.zeros((self.config.depth, batch_size, self.config.width), jnp.float32)
        return LSTMState(zeros, zeros, jnp.zeros(batch_size, jnp.int32))

    def extend(
        self, tokens: Int[Array | np.ndarray, "B T"], state: LSTMState
    ) -> tuple[Float[Array, "B T V"], LSTMState]:
        """Logits after each of some further tokens, and the state after them.

        Raises ValueError for another number of rows than the state's, and unless `tokens` holds tokens of the
        vocabulary.
        """
        checks.rows(tokens, state.length)
        return self._run(tokens, state, None, None)

    def _run(self, tokens, state, key, record):
        rate = self.config.dropout if key is not None else 0.0

        def drop(site, x):
            if not rate:
                return x
            return layers.drop(x, jax.random.fold_in(key, site), rate)

        checks.tokens(tokens, self.config.vocab_size)
        x = drop(0, self.embedding[...][tokens.T])
        hidden, cell = [], []
        for i, layer in enumerate(self.layers):
            x, hidden_after, cell_after = layer(x, state.hidden[i], state.cell[i], record)
            x = drop(i + 1, x)
            hidden.append(hidden_after)
            cell.append(cell_after)
        logits = self.head(x, record).swapaxes(0, 1)
        return logits, LSTMState(jnp.stack(hidden), jnp.stack(cell), state.length + tokens.shape[1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def recurrence(
    gates: Float[Array, "T B G"],
    weight: Float[Array, "D G"],
    hidden: Float[Array, "B D"],
    cell: Float[Array, "B D"],
    dtype: DTypeLike,
) -> tuple[Float[Array, "T B D"], Float[Array, "B D"], Float[Array, "B D"]]:
    """Hidden states of a layer, and its last hidden and cell state; its G = 4 D gates already hold the input's part.

    The gradient is written out, so that the weight's gradient is one product over all positions after the backward
    loop and not a sum of small products inside it.
    """
    return _recurrence_forward(gates, weight, hidden, cell, dtype)[0]


def _recurrence_forward(gates, weight, hidden, cell, dtype):
    weight = weight.astype(dtype)

    def step(carry, gates_in):
        hidden, cell = carry
        i, f, g, o = jnp.split(gates_in + layers.product(hidden, weight, dtype), 4, axis=-1)
        i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
        new_cell = f * cell + i * g
        squashed = jnp.tanh(new_cell)
        return (o * squashed, new_cell), (o * squashed, (i, f, g, o, squashed, cell))

    (last_hidden, last_cell), (outputs, saved) = jax.lax.scan(step, (hidden, cell), gates, unroll=4)
    return (outputs, last_hidden, last_cell), (weight, hidden, outputs, saved)


def _recurrence_backward(dtype, residuals, gradients):
    weight, first_hidden, outputs, saved = residuals
    d_outputs, d_last_hidden, d_last_cell = gradients
    transposed = weight.T

    def step(carry, inputs):
        d_hidden, d_cell = carry
        d_output, (i, f, g, o, squashed, cell) = inputs
        d_hidden = d_hidden + d_output
        d_cell = d_cell + d_hidden * o * (1 - squashed * squashed)
        d_gates = jnp.concatenate(
            [
                d_cell * g * i * (1 - i),
                d_cell * cell * f * (1 - f),
                d_cell * i * (1 - g * g),
                d_hidden * squashed * o * (1 - o),
            ],
            axis=-1,
        )
        return (layers.product(d_gates, transposed, dtype), d_cell * f), d_gates

    (d_hidden, d_cell), d_gates = jax.lax.scan(
        step, (d_last_hidden, d_last_cell), (d_outputs, saved), reverse=True, unroll=4
    )
    before = jnp.concatenate([first_hidden[None], outputs[:-1]])
    d_weight = layers.weight_gradient(before, d_gates, dtype)
    return d_gates, d_weight, d_hidden, d_cell


recurrence.defvjp(_recurrence_forward, _recurrence_backward)
