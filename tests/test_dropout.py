"""Dropout: what is dropped and how often, that the mean is kept, and that no two places, rows or steps share a draw."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
from test_step import apart, normals

from icl_synth import checkpoints, devices
from icl_synth.config import DataConfig, TrainConfig
from icl_synth.lstm import LSTMConfig
from icl_synth.step import initial_state, make_steps
from icl_synth.transformer import TransformerConfig

DROPPED, KEPT = 0.25, 0.75
ROWS = 2000


def with_weights(config, values):
    """A model whose weights are zero but for these."""
    graph, shapes = apart(config)
    given = {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}
    return checkpoints.merge(graph, {name: jnp.zeros(shape) for name, shape in shapes.items()} | given)


def p_value(found, expected):
    """Of numbers under {possible number: its probability}; 0 where there are others."""
    numbers, probs = (np.array(list(part)) for part in (expected.keys(), expected.values()))
    distance = np.abs(np.asarray(found).reshape(-1, 1) - numbers)
    if distance.min(1).max() > 1e-4:
        return 0.0
    return oracles.chi_square(np.bincount(distance.argmin(1), minlength=len(numbers)), probs)


def logits(model):
    """After many texts of token 0 alone, with dropout."""
    return jax.jit(lambda tokens, key: model(tokens, key=key))(jnp.zeros((ROWS, 1), int), jax.random.key(1))


def test_a_block_drops_attention_its_output_and_the_perceptrons_each_by_itself():
    """Attention's value and the perceptron's output are one, so that their sum shows what was kept."""
    values = {"blocks.0.qkv.bias": [0, 0, 0, 0, 1, 1], "blocks.0.out.kernel": np.eye(2), "blocks.0.down.bias": [1, 1]}
    model = with_weights(TransformerConfig(8, 1, 1, 2, 2, style="gpt2", dropout=DROPPED), values)
    found = jax.jit(lambda x, key: model.stage(0, x, key=key))(jnp.zeros((ROWS, 1, 2)), jax.random.key(0))
    attended, both = 1 / KEPT**2, KEPT**2  # dropped as a weight and as an output
    expected = {
        0.0: (1 - both) * DROPPED,
        attended: both * DROPPED,
        1 / KEPT: (1 - both) * KEPT,
        attended + 1 / KEPT: both * KEPT,
    }
    assert p_value(found, expected) > 1e-4


def test_a_transformer_drops_its_embedding():
    """Normed, two numbers are -1 and 1 in their order; that turns round where only the larger is dropped."""
    config = TransformerConfig(8, 1, 1, 2, 2, style="gpt2", dropout=DROPPED)
    model = with_weights(config, {"embedding": [[1, 2]] + [[0, 1]] * 7, "norm.gain": [1, 1]})
    assert p_value(logits(model)[..., 1], {1.0: KEPT, -1.0: DROPPED * KEPT, 0.0: DROPPED**2}) > 1e-4


def test_an_lstm_drops_its_embedding_and_its_layers_outputs_each_by_itself():
    def hidden(gate):  # of one unit after its first token, all its gates alike
        sigmoid = 1 / (1 + np.exp(-gate))
        return sigmoid * np.tanh(sigmoid * np.tanh(gate))

    values = {
        "embedding": np.ones((8, 1)),
        "layers.0.input.kernel": np.ones((1, 4)),
        "layers.0.input.bias": np.ones(4),
        "head.kernel": np.ones((1, 8)),
    }
    model = with_weights(LSTMConfig(8, 1, 1, 1, dropout=DROPPED), values)
    kept, dropped = hidden(1 + 1 / KEPT) / KEPT, hidden(1) / KEPT
    assert p_value(logits(model)[..., 0], {0.0: DROPPED, kept: KEPT**2, dropped: DROPPED * KEPT}) > 1e-4


@pytest.mark.parametrize(
    "model",
    [TransformerConfig(context=1, depth=1, width=16, heads=2, style="gpt2", dropout=0.5),
     LSTMConfig(context=1, depth=1, width=16, dropout=0.5)],
    ids=["transformer", "lstm"],
)  # fmt: skip
def test_every_row_of_every_training_step_is_dropped_by_itself(model):
    """Eight rows alike, each of a token of its own with one and the same embedding: only dropout tells gradients apart.

    Two devices take two micro-batches of two rows each.
    """
    config = TrainConfig(batch=8, micro_batch=2, data=DataConfig(length=2), model=model)
    tokens = jnp.stack([jnp.arange(8), jnp.full(8, 9)], axis=1)
    graph, shapes = apart(model)
    weights = normals(shapes, 0)
    weights["embedding"] = weights["embedding"].at[:8].set(weights["embedding"][0])
    # moves nothing; its state is the last gradient
    keep = optax.GradientTransformation(optax.tree.zeros_like, lambda g, _, w: (optax.tree.zeros_like(w), g))
    mesh = devices.mesh(over=jax.devices()[:2])
    steps = make_steps(config, graph, keep, lambda _: tokens, mesh)
    state, rows = initial_state(config, keep, mesh, weights), []
    for _ in range(2):
        state, _ = steps(state, 1)
        rows.extend(np.asarray(state.optimizer["embedding"][:8]))
    least = 1e-3 * np.abs(rows).max()
    assert all(np.abs(a - b).max() > least for a, b in itertools.combinations(rows, 2))
