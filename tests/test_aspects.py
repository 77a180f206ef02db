"""Prompts with one aspect changed: what changes and what does not, and the reader that allows for noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_synth import bayes
from icl_synth.aspects import ASPECTS, alter, examples_of, gold_labels, label_set, outside, robust_log_probs
from icl_synth.concept_hmm import WorldConfig, official_ginc, sample_concept_hmm
from icl_synth.prompts import DELIMITER, sample_prompts

HMM = official_ginc()[0]
K, N = 5, 6
PROMPTS = sample_prompts(HMM, jax.random.key(0), 200, N, K)
ALTERED = {aspect: np.asarray(alter(HMM, PROMPTS, K, aspect, jax.random.key(1))) for aspect in ASPECTS}
EXAMPLES, TEST = (np.asarray(part) for part in examples_of(PROMPTS, K))


def parts(tokens, width):
    """[prompts examples width] and the test input, delimiters checked."""
    shown = tokens[:, : -(K - 1)].reshape(len(tokens), -1, width + 1)
    assert (shown[:, :, -1] == DELIMITER).all()
    return shown[:, :, :-1], tokens[:, -(K - 1) :]


@pytest.mark.parametrize("aspect", ASPECTS)
def test_only_the_aspect_changes(aspect):
    width = {"inputs only": K - 1, "labels only": 1}.get(aspect, K)
    shown, test = parts(ALTERED[aspect], width)
    np.testing.assert_array_equal(test, TEST)
    assert shown.shape[1] == (0 if aspect == "no examples" else N)
    if aspect not in ("inputs from outside", "labels only", "no examples"):
        np.testing.assert_array_equal(shown[:, :, : K - 1], EXAMPLES[:, :, :-1])
    if aspect in ("as sampled", "inputs from outside", "labels only"):
        np.testing.assert_array_equal(shown[:, :, -1], EXAMPLES[:, :, -1])


def test_labels_are_from_where_they_should_be():
    known, never = label_set(HMM), outside(HMM)
    random, wrong, strange = (
        parts(ALTERED[aspect], K)[0][:, :, -1]
        for aspect in ("random labels", "all labels wrong", "labels from outside")
    )
    assert np.isin(random, known).all() and len(np.unique(random)) == len(known)
    assert np.isin(wrong, known).all() and not (wrong == EXAMPLES[:, :, -1]).any() and len(np.unique(wrong)) > 30
    assert np.isin(strange, never).all() and not np.isin(never, known).any()
    assert 0 < (random == EXAMPLES[:, :, -1]).mean() < 0.1


def test_gold_labels_compile_once():
    alter(HMM, PROMPTS, K, "gold labels", jax.random.key(0))
    programs = gold_labels._cache_size()
    for seed in range(3):
        other = sample_prompts(HMM, jax.random.key(seed), 200, N, K)
        alter(HMM, other, K, "gold labels", jax.random.key(seed))
    assert gold_labels._cache_size() == programs


def test_gold_labels_are_those_that_prompts_are_scored_by():
    np.testing.assert_array_equal(gold_labels(HMM, PROMPTS, jnp.asarray(TEST)[:, None])[:, 0], PROMPTS.labels)
    gold = parts(ALTERED["gold labels"], K)[0][:, :, -1]
    assert 0.4 < (gold == EXAMPLES[:, :, -1]).mean() < 0.9  # the likeliest label is drawn often, not always


@pytest.mark.parametrize("count", [0, 3])
def test_without_noise_the_robust_reader_is_exact_bayes(count):
    prompts = sample_prompts(HMM, jax.random.key(2), 40, count, K)
    robust = np.asarray(robust_log_probs(HMM, prompts.tokens, K, 0.0))
    exact = np.asarray(bayes.prompt_log_probs(HMM, prompts.tokens, K))
    np.testing.assert_allclose(np.exp(robust), np.exp(exact), atol=1e-4)
    np.testing.assert_allclose(np.exp(robust).sum(-1), 1, atol=1e-4)


def test_the_robust_reader_bears_noise_that_rules_out_every_concept():
    prompts = sample_prompts(HMM, jax.random.key(3), 200, 8, 3)  # with three tokens examples have much to say

    def accuracy(reader, aspect):
        tokens = alter(HMM, prompts, 3, aspect, jax.random.key(4))
        return (np.asarray(reader(HMM, tokens, 3)).argmax(-1) == np.asarray(prompts.labels)).mean()

    found = {aspect: accuracy(robust_log_probs, aspect) for aspect in ASPECTS[:5]}
    assert min(found["as sampled"], found["gold labels"]) > 0.95
    assert min(found.values()) > 0.8 > accuracy(robust_log_probs, "no examples")
    assert accuracy(bayes.prompt_log_probs, "random labels") < 0.3  # without noise nothing is possible any more


def test_what_cannot_be_changed_is_told_plainly():
    with pytest.raises(ValueError, match="unknown aspect 'upside down': choose one of as sampled, gold labels"):
        alter(HMM, PROMPTS, K, "upside down", jax.random.key(0))
    with pytest.raises(ValueError, match="are no prompt of examples of 7 tokens"):
        alter(HMM, PROMPTS, 7, "random labels", jax.random.key(0))
    full = sample_concept_hmm(jax.random.key(0), WorldConfig(vocab_size=3, concepts=2))
    with pytest.raises(ValueError, match="no label lies outside its set"):
        outside(full)
