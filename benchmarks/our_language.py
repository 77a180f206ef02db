"""Our generation with SmolLM2, timed in a process of its own: `python -m benchmarks.our_language FOLDER`.

Leaves the prompts in FOLDER for the peer.
"""

import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from compression.pruning.apply import Pruning, prune_model
from decoding import speedup
from decoding.assisted import assisted_generate
from decoding.compare import timed
from decoding.drafts import PromptLookup
from decoding.generate import generate
from decoding.readers import as_reader
from decoding.variants import weight_bytes
from figures.language.common import KINDS, Reader, Source, losses, prompts, read
from icl_synth import checkpoints

PROMPT, NEW, TEXTS, REPEATS, DRAFTED, LONGEST = 96, 64, 2, 2, 4, 3
CALIBRATION, JUDGED = 32, 8  # windows
PROMPTS, WINDOWS = "prompts.json", "windows.json"


def main(folder: Path) -> dict[str, Any]:
    """By kind of text: seconds for each text of the first token, of plain generation and of look-up; and the tokens."""
    reader = read(Source())
    target, draft = as_reader(reader.model), PromptLookup(reader.model.config.vocab_size, LONGEST)
    texts = {kind: prompts(reader, kind, TEXTS, PROMPT) for kind in KINDS}
    (folder / PROMPTS).write_text(json.dumps({kind: rows.tolist() for kind, rows in texts.items()}))
    found: dict[str, Any] = {"copy": speedup.copy_bandwidth(), "bytes": weight_bytes(reader.model)}
    ways: dict[str, Callable[[np.ndarray], Any]] = {
        "first": lambda prompt: generate(target, prompt, 1),
        "plain": lambda prompt: generate(target, prompt, NEW),
        "look-up": lambda prompt: assisted_generate(target, draft, prompt, NEW, num_draft=DRAFTED).tokens,
    }
    for kind, rows in texts.items():
        found[kind] = {
            how: [timed(functools.partial(way, row[None]), REPEATS) for row in rows] for how, way in ways.items()
        }
        for how in ("plain", "look-up"):
            found[kind][f"tokens, {how}"] = [np.asarray(ways[how](row[None]))[0, PROMPT:].tolist() for row in rows]
    return found | {"pruning": prune(reader, folder)}


def prune(reader: Reader, folder: Path) -> dict[str, Any]:
    """Seconds of pruning the whole model to 50 %, first with compilation; and its loss, nats per token."""
    windows = {"calibration": reader.calibration(CALIBRATION), "judged": reader.judged(JUDGED)}
    (folder / WINDOWS).write_text(json.dumps({name: rows.tolist() for name, rows in windows.items()}))
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        pruned = prune_model(reader.model, windows["calibration"], Pruning(sparsity=0.5)).model
        jax.block_until_ready(checkpoints.split(pruned)[1])
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds, "loss": float(losses(pruned, windows["judged"]).mean())}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
