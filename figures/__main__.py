"""python -m figures [NAME ...] --preset quick: train what is missing, compute, draw; nothing is done twice."""

import math
import sys
import traceback
from pathlib import Path
from typing import Annotated, Literal

import tyro

from figures.lab import catalogue, generated, record, report, schedule
from figures.lab.catalogue import Experiment
from figures.lab.programs import collect_less, keep_compiled
from icl_synth import devices
from icl_synth.layers import Precision
from icl_synth.lock import alone
from icl_synth.presets import preset as training_preset

PresetName = Literal["quick", "small", "paper"]


def command(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    /,
    preset: PresetName = "quick",
    jobs: int = 1,
    seeds: tuple[int, ...] = (),
    precision: Precision = "auto",
    list: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    redraw: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    results: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    train: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Make experiments: train what is missing, compute rows, draw them, judge the claims.

    Args:
        names: Experiments such as learning/accuracy, or subjects such as learning; all if none are named.
        preset: Size of the models and of the evaluation.
        jobs: Trainings and experiments made at once.
        seeds: Only these of a preset's seeds; a record that has some seeds grows by the others.
        precision: Operands of matrix products in training; auto follows from the processor.
        list: Show every experiment: its claims, presets, minutes, state, and what changed since it was made.
        redraw: Draw recorded rows again without computing.
        train: Only train what is missing, all models of a seed before those of the next; compute nothing.
        results: Only write RESULTS.md, and the generated parts of README and docs, from the recorded rows.
    """
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    chosen = with_seeds([e for e in catalogue.choose(names) if preset in e.presets], preset, seeds)
    if list:
        print(report.listing(chosen))
    elif results:
        generated.write_all()
    elif redraw:
        redraw_all(chosen, preset)
    elif train:
        train_all(possible(chosen, preset), preset, jobs, precision, seeds)
    else:
        make(chosen, preset, jobs, precision, seeds)


def with_seeds(experiments: list[Experiment], preset: str, wanted: tuple[int, ...]) -> list[Experiment]:
    """Those that have one of the seeds that are wanted, or all where none is. Ends the program for an unknown seed."""
    known = {seed for experiment in experiments for seed in experiment.presets[preset].suite.seeds}
    if unknown := sorted(set(wanted) - known):
        sys.exit(f"error: no experiment chosen has seed {unknown[0]} in preset {preset}: seeds are {sorted(known)}")
    return [e for e in experiments if not wanted or set(wanted) & set(e.presets[preset].suite.seeds)]


def redraw_all(experiments: list[Experiment], preset: str) -> None:
    missing = [experiment.name for experiment in experiments if not record.read_provenance(experiment.name, preset)]
    if missing:
        sys.exit(f"error: {missing[0]} has no recorded rows of preset {preset}: make it without --redraw first")
    for experiment in experiments:
        with alone(lock_of(experiment, preset)):
            record.redraw(experiment, preset)


def train_all(
    experiments: list[Experiment], preset: str, jobs: int, precision: Precision, seeds: tuple[int, ...]
) -> None:
    """Train the models of one seed after the other, so that whole seeds are there wherever it ends."""
    every = sorted({seed for experiment in experiments for seed in experiment.presets[preset].suite.seeds})
    for seed in [seed for seed in every if not seeds or seed in seeds]:
        trainings = [task for task in schedule.tasks(experiments, preset, precision, (seed,)) if task.job]
        if failed := schedule.run(trainings, jobs):
            sys.exit("\n".join(["failed:", *(f"  {failure.name}: {failure.why}" for failure in failed)]))
        print(f"seed {seed}: all models are there", file=sys.stderr)


def make(
    experiments: list[Experiment], preset: str, jobs: int, precision: Precision, seeds: tuple[int, ...] = ()
) -> None:
    """Make what is not fresh, say what came of it, and end with a status that is not zero where something failed."""
    record.check_committed(preset)
    experiments = possible(experiments, preset)
    if jobs > 1:
        failed = {
            failure.name: failure.why for failure in schedule.make_all(experiments, preset, jobs, precision, seeds)
        }
    else:
        failed = make_here(experiments, preset, precision, seeds)
    print(report.summary([experiment for experiment in experiments if experiment.name not in failed], preset))
    if failed:
        sys.exit("\n".join(["", "failed:", *(f"  {name}: {why}" for name, why in failed.items())]))


def possible(experiments: list[Experiment], preset: str) -> list[Experiment]:
    """Those that can be made on this machine; a line tells the others, which ends the program where none is left."""
    left_out: dict[str, list[str]] = {}
    for experiment in experiments:
        if experiment.lacks and record.state(experiment, preset) not in ("fresh", "to be drawn"):
            left_out.setdefault(experiment.lacks, []).append(experiment.name)
    lines = [f"left out for want of {lack}: {', '.join(names)}" for lack, names in left_out.items()]
    left = [
        experiment for experiment in experiments if not any(experiment.name in names for names in left_out.values())
    ]
    if lines and not left:
        sys.exit("\n".join(lines))
    print("".join(f"{line}\n" for line in lines), end="", file=sys.stderr)
    return left


def make_here(
    experiments: list[Experiment], preset: str, precision: Precision, seeds: tuple[int, ...]
) -> dict[str, str]:
    """Make experiments in this process, one after another; the reasons of those that failed."""
    for experiment in experiments:  # hash the files that were imported now: they may change in the hours below
        record.sources(experiment), record.drawing(experiment)
    keep_compiled()
    collect_less()
    trainings = [name for experiment in experiments for name in experiment.presets[preset].suite.models.values()]
    devices.start(devices.Devices(), math.gcd(*(training_preset(name).batch for name in trainings)))
    failed = {}
    for experiment in experiments:
        try:
            bring_up_to_date(experiment, preset, precision, seeds)
        except Exception as error:  # the others can still be made
            traceback.print_exc()
            failed[experiment.name] = f"{type(error).__name__}: {error}"
    return failed


def bring_up_to_date(experiment: Experiment, preset: str, precision: Precision, seeds: tuple[int, ...] = ()) -> None:
    """Compute and draw what is not recorded from today's code."""
    with alone(lock_of(experiment, preset)):
        state = record.state(experiment, preset)
        if state == "to be drawn":
            record.redraw(experiment, preset)
        if state in ("fresh", "to be drawn") or (
            state == "partial" and not record.seeds_left(experiment, preset, seeds)
        ):
            print(f"{experiment.name}: up to date", file=sys.stderr)
        else:
            record.make(experiment, preset, f"python -m figures {experiment.name} --preset {preset}", precision, seeds)


def lock_of(experiment: Experiment, preset: str) -> Path:
    return Path("runs") / f"{experiment.name.replace('/', '-')}-{preset}.lock"


def main(arguments: list[str] | None = None) -> None:
    """The command line; errors that a user can mend end it with one plain line."""
    try:
        tyro.cli(command, args=arguments, prog="python -m figures")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from there")


if __name__ == "__main__":
    main()
