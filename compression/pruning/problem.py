"""The layer-wise problem that every method here solves: keep few weights and change the layer's outputs little.

For a linear layer with weight W [O I] and inputs X [I N], minimise |(W - pruned) X|^2 under a sparsity pattern. The
inputs enter only through the Hessian H, which is proportional to X X^T.
"""

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Matrix = Array | np.ndarray
ASYMMETRY = 0.01  # of the largest diagonal entry: more than rounding to bfloat16 leaves between H and its transpose


def check(
    weight: Matrix, hessian: Matrix, *, sparsity: float = 0.0, pattern: tuple[int, int] | None = None
) -> tuple[Float[Array, "O I"], Float[Array, "I I"]]:
    """Return weight and Hessian in float32. Raises ValueError for arguments that no method can work with."""
    weight = check_weight(weight, sparsity=sparsity, pattern=pattern)
    check_fits(weight, hessian)
    return weight, check_hessian(hessian)


def check_fits(weight: Matrix, hessian: Matrix) -> None:
    """Raise ValueError for a Hessian whose number of inputs is not the weight's."""
    inputs = weight.shape[1]
    if hessian.shape != (inputs, inputs):
        raise ValueError(
            f"a weight of shape {weight.shape} has {inputs} inputs and needs a Hessian of shape {(inputs, inputs)}, "
            f"got {hessian.shape}"
        )


def check_weight(
    weight: Matrix, *, sparsity: float = 0.0, pattern: tuple[int, int] | None = None
) -> Float[Array, "O I"]:
    """Like `check`, for methods that need no Hessian."""
    if weight.ndim != 2 or not weight.size:
        raise ValueError(f"weight must be a matrix [outputs inputs] that is not empty, got shape {weight.shape}")
    check_target(sparsity, pattern)
    if pattern and weight.shape[1] % pattern[1]:
        keep, group = pattern
        raise ValueError(f"pattern {keep}:{group} needs inputs divisible by {group}, got a layer of {weight.shape[1]}")
    return finite("weight", weight)


def check_hessian(hessian: Matrix) -> Float[Array, "I I"]:
    """Like `check`, for the Hessian alone. Only a factorisation can tell whether it is positive definite."""
    if hessian.ndim != 2 or hessian.shape[0] != hessian.shape[1] or not hessian.size:
        raise ValueError(f"a Hessian is square and not empty, got shape {hessian.shape}")
    hessian = finite("hessian", hessian)
    diagonal = jnp.diagonal(hessian)
    if bool((diagonal < 0).any()):
        raise ValueError("the Hessian has negative diagonal entries: it must be a sum of x x^T over inputs")
    if bool(_asymmetry(hessian) > ASYMMETRY * diagonal.max()):
        raise ValueError("the Hessian is not symmetric: it must be a sum of x x^T over inputs")
    return hessian


@jax.jit
def _asymmetry(hessian: Float[Array, "I I"]) -> Float[Array, ""]:
    return jnp.abs(hessian - hessian.T).max()


def check_definite(hessian: Float[Array, "I I"], damping: float, rounding: float = 0.0) -> None:
    """Raise ValueError for a Hessian that is not positive definite with `damping`, by a factorisation in float64.

    rounding: how far below 0 an eigenvalue may lie, in units of the trace. Float32 arithmetic alone would accept some
    matrices that are indefinite and refuse some that are definite.
    """
    exact = np.array(hessian, np.float64)
    exact = (exact + exact.T) / 2
    diagonal = np.einsum("ii->i", exact)  # a view: writing to it changes `exact`
    diagonal[diagonal == 0] = 1.0  # as in `without_dead`
    diagonal += damping * diagonal.mean() + rounding * diagonal.sum()
    try:
        np.linalg.cholesky(exact)
    except np.linalg.LinAlgError as error:
        raise ValueError(f"the Hessian is not positive definite with damping {damping}: raise damping") from error


def check_mask(mask: Matrix, weight: Matrix) -> None:
    """Raise ValueError for a mask that does not say of each weight whether it is kept."""
    if mask.shape != weight.shape or mask.dtype != bool:
        raise ValueError(
            f"mask must be bool and of the weight's shape {weight.shape}, got {mask.dtype} of shape {mask.shape}"
        )


