"""Every experiment at toy size, from training to picture; and the worked example of docs/experiments.md."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import pytest

from figures import __main__ as command
from figures.lab import catalogue, record, report, runs
from figures.lab.claims import VERDICTS
from icl_synth import presets
from tests.toys import KINDS, TOYS, TRAINING, TRANSFERRED, predicted, toy_experiment, write_plays

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """Toy presets, and a folder that all workers of a test run share, so that a toy is trained once."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if base.name.startswith("popen-") else base) / "toys"
    shared.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presets, "PRESETS", TRAINING)
        for name, before in TRANSFERRED.items():
            patch.setitem(presets.AFTER, name, before)
        patch.setattr(record, "OUT", tmp_path_factory.mktemp("out"))
        patch.setattr(runs, "KEPT", shared / "kept")
        patch.chdir(shared)
        yield


def test_every_experiment_has_a_toy():
    assert set(TOYS) == set(catalogue.names())


# a subject's experiments share models and programs, so one worker makes them
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.xdist_group(n.split("/")[0])) for n in TOYS])
def test_an_experiment_from_training_to_picture_and_nothing_twice(name, monkeypatch):
    experiment = toy_experiment(name)
    if experiment.subject == "scaling":
        monkeypatch.setattr(runs, "load", lambda suite, _: predicted(suite))
    if experiment.subject == "language":
        pytest.importorskip("tokenizers")
        importlib.import_module("tests.gguf_files").write_language()
    if experiment.subject == "transfer":
        write_plays()
    record.make(experiment, "toy", "a command")
    assert {path.suffix for path in (record.OUT / "toy").glob(f"{name}.*")} == {".csv", ".json", ".png", ".pdf"}
    rows = record.read_rows(name, "toy")
    assert rows.drop(columns="seed", errors="ignore").select_dtypes("number").notna().all(axis=None)
    claims = report.recorded_claims(experiment, "toy")
    assert claims and all(claim.verdict in VERDICTS for claim in claims)
    suite, sizes = experiment.presets["toy"]
    seeds, trained = set(rows.seed.dropna()) if "seed" in rows else set(), {job.config.seed for job in runs.jobs(suite)}
    if experiment.subject == "scaling":  # a fit is of all runs
        assert seeds <= trained
    elif suite.models and "seed" in rows:  # tidy: one row for each seed
        assert seeds == trained
    known = json.loads(record.file_of(name, "toy", ".json").read_text())
    assert known["rules"] == record.rules(experiment)
    assert known["sizes"].keys() == sizes._asdict().keys() and len(known["models"]) == len(suite.runs)
    assert record.state(experiment, "toy") == "fresh" and experiment.title in report.summary([experiment], "toy")
    monkeypatch.setattr(runs, "train", None)  # a second time nothing is trained or computed
    monkeypatch.setattr(experiment.module, "compute", None)
    command.bring_up_to_date(experiment, "toy", "auto")


def test_the_worked_example_is_an_experiment():
    text = (ROOT / "docs" / "experiments.md").read_text()
    module = ModuleType("example")
    exec(text.split("```python\n")[1].split("```")[0], module.__dict__)
    assert all(hasattr(module, part) for part in catalogue.INTERFACE)
    rows = module.compute(runs.load(KINDS), module.Sizes(documents=16))
    assert len(rows) == 2 * 2 * 3 and rows.notna().all(axis=None)
    assert module.plot(rows).axes[0].get_ylabel() == "nats per token"
    assert [claim.verdict in VERDICTS for claim in module.claims(rows)] == [True, True]


def test_one_that_fails_does_not_stop_the_others(monkeypatch):
    monkeypatch.setattr(command.devices, "start", lambda *_: None)
    failing, other = toy_experiment("block_float/formats"), toy_experiment("block_float/noise")
    failing, other = (one._replace(name=f"afresh/{one.module.__name__}") for one in (failing, other))
    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="formats: ZeroDivisionError"):
        patch.setattr(failing.module, "compute", lambda models, sizes: 1 / 0)
        command.make([failing, other], "toy", 1, "auto")
    assert record.state(other, "toy") == "fresh" and record.read_provenance(failing.name, "toy") is None


def test_what_this_machine_cannot_make_is_left_out_with_a_line(monkeypatch, capsys):
    monkeypatch.setattr(command.devices, "start", lambda *_: None)
    one, other = (
        toy_experiment(name)._replace(name=f"lacking/{name}") for name in ("block_float/noise", "language/sparsity")
    )
    monkeypatch.setattr(other.module, "lacks", lambda: "a model: run make model")
    monkeypatch.setattr(command, "bring_up_to_date", lambda experiment, *_: print(f"made {experiment.name}"))
    monkeypatch.setattr(command.report, "summary", lambda *_: "")
    command.make([one, other], "toy", 1, "auto")
    said = capsys.readouterr()
    assert said.out.strip() == "made lacking/block_float/noise"
    assert said.err.strip() == "left out for want of a model: run make model: lacking/language/sparsity"
    with pytest.raises(SystemExit, match=r"left out for want of a model: run make model: lacking/language/sparsity"):
        command.make([other], "toy", 1, "auto")


def test_whole_seeds_are_trained_one_after_the_other_and_nothing_is_computed(monkeypatch):
    ran = []
    monkeypatch.setattr(command.schedule, "run", lambda tasks, at_once: ran.append([t.job[:2] for t in tasks]) or [])
    experiment = toy_experiment("learning/accuracy")._replace(name="untrained/accuracy")
    monkeypatch.setattr(runs.Job, "done", False)
    command.train_all([experiment], "toy", 2, "auto", ())
    assert [sorted(of_seed) for of_seed in ran] == [[("toy", seed), ("toy-lstm", seed)] for seed in (0, 1)]
    command.train_all([experiment], "toy", 2, "auto", (1,))
    assert {seed for _, seed in ran[-1]} == {1} and len(ran) == 3
    monkeypatch.setattr(command.schedule, "run", lambda *_: [command.schedule.Failure("toy-0", "it broke")])
    with pytest.raises(SystemExit, match="toy-0: it broke"):
        command.train_all([experiment], "toy", 2, "auto", ())


def test_seeds_that_are_asked_for_choose_the_experiments_that_have_them():
    several, single = toy_experiment("learning/accuracy"), toy_experiment("block_float/noise")
    assert several.presets["toy"].suite.seeds == (0, 1) and single.presets["toy"].suite.seeds == (0,)
    assert command.with_seeds([several, single], "toy", ()) == [several, single]
    assert command.with_seeds([several, single], "toy", (1,)) == [several]
    with pytest.raises(SystemExit, match=r"error: no experiment chosen has seed 9 in preset toy: seeds are \[0, 1\]"):
        command.with_seeds([several, single], "toy", (1, 9))


def test_the_command_line_lists_experiments_and_tells_mistakes_in_a_line(monkeypatch, capsys):
    command.main(["block_float", "--list"])
    said = capsys.readouterr().out
    assert "block_float/noise" in said and "learning/accuracy" not in said
    with pytest.raises(SystemExit, match="error: --jobs must be at least 1, got 0"):
        command.main(["block_float", "--jobs", "0"])

    def refuse():
        raise OSError(30, "Read-only file system", "RESULTS.md")

    monkeypatch.setattr(command.generated, "write_all", refuse)
    with pytest.raises(SystemExit, match=r"^error: .*Read-only file system: 'RESULTS.md'$"):
        command.main(["--results"])


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")
