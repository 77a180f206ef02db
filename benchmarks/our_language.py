"""Our generation with SmolLM2, timed in a process of its own: `python -m benchmarks.our_language FOLDER`.

Leaves the prompts in FOLDER for the peer.
"""

import json
import sys
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

PROMPT, NEW, TEXTS, REPEATS, DRAFTED = 96, 64, 3, 3, 4
PROMPTS = "prompts.json"


def main(folder: Path) -> dict[str, Any]:
    """By kind of text: seconds of plain generation and of look-up, for each text, and the tokens."""
    reader = read(Source())
    target, draft = as_reader(reader.model), PromptLookup(reader.model.config.vocab_size)
    texts = {kind: prompts(reader, kind, TEXTS, PROMPT) for kind in KINDS}
    (folder / PROMPTS).write_text(json.dumps({kind: rows.tolist() for kind, rows in texts.items()}))
    found: dict[str, Any] = {"copy": speedup.copy_bandwidth(), "bytes": weight_bytes(reader.model)}
    for kind, rows in texts.items():
        works = [
            (
                lambda prompt=row[None]: generate(target, prompt, NEW),
                lambda prompt=row[None]: assisted_generate(target, draft, prompt, NEW, num_draft=DRAFTED),
            )
            for row in rows
        ]
        found[kind] = {
            "plain": [timed(plain, REPEATS) for plain, _ in works],
            "look-up": [timed(assisted, REPEATS) for _, assisted in works],
            "tokens": [np.asarray(plain())[0, PROMPT:].tolist() for plain, _ in works],
        }
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
