"""The worlds that a configuration names."""

import jax
import numpy as np
import pytest

from icl_synth import bayes, config, presets
from icl_synth.concept_hmm import official_ginc
from icl_synth.documents import sample_documents


def test_a_single_concept_is_the_first_official_one():
    hmm, held_out = config.DataConfig(world="single").build()
    official, _ = official_ginc()
    assert hmm.num_concepts == 1 and held_out.num_concepts == 5
    np.testing.assert_array_equal(hmm.property_transitions[0], official.property_transitions[0])
    np.testing.assert_array_equal(hmm.start[0], official.start[0])


def test_uniform_tokens_are_independent_and_uniform():
    hmm, _ = config.DataConfig(world="uniform", vocab_size=7).build()
    tokens, _ = sample_documents(hmm, jax.random.key(0), 200, 200)
    np.testing.assert_allclose(bayes.token_log_likelihoods(hmm, tokens), -np.log(7), rtol=1e-5)
    pairs = np.zeros((7, 7))
    np.add.at(pairs, (np.asarray(tokens)[:, :-1].ravel(), np.asarray(tokens)[:, 1:].ravel()), 1)
    expected = pairs.sum() / 49
    assert ((pairs - expected) ** 2 / expected).sum() < 80  # chi-square, 48 degrees of freedom: 80 is one in 400


def test_a_cold_world_moves_almost_certainly_and_each_seed_has_its_own():
    entropy = {}
    for world in ("random", "cold"):
        hmm, _ = config.DataConfig(world=world, concepts=12, vocab_size=100).build()
        rows = np.asarray(hmm.property_transitions, np.float64)
        entropy[world] = -(rows * np.log(np.where(rows > 0, rows, 1))).sum(-1).mean()
    assert entropy["cold"] < 0.5 * entropy["random"]
    one, other = (presets.preset(f"small-cold-{seed}") for seed in (0, 1))
    assert one.seed != other.seed and one.data.world_seed != other.data.world_seed
    assert not np.array_equal(one.data.build()[0].memory, other.data.build()[0].memory)


def test_worlds_with_fixed_sizes_refuse_others():
    with pytest.raises(ValueError, match="5 concepts"):
        config.DataConfig(world="single", concepts=3)
