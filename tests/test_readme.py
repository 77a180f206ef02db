"""README's Python is run as it stands, one block after the other, as a reader would paste it."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).parents[1]


def test_the_python_of_the_readme_runs():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(64, 8)).astype(np.float32)
    weight, x, a, b = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((4, 8), (4, 32), (4, 32), (32, 4))
    )
    names = {"weight": weight, "hessian": jnp.asarray(inputs.T @ inputs), "x": x, "a": a, "b": b}
    blocks = [
        block
        for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
        if "import torch" not in block
    ]  # that one has a test of its own, where PyTorch is installed
    for block in blocks:
        exec(block, names)
    assert names["logits"].shape == (4, 64, 50) and names["mask"].sum() == names["mask"].size / 2
    assert names["run"].tokens.shape == (1, 132)
