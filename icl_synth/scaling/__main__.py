"""Fit scaling laws to runs of one's own: python -m icl_synth.scaling runs.csv --json fits.json"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from icl_synth import checks
from icl_synth.files import replacing, write_text
from icl_synth.scaling import frontier, parametric
from icl_synth.scaling.frontier import Frontier, envelope, isoflop
from icl_synth.scaling.parametric import Form, Law
from icl_synth.scaling.picture import picture
from icl_synth.scaling.runs import Runs, budgets, draw, draw_at_budgets, interval, read

FITTED = ("E", "A", "B", "alpha", "beta", "a")


def main(
    runs: tyro.conf.Positional[Path],
    json: Path | None = None,
    figure: Path | None = None,
    entropy: float | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> None:
    """Fit the three approaches of Hoffmann et al. 2022 to the training runs of a CSV file.

    Args:
        runs: A CSV file with the columns parameters, tokens and loss (nats per token), a line for each run.
        json: Also write the fits with their intervals here.
        figure: Where to draw; runs.png beside runs.csv unless given.
        entropy: The irreducible loss where it is known; otherwise it is fitted.
        draws: Bootstrap samples behind the 95 % intervals.
        seed: Seed of the samples.
    """
    points = read(runs)
    checks.at_least(20, draws=draws)
    checks.seed(seed=seed)
    if entropy is not None:
        checks.within(0, float(points.loss.max()), entropy=entropy)
    fits, intervals = fit_all(points, Form(entropy), draws, seed)
    print(report(points, fits, intervals))
    if json is not None:
        write_text(json, as_json(fits, intervals) + "\n")
    with replacing(figure or runs.with_suffix(".png")) as path:
        picture(points, fits).savefig(path, dpi=150)


def fit_all(
    runs: Runs, form: Form, draws: int, seed: int
) -> tuple[dict[str, Frontier | Law], dict[str, dict[str, tuple[float, float]]]]:
    """The fits by the name of their approach, and the 95 % intervals of what each of them fits."""
    fits: dict[str, Frontier | Law] = {"envelope": envelope(runs), "isoflop": isoflop(runs)}
    at_budgets = [runs.select(drawn) for drawn in draw_at_budgets(runs, draws, seed)]
    intervals = {
        "envelope": {"a": interval(frontier.bootstrap(envelope, at_budgets))},
        "isoflop": {"a": interval(frontier.bootstrap(isoflop, at_budgets))},
    }
    fits["parametric"] = parametric.fit(runs, form)
    of_draws = parametric.bootstrap(runs, draw(runs, draws, seed), form)
    intervals["parametric"] = {name: interval(getattr(of_draws, name)) for name in FITTED}
    return fits, intervals


def report(runs: Runs, fits: dict[str, Any], intervals: dict[str, dict[str, tuple[float, float]]]) -> str:
    """What was found, as lines to print."""
    law, largest = fits["parametric"], budgets(runs)[-1]
    flops = runs.flops[largest].mean()
    lines = [
        f"{len(runs.loss)} runs of {len(np.unique(runs.parameters))} sizes; 95 % intervals by bootstrap over runs",
        "N_opt ~ C^a, D_opt ~ C^(1 - a), C = 6 N D:",
    ]
    for name, found in fits.items():
        low, high = intervals[name]["a"]
        each = flops / 6 / float(found.optimal_parameters(flops)) ** 2
        lines.append(
            f"  {name:<10}  a = {float(found.a):.3f} ({low:.3f} to {high:.3f}); at {flops:.3g} FLOPs "
            f"{each:.3g} tokens per parameter"
        )
    lines.append("L = E + A / N^alpha + B / D^beta, nats per token:")
    for name in FITTED[:-1]:
        low, high = intervals["parametric"][name]
        lines.append(f"  {name:<5} = {float(getattr(law, name)):.5g} ({low:.5g} to {high:.5g})")
    return "\n".join(lines)


def as_json(fits: dict[str, Any], intervals: dict[str, dict[str, tuple[float, float]]]) -> str:
    """The fits as JSON: of the first two approaches a, b and the interval of a; of the third its parameters and a, and
    the interval of each by name."""
    found: dict[str, Any] = {
        name: {"a": fits[name].a, "b": fits[name].b, "interval": intervals[name]["a"]}
        for name in ("envelope", "isoflop")
    }
    found["parametric"] = {name: float(getattr(fits["parametric"], name)) for name in FITTED}
    found["parametric"]["interval"] = intervals["parametric"]
    return json.dumps(found, indent=1)


if __name__ == "__main__":
    try:
        tyro.cli(main, prog="python -m icl_synth.scaling")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
