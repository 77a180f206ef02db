"""python -m figures.lab.notebooks [PATH ...]: execute notebooks in place and note what their outputs come from."""

import base64
import io
import json
import re
import sys
from pathlib import Path
from typing import Annotated

import nbformat
import tyro
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

from figures.lab import catalogue, record
from icl_synth.files import write_text
from icl_synth.sources import ROOT, digest, files_behind

NOTEBOOKS = ROOT / "notebooks"
MARK = "outputs_of"  # in the notebook's metadata
NAME = re.compile(r'"(\w+/\w+)"')


def sources(notebook: NotebookNode, preset: str = "small") -> str:
    """Digest of the code cells, of the recorded rows that they show, and of the code that draws and judges these."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    known = catalogue.names()
    shown = {name for cell in code for name in NAME.findall(cell) if name in known}
    if any("catalogue.names()" in cell for cell in code):
        shown = set(known)
    parts = [cell.encode() for cell in code]
    for name in sorted(shown):
        judging = files_behind(catalogue.experiment(name).path, "plot", "claims", exclude=record.NO_PICTURE)
        rows = record.file_of(name, preset, ".csv")
        parts += [rows.read_bytes() if rows.exists() else b"no rows", json.dumps(judging).encode()]
    return digest(*parts)


def execute(path: Path) -> None:
    """Run a notebook from top to bottom and write it back whole; an error leaves the file as it was."""
    notebook = nbformat.read(path, as_version=4)
    before = sources(notebook)
    NotebookClient(notebook, timeout=600, record_timing=False, resources={"metadata": {"path": path.parent}}).execute()
    notebook.metadata[MARK] = before
    shrink(notebook)
    write_text(path, nbformat.writes(notebook) + "\n")


def shrink(notebook: NotebookNode) -> None:
    """Store the pictures that cells drew in few colors, about a third of the bytes."""
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        if "image/png" in output.get("data", {}):
            png = few_colors(base64.b64decode(output.data["image/png"]))
            output.data["image/png"] = base64.b64encode(png).decode()


def few_colors(png: bytes) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(128).save(file, format="png", optimize=True)
    return file.getvalue()


def main(paths: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()) -> None:
    """Execute notebooks in place.

    Args:
        paths: Notebooks; all if none are named.
    """
    for path in paths or sorted(NOTEBOOKS.glob("*.ipynb")):
        print(path, file=sys.stderr)
        execute(path)


if __name__ == "__main__":
    tyro.cli(main, prog="python -m figures.lab.notebooks")
