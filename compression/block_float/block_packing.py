"""Encoded arrays on disk: each element takes as many bits as its format says, and only whole arrays fill up bytes."""

import dataclasses
import json
import math
import operator
from pathlib import Path
from typing import SupportsIndex

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Shaped, UInt8

from compression.block_float import blocks, formats
from compression.block_float.quantise import BlockFloat
from icl_synth import files


def pack_bits(codes: Int[np.ndarray, " N"], bits: int) -> UInt8[np.ndarray, " Z"]:
    """The lowest `bits` of each code, lowest first, one code after another."""
    return np.packbits((codes[:, None] >> np.arange(bits)) & 1, bitorder="little")


def unpack_bits(packed: UInt8[np.ndarray, " Z"], bits: int, count: int) -> Int[np.ndarray, " N"]:
    """The first `count` codes of `bits` bits each."""
    single = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    return (single.astype(np.int64) << np.arange(bits)).sum(-1)


def pack(x: BlockFloat) -> dict[str, np.ndarray]:
    """The bytes of an encoded array: elements (integers as sign and magnitude), exponents, halved, tensor_scale.

    Parts that the format lacks are left out. Raises ValueError for NaN in fixed point, which has no bytes for it.
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


@dataclasses.dataclass(frozen=True)
class Layout:
    """The shape of an encoded array: `cells` are the axes before a block's own, the last of them counting blocks."""

    cells: tuple[int, ...]
    block: int
    sub_blocks: int  # of a block

    @property
    def blocks(self) -> int:
        return math.prod(self.cells)


def layout_of(format: formats.Format, shape: tuple[int, ...], axis: int) -> Layout:
    """How `encode` lays out an array of that shape along an axis."""
    length, outer = shape[axis], (*shape[:axis], *shape[axis + 1 :])
    block = format.block or length
    return Layout((*outer, -(-length // block)), block, block // format.sub_block if format.sub_block else 0)


def part_sizes(format: formats.Format, layout: Layout) -> dict[str, int]:
    """How many entries each part of `pack` has; parts without entries are left out."""
    sizes = {
        "elements": -(-layout.blocks * layout.block * format.element.bits // 8),
        "exponents": layout.blocks if format.scale in ("power", "e4m3") else 0,
        "halved": -(-layout.blocks * layout.sub_blocks // 8),
        "tensor_scale": 1 if format.scale in ("float", "e4m3") else 0,
    }
    return {name: size for name, size in sizes.items() if size}


def unpack(
    parts: dict[str, np.ndarray], format: formats.Format, shape: tuple[int, ...], axis: SupportsIndex
) -> BlockFloat:
    """The encoded array that `pack` packed.

    Raises ValueError where the parts are not those of such an array, by their sizes or types, and for an axis that it
    lacks.
    """
    axis = blocks.axis_from_start(axis, shape)
    if 0 in shape:
        raise ValueError(f"an array of shape {shape} is empty, and no encoded array is")
    layout, element = layout_of(format, shape, axis), format.element
    check_parts(parts, format, shape, part_sizes(format, layout))
    codes = unpack_bits(parts["elements"], element.bits, layout.blocks * layout.block)
    if isinstance(element, formats.Integer):
        magnitude = codes & (2**element.magnitude - 1)
        codes = np.where(codes >> element.magnitude, -magnitude, magnitude)
    empty = np.zeros(0, np.uint8)
    halved = unpack_bits(parts.get("halved", empty), 1, layout.blocks * layout.sub_blocks)
    return BlockFloat(
        elements=jnp.asarray(codes.astype(element.code_type).reshape(*layout.cells, layout.block)),
        exponents=jnp.asarray(parts.get("exponents", empty).reshape(*layout.cells, 1 if "exponents" in parts else 0)),
        halved=jnp.asarray(halved.astype(np.uint8).reshape(*layout.cells, layout.sub_blocks)),
        tensor_scale=jnp.asarray(parts.get("tensor_scale", np.ones(1, np.float32))[0]),
        format=format,
        shape=tuple(shape),
        axis=axis,
    )


def check_parts(
    parts: dict[str, Shaped[np.ndarray, "..."]], format: formats.Format, shape: tuple[int, ...], sizes: dict[str, int]
) -> None:
    """Raise ValueError for parts of other sizes or types than those of an array in a format."""
    given = {name: part.size for name, part in parts.items()}
    if given != sizes:
        raise ValueError(f"an array {tuple(shape)} in {format.name} has parts of sizes {sizes}, got {given}")
    for name, part in parts.items():
        kind = np.float32 if name == "tensor_scale" else np.uint8
        if part.dtype != kind:
            raise ValueError(f"the part {name} of an array in {format.name} is {np.dtype(kind)}, got {part.dtype}")


def save(path: Path, arrays: dict[str, BlockFloat]) -> int:
    """Write encoded arrays to a safetensors file, whole or not at all; return the bytes of their contents.

    Raises OSError where the disk is full, and the errors of `pack`.
    """
    parts = {f"{name}:{part}": array for name, x in arrays.items() for part, array in pack(x).items()}
    descriptions = {
        name: json.dumps(
            {"format": dataclasses.asdict(x.format), "shape": x.shape, "axis": x.axis}, default=operator.index
        )
        for name, x in arrays.items()
    }
    files.write_safetensors(path, parts, descriptions)
    return sum(part.nbytes for part in parts.values())


def load(path: Path) -> dict[str, BlockFloat]:
    """The encoded arrays that `save` wrote.

    Raises ValueError for a file that it did not write, and where the bytes do not fit their description.
    """
    stored, metadata = files.read_safetensors(path, "a file that block_packing.save wrote")
    parts: dict[str, dict[str, np.ndarray]] = {name: {} for name in metadata}
    try:
        for key, array in stored.items():
            name, _, part = key.rpartition(":")
            parts[name][part] = array
        kinds = {name: read_description(text) for name, text in metadata.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} was not written by block_packing.save: {error!r}") from error
    return {name: unpack(parts[name], *kind) for name, kind in kinds.items()}


def read_description(text: str) -> tuple[formats.Format, tuple[int, ...], int]:
    """Format, shape and axis from the JSON that `save` wrote."""
    fields = json.loads(text)
    element, shape = fields["format"]["element"], tuple(fields["shape"])
    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise ValueError(f"a shape holds positive integers, got {shape}")
    kind = formats.Integer if "magnitude" in element else formats.Float
    return formats.Format(**fields["format"] | {"element": kind(**element)}), shape, fields["axis"]
