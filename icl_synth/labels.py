"""The labels that a prompt shows: other ones put in their place, and which labels a world allows and how often.

A task is a concept with a start property 1..P-1: what the examples of a prompt share (`aspects.with_known_starts`).
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from icl_synth import bayes
from icl_synth.aspects import examples_of, label_set, read, robust_evidence, with_known_starts
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.prompt_layout import DELIMITER, join_prompts, prompt_length, split_prompts
from icl_synth.prompts import Prompts


def with_labels(prompts: Prompts, example_length: int, labels: Int[Array, "B N"]) -> Prompts:
    """The prompts with these labels in the place of those shown."""
    examples, test = examples_of(prompts, example_length)
    shown = jnp.concatenate([examples[:, :, :-1], labels[..., None]], axis=-1)
    return prompts._replace(tokens=join_prompts(shown, test))


def last_examples(prompts: Prompts, example_length: int, number: int) -> Prompts:
    """The prompts with their last so many examples alone."""
    length = prompt_length(number, example_length)
    return prompts._replace(tokens=prompts.tokens[:, prompts.tokens.shape[1] - length :])


def mixed(right: Int[Array, "B N"], wrong: Int[Array, "B N"], share: float, key: Key[Array, ""]) -> Int[Array, "B N"]:
    """A share of the right labels, to a whole number of examples and in random places; wrong ones elsewhere."""
    rank = jax.random.uniform(key, right.shape, jnp.float32).argsort(-1).argsort(-1)
    return jnp.where(rank < round(share * right.shape[1]), right, wrong)


def tasks(hmm: ConceptHMM, prompts: Prompts) -> Int[Array, " B"]:
    """The number of each prompt's task."""
    return prompts.concepts * (hmm.num_properties - 1) + prompts.start_properties - 1


@functools.partial(jax.jit, static_argnames="example_length")
def label_distribution(hmm: ConceptHMM, example_length: int) -> Float[Array, "S V"]:
    """p(label | task), the input unknown: of the last of `example_length` tokens."""
    pairs = with_known_starts(hmm)
    belief = bayes.prior(pairs, 1)
    for _ in range(example_length - 1):
        belief = bayes.advance(pairs, belief)
    emits = jax.nn.one_hot(pairs.memory, pairs.vocab_size, dtype=jnp.float32)
    return bayes.einsum("cep,epv->cv", belief.states[0], emits)


def labels_of_the_task(
    hmm: ConceptHMM, prompts: Prompts, example_length: int, key: Key[Array, ""]
) -> Int[Array, "B N"]:
    """Labels drawn from p(label | task), whatever the inputs."""
    count = examples_of(prompts, example_length)[0].shape[1]
    log_probs = jnp.log(label_distribution(hmm, example_length))[tasks(hmm, prompts)]
    return jax.random.categorical(key, log_probs[:, None], shape=(len(log_probs), count)).astype(jnp.int32)


@jax.jit
def possible_labels(hmm: ConceptHMM, prompts: Prompts, inputs: Int[Array, "B N J"]) -> Bool[Array, "B N V"]:
    """Whether a label makes possible moves: from its input under the prompt's task, and on to the delimiter."""
    pairs = with_known_starts(hmm)
    emits = jax.nn.one_hot(pairs.memory, pairs.vocab_size, dtype=jnp.float32)
    ends = pairs.property_transitions[:, :, DELIMITER] > 0  # property 0 emits the delimiter

    def allowed(row):
        texts, task = row
        states = read(pairs, bayes.prior(pairs, len(texts)), texts)[0].states[:, task]
        return bayes.einsum("nep,epv->nv", (states > 0) * ends[task], emits) > 0

    return jax.lax.map(allowed, (inputs, tasks(hmm, prompts)))


def wrong_by_possibility(
    hmm: ConceptHMM, prompts: Prompts, example_length: int, right: Int[Array, "B N"], key: Key[Array, ""]
) -> tuple[Int[Array, "B N"], Int[Array, "B N"]]:
    """Labels of the label set that are not right: possible ones, and impossible ones, each drawn uniformly.

    The right label stays where there is none of the kind.
    """
    tokens, inputs = jnp.arange(hmm.vocab_size), examples_of(prompts, example_length)[0][:, :, :-1]
    wrong = jnp.isin(tokens, jnp.asarray(label_set(hmm))) & (tokens != right[..., None])
    possible = possible_labels(hmm, prompts, inputs)

    def drawn(allowed: Bool[Array, "B N V"], key: Key[Array, ""]) -> Int[Array, "B N"]:
        chosen = jax.random.categorical(key, jnp.where(allowed, 0.0, -jnp.inf)).astype(jnp.int32)
        return jnp.where(allowed.any(-1), chosen, right)

    keys = jax.random.split(key)
    return drawn(wrong & possible, keys[0]), drawn(wrong & ~possible, keys[1])


@functools.partial(jax.jit, static_argnames="example_length")
def label_prior(
    hmm: ConceptHMM, tokens: Int[Array, "B L"], example_length: int, noise: bayes.Smoothing = 0.01
) -> Float[Array, "B V"]:
    """Log-probability of every label before the test input is read, for the reader of `aspects.robust_log_probs`."""
    pairs, log_labels = with_known_starts(hmm), jnp.log(label_distribution(hmm, example_length))

    def expected(prompt: Int[Array, "L"]) -> Float[Array, "V"]:
        evidence = robust_evidence(pairs, split_prompts(prompt, example_length)[0], noise)
        return jax.nn.logsumexp(jax.nn.log_softmax(evidence)[:, None] + log_labels, axis=0)

    return bayes.map_in_batches(expected, tokens, 16)
