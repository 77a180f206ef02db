import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from icl_synth.concept_hmm import ConceptHMM, official_ginc
from icl_synth.prompts import sample_official_unseen_prompts, sample_prompts

SMALLEST_P = 1e-4


def examples_of(tokens, example_length: int) -> np.ndarray:
    """[B, n, k]: the complete examples, and a check that delimiters stand between them."""
    n = tokens.shape[1] // (example_length + 1)
    complete = np.asarray(tokens[:, : n * (example_length + 1)]).reshape(len(tokens), n, example_length + 1)
    assert (complete[..., -1] == 0).all()
    return complete[..., :-1]


@pytest.mark.parametrize("example_length, num_examples", [(2, 0), (3, 2), (5, 4)])
def test_prompts_have_the_shape_of_prompts(example_length, num_examples):
    hmm, _ = official_ginc()
    prompts = sample_prompts(hmm, jax.random.key(0), 7, num_examples, example_length)
    length = num_examples * (example_length + 1) + example_length - 1
    assert prompts.tokens.shape == (7, length) and prompts.tokens.dtype == jnp.int32
    assert prompts.labels.shape == prompts.concepts.shape == prompts.start_properties.shape == (7,)
    assert examples_of(prompts.tokens, example_length).shape == (7, num_examples, example_length)
    starts = np.asarray(prompts.tokens)[:, :: example_length + 1]
    emitted = np.asarray(hmm.memory)[:, prompts.start_properties].T
    assert all(set(row) <= set(allowed) for row, allowed in zip(starts.tolist(), emitted.tolist(), strict=True))


@pytest.mark.parametrize("own_entities", [False, True])
def test_labels_are_the_likeliest_tokens_by_enumeration(own_entities):
    hmm = oracles.tiny_world(own_entities)
    prompts = sample_prompts(hmm, jax.random.key(1), 40, 1, 4)
    rows = zip(prompts.tokens[:, -3:].tolist(), *(field.tolist() for field in prompts[1:]), strict=True)
    for x_test, label, concept, property_ in rows:
        probs = oracles.label_probs(hmm, x_test, concept, oracles.start_at_property(hmm, property_))
        assert probs[label] == pytest.approx(probs.max(), rel=1e-5) and probs.max() > 0


@pytest.mark.parametrize("own_entities", [False, True])
def test_examples_are_drawn_from_their_concept(own_entities):
    tiny = oracles.tiny_world(own_entities)
    hmm = ConceptHMM(jnp.arange(6).reshape(2, 3), tiny.property_transitions, tiny.entity_transitions, tiny.start)
    prompts = sample_prompts(hmm, jax.random.key(2), 4000, 5, 3)
    complete = np.asarray(prompts.tokens).reshape(4000, -1)[:, :20].reshape(4000, 5, 4)
    assert (complete[..., 3] == 0).all()
    for field, choices in ((prompts.concepts, [0, 1]), (prompts.start_properties, [1, 2])):
        counts = [(field == choice).sum() for choice in choices]
        assert sum(counts) == 4000 and stats.chisquare(counts).pvalue > SMALLEST_P
    for concept, property_ in itertools.product([0, 1], [1, 2]):
        mine = (prompts.concepts == concept) & (prompts.start_properties == property_)
        observed = complete[np.asarray(mine)][..., :3].reshape(-1, 3)
        start, transition = oracles.start_at_property(hmm, property_), oracles.full_transition(hmm, concept)
        expected = start[:, None, None] * transition[:, :, None] * transition[None]
        counts = np.zeros((6, 6, 6))
        np.add.at(counts, tuple(observed.T), 1)
        possible = expected > 0
        assert counts[~possible].sum() == 0
        expected = expected[possible] / expected.sum() * counts.sum()
        assert stats.chisquare(counts[possible], expected).pvalue > SMALLEST_P


@pytest.mark.parametrize("example_length", [3, 5, 8, 10])
def test_test_inputs_hold_delimiters_as_often_as_the_chain_says(example_length):
    # the share of paths from properties 1..9 that meet property 0: 10, 28, 49 and 59 % for the four lengths
    hmm, _ = official_ginc()
    misses = np.ones((5, 9))
    for _ in range(example_length - 2):
        misses = np.einsum("cpq,cq->cp", hmm.property_transitions[:, 1:, 1:], misses)
    prompts = sample_prompts(hmm, jax.random.key(3), 2500, 0, example_length)
    assert (prompts.tokens == 0).any(1).mean() == pytest.approx(1 - misses.mean(), abs=0.03)
    assert (prompts.labels == 0).mean() == pytest.approx(0.10, abs=0.03)


@pytest.mark.parametrize("example_length, expected", [(5, 0.19), (8, 0.40), (10, 0.50)])
def test_official_unseen_labels_are_undefined_as_often_as_measured(example_length, expected):
    _, held_out = official_ginc()
    prompts = sample_official_unseen_prompts(held_out, jax.random.key(4), 2500, 0, example_length)
    assert 1 - prompts.label_defined.mean() == pytest.approx(expected, abs=0.035)
    assert (prompts.labels[~prompts.label_defined] == 0).all()


def test_official_unseen_labels_are_undefined_exactly_where_enumeration_says():
    _, held_out = official_ginc()
    prompts = sample_official_unseen_prompts(held_out, jax.random.key(5), 2500, 0, 3)
    emitted = np.asarray(held_out.memory).ravel()
    moves = [oracles.full_transition(held_out, concept) > 0 for concept in range(5)]
    possible = [
        moves[concept][np.ix_(emitted == first, emitted == second)].any()
        for (first, second), concept in zip(prompts.tokens.tolist(), prompts.concepts.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(prompts.label_defined, possible)
    assert 0.03 < 1 - np.mean(possible) < 0.06


def test_official_unseen_examples_keep_one_entity_and_never_hold_a_delimiter():
    _, held_out = official_ginc()
    prompts = sample_official_unseen_prompts(held_out, jax.random.key(6), 50, 4, 5)
    rows = [set(row) for row in np.asarray(held_out.memory)[:, 1:].tolist()]
    for example in examples_of(prompts.tokens, 5).reshape(-1, 5).tolist():
        assert any(set(example) <= row for row in rows)


@settings(deadline=None, max_examples=20)
@given(st.integers(max_value=1), st.integers(max_value=-1), st.integers(max_value=0))
def test_numbers_that_make_no_prompt_are_refused(example_length, num_examples, num_prompts):
    hmm, key = oracles.tiny_world(), jax.random.key(0)
    for sample in (sample_prompts, sample_official_unseen_prompts):
        with pytest.raises(ValueError, match="example_length must be at least 2"):
            sample(hmm, key, 1, 0, example_length)
        with pytest.raises(ValueError, match="num_examples must be at least 0"):
            sample(hmm, key, 1, num_examples, 2)
        with pytest.raises(ValueError, match="num_prompts must be at least 1"):
            sample(hmm, key, num_prompts, 0, 2)
