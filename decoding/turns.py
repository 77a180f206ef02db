"""Timing works that are compared: they take turns, and every time is kept."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from decoding.compare import seconds_of


def every_time(turns: Sequence[Sequence[Callable[[], Any]]]) -> Float[np.ndarray, "T W"]:
    """Seconds of every work of every turn. The works of a turn run one after another, in every second turn backwards.

    Works at the same place differ from turn to turn by their texts, so that what spreads over turns is the texts' part
    and the machine's. The first turn's works run once before, untimed, since they may compile. Raises ValueError for
    no turn and for turns of different numbers of works.
    """
    numbers = {len(works) for works in turns}
    if len(numbers) != 1:
        raise ValueError(f"turns must be at least one, all of the same number of works, got {sorted(numbers)}")
    jax.block_until_ready([work() for work in turns[0]])
    seconds = np.zeros((len(turns), *numbers))
    for turn, works in enumerate(turns):
        places = range(len(works))
        for place in reversed(places) if turn % 2 else places:
            seconds[turn, place] = seconds_of(works[place])
    return seconds
