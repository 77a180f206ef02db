"""What the inputs and the labels of a prompt tell about its concept, exactly.

The reader knows the format (examples of k tokens of one task, a concept with a start property) and the share of labels
that are right: as the world draws them, the others drawn uniformly from the label set.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from icl_synth import bayes
from icl_synth.aspects import label_set, read, with_known_starts
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.labels import label_distribution
from icl_synth.prompt_layout import split_prompts


class Entropies(NamedTuple):
    """Of the concept given what a prompt shows, in nats; and the reader's answer. log C nats is no information."""

    inputs: Float[Array, " B"]
    """Given the inputs, the test input's too."""
    labels: Float[Array, " B"]
    """Given the labels."""
    both: Float[Array, " B"]
    """Given the whole prompt."""
    answers: Int[Array, " B"]
    """The likeliest label, given the whole prompt."""


def entropies(hmm: ConceptHMM, tokens: Int[Array, "B L"], example_length: int, right: float) -> Entropies:
    """Entropies of the concept after each prompt, for a reader who knows that a share of labels is `right`.

    Raises ValueError where no prompt has L tokens.
    """
    allowed = np.isin(np.arange(hmm.vocab_size), label_set(hmm))
    uniform = jnp.asarray(allowed / allowed.sum(), jnp.float32)
    return _entropies(hmm, tokens, uniform, jnp.float32(right), example_length)


@functools.partial(jax.jit, static_argnames="example_length")
def _entropies(hmm, tokens, uniform, right, example_length):
    pairs, of_label = with_known_starts(hmm), label_distribution(hmm, example_length)

    def measure(prompt):
        examples, test = split_prompts(prompt, example_length)
        labels = examples[:, -1]
        belief, of_inputs = read(pairs, bayes.prior(pairs, len(examples)), examples[:, :-1])
        seen = jnp.where((pairs.memory == labels[:, None, None])[:, None], belief.states, 0.0).sum((2, 3))
        wrong = (1 - right) * uniform[labels][:, None]
        after_test, of_test = read(pairs, bayes.prior(pairs, 1), test[None])
        inputs = of_inputs.sum(0) + of_test[0]
        whole = inputs + jnp.log(right * seen + wrong).sum(0)
        alone = jnp.log(right * of_label[:, labels].T + wrong).sum(0)
        belief = after_test._replace(log_concepts=jax.nn.log_softmax(whole)[None])
        answer = bayes.predict(pairs, belief)[0].argmax(-1).astype(jnp.int32)
        return (*(_concept_entropy(hmm, evidence) for evidence in (inputs, alone, whole)), answer)

    return Entropies(*bayes.map_in_batches(measure, tokens, 16))


def _concept_entropy(hmm: ConceptHMM, log_tasks: Float[Array, " S"]) -> Float[Array, ""]:
    """In nats, from log p(what was seen | task): tasks of one concept are together."""
    log_concepts = jax.nn.logsumexp(log_tasks.reshape(hmm.num_concepts, -1), axis=1)
    return jax.scipy.special.entr(jax.nn.softmax(log_concepts)).sum()
