"""What readers predict after a prompt: a model, and exact Bayes for documents, which takes the prompt for one of them.

A prompt splices examples, which a document never does: with exact moves it is impossible. `smoothing` lets any state
follow any other now and then; the smoothing at which exact Bayes predicts most like a model tells how the model takes
the splices.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from icl_synth import bayes, checkpoints
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.evaluate import map_rows, pad_to_bucket
from icl_synth.prompts import Prompts

RESAMPLES = 4000


@bayes.checked
@jax.jit
def document_log_probs(hmm: ConceptHMM, tokens: Int[Array, "B L"], smoothing: bayes.Smoothing) -> Float[Array, "B V"]:
    """Log-probability, in nats, of every token after L tokens that are taken for the beginning of a document.

    Raises ValueError for a smoothing outside [0, 1].
    """

    def answer(prompt: Int[Array, "L"]) -> Float[Array, "V"]:
        def step(belief, token):
            return bayes.advance(hmm, bayes.observe(hmm, belief, token[None])[0], smoothing), None

        return bayes.predict(hmm, jax.lax.scan(step, bayes.prior(hmm, 1), prompt)[0])[0]

    return bayes.map_in_batches(answer, tokens, 64)


def model_log_probs(model: checkpoints.Model, prompts: Prompts) -> Float[np.ndarray, "B V"]:
    """Log-probability, in nats, of every token after a prompt, under a model."""
    graph, weights = checkpoints.split(model)
    tokens, length = pad_to_bucket(np.asarray(prompts.tokens), model.config.context), prompts.tokens.shape[1]
    return map_rows(_last_log_probs, graph, weights, (tokens, np.full(len(tokens), length - 1, np.int32)))


def _last_log_probs(model, rows):
    tokens, last = rows
    return jax.nn.log_softmax(jnp.take_along_axis(model(tokens), last[:, None, None], axis=1)[:, 0])


def least_divergent(
    exponents: Float[np.ndarray, " G"], divergences: Float[np.ndarray, "G N"]
) -> Float[np.ndarray, " N"]:
    """The place on an even grid of G exponents at which the mean of N divergences is least.

    The place is the mean over bootstrap samples of the N. N values have this mean, and their spread gives its interval
    (the infinitesimal jackknife; Efron 2014, JASA 109:991), which their finite number widens a little.
    """
    number = divergences.shape[1]
    counts = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), RESAMPLES)
    places = lowest(exponents, counts @ divergences.T / number)
    return places.mean() + number * ((places - places.mean()) @ (counts - 1)) / RESAMPLES


def lowest(x: Float[np.ndarray, " G"], curves: Float[np.ndarray, "R G"]) -> Float[np.ndarray, " R"]:
    """Where each curve is lowest: at the vertex of the parabola through its lowest point and that one's neighbours, or
    at an end of the even grid."""
    best = curves.argmin(1)
    inner = np.clip(best, 1, len(x) - 2)
    low, middle, high = (curves[np.arange(len(curves)), inner + step] for step in (-1, 0, 1))
    bend = low - 2 * middle + high
    vertex = x[inner] + (x[1] - x[0]) / 2 * (low - high) / np.where(bend > 0, bend, 1.0)
    return np.where(best == inner, vertex, x[best])
