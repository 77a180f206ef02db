"""The peer: transformers on the same GGUF file: `python -m benchmarks.torch_language FOLDER THREADS`."""

import json
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from benchmarks.our_language import DRAFTED, NEW, PROMPT, PROMPTS, REPEATS
from icl_synth import language


def main(folder: Path, threads: int) -> dict[str, object]:
    torch.set_num_threads(threads)
    file = language.smollm2()
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    found: dict[str, object] = {}
    for kind, rows in json.loads((folder / PROMPTS).read_text()).items():
        plain = [timed(model, row) for row in rows]
        assisted = [timed(model, row, prompt_lookup_num_tokens=DRAFTED) for row in rows]
        found[kind] = {
            "plain": [seconds for seconds, _ in plain],
            "look-up": [seconds for seconds, _ in assisted],
            "tokens": [tokens for _, tokens in plain],
        }
    return found


def timed(model: torch.nn.Module, prompt: list[int], **how: int) -> tuple[list[float], list[int]]:
    """Seconds of several generations, and the new tokens."""
    tokens = torch.tensor([prompt])
    common = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    said = model.generate(tokens, attention_mask=torch.ones_like(tokens), **common, **how)
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        model.generate(tokens, attention_mask=torch.ones_like(tokens), **common, **how)
        seconds.append(time.perf_counter() - began)
    return seconds, said[0, PROMPT:].tolist()


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
