"""What is made of timings that took turns: rows of turns, speed-ups and their intervals."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from figures.lab.tables import pick
from icl_synth.estimates import Estimate, estimate, ratio_of_means


def of_turns(rows: pd.DataFrame, **where: object) -> Float[np.ndarray, " T"]:
    """What was measured in each turn of a timing, in order."""
    return pick(rows, **where).sort_values("turn").value.to_numpy(float)


def without(texts: Float[np.ndarray, " T"], firsts: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """Seconds of whole texts less those of their first tokens, which noise may make the longer."""
    return np.where(firsts < texts, texts - firsts, texts)


def mean_of(turns: Float[np.ndarray, " T"]) -> Estimate:
    """Mean over turns of a timing, with Student's interval."""
    return estimate(turns[:, None])


def faster(plain: Float[np.ndarray, " T"], assisted: Float[np.ndarray, " T"]) -> Estimate:
    """Speed-up: seconds of all turns over seconds of all turns, with its interval over turns."""
    return mean_of(ratio_of_means(plain, assisted))
