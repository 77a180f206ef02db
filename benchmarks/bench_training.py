"""A training step beside PyTorch's at the same shape, each in a process of its own with all cores to itself."""

import json
import subprocess
import sys
from statistics import median

from benchmarks import said

REPEATS, SECONDS = 5, 2.0


def speeds(*command: object) -> list[float]:
    """Tokens a second that a benchmark prints."""
    return [float(word) for word in said(*command).split()]


def measure() -> dict[str, dict[str, list[float]]]:
    """Tokens a second by model and program."""
    measured: dict[str, dict[str, list[float]]] = {}
    for kind in ("transformer", "lstm"):
        programs = measured.setdefault(kind, {})
        for precision in ("float32", "bfloat16"):
            ours = speeds("benchmarks.our_step", kind, precision, "adamw", REPEATS, SECONDS)
            programs[f"ours, {precision}"] = ours
            try:
                how, theirs = json.loads(said("benchmarks.torch_step", kind, precision, REPEATS, SECONDS))
                programs[f"PyTorch, {precision}, {how}"] = theirs
            except subprocess.CalledProcessError as error:
                print(f"PyTorch {kind} in {precision} does not run here: {error}", file=sys.stderr)
    muon = speeds("benchmarks.our_step", "transformer", "float32", "muon", REPEATS, SECONDS)
    measured["transformer"]["ours, float32, Muon"] = muon
    return measured


def ratio(programs: dict[str, list[float]], program: str) -> float:
    """Median speed over that of the fastest peer; NaN where no peer runs."""
    peers = [median(values) for name, values in programs.items() if name.startswith("PyTorch")]
    return median(programs[program]) / max(peers, default=float("nan"))


def report(measured: dict[str, dict[str, list[float]]]) -> list[str]:
    """The section of benchmarks/RESULTS.md."""
    lines = [
        "## Training step: 4 layers or 2 LSTM layers, d = 128, T = 256, batch 16, AdamW, two threads",
        "",
        "Tokens a second. PyTorch runs in the fastest of six ways that are tried in the run: eager or compiled, with "
        "16 (the batch), 4 or 1 rows at once. Ours is one compiled program in micro-batches.",
        "",
        "| model | program | median | best | ratio to the best PyTorch |",
        "|---|---|---:|---:|---:|",
    ]
    for kind, programs in measured.items():
        for program, values in programs.items():
            over = f"{ratio(programs, program):.2f}" if program.startswith("ours") else ""
            lines.append(f"| {kind} | {program} | {median(values):,.0f} | {max(values):,.0f} | {over} |")
    return [*lines, ""]


if __name__ == "__main__":
    print(measure())
