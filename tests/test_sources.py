"""What makes a figure's rows out of date, what only its picture, and what neither."""

import importlib
from types import SimpleNamespace

import pytest

from figures import sources
from figures.recipes import RECIPES, Wanted

FIGURE = """
'''A figure.'''
import numpy as np
from icl_synth.evaluate import estimate
from icl_synth import bayes, lstm

TITLE = "Old"
LIMIT = 3  # why
COLOUR = "black"


def compute(recipe):
    '''Rows.'''
    return helper(estimate)


def helper(x):
    return LIMIT * x


def plot(rows):
    return draw(rows, COLOUR, lstm)


def draw(rows, colour):
    return bayes
"""


@pytest.fixture
def hashes(tmp_path):
    """(rows, drawing) of a figure with this text."""

    def found(text):
        path = tmp_path / f"fig_{len(list(tmp_path.iterdir()))}.py"  # a process reads a file once
        path.write_text(text)
        module = SimpleNamespace(__file__=str(path), PUBLISHED=("assisted.csv",), wanted=lambda recipe: Wanted({}, ()))
        return sources.rows_hash(module, RECIPES["quick"]), sources.drawing_hash(module)

    return found


@pytest.mark.parametrize(
    ("old", "new", "rows", "drawing"),
    [
        ("A figure", "Another", False, False),
        ("Old", "New", False, False),
        ("# why", "", False, False),
        ("Rows", "More rows", False, False),
        ("LIMIT = 3", "LIMIT = 4", True, True),
        ("LIMIT * x", "LIMIT + x", True, True),
        ('"black"', '"red"', False, True),
        ("return bayes", "return 0", False, True),
    ],
)
def test_what_a_change_makes_stale(hashes, old, new, rows, drawing):
    assert old in FIGURE
    before, after = hashes(FIGURE), hashes(FIGURE.replace(old, new))
    assert (before[0] != after[0], before[1] != after[1]) == (rows, drawing)


def test_rows_depend_on_what_their_imports_import_and_on_nothing_that_only_draws():
    module = importlib.import_module("figures.fig_pruning_bits")
    files = {path.relative_to(sources.ROOT).as_posix() for path in sources.imported(module)}
    assert {"compression/sparsegpt.py", "compression/selection.py", "icl_synth/train.py", "figures/pruning.py"} <= files
    assert not any(name.startswith(("decoding/", "tests/")) for name in files)
    assert not {"figures/record.py", "figures/claims.py", "figures/recipes.py", "compression/formats.py"} & files
    speed = sources.imported(importlib.import_module("figures.fig_assisted_speed"))
    assert {path.parent.name for path in speed if path.suffix == ".safetensors"} == {"transformer", "draft", "lstm"}


def test_of_the_presets_file_the_code_of_worlds_counts_and_the_presets_do_not():
    text = sources.content(sources.ROOT / "icl_synth" / "config.py").decode()
    assert "'uniform_tokens'" in text and "property_temperature" in text
    assert "'PRESETS'" not in text and "'_tiny'" not in text


def test_the_order_of_models_counts(hashes, monkeypatch):
    def found(*names):
        monkeypatch.setattr(Wanted, "presets", {name: "quick" for name in names})
        return hashes(FIGURE)[0]

    assert found("draft", "target") != found("target", "draft")
