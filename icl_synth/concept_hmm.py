"""The world: a mixture of hidden Markov models that share one vocabulary table (GINC, Xie et al. 2022, section 4).

A hidden state is a pair (entity, property). The two halves move independently, each by its own matrix, and the
pair emits the one token that `memory` holds for it. A concept is a choice of property matrix and of start
distribution; a document keeps one concept, and predicting it well means inferring which one.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Int, Int64, Key
from numpy import ndarray

from icl_synth import checks

OFFICIAL_SEED = 1111
OFFICIAL_ENTITY_SEED = 1114
OFFICIAL_CONCEPTS = 10
OFFICIAL_ENTITIES = 10
OFFICIAL_PROPERTIES = 10
ARRAYS = ("memory", "property_transitions", "entity_transitions", "start")


@dataclasses.dataclass(frozen=True)
class ConceptHMM:
    """C concepts over E entities and P properties; each row of a transition matrix and each start sums to 1.

    `memory` holds the token that each (entity, property) emits. `entity_transitions` is one matrix that all
    concepts share, or one for each. `vocab_size` defaults to the largest token of the memory plus one. Arrays are
    converted to int32 and float32.

    The class is a pytree: jit, vmap and grad take it as an argument. Raises ValueError where shapes or the vocabulary
    do not agree, where a world is empty, and where rows or starts are no distributions.
    """

    memory: Int[Array, "E P"]
    property_transitions: Float[Array, "C P P"]
    entity_transitions: Float[Array, "E E"] | Float[Array, "C E E"]
    start: Float[Array, "C E P"]
    vocab_size: int = None  # type: ignore[assignment]  # an int once constructed

    def __post_init__(self):
        if not jnp.issubdtype(self.memory.dtype, jnp.integer):
            raise ValueError(f"memory must hold integers, got {self.memory.dtype}")
        for name in ARRAYS:  # under jax_enable_x64 64-bit arrays would change every result
            dtype = jnp.int32 if name == "memory" else jnp.float32
            object.__setattr__(self, name, jnp.asarray(getattr(self, name), dtype))
        if self.memory.ndim != 2 or self.property_transitions.ndim != 3:
            raise ValueError(
                "memory must be [E, P] and property_transitions [C, P, P], got "
                f"{self.memory.shape} and {self.property_transitions.shape}"
            )
        C, E, P = self.num_concepts, self.num_entities, self.num_properties
        allowed: dict[str, list[tuple[int, ...]]] = {
            "property_transitions": [(C, P, P)],
            "entity_transitions": [(E, E), (C, E, E)],
            "start": [(C, E, P)],
        }
        for name, shapes in allowed.items():
            if getattr(self, name).shape not in shapes:
                expected = " or ".join(map(str, shapes))
                raise ValueError(f"{name} must have shape {expected}, got {getattr(self, name).shape}")
        checks.at_least(1, concepts=C, entities=E, properties=P)
        for name, axes in (("property_transitions", (-1,)), ("entity_transitions", (-1,)), ("start", (-2, -1))):
            checks.distributions(name, getattr(self, name), axes)
        if checks.traced(self.memory):
            if self.vocab_size is None:
                raise ValueError("vocab_size must be given where memory is traced")
            return
        smallest, largest = int(self.memory.min()), int(self.memory.max())
        if self.vocab_size is None:
            object.__setattr__(self, "vocab_size", largest + 1)
        if smallest < 0 or largest >= self.vocab_size:
            raise ValueError(f"memory holds tokens {smallest}..{largest}, outside a vocabulary of {self.vocab_size}")

    @property
    def num_concepts(self) -> int:
        return self.property_transitions.shape[0]

    @property
    def num_entities(self) -> int:
        return self.memory.shape[0]

    @property
    def num_properties(self) -> int:
        return self.memory.shape[1]

    @property
    def entities_shared(self) -> bool:
        """Whether all concepts move the entity by one matrix."""
        return self.entity_transitions.ndim == 2

    def select(self, concepts: slice | list[int]) -> "ConceptHMM":
        """The same world with only some of its concepts, in the order given.

        Raises ValueError for a concept that the world lacks, and where none is left.
        """
        C = self.num_concepts
        listed = range(C)[concepts] if isinstance(concepts, slice) else concepts
        if not len(listed) or any(isinstance(c, bool | np.bool_) or not -C <= c < C for c in listed):
            raise ValueError(f"concepts {concepts} are not some of this world's {C}")
        index = concepts if isinstance(concepts, slice) else np.asarray(concepts, int)
        return dataclasses.replace(
            self,
            property_transitions=self.property_transitions[index],
            entity_transitions=self.entity_transitions if self.entities_shared else self.entity_transitions[index],
            start=self.start[index],
        )


def _flatten(hmm: ConceptHMM) -> tuple[list, int]:
    return [(jax.tree_util.GetAttrKey(name), getattr(hmm, name)) for name in ARRAYS], hmm.vocab_size


def _unflatten(vocab_size: int, leaves: Iterable) -> ConceptHMM:
    # without the constructor's checks: JAX also rebuilds pytrees around placeholders and around stacked leaves
    hmm = object.__new__(ConceptHMM)
    for name, value in zip((*ARRAYS, "vocab_size"), (*leaves, vocab_size), strict=True):
        object.__setattr__(hmm, name, value)
    return hmm


jax.tree_util.register_pytree_with_keys(ConceptHMM, _flatten, _unflatten)


@dataclasses.dataclass(frozen=True)
class WorldConfig:
    """How to draw a random world; the defaults are those of the official GINC world.

    Each property matrix is a mixture of `num_permutations` random permutation matrices with weights
    softmax(uniform(-1/2, 1/2) / property_temperature): the colder, the closer to one permutation. Entity
    matrices are the same mixture, pulled towards the identity by `entity_persistence`. Start distributions are
    softmax(uniform(-1/2, 1/2) / start_temperature) over all entity x property pairs.

    `concepts` counts every concept; `entity_matrices` is "shared" (one for all) or "own" (one for each).
    Property 0 emits the delimiter, token 0, for every entity.

    Raises ValueError for a number outside its range.
    """

    concepts: int = 5
    entities: int = 10
    properties: int = 10
    vocab_size: int = 50
    property_temperature: float = 0.1
    entity_temperature: float = 0.1
    start_temperature: float = 10.0
    entity_persistence: float = 0.9
    num_permutations: int = 10
    entity_matrices: str = "shared"

    def __post_init__(self):
        for name in ("concepts", "entities", "num_permutations"):
            checks.at_least(1, **{name: getattr(self, name)})
        for name in ("properties", "vocab_size"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2 (one is the delimiter's), got {getattr(self, name)}")
        for name in ("property_temperature", "entity_temperature", "start_temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        checks.within(0, 1, entity_persistence=self.entity_persistence)
        if self.entity_matrices not in ("shared", "own"):
            raise ValueError(f'entity_matrices must be "shared" or "own", got {self.entity_matrices!r}')


@functools.partial(jax.jit, static_argnames="config")
def sample_concept_hmm(key: Key[Array, ""], config: WorldConfig) -> ConceptHMM:
    """A random world of the official recipe (Xie et al. 2022, section 4.1), with any sizes."""
    C, E, P = config.concepts, config.entities, config.properties
    memory_key, start_key, property_key, entity_key = jax.random.split(key, 4)
    memory = jax.random.randint(memory_key, (E, P), 1, config.vocab_size, jnp.int32).at[:, 0].set(0)
    logits = jax.random.uniform(start_key, (C, E * P), jnp.float32, -0.5, 0.5) / config.start_temperature
    property_transitions = _mixed_permutations(property_key, C, P, config.num_permutations, config.property_temperature)
    matrices = C if config.entity_matrices == "own" else 1
    entity = _mixed_permutations(entity_key, matrices, E, config.num_permutations, config.entity_temperature)
    entity = (1 - config.entity_persistence) * entity + config.entity_persistence * jnp.eye(E, dtype=jnp.float32)
    return ConceptHMM(
        memory=memory,
        property_transitions=property_transitions,
        entity_transitions=entity if config.entity_matrices == "own" else entity[0],
        start=jax.nn.softmax(logits).reshape(C, E, P),
        vocab_size=config.vocab_size,
    )


def _mixed_permutations(
    key: Key[Array, ""], matrices: int, size: int, permutations: int, temperature: float
) -> Float[Array, "M N N"]:
    """`matrices` softmax-weighted sums of random permutation matrices."""
    weight_key, permutation_key = jax.random.split(key)
    logits = jax.random.uniform(weight_key, (matrices, permutations), jnp.float32, -0.5, 0.5) / temperature
    shuffled = jax.random.uniform(permutation_key, (matrices, permutations, size), jnp.float32).argsort(-1)
    # the highest precision, so that every backend makes the same world
    mixed = functools.partial(jnp.einsum, "mn,mnij->mij", precision=jax.lax.Precision.HIGHEST)
    return mixed(jax.nn.softmax(logits), jax.nn.one_hot(shuffled, size, dtype=jnp.float32))


class OfficialParameters(NamedTuple):
    """The official world's ten concepts in float64, as NumPy arrays; axes as in ConceptHMM."""

    memory: Int64[ndarray, "E P"]
    property_transitions: Float64[ndarray, "C P P"]
    entity_transitions: Float64[ndarray, "E E"]
    start: Float64[ndarray, "C E P"]


