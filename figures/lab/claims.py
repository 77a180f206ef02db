"""A claim with our number beside the paper's, and the one rule by which every claim is judged.

A statement about a number *holds* where the number's whole 95 % interval satisfies it and *fails* where the whole
interval contradicts it; what lies between is *inconclusive*. A claim of several parts holds where all
its parts do and *partly* where some do; where none does, it fails if some part fails.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import stdtr, stdtrit
from statsmodels.stats.multitest import multipletests

from icl_synth.estimates import Estimate

Verdict = Literal["holds", "partly", "inconclusive", "fails", "not judged"]
VERDICTS: tuple[Verdict, ...] = ("holds", "partly", "inconclusive", "fails", "not judged")
LEVEL = 0.05


class Finding(NamedTuple):
    """How a statement about one number comes out, and the level of the interval that just decides it."""

    verdict: Verdict
    p: float


def positive(value: Estimate) -> Finding:
    """That a number, often a paired difference, is above zero."""
    return _decided(value, value.mean - value.half_width > 0, value.mean + value.half_width <= 0, abs(value.mean))


def at_least(value: Estimate, margin: float) -> Finding:
    """That a number is no smaller than a margin."""
    return between(value, margin, math.inf)


def no_more(value: Estimate, margin: float) -> Finding:
    """That a number is no larger than a margin."""
    return between(value, -math.inf, margin)


def near_zero(value: Estimate, margin: float) -> Finding:
    """That two things are worth the same: that their difference lies within the margin on either side of zero."""
    return between(value, -margin, margin)


def between(value: Estimate, low: float, high: float) -> Finding:
    """That a number lies in a range whose ends count."""
    inside = min(value.mean - low, high - value.mean)  # negative outside
    return _decided(value, inside >= value.half_width, inside < -value.half_width, abs(inside))


def exactly(true: bool) -> Finding:
    """Of a statement about numbers without sampling error, such as an exact count or a bound for every input."""
    return Finding("holds" if true else "fails", 0.0)


def _decided(value: Estimate, holds: bool, fails: bool, distance: float) -> Finding:
    """`distance` is that from the value to the border at which the statement turns."""
    standard_error = value.half_width / stdtrit(value.df, 0.975)
    p = 2 * stdtr(value.df, -distance / standard_error) if standard_error else 0.0
    return Finding("holds" if holds else "fails" if fails else "inconclusive", float(p))


@dataclasses.dataclass(frozen=True)
class Claim:
    """What is claimed, the published number and its place, our number with its interval, and what was found."""

    claim: str
    paper: str
    ours: str
    findings: list[Finding]
    """One for each part of the claim; none where there is nothing to compare or the published number cannot be read
    in a public copy."""
    own: bool = False
    """Whether the question is ours: no paper makes the claim."""
    headline: bool = False
    """Whether it stands first in its subject of RESULTS."""

    @property
    def verdict(self) -> Verdict:
        found = {finding.verdict for finding in self.findings}
        if not found:
            return "not judged"
        if "holds" in found:
            return "holds" if len(found) == 1 else "partly"
        return "fails" if "fails" in found else "inconclusive"

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Its row in a table."""
        return self.claim, self.paper, self.ours, self.verdict


@dataclasses.dataclass(frozen=True)
class Registered(Claim):
    """A question of ours whose correction was registered beforehand."""

    own: bool = True
    family: str | None = None
    """The family that its findings are corrected in; None where they are not corrected."""


def family_of(claim: Claim) -> str | None:
    """All own questions of an experiment are one family unless it was registered otherwise. A paper's claims were not
    ours to choose and are in none."""
    if isinstance(claim, Registered):
        return claim.family
    return "own questions" if claim.own else None


def corrected(claims: list[Claim]) -> list[Claim]:
    """The claims of an experiment, each family of own questions corrected for being many (Holm 1979).

    What was decided at a level that Holm's step-down raises above 5 % is inconclusive.
    """
    raised = {}
    for family in {family_of(claim) for claim in claims} - {None}:
        levels = [finding.p for claim in claims if family_of(claim) == family for finding in claim.findings]
        raised[family] = iter(multipletests(levels, LEVEL, method="holm")[1] if levels else ())
    return [
        dataclasses.replace(claim, findings=[_at(finding, next(raised[family])) for finding in claim.findings])
        if (family := family_of(claim))
        else claim
        for claim in claims
    ]


def _at(finding: Finding, p: float) -> Finding:
    return Finding(finding.verdict if p <= LEVEL else "inconclusive", float(p))


def difference(high: Estimate, low: Estimate) -> Estimate:
    """high - low, of two that are not paired (degrees of freedom: Welch-Satterthwaite)."""
    parts = [
        ((value.half_width / stdtrit(value.df, 0.975)) ** 2, value.df) for value in (high, low) if value.half_width
    ]
    together = sum(variance for variance, _ in parts)
    inverse = sum(variance**2 / df for variance, df in parts)
    df = together**2 / inverse if inverse else math.inf
    return Estimate(high.mean - low.mean, math.hypot(high.half_width, low.half_width), df)


def show(value: Estimate, digits: int = 1) -> str:
    return f"{value.mean:.{digits}f} ± {value.half_width:.{digits}f}"


def nats(value: Estimate) -> str:
    """A loss, or a difference of two."""
    return show(value, 3)


def listed(values: Mapping[str, Estimate], digits: int = 1) -> str:
    """Values by name, for a claim of several parts."""
    return "; ".join(f"{name} {show(value, digits)}" for name, value in values.items())


def scaled(value: Estimate, by: float) -> Estimate:
    """A multiple of a value, with its interval."""
    return Estimate(by * value.mean, abs(by) * value.half_width, value.df)


def few_draws(values: Float[np.ndarray, " N"]) -> float:
    """The half width of the 95 % interval of a mean over few draws (Student's t)."""
    number = len(values)
    return float(stdtrit(number - 1, 0.975) * values.std(ddof=1) / number**0.5) if number > 1 else 0.0
