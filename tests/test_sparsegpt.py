"""SparseGPT against the authors' outputs, against their algorithm written plainly, and against its own identities."""

import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from compression.pruning import sparsegpt as module
from compression.pruning.alps import alps
from compression.pruning.baselines import least_squares, ria, wanda
from compression.pruning.grids import row_grid
from compression.pruning.problem import check, check_weight
from compression.pruning.sparsegpt import factorise, prune, sparsegpt
from icl_synth import devices

SHARED = Path(__file__).parents[2] / "shared" / "oracles"
GOLDEN = Path(__file__).parent / "goldens" / "sparsegpt_64x64.npz"  # outputs of the authors' code at 147d215
ORACLES = {
    "golden": GOLDEN,
    "golden, dead inputs": GOLDEN.with_name("sparsegpt_96x160_dead.npz"),
    "oracle": SHARED / "sparsegpt_64x64.npz",
    "oracle, dead inputs": SHARED / "sparsegpt_96x160_dead.npz",
}
CASES = {
    "unstr50": {},
    "unstr80": {"sparsity": 0.8},
    "s24": {"pattern": (2, 4)},
    "s48": {"pattern": (4, 8)},
    "unstr50_w4": {"bits": 4},
    "s24_w4": {"pattern": (2, 4), "bits": 4},
    "unstr50_bs1": {"block_size": 1},
    "unstr50_bs32": {"block_size": 32},
    "unstr50_bsfull": {"block_size": 4096},
    "unstr50_damp10": {"damping": 0.1},
}


def problem(outputs, inputs, seed=0, samples=400):
    """A weight and the Hessian of correlated inputs."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, inputs)) @ (np.eye(inputs) + rng.standard_normal((inputs, inputs)) / inputs**0.5)
    return rng.standard_normal((outputs, inputs)).astype(np.float32), (x.T @ x / samples).astype(np.float32)


def authors(weight, hessian, choose, block_size, damping=0.01):
    """The public code's steps in float64: invert, factorise again, push each error onto the columns after it."""
    w, h = weight.astype(np.float64), hessian.astype(np.float64)
    h = h + damping * np.diag(h).mean() * np.eye(len(h))
    u = np.linalg.cholesky(np.linalg.inv(h)).T
    pruned = np.zeros_like(w)
    for start in range(0, len(h), block_size):
        end = min(start + block_size, len(h))
        dropped = choose(w[:, start:end] ** 2 / np.diag(u)[start:end] ** 2, start, end)
        for j in range(start, end):
            pruned[:, j] = np.where(dropped[:, j - start], 0, w[:, j])
            w[:, j:] -= np.outer((w[:, j] - pruned[:, j]) / u[j, j], u[j, j:])
    return pruned


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("path", ORACLES.values(), ids=ORACLES)
def test_masks_and_weights_of_the_authors(path, case):
    if not path.exists():
        pytest.skip("the oracles are not on this machine")
    oracle = np.load(path)
    if f"Wout_{case}" not in oracle:
        pytest.skip("not among the small goldens")
    theirs = oracle[f"Wout_{case}"]
    result = sparsegpt(oracle["W"], oracle["H"], compatible=True, **CASES[case])
    if "bits" not in CASES[case]:  # where weights are quantised, some that are kept are 0 too
        np.testing.assert_array_equal(result.mask, theirs != 0)
    np.testing.assert_array_equal(np.asarray(result.weight) == 0, theirs == 0)
    np.testing.assert_allclose(result.weight, theirs, atol=1e-5, rtol=0)
    np.testing.assert_allclose(result.error, oracle[f"err_{case}"], rtol=1e-5)


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(module, "TILE", 16)
    module._factorise.clear_cache()
    yield
    module._factorise.clear_cache()


@pytest.mark.parametrize("block_size", [1, 2, 7, 8, 40])
@pytest.mark.parametrize("mask_block_size", [5, 16, 18, 24])
def test_mask_blocks_apart_from_blocks(block_size, mask_block_size, small_tiles):
    """Blocks and tiles are a matter of speed alone; in each mask block exactly the plain algorithm's weights go."""
    weight, hessian = problem(12, 40)

    def smallest(scores, start, end):
        count = round(0.6 * 12 * end) - round(0.6 * 12 * start)
        order = np.argsort(scores.ravel())
        dropped = np.zeros(scores.size, bool)
        dropped[order[:count]] = True
        return dropped.reshape(scores.shape)

    expected = authors(weight, hessian, smallest, mask_block_size)
    result = sparsegpt(weight, hessian, sparsity=0.6, block_size=block_size, mask_block_size=mask_block_size)
    np.testing.assert_array_equal(result.mask, expected != 0)
    np.testing.assert_allclose(result.weight, expected, atol=1e-5)


