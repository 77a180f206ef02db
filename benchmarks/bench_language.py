"""A real language model beside transformers, on the same file; each program in a process of its own.

`python -m benchmarks.bench_language` prints what it measured as JSON.
"""

import json
import tempfile
from statistics import median
from typing import Any

from benchmarks.bench_decoding import run
from benchmarks.our_language import DRAFTED, NEW, PROMPT, TEXTS
from figures.language.common import KINDS, SMOLLM2, lacks


def measure() -> dict[str, Any] | None:
    """Seconds of ours and of transformers' by kind of text; None where the model or the works are not there."""
    if lacks():
        return None
    with tempfile.TemporaryDirectory() as folder:
        ours = run("benchmarks.our_language", folder)
        peers = [run("benchmarks.torch_language", folder, str(threads)) for threads in (1, 2)]
    same = {kind: [ours[kind]["tokens"] == peer[kind].pop("tokens") for peer in peers] for kind in KINDS}
    for kind in KINDS:
        del ours[kind]["tokens"]
    return {"ours": ours, "transformers": peers, "same text": {kind: all(found) for kind, found in same.items()}}


def milliseconds(texts: list[list[float]]) -> tuple[float, float]:
    """A token's, of all texts together: from the best and from the median of each text's runs."""
    return tuple(1e3 * sum(of(seconds) for seconds in texts) / (len(texts) * NEW) for of in (min, median))  # type: ignore[return-value]


def cell(texts: list[list[float]]) -> str:
    return "{:.0f} ({:.0f})".format(*milliseconds(texts))


def report(measured: dict[str, Any] | None) -> list[str]:
    """The section of benchmarks/RESULTS.md."""
    lines = ["## A real language model", ""]
    if measured is None:
        return [*lines, f"{SMOLLM2} was not measured: it needs `make language text`.", ""]
    ours, peers = measured["ours"], measured["transformers"]
    plain = milliseconds(ours[KINDS[0]]["plain"])[0] / 1e3
    lines += [
        f"{SMOLLM2} in float32, batch 1: {TEXTS} prompts of {PROMPT} tokens, {NEW} greedy ones after each, prefill "
        f"included. Milliseconds per token, best (median); transformers on one or two threads, whichever is faster, "
        f"from the same file. Look-up drafts {DRAFTED} tokens. A plain token of ours reads {ours['bytes'] / 1e6:.0f} "
        f"MB of weights, {ours['bytes'] / plain / ours['copy']:.2f} of what a large copy moves here "
        f"({ours['copy'] / 1e9:.1f} GB/s).",
        "",
        "| text | plain, ours | transformers | ratio | look-up, ours | transformers | ratio | same text |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for kind in KINDS:
        cells = []
        for how in ("plain", "look-up"):
            best = min((peer[kind][how] for peer in peers), key=milliseconds)
            ratio = milliseconds(best)[0] / milliseconds(ours[kind][how])[0]
            cells += [cell(ours[kind][how]), cell(best), f"{ratio:.2f}"]
        lines.append(f"| {kind} | {' | '.join(cells)} | {'yes' if measured['same text'][kind] else 'no'} |")
    return [*lines, ""]


if __name__ == "__main__":
    print(json.dumps(measure()))
