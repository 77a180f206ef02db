"""An experiment on disk: NAME.csv (rows), NAME.json (where they come from), NAME.png and NAME.pdf.

Each file is whole or absent. Provenance is written with the rows, before anything is drawn: a fault in `plot` costs a
drawing and no computing.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from figures.lab import runs
from figures.lab.catalogue import FIGURES, Experiment
from figures.lab.presets import RECORDED
from figures.lab.programs import forget_if_many
from figures.lab.tables import PAPER_VALUES, join
from icl_synth.files import write_atomically, write_text
from icl_synth.layers import Precision
from icl_synth.presets import preset as training_preset
from icl_synth.provenance import commit, device
from icl_synth.sources import ROOT, digest, files_behind

OUT = FIGURES / "out"
STYLE = FIGURES / "lab" / "house.mplstyle"
# of the machinery only `tables` and `measure` change what a row says, and `style` how it looks; presets count by value
MACHINERY = ("catalogue", "claims", "generated", "presets", "programs", "record", "report", "runs", "schedule")
NO_PICTURE = tuple(f"figures/lab/{name}.py" for name in MACHINERY)
NO_ROWS = (*NO_PICTURE, "figures/lab/style.py")
RULES = "figures/lab/claims.py"
Result = TypeVar("Result")
State = Literal["missing", "stale", "partial", "to be drawn", "fresh"]


def directory(preset: str) -> Path:
    return OUT / preset


def file_of(name: str, preset: str, suffix: str) -> Path:
    return directory(preset) / f"{name}{suffix}"


def read_provenance(name: str, preset: str) -> dict[str, Any] | None:
    path = file_of(name, preset, ".json")
    return json.loads(path.read_text()) if path.exists() else None


def read_rows(name: str, preset: str) -> pd.DataFrame:
    """The recorded rows of an experiment. Raises FileNotFoundError naming the command that makes them."""
    path = file_of(name, preset, ".csv")
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: run python -m figures {name} --preset {preset}")
    return pd.read_csv(path)


def sources(experiment: Experiment) -> dict[str, str]:
    """The files that the rows depend on, each with its digest: `compute` and all that it uses, and what trains."""
    training = files_behind(ROOT / "icl_synth" / "train.py", "train") if any_models(experiment) else {}
    return training | files_behind(experiment.path, "compute", exclude=NO_ROWS)


def any_models(experiment: Experiment) -> bool:
    return any(preset.suite.models for preset in experiment.presets.values())


def asked(experiment: Experiment, preset: str) -> str:
    """Digest of what a preset trains and asks."""
    suite, sizes = experiment.presets[preset]
    values = {
        "training": {name: dataclasses.asdict(training_preset(name)) for name in suite.models.values()},
        **({"before": before} if (before := runs.beginnings(suite)) else {}),
        "models": list(suite.runs),
        "sizes": repr(sizes),
    }
    return digest(json.dumps(values, sort_keys=True).encode())[:16]


def drawing(experiment: Experiment) -> str:
    """Digest of the code that `plot` uses, of the published values that it draws and of the style."""
    code = files_behind(experiment.path, "plot", exclude=NO_PICTURE)
    values = [file for pattern in experiment.module.PUBLISHED for file in sorted(PAPER_VALUES.glob(pattern))]
    return digest(json.dumps(code).encode(), *(path.read_bytes() for path in [*values, STYLE]))[:16]


def rules(experiment: Experiment) -> str:
    """Digest of the code that judges the claims, by which it is seen whether a rule is older than its rows."""
    code = files_behind(experiment.path, "claims", exclude=tuple(path for path in NO_PICTURE if path != RULES))
    return digest(json.dumps(code).encode())[:16]


def changes(experiment: Experiment, preset: str) -> list[str]:
    """What changed since the rows were computed: files, or "what the preset asks"; nothing where they are today's."""
    known = read_provenance(experiment.name, preset)
    if known is None:
        return []
    today, then = sources(experiment), known["sources"]
    changed = [path for path in today | then if today.get(path) != then.get(path)]
    return sorted(changed) + (["what the preset asks"] if known["asked"] != asked(experiment, preset) else [])


def state(experiment: Experiment, preset: str) -> State:
    """Whether rows are there and come from today's code, and whether today's code drew them."""
    name = experiment.name
    known, rows = read_provenance(name, preset), file_of(name, preset, ".csv")
    if known is None or not rows.exists():
        return "missing"
    if outdated(experiment, preset):
        return "stale"
    if seeds_left(experiment, preset):
        return "partial"
    pictures = all(file_of(name, preset, suffix).exists() for suffix in (".png", ".pdf"))
    return "fresh" if pictures and known["drawing"] == drawing(experiment) else "to be drawn"


def outdated(experiment: Experiment, preset: str) -> bool:
    """Whether recorded rows come from other code, or were edited since."""
    known, rows = read_provenance(experiment.name, preset), file_of(experiment.name, preset, ".csv")
    edited = not known or not rows.exists() or known["rows"] != digest(rows.read_bytes())
    return edited or bool(changes(experiment, preset))


