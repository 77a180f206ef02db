"""One process at a time: a second one waits, and then finds the work done."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock file; where another process holds it, say which one on standard error and wait.

    The system frees the lock when its process ends, however it ends; the file may stay and means nothing. PATH.holder
    names the process meanwhile. Raises OSError where the folder cannot be written or its disk has no locks.
    """
    lock, holder = FileLock(path), path.with_name(f"{path.name}.holder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, path, holder)
    except (OSError, NotImplementedError) as error:
        raise OSError(
            f"{path} cannot be locked ({error}): choose a folder that can be written, on a disk that has file locks"
        ) from error
    try:
        with contextlib.suppress(OSError):  # the name only helps whoever waits; a full disk is told by the work itself
            holder.write_text(f"process {os.getpid()} ({' '.join(sys.argv)})", encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock, path: Path, holder: Path) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            name = holder.read_text(encoding="utf-8")
        except OSError:
            name = "another process"
        print(f"waiting for {name}, which holds {path}", file=sys.stderr, flush=True)
        lock.acquire()
