"""The peer: SparseGPT as its public code does it, plainly in PyTorch.

`python -m benchmarks.torch_pruning OUTPUTS INPUTS KEEP GROUP THREADS REPEATS` prints seconds; KEEP GROUP 0 0 is 50 %.
"""

import sys
import time

import numpy as np
import torch

from benchmarks.our_pruning import problem

BLOCK, DAMPING = 128, 0.01


def sparsegpt(weight: torch.Tensor, hessian: torch.Tensor, keep: int, group: int) -> torch.Tensor:
    """Three factorisations of H, then blocks of columns from left to right, each error pushed to the right."""
    weight, hessian = weight.clone(), hessian.clone()
    inputs = weight.shape[1]
    dead = torch.diagonal(hessian) == 0
    hessian[dead, dead] = 1
    weight[:, dead] = 0
    hessian.diagonal().add_(DAMPING * torch.diagonal(hessian).mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    upper = torch.linalg.cholesky(inverse, upper=True)
    for start in range(0, inputs, BLOCK):
        end = min(start + BLOCK, inputs)
        block, corner = weight[:, start:end].clone(), upper[start:end, start:end]
        errors, pruned = torch.zeros_like(block), torch.zeros_like(block)
        dropped = torch.zeros_like(block, dtype=torch.bool)
        scores = block**2 / torch.diagonal(corner) ** 2
        if not group:
            dropped = scores <= torch.sort(scores.flatten())[0][scores.numel() // 2]
        for i in range(end - start):
            if group and i % group == 0:
                now = block[:, i : i + group] ** 2 / torch.diagonal(corner)[i : i + group] ** 2
                dropped.scatter_(1, i + torch.topk(now, group - keep, dim=1, largest=False)[1], True)
            pruned[:, i] = torch.where(dropped[:, i], 0.0, block[:, i])
            error = (block[:, i] - pruned[:, i]) / corner[i, i]
            block[:, i:] -= error[:, None] @ corner[i : i + 1, i:]
            errors[:, i] = error
        weight[:, start:end] = pruned
        weight[:, end:] -= errors @ upper[start:end, end:]
    return weight


if __name__ == "__main__":
    outputs, inputs, keep, group, threads, repeats = map(int, sys.argv[1:])
    torch.set_num_threads(threads)
    weight, hessian = (torch.from_numpy(np.array(x)) for x in problem(outputs, inputs))
    sparsegpt(weight, hessian, keep, group)
    for _ in range(repeats):
        start = time.perf_counter()
        sparsegpt(weight, hessian, keep, group)
        print(time.perf_counter() - start)
