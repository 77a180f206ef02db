"""What a training run is, and the named presets."""

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

    world: Literal["official", "single", "uniform", "random", "cold"] = "official"
    """official: the public GINC parameters. single: the first official concept alone. uniform: independent tokens of
    equal probability. random: drawn from world_seed. cold: as random, with almost certain moves (temperature .01)."""
    vocab_size: int = 50
    """Number of tokens in the world."""
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
        drawn, sizes = self.world in ("random", "cold"), (self.concepts, self.entities, self.properties)
        if not drawn and sizes != (5, 10, 10):
            raise ValueError(
                "the official world has 5 concepts, 10 entities and 10 properties; for others set data.world to random"
            )

    def build(self) -> tuple[ConceptHMM, ConceptHMM]:
        """The world that documents are drawn from, and one of other concepts that are held out."""
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
    data: DataConfig = DataConfig()
    model: TransformerConfig | LSTMConfig = TransformerConfig()
    optimizer: OptimizerConfig = OptimizerConfig()

    def __post_init__(self):
        checks.choices(self, "")
        checks.seed(seed=self.seed)
        for name in ("steps", "batch", "evaluate_every", "evaluation_documents"):
            checks.at_least(1, **{name: getattr(self, name)})
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


def preset(name: str) -> TrainConfig:
    """The training configuration of that name. Raises ValueError naming the choices."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def first_of_its_kind(name: str) -> str:
    """The first preset with the same configuration: where two names mean the same run, it is trained once."""
    return next(other for other, config in PRESETS.items() if config == preset(name))


def _paper(depth: int) -> TrainConfig:
    """GPT-2 as Xie et al. 2022 and their public code train it; 6,250 steps of 8 x 1,024 tokens."""
    return TrainConfig(
        steps=6250,
        batch=8,
        evaluate_every=250,
        evaluation_documents=100,
        data=DataConfig(length=1024, documents=1000),
        model=TransformerConfig(51, 1024, depth, 768, 12, style="gpt2", dropout=0.1),
        optimizer=OptimizerConfig(
            "adamw", 8e-4, warmup_steps=1000, schedule="plateau" if depth == 16 else "linear", beta2=0.999
        ),
    )


PAPER = {f"paper-{depth}l": _paper(depth) for depth in (4, 12, 16)} | {
    "paper-lstm": TrainConfig(
        steps=12_500,
        batch=8,
        evaluate_every=250,
        evaluation_documents=100,
        data=DataConfig(length=1024, documents=1000),
        model=LSTMConfig(51, 1024, 6, 768, dropout=0.2),
        optimizer=OptimizerConfig("adamw", 1e-3, warmup_steps=0, schedule="plateau", weight_decay=1e-5, beta2=0.999),
    )
}


def _tiny(steps: int, batch: int, model: TransformerConfig | LSTMConfig) -> TrainConfig:
    """A few minutes on two cores: fresh documents, Muon.

    benchmarks/LEARNING.md tells what else was tried; the provenance in figures/out tells what each preset reached.
    """
    return TrainConfig(steps=steps, batch=batch, evaluate_every=250, model=model)


_TINIEST = TransformerConfig(depth=2, width=32, heads=1)
TINY = {
    "quick": _tiny(3900, 8, TransformerConfig(depth=6, width=64, heads=2)),
    "quick-draft": _tiny(1500, 8, _TINIEST),
    "quick-lstm": _tiny(3800, 16, LSTMConfig()),
    "small-lstm": _tiny(5000, 16, LSTMConfig()),
    "small-lstm-w64": _tiny(5000, 16, LSTMConfig(width=64)),
}

# transformers of the same recipe and many sizes, for what depends on size; `small` is one of them
FAMILY = {
    "small-w32": _tiny(8000, 8, TransformerConfig(depth=4, width=32, heads=1)),
    "small-w48": _tiny(6000, 8, TransformerConfig(depth=6, width=48, heads=2)),
    "small": _tiny(6000, 8, TransformerConfig(depth=6, width=64, heads=2)),
    "small-w96": _tiny(5000, 8, TransformerConfig(depth=6, width=96, heads=3)),
    "small-w128": _tiny(4500, 8, TransformerConfig(depth=6, width=128, heads=4)),
    "small-w256": _tiny(3000, 8, TransformerConfig(depth=6, width=256, heads=8)),
}


def _on(like: TrainConfig, **data) -> TrainConfig:
    """The same model and training on other documents; the seed of a world is also that of the run."""
    spare = like.model.vocab_size - like.data.vocab_size
    vocab_size = data.get("vocab_size", like.data.vocab_size)
    return dataclasses.replace(
        like,
        seed=data.get("world_seed", 0),
        data=dataclasses.replace(like.data, **data),
        model=dataclasses.replace(like.model, vocab_size=vocab_size + spare),
    )


# the same transformer for everything that depends on the documents; SEEDS is the number of random worlds
SHORT = {
    "quick": TINY["quick-draft"],
    "small": dataclasses.replace(FAMILY["small"], steps=2000),
    "paper": PAPER["paper-4l"],
}
SHORT_LSTM = {scale: dataclasses.replace(TINY["small-lstm"], steps=n) for scale, n in (("quick", 500), ("small", 2000))}
SEEDS = {"quick": 1, "small": 3, "paper": 5}

# other worlds; each seed has a cold world of its own
WORLDS = {
    f"{scale}-{name}": config
    for scale, like in SHORT.items()
    for name, config in (
        ("single", _on(like, world="single")),
        ("uniform", _on(like, world="uniform")),
        ("moving", _on(like, entity_persistence=0.0)),
        *(
            (f"cold-{n}", _on(like, world="cold", concepts=12, vocab_size=100, world_seed=n))
            for n in range(SEEDS[scale])
        ),
    )
}

# the official ones of these with larger vocabularies
WORLDS |= {
    f"{scale}-{name}-v{size}": _on(WORLDS[f"{scale}-{name}"], vocab_size=size)
    for scale in SHORT
    for name in ("single", "uniform", "moving")
    for size in (100, 150)
}

# random worlds of few to many concepts, another world for each seed; with the most concepts, hardly two documents of
# `small` share one
CONCEPTS = {"quick": (1, 16, 256), "small": (1, 4, 16, 64, 256, 1024, 16_384), "paper": (1, 4, 16, 64, 256, 1024)}
CONCEPT_SWEEP = {
    f"{scale}-concepts-{concepts}-{n}": dataclasses.replace(
        _on(SHORT[scale], world="random", concepts=concepts, world_seed=n),
        evaluation_documents=128 if concepts <= 1024 else 16,  # exact Bayes asks every concept about each of them
    )
    for scale, numbers in CONCEPTS.items()
    for concepts in numbers
    for n in range(SEEDS[scale])
}

VOCABULARIES = {
    f"{name}-v{size}": _on(like, vocab_size=size)
    for name, like in (
        *SHORT.items(),
        *((f"{scale}-lstm", like) for scale, like in SHORT_LSTM.items()),
        *((name, PAPER[name]) for name in ("paper-12l", "paper-16l", "paper-lstm")),
    )
    for size in (50, 100, 150)
}

# runs of fewer and more steps, each with its own decay of the rates, by size
LENGTHS = {
    "quick-draft": (100, 400),
    "small-w32": (250, 500, 1000, 2000, 4000),
    "small": (250, 500, 1000, 2000),
    "small-w128": (250, 500, 1000, 2000),
    "paper-4l": (1500, 3000),
}
SHORTER = {
    f"{name}-{steps}": dataclasses.replace((TINY | FAMILY | PAPER)[name], steps=steps)
    for name, numbers in LENGTHS.items()
    for steps in numbers
}


def _protocol(like: TrainConfig, documents: int, document_length: int) -> TrainConfig:
    """A model of `small` by the data protocol of Xie et al. 2022: five epochs over ten million tokens in blocks of
    1,024. The optimizer stays that of `small`."""
    return dataclasses.replace(
        like,
        steps=6250,
        batch=8,
        evaluate_every=625,
        data=DataConfig(length=1024, documents=documents, document_length=document_length),
        model=dataclasses.replace(like.model, context=1024),
    )


# blocks cut from long documents, of which one in ten begins with its document, and blocks that all do
PROTOCOL = {
    f"protocol{ending}{kind}": _protocol(like, documents, length)
    for kind, like in (("", FAMILY["small"]), ("-lstm", TINY["small-lstm"]))
    for ending, documents, length in (("", 1000, 10_240), ("-starts", 10_000, 1024))
}
PROTOCOL["paper-4l-starts"] = _on(PAPER["paper-4l"], documents=10_000, document_length=1024)
PROTOCOL |= {  # the same in a minute: five epochs over 0.6 million tokens in blocks of 256
    f"quick-protocol{ending}": dataclasses.replace(
        TINY["quick-draft"], data=DataConfig(length=256, documents=documents, document_length=length)
    )
    for ending, documents, length in (("", 240, 2560), ("-starts", 2400, 256))
}


def _of_length(like: TrainConfig, length: int) -> TrainConfig:
    """The same model, steps and tokens a step, on sequences of another length; as many tokens at once on a CPU."""
    return dataclasses.replace(
        like,
        batch=like.batch * (like.data.length - 1) // (length - 1),
        micro_batch=max(1, (like.data.length - 1) // (length - 1)),
        data=dataclasses.replace(like.data, length=length),
        model=dataclasses.replace(like.model, context=max(like.model.context, length - 1)),
    )


# the shorter the sequences, the more of the tokens are beginnings of documents
SEQUENCES = {
    f"{scale}-length-{length}": _of_length(like, length)
    for scale, like in (("quick", TINY["quick-draft"]), ("small", FAMILY["small"]))
    for length in (33, 65, 1025)
}

# four times as many steps, and a smaller model on as many tokens as that and 500 steps more (pruning/retraining)
LONGER = {
    "small-w128-long": dataclasses.replace(FAMILY["small-w128"], steps=18_000, evaluate_every=1000),
    "small-w96-long": dataclasses.replace(FAMILY["small-w96"], steps=18_500, evaluate_every=1000),
}

# Sizes and budgets for scaling laws (figures/scaling): one depth, each run with its own decay and a warm-up of 5 %.
# by preset and budget in FLOPs: sizes from about a quarter of the best one to four times it
SCALING_WIDTHS: dict[str, dict[float, tuple[int, ...]]] = {
    "quick": {1e11: (8, 12, 16, 24, 32), 3e11: (12, 16, 24, 32, 48), 1e12: (16, 24, 32, 48, 64)},
    "small": {
        1e12: (24, 32, 40, 48, 64, 80, 96),
        3e12: (32, 40, 48, 64, 80, 96, 128),
        1e13: (40, 48, 64, 80, 96, 128, 160),
        3e13: (48, 64, 80, 96, 128, 192),
        1e14: (64, 96, 160, 256),
    },
}


def _scaled(flops: float, width: int, rate: float = 1.0, batch: int = 8) -> TrainConfig:
    """A transformer trained with a budget of FLOPs: six a token for each weight and for each product of attention."""
    model = TransformerConfig(depth=4, width=width, heads=max(1, width // 32))
    weights = model.depth * width * (12 * width + model.context) + 2 * model.vocab_size * width
    steps = round(flops / (6 * weights * batch * model.context))
    optimizer = OptimizerConfig()
    optimizer = dataclasses.replace(
        optimizer,
        learning_rate=rate * optimizer.learning_rate,
        muon_learning_rate=rate * optimizer.muon_learning_rate,
        warmup_steps=round(steps / 20),
    )
    return TrainConfig(
        steps=steps,
        batch=batch,
        evaluate_every=-(-steps // 16),
        evaluation_documents=256,
        model=model,
        optimizer=optimizer,
    )


SCALING = {
    f"{scale}-scaling-{flops:.0e}-w{width}": _scaled(flops, width)
    for scale, grid in SCALING_WIDTHS.items()
    for flops, widths in grid.items()
    for width in widths
}
# whether another rate or batch would have been better, and for which size
SCALING_CONTROLS = {
    f"{scale}-scaling-{flops:.0e}-w{width}-{name}": _scaled(flops, width, **changed)
    for scale, flops, widths in (("quick", 3e11, (24,)), ("small", 1e13, (48, 80, 128)))
    for name, changed in (("rate-half", {"rate": 0.5}), ("rate-double", {"rate": 2.0}),
                          ("batch-half", {"batch": 4}), ("batch-double", {"batch": 16}))
    for width in (widths if name.startswith("rate") else widths[:2])
}  # fmt: skip

PRESETS = {
    **TINY,
    **FAMILY,
    **WORLDS,
    **CONCEPT_SWEEP,
    **PAPER,
    **SHORTER,
    **PROTOCOL,
    **SEQUENCES,
    **LONGER,
    **VOCABULARIES,
    **SCALING,
    **SCALING_CONTROLS,
}
