"""One-shot pruning: SparseGPT, its baselines, and whole models.

`sparsegpt` prunes one weight matrix, given the Hessian of its inputs; `plain_sparsegpt` is the same algorithm in plain
NumPy. `prune_model` prunes a model block after block, as the command `python -m compression.apply` does.

The functions `sparsegpt` and `alps` bear the names of their modules, which `from compression.pruning.sparsegpt import
...` reaches.
"""

import icl_synth  # noqa: F401  before anything imports tqdm: see there
from compression.pruning.alps import alps
from compression.pruning.apply import Method, Pruning, prune_layer, prune_model, size_on_disk
from compression.pruning.baselines import least_squares, magnitude, ria, wanda
from compression.pruning.calibrate import calibration_documents
from compression.pruning.factor import Factor, factorise
from compression.pruning.folder import LayerReport, Pruned
from compression.pruning.plain import plain_sparsegpt
from compression.pruning.problem import output_error
from compression.pruning.sparsegpt import PruneResult, prune, sparsegpt

__all__ = [
    "Factor",
    "LayerReport",
    "Method",
    "PruneResult",
    "Pruned",
    "Pruning",
    "alps",
    "calibration_documents",
    "factorise",
    "least_squares",
    "magnitude",
    "output_error",
    "plain_sparsegpt",
    "prune",
    "prune_layer",
    "prune_model",
    "ria",
    "size_on_disk",
    "sparsegpt",
    "wanda",
]
