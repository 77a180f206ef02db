"""SparseGPT (Frantar & Alistarh 2023, arXiv 2301.00774): one-shot pruning of a linear layer by its inputs' Hessian.

Columns are pruned from left to right; the error of each is made good, as far as its inputs are correlated with
theirs, by the columns still to come. With U the upper Cholesky factor of the inverse Hessian (H^-1 = U^T U),

    error_i = (w_i - pruned_i) / U_ii,        w_j -= error_i U_ij  for all j > i.

The public code computes U by a Cholesky factorisation, an inversion and a second factorisation. But with H = R R^T,
R upper triangular, U is R^-1, and all that a block S of columns receives from those before it adds up to

    sum over i before S of (w_i - pruned_i) R_iS,  times U_SS = R_SS^-1

so one factorisation and the inverses of the diagonal blocks are enough (a sibling of the equality of these updates
with LDLQ: Chee et al. 2023, QuIP, arXiv 2307.13304).
"""

import functools
import itertools
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from compression import selection
from compression.grids import Grid, row_grid
from compression.problem import Matrix, check, damped

LARGER_DAMPINGS = (0.01, 0.1, 1.0, 10.0)  # tried in turn where H is not positive definite with the one asked for
COLUMNS = 16  # pruned one by one before the others of their block hear of them, in one product
SEGMENTS = 4  # of all columns; a block's product with those before it reads whole segments


class PruneResult(NamedTuple):
    """The pruned weight; where a weight was kept; half of tr(dW (H + damping) dW^T), as the public code prints it."""

    weight: Float[Array, "O I"]
    mask: Bool[Array, "O I"]
    error: Float[Array, ""]


class Factor(NamedTuple):
    """R, upper triangular with H + damping * mean(diag H) * identity = R R^T; the inputs that were ever active."""

    upper: Float[Array, "I I"]
    alive: Bool[Array, " I"]
    damping: float


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
    """Prune a linear layer, and quantise what stays if `bits` (2..8) is given.

    weight: outputs by inputs. hessian: proportional to X X^T for inputs X [I N]; the scale does not matter.
    sparsity: share of weights dropped, exactly round(sparsity * O * I) of them, spread evenly over mask blocks.
    pattern: (n, m) keeps n of every m inputs instead, and sparsity is not read.
    block_size: columns between two products with all columns before them; a matter of speed alone.
    mask_block_size: columns whose mask is chosen at once (the paper's Bs), block_size if not given; with a pattern,
        its m.
    damping: added to the diagonal of H, in units of its mean. Where H is still not positive definite, the larger
        ones of LARGER_DAMPINGS are tried, with a warning that names the one taken.
    bits: integer grid of each row (`grids.row_grid`), fitted before pruning.
    compatible: choose the mask by the public code's threshold: in each mask block everything up to and including
        the int(sparsity * size)-th score (from 0) is dropped, so one weight more than asked for, and all its ties.

    Inputs that were never active lose their weights first, within the sparsity asked for.
    Raises ValueError for wrong shapes, NaN or Inf, sparsity outside [0, 1), a pattern that does not divide, block
    sizes below 1, bits outside 2..8, negative damping, and a Hessian that no damping makes positive definite.
    """
    check(weight, hessian, sparsity=sparsity, pattern=pattern)
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


def factorise(hessian: Float[Matrix, "I I"], damping: float = 0.01) -> Factor:
    """The one factorisation that pruning needs; it serves any number of weights and patterns.

    Raises ValueError for NaN or Inf, a matrix that is not square, negative damping, and a Hessian that is not
    positive definite with the largest of LARGER_DAMPINGS; warns when one of them was needed.
    """
    if damping < 0:
        raise ValueError(f"damping must be 0 or more, got {damping}")
    for tried in (damping, *(larger for larger in LARGER_DAMPINGS if larger > damping)):
        upper, alive = _factorise(hessian, tried)
        if bool(jnp.isfinite(upper).all()):
            if tried != damping:
                warnings.warn(
                    f"the Hessian is not positive definite with damping {damping}: pruned with {tried}", stacklevel=2
                )
            return Factor(upper, alive, tried)
    raise ValueError(
        f"the Hessian is not positive definite even with damping {tried}: "
        "is it a sum of x x^T over inputs, symmetric, with no negative diagonal entry?"
    )


@jax.jit
@jax.default_matmul_precision("highest")
def _factorise(hessian, damping):
    alive = jnp.diagonal(hessian) != 0
    index = jnp.arange(len(hessian))
    hessian = damped(jnp.asarray(hessian).at[index, index].add(jnp.where(alive, 0.0, 1.0)), damping)
    # the usual factor is lower triangular: the upper one is that of the inputs in reverse order
    return jnp.flip(jax.lax.linalg.cholesky(jnp.flip(hessian), symmetrize_input=False)), alive


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
    """`sparsegpt` with the factorisation done. Rows are independent: a weight sharded by rows stays so."""
    check(weight, factor.upper, sparsity=sparsity, pattern=pattern)
    for name, size in (("block_size", block_size), ("mask_block_size", mask_block_size)):
        if size is not None and size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    outputs, inputs = weight.shape
    mask_width = pattern[1] if pattern else min(mask_block_size or block_size, inputs)
    edges = [min(start, inputs) for start in range(0, inputs + mask_width, mask_width)]
    if compatible:
        counts = [int(outputs * (end - start) * sparsity) for start, end in itertools.pairwise(edges)]
    else:
        ends = [round(sparsity * outputs * edge) for edge in edges]
        counts = [end - start for start, end in itertools.pairwise(ends)]
    grid = None if bits is None else row_grid(weight, bits)
    blocks = _block_widths(min(block_size, inputs), mask_width)
    return _prune(weight, factor, np.array(counts, np.int32), grid, blocks, mask_width, pattern, compatible)


