"""Approach 3 of Hoffmann et al. 2022: L(N, D) = E + A / N^alpha + B / D^beta, fitted to all runs at once.

The fit minimises the Huber loss of log L, summed over runs. All 4,500 starts of a grid are scored, and L-BFGS goes on
from the best. Sums matter: averaged, the loss is so small that an optimizer's usual tolerances end it early, and a
bootstrap sample that begins where the whole sample ended stays there (`averaged`, `warm`).
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from icl_synth.scaling.runs import Runs, check

DELTA = 1e-3  # of the Huber loss, in log L
STEPS = 200  # of L-BFGS, at most
POLISHED = 64  # starts of the grid from which L-BFGS goes on for the whole sample, the best ones
KEPT = 3  # starts of a bootstrap draw, the best of the grid and of what the whole sample ended with
ALIKE = 64  # numbers of runs that share a program
AT_ONCE = 64  # descents that go on until the last of them has ended
TERMS, SLOPES, FLOORS = np.arange(-5.0, 1.0), np.arange(0.0, 2.5, 0.5), (-2.0, -1.0, -0.5, -0.25, -0.1)
OUTER = (1.0, 2.0, 4.0)
Numbers = Any  # a number, or an array of them: a law of a bootstrap has an entry for each draw


class Law(NamedTuple):
    """L(N, D) = E + (A / N^alpha + B / D^beta)^outer, in nats per token; of a bootstrap, one entry per draw."""

    E: Numbers
    """The irreducible loss."""
    A: Numbers
    B: Numbers
    alpha: Numbers
    beta: Numbers
    outer: Numbers
    """1 in the additive form of Hoffmann et al."""

    @property
    def a(self) -> Numbers:
        """Exponent of the compute-optimal size: N_opt ~ C^a; the tokens grow as C^(1 - a)."""
        return self.beta / (self.alpha + self.beta)

    def loss(self, parameters: Numbers, tokens: Numbers) -> Numbers:
        """The loss that the law predicts of a run."""
        return self.E + (self.A / parameters**self.alpha + self.B / tokens**self.beta) ** self.outer

    def optimal_parameters(self, flops: Numbers) -> Numbers:
        """The size whose loss is lowest at C = 6 N D (their equation 4)."""
        scale = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        return scale * (np.asarray(flops) / 6) ** self.a


class Form(NamedTuple):
    """What is fitted: whether E is known, and whether the sum of the two terms has an exponent of its own."""

    entropy: float | None = None
    """The irreducible loss where it is known, nats per token; None fits it."""
    outer: bool = False


ADDITIVE = Form()


class Logs(NamedTuple):
    """Logarithms of R runs less their means, so that the fit is the same in all units; and those means.

    R is a multiple of ALIKE, so that few programs are compiled: runs that fill up have no weight.
    """

    parameters: Float[np.ndarray, " R"]
    tokens: Float[np.ndarray, " R"]
    loss: Float[np.ndarray, " R"]
    weights: Float[np.ndarray, " R"]
    centres: Float[np.ndarray, "3"]


class Stop(NamedTuple):
    """When L-BFGS ends: by the gradient of the summed Huber loss / DELTA, and by its fall in a step."""

    gradient: float = 1e-6
    fall: float = 0.0


PRECISE = Stop()


def averaged(runs: int) -> Stop:
    """Where SciPy's L-BFGS stops by default (gradient 1e-5, fall 2.2e-9) on the Huber loss averaged over runs."""
    return Stop(1e-5 * runs / DELTA, 2.2e-9 * runs / DELTA)


Point = Float[Array, "6"]  # log A, log B at the mean run, log E, alpha, beta, log outer


def fit(runs: Runs, form: Form = ADDITIVE, stop: Stop = PRECISE) -> Law:
    """The law whose summed Huber loss over the runs is smallest.

    Raises ValueError for fewer runs than parameters, and for runs of one size or of one number of tokens.
    """
    logs = logs_of(runs)
    ends, objectives = _whole_sample(logs, form, stop)
    return _law(ends[objectives.argmin()], logs, form)


def bootstrap(
    runs: Runs, samples: Int[np.ndarray, "S R"], form: Form = ADDITIVE, stop: Stop = PRECISE, warm: bool = False
) -> Law:
    """The laws of samples of the runs (`draw`).

    Every sample is scored at all starts of the grid and at all minima of the whole sample. That is one matrix product,
    for the predicted loss of a run does not depend on the sample. L-BFGS goes on from the best; with `warm`,
    from the whole sample's best minimum alone. Raises ValueError as `fit`.
    """
    logs = logs_of(runs)
    ends, objectives = _whole_sample(logs, form, stop)
    counts = np.stack([np.bincount(drawn, minlength=len(logs.loss)) for drawn in samples]).astype(float)
    if warm:
        best = np.broadcast_to(ends[objectives.argmin()], (len(samples), 1, ends.shape[-1]))
    else:
        candidates = np.concatenate([ends, grid(form)])
        scores = _huber_of_each(candidates, logs, form) @ counts.T
        best = candidates[np.argpartition(scores, KEPT, axis=0)[:KEPT].T]
    ends, objectives = _descend(best, counts[:, None], logs, form, stop)
    return _law(ends[np.arange(len(samples)), objectives.argmin(1)], logs, form)


