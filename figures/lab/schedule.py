"""Many figures at once: a process for each missing run, then for each figure, and figures that measure time alone."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from figures.estimates import evaluation_minutes, work
from figures.recipes import Recipe, configured, folder, is_trained

TIMED = ("fig_assisted_batch", "fig_assisted_drafts", "fig_assisted_speed")  # what they measure other work would spoil
LOGS = Path("runs") / "logs"


class Task(NamedTuple):
    """A command, and a name for its log."""

    name: str
    command: list[str]


class Failure(NamedTuple):
    """What did not end well, and the last line it said."""

    name: str
    why: str


def make_all(modules: dict[str, ModuleType], recipe: Recipe, jobs: int) -> list[Failure]:
    """Train what is missing, then make every figure, `jobs` at a time, each with its share of the cores.

    Every task writes to runs/logs/NAME.log. A figure whose run failed trains it again, and fails for the same reason.
    """
    minutes = {name: evaluation_minutes(name, len(module.wanted(recipe).runs)) for name, module in modules.items()}
    longest = sorted(modules, key=lambda name: -np.nan_to_num(minutes[name]))  # none is left for the end
    figures = [Task(name, ["figures", name, "--preset", recipe.name]) for name in longest]
    apart = [task for task in figures if task.name not in TIMED]
    timed = [task for task in figures if task.name in TIMED]
    left = missing(modules, recipe)
    if left:  # in a process of its own: on an accelerator this one must not hold any memory
        subprocess.run([sys.executable, "-c", "from figures.recipes import precision; precision()"], check=True)
    failed = run(left, jobs, "training")
    return failed + run(apart, jobs, "figures") + run(timed, 1, "figures that measure time")


def missing(modules: dict[str, ModuleType], recipe: Recipe) -> list[Task]:
    """A command for every run that the figures stand on and that is not there; the longest first."""
    found = {}
    for module in modules.values():
        for _, training, seed in module.wanted(recipe).runs:
            config, out = configured(training, seed), folder(training, seed)
            if not is_trained(out):
                size = work(config.steps, config.batch, config.data.length, vars(config.model))
                found[out] = size, [training, str(seed)]
    longest = sorted(found, key=lambda out: -found[out][0])
    return [Task(out.name, ["figures.recipes", *found[out][1]]) for out in longest]


def run(tasks: Iterable[Task], jobs: int, what: str) -> list[Failure]:
    """Run every task in a process of its own, `jobs` at a time. Ctrl-C reaches them too, and they save."""
    LOGS.mkdir(parents=True, exist_ok=True)
    left, failed = list(tasks), []
    running: dict[int, tuple[Task, subprocess.Popen]] = {}  # by the share of the cores that a task has
    with tqdm(total=len(left), desc=what, unit="task", mininterval=1, disable=not left) as bar:
        while left or running:
            for share in range(jobs):
                if share not in running and left:
                    running[share] = (left[0], start(left[0], share, jobs))
                    left = left[1:]
            bar.set_postfix_str(", ".join(task.name for task, _ in running.values()), refresh=False)
            bar.update(0)
            for share, (task, process) in list(running.items()):
                if process.poll() is not None:
                    del running[share]
                    bar.update()
                    if process.returncode:
                        failed.append(Failure(task.name, last_line(log(task))))
            time.sleep(0.2)
    return failed


def start(task: Task, share: int, jobs: int) -> subprocess.Popen:
    """A process on every jobs-th core from `share` on, with its part of a GPU's memory."""
    memory = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / jobs:.2f}"} | os.environ
    with open(log(task), "w") as file:
        command = [sys.executable, "-m", *task.command]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=memory)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(process.pid, cores[share::jobs] or cores)
    return process


def log(task: Task) -> Path:
    return LOGS / f"{task.name}.log"


def last_line(path: Path) -> str:
    lines = [line for line in path.read_text().split("\n") if line.strip()]
    return f"{lines[-1].strip() if lines else 'it said nothing'} (all it said: {path})"
