"""Lines through what several runs measured on the same prompts or documents, for N values that keep their interval."""

import numpy as np
from jaxtyping import Float

LEAST = 1e-6  # what is not positive has no logarithm


def slope(x: Float[np.ndarray, " X"], values: Float[np.ndarray, "X N"]) -> Float[np.ndarray, " N"]:
    """The least-squares slope on x of each of N columns; their mean is the slope of the means.

    Raises ValueError where all x are the same.
    """
    centred = x - x.mean()
    if not centred.any():
        raise ValueError(f"a slope needs two different x, got {x}")
    return centred @ values / (centred**2).sum()


def extrapolated(x: Float[np.ndarray, " X"], values: Float[np.ndarray, "X N"], at: float) -> Float[np.ndarray, " N"]:
    """What a line through the logarithms of X means predicts at another x.

    N values whose mean is the number predicted and whose spread gives its interval (delta method).
    """
    centred, means = x - x.mean(), np.maximum(values.mean(1), LEAST)
    weights = 1 / len(x) + (at - x.mean()) * centred / (centred**2).sum()
    predicted = np.exp(weights @ np.log(means))
    return predicted * (1 + weights @ ((values - values.mean(1, keepdims=True)) / means[:, None]))
