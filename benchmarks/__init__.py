"""Ours against the peer that a user would otherwise take, both measured in one run on one machine."""

import os
import subprocess
import sys


def said(*command: object, environment: dict[str, str] | None = None) -> str:
    """What `python -m COMMAND` prints, in a process of its own; what it has to complain of goes to the terminal.

    `environment` is added to this process's.
    """
    words = [sys.executable, "-m", *map(str, command)]
    env = os.environ | (environment or {})
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=env).stdout
