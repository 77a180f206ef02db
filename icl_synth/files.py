"""Files are written whole or not at all: a reader never sees half of one, and a full disk keeps the old one."""

import contextlib
import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
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
