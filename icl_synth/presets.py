"""Named training runs: the paper's, those of two cores, and what varies worlds, vocabularies, sizes and budgets.

A preset counts by its values, which whoever uses it hashes: a new one here renames no run.
"""

import dataclasses
from typing import Any, NamedTuple

from icl_synth.config import DataConfig, OptimizerConfig, TrainConfig
from icl_synth.lstm import LSTMConfig
from icl_synth.transformer import TransformerConfig


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
# A grid takes longer than one machine may be had: float32, which every processor has.
# by preset and budget in FLOPs: sizes from about a quarter of the best one to four times it
SCALING_WIDTHS: dict[str, dict[float, tuple[int, ...]]] = {
    "quick": {1e11: (8, 12, 16, 24, 32), 3e11: (12, 16, 24, 32, 48), 1e12: (16, 24, 32, 48, 64)},
    "small": {
        1e12: (16, 24, 32, 40, 48, 64, 80, 96),
        3e12: (24, 32, 40, 48, 64, 80, 96, 128),
        1e13: (24, 32, 40, 48, 64, 80, 96, 128, 160),
        3e13: (40, 48, 64, 80, 96, 128, 192),
        1e14: (48, 64, 96, 160, 256),
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
        precision="float32",
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
    for width in widths
}  # fmt: skip


class After(NamedTuple):
    """What a preset goes on from: the end of another one's run of the same seed, with layers drawn anew or permuted."""

    training: str
    reset: tuple[str, ...] = ("embedding", "head")
    permute: tuple[str, ...] = ()


# Synthetic documents first, real text after (figures/transfer). First what a model reads in about 4.1 million tokens:
# many concepts or one, drawn anew for each seed; tokens without structure; many concepts out of order; brackets.
# These runs too take longer than one machine may be had: float32.
SHAKESPEARE = "text/shakespeare"  # where `make text` writes it
ALPHABET = 84  # characters of its training works
MOST_CONCEPTS = {"quick": 256, "small": 16_384}
_READERS = {"quick": dataclasses.replace(SHORT["quick"], steps=400), "small": SHORT["small"]}
# explored beside the registered arms: fewer concepts, entities that change more often, shorter documents
OTHER_WORLDS: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {
        "concepts-16": {"concepts": 16},
        "persistence-0": {"entity_persistence": 0.0},
        "length-33": {"length": 33},
    },
    "small": {
        "concepts-16": {"concepts": 16},
        "concepts-256": {"concepts": 256},
        "persistence-0": {"entity_persistence": 0.0},
        "persistence-half": {"entity_persistence": 0.5},
        "length-33": {"length": 33},
        "length-65": {"length": 65},
    },
}
# and other models, for the main arms, on as many tokens
OTHER_MODELS = {
    f"{scale}-{name}": dataclasses.replace(like, model=model, batch=like.batch * at_once, steps=like.steps // at_once)
    for scale, like in _READERS.items()
    for name, model, at_once in (
        (
            "wide",
            TransformerConfig(depth=like.model.depth, width=2 * like.model.width, heads=like.model.width // 16),
            1,
        ),
        ("lstm", LSTMConfig(), 2),
    )
}


def _other_world(like: TrainConfig, most: int, **data: Any) -> TrainConfig:
    """The same model on a random world that differs from that of many concepts in one thing."""
    length = data.pop("length", like.data.length)
    other = _on(like, **{"world": "random", "concepts": most} | data)
    return other if length == like.data.length else _of_length(other, length)


FIRST = {
    f"{scale}-transfer-first-{name}": dataclasses.replace(like, evaluation_documents=16, precision="float32")
    for scale, most in MOST_CONCEPTS.items()
    for name, like in (
        ("many", _on(_READERS[scale], world="random", concepts=most)),
        ("one", _on(_READERS[scale], world="random", concepts=1)),
        ("uniform", _on(_READERS[scale], world="uniform")),
        ("shuffled", _on(_READERS[scale], world="random", concepts=most, shuffled=True)),
        ("dyck", _on(_READERS[scale], world="dyck")),
        *((name, _other_world(_READERS[scale], most, **changed)) for name, changed in OTHER_WORLDS[scale].items()),
        *((f"{arm}-{shape}", _on(OTHER_MODELS[f"{scale}-{shape}"], world="random", concepts=concepts))
          for shape in ("wide", "lstm") for arm, concepts in (("many", most), ("one", 1))),
    )
}  # fmt: skip
OWN_WORLDS = frozenset(name for name, run in FIRST.items() if run.data.world == "random")  # one for each seed


def _reading(like: TrainConfig, steps: int) -> TrainConfig:
    """The same model and recipe on Shakespeare's works; evaluated after as many tokens whatever the batch."""
    every = 800 // like.batch
    return dataclasses.replace(
        like,
        steps=steps,
        evaluate_every=every,
        evaluation_documents=256,
        keep_every=2 * every,
        precision="float32",
        data=DataConfig("text", SHAKESPEARE, ALPHABET, length=like.data.length),
        model=dataclasses.replace(like.model, vocab_size=ALPHABET),
    )


# then 8.2 million characters; `more` has the tokens of both stages, and none before
READING = {
    f"{scale}-transfer-{arm}": _reading(SHORT[scale], more if arm == "more" else steps)
    for scale, steps, more in (("quick", 600, 1000), ("small", 4000, 6000))
    for arm in ("random", "more", "many", "one", "uniform", "shuffled", "dyck", "permuted", "attention",
                *OTHER_WORLDS[scale])
} | {
    f"{scale}-transfer-{arm}-{shape}": _reading(
        like := OTHER_MODELS[f"{scale}-{shape}"], steps * SHORT[scale].batch // like.batch
    )
    for scale, steps in (("quick", 600), ("small", 4000))
    for shape in ("wide", "lstm")
    for arm in ("random", "many", "one")
}  # fmt: skip
# half and twice the second stage's rates, on a seed of its own, for the choice of the rate
RATES = {
    f"{scale}-transfer-{arm}-rate-{name}": dataclasses.replace(
        (like := READING[f"{scale}-transfer-{arm}"]),
        optimizer=dataclasses.replace(
            like.optimizer,
            learning_rate=factor * like.optimizer.learning_rate,
            muon_learning_rate=factor * like.optimizer.muon_learning_rate,
        ),
    )
    for scale in ("quick", "small")
    for arm in ("random", "many")
    for name, factor in (("half", 0.5), ("double", 2.0))
}
AFTER = {
    name: After(
        name.replace("-transfer-", "-transfer-first-").replace("permuted", "many").replace("attention", "many"),
        reset=("embedding", "head", *(("up", "down") if name.endswith("attention") else ())),
        permute=("blocks",) if name.endswith("permuted") else (),
    )
    for name in READING
    if "-random" not in name and "-more" not in name
} | {name: After(f"{name.split('-')[0]}-transfer-first-many") for name in RATES if "-many-" in name}

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
    **FIRST,
    **READING,
    **RATES,
}


def preset(name: str) -> TrainConfig:
    """The training configuration of that name. Raises ValueError naming the choices."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def first_of_its_kind(name: str) -> str:
    """The first preset with the same configuration and beginning: where two mean the same run, it is trained once."""
    wanted = preset(name), AFTER.get(name)
    return next(other for other, config in PRESETS.items() if (config, AFTER.get(other)) == wanted)
