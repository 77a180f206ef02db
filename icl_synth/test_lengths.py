"""Prompts whose test input has a length of its own, and how far apart concepts are in an example.

Xie et al. 2022 bound the error by the length of the examples (their Theorems 2 and 3), where the test input is one
token shorter than an example or of any length below it. Here both lengths are free, and every prefix of a test input
is asked at once.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from icl_synth import bayes, checks
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.prompt_layout import join_prompts, split_prompts
from icl_synth.prompts import Prompts


def with_lengths(prompts: Prompts, longest: int, example_length: int, num_examples: int) -> Int[Array, "B M"]:
    """The tokens of prompts whose last `num_examples` examples are cut to their first `example_length` tokens.

    The first tokens of an example are an example. `prompts` have examples of `longest` tokens, and so does their test
    input, which stays whole, less one. Raises ValueError for fewer than two tokens or more than are there.
    """
    checks.within(2, longest, example_length=example_length)
    examples, test = split_prompts(prompts.tokens, longest)
    checks.within(0, examples.shape[1], num_examples=num_examples)
    return join_prompts(examples[:, examples.shape[1] - num_examples :, :example_length], test)


def labels_along(hmm: ConceptHMM, prompts: Prompts, longest: int) -> Int[Array, "B T"]:
    """The likeliest token after each of the T = longest - 1 tokens of the test input, under the prompt's concept."""
    _, test = split_prompts(prompts.tokens, longest)
    return _labels_along(hmm, prompts, test)


@jax.jit
def _labels_along(hmm, prompts, test):
    known = jnp.where(jnp.arange(hmm.num_concepts) == prompts.concepts[:, None], jnp.float32(0.0), -jnp.inf)
    start = jax.nn.one_hot(prompts.start_properties, hmm.num_properties, dtype=jnp.float32)[:, None, None]
    states = jnp.broadcast_to(start / hmm.num_entities, (len(test), *hmm.start.shape))
    belief = bayes.Belief(states, known, jnp.ones(len(test), bool))
    return _predictions(hmm, belief, test, 0.0).argmax(-1).astype(jnp.int32)


def _predictions(
    hmm: ConceptHMM, belief: bayes.Belief, tokens: Int[Array, "B T"], smoothing: bayes.Smoothing
) -> Float[Array, "B T V"]:
    """Log-probabilities of the token after each of these tokens."""

    def step(belief, token):
        belief = bayes.advance(hmm, bayes.observe(hmm, belief, token)[0], smoothing)
        return belief, bayes.predict(hmm, belief)

    return jax.lax.scan(step, belief, tokens.T)[1].swapaxes(0, 1)


@functools.partial(jax.jit, static_argnames=("example_length", "num_examples"))
def told_log_probs(
    hmm: ConceptHMM, tokens: Int[Array, "B M"], example_length: int, num_examples: int
) -> Float[Array, "B T V"]:
    """Log-probabilities of the token after each token of the test input, for a reader who is told the format.

    As `bayes.prompt_log_probs`, for prompts as from `with_lengths`.
    """
    end = num_examples * (example_length + 1)

    def answer(prompt):
        examples = prompt[:end].reshape(num_examples, example_length + 1)[:, :-1]
        belief = bayes._after_examples(hmm, bayes._log_likelihood_by_start(hmm, examples, 0.0).sum(0))
        return _predictions(hmm, belief, prompt[None, end:], 0.0)[0]

    return bayes.map_in_batches(answer, tokens, 64)


def divergences(hmm: ConceptHMM, length: int, smoothing: float) -> Float[np.ndarray, "C S C"]:
    """KL divergence in nats of an example of a concept from one of another, for each start property 1..P-1.

    Exact: a sum over every sequence of `length` tokens that the world can emit, so `length` is to be small. The entity
    is uniform at first. Moves of the other concept are smoothed, without which most divergences are infinite.
    """
    checks.within(2, 3, length=length)
    emitted = np.unique(np.asarray(hmm.memory)).astype(np.int32)
    sequences = jnp.asarray(list(itertools.product(emitted, repeat=length)), jnp.int32)
    exact, smoothed = (np.asarray(_log_likelihoods(hmm, sequences, share), np.float64) for share in (0.0, smoothing))
    probabilities = np.exp(exact)
    # what is impossible adds nothing
    exact, smoothed = (np.where(np.isfinite(values), values, 0.0) for values in (exact, smoothed))
    cross = np.einsum("ncs,nos->cso", probabilities, smoothed)
    return ((probabilities * exact).sum(0)[:, :, None] - cross)[:, 1:]


@jax.jit
def _log_likelihoods(hmm, sequences, smoothing):
    def of_batch(batch):
        return bayes._log_likelihood_by_start(hmm, batch[None], smoothing)[0]

    return bayes.map_in_batches(of_batch, sequences, 1024)
