"""Verdicts follow the numbers: recorded rows that are turned round turn the verdicts with them."""

import numpy as np
import pandas as pd
import pytest

from figures.lab import catalogue, record
from figures.lab.claims import above, difference, judged, near_zero, no_more, positive
from figures.lab.report import origin
from figures.learning import order
from icl_synth.evaluate import Estimate


def verdicts(name: str, rows: pd.DataFrame, beginning: str) -> list[str]:
    claims = catalogue.experiment(name).module.claims(rows)
    return [claim.verdict for claim in claims if claim.claim.startswith(beginning)]


@pytest.mark.parametrize(
    ("mean", "half_width", "verdict"),
    [(-3.0, 1.0, "holds"), (1.0, 1.0, "holds"), (1.0, 1.1, "partly"), (2.0, 40.0, "partly"), (2.1, 0.0, "fails")],
)
def test_that_nothing_is_gained_takes_the_whole_interval(mean, half_width, verdict):
    """An interval that is too wide to tell never holds."""
    assert no_more(Estimate(mean, half_width), 2.0) == verdict


@pytest.mark.parametrize(
    ("mean", "half_width", "verdict"),
    [(1.0, 1.0, "holds"), (-1.0, 1.0, "holds"), (-1.0, 1.1, "partly"), (0.0, 40.0, "partly"), (-2.1, 0.0, "fails")],
)
def test_worth_the_same_takes_the_whole_interval_on_either_side(mean, half_width, verdict):
    assert near_zero(Estimate(mean, half_width), 2.0) == verdict


@pytest.mark.parametrize(
    ("high", "low", "verdict"),
    [((5, 1), (2, 1), "holds"), ((5, 2), (2, 1), "partly"), ((2, 1), (2, 1), "fails"), ((1, 9), (2, 9), "fails")],
)
def test_one_is_above_the_other(high, low, verdict):
    assert above(Estimate(*map(float, high)), Estimate(*map(float, low))) == verdict


def test_a_difference_has_both_intervals():
    assert difference(Estimate(5.0, 3.0), Estimate(1.0, 4.0)) == Estimate(4.0, 5.0)
    assert [positive(Estimate(mean, 1.0)) for mean in (1.1, 1.0, 0.0)] == ["holds", "partly", "fails"]
    assert [judged(True, False), judged(False, True), judged(False)] == ["holds", "partly", "fails"]


def test_seeds_are_counted_for_each_model():
    made = {"commit": "1234", "minutes": 1}
    models = [{"model": "a", "seed": seed} | made for seed in (0, 1, 2)] + [{"model": "b", "seed": 0} | made]
    known = {"minutes": 4, "device": "a machine", "date": "a day", "commit": "1234", "models": models}
    assert origin(known) == "1 to 3 seeds, 8 min, a machine, a day, commit 1234"
    assert origin(known | {"models": models[:3]}) == "3 seeds, 7 min, a machine, a day, commit 1234"
    worlds = [{"model": f"4 concepts, world {seed + 1}", "seed": seed} | made for seed in (0, 1)]
    assert origin(known | {"models": worlds}) == "2 seeds, 6 min, a machine, a day, commit 1234"
    assert origin(known | {"models": []}) == "4 min, a machine, a day, commit 1234"


@pytest.mark.parametrize(
    ("name", "beginning", "turn"),
    [
        ("learning/accuracy", "transformer, k = 10: accuracy grows", lambda rows: 1 - rows.value),
        ("learning/accuracy", "transformer: accuracy grows with the length", lambda rows: 1 - rows.value),
        ("learning/concepts", "k = 5: with more concepts", lambda rows: 100 - rows.value),
        ("learning/probe", "transformer: a linear probe", lambda rows: rows.value.where(rows.kind != "trained", -1.0)),
        ("learning/aspects", "exact Bayes, k = 10: labels may be random", lambda rows: rows.value + 6),
        ("block_float/models", "transformer: mx9 is within", lambda rows: rows.value + 0.1),
        ("block_float/noise", "MX9 is about 3.6 dB", lambda rows: -rows.value),
        ("pruning/bits", "width 256: at 3 bits", lambda rows: -rows.value),
        ("assisted/speed", "large: 8 x 512, float32, sampled: assisted", lambda rows: rows.value / 4),
        ("assisted/batch", "assistance pays at small batches", lambda rows: 1 / rows.value),
    ],
)
def test_rows_turned_round_turn_the_verdict(name, beginning, turn):
    rows = record.read_rows(name, "small")
    recorded = verdicts(name, rows, beginning)
    assert recorded and set(recorded) <= {"holds", "partly"}
    assert "fails" in verdicts(name, rows.assign(value=np.asarray(turn(rows))), beginning)


def test_a_spread_of_orders_is_measured_on_inputs_that_did_not_choose_them():
    """Orders 0 and 2 are the worst and the best on even inputs, 1 and 0 on odd ones."""
    rows = pd.DataFrame(
        {"model": "a", "seed": 0, "set": 0, "value": [45.0, 35.0, 65.0], "even": [20.0, 50.0, 80.0],
         "odd": [70.0, 20.0, 50.0]}
    )  # fmt: skip
    assert order.spreads(rows, "a").tolist() == [30.0]
    assert order.held_out_spreads(rows, "a").tolist() == [((50 - 70) + (20 - 50)) / 2]
