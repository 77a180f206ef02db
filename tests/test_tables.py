"""Tidy rows: one for each seed, and the same interval over seeds as `estimate` gives on all values."""

import numpy as np
import pandas as pd
import pytest

from figures.lab.tables import Table, only, over_seeds, pick, published
from icl_synth.estimates import Estimate, estimate

VALUES = np.random.default_rng(0).normal(size=(3, 40)) + np.array([[0.0], [0.5], [1.0]])


def of_three_seeds() -> pd.DataFrame:
    table = Table("model", "n")
    for seed, values in enumerate(VALUES):
        table.add("transformer", 4, seed=seed, values=values)
        table.add("transformer", 8, seed=seed, values=values + 1)
    table.add("exact Bayes", 4, values=VALUES[0])
    return table.rows()


def test_a_row_for_each_seed_with_its_own_interval():
    rows = pick(of_three_seeds(), model="transformer", n=4)
    assert rows.seed.tolist() == [0, 1, 2]
    for row, values in zip(rows.to_dict("records"), VALUES, strict=True):
        assert (row["value"], row["half_width"]) == pytest.approx(estimate(values)[:2], rel=1e-12)


def test_over_seeds_gives_the_interval_of_all_values(tmp_path):
    rows = of_three_seeds()
    rows.to_csv(tmp_path / "rows.csv", index=False)
    for table in (rows, pd.read_csv(tmp_path / "rows.csv")):
        together = over_seeds(table)
        assert list(together.columns) == ["model", "n", "value", "half_width", "df"]
        assert only(together, model="transformer", n=4) == pytest.approx(estimate(VALUES), rel=1e-12)
        assert only(together, model="exact Bayes", n=4) == pytest.approx(estimate(VALUES[0]), rel=1e-12)


def test_rows_recorded_without_seeds_are_taken_as_they_are():
    recorded = pd.DataFrame({"model": ["a"], "value": [1.0], "half_width": [0.5]})
    assert over_seeds(recorded) is recorded


def test_the_least_half_width_bounds_the_part_of_the_prompts():
    table = Table("model")
    table.add("perfect", values=np.ones(100), seed=0, least=0.03)
    table.add("perfect", values=np.ones(100), seed=1, least=0.03)
    rows = table.rows()
    assert rows.half_width.tolist() == [0.03, 0.03]
    assert only(over_seeds(rows), model="perfect") == Estimate(1.0, 0.03)


def test_what_does_not_fit_is_refused():
    table = Table("model", "n")
    table.add("a", 1, values=np.ones(3), seed=0)
    with pytest.raises(ValueError, match="1 labels"):
        table.add("a", values=np.ones(3))
    with pytest.raises(ValueError, match=r"seed 0 of .* is there already"):
        table.add("a", 1, values=np.ones(3), seed=0)
    table.add("a", 1, values=np.ones(4), seed=1)
    with pytest.raises(ValueError, match="different numbers of values"):
        table.rows()


def test_only_takes_exactly_one_row():
    rows = over_seeds(of_three_seeds())
    for where, number in (({"model": "transformer"}, 2), ({"model": "nobody"}, 0)):
        with pytest.raises(KeyError, match=f"{number} rows"):
            only(rows, **where)


def test_published_values_are_chosen_by_their_columns():
    chosen = published("xie2022_accuracy", vocab_size=50, model="LSTM", example_length=10, num_examples=64)
    assert chosen.accuracy_percent.tolist() == [95.776]
