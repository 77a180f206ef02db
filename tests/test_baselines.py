"""Baselines against the oracle's results, and least squares and ALPS against what must hold of them."""

import jax.numpy as jnp
import numpy as np
import pytest

from compression.pruning.alps import alps
from compression.pruning.baselines import least_squares, magnitude, ria, wanda
from compression.pruning.problem import output_error
from compression.pruning.selection import smallest, up_to_threshold
from compression.pruning.sparsegpt import sparsegpt
from tests.test_sparsegpt import GOLDEN, ORACLES, problem

PATTERNS = {"unstr50": {}, "unstr80": {"sparsity": 0.8}, "s24": {"pattern": (2, 4)}, "s48": {"pattern": (4, 8)}}


@pytest.mark.parametrize("case", PATTERNS)
@pytest.mark.parametrize("path", ORACLES.values(), ids=ORACLES)
def test_magnitude_and_wanda_of_the_oracle(path, case):
    if not path.exists():
        pytest.skip("the oracles are not on this machine")
    oracle = np.load(path)
    if f"Wmag_{case}" not in oracle:
        pytest.skip("not among the small goldens")
    np.testing.assert_array_equal(magnitude(oracle["W"], **PATTERNS[case]), oracle[f"Wmag_{case}"])
    np.testing.assert_array_equal(wanda(oracle["W"], oracle["H"], **PATTERNS[case]), oracle[f"Wwanda_{case}"])


def test_ria_drops_the_smallest_of_its_scores():
    weight, hessian = problem(6, 9)
    size = np.abs(weight)
    scores = (size / size.sum(1, keepdims=True) + size / size.sum(0)) * np.diag(hessian) ** 0.25
    expected = scores > np.sort(scores.ravel())[int(0.3 * scores.size)]
    np.testing.assert_array_equal(np.asarray(ria(weight, hessian, sparsity=0.3)) != 0, expected)


def test_least_squares_solves_each_row():
    weight, hessian = problem(5, 8)
    mask = np.random.default_rng(1).random((5, 8)) < 0.6
    solved = least_squares(weight, hessian, mask, damping=0.0)
    for row, kept, found in zip(weight, mask, solved, strict=True):
        expected = np.linalg.solve(hessian[np.ix_(kept, kept)], (hessian @ row)[kept])
        np.testing.assert_allclose(np.asarray(found)[kept], expected, rtol=1e-3, atol=1e-4)
        assert not np.asarray(found)[~kept].any()


# errors of the layer's output on the 64 x 64 oracle as measured with the public programs, in facts/sparsegpt.md
@pytest.mark.parametrize(
    "kind, expected",
    [({}, (0.0563, 0.0449, 0.0222, 0.0180, 0.0142)), ({"pattern": (2, 4)}, (0.1483, 0.0890, 0.0574, 0.0452, 0.0405))],
    ids=["50 %", "2:4"],
)
def test_errors_of_the_public_programs(kind, expected):
    oracle = np.load(GOLDEN)
    weight, hessian = oracle["W"], oracle["H"]
    result = sparsegpt(weight, hessian, compatible=True, **kind)
    pruned = (
        magnitude(weight, **kind),
        wanda(weight, hessian, **kind),
        result.weight,
        least_squares(weight, hessian, result.mask),
        alps(weight, hessian, **kind),
    )
    errors = [float(output_error(weight, one, hessian)) for one in pruned]
    np.testing.assert_allclose(errors, expected, atol=1.5e-4)


def test_alps_keeps_the_count_and_all_weights_at_sparsity_0():
    weight, hessian = problem(10, 16)
    assert int((np.asarray(alps(weight, hessian, sparsity=0.7)) == 0).sum()) == 112
    np.testing.assert_array_equal(alps(weight, hessian, sparsity=0.0), weight)
    np.testing.assert_array_equal(magnitude(weight, sparsity=0.0), weight)


@pytest.mark.parametrize("count", [0, 1, 10, 24])
def test_selection_counts_with_ties(count):
    scores = np.array([3, 1, 1, 0, 0, 2, np.inf, 1] * 3, np.float32).reshape(6, 4)
    dropped = np.asarray(smallest(jnp.asarray(scores), count))
    assert dropped.sum() == count
    np.testing.assert_array_equal(np.flatnonzero(dropped), np.sort(np.argsort(scores.ravel(), kind="stable")[:count]))
    if count < 24:
        threshold = np.sort(scores.ravel())[count]
        np.testing.assert_array_equal(up_to_threshold(jnp.asarray(scores), count), scores <= threshold)
