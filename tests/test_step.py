"""A training step, its optimizers and its rates against what is written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from icl_synth import checkpoints, devices
from icl_synth.config import DataConfig, OptimizerConfig, TrainConfig
from icl_synth.lstm import LSTMConfig
from icl_synth.step import TrainState, learning_rate, make_optimizer, make_steps
from icl_synth.transformer import TransformerConfig

CONFIG = TrainConfig(batch=4, data=DataConfig(length=6), model=TransformerConfig(context=5, depth=1, width=8, heads=1))


def apart(config):
    """What a model is, and its weights' shapes."""
    graph, weights = checkpoints.split(nnx.eval_shape(lambda: checkpoints.create(config)))
    return graph, {name: w.shape for name, w in weights.items()}


def normals(shapes, seed):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}


def test_a_step_moves_weights_by_the_gradient_of_the_mean_loss_times_the_scale():
    tokens = np.random.default_rng(0).integers(0, 50, (4, 6))
    graph, shapes = apart(CONFIG.model)
    weights = normals(shapes, 1)

    @jax.jit
    @jax.value_and_grad
    def plain(weights):
        log_probs = jax.nn.log_softmax(checkpoints.merge(graph, weights)(tokens[:, :-1]))
        return -jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1).mean()

    expected, gradient = plain(weights)
    optimizer = optax.sgd(0.5)
    steps = make_steps(CONFIG, graph, optimizer, lambda _: jnp.asarray(tokens), devices.mesh(over=jax.devices()[:1]))
    for scale in (1.0, 0.25, 0.0):
        fresh = normals(shapes, 1)  # a state is donated
        state = TrainState(fresh, optimizer.init(fresh), jnp.int32(0), jnp.float32(scale))
        state, loss = steps(state, 1)
        assert float(loss) == pytest.approx(float(expected), rel=1e-5) and int(state.step) == 1
        for name, weight in weights.items():
            moved = np.asarray(state.weights[name] - weight)
            np.testing.assert_allclose(moved, -0.5 * scale * gradient[name], atol=scale * 1e-5, err_msg=name)


def test_adamw_by_hand():
    """Loshchilov and Hutter 2019, algorithm 2, after clipping: two of the three gradients are too large."""
    config = OptimizerConfig(
        "adamw", learning_rate=0.1, warmup_steps=3, weight_decay=0.3, beta1=0.8, beta2=0.95, clip=2.0
    )
    shapes = {"embedding": (5, 3), "norm.gain": (4,)}
    weights = normals(shapes, 0)
    by_hand = {name: np.asarray(w, np.float64) for name, w in weights.items()}
    first, second = ({name: np.zeros(shape) for name, shape in shapes.items()} for _ in range(2))
    optimizer = make_optimizer(config, 20)
    state, update = optimizer.init(weights), jax.jit(optimizer.update)
    for done, size in enumerate((5.0, 0.1, 3.0)):
        gradient = {name: size * g for name, g in normals(shapes, 1 + done).items()}
        updates, state = update(gradient, state, weights)
        weights = {name: w + updates[name] for name, w in weights.items()}
        norm = np.sqrt(sum((np.asarray(g, np.float64) ** 2).sum() for g in gradient.values()))
        assert (norm > 2.0) == (size > 1)
        rate = 0.1 * (done + 1) / 4
        for name, g in gradient.items():
            g = np.asarray(g, np.float64) * min(1.0, 2.0 / norm)
            first[name] = 0.8 * first[name] + 0.2 * g
            second[name] = 0.95 * second[name] + 0.05 * g**2
            mean, square = first[name] / (1 - 0.8 ** (done + 1)), second[name] / (1 - 0.95 ** (done + 1))
            by_hand[name] = by_hand[name] - rate * (mean / (np.sqrt(square) + 1e-8) + 0.3 * by_hand[name])
            np.testing.assert_allclose(weights[name], by_hand[name], atol=1e-5)


@pytest.mark.parametrize(
    ("model", "inside"),
    [(TransformerConfig(context=4, depth=1, width=8, heads=1), ("qkv", "out", "up", "down")),
     (LSTMConfig(context=4, depth=1, width=8), ("input", "recurrent"))],
    ids=["transformer", "lstm"],
)  # fmt: skip
def test_muon_turns_the_matrices_inside_layers_and_adam_moves_the_rest(model, inside):
    """Muon's first step has the gradient's singular vectors, all singular values near one; Adam's has its signs."""
    shapes = apart(model)[1]
    weights, gradient = normals(shapes, 0), normals(shapes, 1)
    config = OptimizerConfig(learning_rate=3e-3, muon_learning_rate=2e-2, warmup_steps=0, clip=1e6)
    optimizer = make_optimizer(config, 10)
    updates, _ = jax.jit(optimizer.update)(gradient, optimizer.init(weights), weights)
    by_muon = {f"{layers}.0.{name}.kernel" for layers in ("blocks", "layers") for name in inside} & weights.keys()
    assert len(by_muon) == len(inside)
    for name, update in updates.items():
        down = -np.asarray(update, np.float64)
        if name in by_muon:
            inputs, outputs = down.shape
            left, _, right = np.linalg.svd(np.asarray(gradient[name], np.float64), full_matrices=False)
            turned = left.T @ down @ right.T / (2e-2 * max(1, outputs / inputs) ** 0.5)
            assert (np.abs(turned - np.diag(np.diag(turned))) < 1e-3).all(), name
            assert (np.diag(turned) > 0.5).all() and (np.diag(turned) < 1.5).all(), name
        else:  # with Nesterov's momentum 1 + 0.9 / 1.9 times the rate
            np.testing.assert_allclose(down, 3e-3 * (1 + 0.9 / 1.9) * np.sign(gradient[name]), rtol=1e-2, err_msg=name)


DECAYS = {"linear": lambda share: 1 - share, "cosine": lambda share: (1 + np.cos(np.pi * share)) / 2,
          "plateau": lambda share: 1.0}  # fmt: skip


@pytest.mark.parametrize("schedule", DECAYS)
def test_learning_rate_warms_up_and_decays(schedule):
    rate = learning_rate(OptimizerConfig(warmup_steps=10, schedule=schedule), 2.0, 110)
    for done in (0, 4, 9):
        assert float(rate(done)) == pytest.approx(2.0 * (done + 1) / 11, rel=1e-5)
    for done in (10, 35, 60, 100, 110):
        assert float(rate(done)) == pytest.approx(2.0 * DECAYS[schedule]((done - 10) / 100), rel=1e-5, abs=1e-6)
