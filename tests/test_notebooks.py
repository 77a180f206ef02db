"""Committed notebooks are executed, small, thin, free of errors and of paths. `make test` also runs them, by nbmake."""

import json
import re
from pathlib import Path

import nbformat
import pytest

NAMES = [
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
