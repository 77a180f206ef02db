"""2:4 packing: the exact weight comes back, from 17/32 of its bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.pruning import packing


def pruned_24(outputs, inputs, seed):
    rng = np.random.default_rng(seed)
    order = rng.random((outputs, inputs // 4, 4)).argsort(-1)
    mask = (order < 2).reshape(outputs, inputs)
    return np.where(mask, rng.standard_normal((outputs, inputs)), 0).astype(np.float32), mask


@settings(deadline=None, max_examples=30)
@given(outputs=st.integers(1, 6), groups=st.integers(1, 9), seed=st.integers(0, 999))
def test_round_trip(outputs, groups, seed):
    weight, mask = pruned_24(outputs, 4 * groups, seed)
    weight[0, np.flatnonzero(mask[0])[0]] = 0.0  # a kept weight may be 0
    back, mask_back = packing.unpack(packing.pack(weight, mask))
    np.testing.assert_array_equal(back, weight)
    np.testing.assert_array_equal(mask_back, mask)


def test_size_on_disk(tmp_path):
    weight, mask = pruned_24(64, 256, 0)
    size = packing.save(tmp_path / "packed.safetensors", {"layer.kernel": packing.pack(weight, mask)})
    assert size == (tmp_path / "packed.safetensors").stat().st_size
    assert weight.nbytes * 17 / 32 < size < weight.nbytes * 17 / 32 + 500  # half the values, 2 bits for each, a header
    loaded = packing.load(tmp_path / "packed.safetensors")
    np.testing.assert_array_equal(packing.unpack(loaded["layer.kernel"])[0], weight)


def test_any_memory_layout_is_saved_as_it_reads(tmp_path):
    """The writer of safetensors takes the buffer as it lies; a view in another order must not come back as another."""
    weight, mask = pruned_24(6, 32, 0)
    packed = packing.pack(weight, mask)
    views = packing.Packed(np.asfortranarray(packed.values), np.repeat(packed.positions, 2, axis=1)[:, ::2])
    packing.save(
        tmp_path / "packed.safetensors", {"turned": views, "half": packing.pack(weight[::2, ::-1], mask[::2, ::-1])}
    )
    loaded = packing.load(tmp_path / "packed.safetensors")
    np.testing.assert_array_equal(packing.unpack(loaded["turned"])[0], weight)
    np.testing.assert_array_equal(packing.unpack(loaded["half"])[0], weight[::2, ::-1])


def test_plain_errors():
    weight, mask = pruned_24(2, 8, 0)
    with pytest.raises(ValueError, match="not a 2:4 mask"):
        packing.pack(weight, ~mask | mask)
    with pytest.raises(ValueError, match="not 0"):
        packing.pack(weight + 1, mask)
    with pytest.raises(ValueError, match="divisible by 4"):
        packing.pack(weight[:, :6], mask[:, :6])
