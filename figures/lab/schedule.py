"""Trainings and experiments in processes of their own, several at once; what measures time runs last and alone."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from figures.lab import record, runs
from figures.lab.catalogue import Experiment
from figures.lab.runs import Job
from icl_synth.layers import Precision

FIRST = "learning/accuracy"  # README's picture: made before all else, so that there is something to look at
LOGS = Path("runs") / "logs"
A_LINE_EVERY = 60.0  # seconds, without a terminal
GRACE = 30.0  # seconds that a training has to save itself after an interruption


class Task(NamedTuple):
    """A command with a name for its log, the names of the tasks it waits for, and the training behind it, if any."""

    name: str
    command: list[str]
    after: tuple[str, ...] = ()
    alone: bool = False
    job: Job | None = None
    picture: Path | None = None

    def progress(self) -> str:
        return f"{self.name} {100 * self.job.progress():.0f} %" if self.job else self.name

    @property
    def log(self) -> Path:
        return LOGS / f"{self.name.replace('/', '-')}.log"


class Failure(NamedTuple):
    """What did not end well, and the last line it said."""

    name: str
    why: str


def make_all(
    experiments: list[Experiment], preset: str, at_once: int, precision: Precision, seeds: tuple[int, ...] = ()
) -> list[Failure]:
    """Train what is missing and make every experiment that is not fresh, so many at a time."""
    return run(tasks(experiments, preset, precision, seeds), at_once)


def tasks(experiments: list[Experiment], preset: str, precision: Precision, seeds: tuple[int, ...] = ()) -> list[Task]:
    """What is to be done, in the order in which it should begin: the first picture, then the longest first."""
    missing: dict[str, Task] = {}
    makings: list[Task] = []
    experiments = sorted(experiments, key=lambda experiment: (experiment.name != FIRST, -last_minutes(experiment.name)))
    for experiment in experiments:
        if record.state(experiment, preset) == "fresh":
            continue
        suite = experiment.presets[preset].suite.of(record.seeds_needed(experiment, preset, seeds))
        needed = [job for job in runs.jobs(suite, precision) if not job.done]
        for job in needed:
            command = ["figures.lab.runs", job.training, str(job.seed), precision, *(["curve"] if job.curve else [])]
            missing.setdefault(job.folder.name, Task(job.folder.name, command, job=job))
        command = ["figures", experiment.name, "--preset", preset, "--precision", precision]
        own = [str(seed) for seed in seeds if seed in experiment.presets[preset].suite.seeds]
        command += ["--seeds", *own] if own else []
        after = tuple(job.folder.name for job in needed)
        picture = record.file_of(experiment.name, preset, ".png")
        makings.append(Task(experiment.name, command, after, experiment.alone, picture=picture))
    urgent = {name for making in makings if making.name == FIRST for name in making.after}
    trainings = sorted(missing.values(), key=lambda task: (task.name not in urgent, -task.job.work if task.job else 0))
    first = [making for making in makings if making.name == FIRST]
    others = [making for making in makings if making.name != FIRST]
    together = [making for making in others if not making.alone]
    return [*first, *trainings, *together, *(making for making in others if making.alone)]


def last_minutes(name: str) -> float:
    """Minutes that an experiment took when it was last made, in any preset; 0 where it never was."""
    known = [record.read_provenance(name, preset) for preset in ("quick", "small", "paper")]
    return max((one["minutes"] for one in known if one), default=0.0)


def run(left: list[Task], at_once: int) -> list[Failure]:
    """Run every task in a process of its own. However this ends, no process is left behind."""
    LOGS.mkdir(parents=True, exist_ok=True)
    left, failed = list(left), []
    waiting_for = {task.name for task in left}
    running: dict[int, tuple[Task, subprocess.Popen]] = {}  # by the share of the cores that a task has
    with _stopping(running), Display(len(left)) as display:
        while left or running:
            for share in range(at_once):
                alone = any(task.alone for task, _ in running.values())
                task = None if share in running or alone else next_task(left, waiting_for, bool(running))
                if task:
                    left.remove(task)
                    running[share] = (task, start(task, share, 1 if task.alone else at_once))
            for share, (task, process) in list(running.items()):
                if process.poll() is not None:
                    del running[share]
                    waiting_for.discard(task.name)
                    if process.returncode:
                        failed.append(Failure(task.name, last_line(task.log)))
                    display.ended(task, process.returncode == 0)
            display.show([task for task, _ in running.values()])
            time.sleep(0.2)
    return failed


def next_task(left: list[Task], waiting_for: set[str], busy: bool) -> Task | None:
    """The first task whose predecessors have ended; one that measures time only when nothing else is left to do."""
    together = [task for task in left if not task.alone]
    ready = (task for task in together if not waiting_for & set(task.after))
    if together:
        return next(ready, None)
    return left[0] if left and not busy else None


def start(task: Task, share: int, shares: int) -> subprocess.Popen:
    """A process on every so many-th core from `share` on, with its part of a GPU's memory."""
    memory = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / shares:.2f}"} | os.environ
    with open(task.log, "w") as file:
        command = [sys.executable, "-m", *task.command]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=memory)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(process.pid, cores[share::shares] or cores)
    return process


@contextlib.contextmanager
def _stopping(running: dict[int, tuple[Task, subprocess.Popen]]) -> Iterator[None]:
    """Interrupt the processes that still run when the block ends, also by SIGTERM; a training saves itself first."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        processes = [process for _, process in running.values()]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + GRACE
        for process in processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Display:
    """A progress bar with the share that each training has done; without a terminal a line a minute."""

    def __init__(self, total: int):
        self.total, self.done, self.said = total, 0, time.monotonic()
        self.bar = tqdm(total=total, unit="task", disable=not sys.stderr.isatty() or not total)

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def ended(self, task: Task, well: bool) -> None:
        self.done += 1
        self.bar.update()
        if task.picture and well:
            tqdm.write(f"{task.picture}", file=sys.stderr)

    def show(self, running: list[Task]) -> None:
        if self.bar.disable:
            if time.monotonic() - self.said >= A_LINE_EVERY:
                self.said = time.monotonic()
                at_work = ", ".join(task.progress() for task in running)
                print(f"{self.done}/{self.total} done; at work: {at_work}", file=sys.stderr, flush=True)
        elif time.monotonic() - self.said >= 1:
            self.said = time.monotonic()
            self.bar.set_postfix_str(", ".join(task.progress() for task in running))


def last_line(path: Path) -> str:
    lines = [line for line in path.read_text().split("\n") if line.strip()]
    return f"{lines[-1].strip() if lines else 'it said nothing'} (all it said: {path})"
