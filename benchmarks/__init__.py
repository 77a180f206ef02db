"""Ours against the peer that a user would otherwise take, both measured in one run on one machine."""

import os
import subprocess
import sys
from typing import Any


def said(*command: object, environment: dict[str, str] | None = None, **how: Any) -> str:
    """What `python -m COMMAND` prints, in a process of its own; what it has to complain of goes to the terminal.

    `environment` is added to this process's, and `how` goes to subprocess.run.
    """
    words = [sys.executable, "-m", *map(str, command)]
    env = os.environ | (environment or {})
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=env, **how).stdout
