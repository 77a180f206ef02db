"""Tables of README and docs from what `make bench` and `python -m benchmarks.commands` recorded."""

import json
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from figures.lab.catalogue import FIGURES

BENCHMARKS = FIGURES.parent / "benchmarks"
MEANING = {
    "env": "the environment alone",
    "reproduce": "trainings and pictures of `quick`",
    "test": "the tests but browser's and kill's",
}


def read(name: str) -> dict[str, Any]:
    """A record of the benchmarks; empty where there is none."""
    path = BENCHMARKS / name
    return json.loads(path.read_text()) if path.exists() else {}


def times_table() -> list[str]:
    """Minutes of README's commands in an empty clone, one after another."""
    lines = ["| command | minutes | machine | date, commit |", "|---|---:|---|---|"]
    for target, known in read("commands.json").items():
        command = f"`make {target}`: {MEANING[target]}"
        lines.append(f"| {command} | {known['minutes']:.1f} | {known['device']} | {known['date']}, {known['commit']} |")
    return lines


def speed_table() -> list[str]:
    """Each job of the last recorded run of `make bench`: how many times as fast as its strongest peer ours is."""
    measured = read("results.json")
    if not measured:
        return ["Not recorded: run `make bench`."]
    return [
        f"`make bench` on {measured['date']}, {measured['device']}, commit {measured['commit']}: one run, medians; "
        "above 1 ours is faster. All comparisons, with times: [benchmarks/RESULTS.md](benchmarks/RESULTS.md).",
        "",
        "| job | strongest peer | ours, times as fast |",
        "|---|---|---:|",
        *(training_line(kind, programs) for kind, programs in measured["training"].items()),
        documents_line(measured["documents"]),
        f"| SparseGPT, one layer | PyTorch port | {span(pruning(measured['pruning']['layers']))} |",
        f"| quantising to MX formats | PyTorch emulation | {span(quantising(measured['block_float']))} |",
        *(generation_line(what, measured["generation"]) for what in ("plain", "assisted")),
    ]


def training_line(kind: str, programs: Mapping[str, list[float]]) -> str:
    """Tokens per second of training steps, in both precisions."""
    peers = {name: median(rates) for name, rates in programs.items() if name.startswith("PyTorch")}
    best = max(peers, key=lambda name: peers[name])
    ratios = (f"{median(programs[f'ours, {p}']) / peers[best]:.2f} in {p}" for p in ("float32", "bfloat16"))
    return f"| training step, {kind} | {best} | {', '.join(ratios)} |"


def documents_line(measured: Mapping[str, list[float]]) -> str:
    """Tokens per second of sampling."""
    best = max((name for name in measured if not name.startswith("ours")), key=lambda name: median(measured[name]))
    ratio = median(measured["ours, 2 devices"]) / median(measured[best])
    return f"| sampling documents on both cores | {best} | {ratio:.1f} |"


def pruning(layers: Sequence[Mapping[str, Any]]) -> list[float]:
    """Of each layer and pattern, against the port's better number of threads."""
    return [min(map(median, layer["PyTorch"])) / median(layer["ours"]) for layer in layers]


def quantising(measured: Mapping[str, Any]) -> list[float]:
    """Of each format, against the emulation's better number of threads."""
    return [
        min(median(times) for times, _ in runs) / median(measured["ours"][f"quantise {name}"])
        for name, runs in measured["PyTorch"].items()
    ]


def generation_line(what: str, measured: Mapping[str, Any]) -> str:
    """Against the faster peer at its better number of threads."""
    peers = {"Hugging Face transformers": "transformers", "PyTorch, compiled loop": "own loop"}
    seconds = {name: min(median(run[what]) for run in measured[key]) for name, key in peers.items() if key in measured}
    best = min(seconds, key=lambda name: seconds[name])
    ratio = seconds[best] / median(measured["tiny"][what])
    return f"| {what} greedy generation, 2 layers of 64 | {best} | {ratio:.1f} |"


def span(ratios: Sequence[float]) -> str:
    return f"{min(ratios):.1f} to {max(ratios):.1f}"
