"""The layer-wise problem that every method here solves: keep few weights, change the layer's outputs little.

For a linear layer with weight W [O I] and inputs X [I N], minimise |(W - pruned) X|^2 under a sparsity pattern. All
that the inputs contribute is the Hessian H, proportional to X X^T.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Matrix = Array | np.ndarray


def check(
    weight: Matrix, hessian: Matrix, *, sparsity: float = 0.0, pattern: tuple[int, int] | None = None
) -> tuple[Float[Array, "O I"], Float[Array, "I I"]]:
    """Weight and Hessian in float32; ValueError, plainly, for what no method can work with."""
    weight, inputs = check_weight(weight, sparsity=sparsity, pattern=pattern), weight.shape[1]
    if hessian.shape != (inputs, inputs):
        raise ValueError(
            f"a weight of shape {weight.shape} has {inputs} inputs and needs a Hessian of shape {(inputs, inputs)}, "
            f"got {hessian.shape}"
        )
    hessian = finite("hessian", hessian)
    if bool((jnp.diagonal(hessian) < 0).any()):
        raise ValueError("the Hessian has negative diagonal entries: it must be a sum of x x^T over inputs")
    return weight, hessian


def check_weight(
    weight: Matrix, *, sparsity: float = 0.0, pattern: tuple[int, int] | None = None
) -> Float[Array, "O I"]:
    """As `check`, of methods that need no Hessian."""
    if weight.ndim != 2:
        raise ValueError(f"weight must be a matrix [outputs inputs], got shape {weight.shape}")
    check_target(sparsity, pattern)
    if pattern and weight.shape[1] % pattern[1]:
        keep, group = pattern
        raise ValueError(f"pattern {keep}:{group} needs inputs divisible by {group}, got a layer of {weight.shape[1]}")
    return finite("weight", weight)


def check_target(sparsity: float, pattern: tuple[int, int] | None) -> None:
    """Raise ValueError for a share or a pattern that no layer can have."""
    if pattern is None:
        if not 0 <= sparsity < 1:
            raise ValueError(f"sparsity is the share of weights to drop, at least 0 and below 1, got {sparsity}")
    elif not isinstance(pattern, tuple) or len(pattern) != 2 or not 1 <= pattern[0] < pattern[1]:
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


@jax.jit
def output_error(
    weight: Float[Matrix, "O I"], changed: Float[Matrix, "O I"], hessian: Float[Matrix, "I I"]
) -> Float[Array, ""]:
    """|(weight - changed) X|^2 / |weight X|^2, the share of the layer's output that is lost; 0 of no output."""

    def energy(w):
        return jnp.vdot(jnp.matmul(w, hessian, precision="highest"), w)

    whole = energy(weight)
    return jnp.where(whole > 0, energy(weight - changed) / whole, 0.0)
