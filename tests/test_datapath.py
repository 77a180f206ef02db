"""The integer product against exact fractions, the fast one against the integer one, and both packed to bytes."""

import dataclasses
import json
from fractions import Fraction

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from compression.block_float import (
    FORMATS,
    Operations,
    bfp,
    block_packing,
    carrier,
    count_operations,
    decode,
    encode,
    find,
    integer_matmul,
    matmul,
    plain_matmul,
    quantize,
)
from icl_synth import files

INTEGER = [
    "msfp16",
    "msfp12",
    "mx9",
    "mx6",
    "mx4",
    "mxint8",
    "mxfp6_e2m3",
    "mxfp6_e3m2",
    "mxfp4",
    "mxfp8_e4m3",
    "bfp13_8",
]
OTHER = ["nvfp4", "int8", "int4", "q3.4", "fp8_e4m3"]


def operands(seed: int, inner: int = 80, spread: float = 2.0):
    keys = jax.random.split(jax.random.key(seed), 4)
    a = jax.random.normal(keys[0], (5, inner)) * jnp.exp(spread * jax.random.normal(keys[1], (5, inner)))
    return a, jax.random.normal(keys[2], (inner, 7)) * jnp.exp(spread * jax.random.normal(keys[3], (inner, 7)))


def product(a, b, name: str) -> np.ndarray:
    return integer_matmul(encode(a, name), encode(b, name, axis=0)).values


@pytest.mark.parametrize("name", [*INTEGER, *OTHER])
def test_integer_product_is_the_sum_of_exact_blocks_from_first_to_last(name):
    a, b = operands(0)
    got = product(a, b, name)
    left, right = np.asarray(quantize(a, name)), np.asarray(quantize(b, name, axis=0))
    block = FORMATS[name].block if name in FORMATS else 8
    exact = left.astype(np.float64) @ right.astype(np.float64)
    np.testing.assert_allclose(got, exact, rtol=0, atol=1e-6 * (np.abs(left) @ np.abs(right)).max())
    if name in INTEGER:  # bit for bit, block by block
        total = np.zeros((5, 7), np.float32)
        for start in range(0, 80, block):
            for m in range(5):
                for o in range(7):
                    pairs = zip(left[m, start : start + block], right[start : start + block, o], strict=True)
                    total[m, o] += np.float32(float(sum(Fraction(float(x)) * Fraction(float(y)) for x, y in pairs)))
        np.testing.assert_array_equal(got, total)


@pytest.mark.parametrize("name", INTEGER)
def test_fast_product_equals_the_integer_one_where_float_sums_are_exact(name):
    """All exponents alike and at most 1,024 products: every partial sum is a whole number below 2^24."""
    keys = jax.random.split(jax.random.key(2))
    inner = 64 if name in ("mxfp6_e3m2", "mxfp8_e4m3", "bfp13_8") else 1024
    most = 2 if name == "bfp13_8" else 1.9
    a = jnp.round(jax.random.uniform(keys[0], (3, inner), minval=-most, maxval=most) * 4) / 4
    b = jnp.round(jax.random.uniform(keys[1], (inner, 4), minval=-most, maxval=most) * 4) / 4
    np.testing.assert_array_equal(matmul(a, b, name), product(a, b, name))


@pytest.mark.parametrize("name", [*INTEGER, *OTHER])
def test_fast_product_is_within_the_stated_bound_elsewhere(name):
    for seed in (3, 4):
        a, b = operands(seed, 500)
        left, right = np.abs(quantize(a, name)), np.abs(quantize(b, name, axis=0))
        difference = np.abs(matmul(a, b, name) - product(a, b, name))
        assert (difference <= 500 * 2.0**-23 * (left @ right)).all()


@pytest.mark.parametrize("name", ["msfp16", "msfp11", "mx9", "mx4", "mxint8", "bfp13_8", "bfp9_7", "msfp12:truncate"])
def test_integer_product_is_the_plain_one(name):
    a, b = (np.asarray(x) for x in operands(10))
    np.testing.assert_array_equal(product(a, b, name), plain_matmul(a, b, name))


