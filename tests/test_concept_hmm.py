import dataclasses
import hashlib
import pathlib

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import tiny_world

from icl_synth.concept_hmm import ConceptHMM, WorldConfig, official_ginc, official_parameters, sample_concept_hmm

ORACLE = pathlib.Path(__file__).parents[2] / "shared" / "oracles" / "ginc_official_v50.npz"


@pytest.mark.skipif(not ORACLE.exists(), reason="the public code's own arrays are not beside the repository")
def test_official_parameters_equal_the_public_codes_own():
    ours, theirs = official_parameters(), np.load(ORACLE)
    np.testing.assert_array_equal(ours.memory, theirs["memory"])
    for name in ("property_transitions", "entity_transitions", "start"):
        # NumPy's float64 exp differs in its last bit between AVX-512 and other CPUs; the float32 world does not
        np.testing.assert_array_max_ulp(getattr(ours, name), theirs[name], maxulp=2)
        np.testing.assert_array_equal(getattr(ours, name).astype(np.float32), theirs[name].astype(np.float32))


def test_official_world_keeps_its_fingerprint():
    # SHA-256 of the float32 world of V = 50, equal to the public code's at commit 84fab21 (test above)
    digest = hashlib.sha256()
    for hmm in official_ginc():
        for leaf in (hmm.memory, hmm.property_transitions, hmm.entity_transitions, hmm.start):
            digest.update(np.asarray(leaf).tobytes())
    assert digest.hexdigest() == "580989e1695da64d943908783a027504472b2931a62313bd20d3afb0cb34873d"


def test_official_world_by_known_rows():
    # first row of memory and of property matrix 0, read from the public code's fixed_params.pkl and id_params.pkl
    ours = official_parameters()
    assert ours.memory[0].tolist() == [0, 38, 18, 13, 35, 25, 23, 21, 12, 15]
    assert ours.property_transitions[0, 0, 0] == pytest.approx(0.386489086, abs=1e-9)
    zeros = (ours.property_transitions == 0).mean((1, 2))
    assert zeros.min() > 0.28 and zeros.max() < 0.42


@pytest.mark.parametrize("vocab_size", [50, 100, 150])
@pytest.mark.parametrize("persistence", [0.0, 0.9])
def test_official_worlds_are_distributions(vocab_size, persistence):
    for hmm in official_ginc(vocab_size, persistence):
        assert (hmm.num_concepts, hmm.num_entities, hmm.num_properties) == (5, 10, 10)
        assert hmm.vocab_size == vocab_size and int(hmm.memory.max()) < vocab_size
        assert (hmm.memory[:, 0] == 0).all() and (hmm.memory[:, 1:] > 0).all()
        np.testing.assert_allclose(hmm.property_transitions.sum(-1), 1, atol=1e-6)
        np.testing.assert_allclose(hmm.entity_transitions.sum(-1), 1, atol=1e-6)
        np.testing.assert_allclose(hmm.start.sum((1, 2)), 1, atol=1e-6)
    assert (np.diag(hmm.entity_transitions).min() >= 0.9) == (persistence == 0.9)


def test_official_world_leaves_numpys_global_stream_alone():
    np.random.seed(7)  # noqa: NPY002  # the global stream is what is tested
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    official_ginc()
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize("matrices", ["shared", "own"])
def test_random_world_follows_its_config(matrices):
    config = WorldConfig(
        concepts=4, entities=3, properties=5, vocab_size=7, num_permutations=2, entity_matrices=matrices
    )
    hmm = sample_concept_hmm(jax.random.key(0), config)
    assert hmm.memory.shape == (3, 5) and hmm.vocab_size == 7
    assert hmm.entity_transitions.shape == ((3, 3) if matrices == "shared" else (4, 3, 3))
    assert (hmm.memory[:, 0] == 0).all() and (hmm.memory[:, 1:] >= 1).all() and (hmm.memory < 7).all()
    for leaf, axes in ((hmm.property_transitions, -1), (hmm.entity_transitions, -1), (hmm.start, (1, 2))):
        np.testing.assert_allclose(leaf.sum(axes), 1, atol=1e-6)
    # a mixture of permutations is doubly stochastic and has at most num_permutations entries a row
    np.testing.assert_allclose(hmm.property_transitions.sum(1), 1, atol=1e-6)
    assert ((hmm.property_transitions > 0).sum(-1) <= 2).all()
    assert len({hmm.property_transitions[c].tobytes() for c in range(4)}) == 4


