"""python -m figures.notebooks [PATH ...]: execute notebooks in place and note what their outputs come from."""

import argparse
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from figures.record import OUT
from figures.sources import HERE, ROOT, content, digest
from icl_synth.checkpoints import write_text

NOTEBOOKS = ROOT / "notebooks"
MARK = "outputs_of"  # in the notebook's metadata
ROWS = re.compile(r'read_rows\("?(\w+)"?, "(\w+)"\)')


def sources(notebook: NotebookNode) -> str:
    """A hash of the code cells, of the recorded rows that they read, and of the figures' code that draws and judges.

    Rows are one figure's where it is named, else those of all.
    """
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    read = [(name if name.startswith("fig_") else "*", preset) for cell in code for name, preset in ROWS.findall(cell)]
    rows = {path for name, preset in read for path in (OUT / preset).glob(f"{name}.csv")}
    drawn_by = {HERE / f"{path.stem}.py" for path in rows if (HERE / f"{path.stem}.py").exists()}
    files = [path.read_bytes() for path in sorted(rows)] + [content(path) for path in sorted(drawn_by)]
    return digest(*(cell.encode() for cell in code), *files, content(HERE / "claims.py"))


def execute(path: Path) -> None:
    """Run a notebook from top to bottom and write it back whole; an error leaves the file as it was."""
    notebook = nbformat.read(path, as_version=4)
    before = sources(notebook)
    NotebookClient(notebook, timeout=600, record_timing=False, resources={"metadata": {"path": path.parent}}).execute()
    notebook.metadata[MARK] = before
    write_text(path, nbformat.writes(notebook) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m figures.notebooks", description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks (default all)")
    for path in parser.parse_args().paths or sorted(NOTEBOOKS.glob("*.ipynb")):
        print(path, file=sys.stderr)
        execute(path)


if __name__ == "__main__":
    main()
