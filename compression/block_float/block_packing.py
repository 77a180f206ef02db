"""Encoded arrays on disk: as many bits an element as the format says, whole bytes only where an array ends."""

import dataclasses
import json
from pathlib import Path
from typing import SupportsIndex

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, UInt8
from safetensors.numpy import save_file

from compression.block_float import blocks, formats
from compression.block_float.quantise import BlockFloat
from compression.pruning import packing
from icl_synth.checkpoints import write_atomically


def pack_bits(codes: Int[np.ndarray, " N"], bits: int) -> UInt8[np.ndarray, " Z"]:
    """The lowest `bits` of each code, lowest first, one after another."""
    return np.packbits((codes[:, None] >> np.arange(bits)) & 1, bitorder="little")


def unpack_bits(packed: UInt8[np.ndarray, " Z"], bits: int, count: int) -> Int[np.ndarray, " N"]:
    """The first `count` codes of `bits` bits each."""
    single = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    return (single.astype(np.int64) << np.arange(bits)).sum(-1)


def pack(x: BlockFloat) -> dict[str, np.ndarray]:
    """Arrays of bytes: elements (integers as sign and magnitude), exponents, halved; and the tensor's scale if any.

    Raises ValueError for NaN in fixed point, whose bytes have no place for it.
    """
    if x.format.scale == "fixed" and np.isnan(x.tensor_scale):
        raise ValueError(f"the array held NaN or Inf, which {x.format.name} has no bytes for")
    element, codes = x.format.element, np.asarray(x.elements, np.int64).reshape(-1)
    if isinstance(element, formats.Integer):
        codes = np.abs(codes) + (np.where(codes < 0, 1, 0) << element.magnitude)
    parts = {
        "elements": pack_bits(codes, element.bits),
        "exponents": np.asarray(x.exponents).reshape(-1),
        "halved": pack_bits(np.asarray(x.halved, np.int64).reshape(-1), 1),
    }
    if x.format.scale in ("float", "e4m3"):
        parts["tensor_scale"] = np.asarray(x.tensor_scale).reshape(1)
    return {name: part for name, part in parts.items() if part.size}


def unpack(
    parts: dict[str, np.ndarray], format: formats.Format, shape: tuple[int, ...], axis: SupportsIndex
) -> BlockFloat:
    """What `pack` packed. Raises ValueError where the parts or their bytes are not those of such an array, and for an
    axis that it lacks."""
    axis = blocks.whole_axis(axis, shape)
    element, (*outer, length) = format.element, np.moveaxis(np.empty(shape, np.void), axis, -1).shape
    block = format.block or length
    cells = (*outer, -(-length // block))
    count = int(np.prod(cells)) * block
    halves = block // format.sub_block if format.sub_block else 0
    expected = {
        "elements": -(-count * element.bits // 8),
        "exponents": count // block if format.scale in ("power", "e4m3") else 0,
        "halved": -(-count // block * halves // 8),
        "tensor_scale": 1 if format.scale in ("float", "e4m3") else 0,
    }
    found = {name: parts[name].size for name in parts}
    if found != {name: size for name, size in expected.items() if size}:
        raise ValueError(f"an array {tuple(shape)} in {format.name} has parts of sizes {expected}, got {found}")
    codes = unpack_bits(parts["elements"], element.bits, count)
    if isinstance(element, formats.Integer):
        magnitude = codes & (2**element.magnitude - 1)
        codes = np.where(codes >> element.magnitude, -magnitude, magnitude)
        codes = codes.astype(np.int8 if element.bits <= 8 else np.int16)
    else:
        codes = codes.astype(np.uint8)
    empty = np.zeros(0, np.uint8)
    return BlockFloat(
        jnp.asarray(codes.reshape(*cells, block)),
        jnp.asarray(parts.get("exponents", empty).reshape(*cells, -1 if "exponents" in parts else 0)),
        jnp.asarray(
            unpack_bits(parts.get("halved", empty), 1, count // block * halves).astype(np.uint8).reshape(*cells, halves)
        ),
        jnp.asarray(parts.get("tensor_scale", np.ones(1, np.float32))[0]),
        format,
        tuple(shape),
        axis,
    )


def save(path: Path, arrays: dict[str, BlockFloat]) -> int:
    """Write encoded arrays to a safetensors file, whole or not at all; returns the bytes that their contents take."""
    parts = {f"{name}:{part}": array for name, x in arrays.items() for part, array in pack(x).items()}
    about = {
        name: json.dumps({"format": dataclasses.asdict(x.format), "shape": x.shape, "axis": x.axis})
        for name, x in arrays.items()
    }
    write_atomically(path, lambda temporary: save_file(parts, temporary, metadata=about))
    return sum(part.nbytes for part in parts.values())


def load(path: Path) -> dict[str, BlockFloat]:
    """The encoded arrays that `save` wrote. Raises ValueError for a file that it did not write, and where the bytes do
    not fit what is said of them."""
    arrays, metadata = packing.read(path)
    parts: dict[str, dict[str, np.ndarray]] = {name: {} for name in metadata}
    try:
        about = {name: json.loads(text) for name, text in metadata.items()}
        for key, array in arrays.items():
            name, _, part = key.rpartition(":")
            parts[name][part] = array
        kinds = {n: (read_format(said["format"]), tuple(said["shape"]), said["axis"]) for n, said in about.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} was not written by block_packing.save: {error!r}") from error
    return {name: unpack(parts[name], *kind) for name, kind in kinds.items()}


def read_format(fields: dict) -> formats.Format:
    """A format from the fields of its dataclass."""
    element = fields["element"]
    kind = formats.Integer if "magnitude" in element else formats.Float
    return formats.Format(**fields | {"element": kind(**element)})
