"""Evaluation against direct computation and simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_synth import bayes, checkpoints, devices
from icl_synth.concept_hmm import official_ginc
from icl_synth.documents import sample_documents
from icl_synth.evaluate import answers, compare_with_bayes, estimate, examples_that_fit, token_losses
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
    np.testing.assert_allclose(token_losses(GRAPH, WEIGHTS, tokens, devices.mesh()), direct, atol=1e-4)


def test_comparison_with_bayes():
    tokens, _ = sample_documents(WORLD, jax.random.key(2), 400, 30)
    compared = compare_with_bayes(MODEL, WORLD, tokens)
    assert (compared.kl > -1e-4).all()
    np.testing.assert_allclose(compared.bayes_loss, -bayes.token_log_likelihoods(WORLD, tokens)[:, 1:], atol=1e-4)
    # in expectation over documents, the excess of any model is its divergence from the exact predictor
    gap = (compared.excess - compared.kl).mean(-1)
    assert abs(gap.mean()) < 3 * gap.std() / len(gap) ** 0.5


def test_answers_are_greedy_over_the_whole_vocabulary():
    prompts = sample_prompts(WORLD, jax.random.key(3), 10, 2, 5)
    assert np.array_equal(answers(MODEL, prompts), MODEL(prompts.tokens)[:, -1].argmax(-1))


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.1), (3, 0.5)])
def test_intervals_cover_the_truth_95_times_in_100(seeds, spread):
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        # accuracies that differ by seed and by prompt, mean 0.5
        by_prompt = rng.normal(0, 1, (1, 60))
        by_seed = rng.normal(0, spread, (seeds, 1))
        mean, half_width = estimate(0.5 + by_prompt + by_seed + rng.normal(0, 0.3, (seeds, 60)))
        covered += abs(mean - 0.5) <= half_width
    assert 0.93 <= covered / 2000 <= 0.99


def test_an_interval_by_hand():
    """Two seeds, two prompts: their means are 2 and 3, 0.5 and 4.5; t of one degree of freedom is 12.7062 at 97.5 %."""
    assert estimate(np.array([[0, 4], [1, 5]])) == pytest.approx((2.5, (6.3531**2 + 3.92**2) ** 0.5), rel=1e-5)
    assert estimate(np.array([0, 4])) == pytest.approx((2, 3.92))
    assert estimate(np.array([[2], [3]])) == pytest.approx((2.5, 6.3531), rel=1e-5)
    assert estimate(np.array([7])) == (7, 0)


def test_prompts_that_fit():
    assert examples_that_fit(256, 3) == [0, 1, 2, 4, 8, 16, 32]
    assert examples_that_fit(258, 3) == [0, 1, 2, 4, 8, 16, 32, 64]
    assert examples_that_fit(256, 10) == [0, 1, 2, 4, 8, 16]
    assert jnp.shape(sample_prompts(WORLD, jax.random.key(0), 1, 64, 3).tokens)[1] == 258
