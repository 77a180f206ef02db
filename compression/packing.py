"""2:4 weights as they are stored for sparse matrix units: of every four inputs two values and two 2-bit positions."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from safetensors import safe_open
from safetensors.numpy import save_file

from icl_synth.checkpoints import write_atomically


class Packed(NamedTuple):
    """Kept values of a row in order, two for every four inputs, and their positions, four to a byte, first lowest."""

    values: Float[np.ndarray, "O J"]
    positions: UInt8[np.ndarray, "O K"]


def pack(weight: Float[np.ndarray, "O I"], mask: Bool[np.ndarray, "O I"]) -> Packed:
    """Pack a weight [O I] whose mask keeps exactly two of every four inputs (I divisible by 4; padded to whole bytes).

    Raises ValueError where the mask is not 2:4, or drops a weight that is not 0.
    """
    weight, mask = np.asarray(weight), np.asarray(mask)
    if mask.shape != weight.shape or weight.ndim != 2 or weight.shape[1] % 4:
        raise ValueError(f"need a weight [O I] with I divisible by 4 and its mask, got {weight.shape} and {mask.shape}")
    outputs = len(weight)
    if not (mask.reshape(outputs, -1, 4).sum(-1) == 2).all():
        raise ValueError("not a 2:4 mask: some four neighbouring inputs do not keep exactly two")
    if weight[~mask].any():
        raise ValueError("the mask drops weights that are not 0: pack the pruned weight")
    where = np.nonzero(mask)[1].reshape(outputs, -1)
    indices = np.pad(where % 4, ((0, 0), (0, -where.shape[1] % 4))).reshape(outputs, -1, 4)
    positions = (indices << np.arange(0, 8, 2)).sum(-1).astype(np.uint8)
    return Packed(np.take_along_axis(weight, where, axis=1), positions)


def unpack(packed: Packed) -> tuple[Float[np.ndarray, "O I"], Bool[np.ndarray, "O I"]]:
    """The weight and its mask, exactly as they were."""
    outputs, kept = packed.values.shape
    indices = (packed.positions[..., None] >> np.arange(0, 8, 2)) & 3
    where = indices.reshape(outputs, -1)[:, :kept] + np.arange(kept) // 2 * 4
    weight, mask = np.zeros((outputs, 2 * kept), packed.values.dtype), np.zeros((outputs, 2 * kept), bool)
    np.put_along_axis(weight, where, packed.values, axis=1)
    np.put_along_axis(mask, where, True, axis=1)
    return weight, mask


def save(path: Path, layers: dict[str, Packed]) -> int:
    """Write packed layers to a safetensors file and return its size in bytes."""
    arrays = {f"{name}.{part}": array for name, packed in layers.items() for part, array in packed._asdict().items()}
    write_atomically(path, lambda temporary: save_file(arrays, temporary))
    return path.stat().st_size


def load(path: Path) -> dict[str, Packed]:
    """The layers that `save` wrote."""
    with safe_open(path, framework="numpy") as file:
        names = sorted({name.rsplit(".", 1)[0] for name in file.keys()})
        return {n: Packed(file.get_tensor(f"{n}.values"), file.get_tensor(f"{n}.positions")) for n in names}
