"""SparseGPT (Frantar & Alistarh 2023, arXiv 2301.00774): one-shot pruning of a linear layer, given its inputs' Hessian.

Columns are pruned from left to right. The columns still to come compensate the error of each, as far as their inputs
are correlated with its input. With U the upper Cholesky factor of the inverse Hessian (H^-1 = U^T U),

    error_i = (w_i - pruned_i) / U_ii,        w_j -= error_i U_ij  for all j > i.

`plain.plain_sparsegpt` is this algorithm as the paper writes it. The public code computes U by a Cholesky
factorisation, an inversion and a second factorisation. But with H = L^T L, L lower triangular, U is the transpose of
L^-1, and a block S of columns receives from all columns before it the sum

    sum over i before S of (w_i - pruned_i) L_Si,  times U_SS, where U_SS^T = L_SS^-1.

So one factorisation and the inverses of its diagonal blocks suffice. (Chee et al. 2023, QuIP, arXiv 2307.13304, prove a
related result: these updates equal LDLQ.)

The walk over the columns is in `sweep`.
"""

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from compression.pruning.factor import Factor, factorise
from compression.pruning.grids import row_grid
from compression.pruning.problem import (
    Matrix,
    check_fits,
    check_size,
    check_weight,
    num_dropped,
)
from compression.pruning.sweep import Plan, prune_tiles

COLUMNS = 16  # pruned one by one before one product brings their errors to the rest of the block


class PruneResult(NamedTuple):
    """The pruned weight, which weights were kept, and half of tr(dW (H + damping) dW^T), the public code's error."""

    weight: Float[Matrix, "O I"]
    mask: Bool[Matrix, "O I"]
    error: Float[Matrix, ""]


def sparsegpt(
    weight: Float[Matrix, "O I"],
    hessian: Float[Matrix, "I I"],
    *,
    sparsity: float = 0.5,
    pattern: tuple[int, int] | None = None,
    block_size: int = 128,
    mask_block_size: int | None = None,
    damping: float = 0.01,
    bits: int | None = None,
    compatible: bool = False,
) -> PruneResult:
    """Prune a linear layer, and quantise the weights that stay if `bits` is given; the result is float32.

    weight: outputs by inputs.
    hessian: proportional to X X^T for inputs X [I N]. The scale does not matter as long as every input was active; an
        input that never was enters the mean of the diagonal as 1, as in the public code.
    sparsity: share of weights to drop: exactly round(sparsity * O * I), spread evenly over mask blocks.
    pattern: (n, m) keeps n of every m inputs instead; `sparsity` is not read.
    block_size: columns between two products with all columns before them. It affects only speed where
        `mask_block_size` or `pattern` is given.
    mask_block_size: columns whose mask is chosen at once, the paper's Bs; by default `block_size`. With a pattern it
        is m.
    damping: added to the diagonal of H, in units of its mean. Where H is still not positive definite, larger values
        are tried (`factor.LARGER_DAMPINGS`), with a warning that names the one used.
    bits: 2 to 8; each row gets an integer grid (`grids.row_grid`), fitted before pruning.
    compatible: choose the mask by the public code's threshold: in each mask block drop all scores up to and including
        number int(sparsity * size), counted from 0. That is one weight more than asked for, and all its ties.

    Weights of inputs that were never active become 0; they are dropped first and use up the sparsity. Among equal
    scores the first input is dropped first, then the first output.
    Raises ValueError for wrong shapes, NaN or Inf, sparsity outside [0, 1), a pattern that does not divide the inputs,
    block sizes that are not whole or below 1, bits outside 2..8, damping that is negative or not finite, and a Hessian
    that is not symmetric or that no damping makes positive definite.
    """
    weight = check_weight(weight, sparsity=sparsity, pattern=pattern)  # before the costly factorisation
    check_fits(weight, hessian)
    factor = factorise(hessian, damping)
    return prune(
        weight,
        factor,
        sparsity=sparsity,
        pattern=pattern,
        block_size=block_size,
        mask_block_size=mask_block_size,
        bits=bits,
        compatible=compatible,
    )


def prune(
    weight: Float[Matrix, "O I"],
    factor: Factor,
    *,
    sparsity: float = 0.5,
    pattern: tuple[int, int] | None = None,
    block_size: int = 128,
    mask_block_size: int | None = None,
    bits: int | None = None,
    compatible: bool = False,
) -> PruneResult:
    """Prune as `sparsegpt` does, given the factor. Rows are independent: a weight sharded by rows stays sharded.

    Raises ValueError as `sparsegpt` does, and for a factor of another number of inputs.
    """
    weight = check_weight(weight, sparsity=sparsity, pattern=pattern)
    if weight.shape[1] != len(factor.alive):
        raise ValueError(f"a weight with {weight.shape[1]} inputs needs the factor of as many, got {len(factor.alive)}")
    check_size(block_size=block_size)
    if mask_block_size is not None:
        check_size(mask_block_size=mask_block_size)
    outputs, inputs = weight.shape
    mask_width = pattern[1] if pattern else min(mask_block_size or block_size, inputs)
    plan = Plan(block_widths(min(block_size, inputs), mask_width), mask_width, pattern, compatible)
    counts = mask_counts(outputs, inputs, mask_width, sparsity, compatible)
    grid = None if bits is None else row_grid(weight, bits)
    # transpose here: inside the compiled program XLA would fuse it into slow strided loops
    pruned, kept, loss = prune_tiles(weight.T, factor, counts, grid, plan)
    return PruneResult(pruned.T, kept.T, loss)


def mask_counts(
    outputs: int, inputs: int, mask_width: int, sparsity: float, compatible: bool = False
) -> Int[np.ndarray, " M"]:
    """Return how many weights to drop in each mask block, so that their sum is round(sparsity * O * I).

    With `compatible`, int(sparsity * size) of each block, as in the public code.
    """
    edges = [min(start, inputs) for start in range(0, inputs + mask_width, mask_width)]
    if compatible:
        counts = [int(outputs * (end - start) * sparsity) for start, end in itertools.pairwise(edges)]
    else:
        totals = [num_dropped(sparsity, outputs, edge) for edge in edges]
        counts = [after - before for before, after in itertools.pairwise(totals)]
    return np.array(counts, np.int32)


def block_widths(block_size: int, mask_width: int) -> tuple[int, ...]:
    """Return nested widths of blocks, widest first; each divides the one before, and mask_width is among them."""
    if block_size > mask_width:
        block_size -= block_size % mask_width
    elif mask_width % block_size:
        block_size = mask_width
    # the innermost blocks hold about COLUMNS columns, and whole mask blocks where these are smaller
    step = mask_width if mask_width < COLUMNS else 1
    few = max(
        width
        for width in range(step, max(COLUMNS, step) + 1, step)
        if all(other % width == 0 or width % other == 0 for other in (block_size, mask_width))
        and max(block_size, mask_width) % width == 0
    )
    return tuple(sorted({block_size, mask_width, few}, reverse=True))
