"""What a training run is. `icl_synth.presets` has those with names."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp

from icl_synth import checks
from icl_synth.concept_hmm import ConceptHMM, WorldConfig, official_ginc, sample_concept_hmm
from icl_synth.layers import Precision
from icl_synth.lstm import LSTMConfig
from icl_synth.transformer import TransformerConfig


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The world that documents come from, and how many there are."""

    world: Literal["official", "single", "uniform", "random", "cold", "dyck", "text"] = "official"
    """official: the public GINC parameters. single: the first official concept alone. uniform: independent tokens of
    equal probability. random: drawn from world_seed. cold: as random, with almost certain moves (temperature .01).
    dyck: brackets of vocab_size / 2 kinds, no world at all. text: characters of works, of which no exact predictor is
    known."""
    text: str = ""
    """Folder of the works (text): see icl_synth.text."""
    vocab_size: int = 50
    """Number of tokens in the world, or of characters in the text."""
    entity_persistence: float = 0.9
    """Weight of staying with the same entity from token to token, 0 to 1."""
    concepts: int = 5
    """Concepts in distribution (random worlds; official ones have 5)."""
    entities: int = 10
    """Entities (random worlds)."""
    properties: int = 10
    """Properties, the delimiter's included (random worlds)."""
    world_seed: int = 0
    """Seed of a random world."""
    length: int = 257
    """Tokens in a training sequence; all but the first are predicted."""
    shuffled: bool = False
    """Whether the tokens of each document are put in random order, whose exact predictor is unknown."""
    documents: int = 0
    """Distinct training documents, each of document_length tokens; 0 draws a fresh one for every sequence."""
    document_length: int = 10_240
    """Tokens in a document of a finite data set, cut into sequences of `length`."""

    def __post_init__(self):
        checks.choices(self, "data.")
        for name, least in (("vocab_size", 2), ("concepts", 1), ("entities", 1), ("properties", 2), ("length", 2),
                            ("documents", 0), ("document_length", 1)):  # fmt: skip
            checks.at_least(least, **{f"data.{name}": getattr(self, name)})
        checks.within(0, 1, **{"data.entity_persistence": self.entity_persistence})
        checks.seed(**{"data.world_seed": self.world_seed})
        if self.documents and self.document_length % self.length:
            raise ValueError(f"data.document_length {self.document_length} is not a multiple of length {self.length}")
        if (self.world == "text") != bool(self.text):
            raise ValueError("data.text is the folder that data.world text reads: give both or neither")
        if self.text and (self.documents or self.shuffled):
            raise ValueError("data.documents and data.shuffled are about documents of a world, and a text has its own")
        drawn, sizes = self.world in ("random", "cold"), (self.concepts, self.entities, self.properties)
        if not drawn and sizes != (5, 10, 10):
            raise ValueError(
                "the official world has 5 concepts, 10 entities and 10 properties; for others set data.world to random"
            )

    def build(self) -> tuple[ConceptHMM, ConceptHMM]:
        """The world that documents are drawn from, and one of other concepts that are held out.

        Raises ValueError for brackets and for a text, which come from no world of concepts.
        """
        if self.world in ("dyck", "text"):
            raise ValueError(f"data.world {self.world} has no concepts: choose one of the others")
        if self.world == "uniform":
            return uniform_tokens(self.vocab_size), uniform_tokens(self.vocab_size)
        if self.world in ("official", "single"):
            hmm, held_out = official_ginc(self.vocab_size, self.entity_persistence)
            return hmm.select([0]) if self.world == "single" else hmm, held_out
        both = WorldConfig(
            concepts=2 * self.concepts,
            entities=self.entities,
            properties=self.properties,
            vocab_size=self.vocab_size,
            entity_persistence=self.entity_persistence,
        )
        if self.world == "cold":
            both = dataclasses.replace(both, property_temperature=0.01, entity_temperature=0.01)
        hmm = sample_concept_hmm(jax.random.key(self.world_seed), both)
        return hmm.select(slice(self.concepts)), hmm.select(slice(self.concepts, None))


