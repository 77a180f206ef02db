"""Direct and channel answers of a next-token model: by p(label | input), and by p(input | label).

A channel model of Min et al. 2022 reads the label first. A model that has only read documents of this world never saw
a label before its input. What it says of p(input | label) follows from its own joint distribution by Bayes' rule:
p(input | label) is proportional, over labels, to p(label | input) / p(label).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from icl_synth import checkpoints
from icl_synth.evaluate import map_rows, pad_to_bucket


def answer_log_probs(model: checkpoints.Model, tokens: Int[Array | np.ndarray, "B L"]) -> Float[np.ndarray, "B V"]:
    """Log-probabilities of the token after each prompt, in nats."""
    graph, weights = checkpoints.split(model)
    padded, length = pad_to_bucket(np.asarray(tokens), model.config.context), tokens.shape[1]
    return map_rows(_last_log_probs, graph, weights, (padded, np.full(len(padded), length - 1, np.int32)))


def _last_log_probs(model, rows):
    tokens, last = rows
    return jax.nn.log_softmax(jnp.take_along_axis(model(tokens), last[:, None, None], axis=1)[:, 0])


def label_log_probs(
    model: checkpoints.Model, tokens: Int[Array, "B L"], others: Int[Array, "B M J"]
) -> tuple[Float[np.ndarray, "B V"], Float[np.ndarray, "B V"]]:
    """log p(label | test input) and log p(label), both after the examples of each prompt.

    The second is the mean over the test input and M other inputs of the same task.
    """
    J = others.shape[2]
    direct = answer_log_probs(model, tokens)
    swapped = [
        answer_log_probs(model, jnp.concatenate([tokens[:, :-J], others[:, m]], axis=1)) for m in range(others.shape[1])
    ]
    return direct, np.logaddexp.reduce([direct, *swapped], axis=0) - np.log(1 + len(swapped)).astype(np.float32)


def channel_scores(direct: Float[np.ndarray, "B V"], prior: Float[np.ndarray, "B V"]) -> Float[np.ndarray, "B V"]:
    """log p(test input | label) up to a number that all labels of a prompt share; -inf for an impossible label."""
    possible = np.isfinite(direct)
    return np.where(possible, direct - np.where(possible, prior, 0.0), -np.inf)


def best_label(scores: Float[np.ndarray, "B V"], known: Int[np.ndarray, " Y"]) -> Int[np.ndarray, " B"]:
    """The label of the label set with the highest score."""
    return known[scores[:, known].argmax(-1)]
