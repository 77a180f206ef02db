"""ALPS (Meng et al. 2024, arXiv 2406.07831): pruning by ADMM, the strongest layer-wise method that we know of.

Two copies of the weights are pulled together: `dense` minimises the layer's error, `sparse` has the pattern, and the
force between them, rho, grows until the choice of kept weights no longer changes. Their values are then refitted by
conjugate gradients. It costs tens of matrix products of SparseGPT's size; its errors are markedly smaller.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from compression.pruning import selection
from compression.pruning.problem import Matrix, check, check_solved, damped, without_dead
from icl_synth import checks

FIRST_RHO, UPDATE_EVERY, LEAST_STEPS, MOST_STEPS = 0.1, 3, 30, 300  # as in the public code
REFITTING_STEPS = 10


class _State(NamedTuple):
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
    """The pruned weight: exactly round(sparsity * O * I) weights are dropped, or all but n of every m (pattern (n, m)).

    A weight that is kept may be 0 too: all of inputs that were never active are, unless there is nothing to drop.
    Raises ValueError for wrong shapes, NaN or Inf, sparsity outside [0, 1), a pattern that does not divide, damping
    that is not above 0 or not finite, and a Hessian that is not symmetric or not positive definite with it.
    """
    weight, hessian = check(weight, hessian, sparsity=sparsity, pattern=pattern)
    checks.positive(damping=damping)
    if pattern is None and round(sparsity * weight.size) == 0:
        return jnp.asarray(weight)
    return check_solved(_alps(weight, hessian, round(sparsity * weight.size), damping, pattern), damping)


@functools.partial(jax.jit, static_argnames="pattern")
@jax.default_matmul_precision("highest")
def _alps(weight, hessian, count, damping, pattern):
    weight, hessian = without_dead(weight, hessian)
    hessian = damped(hessian, damping)
    # in units in which each input has length one, all coordinates converge alike
    scale = jnp.sqrt(jnp.diagonal(hessian))
    hessian = hessian / scale / scale[:, None]
    original = weight.T * scale[:, None]
    target = hessian @ original
    curvature, directions = jnp.linalg.eigh(hessian)

    def keep(x):
        if pattern:
            return ~selection.in_groups(jnp.abs(x), pattern)
        return ~selection.smallest(jnp.abs(x), count)

    def step(state: _State) -> _State:
        pull = target - state.dual + state.rho * state.sparse
        dense = directions @ ((directions.T @ pull) / (curvature + state.rho)[:, None])
        wish = dense + state.dual / state.rho
        kept = keep(wish)
        sparse = jnp.where(kept, wish, 0.0)
        moved = state._replace(step=state.step + 1, sparse=sparse, dual=state.dual + state.rho * (dense - sparse))
        return jax.lax.cond(moved.step % UPDATE_EVERY == 0, lambda: adapt(moved, kept), lambda: moved)

    def adapt(state: _State, kept: Array) -> _State:
        """Raise rho by how much the choice still changes; start again with less if it never began to."""
        change = (kept != state.kept).sum()
        share = change / kept.sum()
        faster = jnp.where(share > 0.1, 1.3, jnp.where(share > 0.005, 1.2, jnp.where(change > 0, 1.1, 1.0)))
        moving = state.moving | (share > 0.005)
        restart = ~moving
        return state._replace(
            rho=jnp.where(restart, state.rho / 5, state.rho * faster),
            sparse=jnp.where(restart, start, state.sparse),
            dual=jnp.where(restart, 0.0, state.dual),
            kept=kept,
            moving=moving,
            done=moving & ((change == 0) | ((state.step > LEAST_STEPS) & (share < 0.0003))),
        )

    first = keep(original)
    start = jnp.where(first, original, 0.0)
    state = _State(
        jnp.int32(0), jnp.float32(FIRST_RHO), start, jnp.zeros_like(start), first, jnp.array(False), jnp.array(False)
    )
    state = jax.lax.while_loop(lambda s: ~s.done & (s.step < MOST_STEPS), step, state)
    kept = keep(state.sparse)
    return (refit(hessian, target, jnp.where(kept, state.sparse, 0.0), kept) / scale[:, None]).T


def refit(
    hessian: Float[Array, "I I"], target: Float[Array, "I O"], start: Float[Array, "I O"], kept: Bool[Array, "I O"]
) -> Float[Array, "I O"]:
    """Conjugate gradients on hessian @ x = target over the kept weights, each column (output) for itself."""

    def dot(a, b):
        return (a * b).sum(0)

    def step(_, carry):
        x, residual, direction, size = carry
        ahead = hessian @ direction
        length = size / jnp.maximum(dot(direction, ahead), 1e-30)
        x, residual = x + length * direction, residual - length * jnp.where(kept, ahead, 0.0)
        new_size = dot(residual, residual)
        return x, residual, residual + new_size / jnp.maximum(size, 1e-30) * direction, new_size

    residual = jnp.where(kept, target - hessian @ start, 0.0)
    return jax.lax.fori_loop(0, REFITTING_STEPS, step, (start, residual, residual, dot(residual, residual)))[0]
