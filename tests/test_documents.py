import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from icl_synth import documents
from icl_synth.concept_hmm import ConceptHMM, official_ginc
from icl_synth.documents import main, sample_documents, stream_documents, token_names

SMALLEST_P = 1e-4  # fixed seeds, so a right sampler passes always and a wrong one not at 10^5 samples


def visible_world(own_entities: bool) -> ConceptHMM:
    """The tiny world with a token of its own for each state, so that documents show the hidden path."""
    hmm = oracles.tiny_world(own_entities)
    return ConceptHMM(jnp.arange(6).reshape(2, 3), hmm.property_transitions, hmm.entity_transitions, hmm.start)


@pytest.mark.parametrize("own_entities", [False, True])
def test_concepts_starts_and_transitions_have_their_probabilities(own_entities):
    hmm = visible_world(own_entities)
    tokens, concepts = (np.asarray(a) for a in sample_documents(hmm, jax.random.key(0), 4000, 40))
    assert stats.chisquare(np.bincount(concepts, minlength=2)).pvalue > SMALLEST_P
    for concept in range(2):
        of_concept = tokens[concepts == concept]
        first = np.bincount(of_concept[:, 0], minlength=6)
        assert (
            stats.chisquare(first, np.asarray(hmm.start[concept]).ravel() * first.sum(), sum_check=False).pvalue
            > SMALLEST_P
        )
        transition = oracles.full_transition(hmm, concept)
        for state in range(6):
            counts = np.bincount(of_concept[:, 1:][of_concept[:, :-1] == state], minlength=6)
            possible = transition[state] > 0
            assert counts[~possible].sum() == 0
            expected = transition[state][possible] / transition[state].sum() * counts.sum()
            if possible.sum() > 1:
                assert stats.chisquare(counts[possible], expected).pvalue > SMALLEST_P


def test_successive_moves_are_independent_given_the_state():
    # three-token windows of one concept against start @ T @ T: catches a generator that correlates its draws
    hmm = visible_world(False).select([1])
    tokens = np.asarray(sample_documents(hmm, jax.random.key(1), 50_000, 3)[0])
    transition = oracles.full_transition(hmm, 0)
    expected = np.asarray(hmm.start[0], float).ravel()[:, None, None] * transition[:, :, None] * transition[None]
    counts = np.zeros((6, 6, 6))
    np.add.at(counts, tuple(tokens.T), 1)
    assert counts[expected == 0].sum() == 0
    possible = expected > 0
    expected = expected[possible] / expected.sum() * counts.sum()
    assert stats.chisquare(counts[possible], expected).pvalue > SMALLEST_P


@pytest.mark.parametrize("own_entities", [False, True])
@pytest.mark.parametrize(("concepts", "entities", "properties"), [(2, 1, 3), (1, 2, 1), (1, 1, 1)])
def test_worlds_of_one_entity_property_or_concept(concepts, entities, properties, own_entities):
    C, E, P = concepts, entities, properties
    cycle = jnp.broadcast_to(jnp.roll(jnp.eye(P), 1, axis=1), (C, P, P))  # property p moves to p + 1
    stay = jnp.broadcast_to(jnp.eye(E), (C, E, E)) if own_entities else jnp.eye(E)
    hmm = ConceptHMM(jnp.arange(E * P).reshape(E, P), cycle, stay, jnp.full((C, E, P), 1 / (E * P)))
    tokens, numbers = sample_documents(hmm, jax.random.key(0), 30, 5)
    entity, property_ = np.divmod(np.asarray(tokens), P)
    assert set(entity[:, 0]) == set(range(E)) and (entity == entity[:, :1]).all()
    np.testing.assert_array_equal(property_, (property_[:, :1] + np.arange(5)) % P)
    assert set(numbers.tolist()) == set(range(C))


@pytest.mark.parametrize("position", [0, 3, 9])
def test_no_outcome_without_weight_is_ever_chosen(position):
    weights = jnp.zeros(10).at[position].set(0.3).at[5].set(0.7)
    words = jnp.array([0, 1, 2**31, 2**32 - 1], jnp.uint32)
    chosen = documents.choose(documents.upper_edges(weights), words)
    assert set(chosen.tolist()) <= {position, 5}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (0, 2, 1)])
def test_what_rounding_leaves_goes_to_the_likeliest_outcome(order):
    """0.35 and 0.65 of 2^30 are, as float32, 375,809,632 and 697,932,160: 32 are left."""
    order, counts = np.array(order), np.array([375_809_632, documents.CERTAIN - 375_809_632, 0])
    edges = documents.upper_edges(jnp.array([0.35, 0.65, 0.0])[order])
    np.testing.assert_array_equal(edges, counts[order].cumsum()[:-1])


def test_edges_are_exact_to_float32():
    weights = jax.random.dirichlet(jax.random.key(0), jnp.full(10, 0.3), (50,))
    edges = np.asarray(documents.upper_edges(weights), float) / documents.CERTAIN
    np.testing.assert_allclose(edges, np.asarray(weights, float).cumsum(-1)[:, :-1], atol=1e-6)
    assert (np.diff(edges) >= 0).all()


def test_documents_are_the_same_alone_in_pieces_and_inside_jit():
    hmm, _ = official_ginc()
    key = jax.random.key(3)
    tokens, concepts = sample_documents(hmm, key, 50, 16)
    assert tokens.shape == (50, 16) and tokens.dtype == jnp.int32 and concepts.dtype == jnp.int32
    np.testing.assert_array_equal(sample_documents(hmm, key, 20, 16)[0], tokens[:20])
    for chunk in (None, 3):
        pieces = list(stream_documents(hmm, key, 50, 16, chunk))
        np.testing.assert_array_equal(np.concatenate([piece for piece, _ in pieces]), tokens)
        np.testing.assert_array_equal(np.concatenate([piece for _, piece in pieces]), concepts)
    inside, _ = jax.jit(lambda h, k: sample_documents(h, k, 50, 16))(hmm, key)
    np.testing.assert_array_equal(inside, tokens)
    keys = jax.random.split(key, 2)
    mapped, _ = jax.vmap(lambda k: sample_documents(hmm, k, 50, 16))(keys)
    np.testing.assert_array_equal(mapped[1], sample_documents(hmm, keys[1], 50, 16)[0])
    assert not np.array_equal(mapped[0], mapped[1])


