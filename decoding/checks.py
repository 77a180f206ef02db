"""Early, plain errors about numbers and prompts; everything else is refused by icl_synth.checks."""

import math
import numbers
import operator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int


def whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """The value as an int. Raises ValueError, by name, for what is no whole number or out of range.

    Integers of NumPy and JAX are taken; floats and truth values are not, 3.0 and True among them.
    """
    try:
        number = None if isinstance(value, bool) or _has_dtype(value, np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        allowed = f", at least {least}" if most is None else f" from {least} to {most}"
        raise ValueError(f"{name} must be a whole number{allowed}, got {value!r}")
    return number


def real(name: str, value: Any, allowed: str, low: float = -math.inf, high: float = math.inf) -> float:
    """The value as a finite float in [low, high]. Raises ValueError, by name and with what is `allowed`, for another.

    Numbers of Python, NumPy and JAX are taken; strings, truth values and arrays with axes are not.
    """
    plain = isinstance(value, numbers.Real) and not isinstance(value, bool)
    scalar = getattr(value, "shape", None) == () and (_has_dtype(value, np.integer) or _has_dtype(value, np.floating))
    try:
        number = float(value) if plain or scalar else math.nan
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and low <= number <= high):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return number


def matrix(name: str, tokens: Int[Array | np.ndarray, "B L"]) -> Int[np.ndarray, "B L"]:
    """Texts as an array. Raises ValueError, by name, unless they are integers in at least one row and column."""
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or not tokens.size or not np.issubdtype(tokens.dtype, np.integer):
        raise ValueError(f"{name} must be integers of shape [batch, length], got {tokens.dtype}{tokens.shape}")
    return tokens


def _has_dtype(value: Any, kind: Any) -> bool:
    return hasattr(value, "dtype") and jnp.issubdtype(value.dtype, kind)
