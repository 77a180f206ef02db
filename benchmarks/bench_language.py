"""A real language model beside transformers, on the same file; each program in a process of its own.

`python -m benchmarks.bench_language` prints what it measured as JSON.
"""

import json
import tempfile
from statistics import median
from typing import Any

from benchmarks.bench_decoding import run
from benchmarks.our_language import CALIBRATION, DRAFTED, JUDGED, LONGEST, NEW, PROMPT, TEXTS
from figures.language.common import KINDS, SMOLLM2, lacks


def measure() -> dict[str, Any] | None:
    """Seconds of ours and of transformers' by kind of text; None where the model or the works are not there."""
    if lacks():
        return None
    with tempfile.TemporaryDirectory() as folder:
        ours = run("benchmarks.our_language", folder)
        peers = [run("benchmarks.torch_language", folder, str(threads)) for threads in (1, 2)]
        pruned = [run("benchmarks.torch_language_pruning", folder, "2")]
    same = {
        f"{kind}, {how}": ours[kind].pop(name) == peers[0][kind].pop(name) == peers[1][kind].pop(name)
        for kind in KINDS
        for how, name in ((how, f"tokens, {how}") for how in ("plain", "look-up"))
    }
    return {"ours": ours, "transformers": peers, "same text": same, "PyTorch port": pruned}


def milliseconds(found: dict[str, list[list[float]]], how: str) -> tuple[float, float]:
    """A token's after the first, of all texts together: from the best and from the median of each text's runs."""
    seconds = (sum(of(text) for text in found[how]) - sum(of(text) for text in found["first"]) for of in (min, median))
    return tuple(1e3 * of_all / (len(found[how]) * (NEW - 1)) for of_all in seconds)  # type: ignore[return-value]


def report(measured: dict[str, Any] | None) -> list[str]:
    """The section of benchmarks/RESULTS.md."""
    lines = ["## A real language model", ""]
    if measured is None:
        return [*lines, f"Not measured: {SMOLLM2} or the works were not there (`make language text`).", ""]
    ours, peers = measured["ours"], measured["transformers"]
    plain = milliseconds(ours[KINDS[0]], "plain")[0] / 1e3
    lines += [
        f"{SMOLLM2} in float32, batch 1: {TEXTS} prompts of {PROMPT} tokens, {NEW} greedy ones after each. "
        "Milliseconds per token after the first, best (median); transformers on one or two threads, whichever is "
        f"faster, from the same file. Look-up drafts {DRAFTED} tokens after the longest end of up to {LONGEST} tokens "
        "that occurred before: ours after its latest occurrence, transformers' after its first. A plain token of ours "
        f"reads {ours['bytes'] / 1e6:.0f} MB of weights, {ours['bytes'] / plain / ours['copy']:.2f} of what a large "
        f"copy moves here ({ours['copy'] / 1e9:.1f} GB/s).",
        "",
        "| text | plain, ours | transformers | ratio | look-up, ours | transformers | ratio | same text |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for kind in KINDS:
        cells = []
        for how in ("plain", "look-up"):
            mine, theirs = milliseconds(ours[kind], how), min(milliseconds(peer[kind], how) for peer in peers)
            cells += ["{:.0f} ({:.0f})".format(*mine), "{:.0f} ({:.0f})".format(*theirs), f"{theirs[0] / mine[0]:.2f}"]
        same = all(measured["same text"][f"{kind}, {how}"] for how in ("plain", "look-up"))
        lines.append(f"| {kind} | {' | '.join(cells)} | {'yes' if same else 'no'} |")
    port, own = min(measured["PyTorch port"], key=lambda one: one["seconds"]), ours["pruning"]
    first, second = own["seconds"]
    lines += [
        "",
        f"Pruning the whole model to 50 % by SparseGPT on {CALIBRATION} windows of 512 tokens: ours {second:.0f} s "
        f"({first:.0f} s with compilation), the public code's way in PyTorch {port['seconds']:.0f} s on two "
        f"threads, {port['seconds'] / second:.1f} times as long. Losses afterwards on {JUDGED} "
        f"windows: {own['loss']:.3f} and {port['loss']:.3f} nats per token.",
    ]
    return [*lines, ""]


if __name__ == "__main__":
    print(json.dumps(measure()))
