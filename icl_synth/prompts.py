"""In-context prompts with labels: independent short examples of one concept, joined by the delimiter.

Follows the public code of Xie et al. 2022 rather than the text of its section 4.1 where they differ. The labels
shown in the context are sampled; only the label asked for is the likeliest token under the true concept.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

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
    E, P = hmm.num_entities, hmm.num_properties
    words = _drawn(jax.random.bits, key, (2 * example_length + 3, num_prompts, num_examples + 1))
    examples, concepts, start_properties = _examples(hmm.memory, _edges(hmm), words)
    start = jnp.broadcast_to(jax.nn.one_hot(start_properties, P)[:, None] / E, (num_prompts, E, P))
    labels, _ = _labels(hmm, examples[:, -1, :-1], concepts, start)
    return Prompts(_join(examples), labels, concepts, start_properties)


class _Edges(NamedTuple):
    """What `choose` needs to draw a prompt's parts: by themselves they are compiled once for a world."""

    concepts: Int[Array, "C-1"]
    start_properties: Int[Array, "P-2"]
    entities: Int[Array, "E-1"]
    next_entities: Int[Array, "C E E-1"]
    next_properties: Int[Array, "C P P-1"]


@jax.jit
def _edges(hmm: ConceptHMM) -> _Edges:
    C, E, P = hmm.num_concepts, hmm.num_entities, hmm.num_properties
    return _Edges(
        concepts=upper_edges(jnp.ones(C)),
        start_properties=upper_edges(jnp.ones(P - 1)),
        entities=upper_edges(jnp.ones(E)),
        next_entities=jnp.broadcast_to(upper_edges(hmm.entity_transitions), (C, E, E - 1)),
        next_properties=upper_edges(hmm.property_transitions),
    )


@jax.jit
def _examples(
    memory: Int[Array, "E P"], edges: _Edges, words: UInt32[Array, "M B N"]
) -> tuple[Int[Array, "B N K"], Int[Array, "B"], Int[Array, "B"]]:
    """N examples of K tokens for each of B prompts, their concepts and start properties, from M = 2 K + 3 words."""
    concepts = choose(edges.concepts, words[0, :, 0])
    start_properties = 1 + choose(edges.start_properties, words[1, :, 0])
    entities = choose(edges.entities, words[2])
    properties = jnp.broadcast_to(start_properties[:, None], entities.shape)

    def move(state, words):
        entity, property_ = state
        moved = (
            choose(edges.next_entities[concepts[:, None], entity], words[0]),
            choose(edges.next_properties[concepts[:, None], property_], words[1]),
        )
        return moved, memory[entity, property_]

    moves = words[3:].reshape(-1, 2, *entities.shape)
    tokens = jnp.moveaxis(jax.lax.scan(move, (entities, properties), moves)[1], 0, -1)
    return tokens, concepts, start_properties


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
    entities = _drawn(functools.partial(jax.random.randint, minval=0, maxval=E), entity_key, (*shape, 1))
    uniform = functools.partial(jax.random.randint, minval=1, maxval=P)
    tokens = held_out.memory[entities, _drawn(uniform, property_key, (*shape, example_length))]
    labels, defined = _labels(held_out, tokens[:, -1, :-1], concepts, jnp.full((num_prompts, E, P), 1 / (E * P)))
    return UnseenPrompts(_join(tokens), labels, concepts, defined)


def _drawn(draw: Callable[..., Array], key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
    """draw(key, shape), cut from a power of two of numbers: each hangs on its place alone, and few sizes compile."""
    count = math.prod(shape)
    return draw(key, (1 << (count - 1).bit_length(),))[:count].reshape(shape)


@jax.jit
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
