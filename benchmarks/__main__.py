"""python -m benchmarks: every comparison in one run, recorded in benchmarks/results.json and told in RESULTS.md.

`python -m benchmarks --report` only writes RESULTS.md again from what was recorded.
"""

import datetime
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import (
    bench_blocks,
    bench_decoding,
    bench_documents,
    bench_language,
    bench_limits,
    bench_prompts,
    bench_pruning,
    bench_training,
)
from icl_synth.files import write_text
from icl_synth.provenance import commit, device

HERE = Path(__file__).parent
PARTS: dict[str, Any] = {
    "training": bench_training,
    "documents": bench_documents,
    "prompts": bench_prompts,
    "pruning": bench_pruning,
    "block_float": bench_blocks,
    "generation": bench_decoding,
    "language": bench_language,
}


def measure() -> dict[str, Any]:
    """Where and when, and what every part measured."""
    where = {"date": datetime.date.today().isoformat(), "device": device(), "commit": commit()}
    return where | {"limits": bench_limits.measure()} | {name: part.measure() for name, part in PARTS.items()}


def report(measured: dict[str, Any]) -> str:
    """benchmarks/RESULTS.md."""
    lines = [
        "# Benchmarks",
        "",
        f"`python -m benchmarks` on {measured['date']}, {measured['device']}, commit {measured['commit']}. All in one "
        "run; ratios are to the fastest peer of that job: of medians for training and documents, of minima (medians in "
        "brackets) below.",
        "",
    ]
    parts = [line for name, part in PARTS.items() for line in part.report(measured.get(name))]
    return "\n".join([*lines, *bench_limits.report(measured.get("limits"), measured), *parts])


if __name__ == "__main__":
    if "--report" not in sys.argv:
        write_text(HERE / "results.json", json.dumps(measure(), indent=1) + "\n")
    text = report(json.loads((HERE / "results.json").read_text()))
    write_text(HERE / "RESULTS.md", text)
    print(text)
