"""Every public function of compression refuses bad input early, with a ValueError that names what was wrong."""

import dataclasses

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.block_float import (
    FORMATS,
    Format,
    Integer,
    block_packing,
    count_operations,
    decode,
    encode,
    in_format,
    qsnr,
    quantize,
    report,
)
from compression.pruning import packing
from compression.pruning.alps import alps
from compression.pruning.apply import Pruning, prune_model
from compression.pruning.baselines import least_squares, magnitude, ria, wanda
from compression.pruning.calibrate import calibrate, calibration_documents, embed, run
from compression.pruning.factor import factorise
from compression.pruning.grids import row_grid
from compression.pruning.sparsegpt import sparsegpt
from decoding.variants import in_int8
from icl_synth import checkpoints
from icl_synth.concept_hmm import official_ginc
from icl_synth.lstm import LSTMConfig
from icl_synth.transformer import TransformerConfig

few = settings(max_examples=20, deadline=None)
WEIGHT = np.arange(1.0, 33.0, dtype=np.float32).reshape(4, 8)
HESSIAN = np.eye(8, dtype=np.float32) + 1
MODEL = checkpoints.create(TransformerConfig(50, 16, 2, 16, 2))
TOKENS = np.zeros((2, 5), np.int32)
WITH_HESSIAN = {"sparsegpt": sparsegpt, "wanda": wanda, "ria": ria, "alps": alps}
METHODS = WITH_HESSIAN | {"magnitude": lambda weight, hessian, **how: magnitude(weight, **how)}
SOLVERS = {
    "factorise": lambda hessian, **how: factorise(hessian, **how),
    "sparsegpt": lambda hessian, **how: sparsegpt(WEIGHT, hessian, **how),
    "alps": lambda hessian, **how: alps(WEIGHT, hessian, **how),
    "least_squares": lambda hessian, **how: least_squares(WEIGHT, hessian, WEIGHT > 9, **how),
}


