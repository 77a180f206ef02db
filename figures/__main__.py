"""python -m figures [NAME ...] --preset quick: train what is missing, compute, draw; nothing is done twice."""

import argparse
import importlib
import math
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from figures import claims, estimates, record, workers
from figures.programs import keep_compiled
from figures.recipes import RECIPES, Recipe
from figures.sources import drawing_hash, rows_hash
from icl_synth import devices
from icl_synth.checkpoints import write_text
from icl_synth.config import preset
from icl_synth.lock import alone

MODULES = sorted(path.stem for path in Path(__file__).parent.glob("fig_*.py"))


def load(names: list[str]) -> dict[str, ModuleType]:
    """The figures of these names, all if none; exits naming the choices for an unknown one."""
    unknown = [name for name in names if name not in MODULES]
    if unknown:
        sys.exit(f"error: unknown figure {unknown[0]!r}: choose from {', '.join(MODULES)}")
    return {name: importlib.import_module(f"figures.{name}") for name in names or MODULES}


def summary(modules: dict[str, ModuleType], preset_name: str) -> str:
    """What the records say: a line for each model and claim, and where the pictures are."""
    known = {name: record.read_provenance(name, preset_name) for name in modules}
    models = {(one["model"], one["seed"]): one for found in known.values() if found for one in found["models"]}
    lines = ["", "model                   seed  excess over Bayes  minutes"]
    for one in models.values():
        lines.append(f"{one['model']:22}  {one['seed']:4}  {one['excess_nats']:17.4f}  {one['minutes']:7.1f}")
    for name, module in modules.items():
        lines += ["", module.TITLE]
        for claim in module.claims(record.read_rows(name, preset_name)):
            lines.append(f"  [{claim.verdict:7}] {claim.claim}: {claim.ours}  (paper: {claim.paper})")
        lines.append(f"  {os.path.relpath(record.directory(preset_name) / name)}.png")
    return "\n".join(lines)


def listing(modules: dict[str, ModuleType]) -> str:
    """Every figure: its presets with their state and minutes, its title and its claims."""
    lines, rates = [], estimates.rates()
    for name, module in modules.items():
        lines += ["", f"{name}: {module.TITLE}"]
        shown = None
        for preset_name, recipe in RECIPES.items():
            known, state = record.read_provenance(name, preset_name), record.state(name, module, recipe)
            said = f"{claims.minutes(known):.0f} minutes with training when it was made" if known else ""
            said = said or estimates.estimate(name, module, recipe, rates)
            lines.append(f"  {preset_name:6}  {state:11}  {said}")
            shown = preset_name if state in ("fresh", "to be drawn") else shown  # today's claims may not fit old rows
        if shown:
            lines += [f"    {claim.claim}" for claim in module.claims(record.read_rows(name, shown))]
    return "\n".join(lines[1:])


def lock_of(name: str, recipe: Recipe) -> Path:
    return Path("runs") / f"{name}-{recipe.name}.lock"


def bring_up_to_date(name: str, module: ModuleType, recipe: Recipe, command: str) -> None:
    """Compute and draw what is not recorded from today's code."""
    with alone(lock_of(name, recipe)):
        state = record.state(name, module, recipe)
        if state == "to be drawn":
            record.redraw(name, module, recipe.name)
        if state in ("fresh", "to be drawn"):
            print(f"{name}: up to date", file=sys.stderr)
        else:
            record.make(name, module, recipe, command)


def main() -> None:
    """The command line; what a full disk or a read-only folder refuses ends it with one plain line."""
    try:
        follow(parse())
    except OSError as error:
        sys.exit(f"error: {error}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m figures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"figures to make: {', '.join(MODULES)} (default all)")
    parser.add_argument("--preset", choices=RECIPES, default="quick", help="size of the models and of the evaluation")
    parser.add_argument("--jobs", type=int, default=1, help="trainings and figures made at once (default 1)")
    parser.add_argument("--list", action="store_true", help="show every figure, its claims, presets, minutes and state")
    parser.add_argument("--redraw", action="store_true", help="draw recorded rows again without computing")
    parser.add_argument(
        "--results", action="store_true", help="only write RESULTS.md, and README's short table, from the recorded rows"
    )
    return parser.parse_args()


def follow(arguments: argparse.Namespace) -> None:
    """Do what was asked for."""
    modules, recipe = load(arguments.names), RECIPES[arguments.preset]
    if arguments.list:
        print(listing(modules))
        return
    if arguments.results:
        root, everything = record.HERE.parent, load([])
        write_text(root / "RESULTS.md", claims.results(everything))
        write_text(root / "README.md", claims.with_headlines((root / "README.md").read_text(), everything))
        return
    if arguments.redraw:
        for name, module in modules.items():
            if not record.read_provenance(name, recipe.name):
                sys.exit(f"error: {name} has no recorded rows of preset {recipe.name}: make it without --redraw first")
            with alone(lock_of(name, recipe)):
                record.redraw(name, module, recipe.name)
        return
    if arguments.jobs < 1:
        sys.exit(f"error: --jobs must be at least 1, got {arguments.jobs}")
    if arguments.jobs > 1:
        try:
            failures = workers.make_all(modules, recipe, arguments.jobs)
        except KeyboardInterrupt:
            sys.exit("stopped; the same command goes on from there")
        finish(modules, recipe, {one.name: one.why for one in failures})
        return
    for module in modules.values():  # read now the files that were imported now: they may change in the hours below
        rows_hash(module, recipe), drawing_hash(module)
    keep_compiled()
    batches = [preset(name).batch for module in modules.values() for name in module.wanted(recipe).presets.values()]
    devices.start(devices.Devices(), math.gcd(*batches))
    command = f"python -m figures {' '.join(arguments.names)} --preset {recipe.name}".replace("  ", " ")
    failed = {}
    for name, module in modules.items():
        try:
            bring_up_to_date(name, module, recipe, command)
        except KeyboardInterrupt:
            sys.exit(f"stopped in {name}; the same command goes on from there")
        except Exception as error:  # the other figures can still be made
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {error}"
    finish(modules, recipe, failed)


def finish(modules: dict[str, ModuleType], recipe: Recipe, failed: dict[str, str]) -> None:
    """Say what came of it; what failed with its reasons, and a status that is not zero."""
    print(summary({name: module for name, module in modules.items() if name not in failed}, recipe.name))
    if failed:
        sys.exit("\n".join(["", "failed:", *(f"  {name}: {why}" for name, why in failed.items())]))


if __name__ == "__main__":
    main()
