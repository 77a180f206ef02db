"""The peer: the same model, batch and optimizer step in PyTorch, with SDPA, fused AdamW and autocast.

`python -m benchmarks.torch_step transformer float32 REPEATS SECONDS` prints its fastest way here, and tokens a second.
"""

import json
import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

WIDTH, DEPTH, HEADS, LENGTH, BATCH, VOCAB = 128, 4, 4, 256, 16, 50
MICRO_BATCHES, TRY = (16, 4, 1), 1.0  # rows; seconds that each way is tried for


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(WIDTH, eps=1e-5), nn.RMSNorm(WIDTH, eps=1e-5)
        self.query_norm, self.key_norm = nn.RMSNorm(WIDTH // HEADS, eps=1e-5), nn.RMSNorm(WIDTH // HEADS, eps=1e-5)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape
        query, key, value = self.qkv(self.norm1(x)).view(batch, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        query, key = rotate(self.query_norm(query), cos, sin), rotate(self.key_norm(key), cos, sin)
        mixed = functional.scaled_dot_product_attention(query, key, value.to(query.dtype), is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, WIDTH))
        return x + self.down(functional.relu(self.up(self.norm2(x))).square())


def rotate(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(VOCAB, WIDTH), nn.Linear(WIDTH, VOCAB, bias=False)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(DEPTH)), nn.RMSNorm(WIDTH, eps=1e-5)
        half = WIDTH // HEADS // 2
        angle = torch.arange(LENGTH)[:, None] * 1e4 ** (-torch.arange(half) / half)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.head(self.norm(x))


class LSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(VOCAB, WIDTH), nn.LSTM(WIDTH, WIDTH, 2, batch_first=True)
        self.head = nn.Linear(WIDTH, VOCAB)

    def forward(self, tokens):
        return self.head(self.lstm(self.embedding(tokens))[0])


def stepping(model: nn.Module, bf16: bool, micro: int) -> Callable[[], None]:
    """One optimizer step on a new batch, read in micro-batches."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        for tokens in torch.randint(0, VOCAB, (BATCH, LENGTH + 1)).split(micro):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                logits = model(tokens[:, :-1])
            loss = functional.cross_entropy(logits.float().reshape(-1, VOCAB), tokens[:, 1:].reshape(-1))
            (loss * len(tokens) / BATCH).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def speed(step: Callable[[], None], seconds: float) -> float:
    """Tokens a second of at least so many seconds of steps."""
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step()
        steps += 1
    return steps * BATCH * LENGTH / (time.perf_counter() - start)


def fastest(kind: str, bf16: bool) -> tuple[str, Callable[[], None]]:
    """The fastest way of several: eager or compiled, a whole batch or micro-batches. What does not run here is told."""
    tried: dict[str, tuple[float, Callable[[], None]]] = {}
    for compiled in (False, True):
        for micro in MICRO_BATCHES:
            name = f"{'compiled' if compiled else 'eager'}, {micro} rows at once"
            model = {"transformer": Transformer, "lstm": LSTM}[kind]()
            step = stepping(torch.compile(model) if compiled else model, bf16, micro)
            try:
                step()
            except Exception as error:  # of many kinds: no compiler, no such product
                print(f"PyTorch {kind}, {name}, does not run here: {error}", file=sys.stderr)
                continue
            tried[name] = speed(step, TRY), step
    name = max(tried, key=lambda one: tried[one][0])
    return name, tried[name][1]


if __name__ == "__main__":
    torch.set_num_threads(2)
    kind, precision, repeats, seconds = sys.argv[1:]
    name, step = fastest(kind, precision == "bfloat16")
    print(json.dumps([name, [speed(step, float(seconds)) for _ in range(int(repeats))]]))
