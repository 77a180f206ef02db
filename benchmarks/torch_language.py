"""The peer: transformers on the same GGUF file: `python -m benchmarks.torch_language FOLDER THREADS`."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.our_language import DRAFTED, LONGEST, NEW, PROMPT, PROMPTS, REPEATS
from icl_synth import language


def main(folder: Path, threads: int) -> dict[str, object]:
    torch.set_num_threads(threads)
    model = load()
    found: dict[str, object] = {}
    ways = {
        "first": {"max_new_tokens": 1, "min_new_tokens": 1},
        "plain": {},
        "look-up": {"prompt_lookup_num_tokens": DRAFTED, "max_matching_ngram_size": LONGEST},
    }
    for kind, rows in json.loads((folder / PROMPTS).read_text()).items():
        of_kind = {how: [timed(model, row, **options) for row in rows] for how, options in ways.items()}
        found[kind] = {how: [seconds for seconds, _ in several] for how, several in of_kind.items()} | {
            f"tokens, {how}": [tokens for _, tokens in of_kind[how]] for how in ("plain", "look-up")
        }
    return found


def load() -> torch.nn.Module:
    file = language.smollm2()
    return AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()


def timed(model: torch.nn.Module, prompt: list[int], **how: int) -> tuple[list[float], list[int]]:
    """Seconds of several generations, and the new tokens."""
    tokens = torch.tensor([prompt])
    options: dict[str, Any] = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
    options |= {"eos_token_id": None, "attention_mask": torch.ones_like(tokens)} | how
    said = model.generate(tokens, **options)
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        model.generate(tokens, **options)
        seconds.append(time.perf_counter() - began)
    return seconds, said[0, PROMPT:].tolist()


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
