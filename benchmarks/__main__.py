"""python -m benchmarks [PART ...]: comparisons in one run, recorded in benchmarks/results.json and told in RESULTS.md.

Without parts, every one. `python -m benchmarks --report` only writes RESULTS.md again from what was recorded.
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
    bench_growth,
    bench_language,
    bench_limits,
    bench_prompts,
    bench_pruning,
    bench_training,
    growth_pictures,
)
from icl_synth.files import write_text
from icl_synth.provenance import commit, device

HERE = Path(__file__).parent
RECORD = HERE / "results.json"
PARTS: dict[str, Any] = {
    "limits": bench_limits,
    "training": bench_training,
    "documents": bench_documents,
    "prompts": bench_prompts,
    "pruning": bench_pruning,
    "block_float": bench_blocks,
    "generation": bench_decoding,
    "growth": bench_growth,
    "language": bench_language,
}
Record = dict[str, dict[str, Any]]  # by part: date, device, commit, and what it measured


def measure(parts: list[str]) -> None:
    """Measure parts, each recorded as it ends."""
    where = {"date": datetime.date.today().isoformat(), "device": device(), "commit": commit()}
    for name in parts:
        known: Record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        known[name] = where | {"measured": PARTS[name].measure()}
        write_text(RECORD, json.dumps(known, indent=1) + "\n")


def report(known: Record) -> str:
    """benchmarks/RESULTS.md. A part's share of the machine's limits is told where one run measured both."""
    lines = [
        "# Benchmarks",
        "",
        "Ratios are to the fastest peer of a job, in the same run: of medians for training and documents, of minima "
        "(medians in brackets) below.",
        "",
    ]
    for name, part in PARTS.items():
        one = known.get(name)
        if one is None:
            continue
        heading, *rest = part.report(one["measured"], known) if part is bench_limits else part.report(one["measured"])
        lines += [heading, "", f"{one['date']}, {one['device']}, commit {one['commit']}.", *rest]
    return "\n".join(lines)


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--report"]
    if unknown := set(words) - set(PARTS):
        sys.exit(f"error: no part {', '.join(sorted(unknown))}; parts are {', '.join(PARTS)}")
    if "--report" not in sys.argv:
        measure(words or list(PARTS))
    known = json.loads(RECORD.read_text())
    if "growth" in known:
        growth_pictures.draw(known["growth"]["measured"])
    text = report(known)
    write_text(HERE / "RESULTS.md", text)
    print(text)
