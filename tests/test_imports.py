"""Imports go one way: figures use decoding, compression and icl_synth; these two use icl_synth; never the reverse."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_USE = {
    "icl_synth": set(),
    "compression": {"icl_synth"},
    "decoding": {"icl_synth"},
    "figures": {"icl_synth", "compression", "decoding"},
}


def used(path: Path) -> set[str]:
    """The top-level packages that a file imports, wherever in it the statement stands."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module)
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("package", MAY_USE)
def test_a_package_uses_only_what_lies_below_it(package):
    others = {*MAY_USE, "benchmarks", "tests", "notebooks"} - {package}
    for path in sorted((ROOT / package).rglob("*.py")):
        above = used(path) & others - MAY_USE[package]
        assert not above, f"{path.relative_to(ROOT)} imports {', '.join(above)}"


@pytest.mark.parametrize(
    "first", ["icl_synth.train", "compression.pruning", "compression.block_float", "figures.lab.record"]
)
def test_progress_bars_are_slow_without_a_terminal_whatever_is_imported_first(first):
    """A line a minute, in a file or a pipe; and a command runs whose standard error is closed."""
    pauses = f"import {first}; from tqdm import tqdm; bar = tqdm([]); print(bar.mininterval, bar.maxinterval)"
    unset = {name: value for name, value in os.environ.items() if not name.startswith("TQDM_")}
    ran = subprocess.run([sys.executable, "-c", pauses], env=unset, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["60.0", "60.0"]
    closed = subprocess.run(["sh", "-c", '"$0" -c "import icl_synth" 2>&-', sys.executable])
    assert closed.returncode == 0


def test_the_check_sees_imports_inside_functions(tmp_path):
    file = tmp_path / "one.py"
    file.write_text("def f():\n    from figures import record\n    import decoding.generate\n    return record")
    assert used(file) == {"figures", "decoding"}


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_what_benchmarks_import_of_ours_is_there(path):
    """No test runs them: they take minutes, and PyTorch."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in {*MAY_USE, "benchmarks"}:
            if importlib.util.find_spec("torch") is None and "torch_" in node.module:
                continue
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name) or importlib.util.find_spec(f"{node.module}.{name.name}"), name.name
