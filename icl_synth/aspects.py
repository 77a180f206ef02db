"""Prompts with one aspect changed, and the exact Bayes reader of them: which parts of a prompt matter?

The aspects are those of Min et al. 2022 (arXiv 2202.12837): correctness of the labels, distribution of the inputs,
set of labels, and format. A changed prompt keeps the test input, and thus the label, of the prompt it is made from.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from icl_synth import bayes
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.prompt_layout import join_prompts, split_prompts
from icl_synth.prompts import Prompts

ASPECTS = (
    "as sampled",
    "gold labels",
    "random labels",
    "all labels wrong",
    "labels from outside",
    "inputs from outside",
    "inputs only",
    "labels only",
    "no examples",
)
NOISE = 0.01


def label_set(hmm: ConceptHMM) -> Int[np.ndarray, " Y"]:
    """The tokens that a label can be: all that the world emits."""
    return np.unique(np.asarray(hmm.memory))


def outside(hmm: ConceptHMM) -> Int[np.ndarray, " N"]:
    """The tokens of the vocabulary that the world never emits. Raises ValueError where there are none."""
    never = np.setdiff1d(np.arange(hmm.vocab_size, dtype=np.int32), label_set(hmm))
    if not len(never):
        raise ValueError("this world emits every token of its vocabulary: no label lies outside its set")
    return never


def examples_of(prompts: Prompts, example_length: int) -> tuple[Int[Array, "B N K"], Int[Array, "B J"]]:
    """The examples of the prompts, [prompts examples K tokens], and the test inputs of J = K - 1 tokens.

    Raises ValueError where the prompts do not consist of such examples.
    """
    return split_prompts(prompts.tokens, example_length)


def alter(
    hmm: ConceptHMM, prompts: Prompts, example_length: int, aspect: str, key: Key[Array, ""]
) -> Int[Array, "B M"]:
    """The prompts' tokens with one aspect changed.

    as sampled: nothing changes; the world draws the labels shown. gold labels: each label becomes the likeliest one
    of its input under the prompt's concept. random labels: labels are drawn from the label set. all labels wrong: the
    same, but never the label that stood there. labels from outside: labels are tokens that the world never emits.
    inputs from outside: inputs are drawn from the whole vocabulary, labels stay. inputs only, labels only: every
    example loses the other part. no examples: the test input stands alone.
    Raises ValueError for another aspect, naming these, and where nothing lies outside the label set.
    """
    examples, test = examples_of(prompts, example_length)
    inputs, labels = examples[:, :, :-1], examples[:, :, -1]
    known = jnp.asarray(label_set(hmm))
    draw = functools.partial(jax.random.randint, key, dtype=jnp.int32)
    if aspect == "gold labels":
        labels = gold_labels(hmm, prompts, inputs)
    elif aspect == "random labels":
        labels = known[draw(labels.shape, 0, len(known))]
    elif aspect == "all labels wrong":
        labels = wrong_labels(hmm, labels, key)
    elif aspect == "labels from outside":
        never = jnp.asarray(outside(hmm))
        labels = never[draw(labels.shape, 0, len(never))]
    elif aspect == "inputs from outside":
        inputs = draw(inputs.shape, 0, hmm.vocab_size)
    elif aspect not in ASPECTS:
        raise ValueError(f"unknown aspect {aspect!r}: choose one of {', '.join(ASPECTS)}")
    parts = {"inputs only": [inputs], "labels only": [labels[..., None]], "no examples": [inputs[:, :0]]}
    return join_prompts(jnp.concatenate(parts.get(aspect, [inputs, labels[..., None]]), axis=-1), test)


def wrong_labels(hmm: ConceptHMM, labels: Int[Array, "B N"], key: Key[Array, ""]) -> Int[Array, "B N"]:
    """Labels drawn uniformly from the label set without the label given at each place."""
    known = jnp.asarray(label_set(hmm))
    steps = jax.random.randint(key, labels.shape, 1, len(known), jnp.int32)
    return known[((known == labels[..., None]).argmax(-1) + steps) % len(known)]


@jax.jit
def gold_labels(hmm: ConceptHMM, prompts: Prompts, inputs: Int[Array, "B N J"]) -> Int[Array, "B N"]:
    """The likeliest token after each input under the prompt's concept and start property, the entity unknown."""
    pairs, starts = with_known_starts(hmm), hmm.num_properties - 1

    def answer(row):
        texts, pair = row
        log_pairs = jnp.where(jnp.arange(pairs.num_concepts) == pair, jnp.float32(0.0), -jnp.inf)
        log_concepts = jnp.broadcast_to(log_pairs, (len(texts), len(log_pairs)))
        prior = bayes.prior(pairs, len(texts))._replace(log_concepts=log_concepts)
        return bayes.predict(pairs, read(pairs, prior, texts)[0]).argmax(-1).astype(jnp.int32)

    return jax.lax.map(answer, (inputs, prompts.concepts * starts + prompts.start_properties - 1))


