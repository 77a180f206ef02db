"""Prune a whole model, block after block. `python -m compression.apply` is the command.

As in the paper, each block runs twice: first to collect the Hessians of its layers, on what the pruned blocks before it
make of the documents; then again, pruned, to make the inputs of the next block. Embedding and head stay as they are.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from tqdm import tqdm

from compression.pruning import packing, selection
from compression.pruning.alps import alps
from compression.pruning.baselines import magnitude, ria, wanda
from compression.pruning.calibrate import BLOCKS, calibrate, embed, run
from compression.pruning.factor import factorise
from compression.pruning.folder import Folder, LayerReport, Pruned, PrunedBlock, describe
from compression.pruning.grids import check_bits
from compression.pruning.problem import (
    Matrix,
    check,
    check_damping,
    check_fits,
    check_size,
    check_target,
    check_weight,
    output_error,
)
from compression.pruning.sparsegpt import prune
from icl_synth import checkpoints, checks

Method = Literal["sparsegpt", "magnitude", "wanda", "ria", "alps"]


@dataclasses.dataclass(frozen=True)
class Pruning:
    """How to prune each layer. Raises ValueError for settings that no layer can have or that the method ignores."""

    method: Method = "sparsegpt"
    """How weights are chosen and refitted."""
    sparsity: float = 0.5
    """Share of each layer's weights to drop."""
    pattern: tuple[int, int] | None = None
    """n m: keep n of every m inputs instead."""
    bits: int | None = None
    """Also quantise the weights that stay, to 2 to 8 bits (sparsegpt only)."""
    damping: float = 0.01
    """Added to the diagonal of H, in units of its mean (sparsegpt, alps)."""
    mask_block_size: int | None = None
    """Columns whose mask is chosen at once (sparsegpt)."""
    first_blocks: int | None = None
    """Prune only this many blocks, counted from the input."""

    def __post_init__(self):
        checks.choices(self, "")
        for name in ("bits", "mask_block_size"):
            if getattr(self, name) is not None and self.method != "sparsegpt":
                raise ValueError(f"{name} belongs to method sparsegpt, not {self.method}")
        check_damping(self.damping)
        if self.damping != 0.01 and self.method not in ("sparsegpt", "alps"):
            raise ValueError(f"damping belongs to methods sparsegpt and alps, not {self.method}")
        for name in ("first_blocks", "mask_block_size"):
            if getattr(self, name) is not None:
                check_size(**{name: getattr(self, name)})
        if self.bits is not None:
            check_bits(self.bits)
        if self.method == "alps":
            checks.positive(damping=self.damping)
        check_target(self.sparsity, self.pattern)


def prune_layer(
    weight: Float[Matrix, "O I"], hessian: Float[Matrix, "I I"], how: Pruning
) -> tuple[Float[Matrix, "O I"], Bool[Matrix, "O I"], float | None]:
    """Return the pruned weight, its mask, and the damping used (None for methods that report none).

    Raises ValueError for wrong shapes, NaN or Inf, a pattern that does not divide the inputs, and a Hessian that is not
    symmetric or, for methods that solve with it, not positive definite.
    """
    if how.method == "sparsegpt":
        check_fits(weight, hessian)
        factor = factorise(hessian, how.damping)
        result = prune(
            weight,
            factor,
            sparsity=how.sparsity,
            pattern=how.pattern,
            mask_block_size=how.mask_block_size,
            bits=how.bits,
        )
        return result.weight, result.mask, factor.damping
    weight, hessian = check(weight, hessian, sparsity=how.sparsity, pattern=how.pattern)
    if how.method == "magnitude":
        pruned = magnitude(weight, sparsity=how.sparsity, pattern=how.pattern)
    elif how.method == "alps":
        pruned = alps(weight, hessian, sparsity=how.sparsity, pattern=how.pattern, damping=how.damping)
    else:
        method = wanda if how.method == "wanda" else ria
        pruned = method(weight, hessian, sparsity=how.sparsity, pattern=how.pattern)
    # a kept weight may be 0; with a pattern, n of every m count as kept all the same
    mask = ~selection.in_groups(jnp.abs(pruned).T, how.pattern).T if how.pattern else pruned != 0
    return pruned, mask, None


