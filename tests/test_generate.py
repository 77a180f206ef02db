"""Greedy and sampled generation against re-running the whole model for every token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from decoding.generate import generate
from decoding.job import PAD
from decoding.sampling import check_sampling, distribution
from icl_synth import checkpoints
from icl_synth.lstm import LSTMConfig
from icl_synth.transformer import TransformerConfig
from tests import oracles

PROMPT = np.random.default_rng(0).integers(0, 12, (5, 7))


def random_model(config, seed=0, scale=0.6):
    """A model whose every weight is random, so that its predictions are far from flat."""
    graph, weights = checkpoints.split(checkpoints.create(config, seed))
    keys = jax.random.split(jax.random.key(seed + 100), len(weights))
    moved = {n: w + scale * jax.random.normal(k, w.shape) for (n, w), k in zip(weights.items(), keys, strict=True)}
    return checkpoints.merge(graph, moved)


MODELS = {
    "modern": TransformerConfig(12, 24, 2, 16, 2),
    "gpt2": TransformerConfig(12, 24, 2, 16, 2, style="gpt2"),
    "lstm": LSTMConfig(12, 24, 2, 16),
}


@pytest.mark.parametrize("kind", MODELS)
def test_greedy_is_the_naive_rerun_for_prompts_of_any_length_to_the_end_of_the_context(kind):
    model, lengths = random_model(MODELS[kind]), np.array([7, 1, 4, 7, 2])
    found = np.asarray(generate(model, PROMPT, 17, lengths=lengths))
    read = jax.jit(lambda room: model(room))
    for row, length in enumerate(lengths):
        expected = oracles.greedy(read, 24, PROMPT[row, :length], 17)
        assert (found[row, : length + 17] == expected).all() and (found[row, length + 17 :] == PAD).all()


def test_a_row_ends_with_the_stop_token_and_the_others_go_on():
    model = random_model(MODELS["modern"])
    whole = np.asarray(generate(model, PROMPT, 17))
    stop = int(whole[0, 9])
    found = np.asarray(generate(model, PROMPT, 17, stop=stop))
    for row in range(len(PROMPT)):
        after = np.flatnonzero(whole[row, 7:] == stop)
        end = 7 + after[0] + 1 if len(after) else 24
        assert (found[row, :end] == whole[row, :end]).all() and (found[row, end:] == PAD).all()
    assert (found[0] == PAD).any()


def test_sampled_continuations_have_the_models_distribution():
    model = random_model(TransformerConfig(4, 16, 1, 8, 1), scale=0.4)
    prompt, rows = np.array([[1, 2]]), 8192
    exact = oracles.continuations(model, prompt[0], 3, lambda logits: distribution(logits, warm(0.8)))
    found = np.asarray(generate(model, np.repeat(prompt, rows, 0), 3, temperature=0.8, key=jax.random.key(3)))[:, 2:]
    again = generate(model, np.repeat(prompt, rows, 0), 3, temperature=0.8, key=jax.random.key(3))
    assert (np.asarray(again)[:, 2:] == found).all()
    counts = np.bincount(found @ [16, 4, 1], minlength=64)
    assert oracles.chi_square(counts, exact) > 1e-3
    assert oracles.chi_square(counts, np.full(64, 1 / 64)) < 1e-6


def warm(temperature, top_k=None, top_p=None):
    return check_sampling(temperature, top_k, top_p, jax.random.key(0), 12)


@pytest.mark.parametrize(("top_k", "top_p"), [(None, None), (3, None), (None, 0.7), (5, 0.5), (1, None), (None, 1e-6)])
def test_temperature_top_k_and_top_p(top_k, top_p):
    logits = np.random.default_rng(1).normal(size=(20, 12)).astype(np.float32)
    found = np.asarray(distribution(jnp.asarray(logits), warm(0.7, top_k, top_p)))
    for row, line in zip(found, logits, strict=True):
        probs = scipy.special.softmax(line / 0.7)
        order = np.argsort(-probs)
        kept = order[:top_k]
        probs = probs[kept] / probs[kept].sum()
        if top_p:
            number = int((np.cumsum(probs) - probs < top_p).sum())
            kept, probs = kept[:number], probs[:number] / probs[:number].sum()
        expected = np.zeros(12)
        expected[kept] = probs
        np.testing.assert_allclose(row, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_tokens": 18}, "longer than the model's context 24"),
        ({"num_tokens": 0}, "num_tokens must be a whole number, at least 1"),
        ({"prompt": PROMPT[:0]}, "prompt must be integers of shape"),
        ({"temperature": -1.0}, "temperature must be 0"),
        ({"temperature": float("nan")}, "temperature must be 0"),
        ({"temperature": 1.0}, "needs a key"),
        ({"prompt": PROMPT + 6}, r"prompt must lie in 0\.\.11"),
        ({"lengths": np.array([7, 7, 7, 7, 8])}, "lengths must be 5 whole numbers between 1 and 7"),
        ({"lengths": np.array([0, 7, 7, 7, 7])}, "lengths must be 5 whole numbers between 1 and 7"),
        ({"top_k": 0}, "top_k must be a whole number from 1 to 12"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"stop": 12}, "stop must be a whole number from 0 to 11"),
    ],
)
def test_bad_input_says_what_is_wrong(change, message):
    arguments = {"prompt": PROMPT, "num_tokens": 3} | change
    with pytest.raises(ValueError, match=message):
        generate(random_model(MODELS["modern"]), **arguments)