def with_known_starts(hmm: ConceptHMM) -> ConceptHMM:
    """The world with every pair of a concept and a start property 1..P-1 as a concept of its own, entity uniform."""
    C, P = hmm.num_concepts, hmm.num_properties
    pairs = hmm.select(np.repeat(np.arange(C), P - 1).tolist())
    start = jnp.eye(P, dtype=jnp.float32)[1:] / hmm.num_entities
    start = jnp.broadcast_to(start[None, :, None], (C, P - 1, hmm.num_entities, P))
    return ConceptHMM(
        pairs.memory,
        pairs.property_transitions,
        pairs.entity_transitions,
        start.reshape(pairs.start.shape),
        hmm.vocab_size,
    )


def read(hmm: ConceptHMM, belief: bayes.Belief, tokens: Int[Array, "B K"]) -> tuple[bayes.Belief, Float[Array, "B C"]]:
    """The belief about the state after the tokens, and log p(tokens | concept) for every concept."""

    def step(carry, token):
        belief, total = carry
        states = jnp.where((hmm.memory == token[:, None, None])[:, None], belief.states, 0.0)
        total += jnp.log(states.sum((2, 3)))
        return (bayes.advance(hmm, bayes.observe(hmm, belief, token)[0]), total), None

    none = jnp.zeros((len(tokens), hmm.num_concepts), jnp.float32)
    (belief, total), _ = jax.lax.scan(step, (belief, none), tokens.T)
    return belief, total


@bayes.checked
@functools.partial(jax.jit, static_argnames="example_length")
def robust_log_probs(
    hmm: ConceptHMM, tokens: Int[Array | np.ndarray, "B L"], example_length: int, noise: bayes.Smoothing = NOISE
) -> Float[Array, "B V"]:
    """Log-probability of every label, for a reader who knows the format and allows for noise.

    As `bayes.prompt_log_probs`, but a share `noise` of examples has a label drawn uniformly from the vocabulary, and
    an equal share consists of such tokens alone. The evidence of the shown labels about the concept is thus weighed
    against that of the inputs. Raises ValueError where no prompt has L tokens, and for noise outside [0, 1/2]; without
    noise a prompt that the world cannot emit has no defined answer.
    """
    pairs = with_known_starts(hmm)

    def answer(prompt: Int[Array, "L"]) -> Float[Array, "V"]:
        examples, test = split_prompts(prompt, example_length)
        evidence = robust_evidence(pairs, examples, noise)
        prior = bayes.prior(pairs, 1)._replace(log_concepts=jax.nn.log_softmax(evidence)[None])
        return bayes.predict(pairs, read(pairs, prior, test[None])[0])[0]

    return bayes.map_in_batches(answer, tokens, 16)


def robust_evidence(pairs: ConceptHMM, examples: Int[Array, "N K"], noise: bayes.Smoothing) -> Float[Array, "S"]:
    """log p(examples | concept and start property) for the S pairs of `with_known_starts`, noise as above."""
    share, uniform = bayes.in_float32(noise), -jnp.log(jnp.float32(pairs.vocab_size))
    belief, of_input = read(pairs, bayes.prior(pairs, len(examples)), examples[:, :-1])
    seen = jnp.where((pairs.memory == examples[:, -1, None, None])[:, None], belief.states, 0.0)
    of_whole = of_input + jnp.log(seen.sum((2, 3)))
    kinds = jnp.stack(
        [
            jnp.log(1 - 2 * share) + of_whole,
            jnp.log(share) + of_input + uniform,
            jnp.full_like(of_input, jnp.log(share) + examples.shape[1] * uniform),
        ]
    )
    return jax.nn.logsumexp(kinds, axis=0).sum(0)
