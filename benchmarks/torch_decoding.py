"""The peer: transformers' own generation of the same weights: `python -m benchmarks.torch_decoding FOLDER THREADS`."""

import json
import sys
import time
from pathlib import Path

import torch
from transformers import GPT2LMHeadModel

from benchmarks.our_decoding import NEW, prompts

REPEATS = 3


def main(folder: Path, threads: int) -> dict[str, object]:
    torch.set_num_threads(threads)
    target, draft = (GPT2LMHeadModel.from_pretrained(folder / name / "model").eval() for name in ("target", "draft"))
    draft.generation_config.num_assistant_tokens = 5
    draft.generation_config.num_assistant_tokens_schedule = "constant"
    draft.generation_config.assistant_confidence_threshold = 0.0
    prompt = torch.tensor(prompts(1), dtype=torch.long)
    common = {
        "max_new_tokens": NEW,
        "min_new_tokens": NEW,
        "do_sample": False,
        "attention_mask": torch.ones_like(prompt),
        "pad_token_id": 0,
        "eos_token_id": None,
    }
    found: dict[str, object] = {}
    for name, further in (("plain", {}), ("assisted", {"assistant_model": draft})):
        tokens = target.generate(prompt, **common, **further)
        seconds = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            target.generate(prompt, **common, **further)
            seconds.append(time.perf_counter() - began)
        found[name], found["tokens"] = seconds, tokens.tolist()
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
