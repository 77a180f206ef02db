"""Tables of README and docs from what `make bench` and `python -m benchmarks.commands` recorded."""

import json
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from figures.lab.catalogue import FIGURES

BENCHMARKS = FIGURES.parent / "benchmarks"
TOKENS = 192  # generated in the benchmark of the small pair
MEANING = {"env": "the environment alone", "reproduce": "trainings and pictures of `quick`", "test": "all tests"}


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
    """The main comparisons of the last recorded run of `make bench`; a ratio above 1 means that ours is faster."""
    measured = read("results.json")
    if not measured:
        return ["Not recorded: run `make bench`."]
    return [
        f"`make bench` on {measured['date']}, {measured['device']}, commit {measured['commit']}: one run, medians. "
        "A ratio above 1 means that ours is faster.",
        "",
        "| job | ours | strongest peer of the run | ratio |",
        "|---|---:|---:|---:|",
        *training_lines(measured["training"]),
        *document_lines(measured["documents"]),
        *pruning_lines(measured["pruning"]["layers"]),
        *quantising_lines(measured["block_float"]),
        *generation_lines(measured["generation"]),
    ]


def training_lines(measured: Mapping[str, Mapping[str, list[float]]]) -> list[str]:
    lines = []
    for kind, programs in measured.items():
        peers = {name: median(rates) for name, rates in programs.items() if name.startswith("PyTorch")}
        for precision in ("float32", "bfloat16"):
            job = f"training step, {kind}, {precision}, tokens per second"
            lines.append(faster(job, median(programs[f"ours, {precision}"]), peers))
    return lines


def document_lines(measured: Mapping[str, list[float]]) -> list[str]:
    peers = {"vectorised NumPy": median(measured["vectorised NumPy"])}
    return [faster("sampling documents on both cores, tokens per second", median(measured["ours, 2 devices"]), peers)]


def pruning_lines(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for layer in layers:
        peers = {f"PyTorch port, {n} threads": median(times) for n, times in enumerate(layer["PyTorch"], 1)}
        lines.append(shorter(f"SparseGPT, {layer['layer']}, ms", median(layer["ours"]), peers))
    return lines


def quantising_lines(measured: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, runs in measured["PyTorch"].items():
        peers = {f"PyTorch emulation, {n} threads": median(times) for n, (times, _) in enumerate(runs, 1)}
        job = f"quantising 1024 x 1024 to {name}, ms"
        lines.append(shorter(job, median(measured["ours"][f"quantise {name}"]), peers))
    return lines


def generation_lines(measured: Mapping[str, Any]) -> list[str]:
    lines = []
    for what in ("plain", "assisted"):
        runs = measured["transformers"]
        peers = {f"transformers, {n} threads": TOKENS / median(run[what]) for n, run in enumerate(runs, 1)}
        job = f"{what} greedy generation, 2 layers of 64, tokens per second"
        lines.append(faster(job, TOKENS / median(measured["tiny"][what]), peers))
    return lines


def faster(job: str, ours: float, peers: Mapping[str, float]) -> str:
    """Of rates: ours beside the highest of the peers."""
    peer = max(peers, key=lambda name: peers[name])
    return f"| {job} | {short(ours)} | {peer}: {short(peers[peer])} | {ours / peers[peer]:.2f} |"


def shorter(job: str, ours: float, peers: Mapping[str, float]) -> str:
    """Of seconds, shown in milliseconds: ours beside the least of the peers."""
    peer = min(peers, key=lambda name: peers[name])
    return f"| {job} | {short(1e3 * ours)} | {peer}: {short(1e3 * peers[peer])} | {peers[peer] / ours:.2f} |"


def short(value: float) -> str:
    """Three significant digits, thousands and millions as such."""
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"
