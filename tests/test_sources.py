"""Which code a number comes from: what changes a digest, what does not, and what imports lead to."""

import ast
import shutil
import subprocess

import pytest

from figures.lab import record
from figures.lab.catalogue import experiment
from icl_synth import sources

MODULE = '''
"""A module."""
import numpy as np
from icl_synth.evaluate import estimate
from icl_synth import bayes, lstm

TITLE = "Old"
LIMIT = 3  # why
COLOUR = "black"


def compute(models, sizes):
    """Rows."""
    if not models:
        raise ValueError(f"no models: {sizes}")
    return helper(estimate)


def helper(x):
    return LIMIT * x


def plot(rows):
    return draw(rows, COLOUR, lstm)


def draw(rows, colour):
    return f"{bayes!r:>{rows}}"
'''


@pytest.fixture
def digests(tmp_path):
    """Of a module with this text: digests of what `compute` uses and of what `plot` uses."""

    def of(text):
        path = tmp_path / f"module_{len(list(tmp_path.iterdir()))}.py"  # a process reads a file once
        path.write_text(text)
        return tuple(sources.files_behind(path, name)[path.name] for name in ("compute", "plot"))

    return of


@pytest.mark.parametrize(
    ("old", "new", "rows", "drawing"),
    [
        ("A module", "Another", False, False),
        ("Old", "New", False, False),
        ("# why", "", False, False),
        ("Rows", "More rows", False, False),
        ("no models: {sizes}", "give models", False, False),
        ("ValueError", "TypeError", True, False),
        ("LIMIT = 3", "LIMIT = 4", True, False),
        ("LIMIT = 3", "LIMIT = 3.0", True, False),
        ("LIMIT * x", "LIMIT + x", True, False),
        ('"black"', '"red"', False, True),
        ("!r", "!s", False, True),
        (":>{rows}", ":<{rows}", False, True),
    ],
)
def test_what_changes_a_digest(digests, old, new, rows, drawing):
    assert old in MODULE
    before, after = digests(MODULE), digests(MODULE.replace(old, new))
    assert (before[0] != after[0], before[1] != after[1]) == (rows, drawing)


@pytest.mark.parametrize("python", ["python3.11", "python3.12", "python3.13"])
def test_a_digest_is_the_same_under_every_python(python):
    """Rows recorded under one version must not be stale under another. The golden was made under 3.11."""
    golden = "5fbea2709510f5c1"
    assert sources.code_digest(ast.parse(MODULE).body) == golden
    if not shutil.which(python):
        return  # this one's own was compared
    script = (
        "import ast, importlib.util as u, sys; s = u.spec_from_file_location('s', sys.argv[1]); "
        "m = u.module_from_spec(s); s.loader.exec_module(m); print(m.code_digest(ast.parse(sys.argv[2]).body))"
    )
    command = [python, "-c", script, str(sources.ROOT / "icl_synth" / "sources.py"), MODULE]
    done = subprocess.run(command, capture_output=True, text=True)
    # a shim of pyenv may stand for no interpreter
    assert "pyenv" in done.stderr if done.returncode else done.stdout.strip() == golden


def test_rows_depend_on_what_imports_lead_to_and_on_nothing_that_only_draws():
    files = set(record.sources(experiment("pruning/bits")))
    assert {
        "compression/pruning/sparsegpt.py",
        "compression/pruning/selection.py",
        "icl_synth/train.py",
        "figures/pruning/common.py",
        "figures/lab/tables.py",
    } <= files
    assert not any(name.startswith(("decoding/", "tests/", "compression/block_float/")) for name in files)
    assert not {"figures/lab/record.py", "figures/lab/claims.py", "figures/lab/style.py", "icl_synth/lock.py"} & files
    drafts = record.sources(experiment("assisted/drafts"))
    speed = record.sources(experiment("assisted/speed"))
    assert "decoding/speedup.py" in drafts and "icl_synth/pretrained/draft/model.safetensors" in speed


def test_a_picture_depends_on_the_code_beside_figures_that_draws_it(monkeypatch):
    """assisted/speed draws lines of decoding.speedup: a change there must draw it again."""
    speed = experiment("assisted/speed")
    before = record.drawing(speed)
    real = sources.files_behind

    def changed(*args, **how):
        found = real(*args, **how)
        assert "decoding/speedup.py" in found
        return found | {"decoding/speedup.py": "another"}

    monkeypatch.setattr(record, "files_behind", changed)
    assert record.drawing(speed) != before


def test_presets_count_by_their_values_and_their_file_does_not():
    found = sources.files_behind(sources.ROOT / "icl_synth" / "train.py")
    assert "icl_synth/config.py" in found and not any(name.startswith("icl_synth/presets") for name in found)


def test_a_package_counts_only_for_what_is_no_module_of_it(tmp_path):
    package = tmp_path / "icl_synth"
    package.mkdir()
    for name, text in (("__init__", "from icl_synth.b import thing"), ("a", ""), ("b", "thing = 1")):
        (package / f"{name}.py").write_text(text)
    module = tmp_path / "module.py"
    module.write_text("from icl_synth import a")
    assert list(sources.files_behind(module, root=tmp_path)) == ["icl_synth/a.py", "module.py"]
    other = tmp_path / "other.py"
    other.write_text("from icl_synth import thing")
    assert list(sources.files_behind(other, root=tmp_path)) == ["icl_synth/__init__.py", "icl_synth/b.py", "other.py"]


HELPERS = """
import jax
import numpy as np


def used(x):
    return LIMIT * inner(x)


def inner(x):
    return np.abs(x)


@jax.custom_vjp
def unused(x):
    return x


def forward(x):
    return inner(x)


def backward(x):
    return x


LIMIT = 3
unused.defvjp(forward, backward)
"""


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("from icl_synth.helpers import used\n\ndef compute():\n    return used(1)", {"inner", "LIMIT"}),
        ("from icl_synth import helpers\n\ndef compute():\n    return helpers.used(1)", {"inner", "LIMIT"}),
        ("from icl_synth import helpers as h\n\ndef compute():\n    return h.inner(1)", {"inner"}),
        ("def compute():\n    from icl_synth.helpers import inner\n    return inner(1)", {"inner"}),
        ("from icl_synth import helpers\n\ndef compute():\n    return vars(helpers)", {"inner", "LIMIT", "backward"}),
        (
            "from icl_synth.helpers import unused\n\ndef compute():\n    return unused(1)",
            {"inner", "backward"},
        ),
        ("from icl_synth.helpers import inner, used\n\ndef compute():\n    return 1", set()),
    ],
    ids=["name", "attribute", "another name", "inside", "whole module", "gradient", "import alone"],
)
def test_of_another_file_only_what_is_used_counts(tmp_path, text, changes):
    edits = {
        "inner": ("np.abs(x)", "-x"),
        "LIMIT": ("LIMIT = 3", "LIMIT = 4"),
        "backward": ("backward(x):\n    return x", "backward(x):\n    return -x"),
    }

    def behind(name: str, helpers: str) -> list[str]:
        root = tmp_path / name
        (root / "icl_synth").mkdir(parents=True)
        (root / "icl_synth" / "helpers.py").write_text(helpers)
        (root / "module.py").write_text(text)
        return list(sources.files_behind(root / "module.py", "compute", root=root).values())

    before = behind("before", HELPERS)
    assert {name for name, edit in edits.items() if behind(name, HELPERS.replace(*edit)) != before} == changes
