"""The peer: the same model, batch and optimizer step in PyTorch, with SDPA, fused AdamW and autocast."""

import sys
import time

import torch
from torch import nn
from torch.nn import functional

WIDTH, DEPTH, HEADS, LENGTH, BATCH, VOCAB = 128, 4, 4, 256, 16, 50


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


def time_step(model: nn.Module, bf16: bool, repeats: int, seconds: float) -> list[float]:
    """Tokens a second of each of `repeats` timings of at least `seconds` of optimizer steps, after a warm-up."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)

    def step():
        tokens = torch.randint(0, VOCAB, (BATCH, LENGTH + 1))
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = model(tokens[:, :-1])
        loss = functional.cross_entropy(logits.float().reshape(-1, VOCAB), tokens[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    step()
    speeds = []
    for _ in range(repeats):
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            step()
            steps += 1
        speeds.append(steps * BATCH * LENGTH / (time.perf_counter() - start))
    return speeds


if __name__ == "__main__":
    torch.set_num_threads(2)
    kind, precision, repeats, seconds = sys.argv[1:]
    peer = {"transformer": Transformer, "lstm": LSTM}[kind]()
    print(*time_step(peer, precision == "bfloat16", int(repeats), float(seconds)))
