"""Cholesky factors and inverses of triangular matrices.

On a CPU they are recursive matrix products. A large factorisation or triangular solve there is a LAPACK call, whose
threads keep spinning after it and take the cores from XLA's own: with such calls, pruning 768 x 3072 took 1.5 times as
long (2 cores, AMD EPYC, jaxlib 0.10.2). On other devices they are the library's routines.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

SMALL = 64  # LAPACK factorises this many rows on one thread; larger matrices are halved
LEAF = 16  # a triangle of this many rows is solved row by row; larger ones are halved


def factor(matrix: Float[Array, "N N"]) -> tuple[Float[Array, "N N"], Float[Array, "N N"]]:
    """Return L, lower triangular with matrix = L^T L, and L^-1; NaN where the matrix is not positive definite."""
    return jax.lax.platform_dependent(matrix, cpu=_factor_by_halves, default=_factor_by_library)


def inverse(lower: Float[Array, "*B N N"]) -> Float[Array, "*B N N"]:
    """Return the inverse of each lower triangular matrix; entries above the diagonal are not read."""
    return jax.lax.platform_dependent(lower, cpu=_invert_by_halves, default=_invert_by_library)


def _factor_by_library(matrix: Float[Array, "N N"]) -> tuple[Float[Array, "N N"], Float[Array, "N N"]]:
    lower = _cholesky(matrix)
    return lower, _invert_by_library(lower)


def _invert_by_library(lower: Float[Array, "*B N N"]) -> Float[Array, "*B N N"]:
    identity = jnp.broadcast_to(jnp.eye(lower.shape[-1], dtype=lower.dtype), lower.shape)
    return jax.scipy.linalg.solve_triangular(lower, identity, lower=True)


def _factor_by_halves(matrix: Float[Array, "N N"]) -> tuple[Float[Array, "N N"], Float[Array, "N N"]]:
    size = len(matrix)
    if size <= SMALL:
        lower = _cholesky(matrix)
        return lower, _invert_by_halves(lower)
    half = size // 2
    last, solve_last = _factor_by_halves(matrix[half:, half:])
    left = solve_last.T @ matrix[half:, :half]
    first, solve_first = _factor_by_halves(matrix[:half, :half] - left.T @ left)
    return _assemble(first, left, last), _assemble(solve_first, -(solve_last @ left @ solve_first), solve_last)


def _cholesky(matrix: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """The usual factorisation is L L^T. With rows and columns in reverse order it gives the L^T L wanted here."""
    return jnp.flip(jax.lax.linalg.cholesky(jnp.flip(matrix), symmetrize_input=False)).T


def _invert_by_halves(lower: Float[Array, "*B N N"]) -> Float[Array, "*B N N"]:
    size = lower.shape[-1]
    if size <= LEAF:
        return _substitute(lower)
    half = -(-size // 2)
    if size % 2:  # pad with one row of the identity, so that both halves have one shape
        lower = jnp.pad(lower, [(0, 0)] * (lower.ndim - 2) + [(0, 1)] * 2).at[..., size, size].set(1.0)
    first, last = _invert_by_halves(jnp.stack([lower[..., :half, :half], lower[..., half:, half:]]))
    return _assemble(first, -(last @ lower[..., half:, :half] @ first), last)[..., :size, :size]


def _assemble(first: Array, left: Array, last: Array) -> Array:
    """Return [[first, 0], [left, last]]."""
    above = jnp.zeros((*first.shape[:-1], last.shape[-1]), first.dtype)
    return jnp.concatenate([jnp.concatenate([first, above], -1), jnp.concatenate([left, last], -1)], -2)


def _substitute(lower: Float[Array, "*B N N"]) -> Float[Array, "*B N N"]:
    """Forward substitution, one row of the inverse after another."""
    size = lower.shape[-1]

    def set_row(i, solved):  # rows from i on are still 0
        left = lower[..., i, None, :] @ solved
        return solved.at[..., i, :].set(
            (jnp.eye(size, dtype=lower.dtype)[i] - left[..., 0, :]) / lower[..., i, i, None]
        )

    return jax.lax.fori_loop(0, size, set_row, jnp.zeros_like(lower))