def uniform_tokens(vocab_size: int) -> ConceptHMM:
    """A world of independent, uniform tokens: one concept, a property for each token."""
    V = vocab_size
    memory, alike = jnp.tile(jnp.arange(V), (2, 1)), jnp.full((1, V, V), 1 / V)
    return ConceptHMM(memory, alike, jnp.full((2, 2), 0.5), jnp.full((1, 2, V), 0.5 / V), V)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """How weights are updated."""

    name: Literal["muon", "adamw"] = "muon"
    """muon updates the matrices inside layers and leaves the other weights to adamw; adamw updates all."""
    learning_rate: float = 3e-3
    """Peak rate of adamw."""
    muon_learning_rate: float = 2e-2
    """Peak rate of muon."""
    warmup_steps: int = 50
    """Steps of linear warm-up."""
    schedule: Literal["linear", "cosine", "plateau"] = "linear"
    """Decay to zero, or a quarter whenever the validation loss stalls for two evaluations."""
    weight_decay: float = 0.0
    """Decoupled weight decay of adamw."""
    beta1: float = 0.9
    """Decay of adamw's first moment."""
    beta2: float = 0.99
    """Decay of adamw's second moment."""
    clip: float = 1.0
    """Largest global norm of a gradient."""

    def __post_init__(self):
        checks.choices(self, "optimizer.")
        for name in ("learning_rate", "muon_learning_rate", "clip"):
            checks.positive(**{f"optimizer.{name}": getattr(self, name)})
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"optimizer.{name} must be in [0, 1), got {getattr(self, name)}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"optimizer.weight_decay must be 0 or more, got {self.weight_decay}")
        checks.at_least(0, **{"optimizer.warmup_steps": self.warmup_steps})


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the weights a run ends with."""

    seed: int = 0
    """Seed of initial weights, documents and dropout."""
    steps: int = 1000
    """Optimizer steps."""
    batch: int = 16
    """Sequences a step."""
    micro_batch: int = 0
    """Sequences at once on a device. 0 takes 1 for a transformer on a CPU, whose activations then stay in cache, and
    the device's share of the batch elsewhere."""
    precision: Precision = "auto"
    """Operands of matrix products; auto takes bfloat16 on an accelerator and on a CPU with AMX matrix units,
    float32 on every other CPU. Weights and sums are always float32."""
    evaluate_every: int = 100
    """Steps between evaluations; each evaluation also saves a checkpoint."""
    evaluation_documents: int = 128
    """Held-back documents for the validation loss."""
    keep_every: int = 0
    """Steps between models that stay on the way, as models/STEP of the run's folder; 0 keeps the last one alone."""
    data: DataConfig = DataConfig()
    model: TransformerConfig | LSTMConfig = TransformerConfig()
    optimizer: OptimizerConfig = OptimizerConfig()

    def __post_init__(self):
        checks.choices(self, "")
        checks.seed(seed=self.seed)
        for name in ("steps", "batch", "evaluate_every", "evaluation_documents"):
            checks.at_least(1, **{name: getattr(self, name)})
        if self.keep_every < 0 or self.keep_every % self.evaluate_every:
            raise ValueError(
                f"keep_every must be a multiple of evaluate_every {self.evaluate_every}, or 0, got {self.keep_every}"
            )
        if self.micro_batch < 0:
            raise ValueError(f"micro_batch must be 0 (choose) or more, got {self.micro_batch}")
        if self.model.vocab_size < self.data.vocab_size:
            raise ValueError(
                f"the world has {self.data.vocab_size} tokens, the model only {self.model.vocab_size}: "
                f"set model.vocab_size to at least {self.data.vocab_size}"
            )
        if 0 < self.data.documents * self.data.document_length // self.data.length < self.batch:
            raise ValueError(
                f"{self.data.documents} documents of {self.data.document_length} tokens give fewer sequences of "
                f"{self.data.length} than a batch of {self.batch}: raise data.documents or lower batch"
            )
        if self.data.length - 1 > self.model.context:
            raise ValueError(
                f"data.length {self.data.length} asks for {self.data.length - 1} inputs, "
                f"more than model.context {self.model.context}"
            )
