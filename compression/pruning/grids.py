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
        """The closest grid value of each entry, halves to even; the matrix's rows lie on the last axis here."""
        level = jnp.clip(jnp.round(x / self.scale) + self.zero, 0, self.levels - 1)
        return self.scale * (level - self.zero)


def row_grid(weight: Float[Array | np.ndarray, "O I"], bits: int) -> Grid:
    """The asymmetric min-max grid of 2**bits levels of each row, as in the public SparseGPT and GPTQ code.

    Raises ValueError for bits outside 2..8, NaN or Inf, and a weight that is empty or no matrix.
    """
    check_bits(bits)
    check_weight(weight)
    low, high = jnp.minimum(weight.min(1), 0.0), jnp.maximum(weight.max(1), 0.0)
    empty = low == high
    low, high = jnp.where(empty, -1.0, low), jnp.where(empty, 1.0, high)
    scale = (high - low) / (2**bits - 1)
    return Grid(scale, jnp.round(-low / scale), 2**bits)


def check_bits(bits: int) -> None:
    """Raise ValueError for bits that no grid here has."""
    if bits not in range(2, 9):
        raise ValueError(f"bits must be 2 to 8, or None for no quantisation, got {bits}")
