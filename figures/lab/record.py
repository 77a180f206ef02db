"""A figure on disk: NAME.csv (rows), NAME.png, NAME.pdf and NAME.json (where the rows come from), whole or absent."""

import dataclasses
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import jax
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from figures.programs import forget_if_many
from figures.recipes import Recipe, trained
from figures.sources import HERE, STYLE, digest, drawing_hash, rows_hash
from icl_synth.checkpoints import write_atomically, write_text
from icl_synth.config import preset
from icl_synth.provenance import commit, device

OUT = HERE / "out"
State = Literal["missing", "stale", "to be drawn", "fresh"]


def directory(preset_name: str) -> Path:
    return OUT / preset_name


def read_provenance(name: str, preset_name: str) -> dict[str, Any] | None:
    path = directory(preset_name) / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def read_rows(name: str, preset_name: str) -> pd.DataFrame:
    return pd.read_csv(directory(preset_name) / f"{name}.csv")


def state(name: str, module: ModuleType, recipe: Recipe) -> State:
    """Whether rows are there and come from today's code, and whether today's code drew them."""
    known, rows = read_provenance(name, recipe.name), directory(recipe.name) / f"{name}.csv"
    if known is None or not rows.exists():
        return "missing"
    if known["sources"] != rows_hash(module, recipe) or known["rows"] != digest(rows.read_bytes()):
        return "stale"
    pictures = all((directory(recipe.name) / f"{name}{suffix}").exists() for suffix in (".png", ".pdf"))
    return "fresh" if pictures and known["drawing"] == drawing_hash(module) else "to be drawn"


def make(name: str, module: ModuleType, recipe: Recipe, command: str) -> None:
    """Compute the rows, then draw; the provenance is written last and vouches for the rest."""
    wanted = module.wanted(recipe)
    forget_if_many()  # those of the figures before
    trained(wanted)  # first, so that the minutes below are those of the evaluation alone
    sources, started = rows_hash(module, recipe), time.perf_counter()  # before: files may change while it runs
    rows = module.compute(recipe)
    minutes = (time.perf_counter() - started) / 60
    text = rows.to_csv(index=False)
    write_text(directory(recipe.name) / f"{name}.csv", text)
    draw(name, module, recipe.name)
    provenance = {
        "figure": name,
        "preset": recipe.name,
        "command": command,
        "seeds": wanted.seeds,
        "training": {model: dataclasses.asdict(preset(training)) for model, training in wanted.presets.items()},
        "models": rows.attrs["models"],
        "minutes": round(minutes, 2),
        "device": device(),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "jax": jax.__version__,
        "rows": digest(text.encode()),
        "sources": sources,
        "drawing": drawing_hash(module),
    }
    write(name, recipe.name, provenance)


def write(name: str, preset_name: str, provenance: dict[str, Any]) -> None:
    write_text(directory(preset_name) / f"{name}.json", json.dumps(provenance, indent=2) + "\n")


def redraw(name: str, module: ModuleType, preset_name: str) -> None:
    """Draw the recorded rows again: no computation."""
    known = read_provenance(name, preset_name)
    assert known
    draw(name, module, preset_name)
    write(name, preset_name, known | {"drawing": drawing_hash(module)})


def draw(name: str, module: ModuleType, preset_name: str) -> None:
    with plt.style.context(STYLE):
        figure = module.plot(read_rows(name, preset_name))
        save(figure, directory(preset_name) / name)
        plt.close(figure)


def save(figure: Figure, stem: Path) -> None:
    write_atomically(stem.with_suffix(".png"), lambda path: figure.savefig(path, metadata={"Software": None}))
    write_atomically(stem.with_suffix(".pdf"), lambda path: figure.savefig(path, metadata={"CreationDate": None}))
