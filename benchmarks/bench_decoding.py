"""Generation beside transformers', the large pair, and batches; each program in a process of its own.

`python -m benchmarks.bench_decoding` prints the section of benchmarks/RESULTS.md alone.
"""

import json
import subprocess
import sys
import tempfile
from statistics import median
from typing import Any

from benchmarks.our_decoding import LONG, NEW

PUBLIC = {"plain": 1385, "assisted": 1398}  # tokens a second of transformers, as recorded on another machine


def run(*command: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def cell(seconds: list[float], tokens: int) -> str:
    """Tokens a second: best (median)."""
    return f"{tokens / min(seconds):,.0f} ({tokens / median(seconds):,.0f})"


def tiny() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "benchmarks.our_decoding", "train", folder], check=True, capture_output=True
        )
        ours = run("benchmarks.our_decoding", "tiny", folder)
        peers = [run("benchmarks.torch_decoding", folder, str(threads)) for threads in (1, 2)]
    same = all(peer["tokens"] == ours["tokens"] for peer in peers)
    lines = [
        f"A GPT-2 of 2 layers of 64 and its draft, 1 layer of 32, trained here for a minute; one prompt of 32 tokens, "
        f"{NEW} greedy ones after it, five drafted a round, acceptance {ours['alpha']:.2f}. Tokens a second, best "
        f"(median); transformers on one or two threads, whichever is faster, with the same weights; its text is "
        f"{'the same' if same else 'NOT the same'}. Asked for were 15 times its speed.",
        "",
        "| generation | ours | transformers | ratio | transformers, elsewhere | compiling, s |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for what in ("plain", "assisted"):
        best = min((peer[what] for peer in peers), key=min)
        lines.append(
            f"| {what} | {cell(ours[what], NEW)} | {cell(best, NEW)} | {min(best) / min(ours[what]):.1f} "
            f"| {PUBLIC[what]:,} | {ours['compile'][what]:.1f} |"
        )
    return lines


def large() -> list[str]:
    found = run("benchmarks.our_decoding", "large")
    bandwidth = found.pop("copy")
    base = found["float32"]["greedy"]
    lines = [
        "",
        "A target of 8 layers of 512 (25 M parameters) and a draft of 2 layers of 128, batch 1, four prompts: the "
        "functions of the pretrained models at those shapes. Milliseconds a token or a read (minimum), speed-ups over "
        "plain float32 generation of the same mode, the prediction from counted rounds in brackets. A large copy moves "
        f"{bandwidth / 1e9:.1f} GB/s here.",
        "",
        "| target | MB a token | ms a token, plain | MB over that time, of a copy's | reads of 2, 6, 13 tokens, ms | "
        "same tokens as float32 |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    per_token = {name: min(one["greedy"]["plain"]) / (4 * LONG) for name, one in found.items()}
    for name, one in found.items():
        verify = one["greedy"]["costs"]["verify"]
        reads = ", ".join(f"{1e3 * verify[width]:.2f}" for width in ("2", "6", "13"))
        share = one["bytes"] / per_token[name] / bandwidth
        lines.append(
            f"| {name} | {one['bytes'] / 1e6:.0f} | {1e3 * per_token[name]:.2f} | {share:.2f} | {reads} "
            f"| {100 * one['same tokens']:.1f} % |"
        )
    gammas = [line["gamma"] for line in base["lines"]]
    lines += [
        "",
        "| target, mode | acceptance | " + " | ".join(f"gamma = {gamma}" for gamma in gammas) + " |",
        "|---|---:|" + "---:|" * len(gammas),
    ]
    for name, one in found.items():
        for mode in ("greedy", "sampled"):
            plain, result = min(found["float32"][mode]["plain"]), one[mode]
            more = plain / min(result["plain"])
            cells = [
                f"{plain / min(x['seconds']):.2f} ({more * x['predicted_from_rounds']:.2f})" for x in result["lines"]
            ]
            alpha = median(x["acceptance"] for x in result["lines"])
            lines.append(f"| {name}, {mode} | {alpha:.2f} | {' | '.join(cells)} |")
    return lines


def batch() -> list[str]:
    found = run("benchmarks.our_decoding", "batch")
    lines = [
        "",
        f"The pretrained transformer and its draft by batch, {NEW} greedy tokens after 32, three drafted a round. "
        "Tokens a second, best (median). Rounds: the mean row's and the slowest one's, which sets the time.",
        "",
        "| batch | plain | assisted | speed-up | rounds, mean and most |",
        "|---:|---:|---:|---:|---:|",
    ]
    for size, one in found.items():
        tokens = NEW * int(size)
        lines.append(
            f"| {size} | {cell(one['plain'], tokens)} | {cell(one['assisted'], tokens)} "
            f"| {min(one['plain']) / min(one['assisted']):.2f} | {one['mean rounds']:.1f}, {one['rounds']} |"
        )
    return lines


def report() -> list[str]:
    """The section of benchmarks/RESULTS.md."""
    return ["## Generation", "", *tiny(), *large(), *batch(), ""]


if __name__ == "__main__":
    print("\n".join(report()))
