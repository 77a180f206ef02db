"""Linear probes: how much of a distribution, such as the posterior over concepts, can be read off activations."""

import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float, Int

from icl_synth import checkpoints, checks

ITERATIONS, SMALL = 2000, 1e-4  # steps of the search at most; the largest gradient it may end with


class Probe(NamedTuple):
    """softmax(((x - mean) / scale) @ weights + bias) over K outcomes."""

    mean: Float[np.ndarray, " D"]
    scale: Float[np.ndarray, " D"]
    weights: Float[np.ndarray, "D K"]
    bias: Float[np.ndarray, " K"]

    def log_probs(self, features: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N K"]:
        """Log-probability of each outcome, nats."""
        logits = (features - self.mean) / self.scale @ self.weights + self.bias
        return np.asarray(jax.nn.log_softmax(logits))


def fit(features: Float[np.ndarray, "N D"], targets: Float[np.ndarray, "M K"], ridge: float) -> Probe:
    """The probe of least cross-entropy to the targets, each a distribution, plus ridge / 2 times its squared weights.

    Convex, so the optimum does not depend on where the search starts; features are standardised first, and those of
    a variance of exactly zero are left as they are. Warns where the search ends before the gradient is all but zero.
    Raises ValueError for no rows or numbers of them that differ, features that are not finite, targets that are no
    distributions, and a ridge that is negative or not finite.
    """
    checks.at_least(1, rows=len(features))
    if not np.isfinite(features).all():
        raise ValueError("features must be finite")
    checks.distributions("targets", targets, (-1,))
    if len(features) != len(targets):
        raise ValueError(f"{len(features)} rows of features and {len(targets)} of targets: one of each is needed")
    checks.within(0, float(np.finfo(np.float32).max), ridge=ridge)
    mean, spread = features.mean(0), features.std(0)
    scale = np.where(spread > 0, spread, 1.0).astype(np.float32)
    standard, shape = jnp.asarray((features - mean) / scale), (features.shape[1] + 1, targets.shape[1])

    def value_and_gradient(flat):
        value, gradient = _value_and_gradient(jnp.asarray(flat.reshape(shape), jnp.float32), standard, targets, ridge)
        return float(value), np.asarray(gradient, np.float64).ravel()

    found = scipy.optimize.minimize(
        value_and_gradient, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B",
        options={"maxiter": ITERATIONS, "ftol": 0.0, "gtol": SMALL},
    )  # fmt: skip
    steepest = np.abs(found.jac).max()
    if not steepest <= 10 * SMALL:
        warnings.warn(f"the probe is not at its optimum: a gradient of {steepest:.1e} is left", stacklevel=2)
    both = found.x.reshape(shape).astype(np.float32)
    return Probe(mean, scale, both[:-1], both[-1])


@jax.jit
@jax.value_and_grad
def _value_and_gradient(both, features, targets, ridge):
    log_probs = jax.nn.log_softmax(jnp.matmul(features, both[:-1], precision="highest") + both[-1])
    return -(targets * log_probs).sum(-1).mean() + 0.5 * ridge * jnp.square(both[:-1]).sum()


def stages(model: checkpoints.Model, tokens: Int[Array | np.ndarray, "B L"]) -> list[Float[Array, "B L D"]]:
    """A model's residual stream (a transformer's) or states (an LSTM's): the embedding, then after every layer."""
    found = [model.embed(tokens)]
    for index in range(model.config.depth):
        found.append(model.stage(index, found[-1]))
    return found
