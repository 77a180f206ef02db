"""SparseGPT against the authors' outputs, against the paper's Algorithm 1 in plain NumPy, and its own identities."""

import itertools
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import compression.pruning
from compression.pruning import factor as factor_module
from compression.pruning.alps import alps
from compression.pruning.baselines import least_squares, ria, wanda
from compression.pruning.factor import factorise, with_whole_blocks
from compression.pruning.grids import row_grid
from compression.pruning.plain import plain_sparsegpt
from compression.pruning.problem import check, check_weight
from compression.pruning.sparsegpt import block_widths, mask_counts, prune, sparsegpt
from compression.pruning.sweep import Layer, Plan, choose_dropped, prune_columns
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


def assert_pruned_alike(ours, theirs, bits=None):
    if bits is None:  # among quantised weights, some that are kept are 0 too
        np.testing.assert_array_equal(ours.mask, theirs.mask)
    np.testing.assert_array_equal(np.asarray(ours.weight) == 0, theirs.weight == 0)
    np.testing.assert_allclose(ours.weight, theirs.weight, atol=1e-5, rtol=0)
    np.testing.assert_allclose(ours.error, theirs.error, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("path", ORACLES.values(), ids=ORACLES)
def test_masks_and_weights_of_the_authors(path, case):
    if not path.exists():
        pytest.skip("the oracles are not on this machine")
    oracle = np.load(path)
    if f"Wout_{case}" not in oracle:
        pytest.skip("not among the small goldens")
    weight = oracle[f"Wout_{case}"]
    theirs = types.SimpleNamespace(weight=weight, mask=weight != 0, error=oracle[f"err_{case}"])
    for method in (sparsegpt, plain_sparsegpt):
        ours = method(oracle["W"], oracle["H"], compatible=True, **CASES[case])
        assert_pruned_alike(ours, theirs, CASES[case].get("bits"))


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(factor_module, "TILE", 16)
    factor_module._factorise.clear_cache()
    yield
    factor_module._factorise.clear_cache()


# blocks within mask blocks and the reverse; sizes that divide the inputs, each other and the tiles, and others
@pytest.mark.parametrize(
    "block_size, mask_block_size", [(1, 5), (7, 16), (8, 18), (8, 24), (40, 5), (40, 18), (2, None), (4096, None)]
)
def test_mask_blocks_apart_from_blocks(block_size, mask_block_size, small_tiles):
    """Blocks and tiles affect only speed; in each mask block exactly the plain algorithm's weights are dropped."""
    weight, hessian = problem(12, 40)
    sizes = {"block_size": block_size, "mask_block_size": mask_block_size}
    assert_pruned_alike(
        sparsegpt(weight, hessian, sparsity=0.6, **sizes), plain_sparsegpt(weight, hessian, sparsity=0.6, **sizes)
    )


@pytest.mark.parametrize(
    "how",
    [
        {"pattern": (3, 5)},
        {"pattern": (2, 4), "bits": 2, "block_size": 8},
        {"sparsity": 0.3, "bits": 3, "damping": 1.0},
    ],
    ids=str,
)
def test_the_plain_form_with_inputs_that_were_never_active(how):
    weight, hessian = problem(8, 40, seed=1)
    hessian[[3, 7, 38]] = hessian[:, [3, 7, 38]] = 0
    assert_pruned_alike(sparsegpt(weight, hessian, **how), plain_sparsegpt(weight, hessian, **how), how.get("bits"))


@pytest.mark.parametrize("bits", [2, 3])
def test_blocks_that_do_not_divide_the_pattern(bits):
    """(1, 3) with blocks of 2 equals float64, also in rows that reach as far below 0 as above it.

    The zero point of such a row is a tie. Rounded as low / step, chance would break it, and move the row by a level.
    """
    weight, hessian = problem(300, 3)
    weight[:150, 2] = -weight[:150, 1]
    how = {"pattern": (1, 3), "bits": bits, "block_size": 2, "mask_block_size": 2}
    assert_pruned_alike(sparsegpt(weight, hessian, **how), plain_sparsegpt(weight, hessian, **how), bits)
    symmetric = np.abs(weight[:150, 1]) >= np.abs(weight[:150, 0])
    assert symmetric.sum() > 50
    assert (np.asarray(row_grid(weight[:150], bits).zero)[symmetric] == 2 ** (bits - 1)).all()  # half to even


def test_rows_too_small_for_a_grid_are_quantised_to_0():
    weight, hessian = problem(2, 8)
    weight[0] = 1e-38
    result = sparsegpt(weight, hessian, pattern=(2, 4), bits=8)
    assert not np.asarray(result.weight)[0].any() and np.isfinite(result.weight).all()


def test_blocks_of_any_two_sizes_are_nested():
    for block_size, mask_width in itertools.product(range(1, 140), repeat=2):
        widths = block_widths(block_size, mask_width)
        assert mask_width in widths and all(wide % narrow == 0 for wide, narrow in itertools.pairwise(widths))


@given(
    outputs=st.integers(1, 50),
    inputs=st.integers(1, 50),
    mask_width=st.integers(1, 50),
    sparsity=st.floats(0, 0.999),
)
def test_counts_of_mask_blocks(outputs, inputs, mask_width, sparsity):
    """Their sum is the share of the layer; each is within one weight of its own share."""
    counts = mask_counts(outputs, inputs, mask_width, sparsity)
    widths = np.minimum(mask_width, inputs - np.arange(0, inputs, mask_width))
    assert counts[: len(widths)].sum() == counts.sum() == round(sparsity * outputs * inputs)
    assert (np.abs(counts[: len(widths)] - sparsity * outputs * widths) <= 1).all()
    compatible = mask_counts(outputs, inputs, mask_width, 0.5, compatible=True)
    np.testing.assert_array_equal(compatible[: len(widths)], outputs * widths // 2)


def test_the_pieces_of_a_sweep():
    """The mask of a block that the layer's end cuts; columns pruned one by one under that mask."""
    weight, hessian = problem(4, 6)
    lower = np.linalg.cholesky(np.linalg.inv(hessian))  # its transpose is the paper's U
    layer = Layer(jnp.asarray(1 / np.diag(lower)), jnp.array([9, 7]), None, 5)  # the sixth input only fills up
    scores = np.abs(weight.T) / np.diag(lower)[:, None]
    dropped = choose_dropped(Plan((3,), 3, None, False), layer, jnp.int32(3), jnp.asarray(weight.T[3:]))
    expected = scores[3:] <= np.sort(scores[3:5].ravel())[6]
    expected[2] = False
    np.testing.assert_array_equal(dropped, expected)

    dropped = scores < np.median(scores)
    block = prune_columns(layer, jnp.int32(0), jnp.asarray(weight.T), jnp.asarray(lower), jnp.asarray(dropped))
    current = weight.astype(np.float64)
    for i in range(6):
        error = np.where(dropped[i], current[:, i], 0) / lower[i, i]
        np.testing.assert_allclose(block.errors[i], error, atol=1e-5)
        current -= np.outer(error, lower[:, i])
    np.testing.assert_allclose(block.pruned, np.where(dropped, 0, current.T), atol=1e-5)


def test_tiles_cut_anew_are_the_same_factor(small_tiles):
    """L^T L is H, and no block of 12 lies across two tiles."""
    _, hessian = problem(1, 40)
    tiles = factorise(hessian, damping=0.0).tiles
    assert [len(row[0]) for row in tiles] == [16, 16, 8]

    def assemble(rows):
        return np.concatenate(
            [np.pad(np.hstack(row), ((0, 0), (0, 40 - sum(t.shape[1] for t in row)))) for row in rows]
        )

    np.testing.assert_allclose(assemble(tiles).T @ assemble(tiles), hessian, atol=1e-5)
    again = with_whole_blocks(tiles, 12)
    assert [len(row[0]) for row in again] == [24, 16]
    np.testing.assert_array_equal(assemble(again), assemble(tiles))


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
    """With a diagonal Hessian the choice is by w^2 H_ii (here undamped), and nothing else moves."""
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
    rows = NamedSharding(devices.mesh(over=jax.devices()), P("data"))
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


def test_any_real_type_and_memory_layout_is_read_as_float32():
    weight, hessian = problem(4, 8)
    weight = weight.astype(np.float16)  # exact in all the types below
    expected = sparsegpt(weight.astype(np.float32), hessian)
    kinds = (np.float16, np.float32, np.float64)
    views = [np.asfortranarray(weight), np.repeat(weight, 2, axis=1)[:, ::2], weight[::-1].copy()[::-1]]
    for variant in [*(weight.astype(kind) for kind in kinds), *views]:
        result = sparsegpt(variant, np.asfortranarray(hessian.astype(np.float64)))
        assert result.weight.dtype == result.error.dtype == jnp.float32 and result.mask.dtype == bool
        for ours, theirs in zip(result, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_public_names():
    """The package hands out functions, also where a module has the same name."""
    for name in compression.pruning.__all__:
        assert not isinstance(getattr(compression.pruning, name), types.ModuleType), name
    assert compression.pruning.sparsegpt is sparsegpt and compression.pruning.alps is alps


@pytest.mark.parametrize(("keep", "group"), [(0, 0), (2, 4)])
def test_the_port_that_is_timed_prunes_alike(keep, group):
    torch = pytest.importorskip("torch")
    port = pytest.importorskip("benchmarks.torch_pruning")
    weight, hessian = problem(24, 300, samples=900)
    theirs = port.sparsegpt(torch.from_numpy(weight), torch.from_numpy(hessian), keep, group).numpy()
    ours = sparsegpt(weight, hessian, pattern=(keep, group) if group else None, compatible=True)
    np.testing.assert_array_equal(ours.mask, theirs != 0)
    np.testing.assert_allclose(ours.weight, theirs, atol=1e-4)
