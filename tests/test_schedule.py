"""Several tasks at once: what waits, what runs alone, what is told of failures, and that nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from figures.lab import record, schedule
from figures.lab.catalogue import experiment
from figures.lab.presets import Preset, Suite
from figures.lab.schedule import Task

MODULE = "task_of_a_test"
CODE = """
import os, sys, time
from pathlib import Path
mine = Path(sys.argv[1])
mine.write_text(str(os.getpid()))
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


def task(name: str, number: int, **how) -> Task:
    return Task(f"task-{name}", [MODULE, f"task-{name}", str(number)], **how)


def test_as_many_as_asked_run_at_once_and_a_failure_is_told(folder):
    failed = schedule.run([task("a", 2), task("b", 2), task("bad", 2)], 2)  # the first two wait for each other
    assert [failure.name for failure in failed] == ["task-bad"]
    assert failed[0].why.startswith("there is no such thing (all it said: runs/logs/task-bad.log")
    assert {path.name for path in folder.glob("task-*")} == {"task-a", "task-b", "task-bad"}


def test_a_task_waits_for_its_trainings_and_what_measures_time_for_all():
    waits = Task("waits", [], after=("training",))
    alone, other = Task("alone", [], alone=True), Task("other", [])
    left, open_names = [waits, alone, other], {"waits", "alone", "other", "training"}
    assert schedule.next_task(left, open_names, busy=True) is other
    assert schedule.next_task([waits, alone], open_names, busy=True) is None
    assert schedule.next_task([waits, alone], {"waits", "alone"}, busy=True) is waits
    assert schedule.next_task([alone], {"alone"}, busy=True) is None
    assert schedule.next_task([alone], {"alone"}, busy=False) is alone


def test_the_first_picture_comes_before_longer_trainings(folder, monkeypatch):
    monkeypatch.setattr(record, "state", lambda *_: "missing")
    first = experiment(schedule.FIRST)._replace(presets={"quick": Preset(Suite({"a": "quick-draft"}, (0, 1)), None)})
    timed = experiment("assisted/speed")._replace(presets={"quick": Preset(Suite({"b": "quick-lstm"}), None)})
    other = experiment("learning/posterior")._replace(presets={"quick": Preset(Suite({"b": "quick"}), None)})
    found = schedule.tasks([timed, other, first], "quick", "float32")
    words = [" ".join(one.command) for one in found]
    assert words[0].startswith(f"figures {schedule.FIRST} --preset quick")
    assert words[1:3] == ["figures.lab.runs quick-draft 0 float32", "figures.lab.runs quick-draft 1 float32"]
    assert [word.split()[1] for word in words[3:5]] == ["quick-lstm", "quick"]  # the longest first
    assert [one.name for one in found[5:]] == ["learning/posterior", "assisted/speed"]
    assert set(found[0].after) == {one.name for one in found[1:3]}


def test_of_curves_alone_the_runs_of_recorded_seeds_are_there_too(folder, monkeypatch):
    """A law is fitted to all of them together, so that they are trained beforehand, each in a process of its own."""
    curves = experiment("scaling/isoflop")._replace(
        presets={"quick": Preset(Suite({"a": "quick-draft"}, (0, 1, 2), curves=True), None)}
    )
    monkeypatch.setattr(record, "state", lambda *_: "partial")
    monkeypatch.setattr(record, "seeds_left", lambda _, __, wanted=(): wanted or (1, 2))
    found = schedule.tasks([curves], "quick", "float32", (1,))
    assert [one.command[2:] for one in found[:2]] == [["0", "float32", "curve"], ["1", "float32", "curve"]]
    assert set(found[2].after) == {one.name for one in found[:2]} and len(found) == 3


def test_an_experiment_is_asked_for_its_own_seeds_alone(folder, monkeypatch):
    monkeypatch.setattr(record, "state", lambda *_: "missing")
    monkeypatch.setattr(record, "seeds_left", lambda _, __, wanted=(): wanted)
    few = experiment("scaling/controls")._replace(presets={"quick": Preset(Suite({"a": "quick"}, (0, 1)), None)})
    many = experiment("scaling/isoflop")._replace(presets={"quick": Preset(Suite({"a": "quick"}, (0, 1, 2)), None)})
    commands = {one.name: one.command[6:] for one in schedule.tasks([few, many], "quick", "auto", (0, 2))}
    assert commands["scaling/controls"] == ["--seeds", "0"] and commands["scaling/isoflop"] == ["--seeds", "0", "2"]


def test_what_is_fresh_takes_no_process(monkeypatch):
    monkeypatch.setattr(record, "state", lambda *_: "fresh")
    assert schedule.tasks([experiment("learning/posterior")], "quick", "auto") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_parent_leaves_no_children(folder, number):
    code = (
        "from figures.lab import schedule\n"
        f"tasks = [schedule.Task(f'task-{{i}}', ['{MODULE}', f'task-{{i}}', '99']) for i in range(2)]\n"
        "schedule.run(tasks, 2)"
    )
    root = str(Path(schedule.__file__).parents[2])
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    parent = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": root}, **quiet)
    end = time.monotonic() + 60
    while not all((folder / f"task-{i}").exists() and (folder / f"task-{i}").read_text() for i in range(2)):
        assert time.monotonic() < end and parent.poll() is None
        time.sleep(0.05)
    children = [int((folder / f"task-{i}").read_text()) for i in range(2)]
    parent.send_signal(number)  # to the parent alone
    parent.wait(schedule.GRACE - 5)  # children that are told to end need not be killed
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_without_a_terminal_a_line_a_minute(capsys, monkeypatch):
    clock = iter([0.0, 10.0, 59.0, 60.0, 60.0, 61.0, 119.0])
    monkeypatch.setattr(schedule.time, "monotonic", lambda: next(clock))
    with schedule.Display(3) as display:
        for _ in range(5):
            display.show([Task("a", []), Task("b", [])])
    assert capsys.readouterr().err.splitlines() == ["0/3 done; at work: a, b"]


def test_a_training_shows_its_share(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = schedule.Job("quick-draft", 0)
    assert Task("draft", [], job=job).progress() == "draft 0 %"
    job.folder.mkdir(parents=True)
    (job.folder / "metrics.jsonl").write_text('{"step": 750}\n')
    assert Task("draft", [], job=job).progress() == "draft 50 %"
