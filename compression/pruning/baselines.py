"""The baselines for SparseGPT: magnitude, Wanda, RIA, and the best weights for a given mask."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from compression.pruning.problem import (
    Matrix,
    check,
    check_damping,
    check_definite,
    check_mask,
    check_solved,
    check_weight,
    damped,
    num_dropped,
    without_dead,
)
from compression.pruning.selection import in_groups, smallest

ROWS_AT_ONCE = 8


def magnitude(
    weight: Float[Matrix, "O I"], *, sparsity: float = 0.5, pattern: tuple[int, int] | None = None
) -> Float[Array, "O I"]:
    """Drop the smallest weights of the whole layer, or keep the n largest of every m inputs (pattern (n, m)).

    Exactly round(sparsity * O * I) weights are dropped. Among equal ones the first input goes first, then the first
    output. (The public code of SparseGPT drops one weight more, and all that equal it.)
    Raises ValueError for wrong shapes, NaN or Inf, sparsity outside [0, 1), a pattern that does not divide the inputs.
    """
    weight = check_weight(weight, sparsity=sparsity, pattern=pattern)
    return _drop(weight, jnp.abs(weight), sparsity, pattern)


def wanda(
    weight: Float[Matrix, "O I"],
    hessian: Float[Matrix, "I I"],
    *,
    sparsity: float = 0.5,
    pattern: tuple[int, int] | None = None,
) -> Float[Array, "O I"]:
    """Drop by |w| times the norm of its input (Sun et al. 2023, arXiv 2306.11695).

    Each row loses floor(sparsity * I) weights, as in the public code; among equal scores the first input goes first.
    hessian: only its diagonal is read. Raises ValueError as `magnitude` does, and for a Hessian that is not symmetric.
    """
    weight, hessian = check(weight, hessian, sparsity=sparsity, pattern=pattern)
    scores = jnp.abs(weight) * jnp.sqrt(jnp.diagonal(hessian))
    if pattern:
        return _drop(weight, scores, sparsity, pattern)
    count = math.floor(round(float(sparsity) * weight.shape[1], 6))  # 0.29 * 100 is a little below 29
    return _drop_in_rows(weight, scores, count)


@jax.jit
def _drop_in_rows(
    weight: Float[Array, "O I"], scores: Float[Array, "O I"], count: int | Int[Array, ""]
) -> Float[Array, "O I"]:
    drop = jax.vmap(lambda row: smallest(row[:, None], count)[:, 0])
    return jnp.where(drop(scores), 0.0, weight)


def ria(
    weight: Float[Matrix, "O I"],
    hessian: Float[Matrix, "I I"],
    *,
    sparsity: float = 0.5,
    pattern: tuple[int, int] | None = None,
) -> Float[Array, "O I"]:
    """Drop by relative importance and activations (Zhang et al. 2024, "Plug-and-Play"), over the whole layer.

    The score is (|w| / row sum + |w| / column sum) * sqrt(norm of the input). The paper's permutation of channels for
    n:m patterns is left out. As many weights are dropped as by `magnitude`. Raises ValueError as `wanda` does.
    """
    weight, hessian = check(weight, hessian, sparsity=sparsity, pattern=pattern)
    size = jnp.abs(weight)
    rows, columns = size.sum(1, keepdims=True), size.sum(0, keepdims=True)
    relative = jnp.where(size > 0, size / rows + size / columns, 0.0)
    return _drop(weight, relative * jnp.diagonal(hessian) ** 0.25, sparsity, pattern)


def _drop(
    weight: Float[Array, "O I"], scores: Float[Array, "O I"], sparsity: float, pattern: tuple[int, int] | None
) -> Float[Array, "O I"]:
    """Set the weights of the smallest scores to 0."""
    if pattern:
        return jnp.where(in_groups(scores.T, pattern).T, 0.0, weight)
    return _drop_smallest(weight, scores, num_dropped(sparsity, *weight.shape))


@jax.jit
def _drop_smallest(
    weight: Float[Array, "O I"], scores: Float[Array, "O I"], count: int | Int[Array, ""]
) -> Float[Array, "O I"]:
    return jnp.where(smallest(scores.T, count).T, 0.0, weight)


def least_squares(
    weight: Float[Matrix, "O I"],
    hessian: Float[Matrix, "I I"],
    mask: Bool[Matrix, "O I"],
    *,
    damping: float = 0.01,
) -> Float[Array, "O I"]:
    """Return the best kept weights for a given mask, exactly: each row solves the system of its kept inputs.

    No other values for this mask have a smaller tr(dW (H + damping) dW^T). The O systems have I unknowns each, so this
    is a reference and not a fast method. With the mask of `magnitude` it is what AdaPrune (Hubara et al. 2021)
    approaches by gradient descent.
    Raises ValueError for wrong shapes, NaN or Inf, a mask that is not bool, damping that is negative or not finite, and
    a Hessian that is not symmetric or, with the damping, not positive definite. A singular one that is positive
    semidefinite but for rounding to float32 passes where the systems of the kept inputs can be solved.
    """
    weight, hessian = check(weight, hessian)
    check_mask(mask, weight)
    check_damping(damping)
    check_definite(hessian, damping, rounding=float(jnp.finfo(jnp.float32).eps))
    return check_solved(_least_squares(weight, hessian, jnp.asarray(mask), damping), damping)


@jax.jit
@jax.default_matmul_precision("highest")
def _least_squares(
    weight: Float[Array, "O I"], hessian: Float[Array, "I I"], mask: Bool[Array, "O I"], damping: Float[Array, ""]
) -> Float[Array, "O I"]:
    weight, hessian = without_dead(weight, hessian)
    hessian = damped(hessian, damping)
    identity = jnp.eye(len(hessian), dtype=jnp.float32)

    def solve(row: tuple[Array, Array]) -> Array:
        kept, target = row
        both = kept[:, None] & kept
        system = jnp.where(both, hessian, identity)  # a dropped input gets the equation x = 0
        factor = jax.scipy.linalg.cho_factor(system, lower=True)
        return jax.scipy.linalg.cho_solve(factor, jnp.where(kept, target, 0.0))

    solved = jax.lax.map(solve, (mask, weight @ hessian), batch_size=ROWS_AT_ONCE)
    return jnp.where(mask, solved, 0.0)
