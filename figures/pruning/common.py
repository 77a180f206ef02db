"""What the pruning figures share: their colours, the loss of a model beside exact Bayes, published perplexities."""

from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from compression.pruning.apply import Method, Pruning, prune_model
from compression.pruning.calibrate import calibration_documents
from figures.recipes import Recipe, Trained
from figures.sources import PAPER_VALUES
from icl_synth import bayes, checkpoints
from icl_synth.documents import sample_documents
from icl_synth.evaluate import Estimate, estimate, token_losses

PUBLISHED = ("frantar2023*.csv",)
DOCUMENT_SEED = 23  # of the documents that losses are measured on; calibration draws others
CALIBRATION = 128  # documents, as many as the paper's sequences
NAMES: dict[Method, str] = {"magnitude": "magnitude", "wanda": "Wanda", "sparsegpt": "SparseGPT", "alps": "ALPS"}
COLOURS = {"magnitude": "#D55E00", "wanda": "#E69F00", "sparsegpt": "#0072B2", "alps": "#009E73"}
MARKERS = {"magnitude": "s", "wanda": "^", "sparsegpt": "o", "alps": "D"}
PAPER = {"color": "#777777", "ls": "--", "lw": 1.0, "marker": "s", "mfc": "white"}


class Documents(NamedTuple):
    """Documents that no model has seen, and their exact loss in nats a token."""

    tokens: Int[np.ndarray, "B L"]
    bayes_loss: Float[np.ndarray, " B"]


def held_back(one: Trained, recipe: Recipe) -> Documents:
    """The documents every pruning of a recipe is measured on, the same for all models of a world."""
    hmm, _ = one.config.data.build()
    length = one.config.data.length
    tokens, _ = sample_documents(hmm, jax.random.key(DOCUMENT_SEED), recipe.documents, length)
    return Documents(np.asarray(tokens), -np.asarray(bayes.token_log_likelihoods(hmm, tokens))[:, 1:].mean(-1))


def excess(model: checkpoints.Model, documents: Documents) -> Float[np.ndarray, " B"]:
    """Loss above exact Bayes of each document, nats a token."""
    return token_losses(*checkpoints.split(model), documents.tokens).mean(-1) - documents.bayes_loss


def pruned(one: Trained, how: Pruning, documents: int = CALIBRATION, seed: int = 0) -> checkpoints.Model:
    """A model pruned with fresh calibration documents of its world."""
    hmm, _ = one.config.data.build()
    return prune_model(one.model, calibration_documents(hmm, one.model, documents, seed), how).model


def parameters(model: checkpoints.Model) -> int:
    return sum(weight.size for weight in checkpoints.split(model)[1].values())


def gain(worse: list[np.ndarray], better: list[np.ndarray]) -> Estimate:
    """By how much the first is above the second, paired on documents, over the seeds."""
    return estimate(np.stack(worse) - np.stack(better))


def published(table: str, quantity: str = "") -> pd.DataFrame:
    """Rows of a CSV of the paper's values, with `nats`, the logarithm of the perplexity."""
    values = pd.read_csv(PAPER_VALUES / f"frantar2023_{table}.csv")
    values["nats"] = np.log(values.perplexity)
    return values[values.quantity == quantity] if quantity else values


def show(value: Estimate) -> str:
    return f"{value.mean:.3f} ± {value.half_width:.3f}"


def pick(rows: pd.DataFrame, **where: object) -> pd.DataFrame:
    """The rows whose columns have these values."""
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows


def only(rows: pd.DataFrame, **where: object) -> Estimate:
    """The value of the one row whose columns have these values."""
    row = pick(rows, **where).iloc[0]
    return Estimate(row.value, row.half_width)


def draw_line(panel, line: pd.DataFrame, x: str, **style: object) -> None:
    """Values with their 95 % intervals."""
    panel.errorbar(line[x], line.value, line.half_width, capsize=2, elinewidth=1, **style)
