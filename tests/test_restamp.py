"""Rows are taken for today's only where today's code was shown to compute the same."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest

from figures import record, restamp

ROWS = pd.DataFrame({"quantity": ["loss", "seconds"], "value": [0.1, 2.0], "half_width": [float("nan"), 0.0]})


@pytest.mark.parametrize(
    ("named", "value", "stamped"), [([], 2.0, True), ([], 3.0, False), (["fig_a"], 3.0, True)]
)  # fmt: skip
def test_rows_are_stamped_where_they_are_equal_or_named(named, value, stamped, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "OUT", tmp_path / "out")
    for name in ("MODULES", "importlib", "rows_hash", "commit"):
        fakes = {"MODULES": ["fig_a"], "importlib": SimpleNamespace(import_module=lambda _: None)}
        monkeypatch.setattr(restamp, name, fakes.get(name, lambda *_: "today's"))
    monkeypatch.setattr(record, "state", lambda *_: "fresh")
    before = tmp_path / "before"
    for folder, rows in ((before, ROWS), (record.directory("quick"), ROWS.assign(value=[0.1, value]))):
        folder.mkdir(parents=True)
        rows.to_csv(folder / "fig_a.csv", index=False)
    record.write("fig_a", "small", {"commit": "an old one", "sources": "old"})
    monkeypatch.setattr("sys.argv", ["restamp", str(before), *named])
    restamp.main()
    known = json.loads((record.directory("small") / "fig_a.json").read_text())
    assert known["commit"] == "an old one" and known["sources"] == ("today's" if stamped else "old")
    differs = [] if value == 2.0 else ["seconds"]
    assert known.get("checked") == ({"commit": "today's", "differs": differs} if stamped else None)
    assert ("differs in seconds" if differs else "equal") in capsys.readouterr().out


def test_other_columns_or_rows_differ():
    assert restamp.differences(ROWS, ROWS) == []
    assert restamp.differences(ROWS, ROWS.iloc[:1]) == restamp.differences(ROWS, ROWS.drop(columns="value")) != []
    assert restamp.differences(ROWS.drop(columns="quantity"), ROWS.drop(columns="quantity") * 2) == ["value"]
