"""Two processes in one checkout: the second waits, says for whom, and goes on when the first is killed."""

import subprocess
import sys

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
            assert f"process {second.pid}" in lock.read_text()
            second.kill()
    with alone(lock):  # free again
        assert lock.read_text().startswith("process")
