"""python -m benchmarks.commands [TARGET ...]: time README's commands in an empty clone; recorded in commands.json.

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
TARGETS = ("env", "reproduce", "test", "test-browser")
HOW = {"test-browser": ["BROWSER=quick"]}


def main(targets: tuple[str, ...]) -> None:
    """Time each make target in turn, in one clone, and keep what other runs recorded of other targets."""
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    cloned = commit().rstrip("+")  # a clone has nothing that is not committed
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "-q", HERE.parent, folder], check=True)
        for target in targets:
            start = time.perf_counter()
            subprocess.run(["make", target, *HOW.get(target, [])], cwd=folder, check=True)
            known[target] = {
                "minutes": round((time.perf_counter() - start) / 60, 1),
                "date": datetime.date.today().isoformat(),
                "device": device(),
                "commit": cloned,
            }
            write_text(RECORD, json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or TARGETS)
