"""What experiments of several subjects measure: the loss of a model beside exact Bayes on documents it never saw."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from figures.lab.runs import Run
from icl_synth import bayes, checkpoints
from icl_synth.documents import sample_documents
from icl_synth.evaluate import token_losses

DOCUMENT_SEED = 23  # calibration draws others


class Documents(NamedTuple):
    """Documents that no model has seen, and their exact loss in nats per token."""

    tokens: Int[np.ndarray, "B L"]
    bayes_loss: Float[np.ndarray, " B"]


def held_back(run: Run, number: int) -> Documents:
    """As many documents of a run's world as training never drew; the same for all models of a world."""
    hmm, _ = run.config.data.build()
    tokens, _ = sample_documents(hmm, jax.random.key(DOCUMENT_SEED), number, run.config.data.length)
    return Documents(np.asarray(tokens), -np.asarray(bayes.token_log_likelihoods(hmm, tokens))[:, 1:].mean(-1))


def excess(model: checkpoints.Model, documents: Documents) -> Float[np.ndarray, " B"]:
    """Loss above exact Bayes of each document, nats per token."""
    return token_losses(*checkpoints.split(model), documents.tokens).mean(-1) - documents.bayes_loss


def parameters(model: checkpoints.Model) -> int:
    return sum(weight.size for weight in checkpoints.split(model)[1].values())
