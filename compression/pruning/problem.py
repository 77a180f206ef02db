"""The layer-wise problem that every method here solves: keep few weights, change the layer's outputs little.

For a linear layer with weight W [O I] and inputs X [I N], minimise |(W - pruned) X|^2 under a sparsity pattern. All
that the inputs contribute is the Hessian H, proportional to X X^T.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Matrix = Array | np.ndarray
ASYMMETRY = 0.01  # of the largest diagonal entry: more than rounding to bfloat16 leaves between H and its transpose


def check(
    weight: Matrix, hessian: Matrix, *, sparsity: float = 0.0, pattern: tuple[int, int] | None = None
) -> tuple[Float[Array, "O I"], Float[Array, "I I"]]:
    """Weight and Hessian in float32; ValueError, plainly, for what no method can work with."""
    weight = check_weight(weight, sparsity=sparsity, pattern=pattern)
    check_fits(weight, hessian)
    return weight, check_hessian(hessian)


def check_fits(weight: Matrix, hessian: Matrix) -> None:
    """Raise ValueError for a Hessian of another number of inputs than the weight's."""
    inputs = weight.shape[1]
    if hessian.shape != (inputs, inputs):
        raise ValueError(
            f"a weight of shape {weight.shape} has {inputs} inputs and needs a Hessian of shape {(inputs, inputs)}, "
            f"got {hessian.shape}"
        )


def check_weight(
    weight: Matrix, *, sparsity: float = 0.0, pattern: tuple[int, int] | None = None
) -> Float[Array, "O I"]:
    """As `check`, of methods that need no Hessian."""
    if weight.ndim != 2 or not weight.size:
        raise ValueError(f"weight must be a matrix [outputs inputs] that is not empty, got shape {weight.shape}")
    check_target(sparsity, pattern)
    if pattern and weight.shape[1] % pattern[1]:
        keep, group = pattern
        raise ValueError(f"pattern {keep}:{group} needs inputs divisible by {group}, got a layer of {weight.shape[1]}")
    return finite("weight", weight)


def check_hessian(hessian: Matrix) -> Float[Array, "I I"]:
    """As `check`, of the Hessian alone."""
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


def check_mask(mask: Matrix, weight: Matrix) -> None:
    """Raise ValueError for what does not say of each weight whether it is kept."""
    if mask.shape != weight.shape or mask.dtype != bool:
        raise ValueError(
            f"mask must be bool and of the weight's shape {weight.shape}, got {mask.dtype} of shape {mask.shape}"
        )


def check_damping(damping: float) -> None:
    """Raise ValueError for a damping that helps no Hessian."""
    if not 0 <= damping < math.inf:
        raise ValueError(f"damping must be 0 or more and finite, got {damping}")


def check_target(sparsity: float, pattern: tuple[int, int] | None) -> None:
    """Raise ValueError for a share or a pattern that no layer can have."""
    if pattern is None:
        if not 0 <= sparsity < 1:
            raise ValueError(f"sparsity is the share of weights to drop, at least 0 and below 1, got {sparsity}")
    elif (
        not isinstance(pattern, tuple)
        or len(pattern) != 2
        or not all(isinstance(n, int | np.integer) for n in pattern)
        or not 1 <= pattern[0] < pattern[1]
    ):
        raise ValueError(f"pattern is a tuple (n, m) that keeps n of every m weights, 1 <= n < m, got {pattern}")


def finite(name: str, matrix: Matrix) -> Array:
    """The matrix in float32; ValueError for NaN or Inf."""
    matrix = jnp.asarray(matrix, jnp.float32)
    if not bool(jnp.isfinite(matrix).all()):
        raise ValueError(f"{name} holds NaN or Inf: look at the calibration inputs, or at how it was trained")
    return matrix


def without_dead(
    weight: Float[Matrix, "O I"], hessian: Float[Matrix, "I I"]
) -> tuple[Float[Array, "O I"], Float[Array, "I I"]]:
    """Weights of inputs that were never active set to 0, and the Hessian with 1 on their diagonal.

    Being 0 those weights are the first to be dropped and use up part of the sparsity, as in the public code.
    """
    diagonal = jnp.diagonal(hessian)
    dead = diagonal == 0
    index = jnp.arange(len(hessian))
    return jnp.where(dead, 0.0, weight), jnp.asarray(hessian).at[index, index].set(jnp.where(dead, 1.0, diagonal))


def damped(hessian: Float[Matrix, "I I"], damping: float | Float[Array, ""]) -> Float[Array, "I I"]:
    """H + damping * mean(diag H) * identity."""
    return hessian + damping * jnp.diagonal(hessian).mean() * jnp.eye(len(hessian))


def check_solved(solution: Float[Array, "O I"], damping: float) -> Float[Array, "O I"]:
    """The solution of systems in H + damping; ValueError where they had none."""
    if not bool(jnp.isfinite(solution).all()):
        raise ValueError(f"the Hessian is not positive definite with damping {damping}: raise damping")
    return solution


@jax.jit
def output_error(
    weight: Float[Matrix, "O I"], changed: Float[Matrix, "O I"], hessian: Float[Matrix, "I I"]
) -> Float[Array, ""]:
    """|(weight - changed) X|^2 / |weight X|^2, the share of the layer's output that is lost; 0 of no output."""

    def energy(w):
        return jnp.vdot(jnp.matmul(w, hessian, precision="highest"), w)

    whole = energy(weight)
    return jnp.where(whole > 0, energy(weight - changed) / whole, 0.0)
