"""Early, plain errors about arguments. Traced values have no numbers yet and pass."""

import math
from typing import Any, Literal, get_args, get_origin, get_type_hints

import jax
import numpy as np
from jaxtyping import Array


def traced(*values: Any) -> bool:
    """Whether any value is a tracer, as inside jit."""
    return any(isinstance(value, jax.core.Tracer) for value in values)


def choices(config: Any, prefix: str) -> None:
    """Raise ValueError for a field of a dataclass that is none of the choices of its Literal."""
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise ValueError(f"{prefix}{name} must be one of {', '.join(get_args(hint))}, got {value!r}")


def at_least(least: int, **numbers: int) -> None:
    """Raise ValueError, by name, for a number below `least`."""
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")


def within(low: float | int, high: float | int, **numbers: Any) -> None:
    """Raise ValueError, by name, for a number outside [low, high], NaN among them."""
    for name, number in numbers.items():
        if not traced(number) and not low <= float(number) <= high:
            raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {float(number):g}")


def positive(**numbers: float | int) -> None:
    """Raise ValueError, by name, for a number that is not both positive and finite."""
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name} must be above 0 and finite, got {number}")


def seed(**numbers: int) -> None:
    """Raise ValueError, by name, for a seed that `jax.random.key` would refuse or cut to 32 bits."""
    for name, number in numbers.items():
        if not 0 <= number < 1 << 32:
            raise ValueError(f"{name} must lie in 0..{(1 << 32) - 1}, got {number}")


def tokens(given: Array | np.ndarray, vocab_size: int, name: str = "tokens") -> None:
    """Raise ValueError unless `given` holds tokens [B L] of the vocabulary: JAX would clamp other indices silently."""
    if given.ndim != 2 or not np.issubdtype(given.dtype, np.integer):
        raise ValueError(f"{name} must be integers [B L], got {given.dtype} of shape {given.shape}")
    if traced(given) or not given.size:
        return
    values = np.asarray(given)  # JAX would compile a minimum and a maximum for every shape
    if values.min() < 0 or values.max() >= vocab_size:
        raise ValueError(f"{name} must lie in 0..{vocab_size - 1}, got {values.min()}..{values.max()}")


def rows(given: Array | np.ndarray, length: Array) -> None:
    """Raise ValueError for tokens [B T] and a state of another number of rows."""
    if len(given) != len(length):
        raise ValueError(f"tokens have {len(given)} rows, the state {len(length)}: they must agree")


def distributions(name: str, given: Array | np.ndarray, axes: tuple[int, ...]) -> None:
    """Raise ValueError where numbers are negative or not finite, or do not sum to 1 over the axes (within .001)."""
    if traced(given):
        return
    values = np.asarray(given)
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise ValueError(f"{name} must hold probabilities, finite and not negative")
    sums = values.sum(axes)
    if np.abs(sums - 1).max(initial=0.0) > 1e-3:
        raise ValueError(f"{name} must sum to 1 over its distributions, got sums of {sums.min():g} to {sums.max():g}")
