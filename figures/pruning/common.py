"""What the pruning experiments share: names and colours of the methods, pruned models, published perplexities."""

import numpy as np
import pandas as pd

from compression.pruning.apply import Method, Pruning, prune_model
from compression.pruning.calibrate import calibration_documents
from figures.lab import tables
from figures.lab.runs import Run
from figures.lab.style import BLUE, GREEN, ORANGE, YELLOW
from icl_synth import checkpoints
from icl_synth.evaluate import Estimate

PUBLISHED = ("frantar2023*.csv",)
CALIBRATION = 128  # documents, as many as the paper's sequences
NAMES: dict[Method, str] = {"magnitude": "magnitude", "wanda": "Wanda", "sparsegpt": "SparseGPT", "alps": "ALPS"}
COLOURS = {"magnitude": ORANGE, "wanda": YELLOW, "sparsegpt": BLUE, "alps": GREEN}
MARKERS = {"magnitude": "s", "wanda": "^", "sparsegpt": "o", "alps": "D"}


def pruned(run: Run, how: Pruning, documents: int = CALIBRATION, seed: int = 0) -> checkpoints.Model:
    """A model pruned with fresh calibration documents of its world."""
    hmm, _ = run.config.data.build()
    return prune_model(run.model, calibration_documents(hmm, run.model, documents, seed), how).model


def published(table: str, **where: object) -> pd.DataFrame:
    """Rows of a CSV of the paper's values, with `nats`, the logarithm of the perplexity."""
    values = tables.published(f"frantar2023_{table}", **where)
    return values.assign(nats=np.log(values.perplexity))


def show(value: Estimate) -> str:
    return f"{value.mean:.3f} ± {value.half_width:.3f}"
