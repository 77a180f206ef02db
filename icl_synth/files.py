"""Files are written whole or not at all, and a file that cannot be read is named.

A reader never sees half a file, and after an error, as on a full disk, the old file is still there.
"""

import contextlib
import glob
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file to fill; it becomes `path` at the end and is removed after an error.

    Its name is `.STEM.PID.writing.SUFFIX`, in the folder of `path`, which is made where it is missing. The temporary
    files of killed writers of the same `path` are removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.writing{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a whole file or nothing; `write` fills the temporary file whose path it is given."""
    with replacing(path) as temporary:
        write(temporary)


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 text file or nothing."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_safetensors(path: Path, arrays: Mapping[str, Any], metadata: dict[str, str] | None = None) -> None:
    """Write named arrays, of any memory layout, as a safetensors file. Raises OSError where the disk is full."""
    write_atomically(path, lambda temporary: fill_safetensors(temporary, arrays, metadata))


def fill_safetensors(temporary: Path, arrays: Mapping[str, Any], metadata: dict[str, str] | None = None) -> None:
    """As `write_safetensors`, into a file that the caller replaces by itself."""
    # safetensors writes the buffer as it lies in memory, so that a transposed view would come back as another array
    contiguous = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    try:
        save_file(contiguous, temporary, metadata=metadata)
    except SafetensorError as error:
        raise OSError(f"{temporary.parent}: the arrays could not be written: {error}") from error
    _order_metadata(temporary)


def _order_metadata(path: Path) -> None:
    """Write a safetensors header with its metadata in order; safetensors leaves the order to chance."""
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        if len(header.get("__metadata__", {})) < 2:
            return
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
        if len(text) == size:
            file.seek(8)
            file.write(text)


def read_json(path: Path, expected: str) -> Any:
    """The contents of a JSON file; a byte-order mark is accepted.

    Raises FileNotFoundError and ValueError that name the file and say what was `expected` there.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is missing: expected {expected}") from error
    except ValueError as error:  # no UTF-8, or no JSON
        raise ValueError(f"{path} is not valid JSON ({error}): expected {expected}") from error


def read_safetensors(path: Path, expected: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a safetensors file by name, and its metadata.

    Raises FileNotFoundError and ValueError that name the file and say what was `expected` there.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: expected {expected}")
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, AttributeError) as error:  # AttributeError: a number format that NumPy does not have
        raise ValueError(f"{path} cannot be read ({error}): expected {expected}") from error


def _remove_abandoned(path: Path) -> None:
    """Remove the temporary files of `path` whose writers no longer run."""
    pattern = re.compile(rf"\.{re.escape(path.stem)}\.(\d+)\.writing{re.escape(path.suffix)}")
    for candidate in path.parent.glob(f".{glob.escape(path.stem)}.*.writing{glob.escape(path.suffix)}"):
        match = pattern.fullmatch(candidate.name)
        if match and not _runs(int(match[1])):
            candidate.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it runs, as another user
        return True
    return True
