"""Every experiment at toy size: the paper presets' code path (GPT-2, dropout, finite data, plateau), far smaller."""

import dataclasses
from typing import Any

from figures.assisted.common import Large
from figures.lab import catalogue
from figures.lab.presets import Preset, Suite
from icl_synth.config import DataConfig, OptimizerConfig, TrainConfig
from icl_synth.lstm import LSTMConfig
from icl_synth.transformer import TransformerConfig

TOY = TrainConfig(
    steps=8,
    batch=8,
    evaluate_every=8,
    evaluation_documents=8,
    precision="float32",
    data=DataConfig(length=32, documents=4, document_length=320),
    model=TransformerConfig(51, 32, 2, 16, 2, style="gpt2", dropout=0.1),
    optimizer=OptimizerConfig("adamw", 8e-4, warmup_steps=2, schedule="plateau"),
)


def on(**data: Any) -> TrainConfig:
    """The toy on other documents."""
    return dataclasses.replace(TOY, data=dataclasses.replace(TOY.data, **data))


def with_vocabulary(size: int) -> TrainConfig:
    data, model = (dataclasses.replace(part, vocab_size=size) for part in (TOY.data, TOY.model))
    return dataclasses.replace(TOY, data=data, model=model)


TRAINING = {
    "toy": TOY,
    "toy-4": dataclasses.replace(TOY, steps=4),
    "toy-lstm": dataclasses.replace(TOY, model=LSTMConfig(51, 32, 1, 16, dropout=0.2)),
    "toy-single": on(world="single"),
    "toy-uniform": on(world="uniform"),
    "toy-moving": on(entity_persistence=0.0),
    "toy-cold": on(world="cold", concepts=3),
    "toy-concepts-1": on(world="random", concepts=1),
    "toy-concepts-9": on(world="random", concepts=9),
    "toy-v100": with_vocabulary(100),
    "toy-v150": with_vocabulary(150),
}

KINDS = Suite({"transformer": "toy", "LSTM": "toy-lstm"}, (0, 1))
TRANSFORMER = Suite({"transformer": "toy"}, (0, 1))  # what LSTMs are there is tested with compression itself
FAMILY = Suite({"small": "toy", "large": "toy"})
FAMILY_AND_LSTM = Suite({"small": "toy", "large": "toy", "LSTM": "toy-lstm"})
NONE = Suite({})
WORLDS = Suite(
    {"single concept": "toy-single", "random tokens": "toy-uniform", "no entity persistence": "toy-moving"},
    (0, 1),
    {"low entropy, world 1": "toy-cold"},
)
CONCEPTS = Suite({}, once={f"{n} concepts, world 1": f"toy-concepts-{n}" for n in (1, 9)})
VOCABULARIES = Suite(
    {f"transformer, V = {n}": f"toy{v}" for n, v in ((50, ""), (100, "-v100"), (150, "-v150"))}, (0, 1)
)
STEPS = Suite({"toy, 4 steps": "toy-4", "toy, 8 steps": "toy"}, (0, 1))

FEW = {"numbers": (0, 2)}  # of examples: every other number is a program to compile
LARGE = Large(target="draft", width=32, depth=2, draft_width=32)
FORMATS = ("msfp16", "msfp12", "msfp11", "msfp12:truncate", "mx9", "mxint8", "mxfp6_e3m2")

# by experiment: its models and the sizes that differ from those of `quick`
TOYS: dict[str, tuple[Suite, dict[str, Any]]] = {
    "learning/accuracy": (KINDS, {"prompts": 12, **FEW}),
    "learning/aspects": (KINDS, {"prompts": 5}),
    "learning/calibration": (KINDS, {"documents": 16}),
    "learning/concepts": (CONCEPTS, {"prompts": 2, "documents": 16}),
    "learning/emergence": (STEPS, {"prompts": 5, "documents": 16}),
    "learning/order": (KINDS, {"inputs": 2, "sets": 2}),
    "learning/posterior": (KINDS, {"documents": 16}),
    "learning/probe": (KINDS, {"documents": 16, "ridges": (1e-3, 1e-2)}),
    "learning/sizes": (FAMILY_AND_LSTM, {"prompts": 2, "documents": 16, **FEW}),
    "learning/unseen": (KINDS, {"prompts": 5, **FEW}),
    "learning/vocabulary": (VOCABULARIES, {"prompts": 5, **FEW}),
    "learning/worlds": (WORLDS, {"prompts": 5, "lengths": (3, 5, 10), **FEW}),
    "pruning/ablations": (
        TRANSFORMER,
        {
            "documents": 16, "draws": 2, "calibration": (2, 64, 128, 256), "dampings": (0.001, 0.01, 1.0),
            "mask_blocks": (1, 16, 256),
        },
    ),
    "pruning/bits": (TRANSFORMER, {"documents": 16, "joint": (2, 4), "alone": (2, 3)}),
    "pruning/in_context": (TRANSFORMER, {"documents": 16, "prompts": 2}),
    "pruning/layers": (TRANSFORMER, {"documents": 16}),
    "pruning/size": (FAMILY, {"documents": 16}),
    "pruning/sparsity": (TRANSFORMER, {"documents": 16, "sparsities": (0.6, 0.7)}),
    "block_float/exponents": (TRANSFORMER, {"documents": 4, "normal_blocks": 100}),
    "block_float/formats": (NONE, {"numbers": 2**10, "product": (16, 32, 16)}),
    "block_float/models": (
        TRANSFORMER, {"documents": 16, "prompts": 5, "formats": FORMATS, "tuned": ("msfp11",), "tuning_steps": 2}
    ),
    "block_float/noise": (NONE, {"vectors": 20, "block_sizes": (4, 256), "sized": ("mx9", "mxfp4")}),
    "assisted/batch": (FAMILY, {"documents": 16, "batches": (1, 2), "widths": (1, 6), "large": LARGE}),
    "assisted/context": (FAMILY, {"documents": 16, "prompts": 2}),
    "assisted/drafts": (
        FAMILY,
        {
            "documents": 16, "formats": (), "prunings": (), "schedules": ("constant", "optimal"), "texts": 2,
            "constants": (),
        },
    ),
    "assisted/speed": (FAMILY, {"documents": 16, "large": LARGE, "gammas": (2,), "texts": 1}),
    "assisted/text": (FAMILY, {"documents": 16, "texts": 16}),
}  # fmt: skip


def toy_experiment(name: str) -> catalogue.Experiment:
    """An experiment with one preset, "toy"."""
    found = catalogue.experiment(name)
    suite, sizes = TOYS[name]
    return found._replace(presets={"toy": Preset(suite, found.presets["quick"].sizes._replace(**sizes))})
