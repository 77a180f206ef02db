"""Baselines against the oracle's results; least squares and ALPS against what must hold of them."""

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


def num_zeros(weight):
    return int((np.asarray(weight) == 0).sum())


@pytest.mark.parametrize("case", PATTERNS)
@pytest.mark.parametrize("path", ORACLES.values(), ids=ORACLES)
def test_magnitude_and_wanda_of_the_oracle(path, case):
    if not path.exists():
        pytest.skip("the oracles are not on this machine")
    oracle, how = np.load(path), PATTERNS[case]
    if f"Wmag_{case}" not in oracle:
        pytest.skip("not among the small goldens")
    weight = oracle["W"]
    np.testing.assert_array_equal(wanda(weight, oracle["H"], **how), oracle[f"Wwanda_{case}"])
    if "pattern" not in how:  # the public code drops one weight more than asked for
        how = {"sparsity": (int(how.get("sparsity", 0.5) * weight.size) + 1) / weight.size}
    np.testing.assert_array_equal(magnitude(weight, **how), oracle[f"Wmag_{case}"])


def test_ria_drops_the_smallest_of_its_scores():
    weight, hessian = problem(6, 9)
    size = np.abs(weight)
    scores = (size / size.sum(1, keepdims=True) + size / size.sum(0)) * np.diag(hessian) ** 0.25
    expected = scores >= np.sort(scores.ravel())[round(0.3 * scores.size)]
    np.testing.assert_array_equal(np.asarray(ria(weight, hessian, sparsity=0.3)) != 0, expected)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.93])
def test_equal_weights_lose_exactly_the_share_asked_for(sparsity):
    """Ties are broken by position, as in SparseGPT, to which these weights of uncorrelated inputs are ties too."""
    weight, hessian = np.ones((5, 7), np.float32), np.eye(7, dtype=np.float32)
    count = round(sparsity * 35)
    dropped = ~sparsegpt(weight, hessian, sparsity=sparsity, damping=0.0).mask
    assert dropped.T.ravel()[:count].all() and int(dropped.sum()) == count
    for pruned in (magnitude(weight, sparsity=sparsity), ria(weight, hessian, sparsity=sparsity)):
        np.testing.assert_array_equal(np.asarray(pruned) == 0, dropped)
    assert num_zeros(alps(weight, hessian, sparsity=sparsity)) == count  # where they lie, rounding decides
    by_row = np.asarray(wanda(weight, hessian, sparsity=sparsity)) == 0
    assert (by_row == (np.arange(7) < int(sparsity * 7))).all()
    rounded = np.random.default_rng(0).integers(-2, 3, (5, 7)).astype(np.float32)
    assert num_zeros(magnitude(rounded, sparsity=sparsity)) == max(count, num_zeros(rounded))


def test_shares_are_not_cut_by_rounding():
    """0.29 * 100 is 28.999999999999996 in float64."""
    weight, hessian = np.arange(1.0, 101.0, dtype=np.float32)[None], np.eye(100, dtype=np.float32)
    assert num_zeros(wanda(weight, hessian, sparsity=0.29)) == num_zeros(magnitude(weight, sparsity=0.29)) == 29


def test_least_squares_solves_each_row():
    weight, hessian = problem(5, 8)
    mask = np.random.default_rng(1).random((5, 8)) < 0.6
    solved = least_squares(weight, hessian, mask, damping=0.0)
    for row, kept, ours in zip(weight, mask, solved, strict=True):
        expected = np.linalg.solve(hessian[np.ix_(kept, kept)], (hessian @ row)[kept])
        np.testing.assert_allclose(np.asarray(ours)[kept], expected, rtol=1e-3, atol=1e-4)
        assert not np.asarray(ours)[~kept].any()


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
    results = (
        magnitude(weight, **kind),
        wanda(weight, hessian, **kind),
        result.weight,
        least_squares(weight, hessian, result.mask),
        alps(weight, hessian, **kind),
    )
    errors = [float(output_error(weight, pruned, hessian)) for pruned in results]
    np.testing.assert_allclose(errors, expected, atol=1.5e-4)


def test_alps_keeps_the_count_and_all_weights_at_sparsity_0():
    weight, hessian = problem(10, 16)
    assert num_zeros(alps(weight, hessian, sparsity=0.7)) == 112
    np.testing.assert_array_equal(alps(weight, hessian, sparsity=0.0), weight)
    np.testing.assert_array_equal(magnitude(weight, sparsity=0.0), weight)