def test_start_temperature_makes_starts_flat_or_peaked():
    hot, cold = (
        sample_concept_hmm(jax.random.key(0), WorldConfig(start_temperature=t)).start.max() for t in (10.0, 0.01)
    )
    assert hot < 0.011 and cold > 0.3


def test_world_passes_through_jit_vmap_and_tree_map():
    hmm = tiny_world()
    assert jax.jit(lambda h: h)(hmm).vocab_size == hmm.vocab_size
    stacked = jax.vmap(lambda k: sample_concept_hmm(k, WorldConfig(concepts=2)))(jax.random.split(jax.random.key(0), 3))
    assert stacked.start.shape == (3, 2, 10, 10)
    sums = jax.vmap(lambda h: h.property_transitions.sum())(stacked)
    np.testing.assert_allclose(sums, 20, rtol=1e-5)
    assert all(jax.tree.leaves(jax.tree.map(lambda leaf: leaf.ndim > 0, hmm)))


def test_select_keeps_the_order_asked_for():
    hmm = tiny_world(own_entities=True)
    chosen = hmm.select([1])
    np.testing.assert_array_equal(chosen.property_transitions[0], hmm.property_transitions[1])
    np.testing.assert_array_equal(chosen.entity_transitions[0], hmm.entity_transitions[1])
    np.testing.assert_array_equal(hmm.select([1, 0]).start[1], hmm.start[0])
    assert tiny_world().select(slice(0, 1)).entity_transitions.shape == (2, 2)


@pytest.mark.parametrize(
    "changed",
    [{"start": jnp.ones((2, 3, 2))}, {"entity_transitions": jnp.eye(3)}, {"property_transitions": jnp.ones((2, 3, 2))}],
)
def test_wrong_shapes_are_refused(changed, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the constructor's own words are what is tested
    fields = {field.name: getattr(tiny_world(), field.name) for field in dataclasses.fields(ConceptHMM)}
    with pytest.raises(ValueError, match=f"{next(iter(changed))} must have shape"):
        ConceptHMM(**(fields | changed))


def test_a_memory_of_numbers_that_are_no_tokens_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="memory must hold integers, got float32"):
        dataclasses.replace(tiny_world(), memory=jnp.full((2, 3), 0.5))


def test_arrays_are_of_32_bits_whatever_they_were_made_from():
    fields = {name: np.asarray(getattr(tiny_world(), name)) for name in ("memory", "start")}
    wide = dataclasses.replace(tiny_world(), memory=jnp.asarray(fields["memory"], jnp.int16), start=tiny_world().start)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(wide)} == {"int32", "float32"}
    np.testing.assert_array_equal(wide.memory, fields["memory"])


def test_tokens_outside_the_vocabulary_are_refused():
    with pytest.raises(ValueError, match="outside a vocabulary of 3"):
        dataclasses.replace(tiny_world(), vocab_size=3)


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(["concepts", "entities", "properties", "vocab_size", "num_permutations"]),
    st.integers(max_value=0),
    st.sampled_from(["property_temperature", "entity_temperature", "start_temperature"]),
    st.floats(max_value=0),
)
def test_config_refuses_numbers_that_make_no_world(count, number, temperature, degrees):
    with pytest.raises(ValueError, match=f"{count} must be"):
        WorldConfig(**{count: number})
    with pytest.raises(ValueError, match=f"{temperature} must be"):
        WorldConfig(**{temperature: degrees})


@pytest.mark.parametrize(
    "bad", [{"entity_persistence": 1.1}, {"entity_persistence": float("nan")}, {"entity_matrices": "mine"}]
)
def test_config_refuses_other_nonsense(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        WorldConfig(**bad)


@settings(deadline=None, max_examples=20)
@given(st.integers(max_value=1), st.floats(min_value=1.01))
def test_official_world_refuses_bad_numbers(vocab_size, persistence):
    with pytest.raises(ValueError, match="vocab_size"):
        official_parameters(vocab_size)
    with pytest.raises(ValueError, match="entity_persistence"):
        official_parameters(entity_persistence=persistence)
