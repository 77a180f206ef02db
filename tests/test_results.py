"""The table that is generated from recorded rows, away from the toys of test_figures."""

import importlib
from pathlib import Path

import pandas as pd

from figures import __main__ as command
from figures import claims

ROOT = Path(__file__).parents[1]


def test_results_are_those_of_the_recorded_rows():
    modules = command.load([])
    assert (ROOT / "RESULTS.md").read_text() == claims.results(modules), "run python -m figures --results"
    readme = (ROOT / "README.md").read_text()
    assert readme == claims.with_headlines(readme, modules), "run python -m figures --results"


def test_a_claim_that_fails_is_said_to_fail():
    module = importlib.import_module("figures.fig_concept_posterior")
    rows = pd.DataFrame(
        [("exact Bayes", 1, "posterior", 0.3, 0.1), ("transformer", 0, "mean_excess", 0.5, 0.1)],
        columns=["model", "position", "quantity", "value", "half_width"],
    )
    assert [claim.verdict for claim in module.claims(rows)] == ["fails", "fails"]


def test_published_values_say_where_they_come_from():
    for path in (ROOT / "figures" / "paper_values").glob("*.csv"):
        table = pd.read_csv(path)
        assert table.source.notna().all() and table.kind.isin(["quoted", "digitised"]).all()