def official_parameters(vocab_size: int = 50, entity_persistence: float = 0.9) -> OfficialParameters:
    """The public code's parameters, bit for bit: its legacy NumPy stream of seed 1111, read in its order.

    The paper says 100 permutations a matrix; the public code and its published data use 10.
    NumPy's global random state stays as it is. Raises ValueError for fewer than two tokens or a persistence
    outside [0, 1].
    """
    if vocab_size < 2:
        raise ValueError(f"vocab_size must be at least 2 (one is the delimiter's), got {vocab_size}")
    checks.within(0, 1, entity_persistence=entity_persistence)
    E, P = OFFICIAL_ENTITIES, OFFICIAL_PROPERTIES
    stream = np.random.RandomState(OFFICIAL_SEED)
    memory = stream.randint(1, vocab_size, (E, P)).astype(np.int64)
    memory[:, 0] = 0
    starts, properties = [], []
    for _ in range(OFFICIAL_CONCEPTS):
        starts.append(_official_softmax(stream.rand(E * P), temperature=10.0).reshape(E, P))
        properties.append(_official_mixture(stream, P))
    entity = _official_mixture(np.random.RandomState(OFFICIAL_ENTITY_SEED), E)
    entity = (1 - entity_persistence) * entity + entity_persistence * np.eye(E)
    return OfficialParameters(memory, np.stack(properties), entity, np.stack(starts))