def check_damping(damping: float) -> None:
    """Raise ValueError for a damping that is negative or not a finite number."""
    if not _real(damping) or not 0 <= damping < math.inf:
        raise ValueError(f"damping must be 0 or more and finite, got {damping!r}")


def check_size(**sizes: int) -> None:
    """Raise ValueError, by name, for a number of columns that is not an integer of at least 1."""
    for name, size in sizes.items():
        if not isinstance(size, numbers.Integral) or size < 1:
            raise ValueError(f"{name} must be at least 1 and an integer, got {size!r}")


def check_target(sparsity: float, pattern: tuple[int, int] | None) -> None:
    """Raise ValueError for a share or a pattern that no layer can have."""
    if pattern is None:
        if not _real(sparsity) or not 0 <= sparsity < 1:
            raise ValueError(f"sparsity is the share of weights to drop, at least 0 and below 1, got {sparsity!r}")
    elif (
        not isinstance(pattern, tuple)
        or len(pattern) != 2
        or not all(isinstance(n, int | np.integer) for n in pattern)
        or not 1 <= pattern[0] < pattern[1]
    ):
        raise ValueError(f"pattern is a tuple (n, m) that keeps n of every m weights, 1 <= n < m, got {pattern}")


def _real(number: Any) -> bool:
    """Whether something is one real number, of Python, NumPy or JAX."""
    if isinstance(number, Array | np.ndarray):
        return number.ndim == 0 and number.dtype.kind in "iuf"
    return isinstance(number, numbers.Real)


def num_dropped(sparsity: float, outputs: int, inputs: int) -> int:
    """Return round(sparsity * O * I), computed in float64: in float32 the product is exact up to 2^24 weights only."""
    return round(float(sparsity) * outputs * inputs)


def finite(name: str, matrix: Matrix) -> Array:
    """Return the matrix in float32. Raises ValueError for what are not real numbers, and for NaN or Inf."""
    if not jnp.issubdtype(matrix.dtype, jnp.floating) and matrix.dtype.kind not in "iu":
        raise ValueError(f"{name} must hold real numbers, got {matrix.dtype}")
    matrix = jnp.asarray(matrix, jnp.float32)
    if not bool(jnp.isfinite(matrix).all()):
        raise ValueError(f"{name} holds NaN or Inf: look at the calibration inputs, or at how it was trained")
    return matrix


def without_dead(
    weight: Float[Matrix, "O I"], hessian: Float[Matrix, "I I"]
) -> tuple[Float[Array, "O I"], Float[Array, "I I"]]:
    """Set weights of inputs that were never active to 0, and those inputs' diagonal entries of the Hessian to 1.

    As in the public code, these weights are then dropped first and use up part of the sparsity.
    """
    diagonal = jnp.diagonal(hessian)
    dead = diagonal == 0
    index = jnp.arange(len(hessian))
    return jnp.where(dead, 0.0, weight), jnp.asarray(hessian).at[index, index].set(jnp.where(dead, 1.0, diagonal))


def damped(hessian: Float[Matrix, "I I"], damping: float | Float[Array, ""]) -> Float[Array, "I I"]:
    """Return H + damping * mean(diag H) * identity."""
    return hessian + damping * jnp.diagonal(hessian).mean() * jnp.eye(len(hessian), dtype=hessian.dtype)


def check_solved(solution: Float[Array, "O I"], damping: float) -> Float[Array, "O I"]:
    """Return the solution of systems in H + damping. Raises ValueError where they had none."""
    if not bool(jnp.isfinite(solution).all()):
        raise ValueError(f"the Hessian is not positive definite with damping {damping}: raise damping")
    return solution


@jax.jit
def output_error(
    weight: Float[Matrix, "O I"], changed: Float[Matrix, "O I"], hessian: Float[Matrix, "I I"]
) -> Float[Array, ""]:
    """Return |(weight - changed) X|^2 / |weight X|^2, the share of the layer's output that is lost; 0 of no output."""
    weight, changed, hessian = (jnp.asarray(x, jnp.float32) for x in (weight, changed, hessian))

    def energy(w):
        return jnp.vdot(jnp.matmul(w, hessian, precision="highest"), w)

    output = energy(weight)
    return jnp.where(output > 0, energy(weight - changed) / output, 0.0)
