"""The peer: a whole language model to 50 % by SparseGPT as its public code goes through OPT and Llama, in PyTorch.

`python -m benchmarks.torch_language_pruning FOLDER THREADS`; windows come from what `our_language` left in FOLDER.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.our_language import WINDOWS
from benchmarks.torch_language import load
from benchmarks.torch_pruning import sparsegpt


class Caught(Exception):
    """The inputs of the first block are there."""


def main(folder: Path, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    windows = {name: torch.tensor(rows) for name, rows in json.loads((folder / WINDOWS).read_text()).items()}
    model = load()
    began = time.perf_counter()
    prune(model, windows["calibration"])
    return {"seconds": time.perf_counter() - began, "loss": loss(model, windows["judged"])}


@torch.no_grad()
def prune(model: torch.nn.Module, windows: torch.Tensor) -> None:
    """Block after block: the Hessians of all linear layers from one pass, each layer pruned, then a second pass."""
    blocks = model.model.layers
    inputs, options = caught(model, blocks[0], windows)
    for block in blocks:
        layers = [module for module in block.modules() if isinstance(module, torch.nn.Linear)]
        hessians = {layer: torch.zeros(layer.in_features, layer.in_features) for layer in layers}
        hooks = [layer.register_forward_hook(adding(hessians[layer], len(windows))) for layer in layers]
        for x in inputs:
            block(x, **options)
        for hook in hooks:
            hook.remove()
        for layer in layers:
            layer.weight.copy_(sparsegpt(layer.weight, hessians[layer], 0, 0))
        outputs = [block(x, **options) for x in inputs]
        inputs = [x[0] if isinstance(x, tuple) else x for x in outputs]


def caught(
    model: torch.nn.Module, block: torch.nn.Module, windows: torch.Tensor
) -> tuple[list[torch.Tensor], dict[str, Any]]:
    """What the first block is given for each window, and the arguments that every block is given."""
    inputs: list[torch.Tensor] = []
    options: dict[str, Any] = {}

    def catch(_: torch.nn.Module, positional: tuple[torch.Tensor, ...], named: dict[str, Any]) -> None:
        inputs.append(positional[0])
        options.update(named)
        raise Caught

    hook = block.register_forward_pre_hook(catch, with_kwargs=True)
    for window in windows:
        try:
            model(window[None], use_cache=False)
        except Caught:
            continue
    hook.remove()
    return inputs, options


def adding(hessian: torch.Tensor, windows: int) -> Callable[[Any, tuple[torch.Tensor], Any], None]:
    def add(_: Any, positional: tuple[torch.Tensor], __: Any) -> None:
        rows = positional[0].flatten(0, -2)
        hessian.add_(rows.T @ rows, alpha=2 / windows)

    return add


@torch.no_grad()
def loss(model: torch.nn.Module, windows: torch.Tensor) -> float:
    """Nats per token."""
    logits = model(windows, use_cache=False).logits[:, :-1]
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()))


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
