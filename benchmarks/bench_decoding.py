"""Generation beside transformers', the large pair, and batches; each program in a process of its own.

`python -m benchmarks.bench_decoding` prints what it measured as JSON.
"""

import json
import tempfile
from statistics import median
from typing import Any

from benchmarks import said
from benchmarks.our_decoding import NEW

PUBLIC = {"plain": 1385, "assisted": 1398}  # tokens a second of transformers, as recorded on another machine


def run(*command: str) -> dict[str, Any]:
    return json.loads(said(*command).splitlines()[-1])


def cell(seconds: list[float], tokens: int) -> str:
    """Tokens a second: best (median)."""
    return f"{tokens / min(seconds):,.0f} ({tokens / median(seconds):,.0f})"


def measure() -> dict[str, Any]:
    """Seconds of the tiny pair and of transformers' with the same weights, of the large pair, and by batch."""
    with tempfile.TemporaryDirectory() as folder:
        said("benchmarks.our_decoding", "train", folder)
        tiny = run("benchmarks.our_decoding", "tiny", folder)
        peers = [run("benchmarks.torch_decoding", folder, str(threads)) for threads in (1, 2)]
        loops = [run("benchmarks.torch_own_loop", folder, str(threads)) for threads in (1, 2)]
    same = all(peer.pop("tokens") == tiny["tokens"] for peer in peers)
    same &= all(text == tiny["tokens"][0] for loop in loops for text in loop.pop("tokens").values())
    del tiny["tokens"]
    rest = {what: run("benchmarks.our_decoding", what) for what in ("large", "batch")}
    return {"tiny": tiny, "transformers": peers, "own loop": loops, "same text": same, **rest}


def tiny_pair(measured: dict[str, Any]) -> list[str]:
    ours, same = measured["tiny"], measured["same text"]
    lines = [
        f"A GPT-2 of 2 layers of 64 and its draft, 1 layer of 32, trained here for a minute; one prompt of 32 tokens, "
        f"{NEW} greedy ones after it, five drafted a round, acceptance {ours['alpha']:.2f}. Tokens a second, best "
        "(median), with the same weights: transformers, and a plain loop in PyTorch over a static cache whose readings "
        "torch.compile compiles, each on one or two threads, whichever is faster; all texts are "
        f"{'the same' if same else 'NOT the same'}. Our goal was 15 times the speed of transformers.",
        "",
        "| generation | ours | transformers | ratio | compiled loop | ratio | transformers, elsewhere | compiling, s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for what in ("plain", "assisted"):
        peers = []
        for name in ("transformers", "own loop"):
            best = min((run[what] for run in measured.get(name, [])), key=min, default=None)
            peers.append(f"{cell(best, NEW)} | {min(best) / min(ours[what]):.1f}" if best else "not measured | ")
        lines.append(
            f"| {what} | {cell(ours[what], NEW)} | {' | '.join(peers)} | {PUBLIC[what]:,} "
            f"| {ours['compile'][what]:.1f} |"
        )
    return lines


def large_pair(measured: dict[str, Any]) -> list[str]:
    bandwidth, found = measured["copy"], {name: one for name, one in measured.items() if name != "copy"}
    gammas = [line["gamma"] for line in found["float32"]["greedy"]]
    lines = [
        "",
        "A target of 8 layers of 512 (25 M parameters) and a draft of 2 layers of 128, batch 1, two prompts: the "
        "functions of the pretrained models at those shapes. Milliseconds (minimum) of a plain token and of a window, "
        f"MB of weights over the former as a share of what a large copy moves here ({bandwidth / 1e9:.1f} GB/s), and "
        "speed-ups over plain generation of the same model, the prediction from counted rounds in brackets.",
        "",
        "| target | MB a token | ms a token | of the copy's bandwidth | ms a window, "
        + ", ".join(str(gamma + 1) for gamma in gammas)
        + " tokens | same tokens as float32 | assisted texts equal to its own | first over second choice, nats: "
        "median, and where they differ |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, one in found.items():
        plain = min(line["plain"] for line in one["greedy"])
        windows = ", ".join(f"{1e3 * line['window']:.2f}" for line in one["greedy"])
        differ = one["margin where they differ"]
        lines.append(
            f"| {name} | {one['bytes'] / 1e6:.0f} | {1e3 * plain:.2f} | {one['bytes'] / plain / bandwidth:.2f} "
            f"| {windows} | {100 * one['same tokens']:.1f} % | {100 * one['own texts']:.0f} % "
            f"| {one['margin']:.2f}, {'none do' if differ is None else differ} |"
        )
    lines += [
        "",
        "| target, mode | acceptance | " + " | ".join(f"gamma = {gamma}" for gamma in gammas) + " |",
        "|---|---:|" + "---:|" * len(gammas),
    ]
    for name, one in found.items():
        for mode in ("greedy", "sampled"):
            cells = " | ".join(f"{line['speedup']:.2f} ({line['predicted']:.2f})" for line in one[mode])
            lines.append(f"| {name}, {mode} | {median(line['acceptance'] for line in one[mode]):.2f} | {cells} |")
    return lines


def by_batch(found: dict[str, Any]) -> list[str]:
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


def report(measured: dict[str, Any]) -> list[str]:
    """The section of benchmarks/RESULTS.md."""
    return ["## Generation", "", *tiny_pair(measured), *large_pair(measured["large"]), *by_batch(measured["batch"]), ""]


if __name__ == "__main__":
    print(json.dumps(measure()))
