"""An experiment on disk: provenance before the picture, what is stale and why, what is refused."""

import json
import subprocess
from types import SimpleNamespace
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from figures import __main__ as command
from figures.lab import record, report
from figures.lab.catalogue import Experiment
from figures.lab.claims import Claim, exactly
from figures.lab.presets import Preset, Suite
from figures.lab.tables import Table, join, only, over_seeds
from icl_synth import provenance


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
        claims=lambda rows: [Claim("x is three", "3", f"{rows.value[0]:g}", [exactly(rows.value[0] == 3)])],
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


def answers(seed: int) -> np.ndarray:
    """Of one seed to 200 prompts that all seeds are asked: hard and easy ones."""
    hard = np.random.default_rng(9).random(200) * 0.5
    return 100.0 * (np.random.default_rng(seed).random(200) > hard)


@pytest.fixture
def seeded(experiment, monkeypatch):
    """One whose rows are of three seeds of a model, and of one seed of a second."""

    def load(suite, precision):
        models = {name: [] for name in suite.models}
        for name, _, seed in suite.runs:
            about = {"model": name, "seed": seed, "minutes": 1, "commit": "abc"}
            models[name].append(SimpleNamespace(seed=seed, record=lambda about=about: about))
        return models

    def of_seeds(models, sizes):
        table = Table("model")
        for name, several in models.items():
            for run in several:
                table.add(name, values=answers(run.seed), seed=run.seed)
        table.add("exact", values=answers(77))
        return table.rows()

    monkeypatch.setattr(record.runs, "load", load)
    module = SimpleNamespace(**{**vars(experiment.module), "compute": of_seeds, "claims": lambda rows: []})
    suite = Suite({"a": "quick", "b": "quick-draft"}, (0, 1, 2), {"b": (0,)})
    return experiment._replace(module=module, presets={"quick": Preset(suite, Sizes(1)), "small": Preset(suite, None)})


def test_a_record_grows_seed_by_seed(seeded):
    record.make(seeded, "quick", "a command")
    whole = over_seeds(record.read_rows(seeded.name, "quick"))
    record.file_of(seeded.name, "quick", ".json").unlink()
    record.make(seeded, "quick", "a command", seeds=(1,))
    assert record.state(seeded, "quick") == "partial" and record.seeds_left(seeded, "quick") == (0, 2)
    assert "These rows have seeds 1; 0, 2 are still to come." in report.freshness(seeded, "quick")
    assert report.state_of(seeded, "quick")[1].strip() == "seeds to come: 0, 2"
    record.make(seeded, "quick", "a command", seeds=(0, 1))
    command.bring_up_to_date(seeded, "quick", "auto", (0,))  # there already
    assert record.seeds_left(seeded, "quick") == (2,)
    command.bring_up_to_date(seeded, "quick", "auto")
    assert record.state(seeded, "quick") == "fresh"
    known = record.read_provenance(seeded.name, "quick")
    assert known["seeds"] == [0, 1, 2] and len(known["models"]) == 4
    grown = over_seeds(record.read_rows(seeded.name, "quick"))
    for name in ("a", "b", "exact"):
        (mean, half_width, _), (apart_mean, apart_half_width, _) = (only(one, model=name) for one in (whole, grown))
        assert apart_mean == pytest.approx(mean)
        assert apart_half_width >= half_width - 1e-9  # prompts are taken to be as hard for all seeds
    assert only(grown, model="b") == pytest.approx(only(whole, model="b"))


def test_rows_of_curves_are_computed_of_all_seeds_together(seeded):
    suite = seeded.presets["quick"].suite._replace(curves=True)

    def fitted(models, sizes):
        table = Table("quantity")
        table.add("fit", values=np.array([sum(run.seed + 1.0 for several in models.values() for run in several)]))
        return table.rows()

    module = SimpleNamespace(**{**vars(seeded.module), "compute": fitted})
    seeded = seeded._replace(module=module, presets={"quick": Preset(suite, Sizes(1))})
    record.make(seeded, "quick", "a command", seeds=(0,))
    record.make(seeded, "quick", "a command", seeds=(2,))
    assert record.seeds_left(seeded, "quick") == (1,)
    assert list(record.read_rows(seeded.name, "quick").value) == [(1 + 1) + 3]
    assert len(record.read_provenance(seeded.name, "quick")["models"]) == 3


def test_a_seed_of_other_code_is_not_joined(seeded, monkeypatch):
    record.make(seeded, "quick", "a command", seeds=(1,))
    monkeypatch.setattr(record, "sources", lambda _: {"a.py": "1"})
    assert record.state(seeded, "quick") == "stale" and record.seeds_left(seeded, "quick") == (0, 1, 2)
    record.make(seeded, "quick", "a command", seeds=(0,))
    assert record.read_provenance(seeded.name, "quick")["seeds"] == [0]
    assert set(record.read_rows(seeded.name, "quick").seed.dropna()) == {0}


def test_rows_that_disagree_on_what_has_no_seed_are_not_joined():
    table = Table("model")
    table.add("exact", values=np.ones(3))
    other = Table("model")
    other.add("exact", values=np.zeros(3))
    with pytest.raises(ValueError, match="two values for"):
        join(table.rows(), other.rows())
    bare = pd.DataFrame({"set": [1], "seed": [0], "value": [2.0]})
    with pytest.raises(ValueError, match="without --seeds"):
        join(bare, bare)


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


@pytest.mark.parametrize(
    ("file", "counts"),
    [("figures/paper_values/table.csv", True), ("icl_synth/pretrained/lstm/model.safetensors", True),
     ("README.md", False), ("figures/out/learning/accuracy-small.csv", False)],
)  # fmt: skip
def test_a_changed_file_that_decides_numbers_is_said_beside_the_commit(file, counts, tmp_path, monkeypatch):
    (tmp_path / "icl_synth").mkdir()
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "icl_synth" / "provenance.py"))
    assert provenance.commit() == "unknown"
    for words in (["init", "-q"], ["-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "m", "--allow-empty"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    assert not provenance.commit().endswith("+")
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("new")
    assert provenance.commit().endswith("+") == counts
