"""python -m benchmarks.quick: our hot jobs alone, beside the last record: a check after a change, in three minutes.

Nothing is recorded. Ratios say something where the record is of this machine.
"""

import json
from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks import said
from benchmarks.__main__ import RECORD
from benchmarks.bench_documents import ours as documents
from benchmarks.bench_training import speeds
from benchmarks.our_decoding import NEW
from icl_synth.provenance import device

BATCHES = ("1", "16")


def jobs(recorded: dict[str, Any]) -> Iterator[tuple[str, float, float]]:
    """Each job, what it does a second now, and what it did in the record."""
    for kind in ("transformer", "lstm"):
        now = speeds("benchmarks.our_step", kind, "float32", "adamw", 3, 1.0)
        yield f"training step, {kind}, float32", median(now), median(recorded["training"][kind]["ours, float32"])
    yield "sampling documents", median(documents(2)), median(recorded["documents"]["ours, 2 devices"])
    layer = next(one for one in recorded["pruning"]["layers"] if one["layer"] == "768 x 3072, 50 %")
    seconds = [float(word) for word in said("benchmarks.our_pruning", 768, 3072, 0, 0, 5).split()]
    yield "SparseGPT, 768 x 3072", 1 / median(seconds), 1 / median(layer["ours"])
    blocks, before = json.loads(said("benchmarks.bench_blocks")), recorded["block_float"]["ours"]
    for name in ("quantise mxfp4", "product msfp12"):
        yield name, 1 / median(blocks[name]), 1 / median(before[name])
    texts = json.loads(said("benchmarks.our_decoding", "batch", *BATCHES).splitlines()[-1])
    for size in BATCHES:
        for how in ("plain", "assisted"):
            tokens = NEW * int(size)
            now, then = (tokens / median(found[size][how]) for found in (texts, recorded["generation"]["batch"]))
            yield f"{how} generation, batch {size}", now, then


def main() -> None:
    record = json.loads(RECORD.read_text())
    when = sorted({f"{one['date']}, {one['device']}" for one in record.values()})
    print(f"recorded on {'; '.join(when)}; now on {device()}")
    print(f"{'a second':32} {'now':>14} {'recorded':>14} {'ratio':>6}")
    for name, now, then in jobs({name: one["measured"] for name, one in record.items()}):
        print(f"{name:32} {now:14,.1f} {then:14,.1f} {now / then:6.2f}", flush=True)


if __name__ == "__main__":
    main()
