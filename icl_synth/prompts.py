"""In-context prompts with labels: independent short examples of one concept, joined by the delimiter.

Follows the public code of Xie et al. 2022 rather than the text of its section 4.1 where they differ. The labels
shown in the context are sampled; only the label asked for is the likeliest token under the true concept.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from icl_synth import bayes, checks
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.documents import choose, upper_edges

DELIMITER = 0


class Prompts(NamedTuple):
    """B prompts of L = num_examples * (example_length + 1) + example_length - 1 tokens; the label comes next."""

    tokens: Int[Array, "B L"]
    labels: Int[Array, "B"]
    concepts: Int[Array, "B"]
    start_properties: Int[Array, "B"]


class UnseenPrompts(NamedTuple):
    """As Prompts, without start properties.

    Where `label_defined` is False the test input is impossible and the label 0 stands for nothing.
    """

    tokens: Int[Array, "B L"]
    labels: Int[Array, "B"]
    concepts: Int[Array, "B"]
    label_defined: Bool[Array, "B"]


@functools.partial(jax.jit, static_argnames=("num_prompts", "num_examples", "example_length"))
def sample_prompts(
    hmm: ConceptHMM, key: Key[Array, ""], num_prompts: int, num_examples: int, example_length: int
) -> Prompts:
    """Prompts of `num_examples` examples of `example_length` tokens, then one more without its last token.

    One uniform concept and one start property, uniform over 1..P-1, a prompt. Each example draws a uniform entity
    and moves example_length - 1 times. The label is argmax p(y | test input, concept), the entity uniform and the
    property known at the test input's first token. Prompts of unseen concepts, done properly: pass the held-out HMM.

    Raises ValueError for no prompt, a negative number of examples, fewer than two tokens an example, and for a world
    whose only property is the delimiter's.
    """
    _check(hmm, num_prompts, num_examples, example_length)
    C, E, P = hmm.num_concepts, hmm.num_entities, hmm.num_properties
    # one block of bits for everything: each further call of jax.random adds up to a second of compilation
    words = jax.random.bits(key, (2 * example_length + 3, num_prompts, num_examples + 1))
    concepts = choose(upper_edges(jnp.ones(C)), words[0, :, 0])
    start_properties = 1 + choose(upper_edges(jnp.ones(P - 1)), words[1, :, 0])
    entities = choose(upper_edges(jnp.ones(E)), words[2])
    properties = jnp.broadcast_to(start_properties[:, None], entities.shape)
    property_edges = upper_edges(hmm.property_transitions)
    entity_edges = jnp.broadcast_to(upper_edges(hmm.entity_transitions), (C, E, E - 1))

    def move(state, words):
        entity, property_ = state
        moved = (
            choose(entity_edges[concepts[:, None], entity], words[0]),
            choose(property_edges[concepts[:, None], property_], words[1]),
        )
        return moved, hmm.memory[entity, property_]

    moves = words[3:].reshape(example_length, 2, *entities.shape)
    tokens = jnp.moveaxis(jax.lax.scan(move, (entities, properties), moves)[1], 0, -1)
    start = jnp.broadcast_to(jax.nn.one_hot(start_properties, P)[:, None] / E, (num_prompts, E, P))
    labels, _ = _labels(hmm, tokens[:, -1, :-1], concepts, start)
    return Prompts(_join(tokens), labels, concepts, start_properties)


@functools.partial(jax.jit, static_argnames=("num_prompts", "num_examples", "example_length"))
def sample_official_unseen_prompts(
    held_out: ConceptHMM, key: Key[Array, ""], num_prompts: int, num_examples: int, example_length: int
) -> UnseenPrompts:
    """The public code's unseen-concept prompts, kept to show that their labels mean little.

    No concept makes the context: each example is one uniform entity under properties drawn uniformly from 1..P-1.
    The label is argmax p(y | test input) under a held-out concept with a uniform start, though that concept often
    cannot emit the input. The public code then takes the argmax of 0/0, which is token 0.
    Errors as for `sample_prompts`.
    """
    _check(held_out, num_prompts, num_examples, example_length)
    C, E, P = held_out.num_concepts, held_out.num_entities, held_out.num_properties
    concept_key, property_key, entity_key = jax.random.split(key, 3)
    concepts = jax.random.randint(concept_key, (num_prompts,), 0, C)
    shape = (num_prompts, num_examples + 1)
    entities = jax.random.randint(entity_key, (*shape, 1), 0, E)
    tokens = held_out.memory[entities, jax.random.randint(property_key, (*shape, example_length), 1, P)]
    labels, defined = _labels(held_out, tokens[:, -1, :-1], concepts, jnp.full((num_prompts, E, P), 1 / (E * P)))
    return UnseenPrompts(_join(tokens), labels, concepts, defined)


def _labels(
    hmm: ConceptHMM, inputs: Int[Array, "B K"], concepts: Int[Array, "B"], start: Float[Array, "B E P"]
) -> tuple[Int[Array, "B"], Bool[Array, "B"]]:
    """The likeliest token after `inputs` under a known concept, and whether the inputs are possible at all."""
    known = jnp.where(jnp.arange(hmm.num_concepts) == concepts[:, None], 0.0, -jnp.inf)
    states = jnp.broadcast_to(start[:, None], (len(inputs), *hmm.start.shape))
    belief = bayes.Belief(states, known, jnp.ones(len(inputs), bool))

    def step(belief, token):
        return bayes.advance(hmm, bayes.observe(hmm, belief, token)[0]), None

    belief, _ = jax.lax.scan(step, belief, inputs.T)
    return bayes.predict(hmm, belief).argmax(-1).astype(jnp.int32), belief.possible


def _join(examples: Int[Array, "B N K"]) -> Int[Array, "B L"]:
    """Examples with a delimiter after each, without the last one's label and delimiter."""
    joined = jnp.pad(examples, ((0, 0), (0, 0), (0, 1)), constant_values=DELIMITER)
    return joined.reshape(len(examples), -1)[:, :-2]


def _check(hmm: ConceptHMM, num_prompts: int, num_examples: int, example_length: int) -> None:
    checks.at_least(1, num_prompts=num_prompts)
    checks.at_least(0, num_examples=num_examples)
    checks.at_least(2, example_length=example_length)
    if hmm.num_properties < 2:
        raise ValueError("prompts start from a property other than the delimiter's: the world needs at least 2")