def test_bfloat16_holds_what_it_is_said_to_hold():
    x, carried = operands(5)[0], []
    for name in FORMATS:
        try:
            carried += [name] * (carrier(name, "bfloat16") == "bfloat16")
        except ValueError:
            continue
        values = quantize(x, name)
        np.testing.assert_array_equal(values.astype(jnp.bfloat16).astype(jnp.float32), values, err_msg=name)
    assert "msfp16" in carried and "mx9" in carried and "fp16" not in carried and "int8" not in carried


def test_a_broken_block_breaks_its_row():
    a, b = operands(6)
    broken = a.at[2, 40].set(jnp.inf)
    got = product(broken, b, "msfp12")
    np.testing.assert_array_equal(np.isnan(got).all(1), [False, False, True, False, False])


def test_operations_of_a_product_counted_one_by_one():
    rows, inner, columns, block = 2, 35, 3, 16
    counted = {"integer_products": 0, "integer_sums": 0, "exponent_sums": 0, "float_products": 0, "float_sums": 0}
    for _ in range(rows * columns):
        for _start in range(0, inner, block):
            counted["exponent_sums"] += 1
            for i in range(block):
                counted["integer_products"] += 1
                counted["integer_sums"] += i > 0
            counted["float_sums"] += 1
    assert count_operations(rows, inner, columns, block) == Operations(**counted)
    ones = encode(np.ones((rows, inner), np.float32), "msfp12"), encode(np.ones((inner, columns)), "msfp12", axis=0)
    assert integer_matmul(*ones).operations == Operations(**counted)
    assert count_operations(1, 16, 1, 16) == (16, 15, 1, 0, 1)
    assert count_operations(1, 16, 1) == (0, 0, 0, 16, 16)


@pytest.mark.parametrize("name", [name for name, format in FORMATS.items() if format.scale != "none"])
def test_packed_bytes_are_the_average_bits_and_come_back(name, tmp_path):
    format = FORMATS[name]
    x = np.asarray(jax.random.normal(jax.random.key(8), (3, 64, 5)), np.float32)
    encoded = encode(x, name, axis=1)
    size = block_packing.save(tmp_path / "x.safetensors", {"layer.kernel": encoded})
    tensor = 4 if format.scale in ("float", "e4m3") else 0
    assert size == x.size * format.average_bits / 8 + tensor
    (again,) = block_packing.load(tmp_path / "x.safetensors").values()
    assert (again.format, again.shape, again.axis) == (encoded.format, encoded.shape, encoded.axis)
    for part in ("elements", "exponents", "halved", "tensor_scale"):
        stored, given = getattr(again, part), getattr(encoded, part)
        np.testing.assert_array_equal(stored, given)
        assert stored.dtype == given.dtype
    np.testing.assert_array_equal(decode(again), quantize(x, name, axis=1))


