"""The factor of a Hessian that SparseGPT needs: L, lower triangular, with H + damping = L^T L.

One factorisation serves any number of weights and patterns. L is kept in tiles, so that large products stay in cache.
"""

import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from compression.pruning import triangular
from compression.pruning.problem import Matrix, check_damping, check_hessian

LARGER_DAMPINGS = (0.01, 0.1, 1.0, 10.0)  # tried in turn where the damping asked for does not make H positive definite
TILE = 384  # columns of a tile: large enough for fast products, small enough to stay in cache
MOST_TILES = 12  # tiles in a row; a larger factor gets larger tiles, so that the compiled program stays short

Tiles = tuple[tuple[Float[Array, "_ _"], ...], ...]


class Factor(NamedTuple):
    """The factor L of H + damping * mean(diag H) * identity = L^T L.

    tiles: tiles[i][j] with j <= i, rows from top to bottom; all are square but those of the last row.
    alive: the inputs that were ever active.
    damping: the one used, in units of the mean of the diagonal.
    """

    tiles: Tiles
    alive: Bool[Array, " I"]
    damping: float


def factorise(hessian: Float[Matrix, "I I"], damping: float = 0.01) -> Factor:
    """Factorise a Hessian for `sparsegpt.prune`; only its lower triangle is read.

    Where H + damping is not positive definite, the larger ones of LARGER_DAMPINGS are tried, with a warning that names
    the one used. Raises ValueError for NaN or Inf, a matrix that is not square and symmetric, damping that is negative
    or not finite, and a Hessian that no damping makes positive definite.
    """
    check_damping(damping)
    hessian = check_hessian(hessian)
    for tried in (damping, *(larger for larger in LARGER_DAMPINGS if larger > damping)):
        tiles, alive = _factorise(hessian, tried)
        # NaN in any tile spreads to the first, which is computed last
        if bool(jnp.isfinite(tiles[0][0]).all()):
            if tried != damping:
                warnings.warn(
                    f"the Hessian is not positive definite with damping {damping}: pruned with {tried}", stacklevel=2
                )
            return Factor(tiles, alive, tried)
    raise ValueError(
        f"the Hessian is not positive definite even with damping {tried}: it must be a sum of x x^T over inputs"
    )


@jax.jit
@jax.default_matmul_precision("highest")
def _factorise(hessian: Float[Array, "I I"], damping: Float[Array, ""]) -> tuple[Tiles, Bool[Array, " I"]]:
    """Compute rows of tiles from the last to the first; subtract from each the contribution of those below it."""
    inputs = len(hessian)
    alive = jnp.diagonal(hessian) != 0
    added = jnp.where(alive, jnp.float32(0), jnp.float32(1))
    added += damping * (jnp.diagonal(hessian) + added).mean()
    cuts = cut(inputs, max(TILE, -(-inputs // MOST_TILES)))
    tiles: list[tuple[Array, ...]] = [()] * len(cuts)
    for i, rows in reversed(list(enumerate(cuts))):
        row = []
        for j, columns in enumerate(cuts[: i + 1]):
            tile = hessian[rows, columns] + (jnp.diag(added[rows]) if i == j else 0.0)
            row.append(tile - sum(below[i].T @ below[j] for below in tiles[i + 1 :]))
        corner, solve = triangular.factor(row[i])
        tiles[i] = (*(solve.T @ tile for tile in row[:i]), corner)
    return tuple(tiles), alive


def cut(inputs: int, width: int) -> list[slice]:
    """Cut the inputs into slices of `width`; the last may be shorter."""
    return [slice(start, min(start + width, inputs)) for start in range(0, inputs, width)]


def with_whole_blocks(tiles: Tiles, block: int) -> Tiles:
    """Return the same factor in tiles whose width is a multiple of `block`, so that no block lies across two."""
    width, inputs = len(tiles[0][0]), sum(len(row[0]) for row in tiles)
    if len(tiles) == 1 or width % block == 0:
        return tiles
    rows = [jnp.concatenate(row, axis=1) for row in tiles]
    lower = jnp.concatenate([jnp.pad(row, ((0, 0), (0, inputs - row.shape[1]))) for row in rows])
    cuts = cut(inputs, -(-width // block) * block)
    return tuple(tuple(lower[rows, columns] for columns in cuts[: i + 1]) for i, rows in enumerate(cuts))