def prune_model(
    model: checkpoints.Model,
    tokens: Int[Array | np.ndarray, "B T"],
    how: Pruning,
    out: Path | None = None,
    **card: Any,
) -> Pruned:
    """Prune every block of a model, calibrated on the documents `tokens`.

    With `out`, each finished block is kept in that folder, and the same call goes on where a killed one stopped, to the
    same bits; at the end the folder holds model.safetensors, config.json with the further keywords as its card,
    masks.safetensors and report.json.
    Raises ValueError for settings that do not fit the model, for tokens outside its vocabulary, and where `out` holds
    something else; TypeError for a model whose layers were replaced, by a number format or int8.
    """
    check_model(model, how)
    hidden = embed(model, tokens)
    folder = None
    if out is not None:
        folder = Folder(out, describe(dataclasses.asdict(how), model, tokens), model.dtype)
        if finished := folder.read_finished():
            return finished
    pruned = Pruned(model, {}, [])
    blocks = range(how.first_blocks or model.config.depth)
    bar = tqdm(blocks, desc=f"pruning ({how.method})", unit="block", leave=out is not None)
    for index in bar:
        block = folder.read_block(index) if folder else None
        if block is None:
            block = prune_block(pruned.model, index, hidden, how, bar)
            if folder:
                folder.write_block(index, block)
        pruned = with_block(pruned, block)
        hidden = run(pruned.model, index, hidden)
    if folder:
        folder.finish(pruned, card)
    return pruned


def check_model(model: checkpoints.Model, how: Pruning) -> None:
    """Raise ValueError for settings that do not fit the model, TypeError for a model whose layers were replaced."""
    checkpoints.check_plain(model)
    if how.first_blocks is not None and how.first_blocks > model.config.depth:
        raise ValueError(f"first_blocks is {how.first_blocks}, but the model has {model.config.depth} blocks")
    for name, weight in checkpoints.split(model)[1].items():
        if how.pattern and name.startswith(BLOCKS) and name.endswith(".kernel"):
            check_weight(np.asarray(weight).T, pattern=how.pattern)


def prune_block(
    model: checkpoints.Model, index: int, hidden: Float[Array, "B T D"], how: Pruning, bar: tqdm
) -> PrunedBlock:
    """Prune the linear layers of one block; the bar names the layer at work."""
    weights, block = checkpoints.split(model)[1], PrunedBlock({}, {}, [])
    for layer, hessian in calibrate(model, index, hidden).items():
        bar.set_postfix_str(layer, refresh=False)
        start, name = time.perf_counter(), f"{layer}.kernel"
        weight = jnp.asarray(weights[name]).T
        pruned, mask, damping = prune_layer(weight, hessian, how)
        error = float(output_error(weight, pruned, hessian))
        seconds = time.perf_counter() - start
        block.weights[name], block.masks[name] = np.asarray(pruned).T.copy(), np.asarray(mask).T.copy()
        sparsity = 1 - float(block.masks[name].mean())
        outputs, inputs = weight.shape
        block.report.append(LayerReport(layer, outputs, inputs, error, sparsity, damping, seconds))
    return block


def with_block(pruned: Pruned, block: PrunedBlock) -> Pruned:
    """Return the model with one block more replaced."""
    graph, weights = checkpoints.split(pruned.model)
    weights |= {name: jnp.asarray(weight) for name, weight in block.weights.items()}
    return Pruned(checkpoints.merge(graph, weights), pruned.masks | block.masks, pruned.report + block.report)


def size_on_disk(pruned: Pruned, directory: Path) -> tuple[int, int]:
    """Return the bytes of a 2:4 model's pruned layers, dense and packed; write packed.safetensors into the directory.

    Raises ValueError where a layer is not 2:4.
    """
    weights = checkpoints.split(pruned.model)[1]
    dense = sum(np.asarray(weights[name]).nbytes for name in pruned.masks)
    layers = {name: packing.pack(np.asarray(weights[name]).T, mask.T) for name, mask in pruned.masks.items()}
    return dense, packing.save(directory / "packed.safetensors", layers)
