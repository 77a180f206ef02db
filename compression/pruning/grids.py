"""Integer grids for joint quantisation: one scale and zero point for each row of a weight matrix."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compression.pruning.problem import check_weight


class Grid(NamedTuple):
    """The values scale * (n - zero), n = 0..levels - 1, of each row; 0 is always one of them."""

    scale: Float[Array, " O"]
    zero: Float[Array, " O"]
    levels: int

    def nearest(self, x: Float[Array, "*B O"]) -> Float[Array, "*B O"]:
        """Return the closest grid value of each entry, halves to even. The last axis of x runs over the rows."""
        level = jnp.clip(jnp.round(x / self.scale) + self.zero, 0, self.levels - 1)
        return self.scale * (level - self.zero)


def row_grid(weight: Float[Array | np.ndarray, "O I"], bits: int) -> Grid:
    """Fit the asymmetric min-max grid of 2**bits levels to each row, as the public SparseGPT and GPTQ code does.

    Raises ValueError for bits outside 2..8, NaN or Inf, and a weight that is empty or no matrix.
    """
    check_bits(bits)
    weight = check_weight(weight)
    low, high = jnp.minimum(weight.min(1), 0.0), jnp.maximum(weight.max(1), 0.0)
    empty = high - low < jnp.finfo(jnp.float32).tiny * 2**bits  # the step would not be a normal number
    low, high = jnp.where(empty, -1.0, low), jnp.where(empty, 1.0, high)
    steps, span = 2**bits - 1, high - low
    # where -low = high this is a tie, which low / scale would break by chance: the division by the step is inexact
    return Grid(span / steps, jnp.round(-low / span * steps), 2**bits)


def check_bits(bits: int) -> None:
    """Raise ValueError for bits outside 2..8."""
    if bits not in range(2, 9):
        raise ValueError(f"bits must be 2 to 8, or None for no quantisation, got {bits}")