def logs_of(runs: Runs) -> Logs:
    """Raises ValueError for fewer runs than parameters, and for runs of one size or of one number of tokens."""
    check(runs, len(Law._fields))
    for name, values in (("parameters", runs.parameters), ("tokens", runs.tokens)):
        if len(np.unique(values)) < 2:
            raise ValueError(f"all runs have {values[0]:g} {name}: a fit needs at least two different numbers")
    logs, spare = np.log(np.stack(runs)), -len(runs.loss) % ALIKE
    centres = logs.mean(1)
    columns = np.pad(logs - centres[:, None], ((0, 0), (0, spare)))
    sizes, tokens, loss = columns
    return Logs(sizes, tokens, loss, np.repeat([1.0, 0.0], [len(runs.loss), spare]), centres)


def grid(form: Form) -> Float[np.ndarray, "S 6"]:
    """The starts: 4,500 as in the paper, by the shares that the terms have of the mean loss at the mean run."""
    floors, outer = FLOORS if form.entropy is None else (0.0,), OUTER if form.outer else (1.0,)
    return np.array(list(itertools.product(TERMS, TERMS, floors, SLOPES, SLOPES, np.log(outer))))


def huber(point: Point, logs: Logs, form: Form) -> Float[Array, " R"]:
    """The Huber loss of each run's log L, divided by DELTA."""
    return optax.huber_loss(predict(point, logs, form), logs.loss, delta=DELTA) / DELTA


def predict(point: Point, logs: Logs, form: Form) -> Float[Array, " R"]:
    """Each run's log L, less the mean of what was measured, by log-sum-exp of the three terms."""
    log_a, log_b, log_e, alpha, beta, log_outer = point
    terms = jnp.logaddexp(log_a - alpha * logs.parameters, log_b - beta * logs.tokens)
    if form.outer:
        terms *= jnp.exp(log_outer)
    if form.entropy is not None:
        log_e = jnp.log(form.entropy) - logs.centres[2]
    return terms if form.entropy == 0 else jnp.logaddexp(terms, log_e)


def _whole_sample(logs: Logs, form: Form, stop: Stop) -> tuple[Float[np.ndarray, "K 6"], Float[np.ndarray, " K"]]:
    """Where L-BFGS ends from the best starts of the grid, and the summed Huber loss / DELTA there."""
    starts = grid(form)
    best = np.argsort(_huber_of_each(starts, logs, form) @ logs.weights)[:POLISHED]
    return _descend(starts[best], logs.weights, logs, form, stop)


def _huber_of_each(points: Float[np.ndarray, "S 6"], logs: Logs, form: Form) -> Float[np.ndarray, "S R"]:
    with jax.enable_x64(True):
        return np.asarray(_huber_at(points, logs, form))


@functools.partial(jax.jit, static_argnums=2)
def _huber_at(points, logs, form):
    return jax.vmap(lambda point: huber(point, logs, form))(points)


def _descend(
    starts: Float[np.ndarray, "*S 6"], weights: Float[np.ndarray, "*#S R"], logs: Logs, form: Form, stop: Stop
) -> tuple[Float[np.ndarray, "*S 6"], Float[np.ndarray, " *S"]]:
    """Where L-BFGS ends from each start, under the weights of the runs there, and the weighted Huber loss / DELTA."""
    shape = starts.shape[:-1]
    of_each = np.broadcast_to(weights, (*shape, weights.shape[-1])).reshape(-1, weights.shape[-1])
    with jax.enable_x64(True):
        ends, objectives = _descend_all(starts.reshape(-1, starts.shape[-1]), of_each, logs, form, stop)
    return np.asarray(ends).reshape(starts.shape), np.asarray(objectives).reshape(shape)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _descend_all(starts, weights, logs, form, stop):
    def from_one(start_and_weights):
        start, of_runs = start_and_weights
        return _lbfgs(lambda point: (huber(point, logs, form) * of_runs).sum(), start, stop)

    return jax.lax.map(from_one, (starts, weights), batch_size=AT_ONCE)


def _lbfgs(function: Callable[[Point], Float[Array, ""]], start: Point, stop: Stop) -> tuple[Point, Float[Array, ""]]:
    """Where L-BFGS with a zoom line search ends, and the function's value there."""
    optimizer = optax.lbfgs()
    value_and_gradient = optax.value_and_grad_from_state(function)

    def step(carry):
        point, state, before, _, _, number = carry
        value, gradient = value_and_gradient(point, state=state)
        updates, state = optimizer.update(gradient, state, point, value=value, grad=gradient, value_fn=function)
        return optax.apply_updates(point, updates), state, value, before - value, jnp.abs(gradient).max(), number + 1

    def unfinished(carry):
        *_, fall, steepness, number = carry
        return (number < 2) | ((number < STEPS) & (steepness > stop.gradient) & (fall > stop.fall))

    infinite = jnp.asarray(jnp.inf)
    point, *_ = jax.lax.while_loop(
        unfinished, step, (start, optimizer.init(start), infinite, infinite, infinite, jnp.asarray(0))
    )
    return point, function(point)


def _law(point: Float[np.ndarray, "*S 6"], logs: Logs, form: Form) -> Law:
    """The law of a point, in the units of the runs."""
    log_a, log_b, log_e, alpha, beta, log_outer = np.moveaxis(point, -1, 0)
    size, tokens, loss = logs.centres
    outer = np.exp(log_outer)
    return Law(
        np.exp(log_e + loss) if form.entropy is None else np.full_like(log_e, form.entropy),
        np.exp(log_a + loss / outer + alpha * size),
        np.exp(log_b + loss / outer + beta * tokens),
        alpha,
        beta,
        outer,
    )
