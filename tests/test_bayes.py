import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from icl_synth import bayes
from icl_synth.concept_hmm import ConceptHMM, official_ginc
from icl_synth.prompts import sample_prompts

# the 100 x 1,024 validation tokens that the public code publishes for V = 50 (commit 84fab21), delimiter = 0
OFFICIAL = np.load(pathlib.Path(__file__).parent / "goldens" / "ginc_official_val_v50.npz")


@pytest.mark.parametrize("own_entities", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_filter_agrees_with_enumeration_of_every_path(own_entities, smoothing):
    hmm = oracles.tiny_world(own_entities)
    documents = jnp.array([[0, 1, 3, 0], [2, 0, 1, 1], [1, 2, 0, 3], [3, 3, 3, 3], [0, 0, 2, 1]], jnp.int32)
    log_probs = bayes.next_token_log_probs(hmm, documents, smoothing)
    posterior = bayes.concept_posterior(hmm, documents, smoothing)
    realised = bayes.token_log_likelihoods(hmm, documents, smoothing)
    for b, document in enumerate(documents.tolist()):
        for t in range(len(document)):
            if sum(oracles.probability(hmm, document[:t], c, smoothing=smoothing) for c in range(2)) == 0:
                assert (log_probs[b, t] == -jnp.inf).all()
                continue
            expected = oracles.next_token_probs(hmm, document[:t], smoothing)
            np.testing.assert_allclose(np.exp(log_probs[b, t]), expected, atol=2e-6)
            np.testing.assert_allclose(np.exp(realised[b, t]), expected[document[t]], atol=2e-6)
            if expected[document[t]] > 0:
                now = oracles.concept_posterior(hmm, document[: t + 1], smoothing)
                np.testing.assert_allclose(posterior[b, t], now, atol=2e-6)


def test_impossible_token_gives_minus_infinity_from_there_on_and_never_nan():
    hmm = oracles.tiny_world().select([1])  # property 1 always moves to 0, so token 3 is always followed by 0
    document = jnp.array([[3, 3, 0, 2]], jnp.int32)
    log_probs = bayes.next_token_log_probs(hmm, document)[0]
    assert np.isfinite(log_probs[1, 0]) and log_probs[1, 3] == -jnp.inf
    assert (log_probs[2:] == -jnp.inf).all()
    assert (bayes.token_log_likelihoods(hmm, document)[0, 1:] == -jnp.inf).all()
    two = bayes.concept_posterior(oracles.tiny_world(), jnp.array([[3, 3, 3, 0]], jnp.int32))[0]
    assert np.isfinite(two).all() and (two[1:] == two[0]).all()


def test_a_concept_far_behind_takes_over_when_the_leader_becomes_impossible():
    # concept 0 repeats token 1 surely, concept 1 with probability 1/2: after 400 tokens it trails by 277 nats
    hmm = ConceptHMM(
        memory=jnp.array([[0, 1]], jnp.int32),
        property_transitions=jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]]),
        entity_transitions=jnp.ones((1, 1)),
        start=jnp.full((2, 1, 2), 0.5),
    )
    document = jnp.ones((1, 402), jnp.int32).at[0, 400].set(0)
    log_probs = bayes.token_log_likelihoods(hmm, document)[0]
    assert log_probs[400] == pytest.approx(400 * np.log(0.5), rel=1e-5)
    assert log_probs[401] == pytest.approx(np.log(0.5), rel=1e-5)
    assert bayes.next_token_log_probs(hmm, document)[0, 400, 0] == pytest.approx(400 * np.log(0.5), rel=1e-5)


def test_official_validation_set_scores_what_the_exact_filter_should():
    hmm, _ = official_ginc()
    tokens = jnp.asarray(OFFICIAL["tokens"], jnp.int32)
    realised = bayes.token_log_likelihoods(hmm, tokens)
    assert -realised.mean() == pytest.approx(1.3224, abs=1e-4)
    assert -realised[:, 1:].mean() == pytest.approx(1.3203, abs=1e-4)
    assert -realised[:, 0].mean() == pytest.approx(3.525, abs=1e-3)
    posterior = bayes.concept_posterior(hmm, tokens)
    assert (posterior[:, -1].argmax(-1) == OFFICIAL["concepts"]).all()
    true = posterior[jnp.arange(100), :, OFFICIAL["concepts"]].mean(0)
    assert true[7] > 0.95 > true[0]


