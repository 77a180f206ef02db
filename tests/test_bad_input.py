"""What icl_synth's public functions are given wrongly is refused early, by name (compression and decoding: beside)."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from icl_synth import (
    aspects,
    bayes,
    checkpoints,
    checks,
    devices,
    documents,
    estimates,
    evaluate,
    probe,
    run_folder,
    train,
)
from icl_synth.concept_hmm import official_ginc
from icl_synth.config import DataConfig, OptimizerConfig, TrainConfig
from icl_synth.lstm import LSTMConfig
from icl_synth.prompts import sample_prompts
from icl_synth.transformer import TransformerConfig
from tests.oracles import tiny_world

few = settings(max_examples=20, deadline=None)
no_number = st.sampled_from([math.nan, math.inf, -math.inf])
WORLD, _ = official_ginc()


@functools.cache
def model(kind):
    shape = (50, 12, 1, 8, 1) if kind == "transformer" else (50, 12, 1, 8)
    return checkpoints.create(TransformerConfig(*shape) if kind == "transformer" else LSTMConfig(*shape))


def refused(message, function, *arguments, **named):
    with pytest.raises(ValueError, match=message):
        function(*arguments, **named)


@few
@given(st.sampled_from(["property_transitions", "entity_transitions", "start"]), no_number | st.floats(-0.5, -1e-3))
def test_a_world_of_no_probabilities(name, wrong):
    values = getattr(WORLD, name)
    for broken in (values.at[(0,) * values.ndim].set(wrong), values * 1.01):
        refused(f"{name} must", dataclasses.replace, WORLD, **{name: broken})


@few
@given(st.integers(5, 99) | st.integers(-99, -6))
def test_concepts_that_are_not_there(wrong):
    refused("are not some of this world's 5", WORLD.select, [0, wrong])
    refused("are not some of this world's 5", WORLD.select, [])
    refused("are not some of this world's 5", WORLD.select, slice(5, 5 + abs(wrong)))


@few
@given(no_number | st.floats(1.001, 9) | st.floats(-9, -0.001))
def test_a_smoothing_or_noise_that_is_no_share(wrong):
    tokens = jnp.zeros((1, 5), jnp.int32)
    for function in (bayes.next_token_log_probs, bayes.token_log_likelihoods, bayes.concept_posterior):
        refused(r"smoothing must lie in \[0, 1\]", function, WORLD, tokens, smoothing=wrong)
    refused(r"smoothing must lie in \[0, 1\]", bayes.prompt_log_probs, WORLD, tokens, 2, wrong)
    refused(r"noise must lie in \[0, 0.5\]", aspects.robust_log_probs, WORLD, tokens, 2, wrong)
    refused(r"noise must lie in \[0, 0.5\]", aspects.robust_log_probs, WORLD, tokens, 2, noise=0.6)


@few
@given(st.integers(-3, 1))
def test_examples_without_input_and_label(wrong):
    prompts = sample_prompts(WORLD, jax.random.key(0), 2, 1, 3)
    refused("example_length must be at least 2", sample_prompts, WORLD, jax.random.key(0), 2, 1, wrong)
    refused("example_length must be at least 2", evaluate.examples_that_fit, 256, wrong)
    for function in (bayes.prompt_log_probs, aspects.robust_log_probs):
        refused("are no prompt of examples of", function, WORLD, prompts.tokens, wrong)
    refused("are no prompt of examples of", aspects.examples_of, prompts, wrong)
    refused("vocab_size must be at least 1", documents.token_names, min(wrong, 0))


def test_what_would_be_misread():
    refused("are not some of this world's", WORLD.select, [True] + [False] * (WORLD.num_concepts - 1))
    none = jnp.zeros((0, 4), jnp.int32)
    for function in (bayes.prompt_log_probs, aspects.robust_log_probs):
        refused("prompts must be at least 1", function, WORLD, none, 2)
    model = checkpoints.create(TransformerConfig(4, 8, 1, 8, 1))
    refused("tokens have 3 rows, the state 1", model.extend, jnp.zeros((3, 2), jnp.int32), model.init_state(1, 4))


def test_a_world_of_delimiters_has_no_prompts():
    one = dataclasses.replace(
        tiny_world(), memory=jnp.zeros((2, 1), jnp.int32), property_transitions=jnp.ones((1, 1, 1)),
        entity_transitions=jnp.eye(2), start=jnp.full((1, 2, 1), 0.5),
    )  # fmt: skip
    refused("needs at least 2", sample_prompts, one, jax.random.key(0), 1, 1, 3)


@few
@given(st.integers(50, 2**31 - 1) | st.integers(-(2**31), -1), st.sampled_from(["transformer", "lstm"]))
def test_tokens_outside_the_vocabulary(wrong, kind):
    tokens = np.array([[1, 2, wrong]], np.int32)
    refused(r"tokens must lie in 0..49, got", model(kind), tokens)
    refused(r"tokens must lie in 0..49, got", model(kind).extend, tokens, model(kind).init_state(1, 12))
    refused(r"tokens must lie in 0..49, got", probe.stages, model(kind), tokens)
    refused(r"tokens must lie in 0..49, got", evaluate.compare_with_bayes, model(kind), WORLD, tokens)
    prompts = sample_prompts(WORLD, jax.random.key(0), 1, 1, 3)._replace(tokens=jnp.asarray(tokens))
    refused(r"tokens must lie in 0..49, got", evaluate.answers, model(kind), prompts)


@pytest.mark.parametrize("kind", ["transformer", "lstm"])
def test_nothing_to_read(kind):
    graph, weights = checkpoints.split(model(kind))
    for function in (
        functools.partial(evaluate.token_losses, graph, weights),
        functools.partial(evaluate.compare_with_bayes, model(kind), WORLD),
    ):
        refused("documents must be at least 1", function, np.zeros((0, 5), np.int32))
        refused("length must be at least 2", function, np.zeros((3, 1), np.int32))
    refused("batch_size must be at least 1", model(kind).init_state, 0, 5)
    wide = dataclasses.replace(WORLD, vocab_size=51)
    refused(
        "vocab_size must be at least 51", evaluate.compare_with_bayes, model(kind), wide, np.zeros((1, 5), np.int32)
    )


def test_a_transformer_reads_within_its_context():
    refused("length must be at least 1", model("transformer"), np.zeros((1, 0), np.int32))
    gpt2 = checkpoints.create(TransformerConfig(50, 12, 1, 8, 1, style="gpt2"))
    refused("longer than the model's context 12", probe.stages, gpt2, np.zeros((1, 13), np.int32))
    refused("length must be at least 0", model("transformer").init_state, 1, -1)
    refused("spare must be at least 0", model("transformer").init_state, 1, 5, -1)


@few
@given(
    st.sampled_from(["learning_rate", "muon_learning_rate", "clip", "weight_decay", "beta1"]),
    no_number | st.floats(-9, -1e-6),
)
def test_an_optimizer_that_cannot_step(name, wrong):
    refused(rf"optimizer\.{name} must be", OptimizerConfig, **{name: wrong})


@few
@given(
    st.sampled_from([("vocab_size", 1), ("concepts", 0), ("entities", 0), ("properties", 1), ("length", 1),
                     ("documents", -1), ("document_length", 0), ("entity_persistence", 1.5)]),
    st.integers(0, 9),
)  # fmt: skip
def test_documents_of_no_world(named, less):
    name, most = named
    wrong = most + less if name == "entity_persistence" else most - less
    refused(rf"data\.{name} must", DataConfig, "random", **{name: wrong})


def test_a_word_that_is_no_choice():
    """The types that pytest enforces would stop these earlier, so the check is called by hand."""
    for make, name, prefix in (
        (TransformerConfig, "style", "model."),
        (DataConfig, "world", "data."),
        (OptimizerConfig, "schedule", "optimizer."),
        (TrainConfig, "precision", ""),
    ):
        config = make()
        object.__setattr__(config, name, "GPT2")
        with pytest.raises(ValueError, match=rf"{prefix}{name} must be one of .*, got 'GPT2'"):
            config.__post_init__()


@few
@given(no_number)
def test_a_probe_of_no_numbers(wrong):
    features, targets = np.zeros((4, 2), np.float32), np.full((4, 2), 0.5, np.float32)
    broken = features.copy()
    broken[1, 1] = wrong
    refused("features must be finite", probe.fit, broken, targets, 0.1)
    refused("targets must", probe.fit, features, np.where(broken == 0, targets, broken), 0.1)
    refused("targets must sum to 1", probe.fit, features, targets * 2, 0.1)
    refused("ridge must lie in", probe.fit, features, targets, wrong)
    refused("rows must be at least 1", probe.fit, features[:0], targets[:0], 0.1)


def test_an_estimate_of_nothing():
    refused("at least one", estimates.estimate, np.zeros(0))
    refused(r"\[seeds prompts\]", estimates.estimate, np.zeros((2, 3, 4)))


@few
@given(st.integers(-5, 0))
def test_devices_that_are_not_there(wrong):
    refused("model_parallel must be at least 1", devices.start, devices.Devices(model_parallel=wrong), 8)
    several = devices.Devices(coordinator="localhost:1", num_processes=wrong, process_id=0)
    refused("num_processes must be at least 1", devices.start, several, 8)
    refused("does not divide the 0 devices", devices.mesh, 1, [])


def test_a_run_that_is_refused_claims_no_folder(tmp_path):
    config = TrainConfig(batch=12, data=DataConfig(length=33))
    with pytest.raises(run_folder.TrainingError, match="make batch a multiple of 8"):
        train.train(config, tmp_path / "run", devices.mesh(over=jax.devices()))
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_model_is_no_run(tmp_path):
    checkpoints.export(model("lstm"), tmp_path / "model")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(run_folder.TrainingError, match="holds a model, not a run of ours"):
        train.train(TrainConfig(batch=8, data=DataConfig(length=33)), tmp_path / "model")
    assert sorted(tmp_path.rglob("*")) == before


def test_masks_of_numbers_are_refused(tmp_path):
    weights = checkpoints.split(model("lstm"))[1]
    save_file({"head.kernel": np.ones((8, 50), np.uint8)}, tmp_path / "masks.safetensors")
    refused("the mask head.kernel, uint8", checkpoints.load_masks, tmp_path, weights)


def test_checks_pass_what_is_traced():
    assert jax.jit(lambda x: checks.within(0, 1, x=x) or x)(2.0) == 2.0
