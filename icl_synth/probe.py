"""Linear probes: how much activations tell about a distribution, such as the posterior over concepts."""

import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Float, Int

from icl_synth import checkpoints, checks

ITERATIONS = 2000  # at most, of L-BFGS
SMALL = 1e-4  # the largest entry of the gradient at which the search stops


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
    """The probe that minimises cross-entropy to the targets plus ridge / 2 times the sum of its squared weights.

    Each target is a distribution over K outcomes. The problem is convex, so that the optimum does not depend on the
    start. Features are standardised first; those of zero variance are only centred. Warns where the gradient is
    not close to zero at the end. Raises ValueError for no rows, for unequal numbers of rows, for features that are not
    finite, for targets that are no distributions, and for a ridge that is negative or not finite.
    """
    checks.at_least(1, rows=len(features))
    if not np.isfinite(features).all():
        raise ValueError("features must be finite")
    checks.distributions("targets", targets, (-1,))
    if len(features) != len(targets):
        raise ValueError(f"{len(features)} rows of features and {len(targets)} of targets: the numbers must agree")
    checks.within(0, float(np.finfo(np.float32).max), ridge=ridge)
    mean, spread = features.mean(0), features.std(0)
    scale = np.where(spread > 0, spread, 1.0).astype(np.float32)
    standard = jnp.asarray((features - mean) / scale, jnp.float32)
    distributions = jnp.asarray(targets, jnp.float32)
    shape = (features.shape[1] + 1, targets.shape[1])

    def value_and_gradient(flat):
        both = jnp.asarray(flat.reshape(shape), jnp.float32)
        value, gradient = _value_and_gradient(both, standard, distributions, jnp.float32(ridge))
        return float(value), np.asarray(gradient, np.float64).ravel()

    result = scipy.optimize.minimize(
        value_and_gradient, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B",
        options={"maxiter": ITERATIONS, "ftol": 0.0, "gtol": SMALL},
    )  # fmt: skip
    steepest = np.abs(result.jac).max()
    if not steepest <= 10 * SMALL:
        warnings.warn(f"the probe is not at its optimum: its gradient is {steepest:.1e}", stacklevel=2)
    weights_and_bias = result.x.reshape(shape).astype(np.float32)
    return Probe(mean, scale, weights_and_bias[:-1], weights_and_bias[-1])


@jax.jit
@jax.value_and_grad
def _value_and_gradient(both, features, targets, ridge):
    log_probs = jax.nn.log_softmax(jnp.matmul(features, both[:-1], precision="highest") + both[-1])
    return -(targets * log_probs).sum(-1).mean() + 0.5 * ridge * jnp.square(both[:-1]).sum()


def stages(model: checkpoints.Model, tokens: Int[Array | np.ndarray, "B L"]) -> list[Float[Array, "B L D"]]:
    """The embedding, then the residual stream of a transformer, or the states of an LSTM, after every layer.

    Raises ValueError for tokens outside the model's vocabulary or longer than a transformer's context.
    """
    activations = [model.embed(tokens)]
    for index in range(model.config.depth):
        activations.append(model.stage(index, activations[-1]))
    return activations