def _block_widths(block_size: int, mask_width: int) -> tuple[int, ...]:
    """Nested blocks of columns, widest first, down to 1; each divides the one before, mask_width is among them."""
    if block_size > mask_width:
        block_size -= block_size % mask_width
    elif mask_width % block_size:
        block_size = mask_width
    inner = min(block_size, mask_width)
    few = max(d for d in range(1, COLUMNS + 1) if inner % d == 0)
    return tuple(sorted({block_size, mask_width, few, 1}, reverse=True))


@functools.partial(jax.jit, static_argnames=("widths", "mask_width", "pattern", "compatible"))
@jax.default_matmul_precision("highest")
def _prune(
    weight: Float[Array, "O I"],
    factor: Factor,
    counts: Int[Array, " M"],
    grid: Grid | None,
    widths: tuple[int, ...],
    mask_width: int,
    pattern: tuple[int, int] | None,
    compatible: bool,
) -> PruneResult:
    """Everything here has inputs first, [I O]: a column of the paper is a row in memory."""
    inputs = weight.shape[1]
    outer = widths[0]
    blocks = -(-inputs // outer)
    fill = blocks * outer - inputs  # further inputs with weight 0 and R = 1 change nothing
    original = jnp.pad(jnp.where(factor.alive, weight, 0.0).T, ((0, fill), (0, 0)))
    beyond = jnp.arange(inputs, inputs + fill)
    upper = jnp.pad(factor.upper, (0, fill)).at[beyond, beyond].set(1.0)
    scale = jnp.diagonal(upper)  # 1 / U_ii

    def choose(start: Array, current: Array) -> Array:
        """The weights to drop among those of a mask block, by |w| / U_ii."""
        numbers = start + jnp.arange(len(current))
        scores = jnp.abs(current) * scale[numbers, None]
        if pattern:
            return selection.in_groups(scores, pattern)
        scores = jnp.where(numbers[:, None] < inputs, scores, jnp.inf)
        select = selection.up_to_threshold if compatible else selection.smallest
        return select(scores, counts[start // mask_width])

    def sweep(depth: int, start: Array, current: Array, inverse: Array, dropped: Array) -> tuple[Array, Array, Array]:
        """Prune a block given its weights as they stand after all columns before it: (pruned, dropped, errors).

        `inverse` is U_SS^T. Within the block, part by part, errors of the parts before reach the next in one product.
        """
        if widths[depth] == mask_width:
            dropped = choose(start, current)
        if widths[depth] == 1:
            pruned = jnp.where(dropped, 0.0, current)
            if grid is not None:
                pruned = grid.nearest(pruned)
            return pruned, dropped, (current - pruned) * scale[start]
        width = widths[depth + 1]

        def part(i, done):
            _, dropped, errors = done
            rows = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=i * width, slice_size=width)
            put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=i * width, axis=0)
            now = rows(current) - rows(inverse) @ errors
            corner = jax.lax.dynamic_slice(inverse, (i * width, i * width), (width, width))
            new = sweep(depth + 1, start + i * width, now, corner, rows(dropped))
            return tuple(map(put, done, new))

        none = jnp.zeros_like(current)
        return jax.lax.fori_loop(0, widths[depth] // width, part, (none, dropped, none))

    def block(seen: int, number, done):
        pruned, dropped, changed, loss = done
        start = number * outer
        rows = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=start, slice_size=outer)
        put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=start, axis=0)
        square = jax.lax.dynamic_slice(upper, (start, start), (outer, outer))
        inverse = jax.lax.linalg.triangular_solve(square, jnp.eye(outer), left_side=True, lower=False).T
        before = jax.lax.dynamic_slice(upper, (0, start), (seen, outer))
        now = rows(original) + inverse @ (before.T @ changed[:seen])
        new_pruned, new_dropped, errors = sweep(0, start, now, inverse, rows(dropped))
        return (
            put(pruned, new_pruned),
            put(dropped, new_dropped),
            put(changed, rows(original) - new_pruned),
            loss + jnp.square(errors).sum() / 2,
        )

    # `changed` is 0 for columns still to come, so that a product may read more of them than are done
    none = jnp.zeros_like(original)
    done = (none, jnp.zeros(original.shape, bool), none, jnp.zeros(()))
    edges = sorted({blocks * s // SEGMENTS for s in range(SEGMENTS + 1)})
    for first, last in itertools.pairwise(edges):
        done = jax.lax.fori_loop(first, last, functools.partial(block, last * outer), done)
    pruned, dropped, _, loss = done
    return PruneResult(pruned[:inputs].T, ~dropped[:inputs].T, loss)
