"""Pruning on tiny inputs, as JSON: the same with and without JAX_ENABLE_X64 (test_x64.py compares)."""

import json

import jax.numpy as jnp
import numpy as np

from compression.pruning import (
    Pruning,
    alps,
    calibration_documents,
    least_squares,
    magnitude,
    output_error,
    plain_sparsegpt,
    prune_model,
    ria,
    sparsegpt,
    wanda,
)
from compression.pruning.calibrate import calibrate, embed, run
from icl_synth import checkpoints
from icl_synth.concept_hmm import official_ginc
from icl_synth.lstm import LSTMConfig
from icl_synth.transformer import TransformerConfig

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((40, 12)) @ (np.eye(12) + RNG.standard_normal((12, 12)) / 3)
HESSIAN, WEIGHT = ROWS.T @ ROWS, RNG.standard_normal((5, 12))  # float64, as x64 users have them
HOW = {"share": {"sparsity": 0.4}, "pattern": {"pattern": (2, 4)}}
MORE = {
    "small blocks": {"block_size": 5, "mask_block_size": 3},
    "grid": {"pattern": (1, 3), "bits": 3},
    "compatible": {"compatible": True},
}
CONFIGS = (TransformerConfig(50, 8, 2, 16, 2), LSTMConfig(50, 8, 1, 16))


def numbers(values) -> list:
    array = np.asarray(values)
    assert array.dtype in (np.float32, np.int32, np.uint32, bool), array.dtype
    return array.ravel().tolist()


def layers() -> dict[str, list]:
    """Every method on one layer."""
    lines = {}
    for name, how in (HOW | MORE).items():
        for field, value in sparsegpt(WEIGHT, HESSIAN, **how)._asdict().items():
            lines[f"sparsegpt {name} {field}"] = numbers(value)
        lines[f"plain {name}"] = plain_sparsegpt(WEIGHT, HESSIAN, **how).weight.ravel().tolist()
    for name, how in HOW.items():
        lines[f"magnitude {name}"] = numbers(magnitude(WEIGHT, **how))
        lines |= {f"{method.__name__} {name}": numbers(method(WEIGHT, HESSIAN, **how)) for method in (wanda, ria, alps)}
    best = least_squares(WEIGHT, HESSIAN, np.abs(WEIGHT) > 0.5)
    return lines | {"least squares": numbers(best), "error": numbers(output_error(WEIGHT, best, HESSIAN))}


def models() -> dict[str, list]:
    """Calibration and pruned models; weights come from NumPy and are the same either way."""
    lines = {}
    world, _ = official_ginc()
    for config in CONFIGS:
        graph, weights = checkpoints.split(checkpoints.create(config))
        drawn = {name: jnp.asarray(0.3 * RNG.normal(size=weights[name].shape), jnp.float32) for name in sorted(weights)}
        model, kind = checkpoints.merge(graph, drawn), type(config).__name__
        documents = calibration_documents(world, model, 9)
        hidden = embed(model, documents)
        lines[f"{kind} documents"], lines[f"{kind} hidden"] = numbers(documents), numbers(run(model, 0, hidden))
        lines |= {f"{kind} {name}": numbers(hessian) for name, hessian in calibrate(model, 0, hidden).items()}
        pruned = prune_model(model, documents, Pruning(pattern=(2, 4)))
        lines |= {f"{kind} pruned {name}": numbers(mask) for name, mask in pruned.masks.items()}
        lines[f"{kind} errors"] = [layer.error for layer in pruned.report]
    return lines


if __name__ == "__main__":
    print(json.dumps(layers() | models()))
