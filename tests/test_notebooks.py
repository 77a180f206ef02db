"""Committed notebooks are executed, small, free of errors and of paths; lessons have their parts; exercises work.

`make test` also runs them, by nbmake.
"""

import base64
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient.exceptions import CellExecutionError

from figures.lab import record
from figures.lab.notebooks import MARK, execute, sources
from figures.pictures import sliders
from figures.pictures.lesson import judged

NAMES = [
    "00_start_here",
    "01_concept_hmm",
    "02_in_context_learning",
    "03_four_aspects",
    "04_sparsegpt",
    "05_block_floating_point",
    "06_assisted_decoding",
    "07_scaling_laws",
    "09_a_real_language_model",
]
NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
LESSONS = NOTEBOOKS[1:]  # the first one welcomes


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
    assert '"image/png"' in json.dumps(notebook) or "image/png;base64" in text


def cells_of(path: Path, kind: str, tag: str = "") -> list[str]:
    """The sources of a notebook's cells of one kind; of those with a tag, if one is named."""
    cells = nbformat.read(path, as_version=4).cells
    return [
        cell.source for cell in cells if cell.cell_type == kind and (not tag or tag in cell.metadata.get("tags", []))
    ]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_its_parts(path):
    code, text = ("\n".join(cells_of(path, kind)) for kind in ("code", "markdown"))
    title, times, *_ = [line for line in text.splitlines() if line]
    assert title.startswith("# ") and title.endswith("?")
    assert times.startswith("*") and "You need" in times and "Next: [" in times
    assert "$$" in text and "https://arxiv.org/abs/" in text
    assert re.search(r"^def ", code, re.MULTILINE) and "assert np.allclose" in code
    assert "**Make a guess first" in text and re.search(r"^guess = ", code, re.MULTILINE)
    assert "play(" in code and "../RESULTS.md" in text
    assert "recorded.picture(" in code or path == LESSONS[0]  # of the world itself nothing is recorded
    assert "## What differs from the paper" in text and "## Change this" in text
    assert len(cells_of(path, "code", "change")) == 1 and len(cells_of(path, "code", "exercise")) == 3


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_exercises_are_open_until_their_answers_stand_in_place_of_the_dots(path, capsys):
    known: dict[str, object] = {}
    for cell in cells_of(path, "code", "setup"):
        exec(cell, known)
    known["check"] = lambda answer, right, within=1e-6: print(judged(answer, right, within))  # the reader's is wider
    exercises, answers = cells_of(path, "code", "exercise"), cells_of(path, "markdown", "answer")
    capsys.readouterr()
    for exercise, answer in zip(exercises, answers, strict=True):
        assert exercise.count("...") == 1 and "<details>" in answer
        solution = answer.split("```python\n")[1].split("\n```")[0]
        for source, said in ((exercise, "Not yet"), (exercise.replace("...", f"({solution})"), "Right.")):
            exec(source, dict(known))
            assert capsys.readouterr().out.startswith(said)


def test_an_exercise_tells_what_is_wrong_and_stops_nothing():
    assert judged(..., 1.0, 1e-4).startswith("Not yet: write")
    assert judged(0.5, 1.0, 1e-4) == "Not yet: your answer is 0.5."
    assert "shape is (2,)" in judged([1, 2], [1, 2, 3], 1e-4)
    assert judged(lambda: 1 / 0, 1.0, 1e-4) == "Not yet: ZeroDivisionError: division by zero"
    assert judged(1.00005, 1.0, 1e-4) == judged(lambda: [2, 3], [2, 3], 0.0) == "Right."
    assert judged("msfp12", "msfp12", 0.0) == "Right."
    with pytest.raises(ValueError, match="must be finite"):
        judged(np.inf, np.inf, 1e-4)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_the_first_notebook_names_lessons_by_their_questions(path):
    title = cells_of(path, "markdown")[0].splitlines()[0].removeprefix("# ")
    assert f"({path.name}) | {title} |" in "\n".join(cells_of(NOTEBOOKS[0], "markdown"))


def test_a_page_without_a_kernel_has_a_frame_for_every_place_of_the_sliders():
    choices = {"a": (1, 2), "b": ("x", "y", "z")}
    frames = {values: f"{values}".encode() for values in sliders.combinations(choices)}
    html = sliders.page(frames, (2, "y"), choices)
    stored = [base64.b64decode(frame) for frame in json.loads(re.search(r"frames = (\[.*?\])", html)[1])]
    assert stored == list(frames.values())
    assert html.count('type="range"') == 2 and 'max="1" value="1"' in html and 'max="2" value="1"' in html
    assert f'src="data:image/png;base64,{base64.b64encode(frames[2, "y"]).decode()}"' in html


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_to_files_lead_somewhere(path):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", "\n".join(cells_of(path, "markdown")))
    local = [link for link in links if "://" not in link]
    assert local and not [link for link in local if not (path.parent / link).exists()]


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