def test_streaming_holds_only_two_pieces(monkeypatch):
    asked = []
    one_ahead = documents._one_ahead
    monkeypatch.setattr(documents, "_one_ahead", lambda items: one_ahead(asked.append(1) or item for item in items))
    stream = stream_documents(oracles.tiny_world(), jax.random.key(0), 1000, 2, chunk=1)
    next(stream)
    next(stream)
    assert len(asked) == 3


@settings(deadline=None, max_examples=15)
@given(st.integers(max_value=0))
def test_numbers_below_one_are_refused(number):
    hmm, key = oracles.tiny_world(), jax.random.key(0)
    with pytest.raises(ValueError, match="num_documents must be at least 1"):
        sample_documents(hmm, key, number, 4)
    with pytest.raises(ValueError, match="length must be at least 1"):
        sample_documents(hmm, key, 4, number)
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        next(stream_documents(hmm, key, 4, 4, number))


def test_token_names_are_the_public_codes():
    names = token_names(150)
    assert names[:3] == ["/", "a", "b"] and names[26:29] == ["z", "ab", "ac"]
    assert len(set(names)) == 150


def arguments(path, *more: str) -> list[str]:
    return ["--out", str(path), "--num-documents", "11", "--length", "13", "--seed", "4", *more]


def expected_tokens(split: int = 0, **world) -> np.ndarray:
    return np.asarray(sample_documents(official_ginc(**world)[split], jax.random.key(4), 11, 13)[0])


def test_npz_round_trip(tmp_path):
    main(arguments(tmp_path / "d.npz", "--split", "held_out"))
    saved = np.load(tmp_path / "d.npz")
    assert saved["tokens"].dtype == np.uint8 and saved["concepts"].shape == (11,)
    np.testing.assert_array_equal(saved["tokens"], expected_tokens(split=1))
    metadata = json.loads((tmp_path / "d.npz.json").read_text())
    assert metadata["length"] == 13 and metadata["split"] == "held_out" and metadata["token_names"][0] == "/"
    assert sorted(os.listdir(tmp_path)) == ["d.npz", "d.npz.json"]


def test_text_round_trip(tmp_path):
    main(arguments(tmp_path / "d.txt", "--vocab-size", "100", "--entity-persistence", "0"))
    number = {
        name: token for token, name in enumerate(json.loads((tmp_path / "d.txt.json").read_text())["token_names"])
    }
    lines = (tmp_path / "d.txt").read_text().splitlines()
    tokens = np.array([[number[name] for name in line.split(" ")] for line in lines])
    np.testing.assert_array_equal(tokens, expected_tokens(vocab_size=100, entity_persistence=0.0))


def test_existing_files_are_kept_unless_told_otherwise(tmp_path):
    for kept in ("d.npz", "d.npz.json"):
        (tmp_path / kept).write_text("mine")
        with pytest.raises(SystemExit, match="--overwrite"):
            main(arguments(tmp_path / "d.npz"))
        assert (tmp_path / kept).read_text() == "mine" and len(os.listdir(tmp_path)) == 1
        if kept == "d.npz":
            (tmp_path / kept).unlink()
    main(arguments(tmp_path / "d.npz", "--overwrite"))
    np.testing.assert_array_equal(np.load(tmp_path / "d.npz")["tokens"], expected_tokens())


@pytest.mark.parametrize("extension", ["npz", "txt"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch, extension, error):
    def failing(*_):
        yield np.zeros((5, 13), np.int32), np.zeros(5, np.int32)
        raise error

    monkeypatch.setattr(documents, "stream_documents", failing)
    with pytest.raises(SystemExit if isinstance(error, OSError) else KeyboardInterrupt):
        main(arguments(tmp_path / f"d.{extension}"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_killed_overwrite_never_leaves_a_wrong_description(tmp_path, monkeypatch, killed_at):
    main(arguments(tmp_path / "d.npz"))
    replaced, real = [], os.replace

    def replace(source, target):
        replaced.append(target)
        if len(replaced) == killed_at:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        main(arguments(tmp_path / "d.npz", "--overwrite", "--split", "held_out"))
    assert os.listdir(tmp_path) == ["d.npz"]
    np.testing.assert_array_equal(np.load(tmp_path / "d.npz")["tokens"], expected_tokens(split=killed_at - 1))


@pytest.mark.parametrize(
    "name, more, words",
    [
        ("d.csv", [], "must end in .npz or .txt"),
        ("missing/d.npz", [], "not a directory"),
        ("d.npz", ["--length", "0"], "length must be at least 1"),
        ("d.npz", ["--vocab-size", "1"], "vocab_size"),
        ("d.npz", ["--entity-persistence", "2"], "entity_persistence"),
        ("d.npz", ["--seed", str(2**64)], r"seed must lie in 0\.\.4294967295, got 18446744073709551616"),
        ("d.npz", ["--seed", "-1"], "seed must lie in"),
    ],
)
def test_mistakes_end_early_in_one_plain_line(tmp_path, name, more, words):
    with pytest.raises(SystemExit, match=words):
        main(arguments(tmp_path / name, *more))
    assert os.listdir(tmp_path) == []
