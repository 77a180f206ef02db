"""Several tasks at once: each is run once, failures are told with their last line, longest runs come first."""

import dataclasses
from types import SimpleNamespace

import pytest

from figures import recipes, workers
from figures.recipes import RECIPES, Wanted
from icl_synth.config import preset
from icl_synth.run_folder import run_directory

MODULE = "task_of_a_test"
CODE = """
import os, sys, time
from pathlib import Path
mine = Path(sys.argv[1])
mine.write_text("here")
end = time.monotonic() + 30
while len(list(Path(".").glob("task-*"))) < int(sys.argv[2]) and time.monotonic() < end:
    time.sleep(0.05)  # for the others of its kind
if sys.argv[1].endswith("bad"):
    sys.exit("there is no such thing")
if time.monotonic() >= end:
    sys.exit("alone")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / f"{MODULE}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)  # python -m finds the module there
    return tmp_path


def test_as_many_as_jobs_run_at_once_and_a_failure_is_told(folder):
    tasks = [workers.Task(f"task-{name}", [MODULE, f"task-{name}", "2"]) for name in ("a", "b", "bad")]
    failed = workers.run(tasks, 2, "tasks")  # the first two wait for each other
    assert [one.name for one in failed] == ["task-bad"]
    assert failed[0].why.startswith("there is no such thing (all it said: runs/logs/task-bad.log")
    assert {path.name for path in folder.glob("task-*")} == {"task-a", "task-b", "task-bad"}


def test_missing_runs_are_listed_once_the_longest_first(folder):
    module = SimpleNamespace(wanted=lambda recipe: Wanted({"a": "quick-draft", "b": "quick"}, (0, 1)))
    other = SimpleNamespace(wanted=lambda recipe: Wanted({"a": "quick-draft"}, (0,)))
    here = run_directory(dataclasses.replace(preset("quick"), seed=1), "quick") / "model"
    here.mkdir(parents=True)
    (here / "config.json").write_text("{}")
    tasks = workers.missing({"one": module, "two": other}, RECIPES["quick"])
    assert [" ".join(task.command) for task in tasks] == [
        "figures.recipes quick 0",
        "figures.recipes quick-draft 0",
        "figures.recipes quick-draft 1",
    ]
    assert tasks[0].name == run_directory(preset("quick"), "quick").name


def test_one_precision_is_chosen_for_all_runs_however_timings_differ(folder, monkeypatch):
    timed = iter(["bfloat16", "float32", "bfloat16", "bfloat16", "bfloat16", "bfloat16"])
    monkeypatch.setattr("icl_synth.layers.choose_precision", lambda asked: (next(timed), "a timing"))
    assert [recipes.precision() for _ in range(3)] == ["float32"] * 3  # the first three timings, then what was kept
    assert recipes.decided(preset("quick")).precision == "float32"
    monkeypatch.setattr(recipes, "device", lambda: "another machine")
    assert recipes.precision() == "bfloat16"
