"""When a figure is out of date: hashes of the code that computes its rows, and of what they are drawn with.

Rows depend on `wanted` and `compute` of the figure's module, on whatever of that module these use, and on every file
of ours that this imports, read from the import statements. Prose changes nothing: docstrings, comments, and what a
figure says in TITLE and DIFFERS.
"""

import ast
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from figures.recipes import Recipe
from icl_synth.config import preset

HERE = Path(__file__).parent
ROOT = HERE.parent
PAPER_VALUES = HERE / "paper_values"
STYLE = HERE / "house.mplstyle"
PACKAGES = ("icl_synth", "compression", "decoding", "figures")
# these change no row
NO_ROWS = ("figures/record.py", "figures/claims.py", "figures/programs.py", "figures/sources.py", "icl_synth/lock.py")
# of recipes and presets the values count, which are hashed instead of their text, and of their code these alone
BY_VALUE = {"figures/recipes.py": (), "icl_synth/config.py": ("DataConfig",)}
PROSE = ("TITLE", "DIFFERS")


def rows_hash(module: ModuleType, recipe: Recipe) -> str:
    """Changes when code, training presets, seeds or sizes that the rows depend on change."""
    wanted = module.wanted(recipe)
    values = {
        "training": [[name, dataclasses.asdict(preset(training))] for name, training in wanted.presets.items()],
        "seeds": wanted.seeds,
        "sizes": [recipe.prompts, recipe.documents, recipe.formats],
        "figure": ast.dump(ast.Module(computing(parse(path_of(module))), [])),
    }
    if wanted.once:
        values["once"] = sorted(wanted.once)
    return digest(json.dumps(values, sort_keys=True).encode(), *map(content, imported(module)))


def drawing_hash(module: ModuleType) -> str:
    """Changes when the figure's module, what it shares with others, its published values or the style change."""
    shared = [path for path in imported(module, ("plot",)) if path.parent == HERE]
    published = [file for pattern in module.PUBLISHED for file in sorted(PAPER_VALUES.glob(pattern))]
    return digest(*map(content, [path_of(module), *shared, *published, STYLE]))


def digest(*parts: bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(hashlib.sha256(part).digest())
    return found.hexdigest()


@functools.cache
def content(path: Path) -> bytes:
    """A file; of Python, the code without its prose, or the part of it that counts."""
    if path.suffix != ".py":
        return path.read_bytes()
    tree, name = parse(path), path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
    return ast.dump(ast.Module(computing(tree, BY_VALUE[name]), []) if name in BY_VALUE else tree).encode()


def path_of(module: ModuleType) -> Path:
    assert module.__file__
    return Path(module.__file__)


@functools.cache
def parse(path: Path) -> ast.Module:
    """The file's code, as it was when this process first asked."""
    return without_prose(path.read_text())


def without_prose(text: str) -> ast.Module:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [part for part in node.body if not _is_prose(part)]
    return tree


def _is_prose(part: ast.stmt) -> bool:
    if isinstance(part, ast.Assign):
        return [getattr(target, "id", "") for target in part.targets] in ([name] for name in PROSE)
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str)


def computing(tree: ast.Module, roots: Iterable[str] = ("wanted", "compute")) -> list[ast.stmt]:
    """The statements of a module that its `roots` use, directly or through others, in their order."""
    by_name = {name: part for part in tree.body for name in _defines(part)}
    found: set[int] = set()
    left = [by_name[name] for name in roots if name in by_name]
    while left:
        part = left.pop()
        if id(part) not in found:
            found.add(id(part))
            left += [by_name[one.id] for one in ast.walk(part) if isinstance(one, ast.Name) and one.id in by_name]
    return [part for part in tree.body if id(part) in found]


def _defines(part: ast.stmt) -> Iterator[str]:
    if isinstance(part, ast.FunctionDef | ast.ClassDef):
        yield part.name
    elif isinstance(part, ast.Import | ast.ImportFrom):
        yield from ((one.asname or one.name).split(".")[0] for one in part.names)
    else:  # the variables of a comprehension are its own
        targets = part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", part)]
        names = (one for target in targets for one in ast.walk(target) if isinstance(one, ast.Name))
        yield from (one.id for one in names if isinstance(one.ctx, ast.Store))


def imported(module: ModuleType, roots: Iterable[str] = ("wanted", "compute")) -> list[Path]:
    """Every file of ours that what the roots use imports, and that those import; shipped models with their loader."""
    found: set[Path] = set()
    left = list(_files(computing(parse(path_of(module)), roots)))
    while left:
        path = left.pop()
        if path not in found and path.relative_to(ROOT).as_posix() not in NO_ROWS:
            found.add(path)
            left += _files(parse(path).body)
    found |= {model for path in found for model in path.parent.glob("*/model.safetensors") if path.stem == "__init__"}
    return sorted(path for path in found if BY_VALUE.get(path.relative_to(ROOT).as_posix()) != ())


def _files(body: list[ast.stmt]) -> Iterator[Path]:
    """The files that import statements name, wherever in the code they stand."""
    for one in ast.walk(ast.Module(body, [])):
        names: list[str] = []
        if isinstance(one, ast.ImportFrom) and one.module:
            names = [one.module, *(f"{one.module}.{part.name}" for part in one.names)]
        elif isinstance(one, ast.Import):
            names = [part.name for part in one.names]
        for name in names:
            if name.split(".")[0] in PACKAGES:
                place = ROOT.joinpath(*name.split("."))
                yield from (path for path in (place.with_suffix(".py"), place / "__init__.py") if path.exists())
