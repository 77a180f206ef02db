"""Two processes in one checkout: the second waits, says for whom, and goes on when the first is killed."""

import subprocess
import sys

import pytest

from icl_synth import lock as locks
from icl_synth.lock import alone

HOLD = """
import sys, time
from pathlib import Path
from icl_synth.lock import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(lock):
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_second_waits_until_the_first_is_killed(tmp_path):
    lock = tmp_path / "deep" / "figure.lock"
    with hold(lock) as first:
        assert first.stdout.readline() == "held\n"
        with hold(lock) as second:
            waiting = second.stderr.readline()
            assert f"process {first.pid}" in waiting and str(lock) in waiting
            first.kill()
            assert second.stdout.readline() == "held\n"
            second.kill()
    with alone(lock):  # free again
        pass
    assert [file.name for file in lock.parent.iterdir()] in (["figure.lock"], [])


def test_an_error_inside_frees_the_lock_and_passes(tmp_path):
    for _ in range(2):
        with pytest.raises(OSError, match="of the work"), alone(tmp_path / "lock"):
            raise OSError("of the work")


@pytest.mark.parametrize("words", ["No locks available", "Read-only file system"])
def test_a_disk_without_locks_is_said_plainly(words, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(words)

    monkeypatch.setattr(locks.FileLock, "acquire", refuse)
    message = rf"lock cannot be locked \({words}\): choose a folder that can be written, on a disk that has file locks"
    with pytest.raises(OSError, match=message), alone(tmp_path / "lock"):
        pass


def test_a_folder_that_cannot_be_made_is_said_plainly(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/lock cannot be locked"), alone(tmp_path / "file" / "lock"):
        pass
