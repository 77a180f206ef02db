"""The rule of verdicts, at every boundary: the whole interval decides, parts join, own questions are corrected."""

import numpy as np
import pytest
import scipy.stats

from figures.lab.claims import (
    Claim,
    Finding,
    at_least,
    between,
    corrected,
    difference,
    exactly,
    near_zero,
    no_more,
    positive,
)
from figures.lab.report import origin
from icl_synth.estimates import Estimate, estimate


@pytest.mark.parametrize(
    ("statement", "mean", "half_width", "verdict"),
    [
        (positive, 1.1, 1.0, "holds"),
        (positive, 1.0, 1.0, "inconclusive"),
        (positive, -0.9, 1.0, "inconclusive"),
        (positive, -1.0, 1.0, "fails"),
        (positive, 0.0, 0.0, "fails"),
        (lambda value: no_more(value, 2.0), 1.0, 1.0, "holds"),
        (lambda value: no_more(value, 2.0), 1.0, 1.1, "inconclusive"),
        (lambda value: no_more(value, 2.0), 3.0, 1.0, "inconclusive"),
        (lambda value: no_more(value, 2.0), 3.1, 1.0, "fails"),
        (lambda value: no_more(value, 2.0), 2.0, 0.0, "holds"),
        (lambda value: at_least(value, 2.0), 3.0, 1.0, "holds"),
        (lambda value: at_least(value, 2.0), 2.0, 40.0, "inconclusive"),
        (lambda value: at_least(value, 2.0), 0.9, 1.0, "fails"),
        (lambda value: near_zero(value, 2.0), -1.0, 1.0, "holds"),
        (lambda value: near_zero(value, 2.0), 0.0, 40.0, "inconclusive"),
        (lambda value: near_zero(value, 2.0), -3.1, 1.0, "fails"),
        (lambda value: between(value, 3.0, 16.0), 15.0, 1.0, "holds"),
        (lambda value: between(value, 3.0, 16.0), 15.5, 1.0, "inconclusive"),
        (lambda value: between(value, 3.0, 16.0), 17.5, 1.0, "fails"),
    ],
)
def test_the_whole_interval_decides(statement, mean, half_width, verdict):
    assert statement(Estimate(mean, half_width)).verdict == verdict


def test_a_verdict_turns_at_the_level_of_its_interval():
    """The interval of level 1 - p ends where the statement turns: by hand, 1.5 standard errors from it."""
    normal = positive(Estimate(1.5, scipy.stats.norm.ppf(0.975)))
    assert normal.p == pytest.approx(2 * scipy.stats.norm.sf(1.5))
    of_two = no_more(Estimate(0.5, scipy.stats.t.ppf(0.975, 2), df=2), 2.0)
    assert of_two.p == pytest.approx(2 * scipy.stats.t.sf(1.5, 2))
    for value in (Estimate(1.0001, 1.0, 5), Estimate(0.9999, 1.0, 5)):
        assert (positive(value).p < 0.05) == (positive(value).verdict == "holds")
    assert exactly(True) == Finding("holds", 0.0) and exactly(False) == Finding("fails", 0.0)


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ("h", "holds"),
        ("f", "fails"),
        ("i", "inconclusive"),
        ("hh", "holds"),
        ("hf", "partly"),
        ("hi", "partly"),
        ("hif", "partly"),
        ("fi", "fails"),
        ("ff", "fails"),
        ("ii", "inconclusive"),
        ("", "not judged"),
    ],
)
def test_parts_make_a_verdict(parts, verdict):
    words = {"h": "holds", "f": "fails", "i": "inconclusive"}
    assert Claim("a", "b", "c", [Finding(words[part], 0.01) for part in parts]).verdict == verdict


def test_own_questions_are_corrected_by_holm_and_claims_of_papers_are_not():
    """Holm by hand: of p = .01, .02, .04 the first is tripled, the second doubled, the third left as it is."""
    found = [Finding("holds", 0.04), Finding("fails", 0.01), Finding("holds", 0.02)]
    claims = [Claim("own", "", "", found[:2], own=True), Claim("paper", "", "", [Finding("holds", 0.04)]),
              Claim("own", "", "", found[2:], own=True)]  # fmt: skip
    first, paper, last = corrected(claims)
    assert [finding.p for finding in (*first.findings, *last.findings)] == pytest.approx([0.04, 0.03, 0.04])
    assert paper == claims[1]
    assert [claim.verdict for claim in corrected(claims)] == ["partly", "holds", "holds"]
    assert [claim.verdict for claim in corrected([*claims, *claims])] == ["inconclusive", "holds", "inconclusive"] * 2
    assert corrected([paper]) == [paper]


def test_a_difference_has_both_intervals_and_welchs_degrees_of_freedom():
    value = difference(Estimate(5.0, 3.0), Estimate(1.0, 4.0))
    assert value == Estimate(4.0, 5.0)
    high, low = (np.random.default_rng(seed).normal(size=(6, 1)) * size for seed, size in ((0, 1), (1, 3)))
    welch = scipy.stats.ttest_ind(high[:, 0], low[:, 0], equal_var=False)
    assert difference(estimate(high), estimate(low)).df == pytest.approx(welch.df)


def test_seeds_are_counted_for_each_model():
    made = {"commit": "1234", "minutes": 1}
    models = [{"model": "a", "seed": seed} | made for seed in (0, 1, 2)] + [{"model": "b", "seed": 0} | made]
    known = {"minutes": 4, "device": "a machine", "date": "a day", "commit": "1234", "models": models}
    assert origin(known) == "1 to 3 seeds, 8 min, a machine, a day, commit 1234"
    assert origin(known | {"models": models[:3]}) == "3 seeds, 7 min, a machine, a day, commit 1234"
    worlds = [{"model": f"4 concepts, world {seed + 1}", "seed": seed} | made for seed in (0, 1)]
    assert origin(known | {"models": worlds}) == "2 seeds, 6 min, a machine, a day, commit 1234"
    assert origin(known | {"models": []}) == "4 min, a machine, a day, commit 1234"
