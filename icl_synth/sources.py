"""Which code a number comes from: the files of ours that a module imports, each with a digest that ignores prose.

Docstrings, comments, the words of error messages and names listed in PROSE change no digest; neither does the version
of Python, whose syntax trees differ from release to release.
"""

import ast
import functools
import hashlib
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGES = ("icl_synth", "compression", "decoding", "figures")
PROSE = ("TITLE", "DIFFERS")
# how files are written, found and locked changes no number; a preset counts by its values, which whoever uses it hashes
NO_NUMBERS = tuple(
    f"icl_synth/{name}.py"
    for name in ("files", "interruption", "lock", "presets/__init__", "presets/recipes", "presets/scaling",
                 "presets/transfer", "presets/worlds", "provenance", "recovery", "resume", "run_checkpoints", "sources")
)  # fmt: skip
Names = frozenset[str] | None  # of definitions in a file
ALL = None
IMPORTS = ast.Import | ast.ImportFrom
WITHOUT_MEANING = ("ctx", "kind", "type_comment", "type_params")


def digest(*parts: bytes) -> str:
    """SHA-256 of several byte strings, in hexadecimal; their boundaries count."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(hashlib.sha256(part).digest())
    return sha.hexdigest()


def digest_of(module: str, *names: str, exclude: tuple[str, ...] = ()) -> str:
    """Digest of a module such as "icl_synth.train" and of every file of ours behind it: 64 hexadecimal digits.

    With names, only those definitions of the module count, and what they use. Files of `exclude` do not.
    """
    found = files_behind(ROOT.joinpath(*module.split(".")).with_suffix(".py"), *names, exclude=exclude)
    return digest(*(f"{path} {code}".encode() for path, code in found.items()))


@functools.cache
def files_behind(path: Path, *names: str, exclude: tuple[str, ...] = (), root: Path = ROOT) -> dict[str, str]:
    """Every file that the definitions `names` of a module use (all of it without names): path in the repo -> digest.

    With names, imports are followed name by name, so that of another file only what is used counts; without, whole
    files do. Imports are followed wherever in the code they stand; those of a package's `__init__` only where it is
    imported itself. Weights that ship beside a loader count too.
    """
    wanted: dict[Path, Names] = {}
    left: list[tuple[Path, Names]] = [(path, frozenset(names) or ALL)]
    while left:
        file, asked = left.pop()
        known = wanted.get(file, frozenset())
        if known is ALL or (asked is not ALL and file in wanted and asked <= known):
            continue
        wanted[file] = ALL if asked is ALL else known | asked
        for other, theirs in _uses(file, wanted[file], root):
            name = other.relative_to(root).as_posix()
            if name not in (*NO_NUMBERS, *exclude):
                left.append((other, theirs))
    found = {file: code_digest(_counting(file, asked)) for file, asked in wanted.items()}
    for init in [file for file in found if file.name == "__init__.py"]:
        found |= {weights: digest(weights.read_bytes())[:16] for weights in init.parent.glob("*/model.safetensors")}
    return {_name(file, root): found[file] for file in sorted(found)}


@functools.cache
def _counting(file: Path, names: Names) -> list[ast.stmt]:
    """The statements of a file that define some names, with what they use; all of them if it defines not every one."""
    tree = parse(file)
    if names is ALL or not names <= {name for statement in tree.body for name in _defines(statement)}:
        return tree.body
    return using(tree, names)


@functools.cache
def _uses(file: Path, names: Names, root: Path) -> tuple[tuple[Path, Names], ...]:
    """The files of ours that what counts of a file imports, and which of their names."""
    body = _counting(file, names)
    if body is parse(file).body:
        return tuple((other, ALL) for other in _imported(body, root))
    return tuple(_imported_names(body, frozenset() if names is ALL else names, root))


def _imported_names(body: list[ast.stmt], handed_out: frozenset[str], root: Path) -> Iterator[tuple[Path, Names]]:
    """Files and names behind import statements; of a module that is used by its attributes, those."""
    nodes = [node for statement in body for node in ast.walk(statement)]
    bare = Counter(node.id for node in nodes if isinstance(node, ast.Name))
    attributes: dict[str, set[str]] = {}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            attributes.setdefault(node.value.id, set()).add(node.attr)
            bare[node.value.id] -= 1
    for node in nodes:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for file, name in _targets(node, root):
            if name.definition:
                yield file, frozenset([name.definition])
            else:  # a module
                whole = bare[name.local] > 0 or name.local in handed_out or not attributes.get(name.local)
                yield file, ALL if whole else frozenset(attributes[name.local])


class _Imported(NamedTuple):
    local: str  # how the importing module calls it
    definition: str  # its name in the file; empty for a module


def _targets(node: ast.Import | ast.ImportFrom, root: Path) -> Iterator[tuple[Path, _Imported]]:
    for alias in node.names:
        local = alias.asname or alias.name
        if isinstance(node, ast.Import):
            yield from ((file, _Imported(local, "")) for file in _files(alias.name, root))
        elif node.module:
            modules = list(_files(f"{node.module}.{alias.name}", root))
            yield from ((file, _Imported(local, "")) for file in modules)
            if not modules:
                yield from ((file, _Imported(local, alias.name)) for file in _files(node.module, root))


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
    """The statements of a module that define `names` or are used by those, directly or through others, in order.

    Of an import the names that are used count. A statement that defines nothing counts if it names what does, for it
    may change that: a gradient that is set, a type that is registered.
    """
    by_name = {name: statement for statement in tree.body for name in _defines(statement)}
    changes = [statement for statement in tree.body if not [*_defines(statement)] and not _is_program(statement)]
    kept: dict[str, ast.stmt] = {}
    left = [name for name in names if name in by_name]
    while left:
        name = left.pop()
        if name in kept:
            continue
        kept[name] = by_name[name]
        if not isinstance(kept[name], IMPORTS):
            left += [used for used in _names(kept[name]) if used in by_name]
            left += [used for change in changes if name in _names(change) for used in _names(change) if used in by_name]
    ours = {name for name, statement in kept.items() if not isinstance(statement, IMPORTS)}
    counting = {id(statement) for statement in kept.values()} | {id(one) for one in changes if ours & _names(one)}
    return [_trimmed(statement, kept) for statement in tree.body if id(statement) in counting]


def _names(statement: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _trimmed(statement: ast.stmt, kept: Container[str]) -> ast.stmt:
    """An import without the names that are not kept; other statements as they are."""
    if not isinstance(statement, IMPORTS):
        return statement
    aliases = [alias for alias in statement.names if (alias.asname or alias.name).split(".")[0] in kept]
    if isinstance(statement, ast.Import):
        return ast.Import(aliases)
    return ast.ImportFrom(statement.module, aliases, statement.level)


def _is_program(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'"


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
