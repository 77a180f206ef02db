"""What SparseGPT is held against: magnitude, Wanda, RIA, and the best weights for a mask that is already chosen."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from compression.pruning.problem import (
    Matrix,
    check,
    check_damping,
    check_mask,
    check_solved,
    check_weight,
    damped,
    without_dead,
)
from compression.pruning.selection import in_groups, smallest, up_to_threshold

ROWS_AT_ONCE = 8


def magnitude(
    weight: Float[Matrix, "O I"], *, sparsity: float = 0.5, pattern: tuple[int, int] | None = None
) -> Float[Array, "O I"]:
    """Drop the smallest weights of the whole layer, or keep the n largest of every m along the inputs.

    As in the public code of SparseGPT, everything up to and including the int(sparsity * O * I)-th in order of size
    (from 0) goes, and all that are as large as that one: a weight more than asked for, or many where sizes are equal.
    A sparsity of 0 leaves the weight as it is.
    Raises ValueError for wrong shapes, NaN or Inf, sparsity outside [0, 1), a pattern that does not divide.
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
    """Drop by |w| times the norm of its input (Sun et al. 2023, arXiv 2306.11695), in each row int(sparsity * I).

    Errors as for `magnitude`, and for a Hessian that is not symmetric.
    """
    weight, hessian = check(weight, hessian, sparsity=sparsity, pattern=pattern)
    scores = jnp.abs(weight) * jnp.sqrt(jnp.diagonal(hessian))
    if pattern:
        return _drop(weight, scores, sparsity, pattern)
    drop_row = jax.vmap(lambda row: smallest(row[:, None], int(sparsity * weight.shape[1]))[:, 0])
    return jnp.where(drop_row(scores), 0.0, weight)


def ria(
    weight: Float[Matrix, "O I"],
    hessian: Float[Matrix, "I I"],
    *,
    sparsity: float = 0.5,
    pattern: tuple[int, int] | None = None,
) -> Float[Array, "O I"]:
    """Drop by relative importance and activations (Zhang et al. 2024, "Plug-and-Play"), over the whole layer.

    The score is (|w| / row sum + |w| / column sum) * sqrt(norm of the input); without the paper's permutation of
    channels for n:m. Counts as for `magnitude`, errors as for `wanda`.
    """
    weight, hessian = check(weight, hessian, sparsity=sparsity, pattern=pattern)
    size = jnp.abs(weight)
    rows, columns = size.sum(1, keepdims=True), size.sum(0, keepdims=True)
    relative = jnp.where(size > 0, size / rows + size / columns, 0.0)
    return _drop(weight, relative * jnp.diagonal(hessian) ** 0.25, sparsity, pattern)


def _drop(weight, scores, sparsity, pattern):
    if pattern:
        dropped = in_groups(scores.T, pattern).T
    elif sparsity == 0:
        return jnp.asarray(weight)
    else:
        dropped = up_to_threshold(scores, int(sparsity * weight.size))
    return jnp.where(dropped, 0.0, weight)


def least_squares(
    weight: Float[Matrix, "O I"],
    hessian: Float[Matrix, "I I"],
    mask: Bool[Matrix, "O I"],
    *,
    damping: float = 0.01,
) -> Float[Array, "O I"]:
    """The best kept weights for a given mask, exactly: for each row its own system of its kept inputs.

    No choice of values for this mask has a smaller tr(dW (H + damping) dW^T); O systems of I unknowns, so only for
    reference. With a mask of `magnitude` this is what AdaPrune (Hubara et al. 2021) approaches by gradient descent.
    Raises ValueError for wrong shapes, NaN or Inf, a mask that is not bool, damping that is negative or not finite, and
    a Hessian that is not symmetric or not positive definite with it.
    """
    weight, hessian = check(weight, hessian)
    check_mask(mask, weight)
    check_damping(damping)
    return check_solved(_least_squares(weight, hessian, mask, damping), damping)


@jax.jit
@jax.default_matmul_precision("highest")
def _least_squares(weight, hessian, mask, damping):
    weight, hessian = without_dead(weight, hessian)
    hessian = damped(hessian, damping)
    identity = jnp.eye(len(hessian))

    def solve(row):
        kept, target = row
        both = kept[:, None] & kept
        system = jnp.where(both, hessian, identity)  # a dropped input gets the equation x = 0
        factor = jax.scipy.linalg.cho_factor(system, lower=True)
        return jax.scipy.linalg.cho_solve(factor, jnp.where(kept, target, 0.0))

    solved = jax.lax.map(solve, (jnp.asarray(mask), weight @ hessian), batch_size=ROWS_AT_ONCE)
    return jnp.where(mask, solved, 0.0)
