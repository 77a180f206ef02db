"""ALPS (Meng et al. 2024, arXiv 2406.07831): pruning by ADMM, the strongest layer-wise method that we know of.

ADMM pulls two copies of the weights together: `dense` minimises the layer's error and `sparse` has the pattern. The
force between them, rho, grows until the choice of kept weights no longer changes. Conjugate gradients then refit the
kept weights. ALPS costs tens of matrix products of SparseGPT's size, and its errors are markedly smaller.

Arrays inside have inputs first, [I O].
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from compression.pruning import selection
from compression.pruning.problem import (
    Matrix,
    check,
    check_damping,
    check_definite,
    check_solved,
    damped,
    num_dropped,
    without_dead,
)
from icl_synth import checks

FIRST_RHO, UPDATE_EVERY, LEAST_STEPS, MOST_STEPS = 0.1, 3, 30, 300  # as in the public code
LEAST_RHO = 1e-6  # beside curvatures of mean 1, a smaller rho is lost in rounding
REFITTING_STEPS = 10


class Target(NamedTuple):
    """The layer in units in which every input has length one, so that all coordinates converge alike.

    hessian: with ones on its diagonal. curvature, directions: its eigenvalues and eigenvectors.
    original: the weights. product: hessian @ original. num_drop: how many weights to drop; not read with a pattern.
    """

    hessian: Float[Array, "I I"]
    curvature: Float[Array, " I"]
    directions: Float[Array, "I I"]
    original: Float[Array, "I O"]
    product: Float[Array, "I O"]
    num_drop: Int[Array, ""]


class State(NamedTuple):
    """Where ADMM stands after `step` steps."""

    step: Int[Array, ""]
    rho: Float[Array, ""]
    sparse: Float[Array, "I O"]
    dual: Float[Array, "I O"]
    kept: Bool[Array, "I O"]  # at the last change of rho
    moving: Bool[Array, ""]  # whether the choice has begun to change
    done: Bool[Array, ""]


def alps(
    weight: Float[Matrix, "O I"],
    hessian: Float[Matrix, "I I"],
    *,
    sparsity: float = 0.5,
    pattern: tuple[int, int] | None = None,
    damping: float = 0.01,
) -> Float[Array, "O I"]:
    """Return the pruned weight: round(sparsity * O * I) weights are dropped, or all but n of every m (pattern (n, m)).

    weight: outputs by inputs. hessian: proportional to X X^T. damping: added to its diagonal, in units of its mean.
    A kept weight may be 0 too: those of inputs that were never active are, unless there is nothing to drop.
    Raises ValueError for wrong shapes, NaN or Inf, sparsity outside [0, 1), a pattern that does not divide the inputs,
    damping that is not above 0 or not finite, and a Hessian that is not symmetric or, with the damping, not positive
    definite.
    """
    weight, hessian = check(weight, hessian, sparsity=sparsity, pattern=pattern)
    check_damping(damping)
    checks.positive(damping=damping)
    check_definite(hessian, damping)
    count = num_dropped(sparsity, *weight.shape)
    if pattern is None and count == 0:
        return weight
    return check_solved(_alps(weight, hessian, count, damping, pattern), damping)


@functools.partial(jax.jit, static_argnames="pattern")
@jax.default_matmul_precision("highest")
def _alps(
    weight: Float[Array, "O I"],
    hessian: Float[Array, "I I"],
    count: Int[Array, ""],
    damping: Float[Array, ""],
    pattern: tuple[int, int] | None,
) -> Float[Array, "O I"]:
    weight, hessian = without_dead(weight, hessian)
    hessian = damped(hessian, damping)
    scale = jnp.sqrt(jnp.diagonal(hessian))
    hessian = hessian / scale / scale[:, None]
    original = weight.T * scale[:, None]
    # a power of 2 near the largest weight, so that no square below underflows; it changes no digit
    unit = jnp.ldexp(jnp.float32(1), jnp.frexp(jnp.abs(original).max())[1])
    original = original / unit
    curvature, directions = jnp.linalg.eigh(hessian)
    curvature = jnp.maximum(curvature, jnp.finfo(jnp.float32).eps)  # they are positive; rounding may say otherwise
    target = Target(hessian, curvature, directions, original, hessian @ original, count)
    sparse = choose(target, pattern)
    kept = keep(target, pattern, sparse)
    refitted = refit(hessian, target.product, jnp.where(kept, sparse, 0.0), kept)
    return (refitted * unit / scale[:, None]).T


def keep(target: Target, pattern: tuple[int, int] | None, x: Float[Array, "I O"]) -> Bool[Array, "I O"]:
    """Return True for the entries of x that the pattern keeps, the largest ones."""
    if pattern:
        return ~selection.in_groups(jnp.abs(x), pattern)
    return ~selection.smallest(jnp.abs(x), target.num_drop)


def choose(target: Target, pattern: tuple[int, int] | None) -> Float[Array, "I O"]:
    """Run ADMM until its choice of kept weights stands still; return the sparse copy."""
    kept = keep(target, pattern, target.original)
    start = jnp.where(kept, target.original, 0.0)
    state = State(
        jnp.int32(0), jnp.float32(FIRST_RHO), start, jnp.zeros_like(start), kept, jnp.array(False), jnp.array(False)
    )

    def step(state: State) -> State:
        moved, kept = admm_step(target, pattern, state)
        return jax.lax.cond(moved.step % UPDATE_EVERY == 0, lambda: adapt(moved, kept, start), lambda: moved)

    return jax.lax.while_loop(lambda state: ~state.done & (state.step < MOST_STEPS), step, state).sparse


def admm_step(target: Target, pattern: tuple[int, int] | None, state: State) -> tuple[State, Bool[Array, "I O"]]:
    """One step of ADMM, and which weights it keeps: the dense copy, the sparse copy, the dual variable."""
    pull = target.product - state.dual + state.rho * state.sparse
    dense = target.directions @ ((target.directions.T @ pull) / (target.curvature + state.rho)[:, None])
    wish = dense + state.dual / state.rho
    kept = keep(target, pattern, wish)
    sparse = jnp.where(kept, wish, 0.0)
    dual = state.dual + state.rho * (dense - sparse)
    return state._replace(step=state.step + 1, sparse=sparse, dual=dual), kept


def adapt(state: State, kept: Bool[Array, "I O"], start: Float[Array, "I O"]) -> State:
    """Raise rho the more, the more the choice still changes; while it never did, begin again with a smaller rho.

    With very few weights to drop, or with equal ones, the choice may never change: below LEAST_RHO it stands.
    """
    change = (kept != state.kept).sum(dtype=jnp.int32)
    share = change / jnp.maximum(kept.sum(dtype=jnp.int32), 1).astype(jnp.float32)
    faster = jnp.where(share > 0.1, 1.3, jnp.where(share > 0.005, 1.2, jnp.where(change > 0, 1.1, 1.0)))
    moving = state.moving | (share > 0.005) | (state.rho <= LEAST_RHO)
    restart = ~moving
    return state._replace(
        rho=jnp.where(restart, state.rho / 5, state.rho * faster.astype(jnp.float32)),
        sparse=jnp.where(restart, start, state.sparse),
        dual=jnp.where(restart, 0.0, state.dual),
        kept=kept,
        moving=moving,
        done=moving & ((change == 0) | ((state.step > LEAST_STEPS) & (share < 0.0003))),
    )


def refit(
    hessian: Float[Array, "I I"], product: Float[Array, "I O"], start: Float[Array, "I O"], kept: Bool[Array, "I O"]
) -> Float[Array, "I O"]:
    """Conjugate gradients on hessian @ x = product over the kept weights, for each column (output) separately."""

    def dot(a: Array, b: Array) -> Array:
        return (a * b).sum(0)

    def ratio(a: Array, b: Array) -> Array:
        return jnp.where(b > 0, a / jnp.where(b > 0, b, 1.0), 0.0)  # 0 once a column has converged

    def step(_, carry):
        x, residual, direction, size = carry
        ahead = hessian @ direction
        length = ratio(size, dot(direction, ahead))
        x, residual = x + length * direction, residual - length * jnp.where(kept, ahead, 0.0)
        new_size = dot(residual, residual)
        return x, residual, residual + ratio(new_size, size) * direction, new_size

    residual = jnp.where(kept, product - hessian @ start, 0.0)
    return jax.lax.fori_loop(0, REFITTING_STEPS, step, (start, residual, residual, dot(residual, residual)))[0]
