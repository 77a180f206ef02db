"""Evaluation against direct computation and simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_synth import bayes, checkpoints, devices
from icl_synth.concept_hmm import official_ginc
from icl_synth.documents import sample_documents
from icl_synth.evaluate import answers, compare_with_bayes, examples_that_fit, kl_to_bayes, token_losses
from icl_synth.prompt_layout import most_examples, num_examples, prompt_length
from icl_synth.prompts import sample_prompts
from icl_synth.transformer import TransformerConfig

WORLD = official_ginc()[0]
MODEL = checkpoints.create(TransformerConfig(context=40, depth=1, width=16, heads=1), seed=3)
GRAPH, WEIGHTS = checkpoints.split(MODEL)
WEIGHTS = {name: w + 0.2 * jax.random.normal(jax.random.key(0), w.shape) for name, w in WEIGHTS.items()}
MODEL = checkpoints.merge(GRAPH, WEIGHTS)


@pytest.mark.parametrize("rows", [3, 32, 33])
def test_losses_are_those_of_the_plain_model_on_any_number_of_rows(rows):
    tokens = np.asarray(sample_documents(WORLD, jax.random.key(1), rows, 20)[0])
    log_probs = jax.nn.log_softmax(MODEL(tokens))
    direct = -np.take_along_axis(np.asarray(log_probs)[:, :-1], tokens[:, 1:, None], -1)[..., 0]
    np.testing.assert_allclose(
        token_losses(GRAPH, WEIGHTS, tokens, devices.mesh(over=jax.devices())), direct, atol=1e-4
    )


def test_comparison_with_bayes():
    tokens, _ = sample_documents(WORLD, jax.random.key(2), 400, 30)
    compared = compare_with_bayes(MODEL, WORLD, tokens)
    assert (compared.kl > -1e-4).all()
    np.testing.assert_allclose(compared.bayes_loss, -bayes.token_log_likelihoods(WORLD, tokens)[:, 1:], atol=1e-4)
    # in expectation over documents, the excess of any model is its divergence from the exact predictor
    gap = (compared.excess - compared.kl).mean(-1)
    assert abs(gap.mean()) < 3 * gap.std() / len(gap) ** 0.5


def test_divergence_by_hand():
    """0.5 ln(0.5 / 0.25) + 0.5 ln(0.5 / 0.5); the model's share for an impossible token, 0.25, does not count."""
    exact = np.log(np.array([[[0.5, 0.5, 1e-300]]])).astype(np.float32)
    exact[..., 2] = -np.inf
    learned = np.log(np.array([[[0.25, 0.5, 0.25]]], np.float32))
    np.testing.assert_allclose(kl_to_bayes(exact, learned), [[0.5 * np.log(2)]], rtol=1e-6)
    assert kl_to_bayes(np.full((1, 1, 3), -np.inf, np.float32), learned) == 0  # an impossible document


def test_answers_are_greedy_over_the_whole_vocabulary():
    prompts = sample_prompts(WORLD, jax.random.key(3), 10, 2, 5)
    assert np.array_equal(answers(MODEL, prompts), MODEL(prompts.tokens)[:, -1].argmax(-1))


def test_prompts_that_fit():
    assert examples_that_fit(256, 3) == [0, 1, 2, 4, 8, 16, 32]
    assert examples_that_fit(258, 3) == [0, 1, 2, 4, 8, 16, 32, 64]
    assert examples_that_fit(256, 10) == [0, 1, 2, 4, 8, 16]
    assert jnp.shape(sample_prompts(WORLD, jax.random.key(0), 1, 64, 3).tokens)[1] == 258


@pytest.mark.parametrize("example_length", [2, 3, 10])
def test_the_layout_of_prompts_is_that_of_the_prompts(example_length):
    lengths = {}
    for count in range(40):
        # example by example: k tokens and a delimiter each, then the test input
        lengths[sum([example_length + 1] * count) + example_length - 1] = count
        assert prompt_length(count, example_length) == max(lengths)
    for length in range(max(lengths)):
        fitting = [count for own, count in lengths.items() if own <= length]
        assert most_examples(length, example_length) == max(fitting, default=-1)
        if length in lengths:
            assert num_examples(length, example_length) == lengths[length]
        else:
            with pytest.raises(ValueError, match=f"{length} tokens are no prompt of examples of {example_length}"):
                num_examples(length, example_length)
