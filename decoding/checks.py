"""Early, plain errors about texts and whole numbers; what else is refused is icl_synth.checks'."""

import operator
from typing import Any

import numpy as np
from jaxtyping import Array, Int


def whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number of whatever type as an int; ValueError, by name, for anything else and for one out of range."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        allowed = f", at least {least}" if most is None else f" from {least} to {most}"
        raise ValueError(f"{name} must be a whole number{allowed}, got {value}")
    return number


def matrix(name: str, tokens: Int[Array | np.ndarray, "B L"]) -> Int[np.ndarray, "B L"]:
    """Texts as an array; ValueError, by name, for what are not integers in one row or more of one length or more."""
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or not tokens.size or not np.issubdtype(tokens.dtype, np.integer):
        raise ValueError(f"{name} must be integers of shape [batch, length], got {tokens.dtype}{tokens.shape}")
    return tokens
