"""Prompts with one aspect changed, and what exact Bayes makes of them: which parts of a prompt matter?

The aspects are those of Min et al. 2022 (arXiv 2202.12837): the labels' being right, the inputs' distribution, the set
of labels, and the format. All changed prompts share the test input and its label with the prompt they were made from.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from icl_synth import bayes
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.prompts import DELIMITER, Prompts

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
    """The tokens that a label can be: all that the world ever says."""
    return np.unique(np.asarray(hmm.memory))


def outside(hmm: ConceptHMM) -> Int[np.ndarray, " N"]:
    """The tokens of the vocabulary that the world never says. Raises ValueError where there are none."""
    never = np.setdiff1d(np.arange(hmm.vocab_size), label_set(hmm))
    if not len(never):
        raise ValueError("this world says every token of its vocabulary: no label lies outside its set")
    return never


def examples_in(tokens: Int[Array | np.ndarray, "B L"], example_length: int) -> int:
    """How many whole examples prompts hold. Raises ValueError where they are not of such examples."""
    count, rest = divmod(tokens.shape[1] - example_length + 1, max(example_length, 2) + 1)
    if example_length < 2 or count < 0 or rest:
        raise ValueError(f"{tokens.shape[1]} tokens are no prompt of examples of {example_length} tokens")
    return count


def examples_of(prompts: Prompts, example_length: int) -> tuple[Int[Array, "B N K"], Int[Array, "B J"]]:
    """The whole examples [prompts examples K tokens], and the test input of J = K - 1 tokens.

    Raises ValueError where the prompts are not of such examples.
    """
    count = examples_in(prompts.tokens, example_length)
    shown = prompts.tokens[:, : count * (example_length + 1)].reshape(-1, count, example_length + 1)
    return shown[:, :, :-1], prompts.tokens[:, count * (example_length + 1) :]


def alter(
    hmm: ConceptHMM, prompts: Prompts, example_length: int, aspect: str, key: Key[Array, ""]
) -> Int[Array, "B M"]:
    """The prompts' tokens with one aspect changed.

    as sampled: nothing changed; the world draws the labels that are shown. gold labels: the likeliest label of each
    input under the prompt's concept instead. random labels: drawn from the label set. all labels wrong: the same, but
    never the one that stood there. labels from outside: tokens that the world never says. inputs from outside: tokens
    drawn from the whole vocabulary, labels as they were. inputs only, labels only: the other left out of every
    example. no examples: the test input alone.
    Raises ValueError for another aspect, naming these, and where nothing lies outside the label set.
    """
    examples, test = examples_of(prompts, example_length)
    inputs, labels = examples[:, :, :-1], examples[:, :, -1]
    known = jnp.asarray(label_set(hmm))
    if aspect == "gold labels":
        labels = gold_labels(hmm, prompts, inputs)
    elif aspect == "random labels":
        labels = known[jax.random.randint(key, labels.shape, 0, len(known))]
    elif aspect == "all labels wrong":
        place = (known == labels[..., None]).argmax(-1)
        labels = known[(place + jax.random.randint(key, labels.shape, 1, len(known))) % len(known)]
    elif aspect == "labels from outside":
        never = jnp.asarray(outside(hmm))
        labels = never[jax.random.randint(key, labels.shape, 0, len(never))]
    elif aspect == "inputs from outside":
        inputs = jax.random.randint(key, inputs.shape, 0, hmm.vocab_size)
    elif aspect not in ASPECTS:
        raise ValueError(f"unknown aspect {aspect!r}: choose one of {', '.join(ASPECTS)}")
    parts = {"inputs only": [inputs], "labels only": [labels[..., None]], "no examples": [inputs[:, :0]]}
    shown = jnp.concatenate(parts.get(aspect, [inputs, labels[..., None]]), axis=-1)
    joined = jnp.pad(shown, ((0, 0), (0, 0), (0, 1)), constant_values=DELIMITER)
    joined = joined.reshape(len(test), joined.shape[1] * joined.shape[2])
    return jnp.concatenate([joined, test], axis=1)


def gold_labels(hmm: ConceptHMM, prompts: Prompts, inputs: Int[Array, "B N J"]) -> Int[Array, "B N"]:
    """The likeliest token after each input under the prompt's concept and start property, the entity unknown."""
    pairs, starts = with_known_starts(hmm), hmm.num_properties - 1
    own = prompts.concepts * starts + prompts.start_properties - 1

    @jax.jit
    def one(row):
        texts, pair = row
        only = jnp.where(jnp.arange(pairs.num_concepts) == pair, 0.0, -jnp.inf)
        prior = bayes.prior(pairs, len(texts))._replace(log_concepts=jnp.broadcast_to(only, (len(texts), len(only))))
        return bayes.predict(pairs, read(pairs, prior, texts)[0]).argmax(-1).astype(jnp.int32)

    return jax.lax.map(one, (inputs, own))


def with_known_starts(hmm: ConceptHMM) -> ConceptHMM:
    """The world with every pair of a concept and a start property 1..P-1 as a concept of its own, entity uniform."""
    C, P = hmm.num_concepts, hmm.num_properties
    pairs = hmm.select(np.repeat(np.arange(C), P - 1).tolist())
    start = jnp.eye(P)[1:] / hmm.num_entities
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

    none = jnp.zeros((len(tokens), hmm.num_concepts))
    (belief, total), _ = jax.lax.scan(step, (belief, none), tokens.T)
    return belief, total


@bayes.checked
@functools.partial(jax.jit, static_argnames="example_length")
def robust_log_probs(
    hmm: ConceptHMM, tokens: Int[Array | np.ndarray, "B L"], example_length: int, noise: bayes.Smoothing = NOISE
) -> Float[Array, "B V"]:
    """Log-probability of every label for a reader told the format who allows for noise.

    As `bayes.prompt_log_probs`, but a share `noise` of examples has a label that means nothing, and as many are noise
    altogether, each of their tokens uniform over the vocabulary. What the shown labels say of the concept is then
    weighed against what the inputs say. Raises ValueError where L is no prompt's length and for noise
    outside [0, 1/2]; without noise a prompt that the world cannot make has no defined answer.
    """
    count = examples_in(tokens, example_length)
    pairs = with_known_starts(hmm)
    uniform = -jnp.log(hmm.vocab_size)

    def one(prompt: Int[Array, "L"]) -> Float[Array, "V"]:
        examples = prompt[: count * (example_length + 1)].reshape(count, example_length + 1)[:, :-1]
        belief, of_input = read(pairs, bayes.prior(pairs, count), examples[:, :-1])
        seen = jnp.where((pairs.memory == examples[:, -1, None, None])[:, None], belief.states, 0.0)
        of_whole = of_input + jnp.log(seen.sum((2, 3)))
        kinds = jnp.stack(
            [
                jnp.log(1 - 2 * noise) + of_whole,
                jnp.log(noise) + of_input + uniform,
                jnp.full_like(of_input, jnp.log(noise) + example_length * uniform),
            ]
        )
        evidence = jax.nn.logsumexp(kinds, axis=0).sum(0)
        prior = bayes.prior(pairs, 1)._replace(log_concepts=jax.nn.log_softmax(evidence)[None])
        return bayes.predict(pairs, read(pairs, prior, prompt[count * (example_length + 1) :][None])[0])[0]

    return bayes.map_in_batches(one, tokens, 16)
