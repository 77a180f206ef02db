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
from icl_synth.prompt_layout import DELIMITER as DELIMITER
from icl_synth.prompt_layout import join_prompts, prompt_length


class Prompts(NamedTuple):
    """B prompts of L = `prompt_layout.prompt_length` tokens; the label is the token that comes next."""

    tokens: Int[Array, "B L"]
    labels: Int[Array, "B"]
    concepts: Int[Array, "B"]
    start_properties: Int[Array, "B"]


class UnseenPrompts(NamedTuple):
    """As Prompts, without start properties.

    Where `label_defined` is False the test input is impossible and the label is 0 by convention.
    """

    tokens: Int[Array, "B L"]
    labels: Int[Array, "B"]
    concepts: Int[Array, "B"]
    label_defined: Bool[Array, "B"]


def sample_prompts(
    hmm: ConceptHMM, key: Key[Array, ""], num_prompts: int, num_examples: int, example_length: int
) -> Prompts:
    """Prompts of `num_examples` examples of `example_length` tokens, then one more without its last token.

    A prompt has one concept, drawn uniformly, and one start property, uniform over 1..P-1. Each example draws a
    uniform entity and moves example_length - 1 times. The label is argmax p(y | test input, concept), where at the
    first token of the test input the entity is uniform and the property known. For prompts of unseen concepts, pass
    the held-out HMM.

    Raises ValueError for no prompt, a negative number of examples, fewer than two tokens an example, and for a world
    whose only property is the delimiter's.
    """
    _check(hmm, num_prompts, num_examples, example_length)
    E, P = hmm.num_entities, hmm.num_properties
    bits = functools.partial(jax.random.bits, dtype=jnp.uint32)
    words = _drawn(bits, key, (2 * example_length + 3, num_prompts, num_examples + 1))
    examples, concepts, start_properties = _examples(hmm.memory, _edges(hmm), words)
    known_starts = jax.nn.one_hot(start_properties, P, dtype=jnp.float32)
    start = jnp.broadcast_to(known_starts[:, None] / E, (num_prompts, E, P))
    labels, _ = _labels(hmm, examples[:, -1, :-1], concepts, start)
    return Prompts(_join(examples), labels, concepts, start_properties)


class _Edges(NamedTuple):
    """The edges from which `choose` draws the parts of a prompt; a function of its own compiles once for a world."""

    concepts: Int[Array, "C-1"]
    start_properties: Int[Array, "P-2"]
    entities: Int[Array, "E-1"]
    next_entities: Int[Array, "C E E-1"]
    next_properties: Int[Array, "C P P-1"]


@jax.jit
def _edges(hmm: ConceptHMM) -> _Edges:
    C, E, P = hmm.num_concepts, hmm.num_entities, hmm.num_properties
    return _Edges(
        concepts=upper_edges(jnp.ones(C, jnp.float32)),
        start_properties=upper_edges(jnp.ones(P - 1, jnp.float32)),
        entities=upper_edges(jnp.ones(E, jnp.float32)),
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
    """Prompts of unseen concepts as the public code makes them; many of their labels are undefined.

    No concept generates the context: each example keeps one uniform entity, and its properties are drawn uniformly
    from 1..P-1. The label is argmax p(y | test input) under a held-out concept with a uniform start, though that
    concept often cannot emit the input. The public code then takes the argmax of 0/0, which is token 0.
    Errors as for `sample_prompts`.
    """
    _check(held_out, num_prompts, num_examples, example_length)
    C, E, P = held_out.num_concepts, held_out.num_entities, held_out.num_properties
    concept_key, property_key, entity_key = jax.random.split(key, 3)
    randint = functools.partial(jax.random.randint, dtype=jnp.int32)
    concepts = randint(concept_key, (num_prompts,), 0, C)
    shape = (num_prompts, num_examples + 1)
    entities = _drawn(functools.partial(randint, minval=0, maxval=E), entity_key, (*shape, 1))
    uniform = functools.partial(randint, minval=1, maxval=P)
    tokens = held_out.memory[entities, _drawn(uniform, property_key, (*shape, example_length))]
    labels, defined = _labels(
        held_out, tokens[:, -1, :-1], concepts, jnp.full((num_prompts, E, P), 1 / (E * P), jnp.float32)
    )
    return UnseenPrompts(_join(tokens), labels, concepts, defined)


def _drawn(draw: Callable[..., Array], key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
    """draw(key, shape), cut from a power of two of draws: each depends on its place alone, and few sizes compile."""
    count = math.prod(shape)
    return draw(key, (1 << (count - 1).bit_length(),))[:count].reshape(shape)


@jax.jit
def _labels(
    hmm: ConceptHMM, inputs: Int[Array, "B K"], concepts: Int[Array, "B"], start: Float[Array, "B E P"]
) -> tuple[Int[Array, "B"], Bool[Array, "B"]]:
    """The likeliest token after `inputs` under a known concept, and whether the inputs are possible at all."""
    known = jnp.where(jnp.arange(hmm.num_concepts) == concepts[:, None], jnp.float32(0.0), -jnp.inf)
    states = jnp.broadcast_to(start[:, None], (len(inputs), *hmm.start.shape))
    belief = bayes.Belief(states, known, jnp.ones(len(inputs), bool))

    def step(belief, token):
        return bayes.advance(hmm, bayes.observe(hmm, belief, token)[0]), None

    belief, _ = jax.lax.scan(step, belief, inputs.T)
    return bayes.predict(hmm, belief).argmax(-1).astype(jnp.int32), belief.possible


def _join(examples: Int[Array, "B N K"]) -> Int[Array, "B L"]:
    """Examples joined by delimiters, the last one without its label."""
    return join_prompts(examples[:, :-1], examples[:, -1, :-1])


def _check(hmm: ConceptHMM, num_prompts: int, num_examples: int, example_length: int) -> None:
    checks.at_least(1, num_prompts=num_prompts)
    prompt_length(num_examples, example_length)  # refuses numbers that make no prompt
    if hmm.num_properties < 2:
        raise ValueError("prompts start at a property other than the delimiter's: the world needs at least 2")