@pytest.fixture(autouse=True, scope="module")
def our_own_words():
    """Past the tests' own type checker, which refuses some of these first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        yield


@few
@given(
    solve=st.sampled_from(list(SOLVERS)),
    damping=st.floats(max_value=-1e-9) | st.sampled_from([np.nan, np.inf, "1", None, 1j, np.ones(2)]),
)
def test_damping(solve, damping):
    with pytest.raises(ValueError, match="damping must be"):
        SOLVERS[solve](HESSIAN, damping=damping)
    with pytest.raises(ValueError, match="damping must be"):
        Pruning(damping=damping)


@few
@given(
    method=st.sampled_from([*SOLVERS, "wanda", "ria"]),
    row=st.integers(0, 7),
    column=st.integers(0, 7),
    off=st.floats(0.1, 100) | st.sampled_from([np.nan, np.inf]),
)
def test_hessians(method, row, column, off):
    hessian = HESSIAN.copy()
    hessian[row, column] += off if row != column else -off - 3
    solve = SOLVERS.get(method) or (lambda hessian: WITH_HESSIAN[method](WEIGHT, hessian))
    with pytest.raises(ValueError, match=r"Hessian is not symmetric|negative diagonal entries|hessian holds NaN"):
        solve(hessian)
    with pytest.raises(ValueError, match="Hessian"):
        solve(np.zeros((0, 0), np.float32))


def test_rounding_is_no_asymmetry():
    rows = np.random.default_rng(0).standard_normal((40, 8))
    half = np.asarray(jnp.asarray(rows.T @ rows, jnp.bfloat16), np.float32)
    factorise(np.tril(half) + np.triu(half, 1) * (1 + 2**-8))


@few
@given(method=st.sampled_from(list(METHODS)), shape=st.sampled_from([(0, 8), (4, 0), (0, 0), (8,), (1, 4, 8)]))
def test_weights(method, shape):
    weight = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match="weight must be a matrix"):
        METHODS[method](weight, HESSIAN)
    with pytest.raises(ValueError, match="weight must be a matrix"):
        least_squares(weight, HESSIAN, weight == 0)
    with pytest.raises(ValueError, match="weight must be a matrix"):
        row_grid(weight, 4)


@few
@given(
    method=st.sampled_from(list(METHODS)),
    pattern=st.sampled_from([(2.0, 4.0), (2, 4.0), (np.nan, 4), (0, 4), (4, 4), (-1, 2), (1, 2, 4), (), [2, 4], "24"]),
)
def test_patterns(method, pattern):
    with pytest.raises(ValueError, match="pattern is a tuple"):
        METHODS[method](WEIGHT, HESSIAN, pattern=pattern)
    with pytest.raises(ValueError, match="pattern is a tuple"):
        Pruning(pattern=pattern)


@few
@given(place=st.integers(0, 31), value=st.sampled_from([np.nan, np.inf, -np.inf]), bits=st.integers(2, 8))
def test_grids(place, value, bits):
    weight = WEIGHT.copy()
    weight.flat[place] = value
    with pytest.raises(ValueError, match="weight holds NaN or Inf"):
        row_grid(weight, bits)
    for wrong in (bits - 7 if bits < 9 else bits, bits + 7, bits + 0.5):
        with pytest.raises(ValueError, match="bits must be 2 to 8"):
            row_grid(WEIGHT, wrong)


@few
@given(
    method=st.sampled_from(list(METHODS)), sparsity=st.sampled_from([-0.1, 1, 2, np.nan, None, "0.5", 1j, np.ones(1)])
)
def test_shares(method, sparsity):
    with pytest.raises(ValueError, match="sparsity is the share"):
        METHODS[method](WEIGHT, HESSIAN, sparsity=sparsity)
    with pytest.raises(ValueError, match="sparsity is the share"):
        Pruning(sparsity=sparsity)


@pytest.mark.parametrize("share", [np.float16(0.29), np.float32(0.29), np.float64(0.29), jnp.float32(0.29)], ids=repr)
def test_any_real_number_is_a_share(share):
    weight = np.arange(1.0, 101.0, dtype=np.float32)[None]
    assert (np.asarray(magnitude(weight, sparsity=share)) == 0).sum() == 29


@few
@given(name=st.sampled_from(["block_size", "mask_block_size"]), size=st.sampled_from([0, -3, 8.0, 2.5, np.nan, "8"]))
def test_sizes(name, size):
    with pytest.raises(ValueError, match=f"{name} must be at least 1 and an integer"):
        sparsegpt(WEIGHT, HESSIAN, **{name: size})
    if name == "mask_block_size":
        with pytest.raises(ValueError, match=f"{name} must be at least 1 and an integer"):
            Pruning(mask_block_size=size)


@few
@given(method=st.sampled_from(list(METHODS)), kind=st.sampled_from([np.complex64, np.complex128, bool, object, "U8"]))
def test_kinds_of_numbers(method, kind):
    """A cast to float32 would drop an imaginary part."""
    with pytest.raises(ValueError, match="weight must hold real numbers"):
        METHODS[method](WEIGHT.astype(kind), HESSIAN)
    if method != "magnitude":
        with pytest.raises(ValueError, match="hessian must hold real numbers"):
            METHODS[method](WEIGHT, HESSIAN.astype(kind))


MASK = np.tile([True, True, False, False], (4, 2))
PACKED = packing.pack(np.where(MASK, WEIGHT, 0), MASK)


@few
@given(kind=st.sampled_from([np.int32, np.uint8, np.float32]), shape=st.sampled_from([(4, 8), (4, 4), (8, 4)]))
def test_masks(kind, shape):
    mask = np.ones(shape, kind)
    with pytest.raises(ValueError, match="mask must be bool"):
        least_squares(WEIGHT, HESSIAN, mask)
    with pytest.raises(ValueError, match="mask must be bool"):
        packing.pack(WEIGHT, mask)
    for empty in ((0, 8), (4, 0)):
        with pytest.raises(ValueError, match="weight must be"):
            packing.pack(np.zeros(empty, np.float32), np.zeros(empty, bool))


@few
@given(row=st.integers(0, 3), twice=st.sampled_from([0b0000_0100, 0b0101_0100, 0b1111_0100, 0b0100_0000]))
def test_positions(row, twice):
    positions = PACKED.positions.copy()
    positions[row] = twice
    with pytest.raises(ValueError, match="positions name an input twice"):
        packing.unpack(PACKED._replace(positions=positions))
    for wrong in (positions[:row], positions[:, :0], positions.astype(np.int64), positions[None]):
        with pytest.raises(ValueError, match="positions of values"):
            packing.unpack(PACKED._replace(positions=wrong))
    with pytest.raises(ValueError, match="values must be"):
        packing.unpack(PACKED._replace(values=PACKED.values[:, 1:]))


def test_files_of_others(tmp_path):
    encoded = encode(WEIGHT, "msfp12")
    packing.save(tmp_path / "packed", {"layer": PACKED})
    block_packing.save(tmp_path / "blocks", {"layer": encoded})
    checkpoints.export(MODEL, tmp_path / "model")
    (tmp_path / "text").write_text("no safetensors")
    for file in ("blocks", "model/model.safetensors", "text"):
        with pytest.raises(ValueError, match=r"was not written by packing\.save|cannot be read"):
            packing.load(tmp_path / file)
    for file in ("packed", "model/model.safetensors", "text"):
        with pytest.raises(ValueError, match=r"was not written by block_packing\.save|cannot be read"):
            block_packing.load(tmp_path / file)
    packing.save(tmp_path / "none", {})
    assert packing.load(tmp_path / "none") == block_packing.load(tmp_path / "none") == {}


@few
@given(name=st.sampled_from(list(FORMATS)), axis=st.sampled_from([np.nan, 0.0, None, "0", 2, -3, np.int64(2), 10**30]))
def test_axes_and_complex_numbers(name, axis):
    for convert in (quantize, encode) if FORMATS[name].scale != "none" else (quantize,):
        with pytest.raises(ValueError, match="is not one of an array of shape"):
            convert(WEIGHT, name, axis=axis)
        with pytest.raises(ValueError, match="complex"):
            convert(WEIGHT + 1j, name)
        with pytest.raises(ValueError, match="empty"):
            convert(WEIGHT[:0], name)


@pytest.mark.parametrize("kind", [int, np.int64, np.int8, np.array])
def test_any_integer_is_an_axis(kind):
    encoded = encode(WEIGHT, "msfp12", axis=kind(-1))
    assert encoded.axis == 1 and type(encoded.axis) is int
    np.testing.assert_array_equal(decode(encoded), quantize(WEIGHT, "msfp12", axis=kind(1)))
    again = block_packing.unpack(block_packing.pack(encoded), encoded.format, encoded.shape, kind(-1))
    np.testing.assert_array_equal(decode(again), decode(encoded))


@few
@given(broken=st.sampled_from([np.nan, np.inf]), name=st.sampled_from(["q3.4", "q1.6"]))
def test_fixed_point_has_no_bytes_for_what_is_not_finite(broken, name):
    with pytest.raises(ValueError, match=f"NaN or Inf, which {name} has no bytes for"):
        block_packing.pack(encode(np.float32([1, broken]), name))


@few
@given(field=st.sampled_from(["block", "sub_block"]), size=st.integers(-40, 0))
def test_formats(field, size):
    for number, message in ((size, "at least one element"), (2**16 + 1 - size, "at most 65536 elements")):
        with pytest.raises(ValueError, match=f"block holds {message}, got {number}"):
            Format("mine", Integer(3), **{"block": 16, field: number})
    for field in ("scale", "rounding", "scale_rule"):
        with pytest.raises(ValueError, match=f"unknown {field.replace('_', ' ')} 'mine'"):
            Format("mine", Integer(3), **{field: "mine"})


@few
@given(
    shape=st.lists(st.integers(0, 3), max_size=3).map(tuple), other=st.lists(st.integers(0, 3), max_size=3).map(tuple)
)
def test_signal_to_noise(shape, other):
    with pytest.raises(ValueError, match="exact and quantised must have one shape" if shape != other else "exact must"):
        qsnr(np.zeros(shape), np.ones(other))


@few
@given(name=st.sampled_from(["rows", "inner", "columns", "block"]), number=st.integers(max_value=-1))
def test_operations(name, number):
    sizes = {"rows": 2, "inner": 35, "columns": 3, "block": 16}
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        count_operations(**sizes | {name: number})
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        count_operations(2, 35, 3, 0)


@few
@given(
    index=st.integers(max_value=-1) | st.integers(min_value=2) | st.just(0.5),
    shape=st.sampled_from([(0, 5, 16), (2, 0, 16), (2, 5, 15), (5, 16)]),
)
def test_calibration(index, shape):
    hidden = embed(MODEL, TOKENS)
    for use in (calibrate, run):
        with pytest.raises(ValueError, match="index must be that of a block, 0 to 1"):
            use(MODEL, index, hidden)
        with pytest.raises(ValueError, match="hidden must be"):
            use(MODEL, 0, jnp.zeros(shape))


@few
@given(token=st.integers(-(2**31), -1) | st.integers(50, 2**40), place=st.integers(0, 9), count=st.integers(-9, 0))
def test_documents(token, place, count):
    tokens = TOKENS.astype(np.int64)
    tokens.flat[place] = token
    for use in (embed, lambda *given: report(given[0], "msfp12", given[1])):
        with pytest.raises(ValueError, match="tokens must"):
            use(MODEL, tokens)
    for empty in (TOKENS[:0], TOKENS[:, :0]):
        with pytest.raises(ValueError, match="calibration documents must be"):
            embed(MODEL, empty)
    with pytest.raises(ValueError, match="num_documents must be at least 1"):
        calibration_documents(official_ginc()[0], MODEL, count)


@pytest.mark.parametrize("replaced", [in_int8, lambda model: in_format(model, "msfp12")], ids=["int8", "format"])
def test_models_whose_layers_were_replaced(replaced, tmp_path):
    with pytest.raises(TypeError, match="give the model it was made from"):
        in_format(replaced(MODEL), "mxfp4")
    with pytest.raises(TypeError, match="give the model it was made from"):
        prune_model(replaced(MODEL), TOKENS, Pruning(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_formats_of_models():
    with pytest.raises(ValueError, match="msfp12:stochastic rounds stochastically"):
        in_format(MODEL, "msfp12:stochastic")
    model = checkpoints.create(LSTMConfig(50, 16, 2, 16))
    with pytest.raises(ValueError, match=r"keep names 'layers\.2'"):
        in_format(model, "msfp12", keep=("layers.2",))


def test_settings():
    for change, message in (
        ({"method": "none"}, "method must be one of sparsegpt"),
        ({"first_blocks": 0}, "first_blocks must be at least 1"),
        ({"method": "alps", "damping": 0.0}, "damping must be above 0"),
        ({"sparsity": np.nan}, "sparsity is the share"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(Pruning(), **change)
