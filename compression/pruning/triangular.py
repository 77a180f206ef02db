"""Cholesky factors and inverses of triangular matrices in plain products.

On a CPU a large factorisation or triangular solve is a call of LAPACK, whose threads go on spinning after it and take
the cores from XLA's. With such calls, pruning 768 x 3072 took 1.5 times as long (2 cores, AMD EPYC, jaxlib 0.10.2).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

SMALL = 64  # rows that LAPACK factorises on one thread; larger matrices go by halves
LEAF = 16  # rows solved one by one; larger triangles are inverted by halves


def factor(matrix: Float[Array, "N N"]) -> tuple[Float[Array, "N N"], Float[Array, "N N"]]:
    """L, lower triangular with matrix = L^T L, and L^-1; NaN where the matrix is not positive definite."""
    size = len(matrix)
    if size <= SMALL:
        # the usual factor is lower times upper: ours is that of the rows in reverse order
        lower = jnp.flip(jax.lax.linalg.cholesky(jnp.flip(matrix), symmetrize_input=False)).T
        return lower, inverse(lower)
    half = size // 2
    last, solve_last = factor(matrix[half:, half:])
    left = solve_last.T @ matrix[half:, :half]
    first, solve_first = factor(matrix[:half, :half] - left.T @ left)
    return _lower(first, left, last), _lower(solve_first, -(solve_last @ left @ solve_first), solve_last)


def inverse(lower: Float[Array, "*B N N"]) -> Float[Array, "*B N N"]:
    """The inverse of each lower triangular matrix; what lies above the diagonal is not read."""
    size = lower.shape[-1]
    if size <= LEAF:
        return _substitute(lower)
    half = -(-size // 2)
    if size % 2:  # one row more, of the identity
        lower = jnp.pad(lower, [(0, 0)] * (lower.ndim - 2) + [(0, 1)] * 2).at[..., size, size].set(1.0)
    first, last = inverse(jnp.stack([lower[..., :half, :half], lower[..., half:, half:]]))
    return _lower(first, -(last @ lower[..., half:, :half] @ first), last)[..., :size, :size]


def _lower(first, left, last):
    """[[first, 0], [left, last]]"""
    above = jnp.zeros((*first.shape[:-1], last.shape[-1]), first.dtype)
    return jnp.concatenate([jnp.concatenate([first, above], -1), jnp.concatenate([left, last], -1)], -2)


def _substitute(lower: Float[Array, "*B N N"]) -> Float[Array, "*B N N"]:
    size = lower.shape[-1]

    def row(i, done):  # rows from i on are still 0
        left = lower[..., i, None, :] @ done
        return done.at[..., i, :].set((jnp.eye(size)[i] - left[..., 0, :]) / lower[..., i, i, None])

    return jax.lax.fori_loop(0, size, row, jnp.zeros_like(lower))
