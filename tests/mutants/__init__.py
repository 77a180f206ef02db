"""Mutants: errors planted in the code, each with the tests that must fail. `make mutants` runs them.

A file ROOM.toml beside this one lists a room's mutants:

    [[mutant]]
    file = "compression/pruning/selection.py"   # from the root of the repository
    old = "..."                                 # text that occurs once in the file
    new = "..."
    tests = ["tests/test_sparsegpt.py::test_x"] # what must fail, as narrow as possible
"""

import ast
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
LISTS = Path(__file__).parent


class Mutant(NamedTuple):
    room: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def text(self, root: Path = ROOT) -> str:
        """The file with the error planted. ValueError where it does not apply."""
        path = root / self.file
        if not path.is_file():
            raise ValueError(f"{self.file} does not exist")
        before = path.read_text()
        if (times := before.count(self.old)) != 1:
            raise ValueError(f"{self.file} holds {times} times, not once: {self.old!r}")
        return before.replace(self.old, self.new)


def rooms() -> list[str]:
    return sorted(path.stem for path in LISTS.glob("*.toml"))


def read(room: str) -> list[Mutant]:
    """A room's mutants. ValueError for an entry that lacks one of the four keys or has another."""
    path = LISTS / f"{room}.toml"
    entries = tomllib.loads(path.read_text())["mutant"]
    for entry in entries:
        if set(entry) != {"file", "old", "new", "tests"} or not entry["tests"]:
            raise ValueError(f"{path.name}: a mutant has file, old, new and tests, this one is {entry}")
    return [Mutant(room, entry["file"], entry["old"], entry["new"], tuple(entry["tests"])) for entry in entries]


def check(mutant: Mutant, root: Path = ROOT) -> None:
    """ValueError where the mutant does not apply, changes nothing or names a missing test; SyntaxError where it is no
    Python."""
    text = mutant.text(root)
    if mutant.old == mutant.new:
        raise ValueError(f"{mutant.file}: old and new are the same: {mutant.old!r}")
    if mutant.file.endswith(".py"):
        ast.parse(text, mutant.file)
    for test in mutant.tests:
        file, *names = test.partition("[")[0].split("::")
        if not (root / file).is_file():
            raise ValueError(f"{test}: {file} does not exist")
        body: list[ast.stmt] = ast.parse((root / file).read_text()).body
        for name in names:
            inner = [
                node.body for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name
            ]
            if not inner:
                raise ValueError(f"{test}: {file} has no {name}")
            body = inner[0]