def from_rows(function: Callable[[pd.DataFrame], Result], experiment: Experiment, preset: str) -> Result | None:
    """What a function such as `claims` makes of the recorded rows; None where these come from older code, or from some
    seeds only, and lack what the function reads."""
    rows = read_rows(experiment.name, preset)
    try:
        return function(rows)
    except (LookupError, AttributeError, TypeError, ValueError):
        if state(experiment, preset) not in ("stale", "partial"):
            raise
        return None


def check_committed(preset: str) -> None:
    """End the program where rows that are committed would come from code that is not."""
    if preset in RECORDED and (commit().endswith("+") or commit() == "unknown"):
        sys.exit(
            f"error: rows of preset {preset} are recorded from committed code only, and this tree is at {commit()!r}: "
            "commit the changes that git status shows, or try them with --preset quick"
        )


def seeds_left(experiment: Experiment, preset: str, wanted: tuple[int, ...] = ()) -> tuple[int, ...]:
    """The seeds, of those wanted or of all, that a record of today's code does not have yet."""
    suite, known = experiment.presets[preset].suite, read_provenance(experiment.name, preset)
    recorded = known["seeds"] if known and not outdated(experiment, preset) else []
    return tuple(seed for seed in suite.seeds if seed not in recorded and seed in (wanted or suite.seeds))


def seeds_needed(experiment: Experiment, preset: str, wanted: tuple[int, ...] = ()) -> tuple[int, ...]:
    """The seeds whose runs are read to bring a record up to date: those that are left; of curves, the recorded ones
    too, since a law is fitted to the runs of all seeds together."""
    suite, left = experiment.presets[preset].suite, seeds_left(experiment, preset, wanted)
    again = set(suite.seeds) - set(seeds_left(experiment, preset)) if suite.curves and left else set()
    return tuple(seed for seed in suite.seeds if seed in again or seed in left)


def make(
    experiment: Experiment, preset: str, command: str, precision: Precision = "auto", seeds: tuple[int, ...] = ()
) -> None:
    """Compute the rows of the seeds that are left, or of those among them that are named, write them with their
    provenance beside what is recorded of other seeds, then draw. Rows that read curves alone are computed of all."""
    check_committed(preset)
    forget_if_many()  # the compiled programs of the experiments before
    left, (suite, sizes) = seeds_needed(experiment, preset, seeds), experiment.presets[preset]
    known_sources, from_commit = sources(experiment), commit()  # before: files may change while it runs
    before = read_provenance(experiment.name, preset) if len(left) < len(suite.seeds) and not suite.curves else None
    known = before if before and not outdated(experiment, preset) else None
    models = runs.load(suite.of(left), precision)
    started = time.perf_counter()  # the minutes are those of the evaluation alone
    rows = experiment.module.compute(models, sizes)
    minutes = (time.perf_counter() - started) / 60
    if known:
        rows, minutes = join(read_rows(experiment.name, preset), rows), minutes + known["minutes"]
    text = rows.to_csv(index=False)
    provenance = {
        "experiment": experiment.name,
        "preset": preset,
        "command": command,
        "seeds": sorted([*(known["seeds"] if known else []), *left]),
        "training": {name: dataclasses.asdict(training_preset(training)) for name, training in suite.models.items()},
        "sizes": sizes._asdict(),
        "models": [
            *(known["models"] if known else []),
            *(run.record() for several in models.values() for run in several),
        ],
        "minutes": round(minutes, 2),
        "device": device(),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": from_commit,
        "jax": jax.__version__,
        "rows": digest(text.encode()),
        "asked": asked(experiment, preset),
        "rules": rules(experiment),
        "sources": known_sources,
        "drawing": "",
    }
    write_text(file_of(experiment.name, preset, ".csv"), text)
    write(experiment.name, preset, provenance)
    redraw(experiment, preset)


def write(name: str, preset: str, provenance: dict[str, Any]) -> None:
    write_text(file_of(name, preset, ".json"), json.dumps(provenance, indent=1, default=str) + "\n")


def redraw(experiment: Experiment, preset: str) -> None:
    """Draw the recorded rows: no computation."""
    name, known = experiment.name, read_provenance(experiment.name, preset)
    assert known
    with plt.style.context(STYLE):
        figure = experiment.module.plot(read_rows(name, preset))
        save(figure, file_of(name, preset, ""))
        plt.close(figure)
    write(name, preset, known | {"drawing": drawing(experiment)})


def save(figure: Figure, stem: Path) -> None:
    png, pdf = (stem.with_name(stem.name + suffix) for suffix in (".png", ".pdf"))
    write_atomically(png, lambda path: figure.savefig(path, metadata={"Software": None}))
    write_atomically(pdf, lambda path: figure.savefig(path, metadata={"CreationDate": None}))
