"""A folder belongs to one piece of work: the command that began it goes on with it, and any other is refused."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from icl_synth.files import read_json, write_text


def claim(path: Path, work: str, begin: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The settings of the work that the folder of `path` holds: those in `path`, or `begin()`, written there first.

    `work` names the kind of work in messages, as in "run". `begin` is called for a new or empty folder only.
    Raises ValueError where the folder holds anything else, and where `path` is no JSON object.
    """
    folder = path.parent
    if not path.exists():
        if folder.exists() and not (folder.is_dir() and all(_is_temporary(file) for file in folder.iterdir())):
            raise ValueError(f"{folder} is not empty and holds no {work} of ours: choose another folder")
        write_text(path, json.dumps(begin(), indent=2) + "\n")
    expected = f"the settings of a {work}; restore the file, or delete the folder to start anew"
    settings = read_json(path, expected)
    if not isinstance(settings, dict):
        raise ValueError(f"{path} holds {type(settings).__name__}, not a JSON object: expected {expected}")
    return settings


def check_same(folder: Path, work: str, there: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise ValueError that names each setting in which the work in a folder differs from what is asked for.

    `there` was read from JSON; in `asked`, a tuple equals a list and a path its text.
    """
    known, wanted = dict(_flat(there)), dict(_flat(json.loads(json.dumps(asked, default=str))))
    different = [
        f"{name}: {known.get(name, 'nothing')} there, {wanted.get(name, 'nothing')} asked for"
        for name in known | wanted
        if known.get(name) != wanted.get(name)
    ]
    if different:
        raise ValueError(
            f"{folder} holds another {work} ({'; '.join(different)}). Nothing was changed: "
            "choose another folder, or repeat the command that began it"
        )


def _is_temporary(file: Path) -> bool:
    """Whether a killed writer of `icl_synth.files` left a file."""
    return file.name.startswith(".") and ".writing." in file.name


def _flat(nested: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