def test_alps_where_its_choice_never_changes():
    """One weight of many, one of one, weights all equal or all zero; the kept weights are nearly the mask's best."""
    weight, hessian = problem(10, 16)
    pruned = alps(weight, hessian, sparsity=1 / 160)
    assert num_zeros(pruned) == 1

    def error(changed):
        change = weight - np.asarray(changed, np.float64)
        return np.trace(change @ hessian @ change.T)

    best = least_squares(weight, hessian, np.asarray(pruned) != 0)
    assert error(pruned) < 1.1 * error(best) < 0.5 * error(np.where(np.asarray(pruned) == 0, 0, weight))
    ones, eye = np.ones((10, 16), np.float32), np.eye(16, dtype=np.float32)
    for sparsity in (0.01, 0.9):
        assert num_zeros(alps(ones, hessian, sparsity=sparsity)) == round(sparsity * 160)
        assert not np.asarray(alps(0 * ones, hessian, sparsity=sparsity)).any()
    assert num_zeros(alps(ones[:1, :1], eye[:1, :1], sparsity=0.9)) == 1
    assert num_zeros(alps(weight[:2, :3], hessian[:3, :3], sparsity=0.17)) == 1


@pytest.mark.parametrize(("weights", "inputs"), [(1e-15, 1e-30), (1e10, 1e15)])
def test_alps_does_not_depend_on_units(weights, inputs):
    weight, hessian = problem(10, 16)
    usual = np.asarray(alps(weight, hessian, sparsity=0.7))
    scaled = alps((weight * weights).astype(np.float32), (hessian * inputs).astype(np.float32), sparsity=0.7)
    np.testing.assert_allclose(np.asarray(scaled) / weights, usual, atol=1e-5)


def test_alps_refuses_what_is_indefinite_and_nothing_else():
    """Against eigenvalues in float64, most of them near 0; only the definite matrices reach the compiled program."""
    rng = np.random.default_rng(0)
    weight, accepted = rng.standard_normal((3, 6)).astype(np.float32), []
    for _ in range(500):
        basis = np.linalg.qr(rng.standard_normal((6, 6)))[0]
        eigenvalues = rng.uniform(0.05, 2, 6)
        eigenvalues[0] = rng.choice([-1, 1]) * 10.0 ** rng.uniform(-6, -0.7)
        hessian = ((basis * eigenvalues) @ basis.T).astype(np.float32)
        hessian = np.where(np.eye(6, dtype=bool), np.abs(hessian), (hessian + hessian.T) / 2)
        damping = rng.choice([1e-4, 0.01])
        exact = hessian.astype(np.float64) + damping * np.diag(hessian).mean(dtype=np.float64) * np.eye(6)
        if np.linalg.eigvalsh(exact)[0] > 0:
            accepted.append(alps(weight, hessian, damping=damping))
        else:
            with pytest.raises(ValueError, match="not positive definite with damping"):
                alps(weight, hessian, damping=damping)
    assert 150 < len(accepted) < 400
    assert all(np.isfinite(pruned).all() and num_zeros(pruned) == 9 for pruned in accepted)


def test_least_squares_refuses_an_indefinite_hessian_whatever_the_mask():
    """Systems of few kept inputs may be definite where the Hessian is not. Rounding alone is no reason to refuse."""
    weight, _ = problem(3, 6)
    few = np.arange(18).reshape(3, 6) % 3 == 0
    indefinite = 1 - 0.5 * np.eye(6, dtype=np.float32) + np.float32(0.4)
    with pytest.raises(ValueError, match=r"not positive definite with damping 0\.01: raise damping"):
        least_squares(weight, indefinite, few)
    rows = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)  # fewer samples than inputs
    assert np.isfinite(least_squares(weight, rows.T @ rows, few, damping=0.0)).all()


@pytest.mark.parametrize("count", [0, 1, 10, 24])
def test_selection_counts_with_ties(count):
    scores = np.array([3, 1, 1, 0, 0, 2, np.inf, 1] * 3, np.float32).reshape(6, 4)
    dropped = np.asarray(smallest(jnp.asarray(scores), count))
    assert dropped.sum() == count
    np.testing.assert_array_equal(np.flatnonzero(dropped), np.sort(np.argsort(scores.ravel(), kind="stable")[:count]))
    if count < 24:
        threshold = np.sort(scores.ravel())[count]
        np.testing.assert_array_equal(up_to_threshold(jnp.asarray(scores), count), scores <= threshold)
