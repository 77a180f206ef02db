"""An experiment on disk: provenance before the picture, what is stale and why, what is refused."""

import json
from types import SimpleNamespace
from typing import NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from figures import __main__ as command
from figures.lab import record, report
from figures.lab.catalogue import Experiment
from figures.lab.claims import Claim
from figures.lab.presets import Preset, Suite


class Sizes(NamedTuple):
    number: int


def compute(models, sizes):
    return pd.DataFrame({"quantity": ["x"], "value": [float(sizes.number)]})


def plot(rows):
    figure, panel = plt.subplots()
    panel.plot(rows.value)
    return figure


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """One that trains nothing, in a folder of its own."""
    monkeypatch.setattr(record, "OUT", tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    module = SimpleNamespace(
        __file__=__file__, TITLE="A test", DIFFERS="Nothing.", PUBLISHED=(), compute=compute, plot=plot,
        claims=lambda rows: [Claim("x is three", "3", f"{rows.value[0]:g}", "holds")],
    )  # fmt: skip
    presets = {"quick": Preset(Suite({}), Sizes(3)), "small": Preset(Suite({}), Sizes(4))}
    return Experiment("test/x", module, presets)


def files(experiment, preset="quick"):
    return sorted(path.suffix for path in record.directory(preset).glob(f"{experiment.name}.*"))


def test_from_rows_to_picture_and_nothing_twice(experiment, monkeypatch):
    assert record.state(experiment, "quick") == "missing"
    record.make(experiment, "quick", "a command")
    assert files(experiment) == [".csv", ".json", ".pdf", ".png"]
    assert record.state(experiment, "quick") == "fresh"
    monkeypatch.setattr(experiment.module, "compute", None)
    command.bring_up_to_date(experiment, "quick", "auto")


def test_a_fault_while_drawing_costs_no_rows(experiment, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(experiment.module, "plot", lambda rows: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            record.make(experiment, "quick", "a command")
    assert files(experiment) == [".csv", ".json"]
    assert record.state(experiment, "quick") == "to be drawn"
    monkeypatch.setattr(experiment.module, "compute", None)
    command.bring_up_to_date(experiment, "quick", "auto")
    assert record.state(experiment, "quick") == "fresh"


def test_stale_rows_say_what_changed(experiment, monkeypatch):
    record.make(experiment, "quick", "a command")
    asks_more = experiment._replace(presets={"quick": Preset(Suite({}), Sizes(5))})
    assert record.changes(asks_more, "quick") == ["what the preset asks"]
    path = record.file_of(experiment.name, "quick", ".json")
    known = json.loads(path.read_text())
    older = known | {"sources": {name: "0" for name in known["sources"]} | {"gone.py": "1"}, "commit": "abc1234"}
    path.write_text(json.dumps(older))
    assert record.changes(experiment, "quick") == sorted([*known["sources"], "gone.py"])
    assert record.state(experiment, "quick") == "stale"
    said = report.listing([experiment])
    assert "quick   stale" in said and "commit abc1234" in said and "changed since: gone.py" in said
    assert "gone.py" in "\n".join(report.freshness(experiment, "quick"))


def test_rows_that_were_edited_by_hand_are_stale(experiment):
    record.make(experiment, "quick", "a command")
    csv = record.file_of(experiment.name, "quick", ".csv")
    csv.write_text(csv.read_text().replace("3.0", "4.0"))
    assert record.state(experiment, "quick") == "stale"


def test_a_change_of_the_drawing_alone_draws_again(experiment, monkeypatch):
    record.make(experiment, "quick", "a command")
    monkeypatch.setattr(record, "drawing", lambda _: "another")
    assert record.state(experiment, "quick") == "to be drawn"


@pytest.mark.parametrize("at", ["abc1234+", "unknown"])
def test_small_is_recorded_from_committed_code_only(experiment, monkeypatch, at):
    monkeypatch.setattr(record, "commit", lambda: at)
    with pytest.raises(SystemExit, match="recorded from committed code only, and this tree is at"):
        record.make(experiment, "small", "a command")
    assert files(experiment, "small") == []
    record.make(experiment, "quick", "a command")
    monkeypatch.setattr(record, "commit", lambda: "abc1234")
    record.make(experiment, "small", "a command")
    assert record.read_provenance(experiment.name, "small")["commit"] == "abc1234"


def test_uncommitted_rows_and_models_are_shown_as_such():
    models = [{"model": "a", "seed": seed, "minutes": 1, "commit": "abc+" if seed else "abc"} for seed in range(3)]
    models.append({"model": "b", "seed": 0, "minutes": 2, "commit": "abc"})
    known = {"minutes": 4, "device": "a machine", "date": "today", "commit": "abc", "models": models}
    assert report.origin(known) == (
        "1 to 3 seeds, 9 min, a machine, today, commit abc; 2 of its 4 models come from uncommitted code"
    )
    assert report.origin(known | {"models": [], "commit": "abc+"}) == (
        "4 min, a machine, today, commit abc, with changes that were never committed"
    )
    worlds = [{"model": f"4 concepts, world {seed + 1}", "seed": seed, "minutes": 1, "commit": "a"} for seed in (0, 1)]
    assert report.origin(known | {"models": worlds}).startswith("2 seeds, 6 min")


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")
