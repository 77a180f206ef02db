"""A probe against a softmax whose weights are known, and against the gradient of its own objective."""

import jax
import numpy as np
import pytest

from icl_synth import checkpoints, probe
from icl_synth.lstm import LSTMConfig
from icl_synth.transformer import TransformerConfig

STREAM = np.random.default_rng(0)


def softmax(x):
    return np.asarray(jax.nn.softmax(x.astype(np.float32)))


def test_a_linear_posterior_is_read_off_exactly_and_a_shuffled_one_is_not():
    features = (STREAM.normal(size=(2000, 6)) * [1, 10, 0.1, 1, 1, 1] + 3).astype(np.float32)
    weights = STREAM.normal(size=(6, 4)) / [[1], [10], [0.1], [1], [1], [1]]
    targets = softmax((features - 3) @ weights)
    fitted = probe.fit(features[:1000], targets[:1000], 0.0)
    np.testing.assert_allclose(np.exp(fitted.log_probs(features[1000:])), targets[1000:], atol=5e-3)
    shuffled = probe.fit(features[:1000], STREAM.permutation(targets[:1000]), 0.0)
    assert np.abs(np.exp(shuffled.log_probs(features[1000:])) - targets[1000:]).mean() > 0.1


def test_a_ridge_shrinks_weights_and_a_feature_that_never_varies_does_no_harm():
    features = STREAM.normal(size=(300, 3)).astype(np.float32)
    features[:, 2] = 7.0
    targets = softmax(features[:, :2] @ STREAM.normal(size=(2, 3)))
    free, held = (probe.fit(features, targets, ridge) for ridge in (0.0, 1.0))
    assert np.isfinite(free.log_probs(features)).all()
    assert np.square(held.weights).sum() < 0.5 * np.square(free.weights).sum()


@pytest.mark.parametrize("config", [TransformerConfig(50, 16, 2, 16, 2), LSTMConfig(50, 16, 2, 16)])
def test_the_last_stage_is_what_the_head_reads(config):
    model = checkpoints.create(config, 0)
    tokens = STREAM.integers(0, 50, (2, 9))
    found = probe.stages(model, tokens)
    assert len(found) == 3
    record = {}
    model(tokens, record=record)
    last = model.norm(found[-1]) if isinstance(config, TransformerConfig) else found[-1].swapaxes(0, 1)
    np.testing.assert_allclose(record["head"], last, atol=1e-5)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="3 rows of features and 2 of targets"):
        probe.fit(np.zeros((3, 2), np.float32), np.full((2, 2), 0.5, np.float32), 0.0)
    with pytest.raises(ValueError, match=r"ridge must lie in \[0, .*, got -1"):
        probe.fit(np.zeros((2, 2), np.float32), np.full((2, 2), 0.5, np.float32), -1.0)
