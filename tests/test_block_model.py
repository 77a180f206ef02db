"""Models in a format against a loop over tokens written out, their caches, and training that stays in the format."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compression.block_float import find, fine_tune, in_format, matmul, out_of_format, quantize, report
from compression.block_float.block_model import computes_in_format, recurrent_product
from decoding.variants import in_int8
from icl_synth import checkpoints
from icl_synth.config import DataConfig, OptimizerConfig, TrainConfig
from icl_synth.lstm import LSTMConfig
from icl_synth.transformer import TransformerConfig

TOKENS = np.random.default_rng(0).integers(0, 50, (3, 12))
CONFIGS = [TransformerConfig(50, 32, 2, 32, 2), LSTMConfig(50, 32, 2, 32), TransformerConfig(50, 32, 1, 32, 2, "gpt2")]


def random_model(config) -> checkpoints.Model:
    """All weights random: fresh ones are zero where a block adds to the stream."""
    graph, weights = checkpoints.split(checkpoints.create(config))
    keys = jax.random.split(jax.random.key(3), len(weights))
    return checkpoints.merge(
        graph, {n: w + 0.3 * jax.random.normal(k, w.shape) for (n, w), k in zip(weights.items(), keys, strict=True)}
    )


def product(x, kernel, name):
    return np.asarray(quantize(x, name), np.float64) @ np.asarray(quantize(kernel, name, axis=0), np.float64)


@pytest.mark.parametrize("name", ["msfp12", "mx6", "mxfp4"])
def test_an_lstm_in_a_format_is_its_equations_with_quantised_products(name):
    model = random_model(CONFIGS[1])
    w = {n: np.asarray(v, np.float64) for n, v in checkpoints.split(model)[1].items()}
    logistic = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    hidden, cell, out = np.zeros((2, 3, 32)), np.zeros((2, 3, 32)), []
    for t in range(TOKENS.shape[1]):
        x = w["embedding"][TOKENS[:, t]]
        for n in range(2):
            gates = product(x, w[f"layers.{n}.input.kernel"], name) + w[f"layers.{n}.input.bias"]
            gates += product(hidden[n], w[f"layers.{n}.recurrent.kernel"], name) + w[f"layers.{n}.recurrent.bias"]
            i, f, g, o = np.split(gates, 4, axis=-1)
            cell[n] = logistic(f) * cell[n] + logistic(i) * np.tanh(g)
            x = hidden[n] = logistic(o) * np.tanh(cell[n])
        out.append(x @ w["head.kernel"] + w["head.bias"])
    difference = np.abs(np.asarray(in_format(model, name)(TOKENS)) - np.stack(out, 1))
    # float32 and float64 part ways where a value lies on the border of two elements; most do not
    assert np.median(difference) < 1e-4
    assert np.abs(np.asarray(model(TOKENS)) - np.stack(out, 1)).mean() > 10 * difference.mean()


@pytest.mark.parametrize("config", CONFIGS, ids=["transformer", "lstm", "gpt2"])
def test_fine_formats_change_little_coarse_ones_much_and_kept_layers_nothing(config):
    model = random_model(config)
    exact = np.asarray(model(TOKENS))
    off = {name: np.abs(np.asarray(in_format(model, name)(TOKENS)) - exact).mean() for name in ("bfp14_16", "msfp11")}
    assert off["bfp14_16"] < 2e-3 * np.abs(exact).mean() < off["msfp11"]
    kept = in_format(model, "msfp11", keep=("head", "blocks" if isinstance(config, TransformerConfig) else "layers"))
    np.testing.assert_array_equal(kept(TOKENS), exact)
    np.testing.assert_array_equal(model(TOKENS), exact)  # the given model is as it was
    only_weights = in_format(model, "msfp11", activations=False)
    before, after = checkpoints.split(model)[1], checkpoints.split(only_weights)[1]
    for name, weight in before.items():
        inside = name.endswith("kernel") and not name.startswith("head")
        np.testing.assert_array_equal(after[name], quantize(weight, "msfp11", axis=0) if inside else weight)


@pytest.mark.parametrize("config", CONFIGS, ids=["transformer", "lstm", "gpt2"])
def test_a_cache_gives_the_same_logits_in_a_format(config):
    model = in_format(random_model(config), "msfp12")
    state = model.init_state(3, 12)
    first, state = model.extend(TOKENS[:, :5], state)
    second, _ = model.extend(TOKENS[:, 5:], state)
    close = np.isclose(np.concatenate([first, second], 1), model(TOKENS), atol=1e-3)
    assert close.mean() > 0.97  # rounding borders again


def test_the_report_names_every_layer_and_its_noise():
    model = random_model(CONFIGS[0])
    fine, coarse = (report(model, name, TOKENS) for name in ("msfp16", "msfp12"))
    assert [line.name for line in fine] == [f"blocks.{i}.{p}" for i in (0, 1) for p in ("qkv", "out", "up", "down")] + [
        "head"
    ]
    for low_noise, high_noise in zip(fine, coarse, strict=True):
        assert low_noise.weights == pytest.approx(high_noise.weights + 24, abs=2)  # four bits of six decibels each
        assert low_noise.outputs > high_noise.outputs + 15
        assert low_noise.outputs < max(low_noise.weights, low_noise.inputs)


def test_fine_tuning_in_a_format_lowers_its_loss(tmp_path):
    config = TrainConfig(
        seed=1,
        steps=40,
        batch=8,
        precision="float32",
        data=DataConfig(length=17),
        model=dataclasses.replace(CONFIGS[0], vocab_size=50),
        optimizer=OptimizerConfig("adamw", 3e-3, warmup_steps=4),
    )
    model = in_format(random_model(config.model), "msfp11")
    tokens = np.random.default_rng(1).integers(0, 50, (4, 17))

    def loss(model):
        log_probs = jax.nn.log_softmax(model(tokens[:, :-1]))
        return -float(jnp.take_along_axis(log_probs, tokens[:, 1:, None], -1).mean())

    tuned = fine_tune(model, config)
    assert loss(tuned) < loss(model) - 0.5
    weights = checkpoints.split(tuned)[1]["blocks.0.up.kernel"]
    assert bool((weights != quantize(weights, "msfp11", axis=0)).any())  # float32 weights behind the format
    # saved as in_format's docstring says: the plain model and the format's name
    folder = checkpoints.export(out_of_format(tuned), tmp_path, format="msfp11")
    again = in_format(checkpoints.load(folder), json.loads((folder / "config.json").read_text())["card"]["format"])
    np.testing.assert_array_equal(again(TOKENS), tuned(TOKENS))


def test_an_lstm_trains_in_a_format_forwards_and_backwards():
    """The recurrent product and both products of its gradient, against block_float.matmul."""
    keys = jax.random.split(jax.random.key(0), 3)
    hidden, kernel, gradient = (
        jax.random.normal(k, s) for k, s in zip(keys, ((8, 32), (32, 48), (8, 48)), strict=True)
    )
    held = [quantize(weight, "msfp11", axis=0) for weight in (kernel, kernel.T)]
    out, pull = jax.vjp(lambda h, k: recurrent_product(h, k, *held, find("msfp11")), hidden, kernel)
    same, pull_same = jax.vjp(lambda h, k: matmul(h, k, "msfp11"), hidden, kernel)
    for got, expected in zip((out, *pull(gradient)), (same, *pull_same(gradient)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_what_is_in_no_format_is_not_tuned_in_it_and_a_tied_head_stays():
    model = random_model(CONFIGS[0])
    with pytest.raises(ValueError, match="no product of this model is in a format"):
        fine_tune(in_format(model, "msfp12", activations=False), TrainConfig())
    with pytest.raises(ValueError, match="leave head in keep"):
        in_format(random_model(CONFIGS[2]), "msfp12", keep=())


def test_either_product_of_an_lstm_layer_may_stay():
    model = random_model(CONFIGS[1])
    exact, both = (np.asarray(m(TOKENS)) for m in (model, in_format(model, "msfp11", keep=("head", "layers.1"))))
    halves = [f"layers.0.{part}" for part in ("input", "recurrent")]
    kept = in_format(model, "msfp11", keep=("head", "layers.1", *halves))
    np.testing.assert_array_equal(kept(TOKENS), exact)
    for half in halves:
        changed = np.asarray(in_format(model, "msfp11", keep=("head", "layers.1", half))(TOKENS))
        assert not np.allclose(changed, exact) and not np.allclose(changed, both), half


def test_layers_that_are_not_there_are_named():
    with pytest.raises(ValueError, match=r"keep names 'blocks.7', which is no layer of this model: blocks.0.down"):
        in_format(random_model(CONFIGS[0]), "msfp12", keep=("blocks.7",))


@pytest.mark.parametrize("config", CONFIGS, ids=["transformer", "lstm", "gpt2"])
def test_out_of_a_format_a_model_is_the_plain_one_again(config):
    model = random_model(config)
    plain = out_of_format(in_format(model, "msfp11"))
    checkpoints.check_plain(plain)
    np.testing.assert_array_equal(plain(TOKENS), model(TOKENS))
    if config is CONFIGS[0]:
        with pytest.raises(TypeError, match="neither plain nor made by in_format"):
            out_of_format(in_int8(model))


def test_what_carries_the_products_is_chosen_once_and_may_be_asked_for():
    model = random_model(CONFIGS[0])
    for precision in ("float32", "bfloat16"):
        blocks = in_format(model, "mx9", precision=precision).blocks
        assert {getattr(block, part).carrier for block in blocks for part in ("qkv", "out", "up", "down")} == {
            precision
        }
    with pytest.raises(ValueError, match="bfloat16 does not hold every value of int8"):
        in_format(model, "int8", precision="bfloat16")


def test_a_recurrent_product_alone_is_one_to_tune():
    model, keep = random_model(CONFIGS[1]), ("head", "layers.0.input", "layers.1.input")
    assert computes_in_format(in_format(model, "msfp12", keep=keep))
    assert not computes_in_format(model) and not computes_in_format(in_format(model, "msfp12", activations=False))
