"""python -m benchmarks.commands [NAME ...]: time README's commands and each lesson in an empty clone (commands.json).

Run it on a quiet machine from a committed tree. Packages come from wherever pip takes them, so a first run also
downloads them.
"""

import datetime
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from icl_synth.files import write_text
from icl_synth.provenance import commit, device

HERE = Path(__file__).parent
RECORD = HERE / "commands.json"
LESSONS = sorted(HERE.parent.glob("notebooks/[0-9]*.ipynb"))
COMMANDS = {
    "env": ["env"],
    "reproduce": ["reproduce"],
    "test": ["test"],
    "test-browser": ["test-browser", "BROWSER=quick"],
    **{f"lesson {path.stem[:2]}": ["test", f"TESTS=notebooks/{path.name}"] for path in LESSONS},
}


def main(names: tuple[str, ...]) -> None:
    """Time each command in turn, in one clone, and keep what other runs recorded of other commands."""
    if unknown := sorted(set(names) - set(COMMANDS)):
        sys.exit(f"error: no command {unknown[0]!r}: known are {', '.join(COMMANDS)}")
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    cloned = commit().rstrip("+")  # a clone has nothing that is not committed
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "-q", HERE.parent, folder], check=True)
        for name in names:
            start = time.perf_counter()
            subprocess.run(["make", *COMMANDS[name]], cwd=folder, check=True)
            known[name] = {
                "command": " ".join(["make", *COMMANDS[name]]),
                "minutes": round((time.perf_counter() - start) / 60, 1),
                "date": datetime.date.today().isoformat(),
                "device": device(),
                "commit": cloned,
            }
            write_text(RECORD, json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or tuple(COMMANDS))
