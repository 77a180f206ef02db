"""SparseGPT as Algorithm 1 of Frantar & Alistarh (2023, arXiv 2301.00774) states it: NumPy, float64, in its order.

It is slow and meant to be read; the tests hold the fast form, `sparsegpt.sparsegpt`, against it.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from compression.pruning.problem import Matrix
from compression.pruning.sparsegpt import PruneResult


def plain_sparsegpt(
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
    """Prune a linear layer; arguments as for `sparsegpt`, which checks them. Results are float64 NumPy arrays.

    Raises numpy.linalg.LinAlgError for a Hessian that is not positive definite with the damping.
    """
    w, h = np.array(weight, np.float64), np.array(hessian, np.float64)
    inputs = len(h)
    nearest = row_grid(w, bits) if bits else lambda column: column
    dead = np.diag(h) == 0
    h[dead, dead], w[:, dead] = 1.0, 0.0
    h += damping * np.diag(h).mean() * np.eye(inputs)
    u = np.linalg.cholesky(np.linalg.inv(h)).T  # H^-1 = U^T U; the paper calls U itself H^-1
    mask_width = pattern[1] if pattern else mask_block_size or block_size  # Bs
    block = max(mask_width, block_size - block_size % mask_width)  # B; a mask block lies within one block
    mask, loss = np.ones(w.shape, bool), 0.0
    for i in range(0, inputs, block):
        end = min(i + block, inputs)
        errors = np.zeros((len(w), end - i))
        for j in range(i, end):
            if j % mask_width == 0:
                columns = slice(j, min(j + mask_width, inputs))
                scores = w[:, columns] ** 2 / np.diag(u)[columns] ** 2
                mask[:, columns] = choose_kept(scores, j, sparsity, pattern, compatible)
            pruned = nearest(np.where(mask[:, j], w[:, j], 0.0))
            errors[:, j - i] = (w[:, j] - pruned) / u[j, j]
            w[:, j] = pruned
            w[:, j + 1 : end] -= np.outer(errors[:, j - i], u[j, j + 1 : end])  # the columns to the right in the block
        w[:, end:] -= errors @ u[i:end, end:]  # all columns after the block, in one product
        loss += (errors**2).sum() / 2
    return PruneResult(w, mask, np.array(loss))


def choose_kept(
    scores: Float[np.ndarray, "O S"], start: int, sparsity: float, pattern: tuple[int, int] | None, compatible: bool
) -> Bool[np.ndarray, "O S"]:
    """Choose which weights of a mask block to keep; `start` is the number of columns before it.

    Of equal scores the first input is dropped first, then the first output.
    """
    outputs, width = scores.shape
    if pattern:
        keep, group = pattern
        rank = scores.argsort(axis=1, kind="stable").argsort(axis=1)
        return rank >= group - keep
    if compatible:
        return scores > np.sort(scores, axis=None)[int(scores.size * sparsity)]
    count = round(sparsity * outputs * (start + width)) - round(sparsity * outputs * start)
    kept = np.ones(scores.size, bool)
    kept[scores.T.argsort(axis=None, kind="stable")[:count]] = False
    return kept.reshape(width, outputs).T


def row_grid(weight: Float[np.ndarray, "O I"], bits: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that rounds a column to its rows' grids: 2**bits values from min to max, 0 among them."""
    low, high = np.minimum(weight.min(1), 0.0), np.maximum(weight.max(1), 0.0)
    low, high = np.where(low == high, -1.0, low), np.where(low == high, 1.0, high)
    step = (high - low) / (2**bits - 1)
    zero = np.round(-low / (high - low) * (2**bits - 1))
    return lambda column: step * (np.clip(np.round(column / step) + zero, 0, 2**bits - 1) - zero)