def _official_mixture(stream: np.random.RandomState, size: int) -> Float64[ndarray, "N N"]:
    weights = _official_softmax(stream.rand(size), temperature=0.1)
    permutations = np.stack([np.eye(size)[stream.permutation(size)] for _ in range(size)])
    return (weights[:, None, None] * permutations).sum(axis=0)


def _official_softmax(uniform: Float64[ndarray, "N"], temperature: float) -> Float64[ndarray, "N"]:
    logits = (uniform - 0.5) / temperature
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def official_ginc(vocab_size: int = 50, entity_persistence: float = 0.9) -> tuple[ConceptHMM, ConceptHMM]:
    """(in_distribution, held_out): the official world's first and last five concepts, in float32.

    The published worlds have 50, 100 or 150 tokens; persistence 0 is the paper's Figure 10. Tokens are
    0..vocab_size-1 with the delimiter at 0. Errors as in `official_parameters`.
    """
    parameters = official_parameters(vocab_size, entity_persistence)
    world = ConceptHMM(
        memory=jnp.asarray(parameters.memory, jnp.int32),
        property_transitions=jnp.asarray(parameters.property_transitions, jnp.float32),
        entity_transitions=jnp.asarray(parameters.entity_transitions, jnp.float32),
        start=jnp.asarray(parameters.start, jnp.float32),
        vocab_size=vocab_size,
    )
    return world.select(slice(0, 5)), world.select(slice(5, 10))
