"""Means with 95 % intervals, over training seeds and over the prompts or documents that all seeds share."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import ndtri, stdtrit

Z = float(ndtri(0.975))  # half widths of 95 % intervals, in standard errors


class Estimate(NamedTuple):
    """A mean, the half width of its 95 % interval, and the interval's degrees of freedom."""

    mean: float
    half_width: float
    df: float = math.inf


def estimate(values: Shaped[np.ndarray, "*S N"]) -> Estimate:
    """Mean over S training seeds and N prompts or documents that all seeds share, with a 95 % interval.

    Seeds and prompts are both samples: see `over_seeds`. Raises ValueError for no values and for more axes than these
    two.
    """
    values = np.atleast_2d(np.asarray(values, np.float64))
    if values.ndim != 2 or not values.size:
        raise ValueError(f"values must be [seeds prompts] or [prompts], at least one, got shape {values.shape}")
    return over_seeds(values.mean(1), _squared_errors(values), float(_squared_errors(values.mean(0)[None])[0]))


def _squared_errors(values: Float[np.ndarray, "S N"]) -> Float[np.ndarray, " S"]:
    """Squared standard errors of the means over prompts; 0 for one prompt, which says nothing about it."""
    seeds, number = values.shape
    return values.var(1, ddof=1) / number if number > 1 else np.zeros(seeds)


def over_seeds(means: Float[np.ndarray, " S"], of_each: Float[np.ndarray, " S"], of_mean: float) -> Estimate:
    """The mean over S seeds with its 95 % interval, from each seed's mean over the prompts that all seeds share.

    `of_each` is the squared standard error over prompts of each seed's mean, `of_mean` that of the mean over seeds.
    A seed's mean differs from the others' because the models differ and because each answers the same prompts in its
    own way. The second is in `of_mean` already and is taken off the first: with V the variance of seeds' means and R
    that of a seed's own way with a prompt, Var = [V - R] / S (Student's t, S - 1 degrees of freedom) + `of_mean`, and R
    follows from the two squared errors as in the analysis of variance of two crossed factors. One seed says nothing
    about V, which then counts as 0.
    """
    seeds, spread = len(means), 0.0
    if seeds > 1:
        own_way = max(0.0, float(of_each.mean()) - of_mean) / (seeds - 1)
        spread = max(0.0, float(means.var(ddof=1)) / seeds - own_way)
    t = stdtrit(seeds - 1, 0.975) if spread else 0.0
    df = (spread + of_mean) ** 2 / spread**2 * (seeds - 1) if spread else math.inf  # Satterthwaite
    return Estimate(float(means.mean()), math.hypot(t * spread**0.5, Z * of_mean**0.5), df)


def ratio_of_means(now: Shaped[np.ndarray, " N"], before: Shaped[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """N values whose mean is now.mean() / before.mean() and whose spread gives its interval (delta method).

    A `before` of zeros, as of answers that are all wrong, counts as one case in N.
    """
    if not before.any():
        before = np.full(len(before), 1 / len(before))
    ratio = now.mean() / before.mean()
    return ratio + (now - ratio * before) / before.mean()
