"""A claim with our number beside the paper's, and the rules by which it is judged."""

import math
from typing import Literal, NamedTuple

from icl_synth.evaluate import Estimate

Verdict = Literal["holds", "partly", "fails", "not found"]
VERDICTS: tuple[Verdict, ...] = ("holds", "partly", "fails", "not found")


class Claim(NamedTuple):
    """What is claimed, the published number and its place, our number with its interval, and a verdict."""

    claim: str
    paper: str
    ours: str
    verdict: Verdict
    headline: bool = False  # whether README shows it


def judged(holds: bool, partly: bool = False) -> Verdict:
    return "holds" if holds else "partly" if partly else "fails"


def above(high: Estimate, low: Estimate) -> Verdict:
    """Holds where the 95 % intervals do not overlap, partly where only the means have the claimed order."""
    return judged(high.mean - high.half_width > low.mean + low.half_width, high.mean > low.mean)


def positive(difference: Estimate) -> Verdict:
    """Holds where the whole 95 % interval of a paired difference is above zero, partly where the mean is."""
    return judged(difference.mean > difference.half_width, difference.mean > 0)


def no_more(gain: Estimate, margin: float) -> Verdict:
    """Of a claim that nothing is gained: holds where the whole 95 % interval is below the margin, partly where the mean
    is. An interval too wide to tell never holds."""
    return judged(gain.mean + gain.half_width <= margin, gain.mean <= margin)


def near_zero(gain: Estimate, margin: float) -> Verdict:
    """Of a claim that two things are worth the same: holds where the whole 95 % interval of their difference lies
    within the margin on either side of zero, partly where the mean does."""
    return judged(abs(gain.mean) + gain.half_width <= margin, abs(gain.mean) <= margin)


def difference(high: Estimate, low: Estimate) -> Estimate:
    """high - low, of two that are not paired."""
    return Estimate(high.mean - low.mean, math.hypot(high.half_width, low.half_width))


def show(value: Estimate, digits: int = 1) -> str:
    return f"{value.mean:.{digits}f} ± {value.half_width:.{digits}f}"
