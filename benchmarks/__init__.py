"""Ours against the peer that a user would otherwise take, both measured in one run on one machine."""

import subprocess
import sys


def said(*command: object) -> str:
    """What `python -m COMMAND` prints, in a process of its own; what it has to complain of goes to the terminal."""
    words = [sys.executable, "-m", *map(str, command)]
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
