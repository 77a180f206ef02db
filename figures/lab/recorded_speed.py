"""Tables of README and docs from what `make bench` and `python -m benchmarks.commands` recorded."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from figures.lab.catalogue import FIGURES

BENCHMARKS = FIGURES.parent / "benchmarks"
Measured = Mapping[str, Any]
Job = tuple[str, str, str]  # what is done, the strongest peer, and how many times as fast ours is
MEANING = {
    "env": "the environment alone",
    "reproduce": "trainings and pictures of `quick`",
    "test": "all tests except those in a browser and those that kill",
    "test-browser": "the site, and the quick tests in a browser",
}


def read(name: str) -> dict[str, Any]:
    """A record of the benchmarks; empty where there is none."""
    path = BENCHMARKS / name
    return json.loads(path.read_text()) if path.exists() else {}


def times_table() -> list[str]:
    """Minutes of README's commands and of each lesson in an empty clone, one after another."""
    lines = ["| command | minutes | machine | date, commit |", "|---|---:|---|---|"]
    for name, known in read("commands.json").items():
        command = f"`{known['command']}`: {MEANING.get(name, name)}"
        lines.append(f"| {command} | {known['minutes']:.1f} | {known['device']} | {known['date']}, {known['commit']} |")
    return lines


def speed_table() -> list[str]:
    """Each job of the last recorded run of `make bench`: how many times as fast as its strongest peer ours is."""
    known = read("results.json")
    if not known:
        return ["Not recorded: run `make bench`."]
    lines = [
        "From `make bench`, medians; above 1 ours is faster. All comparisons, with times: "
        "[benchmarks/RESULTS.md](benchmarks/RESULTS.md).",
        "",
        "| job | strongest peer | ours, times as fast | measured |",
        "|---|---|---:|---|",
    ]
    for part, jobs in JOBS.items():
        if part in known and known[part]["measured"] is not None:
            one = known[part]
            lines += [f"| {' | '.join(job)} | {one['date']}, {one['device']} |" for job in jobs(one["measured"])]
    return lines


def training(measured: Measured) -> Iterator[Job]:
    """Tokens per second of training steps, in both precisions."""
    for kind, programs in measured.items():
        peers = {name: median(rates) for name, rates in programs.items() if name.startswith("PyTorch")}
        best = max(peers, key=lambda name: peers[name])
        ratios = (f"{median(programs[f'ours, {p}']) / peers[best]:.2f} in {p}" for p in ("float32", "bfloat16"))
        yield f"training step, {kind}", best, ", ".join(ratios)


def documents(measured: Measured) -> Iterator[Job]:
    """Tokens per second of sampling."""
    best = max((name for name in measured if not name.startswith("ours")), key=lambda name: median(measured[name]))
    ratio = median(measured["ours, 2 devices"]) / median(measured[best])
    yield "sampling documents on both cores", best, f"{ratio:.1f}"


def pruning(measured: Measured) -> Iterator[Job]:
    """Each layer and pattern against the port's better number of threads."""
    ratios = [min(map(median, layer["PyTorch"])) / median(layer["ours"]) for layer in measured["layers"]]
    yield "SparseGPT, one layer", "PyTorch port", span(ratios)


def quantising(measured: Measured) -> Iterator[Job]:
    """Each format against the emulation's better number of threads."""
    ratios = [
        min(median(times) for times, _ in runs) / median(measured["ours"][f"quantise {name}"])
        for name, runs in measured["PyTorch"].items()
    ]
    yield "quantising to MX formats", "PyTorch emulation", span(ratios)


def generation(measured: Measured) -> Iterator[Job]:
    """Against the faster peer at its better number of threads."""
    peers = {"Hugging Face transformers": "transformers", "PyTorch, compiled loop": "own loop"}
    for what in ("plain", "assisted"):
        seconds = {
            name: min(median(run[what]) for run in measured[key]) for name, key in peers.items() if key in measured
        }
        best = min(seconds, key=lambda name: seconds[name])
        ratio = seconds[best] / median(measured["tiny"][what])
        yield f"{what} greedy generation, 2 layers of 64", best, f"{ratio:.1f}"


def language(measured: Measured) -> Iterator[Job]:
    """A token after the first, of all kinds of text; and pruning the whole model."""
    ours, peers = measured["ours"], measured["transformers"]
    kinds = [kind for kind in peers[0] if kind in ours]
    for what in ("plain", "look-up"):
        mine, *theirs = (sum(after_the_first(of[kind], what) for kind in kinds) for of in (ours, *peers))
        yield f"SmolLM2-135M, {what} generation", "Hugging Face transformers", f"{min(theirs) / mine:.2f}"
    port = min(one["seconds"] for one in measured["PyTorch port"])
    yield "SmolLM2-135M, the whole pruned by SparseGPT", "PyTorch port", f"{port / ours['pruning']['seconds'][-1]:.1f}"


def after_the_first(of_kind: Measured, what: str) -> float:
    """Median seconds of the tokens after the first one, all texts together."""
    return sum(median(text) for text in of_kind[what]) - sum(median(text) for text in of_kind["first"])


def span(ratios: Sequence[float]) -> str:
    return f"{min(ratios):.1f} to {max(ratios):.1f}"


JOBS: dict[str, Callable[[Measured], Iterator[Job]]] = {
    "training": training,
    "documents": documents,
    "pruning": pruning,
    "block_float": quantising,
    "generation": generation,
    "language": language,
}