def test_arrays_of_any_memory_layout_are_saved_right(tmp_path, monkeypatch):
    """safetensors writes buffers as they lie: a strided view or a transposed one must not become another array."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # encode gives JAX arrays, which are contiguous
    encoded = encode(np.asarray(operands(12)[0][0]), "mx6")
    spaced = np.zeros((2 * len(encoded.exponents), 1), np.uint8)
    spaced[::2] = encoded.exponents
    views = {"exponents": spaced[::2], "elements": np.asfortranarray(encoded.elements)}
    block_packing.save(tmp_path / "x.safetensors", {"x": dataclasses.replace(encoded, **views)})
    np.testing.assert_array_equal(decode(block_packing.load(tmp_path / "x.safetensors")["x"]), decode(encoded))


def test_formats_with_numpy_numbers_can_be_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    encoded = encode(operands(12)[0], bfp(np.int64(16), np.int64(5)))
    block_packing.save(tmp_path / "x.safetensors", {"x": encoded})
    assert block_packing.load(tmp_path / "x.safetensors")["x"].format == find("bfp5_16")


@pytest.mark.parametrize(
    "change", [{"shape": [0, 80]}, {"shape": [-5, 80]}, {"shape": 5}, {"format": None}, {"format": {"element": {}}}]
)
def test_files_with_another_description_are_refused(change, tmp_path):
    block_packing.save(tmp_path / "x.safetensors", {"x": encode(operands(13)[0], "msfp12")})
    stored, about = files.read_safetensors(tmp_path / "x.safetensors", "a file")
    files.write_safetensors(tmp_path / "x.safetensors", stored, {"x": json.dumps(json.loads(about["x"]) | change)})
    with pytest.raises(ValueError, match=r"x\.safetensors was not written by block_packing\.save"):
        block_packing.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", ["msfp12", "mx9", "nvfp4", "int8"])
def test_bytes_of_another_array_are_refused(name):
    parts = block_packing.pack(encode(np.ones((4, 32), np.float32), name))
    with pytest.raises(ValueError, match=rf"an array \(4, 48\) in {name} has parts of sizes"):
        block_packing.unpack(parts, FORMATS[name], (4, 48), 1)
    for part, stored in parts.items():
        for wrong in ({}, {part: stored[:-1]}, {part: np.concatenate([stored, stored])}):
            others = {other: array for other, array in parts.items() if other != part}
            with pytest.raises(ValueError, match="has parts of sizes"):
                block_packing.unpack(others | wrong, FORMATS[name], (4, 32), 1)
        with pytest.raises(ValueError, match=f"the part {part} of an array in {name} is .*, got int64"):
            block_packing.unpack(parts | {part: stored.astype(np.int64)}, FORMATS[name], (4, 32), 1)
    with pytest.raises(ValueError, match="is empty"):
        block_packing.unpack({}, FORMATS[name], (0, 32), 1)


@pytest.mark.parametrize("name", [*INTEGER, *OTHER])
def test_products_of_blocks_of_zeros_and_of_tiny_numbers_are_zero(name):
    a, b = operands(7)
    for least in (0.0, 2.0**-126):
        tiny = a.at[:, :48].set(least)
        got, right = product(tiny, b.at[:48].set(least), name), np.asarray(matmul(tiny, b.at[:48].set(0.0), name))
        np.testing.assert_allclose(got, right, atol=1e-5 * np.abs(right).max())
    assert not product(np.full((2, 64), 2.0**-126, np.float32), np.full((64, 2), 2.0**-126, np.float32), name).any()


def test_a_product_whose_operands_fit_bfloat16_is_the_same_through_it():
    """The carrier of machines with matrix units, on any machine."""
    a, b = operands(9)
    for name in ("msfp16", "mx9", "mxfp8_e5m2", "mxfp4"):
        in_float32 = np.asarray(matmul(a, b, name, precision="float32"))
        carried = jax.jit(lambda a, b, name=name: matmul(a, b, name, precision="bfloat16"))
        assert "bf16" in carried.lower(a, b).as_text()
        bound = 80 * 2.0**-23 * (np.abs(quantize(a, name)) @ np.abs(quantize(b, name, axis=0)))
        assert (np.abs(np.asarray(carried(a, b)) - in_float32) <= bound).all()


def test_gradients_go_through_the_carrier_that_was_asked_for():
    a, b = operands(11)

    def total(a, b, precision):
        return matmul(a, b, "mx9", precision=precision).sum()

    for precision in ("float32", "bfloat16"):
        lowered = jax.jit(jax.grad(total, (0, 1)), static_argnums=2).lower(a, b, precision).as_text()
        products = [line for line in lowered.splitlines() if "dot_general" in line]
        assert len(products) >= 2
        assert all(("bf16" in line) == (precision == "bfloat16") for line in products)


def test_operands_that_do_not_meet_are_told_plainly(monkeypatch):
    a, b = np.ones((3, 32), np.float32), np.ones((32, 2), np.float32)
    with pytest.raises(ValueError, match="in one format"):
        integer_matmul(encode(a, "msfp12"), encode(b, "msfp13", axis=0))
    with pytest.raises(ValueError, match="encoded along axis 1"):
        integer_matmul(encode(a, "msfp12"), encode(b, "msfp12", axis=1))
    with pytest.raises(ValueError, match="do not multiply"):
        integer_matmul(encode(a, "msfp12"), encode(b[:16], "msfp12", axis=0))
    with pytest.raises(ValueError, match="mxfp8_e5m2 elements do not fit"):
        integer_matmul(encode(a, "mxfp8_e5m2"), encode(b, "mxfp8_e5m2", axis=0))
    for wrong in (b.T, b[:16], np.ones((2, 32, 2), np.float32), np.ones(32, np.float32)):
        monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        with pytest.raises(ValueError, match=r"need a \[..., I\] and b \[I, O\]"):
            matmul(a, wrong, "msfp12")
