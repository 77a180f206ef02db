"""Intervals over seeds and prompts, by hand and by simulation."""

import math
import runpy

import numpy as np
import pytest
import scipy.stats

from icl_synth import estimates
from icl_synth.estimates import Estimate, Z, estimate, over_seeds, ratio_of_means

UNCHECKED = runpy.run_path(estimates.__file__)["estimate"]  # a simulation calls it often: without checks of types
T5 = scipy.stats.t.ppf(0.975, 5)


def test_an_interval_by_hand():
    """Two seeds, two prompts: 0, 4 and 2, 10. The seeds' means are 2 and 6, the prompts' 1 and 7.

    Over prompts of the mean over seeds: variance 18, squared standard error 9; of each seed alone: 4 and 16, on average
    10. A seed's own way with a prompt is therefore (10 - 9) / (2 - 1) = 1 of the seeds' squared standard error 8 / 2;
    3 remain. t of one degree of freedom is 12.7062 at 97.5 %.
    """
    mean, half_width, df = estimate(np.array([[0, 4], [2, 10]]))
    assert mean == 4
    assert half_width == pytest.approx((12.7062**2 * 3 + 1.959964**2 * 9) ** 0.5, rel=1e-5)
    assert df == pytest.approx((3 + 9) ** 2 / 3**2)


def test_of_one_seed_or_one_prompt_the_other_alone_counts():
    assert estimate(np.array([0, 4])) == pytest.approx((2, Z * 2, math.inf))
    assert estimate(np.array([[2], [3]])) == pytest.approx((2.5, 6.3531, 1), rel=1e-5)
    assert estimate(np.array([7])) == Estimate(7, 0)


def test_the_same_interval_from_each_seed_and_from_all_values():
    values = np.random.default_rng(0).normal(size=(5, 40)) + np.arange(5)[:, None]
    of_each, of_mean = values.var(1, ddof=1) / 40, values.mean(0).var(ddof=1) / 40
    assert over_seeds(values.mean(1), of_each, of_mean) == pytest.approx(estimate(values), rel=1e-12)


def test_the_parts_are_those_of_the_analysis_of_variance():
    """What is taken off the seeds' variance is the mean square of the interaction over all values."""
    values = np.random.default_rng(1).normal(size=(6, 30)) + 3 * np.arange(6)[:, None]
    residual = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    interaction = (residual**2).sum() / (5 * 29) / (6 * 30)
    seeds = values.mean(1).var(ddof=1) / 6 - interaction
    assert estimate(values).half_width == pytest.approx(
        np.hypot(T5 * seeds**0.5, Z * values.mean(0).std(ddof=1) / 30**0.5)
    )


@pytest.mark.parametrize("seeds", [3, 6])
@pytest.mark.parametrize(
    ("by_seed", "by_prompt", "own_way"), [(1, 0, 0.1), (1, 5, 5), (1, 10, 10), (0.3, 10, 20), (0, 10, 10), (0, 1, 20)]
)
def test_intervals_cover_the_truth_95_times_in_100(seeds, by_seed, by_prompt, own_way):
    """2,000 data sets of 100 prompts, from seeds that differ much to seeds that differ only in their own way."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(2000):
        values = rng.normal(0, by_seed, (seeds, 1)) + rng.normal(0, by_prompt, 100)
        mean, half_width, _ = UNCHECKED(values + rng.normal(0, own_way, (seeds, 100)))
        covered += abs(mean) <= half_width
    assert 0.93 <= covered / 2000 <= 0.97


@pytest.mark.parametrize("seeds", [3, 6])
def test_intervals_of_accuracies_cover(seeds):
    """Right or wrong answers: prompts are hard or easy, seeds a little better or worse."""
    rng, covered, truth = np.random.default_rng(2), 0, 0.75
    for _ in range(2000):
        chance = rng.choice([0.55, 0.95], 200) + rng.normal(0, 0.02, (seeds, 1))
        mean, half_width, _ = UNCHECKED(rng.random((seeds, 200)) < chance)
        covered += abs(mean - truth) <= half_width
    assert 0.93 <= covered / 2000 <= 0.97


def test_a_ratio_of_means_has_the_spread_of_the_delta_method():
    now, before = np.array([1, 0, 1, 0]), np.array([1, 1, 0, 1])
    values = ratio_of_means(now, before)
    assert values.mean() == pytest.approx((2 / 4) / (3 / 4))
    np.testing.assert_allclose(values, 2 / 3 + (now - 2 / 3 * before) / 0.75)
    assert ratio_of_means(now, 0 * before).mean() == pytest.approx(0.5 / 0.25)  # none counts as one of four
    short = ratio_of_means(1e-3 * now, 1e-3 * before)  # as of seconds, whose unit changes no ratio
    assert short == pytest.approx(values)
