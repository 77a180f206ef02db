"""SparseGPT (Frantar & Alistarh 2023, arXiv 2301.00774): one-shot pruning of a linear layer by its inputs' Hessian.

Columns are pruned from left to right; the error of each is made good, as far as its inputs are correlated with
theirs, by the columns still to come. With U the upper Cholesky factor of the inverse Hessian (H^-1 = U^T U),

    error_i = (w_i - pruned_i) / U_ii,        w_j -= error_i U_ij  for all j > i.

The public code computes U by a Cholesky factorisation, an inversion and a second factorisation. But with H = L^T L,
L lower triangular, U is the transpose of L^-1, and all that a block S of columns receives from those before it adds
up to

    sum over i before S of (w_i - pruned_i) L_Si,  times U_SS, where U_SS^T = L_SS^-1

so one factorisation and the inverses of its diagonal blocks are enough (a sibling of the equality of these updates
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

from compression.pruning import selection, triangular
from compression.pruning.grids import Grid, row_grid
from compression.pruning.problem import Matrix, check_damping, check_fits, check_hessian, check_weight
from icl_synth import checks

LARGER_DAMPINGS = (0.01, 0.1, 1.0, 10.0)  # tried in turn where H is not positive definite with the one asked for
COLUMNS = 16  # pruned one by one before the others of their block hear of them, in one product
TILE = 384  # columns of a tile of the factor: large enough for fast products, small enough to stay in cache
MOST_TILES = 12  # in a row of them; a larger factor has larger tiles, so that the compiled program stays short


class PruneResult(NamedTuple):
    """The pruned weight; where a weight was kept; half of tr(dW (H + damping) dW^T), as the public code prints it."""

    weight: Float[Array, "O I"]
    mask: Bool[Array, "O I"]
    error: Float[Array, ""]


class Factor(NamedTuple):
    """L, lower triangular with H + damping * mean(diag H) * identity = L^T L; the inputs that were ever active.

    L is kept in the tiles it is made of, rows from top to bottom: tiles[i][j], j <= i, all square but for the last row.
    """

    tiles: tuple[tuple[Float[Array, "R C"], ...], ...]
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

    weight: outputs by inputs. hessian: proportional to X X^T for inputs X [I N]; the scale does not matter as long as
        every input was active (one that was not adds 1 to the mean of the diagonal, as in the public code).
    sparsity: share of weights dropped, exactly round(sparsity * O * I) of them, spread evenly over mask blocks.
    pattern: (n, m) keeps n of every m inputs instead, and sparsity is not read.
    block_size: columns between two products with all columns before them; a matter of speed alone where
        mask_block_size or a pattern is given.
    mask_block_size: columns whose mask is chosen at once (the paper's Bs), block_size if not given; with a pattern,
        its m.
    damping: added to the diagonal of H, in units of its mean. Where H is still not positive definite, the larger
        ones of LARGER_DAMPINGS are tried, with a warning that names the one taken.
    bits: integer grid of each row (`grids.row_grid`), fitted before pruning.
    compatible: choose the mask by the public code's threshold: in each mask block everything up to and including
        the int(sparsity * size)-th score (from 0) is dropped, so one weight more than asked for, and all its ties.

    Weights of inputs that were never active become 0; they are the first to be dropped, and use up the sparsity.
    Raises ValueError for wrong shapes, NaN or Inf, sparsity outside [0, 1), a pattern that does not divide, block
    sizes below 1, bits outside 2..8, damping that is negative or not finite, and a Hessian that is not symmetric or
    that no damping makes positive definite.
    """
    weight = check_weight(weight, sparsity=sparsity, pattern=pattern)  # before the long work below
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


def factorise(hessian: Float[Matrix, "I I"], damping: float = 0.01) -> Factor:
    """The one factorisation that pruning needs; it serves any number of weights and patterns. Of the Hessian, which is
    symmetric but for rounding, only the lower triangle is factorised.

    Raises ValueError for NaN or Inf, a matrix that is not square and symmetric, damping that is negative or not
    finite, and a Hessian that is not positive definite with the largest of LARGER_DAMPINGS; warns when one of them
    was needed.
    """
    check_damping(damping)
    hessian = check_hessian(hessian)
    for tried in (damping, *(larger for larger in LARGER_DAMPINGS if larger > damping)):
        tiles, alive = _factorise(hessian, tried)
        # what is no number in one tile is none in the first, which is made last
        if bool(jnp.isfinite(tiles[0][0]).all()):
            if tried != damping:
                warnings.warn(
                    f"the Hessian is not positive definite with damping {damping}: pruned with {tried}", stacklevel=2
                )
            return Factor(tiles, alive, tried)
    raise ValueError(
        f"the Hessian is not positive definite even with damping {tried}: is it a sum of x x^T over inputs?"
    )