def test_blocks_of_any_two_sizes_are_nested():
    for block_size, mask_width in itertools.product(range(1, 140), repeat=2):
        widths = module._block_widths(block_size, mask_width)
        assert mask_width in widths and all(wide % narrow == 0 for wide, narrow in itertools.pairwise(widths))


@settings(deadline=None, max_examples=8)
@given(
    outputs=st.integers(1, 5),
    inputs=st.sampled_from([130, 385, 400]),
    block_size=st.sampled_from([8, 100, 128]),
    mask_block_size=st.sampled_from([None, 24, 64, 130]),
    seed=st.integers(0, 99),
)
def test_several_blocks_and_tiles_drop_what_they_say_and_keep_the_rest(
    outputs, inputs, block_size, mask_block_size, seed
):
    weight, hessian = problem(outputs, inputs, seed, samples=2 * inputs)
    result = sparsegpt(weight, hessian, block_size=block_size, mask_block_size=mask_block_size)
    assert int((~result.mask).sum()) == round(0.5 * weight.size)
    np.testing.assert_array_equal(np.asarray(result.weight) != 0, result.mask)
    h = hessian.astype(np.float64) + 0.01 * np.diag(hessian).mean() * np.eye(inputs)
    change = weight - np.asarray(result.weight, np.float64)
    np.testing.assert_allclose(result.error, np.trace(change @ h @ change.T) / 2, rtol=1e-3)


@settings(deadline=None, max_examples=6)
@given(
    outputs=st.integers(1, 9),
    groups=st.integers(1, 6),
    pattern=st.sampled_from([(1, 2), (2, 4), (1, 3), (3, 5)]),
    sparsity=st.floats(0, 0.99),
    seed=st.integers(0, 99),
)
def test_counts_hold_for_any_shape(outputs, groups, pattern, sparsity, seed):
    keep, group = pattern
    weight, hessian = problem(outputs, groups * group, seed)
    grouped = sparsegpt(weight, hessian, pattern=pattern).mask.reshape(outputs, groups, group)
    assert (grouped.sum(-1) == keep).all()
    result = sparsegpt(weight, hessian, sparsity=sparsity)
    assert int((~result.mask).sum()) == round(sparsity * weight.size)
    assert not np.asarray(result.weight)[~np.asarray(result.mask)].any()


