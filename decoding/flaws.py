"""Logits that no token can be chosen from: noted inside the compiled loop, raised after it.

An argmax or a draw over NaN answers some token without a word. The largest logit tells: it is NaN if any is, +inf if
any is, and -inf only if all are. That some tokens have -inf is legitimate: they are impossible.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from decoding.sampling import Sampling

SEEN = {"nan": "hold NaN", "inf": "reach +inf", "-inf": "are all -inf"}


class Flaws(NamedTuple):
    """The first flawed logits of each row."""

    largest: Float[Array, "B"]  # of those logits, NaN or infinite; 0 for a row without a flaw
    read: Int[Array, "B"]  # tokens that had been read

    @property
    def any(self) -> Bool[Array, "B"]:
        return ~jnp.isfinite(self.largest)


def none(batch: int) -> Flaws:
    """No flaws so far."""
    return Flaws(jnp.zeros(batch, jnp.float32), jnp.zeros(batch, jnp.int32))


def note(
    flaws: Flaws, logits: Float[Array, "B W V"], how: Sampling, read: Int[Array, "B"], used: Bool[Array, "B W"]
) -> Flaws:
    """Add the first flaw among the logits that were used; those at place w follow read + w tokens."""
    largest = logits.max(-1).astype(jnp.float32)
    if not how.greedy:
        largest /= how.temperature  # tokens are drawn from this quotient, and it may overflow
    flawed = used & ~jnp.isfinite(largest)
    place = flawed.argmax(1).astype(jnp.int32)
    new = flawed.any(1) & ~flaws.any
    largest = jnp.take_along_axis(largest, place[:, None], axis=1)[:, 0]
    return Flaws(jnp.where(new, largest, flaws.largest), jnp.where(new, read + place, flaws.read))


def refuse(found: dict[str, Flaws], how: Sampling) -> None:
    """Raise ValueError for the first flaw: whose logits, in which row, after how many tokens, and what was seen."""
    for name, flaws in found.items():
        largest = np.asarray(flaws.largest)
        rows = np.flatnonzero(~np.isfinite(largest))
        if len(rows):
            row = int(rows[0])
            at = "" if how.greedy else f" at temperature {float(how.temperature):g}"
            raise ValueError(
                f"the {name}'s logits after {int(flaws.read[row])} tokens of row {row} {SEEN[str(largest[row])]}{at}: "
                "no token can be chosen from them; check its weights"
            )
