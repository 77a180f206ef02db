"""Direct and channel answers of a next-token model: by p(label | input), and by p(input | label).

A channel model of Min et al. 2022 reads the label first. A model that has only read documents of this world never saw
a label before its input. What it says of p(input | label) follows from its own joint distribution by Bayes' rule:
p(input | label) is proportional, over labels, to p(label | input) / p(label).
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from icl_synth import checkpoints
from icl_synth.prompt_readers import model_log_probs
from icl_synth.prompts import Prompts


def label_log_probs(
    model: checkpoints.Model, prompts: Prompts, others: Int[Array, "B M J"]
) -> tuple[Float[np.ndarray, "B V"], Float[np.ndarray, "B V"]]:
    """log p(label | test input) and log p(label), both after the examples of each prompt, in nats.

    The second is the mean over the test input and M other inputs of the same task.
    """
    shown, number = prompts.tokens[:, : -others.shape[2]], others.shape[1]
    swapped = [prompts._replace(tokens=jnp.concatenate([shown, others[:, m]], axis=1)) for m in range(number)]
    direct, *rest = (model_log_probs(model, asked) for asked in (prompts, *swapped))
    return direct, np.logaddexp.reduce([direct, *rest], axis=0) - np.float32(np.log(1 + number))


def channel_scores(direct: Float[np.ndarray, "B V"], prior: Float[np.ndarray, "B V"]) -> Float[np.ndarray, "B V"]:
    """log p(test input | label) up to a number that all labels of a prompt share; -inf for an impossible label."""
    possible = np.isfinite(direct)
    return np.where(possible, direct - np.where(possible, prior, 0.0), -np.inf)


def best_label(scores: Float[np.ndarray, "B V"], known: Int[np.ndarray, " Y"]) -> Int[np.ndarray, " B"]:
    """The label of the label set with the highest score."""
    return known[scores[:, known].argmax(-1)]
