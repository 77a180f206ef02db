"""The peer: OCP Microscaling emulated as public PyTorch code does it, plainly.

`python -m benchmarks.torch_blocks FORMAT THREADS REPEATS` prints seconds: REPEATS times of quantising 1024 x 1024,
then of a 1024^3 product with both operands quantised; of each the faster of eager and compiled.
"""

import sys
import time
from collections.abc import Callable

import torch

SIZE, BLOCK = 1024, 32
FORMATS = {  # exponent bits (0: integer), mantissa bits, exponent of the largest element, largest element
    "mxint8": (0, 6, 0, 127 / 64),
    "mxfp8_e4m3": (4, 3, 8, 448.0),
    "mxfp4": (2, 1, 2, 6.0),
}


def quantize(x: torch.Tensor, format: str) -> torch.Tensor:
    """Blocks of 32 along the last axis; scale from the floored logarithm; ties to even."""
    exponent_bits, mantissa, top, largest = FORMATS[format]
    blocks = x.reshape(*x.shape[:-1], -1, BLOCK)
    most = blocks.abs().amax(-1, keepdim=True)
    shared = torch.floor(torch.log2(most + (most == 0) * 2.0**-126)) - top
    scale = 2.0 ** shared.clamp(-127, 127)
    units = blocks / scale
    private = torch.zeros_like(units)
    if exponent_bits:
        private = torch.floor(torch.log2(units.abs() + (units == 0)))
        private = private.clamp(min=2 - 2 ** (exponent_bits - 1))
    step = 2.0 ** (private - mantissa)
    rounded = torch.round(units / step) * step
    return (rounded.clamp(-largest, largest) * scale).reshape(x.shape)


def multiply(a: torch.Tensor, b: torch.Tensor, format: str) -> torch.Tensor:
    return quantize(a, format) @ quantize(b.T, format).T


def timed(work: Callable[[], torch.Tensor], repeats: int) -> list[float]:
    """Seconds of each call after the first."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    format, threads, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    a, b = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE)
    for work in (lambda: quantize(a, format), lambda: multiply(a, b, format)):
        print(*min((timed(way, repeats) for way in (work, torch.compile(work))), key=min), sep="\n")
