"""2:4 weights as sparse matrix units store them: of every four inputs, two values and two 2-bit positions."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from compression.pruning.problem import check_mask
from icl_synth import files


class Packed(NamedTuple):
    """The kept values of each row in order, and their positions.

    Every four inputs keep two values (J = I / 2). A byte holds four positions, the first in the lowest bits
    (K = J / 4, rounded up).
    """

    values: Float[np.ndarray, "O J"]
    positions: UInt8[np.ndarray, "O K"]


def pack(weight: Float[np.ndarray, "O I"], mask: Bool[np.ndarray, "O I"]) -> Packed:
    """Pack a weight whose mask keeps exactly two of every four inputs; I is divisible by 4.

    Raises ValueError where the mask is not bool or not 2:4, or drops a weight that is not 0, and for an empty weight.
    """
    weight, mask = np.asarray(weight), np.asarray(mask)
    if weight.ndim != 2 or not weight.size or weight.shape[1] % 4:
        raise ValueError(f"weight must be [O I], not empty, with I divisible by 4, got shape {weight.shape}")
    check_mask(mask, weight)
    outputs = len(weight)
    if not (mask.reshape(outputs, -1, 4).sum(-1) == 2).all():
        raise ValueError("not a 2:4 mask: every four neighbouring inputs must keep exactly two")
    if weight[~mask].any():
        raise ValueError("the mask drops weights that are not 0: pack the pruned weight")
    where = np.nonzero(mask)[1].reshape(outputs, -1)
    indices = np.pad(where % 4, ((0, 0), (0, -where.shape[1] % 4))).reshape(outputs, -1, 4)
    positions = (indices << np.arange(0, 8, 2)).sum(-1).astype(np.uint8)
    return Packed(np.take_along_axis(weight, where, axis=1), positions)


def unpack(packed: Packed) -> tuple[Float[np.ndarray, "O I"], Bool[np.ndarray, "O I"]]:
    """Return the weight and its mask, exactly as they were packed.

    Raises ValueError for values that are not two of every four inputs, and for positions that have another shape or
    type or name an input twice.
    """
    values, positions = packed
    if values.ndim != 2 or not values.size or values.shape[1] % 2:
        raise ValueError(f"values must be [O J], not empty, with J even, got shape {values.shape}")
    outputs, kept = values.shape
    if positions.shape != (outputs, -(-kept // 4)) or positions.dtype != np.uint8:
        raise ValueError(
            f"positions of values {values.shape} must be uint8 of shape {(outputs, -(-kept // 4))}, got "
            f"{positions.dtype} of shape {positions.shape}"
        )
    indices = (positions[..., None] >> np.arange(0, 8, 2)) & 3
    where = indices.reshape(outputs, -1)[:, :kept] + np.arange(kept) // 2 * 4
    if (where[:, ::2] == where[:, 1::2]).any():
        raise ValueError("positions name an input twice: of every four, two different ones are kept")
    weight, mask = np.zeros((outputs, 2 * kept), values.dtype), np.zeros((outputs, 2 * kept), bool)
    np.put_along_axis(weight, where, values, axis=1)
    np.put_along_axis(mask, where, True, axis=1)
    return weight, mask


def save(path: Path, layers: dict[str, Packed]) -> int:
    """Write packed layers to a safetensors file, and return its size in bytes."""
    arrays = {f"{name}.{part}": array for name, packed in layers.items() for part, array in packed._asdict().items()}
    files.write_safetensors(path, arrays)
    return path.stat().st_size


def load(path: Path) -> dict[str, Packed]:
    """Return the layers that `save` wrote. Raises ValueError for a file that it did not write."""
    arrays, _ = files.read_safetensors(path, "a file that packing.save wrote")
    names = sorted({name.rsplit(".", 1)[0] for name in arrays})
    if arrays.keys() != {f"{name}.{part}" for name in names for part in Packed._fields}:
        raise ValueError(f"{path} was not written by packing.save: it holds {', '.join(sorted(arrays))}")
    return {name: Packed(*(arrays[f"{name}.{part}"] for part in Packed._fields)) for name in names}
