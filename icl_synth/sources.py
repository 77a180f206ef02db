"""Which code a number comes from: the files of ours that a module imports, each with a digest that ignores prose.

Docstrings, comments, the words of error messages and names listed in PROSE change no digest; neither does the version
of Python, whose syntax trees differ from release to release.
"""

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("icl_synth", "compression", "decoding", "figures")
PROSE = ("TITLE", "DIFFERS")
# how files are written, found and locked changes no number
NO_NUMBERS = tuple(
    f"icl_synth/{name}.py"
    for name in ("files", "interruption", "lock", "provenance", "recovery", "resume", "run_checkpoints", "sources")
)
# A preset counts by its values, which whoever uses it hashes; of this file the code of the configurations counts.
ONLY = {"icl_synth/config.py": ("DataConfig", "OptimizerConfig", "TrainConfig")}
WITHOUT_MEANING = ("ctx", "kind", "type_comment", "type_params")


def digest(*parts: bytes) -> str:
    """SHA-256 of several byte strings, in hexadecimal; their boundaries count."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(hashlib.sha256(part).digest())
    return sha.hexdigest()


def digest_of(module: str, *names: str) -> str:
    """Digest of a module such as "icl_synth.train" and of every file of ours behind it: 64 hexadecimal digits.

    With names, only those definitions of the module count, and what they use.
    """
    found = files_behind(ROOT.joinpath(*module.split(".")).with_suffix(".py"), *names)
    return digest(*(f"{path} {code}".encode() for path, code in found.items()))


@functools.cache
def files_behind(path: Path, *names: str, exclude: tuple[str, ...] = (), root: Path = ROOT) -> dict[str, str]:
    """Every file that the definitions `names` of a module use (all of it without names): path in the repo -> digest.

    Imports are followed wherever in the code they stand; those of a package's `__init__` only where it is imported
    itself. Weights that ship beside a loader count too.
    """
    found: dict[Path, str] = {}
    left = [(path, names)]
    while left:
        file, kept = left.pop()
        if file in found:
            continue
        found[file], imported = _digest_and_imports(file, kept, root)
        for other in imported:
            name = other.relative_to(root).as_posix()
            if name not in (*NO_NUMBERS, *exclude):
                left.append((other, ONLY.get(name, ())))
    for init in [file for file in found if file.name == "__init__.py"]:
        found |= {weights: digest(weights.read_bytes())[:16] for weights in init.parent.glob("*/model.safetensors")}
    return {_name(file, root): found[file] for file in sorted(found)}


@functools.cache
def _digest_and_imports(file: Path, names: tuple[str, ...], root: Path) -> tuple[str, tuple[Path, ...]]:
    """The digest of a file's code, or of these definitions and what they use, and the files of ours that it imports."""
    body = using(parse(file), names) if names else parse(file).body
    return code_digest(body), tuple(_imported(body, root))


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


@functools.cache
def parse(path: Path) -> ast.Module:
    """A file's code without its prose, as it was when this process first asked."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [statement for statement in node.body if not _is_prose(statement)]
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            node.exc.args = []  # the words of an error
    return tree


def _is_prose(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Assign):
        return [getattr(target, "id", "") for target in statement.targets] in ([name] for name in PROSE)
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def using(tree: ast.Module, names: Iterable[str]) -> list[ast.stmt]:
    """The statements of a module that define `names` or are used by those, directly or through others, in order."""
    by_name = {name: statement for statement in tree.body for name in _defines(statement)}
    kept: set[int] = set()
    left = [by_name[name] for name in names if name in by_name]
    while left:
        statement = left.pop()
        if id(statement) not in kept:
            kept.add(id(statement))
            used = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
            left += [by_name[name] for name in used if name in by_name]
    return [statement for statement in tree.body if id(statement) in kept]


def _defines(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from ((alias.asname or alias.name).split(".")[0] for alias in statement.names)
    else:  # the variables of a comprehension are its own
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", statement)]
        names = (node for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
        yield from (node.id for node in names if isinstance(node.ctx, ast.Store))


def _imported(body: list[ast.stmt], root: Path) -> Iterator[Path]:
    """The files of ours that import statements name; a package's own only for what is no module of it."""
    for node in ast.walk(ast.Module(body, [])):
        if isinstance(node, ast.Import):
            yield from (file for alias in node.names for file in _files(alias.name, root))
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [list(_files(f"{node.module}.{alias.name}", root)) for alias in node.names]
            yield from (file for files in modules for file in files)
            if not all(modules):
                yield from _files(node.module, root)


def _files(module: str, root: Path) -> Iterator[Path]:
    if module.split(".")[0] in PACKAGES:
        place = root.joinpath(*module.split("."))
        yield from (path for path in (place.with_suffix(".py"), place / "__init__.py") if path.exists())


def code_digest(body: list[ast.stmt]) -> str:
    """16 hexadecimal digits that are the same under every supported version of Python."""
    return digest(*(_canonical(statement).encode() for statement in body))[:16]


def _canonical(node: object) -> str:
    """A syntax tree as text. `ast.dump` would not do: 3.12 added fields to it, 3.13 leaves empty ones out."""
    if isinstance(node, ast.Constant):
        return repr(node.value)
    if isinstance(node, list):
        return f"[{','.join(_canonical(part) for part in node)}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if name not in WITHOUT_MEANING]
    if isinstance(node, ast.JoinedStr):  # some versions put empty strings between the parts
        fields = [("values", [part for part in node.values if getattr(part, "value", None) != ""])]
    kept = [f"{name}={_canonical(value)}" for name, value in fields if value is not None and value != []]
    return f"{type(node).__name__}({','.join(kept)})"
