"""Committed notebooks are executed, small, thin, free of errors and of paths. `make test` also runs them, by nbmake."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from figures.lab import record
from figures.lab.notebooks import MARK, execute, sources

NAMES = [
    "00_start_here",
    "01_concept_hmm",
    "02_in_context_learning",
    "03_four_aspects",
    "04_sparsegpt",
    "05_block_floating_point",
    "06_assisted_decoding",
]
NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
HEADINGS = ["Question", "Setup", "Data", "Result", "Against the paper", "What differs"]


def test_all_are_there():
    assert [path.stem for path in NOTEBOOKS] == NAMES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_the_product(path):
    text = path.read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(text) <= 500_000
    assert not re.search(r"/(home|root|Users|tmp|work)/", text)
    assert all(cell.execution_count for cell in code)
    assert notebook.metadata.get(MARK) == sources(notebook), "run make notebooks: cells or rows changed since"
    assert all(output.output_type != "error" for cell in code for output in cell.outputs)
    assert not re.search(r"^(class|def) ", "\n".join(cell.source for cell in code), re.MULTILINE)
    headings = [
        line.removeprefix("## ")
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if line.startswith("## ")
    ]
    assert headings == HEADINGS
    assert '"image/png"' in json.dumps(notebook)


def write_notebook(path: Path, *code: str) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in code]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def test_outputs_are_known_to_be_old_when_a_cell_or_a_row_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "OUT", tmp_path)
    rows = record.file_of("learning/accuracy", "small", ".csv")
    rows.parent.mkdir(parents=True)
    rows.write_text("a\n1\n")
    path = tmp_path / "notebook.ipynb"
    write_notebook(path, '# recorded.picture("learning/accuracy")', "1 + 1")
    execute(path)
    done = nbformat.read(path, as_version=4)
    assert done.cells[1].outputs[0].data["text/plain"] == "2" and done.metadata[MARK] == sources(done)
    rows.write_text("a\n2\n")
    assert done.metadata[MARK] != sources(done)
    rows.write_text("a\n1\n")
    done.cells[1].source = "1 + 2"
    assert done.metadata[MARK] != sources(done)


# numbers in prose that define or set an example
ALLOWED = {"95 %", "50 %", "0.1", "5.0", "1.25", "0 dB", "000 times"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_measured_number_is_typed_into_prose(path):
    cells = nbformat.read(path, as_version=4).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    prose = re.sub(r"```.*?```|`[^`\n]*`|\]\([^)]*\)|\$[^$]*\$", "", prose, flags=re.DOTALL)
    typed = re.findall(r"\d+(?:\.\d+)? (?:%|ms|s|min|minutes|hours|nats|points|dB|times)\b|\d+ %|\d*\.\d+", prose)
    assert set(typed) - ALLOWED == set()


def test_a_notebook_that_fails_is_left_as_it_was(tmp_path):
    path = tmp_path / "notebook.ipynb"
    write_notebook(path, "1 / 0")
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute(path)
    assert path.read_bytes() == before
