"""The careful peer: the same weights behind a static cache, each reading compiled by torch.compile, in a plain loop.

`python -m benchmarks.torch_own_loop FOLDER THREADS`
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from transformers import GPT2LMHeadModel

from benchmarks.our_decoding import NEW, PROMPT, prompts

REPEATS, DRAFTED = 3, 5
ROOM = PROMPT + NEW + DRAFTED + 1


class Reader(nn.Module):
    """A GPT-2 of one row with room for ROOM tokens; entries past the position are never attended to."""

    def __init__(self, model: GPT2LMHeadModel):
        super().__init__()
        self.model, config = model.transformer, model.config
        self.head, self.heads = model.lm_head, config.n_head
        shape = (config.n_layer, 2, 1, config.n_head, ROOM, config.n_embd // config.n_head)
        self.register_buffer("cache", torch.zeros(shape))
        self.register_buffer("places", torch.arange(ROOM))

    def forward(self, tokens: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """The likeliest next token after each of `tokens`, which stand from `position` on."""
        length = tokens.shape[1]
        rows = position + self.places[:length]
        seen = self.places[None] <= rows[:, None]
        x = self.model.wte(tokens) + self.model.wpe(rows)
        for block, cache in zip(self.model.h, self.cache, strict=True):
            parts = block.attn.c_attn(block.ln_1(x)).view(1, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            cache.index_copy_(3, rows, parts[1:])
            mixed = functional.scaled_dot_product_attention(parts[0], cache[0], cache[1], attn_mask=seen)
            x = x + block.attn.c_proj(mixed.transpose(1, 2).reshape(1, length, -1))
            x = x + block.mlp(block.ln_2(x))
        return self.head(self.model.ln_f(x)).argmax(-1)


def plain(target: Callable[..., torch.Tensor], prompt: torch.Tensor) -> list[int]:
    text = prompt[0].tolist()
    token = target(prompt, torch.tensor(0))[:, -1:]
    for position in range(PROMPT, PROMPT + NEW - 1):
        text.append(int(token))
        token = target(token, torch.tensor(position))
    return [*text, int(token)]


def assisted(
    target: Callable[..., torch.Tensor], draft: Callable[..., torch.Tensor], prompt: torch.Tensor
) -> list[int]:
    """Greedy: proposals stand up to the first that the target would not have chosen; then the target's own."""
    text = prompt[0].tolist()
    draft(prompt, torch.tensor(0))
    text.append(int(target(prompt, torch.tensor(0))[0, -1]))
    read = PROMPT  # by the draft
    while len(text) < PROMPT + NEW:
        proposals: list[int] = []
        unread = text[read:]
        for _ in range(DRAFTED):
            for token in unread:
                said = draft(torch.tensor([[token]]), torch.tensor(read))
                read += 1
            proposals.append(int(said))
            unread = proposals[-1:]
        window = torch.tensor([[text[-1], *proposals]])
        chosen = target(window, torch.tensor(len(text) - 1))[0].tolist()
        stands = next((i for i in range(DRAFTED) if proposals[i] != chosen[i]), DRAFTED)
        text += chosen[: stands + 1]
        read = min(read, len(text) - 1)
    return text[: PROMPT + NEW]


@torch.no_grad()
def main(folder: Path, threads: int) -> dict[str, object]:
    torch.set_num_threads(threads)
    target, draft = (
        torch.compile(Reader(GPT2LMHeadModel.from_pretrained(folder / name / "model").eval()), dynamic=False)
        for name in ("target", "draft")
    )
    prompt = torch.tensor(prompts(1), dtype=torch.long)
    ways = {"plain": lambda: plain(target, prompt), "assisted": lambda: assisted(target, draft, prompt)}
    found: dict[str, object] = {"tokens": {name: way() for name, way in ways.items()}}
    for name, way in ways.items():
        seconds = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            way()
            seconds.append(time.perf_counter() - began)
        found[name] = seconds
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
