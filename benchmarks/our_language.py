"""Our generation with SmolLM2, timed in a process of its own: `python -m benchmarks.our_language FOLDER`.

Leaves the prompts in FOLDER for the peer.
"""

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from decoding import speedup
from decoding.assisted import assisted_generate
from decoding.compare import timed
from decoding.drafts import PromptLookup
from decoding.generate import generate
from decoding.readers import as_reader
from decoding.variants import weight_bytes
from figures.language.common import KINDS, Source, prompts, read

PROMPT, NEW, TEXTS, REPEATS, DRAFTED, LONGEST = 96, 64, 3, 3, 4, 3
PROMPTS = "prompts.json"


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
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
