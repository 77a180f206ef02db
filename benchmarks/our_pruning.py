"""Our pruning of one layer: `python -m benchmarks.our_pruning OUTPUTS INPUTS KEEP GROUP REPEATS` prints seconds.

KEEP GROUP 0 0 is 50 % unstructured. Each repeat is a whole call, checks of the input included.
"""

import sys
import time

import jax
import numpy as np

from compression.pruning.sparsegpt import sparsegpt


def problem(outputs: int, inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian weight and the Hessian of 2 x inputs correlated rows; float32."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((inputs, inputs), np.float32) / inputs**0.5
    rows = rng.standard_normal((2 * inputs, inputs), np.float32) @ mixing
    return rng.standard_normal((outputs, inputs), np.float32), rows.T @ rows / len(rows)


if __name__ == "__main__":
    outputs, inputs, keep, group, repeats = map(int, sys.argv[1:])
    weight, hessian = map(jax.numpy.asarray, problem(outputs, inputs))
    pattern = (keep, group) if group else None
    sparsegpt(weight, hessian, pattern=pattern)
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(sparsegpt(weight, hessian, pattern=pattern))
        print(time.perf_counter() - start)