@jax.jit
@jax.default_matmul_precision("highest")
def _factorise(hessian: Float[Array, "I I"], damping: Float[Array, ""]) -> tuple[tuple[tuple[Array, ...], ...], Array]:
    """The rows of tiles from the last to the first, each cleared of what those below it account for."""
    inputs = len(hessian)
    alive = jnp.diagonal(hessian) != 0
    added = jnp.where(alive, 0.0, 1.0)
    added += damping * (jnp.diagonal(hessian) + added).mean()
    cuts = _cuts(inputs, max(TILE, -(-inputs // MOST_TILES)))
    tiles: list[tuple[Array, ...]] = [()] * len(cuts)
    for i, rows in reversed(list(enumerate(cuts))):
        row = []
        for j, columns in enumerate(cuts[: i + 1]):
            tile = hessian[rows, columns] + (jnp.diag(added[rows]) if i == j else 0.0)
            row.append(tile - sum(below[i].T @ below[j] for below in tiles[i + 1 :]))
        corner, solve = triangular.factor(row[i])
        tiles[i] = (*(solve.T @ tile for tile in row[:i]), corner)
    return tuple(tiles), alive


def _cuts(inputs: int, width: int) -> list[slice]:
    return [slice(start, min(start + width, inputs)) for start in range(0, inputs, width)]


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
    weight = check_weight(weight, sparsity=sparsity, pattern=pattern)
    if weight.shape[1] != len(factor.alive):
        raise ValueError(f"a weight with {weight.shape[1]} inputs needs the factor of as many, got {len(factor.alive)}")
    checks.at_least(1, block_size=block_size)
    if mask_block_size is not None:
        checks.at_least(1, mask_block_size=mask_block_size)
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
    # inputs first from here on; turned outside the compiled program, where it would be fused into slow strided loops
    pruned, kept, loss = _prune(
        jnp.asarray(weight).T, factor, np.array(counts, np.int32), grid, blocks, mask_width, pattern, compatible
    )
    return PruneResult(pruned.T, kept.T, loss)


def _block_widths(block_size: int, mask_width: int) -> tuple[int, ...]:
    """Nested blocks of columns, widest first; each divides the one before, mask_width is among them."""
    if block_size > mask_width:
        block_size -= block_size % mask_width
    elif mask_width % block_size:
        block_size = mask_width
    # few columns: whole mask blocks where these are smaller still
    step = mask_width if mask_width < COLUMNS else 1
    few = max(
        d
        for d in range(step, max(COLUMNS, step) + 1, step)
        if all(width % d == 0 or d % width == 0 for width in (block_size, mask_width))
        and max(block_size, mask_width) % d == 0
    )
    return tuple(sorted({block_size, mask_width, few}, reverse=True))


@functools.partial(jax.jit, static_argnames=("widths", "mask_width", "pattern", "compatible"))
@jax.default_matmul_precision("highest")
def _prune(
    weight: Float[Array, "I O"],
    factor: Factor,
    counts: Int[Array, " M"],
    grid: Grid | None,
    widths: tuple[int, ...],
    mask_width: int,
    pattern: tuple[int, int] | None,
    compatible: bool,
) -> tuple[Float[Array, "I O"], Bool[Array, "I O"], Float[Array, ""]]:
    """Everything here has inputs first: a column of the paper is a row in memory."""
    inputs = len(weight)
    outer = widths[0]
    tiles = _with_whole_blocks(factor.tiles, outer)
    original = jnp.where(factor.alive[:, None], weight, 0.0)
    scale = jnp.concatenate([jnp.diagonal(row[-1]) for row in tiles] + [jnp.ones(outer)])  # 1 / U_ii

    def choose(start: Array, current: Array) -> Array:
        """The weights to drop among those of a mask block, by |w| / U_ii."""
        numbers = start + jnp.arange(len(current))
        scores = jnp.abs(current) * scale[numbers, None]
        if pattern:
            return selection.in_groups(scores, pattern)
        scores = jnp.where(numbers[:, None] < inputs, scores, jnp.inf)
        select = selection.up_to_threshold if compatible else selection.smallest
        return select(scores, counts[start // mask_width])

    def columns(start: Array, current: Array, solve: Array, dropped: Array) -> tuple[Array, Array, Array]:
        """Prune one by one, each error made good at once by the columns still to come."""
        later = jnp.tril(solve, -1)

        def value(x, drop):
            x = jnp.where(drop, 0.0, x)
            return x if grid is None else grid.nearest(x)

        def column(i, now):
            error = (now[i] - value(now[i], dropped[i])) * scale[start + i]
            return now - later[:, i, None] * error

        final = jax.lax.fori_loop(0, len(current), column, current)
        pruned = value(final, dropped)
        errors = (final - pruned) * jax.lax.dynamic_slice_in_dim(scale, start, len(current))[:, None]
        return pruned, dropped, errors

    def sweep(depth: int, start: Array, current: Array, solve: Array, dropped: Array) -> tuple[Array, Array, Array]:
        """Prune a block given its weights as they stand after all columns before it: (pruned, dropped, errors).

        `solve` is U_SS^T. Within the block, part by part, errors of the parts before reach the next in one product.
        """
        if widths[depth] == mask_width:
            dropped = choose(start, current)
        if depth == len(widths) - 1:
            return columns(start, current, solve, dropped)
        width = widths[depth + 1]

        def part(i, done):
            _, dropped, errors = done
            rows = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=i * width, slice_size=width)
            put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=i * width, axis=0)
            now = rows(current) - rows(solve) @ errors
            corner = jax.lax.dynamic_slice(solve, (i * width, i * width), (width, width))
            new = sweep(depth + 1, start + i * width, now, corner, rows(dropped))
            return tuple(map(put, done, new))

        none = jnp.zeros_like(current)
        return jax.lax.fori_loop(0, widths[depth] // width, part, (none, dropped, none))

    def block(own, corner, before, start, number, done):
        """Prune one block of a tile's columns, `own`, given its corner of L and what earlier tiles add to them."""
        pruned, dropped, changed, loss = done
        at = number * outer
        rows = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=at, slice_size=outer)
        put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=at, axis=0)
        square = jax.lax.dynamic_slice(corner, (at, at), (outer, outer))
        solve = triangular.inverse(square)
        # `changed` is 0 for rows still to come, so that the product may read all of the tile
        now = rows(own) + solve @ (rows(before) + rows(corner) @ changed)
        new_pruned, new_dropped, errors = sweep(0, start + at, now, solve, rows(dropped))
        return (
            put(pruned, new_pruned),
            put(dropped, new_dropped),
            put(changed, rows(own) - new_pruned),
            loss + jnp.square(errors).sum() / 2,
        )

    finished: list[tuple[Array, Array, Array]] = []
    start, loss = 0, jnp.zeros(())
    for *left, corner in tiles:
        width = len(corner)
        fill = ((0, -width % outer), (0, 0))  # further inputs with weight 0 and L = 1 change nothing
        own = jnp.pad(original[start : start + width], fill)
        corner = jax.scipy.linalg.block_diag(corner, jnp.eye(-width % outer))
        before = sum((tile @ changed for tile, (_, _, changed) in zip(left, finished, strict=True)), jnp.zeros(()))
        before = jnp.pad(jnp.broadcast_to(before, (width, own.shape[1])), fill)
        none = jnp.zeros_like(own)
        done = (none, jnp.zeros(own.shape, bool), none, loss)
        body = functools.partial(block, own, corner, before, start)
        *parts, loss = jax.lax.fori_loop(0, len(own) // outer, body, done)
        finished.append(tuple(part[:width] for part in parts))
        start += width
    pruned, dropped, _ = (jnp.concatenate(parts) for parts in zip(*finished, strict=True))
    return pruned, ~dropped, loss


def _with_whole_blocks(tiles: tuple[tuple[Array, ...], ...], block: int) -> tuple[tuple[Array, ...], ...]:
    """The same factor in tiles that no block lies across."""
    width, inputs = len(tiles[0][0]), sum(len(row[0]) for row in tiles)
    if len(tiles) == 1 or width % block == 0:
        return tiles
    rows = [jnp.concatenate(row, axis=1) for row in tiles]
    lower = jnp.concatenate([jnp.pad(row, ((0, 0), (0, inputs - row.shape[1]))) for row in rows])
    cuts = _cuts(inputs, -(-width // block) * block)
    return tuple(tuple(lower[rows, columns] for columns in cuts[: i + 1]) for i, rows in enumerate(cuts))