def test_uncorrelated_inputs_leave_kept_weights_alone():
    """With a diagonal Hessian the choice is by w^2 H_ii (here undamped) and nothing else moves."""
    weight, _ = problem(16, 24)
    diagonal = np.linspace(0.1, 3, 24, dtype=np.float32)
    result = sparsegpt(weight, np.diag(diagonal), damping=0.0, mask_block_size=24)
    dropped = np.zeros(weight.size, bool)
    dropped[np.argsort((weight**2 * diagonal).ravel())[: weight.size // 2]] = True
    np.testing.assert_array_equal(result.mask, ~dropped.reshape(weight.shape))
    np.testing.assert_array_equal(result.weight, np.where(result.mask, weight, 0))


def test_error_is_half_the_trace_and_never_below_least_squares():
    weight, hessian = problem(20, 32)
    result = sparsegpt(weight, hessian, pattern=(2, 4))
    h = hessian.astype(np.float64) + 0.01 * np.diag(hessian).mean() * np.eye(32)

    def half_trace(pruned):
        change = weight - np.asarray(pruned, np.float64)
        return np.trace(change @ h @ change.T) / 2

    best = half_trace(least_squares(weight, hessian, result.mask))
    np.testing.assert_allclose(result.error, half_trace(result.weight), rtol=1e-4)
    assert best < half_trace(result.weight)


def test_quantised_weights_lie_on_the_grid():
    weight, hessian = problem(8, 32)
    result = sparsegpt(weight, hessian, pattern=(2, 4), bits=3)
    grid = row_grid(weight, 3)
    levels = np.asarray(result.weight) / np.asarray(grid.scale)[:, None] + np.asarray(grid.zero)[:, None]
    np.testing.assert_allclose(levels, levels.round(), atol=1e-4)
    assert levels.round().min() >= 0 and levels.round().max() <= 7
    assert len(np.unique(np.asarray(result.weight)[0])) <= 8


def test_rows_sharded_over_a_mesh_give_the_same():
    weight, hessian = problem(32, 48)
    factor = factorise(hessian)
    rows = NamedSharding(devices.mesh(), P("data"))
    sharded = prune(jax.device_put(weight, rows), factor, mask_block_size=16)
    alone = prune(jnp.asarray(weight), factor, mask_block_size=16)
    np.testing.assert_array_equal(sharded.mask, alone.mask)
    np.testing.assert_allclose(sharded.weight, alone.weight, atol=1e-6)
    assert sharded.weight.sharding.is_equivalent_to(rows, 2)


def test_damping_is_raised_in_steps_then_an_error():
    weight, hessian = problem(4, 6)
    low_rank = np.outer(np.ones(6), np.ones(6)).astype(np.float32) - 1e-4 * np.eye(6, dtype=np.float32)
    with pytest.warns(UserWarning, match=r"not positive definite with damping 0\.0: pruned with 0\.01"):
        result = sparsegpt(weight, low_rank, damping=0.0)
    np.testing.assert_array_equal(result.weight, sparsegpt(weight, low_rank, damping=0.01).weight)
    with pytest.raises(ValueError, match=r"not positive definite even with damping 10\.0"):
        sparsegpt(weight, 100 - 99 * np.eye(6, dtype=np.float32))
    for prune_with in (sparsegpt, wanda, ria, alps):
        with pytest.raises(ValueError, match="negative diagonal entries"):
            prune_with(weight, -hessian)
    with pytest.raises(ValueError, match=r"not positive definite with damping 0\.01"):
        alps(weight, 100 - 99 * np.eye(6, dtype=np.float32))
    with pytest.raises(ValueError, match="hessian holds NaN"):
        factorise(np.full((6, 6), np.nan, np.float32))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"sparsity": 1.0}, "below 1"),
        ({"sparsity": -0.1}, "at least 0"),
        ({"pattern": (4, 4)}, "keeps n of every m"),
        ({"pattern": (2, 5)}, "divisible by 5"),
        ({"bits": 9}, "2 to 8"),
        ({"block_size": 0}, "block_size must be at least 1"),
        ({"damping": -1.0}, "damping must be 0 or more"),
        ({"weight": np.full((4, 6), np.nan, np.float32)}, "weight holds NaN"),
        ({"hessian": np.full((6, 6), np.inf, np.float32)}, "hessian holds NaN"),
    ],
)
def test_plain_errors(change, message):
    weight, hessian = problem(4, 6)
    arguments = {"weight": weight, "hessian": hessian} | change
    with pytest.raises(ValueError, match=message):
        sparsegpt(arguments.pop("weight"), arguments.pop("hessian"), **arguments)


def test_plain_errors_of_shapes():
    """Checked below the annotations, which under pytest refuse such arrays before our own words can."""
    with pytest.raises(ValueError, match=r"needs a Hessian of shape \(6, 6\)"):
        check(np.zeros((4, 6), np.float32), np.eye(5, dtype=np.float32))
    with pytest.raises(ValueError, match="must be a matrix"):
        check_weight(np.zeros(6, np.float32))


def test_half_precision_is_read_as_float32():
    weight, hessian = problem(4, 8)
    half, exact = (sparsegpt(weight.astype(kind), hessian).weight for kind in (np.float16, np.float32))
    assert half.dtype == exact.dtype == jnp.float32
    np.testing.assert_array_equal(half, sparsegpt(weight.astype(np.float16).astype(np.float32), hessian).weight)


@pytest.mark.parametrize(("keep", "group"), [(0, 0), (2, 4)])
def test_the_port_that_is_timed_prunes_alike(keep, group):
    torch = pytest.importorskip("torch")
    port = pytest.importorskip("benchmarks.torch_pruning")
    weight, hessian = problem(24, 300, samples=900)
    theirs = port.sparsegpt(torch.from_numpy(weight), torch.from_numpy(hessian), keep, group).numpy()
    ours = sparsegpt(weight, hessian, pattern=(keep, group) if group else None, compatible=True)
    np.testing.assert_array_equal(ours.mask, theirs != 0)
    np.testing.assert_allclose(ours.weight, theirs, atol=1e-4)