def test_realised_and_whole_vocabulary_forms_agree():
    hmm, _ = official_ginc(vocab_size=100)
    tokens = jax.random.choice(jax.random.key(0), hmm.memory.ravel(), (3, 20))
    log_probs = bayes.next_token_log_probs(hmm, tokens, 1e-3)
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1, atol=1e-5)
    picked = jnp.take_along_axis(log_probs, tokens[..., None], -1)[..., 0]
    np.testing.assert_allclose(picked, bayes.token_log_likelihoods(hmm, tokens, 1e-3), atol=1e-4)


def test_the_filter_is_causal():
    hmm, _ = official_ginc()
    tokens = jnp.asarray(OFFICIAL["tokens"][:4, :32], jnp.int32)
    changed = bayes.next_token_log_probs(hmm, tokens.at[:, 20:].set(0))
    np.testing.assert_array_equal(bayes.next_token_log_probs(hmm, tokens)[:, :21], changed[:, :21])


@pytest.mark.parametrize("own_entities", [False, True])
@pytest.mark.parametrize(("num_examples", "smoothing"), [(0, 0.0), (1, 0.0), (2, 0.0), (2, 0.3)])
def test_prompt_aware_reader_agrees_with_enumeration(own_entities, num_examples, smoothing):
    hmm = oracles.tiny_world(own_entities)
    prompts = sample_prompts(hmm, jax.random.key(num_examples), 6, num_examples, 3)
    log_probs = bayes.prompt_log_probs(hmm, prompts.tokens, 3, smoothing)
    for prompt, ours in zip(prompts.tokens.tolist(), log_probs, strict=True):
        np.testing.assert_allclose(np.exp(ours), oracles.prompt_label_probs(hmm, prompt, 3, smoothing), atol=2e-6)


def test_prompt_aware_reader_knows_that_no_example_starts_at_the_delimiters_property():
    # here property 0 emits the same tokens as others, so that tokens do not rule it out
    hmm = dataclasses.replace(oracles.tiny_world(), memory=jnp.array([[1, 1, 2], [2, 3, 1]], jnp.int32))
    prompts = sample_prompts(hmm, jax.random.key(0), 6, 2, 3)
    log_probs = bayes.prompt_log_probs(hmm, prompts.tokens, 3, 0.3)
    for prompt, ours in zip(prompts.tokens.tolist(), log_probs, strict=True):
        np.testing.assert_allclose(np.exp(ours), oracles.prompt_label_probs(hmm, prompt, 3, 0.3), atol=2e-6)


def test_prompt_aware_reader_of_an_impossible_prompt_predicts_nothing():
    hmm = oracles.tiny_world().select([1])
    log_probs = bayes.prompt_log_probs(hmm, jnp.array([[3, 3, 3, 0, 1, 0]], jnp.int32), 3)
    assert (log_probs == -jnp.inf).all()


@pytest.mark.parametrize("length, example_length", [(4, 3), (3, 3), (1, 1), (0, 3)])
def test_prompt_aware_reader_refuses_lengths_that_no_prompt_has(length, example_length):
    with pytest.raises(ValueError, match="no prompt"):
        bayes.prompt_log_probs(oracles.tiny_world(), jnp.zeros((1, length), jnp.int32), example_length)


@pytest.mark.parametrize(
    "example_length, num_examples, smoothing, expected",
    [(10, 1, 1e-6, 1.0), (5, 16, 1e-6, 0.99), (3, 0, 1e-6, 0.56), (3, 64, 1e-6, 0.62), (3, 64, 1e-2, 0.85)],
)
def test_smoothed_filter_answers_official_prompts_as_often_as_measured(
    example_length, num_examples, smoothing, expected
):
    hmm, _ = official_ginc()
    prompts = sample_prompts(hmm, jax.random.key(5), 600, num_examples, example_length)
    belief = bayes.next_token_log_probs(hmm, jnp.pad(prompts.tokens, ((0, 0), (0, 1))), smoothing)[:, -1]
    accuracy = (belief.argmax(-1) == prompts.labels).mean()
    assert accuracy == pytest.approx(expected, abs=0.01 + 3 * np.sqrt(expected * (1 - expected) / 600))


@pytest.mark.parametrize("num_examples, expected", [(0, 0.56), (1, 0.93), (4, 1.0)])
def test_prompt_aware_reader_answers_official_prompts_as_often_as_measured(num_examples, expected):
    hmm, _ = official_ginc()
    prompts = sample_prompts(hmm, jax.random.key(6), 1000, num_examples, 3)
    accuracy = (bayes.prompt_log_probs(hmm, prompts.tokens, 3).argmax(-1) == prompts.labels).mean()
    assert accuracy == pytest.approx(expected, abs=0.01 + 3 * np.sqrt(expected * (1 - expected) / 1000))
