"""Verdicts follow the numbers: recorded rows that are turned round turn the verdicts with them."""

import importlib

import numpy as np
import pandas as pd
import pytest

from figures import record
from figures.claims import above, difference, judged, no_more, where
from icl_synth.evaluate import Estimate


def verdicts(name: str, rows: pd.DataFrame, beginning: str) -> list[str]:
    found = importlib.import_module(f"figures.{name}").claims(rows)
    return [claim.verdict for claim in found if claim.claim.startswith(beginning)]


@pytest.mark.parametrize(
    ("mean", "half_width", "verdict"),
    [(-3.0, 1.0, "holds"), (1.0, 1.0, "holds"), (1.0, 1.1, "partly"), (2.0, 40.0, "partly"), (2.1, 0.0, "fails")],
)
def test_that_nothing_is_gained_takes_the_whole_interval(mean, half_width, verdict):
    """An interval that is too wide to tell never holds."""
    assert no_more(Estimate(mean, half_width), 2.0) == verdict


@pytest.mark.parametrize(
    ("high", "low", "verdict"),
    [((5, 1), (2, 1), "holds"), ((5, 2), (2, 1), "partly"), ((2, 1), (2, 1), "fails"), ((1, 9), (2, 9), "fails")],
)
def test_one_is_above_the_other(high, low, verdict):
    assert above(Estimate(*map(float, high)), Estimate(*map(float, low))) == verdict


def test_a_difference_has_both_intervals():
    assert difference(Estimate(5.0, 3.0), Estimate(1.0, 4.0)) == Estimate(4.0, 5.0)
    assert [judged(True, False), judged(False, True), judged(False)] == ["holds", "partly", "fails"]


def test_seeds_are_counted_for_each_model():
    models = [{"model": "a", "seed": seed, "minutes": 1} for seed in (0, 1, 2)] + [
        {"model": "b", "seed": 0, "minutes": 2}
    ]
    known = {"preset": "small", "minutes": 4, "device": "a machine", "models": models}
    assert where(known) == "small, 1 to 3 seeds, 9 min, a machine"
    assert where(known | {"models": models[:3]}) == "small, 3 seeds, 7 min, a machine"
    worlds = [{"model": f"4 concepts, world {seed + 1}", "seed": seed, "minutes": 1} for seed in (0, 1)]
    assert where(known | {"models": worlds}) == "small, 2 seeds, 6 min, a machine"
    assert where(known | {"models": []}) == "small, 4 min, a machine"


@pytest.mark.parametrize(
    ("name", "beginning", "turn"),
    [
        ("fig_icl_accuracy", "transformer, k = 10: accuracy grows", {"accuracy": lambda rows: 1 - rows.accuracy}),
        (
            "fig_icl_accuracy",
            "transformer: accuracy grows with the length",
            {"accuracy": lambda rows: 1 - rows.accuracy},
        ),
        ("fig_icl_concepts", "k = 5: with more concepts", {"value": lambda rows: 100 - rows.value}),
        (
            "fig_icl_probe",
            "transformer: a linear probe",
            {"value": lambda rows: rows.value.where(rows.kind != "trained", -1.0)},
        ),
        ("fig_four_aspects", "exact Bayes, k = 10: labels may be random", {"value": lambda rows: rows.value + 6}),
        ("fig_block_models", "transformer: mx9 is within", {"value": lambda rows: rows.value + 0.1}),
        ("fig_block_noise", "MX9 is about 3.6 dB", {"value": lambda rows: -rows.value}),
        ("fig_pruning_bits", "width 256: at 3 bits", {"value": lambda rows: -rows.value}),
        ("fig_assisted_speed", "large: 8 x 512, float32, sampled: assisted", {"value": lambda rows: rows.value / 4}),
        ("fig_assisted_batch", "assistance pays at small batches", {"value": lambda rows: 1 / rows.value}),
    ],
)
def test_rows_turned_round_turn_the_verdict(name, beginning, turn):
    rows = record.read_rows(name, "small")
    assert set(verdicts(name, rows, beginning)) <= {"holds", "partly"}
    turned = rows.assign(**{column: np.asarray(change(rows)) for column, change in turn.items()})
    assert "fails" in verdicts(name, turned, beginning)


def test_a_spread_of_orders_is_measured_on_inputs_that_did_not_choose_them():
    """Orders 0 and 2 are the worst and the best on even inputs, 1 and 0 on odd ones."""
    rows = pd.DataFrame(
        {"model": "a", "seed": 0, "set": 0, "accuracy": [45.0, 35.0, 65.0], "even": [20.0, 50.0, 80.0],
         "odd": [70.0, 20.0, 50.0]}
    )  # fmt: skip
    order = importlib.import_module("figures.fig_icl_order")
    assert order.spreads(rows, "a").tolist() == [30.0]
    assert order.held_out_spreads(rows, "a").tolist() == [((50 - 70) + (20 - 50)) / 2]
