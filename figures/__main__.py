"""python -m figures [NAME ...] --preset quick: train what is missing, compute, draw; nothing is done twice."""

import argparse
import importlib
import math
import sys
from pathlib import Path
from types import ModuleType

from figures import claims, record
from figures.recipes import RECIPES, Recipe, trained
from icl_synth import devices
from icl_synth.checkpoints import write_atomically
from icl_synth.config import preset

MODULES = sorted(path.stem for path in Path(__file__).parent.glob("fig_*.py"))


def load(names: list[str]) -> dict[str, ModuleType]:
    """The figures of these names, all if none; exits naming the choices for an unknown one."""
    unknown = [name for name in names if name not in MODULES]
    if unknown:
        sys.exit(f"error: unknown figure {unknown[0]!r}: choose from {', '.join(MODULES)}")
    return {name: importlib.import_module(f"figures.{name}") for name in names or MODULES}


def summary(modules: dict[str, ModuleType], recipe: Recipe) -> str:
    """What came out: a line for each model and claim, and where the pictures are."""
    lines = ["", "model          seed  excess over Bayes  minutes"]
    for one in trained(recipe):
        lines.append(f"{one.name:14} {one.seed:4}  {one.metrics[-1]['excess_nats']:17.4f}  {one.minutes:7.1f}")
    for name, module in modules.items():
        lines += ["", module.TITLE]
        lines += [f"  [{claim.verdict:7}] {claim.claim}: {claim.ours}  (paper: {claim.paper})"
                  for claim in module.claims(record.read_rows(name, recipe.name))]  # fmt: skip
        lines.append(f"  {(record.directory(recipe.name) / name).with_suffix('.png').relative_to(Path.cwd())}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m figures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"figures to make: {', '.join(MODULES)} (default all)")
    parser.add_argument("--preset", choices=RECIPES, default="quick", help="size of the models and of the evaluation")
    parser.add_argument("--redraw", action="store_true", help="draw recorded rows again without computing")
    parser.add_argument("--results", action="store_true", help="only write RESULTS.md from the recorded rows")
    arguments = parser.parse_args()
    modules, recipe = load(arguments.names), RECIPES[arguments.preset]
    if arguments.results:
        write_atomically(record.HERE.parent / "RESULTS.md", claims.results(load([])))
        return
    batches = [preset(training).batch for training in recipe.models.values()]
    devices.start(devices.Devices(), math.gcd(*batches))
    command = f"python -m figures {' '.join(arguments.names)} --preset {recipe.name}".replace("  ", " ")
    for name, module in modules.items():
        if arguments.redraw:
            record.draw(name, module, recipe.name)
        elif record.is_fresh(name, module, recipe):
            print(f"{name}: up to date", file=sys.stderr)
        else:
            record.make(name, module, recipe, command)
    print(summary(modules, recipe))


if __name__ == "__main__":
    main()
