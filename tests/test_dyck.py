"""Brackets: balanced, as deep as allowed, and with the probabilities that the exact loss says."""

import dataclasses

import jax
import numpy as np
import pytest

from icl_synth import dyck, training_data
from icl_synth.config import DataConfig, TrainConfig
from icl_synth.transformer import TransformerConfig

KINDS = 5


@pytest.fixture(scope="module")
def documents():
    return np.asarray(dyck.sample_brackets(jax.random.key(0), 2000, 60, KINDS))


def open_after(documents):
    """How many of each kind are open after each token."""
    moves = np.where(documents < KINDS, 1, -1)[..., None] * (documents[..., None] % KINDS == np.arange(KINDS))
    return moves.cumsum(1)


def test_nothing_closes_that_is_not_open_and_nothing_is_deeper_than_allowed(documents):
    found = open_after(documents)
    assert found.min() == 0 and found.sum(-1).max() == dyck.DEEPEST
    assert (documents[:, 0] < KINDS).all()


def test_brackets_open_and_close_as_often_as_the_exact_loss_says(documents):
    before = np.concatenate([np.zeros((2000, 1, KINDS), int), open_after(documents)[:, :-1]], axis=1)
    depth, opens = before.sum(-1), documents < KINDS
    assert opens[depth == 0].all() and not opens[depth == dyck.DEEPEST].any()
    between = opens[(depth > 0) & (depth < dyck.DEEPEST)]
    assert abs(between.mean() - dyck.OPENS) < 4 * np.sqrt(0.25 / between.size)
    # of two open kinds, three of one and one of the other, either is as likely to close
    uneven = (np.sort(before, axis=-1)[..., -2:] == (1, 3)).all(-1) & (depth == 4) & ~opens
    larger = np.take_along_axis(before, (documents % KINDS)[..., None], axis=-1)[..., 0][uneven] == 3
    assert abs(larger.mean() - 0.5) < 4 * np.sqrt(0.25 / larger.size)
    exact = np.asarray(dyck.token_log_likelihoods(documents, KINDS))
    kinds_open = (before > 0).sum(-1)
    some = (depth > 0) & (depth < dyck.DEEPEST)
    opening = np.where(depth == 0, 1, dyck.OPENS) / KINDS
    closing = np.where(some, 1 - dyck.OPENS, 1.0) / np.maximum(kinds_open, 1)
    by_hand = np.where(opens, opening, closing)
    np.testing.assert_allclose(exact, np.log(by_hand), rtol=1e-4)


def test_no_next_token_is_left_out_and_what_closes_nothing_is_impossible():
    state = jax.numpy.array([[0, 0], [1, 0], [3, 2], [5, 3]])
    np.testing.assert_allclose(dyck.moves_after(state).sum(1), 1, rtol=1e-6)
    assert np.asarray(dyck.token_log_likelihoods(np.array([[0, 3]]), 2))[0, 1] == -np.inf


DATA, MODEL = DataConfig("dyck", vocab_size=11, length=33), TransformerConfig(11, 32, 1, 16, 2)
CONFIG = TrainConfig(batch=4, data=DATA, model=MODEL)


def test_a_run_reads_brackets_and_knows_their_exact_loss():
    batch = np.asarray(training_data.make_data(CONFIG)(jax.numpy.int32(3)))
    assert batch.shape == (4, 33) and batch.max() < 10  # five kinds; the odd token is left over
    held_back, exact = training_data.validation_documents(CONFIG)
    assert exact == pytest.approx(-np.asarray(dyck.token_log_likelihoods(held_back, 5))[:, 1:].mean(), rel=1e-6)
    with pytest.raises(ValueError, match="dyck has no concepts"):
        CONFIG.data.build()


def test_documents_out_of_order_have_the_tokens_of_those_in_order_and_no_exact_loss():
    official = dataclasses.replace(CONFIG, data=DataConfig(length=33), model=TransformerConfig(50, 32, 1, 16, 2))
    shuffled = dataclasses.replace(official, data=dataclasses.replace(official.data, shuffled=True))
    ordered, mixed = (np.asarray(training_data.make_data(one)(jax.numpy.int32(0))) for one in (official, shuffled))
    assert np.array_equal(np.sort(ordered), np.sort(mixed)) and (ordered != mixed).mean() > 0.5
    assert len({row.argsort().tobytes() for row in mixed}) == 4
    assert training_data.validation_documents(shuffled)[1] is None
