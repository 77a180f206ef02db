"""Synthetic documents first, real text after (figures/transfer); these runs too are in float32 on every machine."""

import dataclasses
from typing import Any, NamedTuple

from icl_synth.config import DataConfig, TrainConfig
from icl_synth.lstm import LSTMConfig
from icl_synth.presets.recipes import SHORT, of_length, on
from icl_synth.transformer import TransformerConfig


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
    other = on(like, **{"world": "random", "concepts": most} | data)
    return other if length == like.data.length else of_length(other, length)


FIRST = {
    f"{scale}-transfer-first-{name}": dataclasses.replace(like, evaluation_documents=16, precision="float32")
    for scale, most in MOST_CONCEPTS.items()
    for name, like in (
        ("many", on(_READERS[scale], world="random", concepts=most)),
        ("one", on(_READERS[scale], world="random", concepts=1)),
        ("uniform", on(_READERS[scale], world="uniform")),
        ("shuffled", on(_READERS[scale], world="random", concepts=most, shuffled=True)),
        ("dyck", on(_READERS[scale], world="dyck")),
        *((name, _other_world(_READERS[scale], most, **changed)) for name, changed in OTHER_WORLDS[scale].items()),
        *((f"{arm}-{shape}", on(OTHER_MODELS[f"{scale}-{shape}"], world="random", concepts=concepts))
          for shape in ("wide", "lstm") for arm, concepts in (("many", most), ("one", 1))),
    )
}  # fmt: skip
OWN_WORLDS = frozenset(name for name, run in FIRST.items() if run.data.world == "random")  # one for each seed


STEPS = {"quick": 600, "small": 4000}  # of the second stage: 8.2 million characters of `small`
RATE = {"quick": 1.0, "small": 1.0}  # of the second stage, times the recipe's: figures/transfer/rate chooses


def _reading(like: TrainConfig, steps: int, rate: float) -> TrainConfig:
    """The same model and recipe on Shakespeare's works; evaluated after as many tokens whatever the batch."""
    every, own = 800 // like.batch, like.optimizer
    return dataclasses.replace(
        like,
        steps=steps,
        optimizer=dataclasses.replace(
            own, learning_rate=rate * own.learning_rate, muon_learning_rate=rate * own.muon_learning_rate
        ),
        evaluate_every=every,
        evaluation_documents=256,
        keep_every=2 * every,
        precision="float32",
        data=DataConfig("text", SHAKESPEARE, ALPHABET, length=like.data.length),
        model=dataclasses.replace(like.model, vocab_size=ALPHABET),
    )


# `more` has the tokens of both stages, and none before
READING = {
    f"{scale}-transfer-{arm}": _reading(SHORT[scale], more if arm == "more" else STEPS[scale], RATE[scale])
    for scale, more in (("quick", 1000), ("small", 6000))
    for arm in ("random", "more", "many", "one", "uniform", "shuffled", "dyck", "permuted", "attention",
                *OTHER_WORLDS[scale])
} | {
    f"{scale}-transfer-{arm}-{shape}": _reading(
        like := OTHER_MODELS[f"{scale}-{shape}"], STEPS[scale] * SHORT[scale].batch // like.batch, RATE[scale]
    )
    for scale in STEPS
    for shape in ("wide", "lstm")
    for arm in ("random", "many", "one")
}  # fmt: skip
# half, once and twice the recipe's rates, on a seed of its own
RATES = {
    f"{scale}-transfer-{arm}-rate-{name}": _reading(SHORT[scale], STEPS[scale], factor)
    for scale in STEPS
    for arm in ("random", "many")
    for name, factor in (("half", 0.5), ("once", 1.0), ("double", 2.0))
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
