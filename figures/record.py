"""A figure on disk: NAME.csv (rows), NAME.png, NAME.pdf and NAME.json (where the rows come from), whole or absent."""

import ast
import dataclasses
import hashlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from figures.recipes import Recipe, trained
from icl_synth.checkpoints import write_atomically, write_text
from icl_synth.config import preset
from icl_synth.provenance import commit, device

HERE = Path(__file__).parent
OUT = HERE / "out"
STYLE = HERE / "house.mplstyle"


def directory(preset_name: str) -> Path:
    return OUT / preset_name


def sources_hash(module: ModuleType, recipe: Recipe) -> str:
    """Changes when the recipe, a training preset of it, the figure's code, published values or the library changes.

    Prose changes nothing: docstrings, comments, and what a figure says in TITLE and DIFFERS.
    """
    assert module.__file__
    used = [file for pattern in module.SOURCES for file in HERE.parent.glob(pattern)]
    files = [Path(module.__file__), HERE / "recipes.py", STYLE, *sorted(used)]
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(recipe), sort_keys=True).encode())
    for training in module.wanted(recipe).models.values():
        digest.update(json.dumps(dataclasses.asdict(preset(training)), sort_keys=True).encode())
    for file in files:
        digest.update(code(file.read_text()).encode() if file.suffix == ".py" else file.read_bytes())
    return digest.hexdigest()


def code(text: str) -> str:
    """A Python file without its prose."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [part for part in node.body if not _is_prose(part)]
    return ast.dump(tree)


def _is_prose(part: ast.stmt) -> bool:
    if isinstance(part, ast.Assign):
        return [getattr(target, "id", "") for target in part.targets] in (["TITLE"], ["DIFFERS"])
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str)


def read_provenance(name: str, preset_name: str) -> dict[str, Any] | None:
    path = directory(preset_name) / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def read_rows(name: str, preset_name: str) -> pd.DataFrame:
    return pd.read_csv(directory(preset_name) / f"{name}.csv")


def is_fresh(name: str, module: ModuleType, recipe: Recipe) -> bool:
    """Whether the recorded rows come from today's sources."""
    known = read_provenance(name, recipe.name)
    whole = all((directory(recipe.name) / f"{name}{suffix}").exists() for suffix in (".csv", ".png", ".pdf"))
    return whole and known is not None and known["sources"] == sources_hash(module, recipe)


def make(name: str, module: ModuleType, recipe: Recipe, command: str) -> None:
    """Compute the rows, then draw; the provenance is written last and vouches for the rest."""
    wanted = module.wanted(recipe)
    trained(wanted)  # first, so that the minutes below are those of the evaluation alone
    started = time.perf_counter()
    rows = module.compute(recipe)
    minutes = (time.perf_counter() - started) / 60
    write_text(directory(recipe.name) / f"{name}.csv", rows.to_csv(index=False))
    draw(name, module, recipe.name)
    provenance = {
        "figure": name,
        "preset": recipe.name,
        "command": command,
        "seeds": wanted.seeds,
        "training": {model: dataclasses.asdict(preset(training)) for model, training in wanted.models.items()},
        "models": rows.attrs["models"],
        "minutes": round(minutes, 2),
        "device": device(),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "jax": jax.__version__,
        "sources": sources_hash(module, recipe),
    }
    write_text(directory(recipe.name) / f"{name}.json", json.dumps(provenance, indent=2) + "\n")


def draw(name: str, module: ModuleType, preset_name: str) -> None:
    """Draw the recorded rows again: no computation."""
    with plt.style.context(STYLE):
        figure = module.plot(read_rows(name, preset_name))
        save(figure, directory(preset_name) / name)
        plt.close(figure)


def save(figure: Figure, stem: Path) -> None:
    write_atomically(stem.with_suffix(".png"), lambda path: figure.savefig(path, metadata={"Software": None}))
    write_atomically(stem.with_suffix(".pdf"), lambda path: figure.savefig(path, metadata={"CreationDate": None}))
