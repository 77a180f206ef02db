"""python -m benchmarks: every comparison in one run, printed and written to benchmarks/RESULTS.md."""

import datetime
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks import bench_blocks, bench_decoding, bench_documents, bench_prompts, bench_pruning, said
from icl_synth.checkpoints import write_text
from icl_synth.provenance import commit, device

REPEATS, SECONDS = 5, 2.0


def speeds(*command: str) -> list[float]:
    """Tokens a second that a benchmark in a process of its own prints; each has both cores to itself."""
    return [float(word) for word in said(*command).split()]


def training() -> list[tuple[str, str, list[float]]]:
    rows = []
    for kind in ("transformer", "lstm"):
        for precision in ("float32", "bfloat16"):
            size = [str(REPEATS), str(SECONDS)]
            rows.append((kind, f"ours, {precision}", speeds("benchmarks.our_step", kind, precision, "adamw", *size)))
            try:
                rows.append((kind, f"PyTorch, {precision}", speeds("benchmarks.torch_step", kind, precision, *size)))
            except subprocess.CalledProcessError as error:
                print(f"PyTorch {kind} in {precision} does not run here: {error}", file=sys.stderr)
    rows.append(
        ("transformer", "ours, float32, Muon", speeds("benchmarks.our_step", "transformer", "float32", "muon", *size))
    )
    return rows


def table() -> str:
    lines = [
        "# Benchmarks",
        "",
        f"`python -m benchmarks` on {datetime.date.today().isoformat()}, {device()}, commit {commit()}. "
        "All in one run; ratios are to the fastest peer of that job, of medians for training and documents, of minima "
        "(and medians in brackets) below.",
        "",
        "## Training step: 4 layers or 2 LSTM layers, d = 128, T = 256, batch 16, AdamW, two threads",
        "",
        "Tokens a second. PyTorch runs eagerly, a whole batch at once; ours is one compiled program in micro-batches.",
        "",
        "| model | program | median | best | ratio to the best PyTorch |",
        "|---|---|---:|---:|---:|",
    ]
    rows = training()
    for kind, program, values in rows:
        peer = max((median(v) for k, p, v in rows if k == kind and p.startswith("PyTorch")), default=float("nan"))
        ratio = f"{median(values) / peer:.2f}" if program.startswith("ours") else ""
        lines.append(f"| {kind} | {program} | {median(values):,.0f} | {max(values):,.0f} | {ratio} |")
    lines += ["", "## Sampling documents", ""]
    lines += ["| program | median | best | ratio to the loop | ratio to NumPy |", "|---|---:|---:|---:|---:|"]
    sampled = bench_documents.run()
    loop, vectorised = (row["tokens_per_second_median"] for row in sampled[:2])
    for row in sampled:
        middle, best = row["tokens_per_second_median"], row["tokens_per_second_best"]
        ratios = f"{middle / loop:.0f} | {middle / vectorised:.1f}"
        lines.append(f"| {row['what']} | {middle:,.0f} | {best:,.0f} | {ratios} |")
    lines += ["", "## Sampling 175,000 prompts (k = 3, 5, 8, 10; n = 0 to 64)", "", "| pass | seconds |", "|---|---:|"]
    lines += [f"| {label} | {seconds:.1f} |" for label, seconds in bench_prompts.run().items()]
    lines += ["", *bench_pruning.report(), *bench_blocks.report(), *bench_decoding.report()]
    return "\n".join(lines)


if __name__ == "__main__":
    text = table()
    write_text(Path(__file__).parent / "RESULTS.md", text)
    print(text)
