"""Every experiment at toy size: the paper presets' code path (GPT-2, dropout, finite data, plateau), far smaller."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from figures.assisted.common import Large
from figures.lab import catalogue
from figures.lab.presets import Preset, Suite
from figures.lab.runs import Models, Run, jobs
from figures.language.common import Source
from figures.scaling import controls
from figures.scaling.common import GRID
from figures.transfer import other_models
from figures.transfer.common import ARMS
from icl_synth.config import DataConfig, OptimizerConfig, TrainConfig
from icl_synth.lstm import LSTMConfig
from icl_synth.presets.scaling import SCALING, SCALING_CONTROLS
from icl_synth.presets.transfer import After
from icl_synth.scaling import Law, count
from icl_synth.transformer import TransformerConfig

ALPHABET = 40  # characters that the toy plays have at most

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


def with_vocabulary(size: int, like: TrainConfig = TOY) -> TrainConfig:
    data, model = (dataclasses.replace(part, vocab_size=size) for part in (like.data, like.model))
    return dataclasses.replace(like, data=data, model=model)


def on_plays(vocab_size: int, **data: Any) -> TrainConfig:
    """The toy on sequences that are long enough for the windows of transfer."""
    model, documents = (
        TransformerConfig(vocab_size, 256, 1, 16, 2),
        DataConfig(vocab_size=vocab_size, length=257, **data),
    )
    return dataclasses.replace(
        TOY, steps=4, batch=4, evaluate_every=2, keep_every=2, data=documents, model=model,
        optimizer=OptimizerConfig(warmup_steps=1),
    )  # fmt: skip


TRAINING = {
    "toy": TOY,
    "toy-4": dataclasses.replace(TOY, steps=4),
    "toy-wide": dataclasses.replace(TOY, model=TransformerConfig(51, 32, 2, 32, 2, style="gpt2", dropout=0.1)),
    "toy-2": dataclasses.replace(TOY, steps=2),
    "toy-length-16": on(length=16),
    "toy-lstm": dataclasses.replace(TOY, model=LSTMConfig(51, 32, 1, 16, dropout=0.2)),
    "toy-single": on(world="single"),
    "toy-uniform": on(world="uniform"),
    "toy-moving": on(entity_persistence=0.0),
    "toy-moving-v100": with_vocabulary(100, on(entity_persistence=0.0)),
    "toy-starts": on(documents=40, document_length=32),
    "toy-cold": on(world="cold", concepts=3),
    "toy-concepts-1": on(world="random", concepts=1),
    "toy-concepts-9": on(world="random", concepts=9),
    "toy-v100": with_vocabulary(100),
    "toy-v150": with_vocabulary(150),
    "toy-transfer-first-many": on_plays(world="random", concepts=4, vocab_size=50),
    **{f"toy-transfer-{arm}": on_plays(world="text", text="toy-plays", vocab_size=ALPHABET) for arm in ARMS},
    **SCALING,  # never trained: see `predicted`
    **SCALING_CONTROLS,
}

TRANSFERRED = {  # what an arm begins with
    f"toy-transfer-{arm}": After(
        "toy-transfer-first-many", permute=("blocks",) if arm == "permuted" else (),
        reset=("embedding", "head", *(("up", "down") if arm == "attention" else ())),
    )
    for arm in ARMS
    if arm not in ("random", "more")
}  # fmt: skip

KINDS = Suite({"transformer": "toy", "LSTM": "toy-lstm"}, (0, 1))
TRANSFORMER = Suite({"transformer": "toy"}, (0, 1))  # what LSTMs are there is tested with compression itself
ALONE = Suite({"transformer": "toy"})
FAMILY = Suite({"small": "toy", "large": "toy"})
WIDTHS = Suite({"small": "toy", "large": "toy-wide"}, (0, 1), {"large": (0,)})
DRAFTED = Suite({"small": "toy-4", "middle": "toy", "large": "toy"})
FAMILY_AND_LSTM = Suite({"small": "toy", "large": "toy", "LSTM": "toy-lstm"})
NONE = Suite({})
WORLDS = Suite(
    {
        "single concept": "toy-single",
        "random tokens": "toy-uniform",
        "low entropy, world 1": "toy-cold",
    },
    (0, 1),
    {"low entropy, world 1": (0,)},
)
MOVING = Suite({"V = 50": "toy-moving", "V = 100": "toy-moving-v100"})
CONCEPTS = Suite({f"{n} concepts, world 1": f"toy-concepts-{n}" for n in (1, 9)})
VOCABULARIES = Suite(
    {f"transformer, V = {n}": f"toy{v}" for n, v in ((50, ""), (100, "-v100"), (150, "-v150"))}, (0, 1)
)
BLOCKS = Suite({"transformer, cut": "toy", "transformer, starts": "toy-starts", "LSTM, cut": "toy-lstm"}, (0, 1))
LENGTHS = Suite({"16 tokens": "toy-length-16", "32 tokens": "toy"}, (0, 1))
STEPS = Suite({"toy, 2 steps": "toy-2", "toy, 4 steps": "toy-4", "toy, 8 steps": "toy"}, (0, 1))

PLAYED = Suite({arm: f"toy-transfer-{arm}" for arm in ARMS}, (0, 1))
OF_ARMS = {"concepts 1": "one", "concepts 16": "many", "persistence 0.0": "uniform", "persistence 0.9": "many",
           "length 33": "dyck", "length 257": "many", "random": "random"}  # fmt: skip
EXPLORED_WORLDS = Suite({name: f"toy-transfer-{arm}" for name, arm in OF_ARMS.items()}, (0, 1), curves=True)
EXPLORED_MODELS = Suite(
    {
        f"{name}, {arm}": f"toy-transfer-{arm}"
        for name in other_models.KINDS.values()
        for arm in ("random", "many", "one")
    },
    (0, 1),
    curves=True,
)

THREE_BUDGETS = GRID["small"]._replace(
    models={name: run for name, run in GRID["small"].models.items() if float(name.split()[0]) <= 1e13}
)

FEW = {"numbers": (0, 2)}  # of examples: every other number is a program to compile
LARGE = Large(target="draft", width=32, depth=2, draft_width=32)
TOY_LANGUAGE = Source("toy.gguf", "toy-text")  # see tests/gguf_files.py
FORMATS = ("msfp11", "mx6", "mxint8", "mxfp4", "mxfp4 with mxfp6_e3m2")

# by experiment: its models and the sizes that differ from those of `quick`
TOYS: dict[str, tuple[Suite, dict[str, Any]]] = {
    "learning/accuracy": (KINDS, {"prompts": 12, "lengths": (3, 10), **FEW}),
    "learning/aspects": (KINDS, {"prompts": 5, "lengths": (3, 5)}),
    "learning/calibration": (KINDS, {"documents": 16}),
    "learning/channel": (KINDS, {"prompts": 5, "others": 1, "lengths": (3,)}),
    "learning/concepts": (CONCEPTS, {"prompts": 2, "documents": 16}),
    "learning/decomposition": (KINDS, {"prompts": 6, "lengths": (3, 10), **FEW}),
    "learning/early": (LENGTHS, {"prompts": 6, "documents": 16, "lengths": (3, 10)}),
    "learning/emergence": (STEPS, {"prompts": 5, "documents": 16}),
    "learning/long_examples": (KINDS, {"prompts": 12, "few": 2}),
    "learning/labels": (KINDS, {"prompts": 5, "lengths": (3,), "numbers": (1, 2), "enough": 1}),
    "learning/order": (KINDS, {"inputs": 2, "sets": 2}),
    "learning/persistence": (MOVING, {"prompts": 5, "lengths": (3, 10), **FEW}),
    "learning/posterior": (KINDS, {"documents": 16}),
    "learning/probe": (KINDS, {"documents": 16, "ridges": (1e-3, 1e-2)}),
    "learning/protocol": (BLOCKS, {"prompts": 12, "documents": 16, "lengths": (3, 10), **FEW}),
    "learning/sizes": (FAMILY_AND_LSTM, {"prompts": 2, "documents": 16, **FEW}),
    "learning/two_readers": (CONCEPTS, {"documents": 16}),
    "learning/test_length": (KINDS, {"prompts": 12, "examples": 2, "limit": 4, "lengths": (3, 10)}),
    "learning/spliced": (KINDS, {"prompts": 6, "steps": 2, "lengths": (3, 5), "exponents": (-3, -1)}),
    "learning/unseen": (KINDS, {"prompts": 5, "lengths": (3, 10), **FEW}),
    "learning/vocabulary": (VOCABULARIES, {"prompts": 5, "lengths": (3, 10), **FEW}),
    "learning/when_labels_matter": (
        KINDS, {"prompts": 12, "lengths": (3,), "numbers": (1, 2), "shares": (1.0, 0.5, 0.0)}
    ),
    "learning/worlds": (WORLDS, {"prompts": 5, "lengths": (3, 10), **FEW}),
    "pruning/ablations": (
        ALONE,
        {
            "documents": 16, "draws": 2, "calibration": (2, 64, 128, 256), "dampings": (0.001, 0.01, 0.1, 1.0),
            "mask_blocks": (1, 4, 16, 64, 256),
        },
    ),
    "pruning/bits": (TRANSFORMER, {"documents": 16, "joint": (2, 4), "alone": (2, 3)}),
    "pruning/calibration_world": (TRANSFORMER, {"documents": 16}),
    "pruning/destroyed": (
        TRANSFORMER, {"documents": 4, "prompts": 8, "sparsities": (0.5, 0.7), "formats": ("msfp12",)}
    ),
    "pruning/in_context": (TRANSFORMER, {"documents": 16, "prompts": 2}),
    "pruning/layers": (TRANSFORMER, {"documents": 16, "draws": 2}),
    "pruning/reconstruction": (TRANSFORMER, {"more_documents": 160}),
    "pruning/retraining": (
        Suite({"small": "toy", "large": "toy-wide"}, (0, 1)),
        {"documents": 16, "pairs": (("large", "small"),), "steps": 2},
    ),
    "pruning/size": (WIDTHS, {"documents": 16}),
    "pruning/skipping": (TRANSFORMER, {"documents": 16}),
    "pruning/sparsity": (ALONE, {"documents": 16, "sparsities": (0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)}),
    "block_float/exponents": (TRANSFORMER, {"documents": 4, "normal_blocks": 100}),
    "block_float/formats": (NONE, {"numbers": 2**10, "product": (16, 32, 16)}),
    "block_float/models": (
        Suite({"transformer": "toy"}),
        {"documents": 16, "prompts": 5, "formats": FORMATS, "tuned": ("mx6",), "tuning_steps": 2},
    ),
    "block_float/noise": (NONE, {"draws": 2, "vectors": 20, "block_sizes": (4, 256), "sized": ("mx9", "mxfp4")}),
    "block_float/training": (
        NONE, {"documents": 8, "formats": ("mxfp6_e3m2",), "steps": 2, "batch": 2, "depth": 1}
    ),
    "assisted/acceptance": (DRAFTED, {"documents": 16, "texts": 8}),
    "assisted/batch": (DRAFTED, {"documents": 16, "batches": (1, 2), "widths": (1, 6), "turns": 2, "large": LARGE}),
    "assisted/context": (DRAFTED, {"prompts": 2}),
    "assisted/drafts": (
        DRAFTED,
        {
            "documents": 16, "schedules": ("heuristic",), "constants": (5,), "temperatures": (0.0, 1.0, 1.5),
            "tables": ("bigrams",), "turns": 2, "new": 4,
        },
    ),
    "assisted/speed": (DRAFTED, {"documents": 16, "large": LARGE, "kinds": ("int8",), "gammas": (1, 2), "turns": 2}),
    "assisted/temperature": (DRAFTED, {"documents": 16, "texts": 8, "prunings": (), "formats": ("msfp12",)}),
    "assisted/text": (DRAFTED, {"documents": 16, "texts": 16}),
    **{
        f"scaling/{name}": (THREE_BUDGETS, {"draws": 20})
        for name in ("averaged", "exponents", "extrapolation", "irreducible", "isoflop", "tokens_per_parameter",
                     "too_large", "undecayed")
    },
    "language/acceptance": (NONE, {"texts": 2, "new": 4, "calibration": 2, "prompt": 8, "source": TOY_LANGUAGE}),
    "language/calibration": (NONE, {"windows": 4, "draws": 2, "source": TOY_LANGUAGE}),
    "language/exponents": (NONE, {"windows": 2, "documents": 2, "source": TOY_LANGUAGE}),
    "language/formats": (NONE, {"windows": 4, "source": TOY_LANGUAGE}),
    "language/in_context": (NONE, {"prompts": 4, "windows": 4, "examples": 2, "source": TOY_LANGUAGE}),
    "language/layers": (NONE, {"windows": 4, "calibration": 2, "source": TOY_LANGUAGE}),
    "language/sparsity": (NONE, {"windows": 4, "calibration": 4, "source": TOY_LANGUAGE}),
    "language/speed": (NONE, {"turns": 2, "new": 4, "prompt": 8, "batches": (1, 4), "source": TOY_LANGUAGE}),
    "transfer/outcomes": (PLAYED, {"windows": 8, "seeds": 2}),
    "transfer/context": (PLAYED, {"texts": 4, "seeds": 2}),
    "transfer/remembered": (
        Suite(
            {
                "before the text": "toy-transfer-first-many", "after the text": "toy-transfer-many",
                "the text alone": "toy-transfer-random",
            },
            (0, 1),
        ),
        {"prompts": 8, "every": 1, "seeds": 2},
    ),
    "transfer/rate": (
        Suite({f"{arm}, {factor}": f"toy-transfer-{arm}" for arm in ("random", "many")
               for factor in ("half", "once", "double")}, (99,)), {},
    ),
    "transfer/worlds": (EXPLORED_WORLDS, {"seeds": 2}),
    "transfer/other_models": (EXPLORED_MODELS, {"seeds": 2}),
    "scaling/controls": (controls.PRESETS["small"].suite, {}),
}  # fmt: skip


def toy_experiment(name: str) -> catalogue.Experiment:
    """An experiment with one preset, "toy"."""
    found = catalogue.experiment(name)
    suite, sizes = TOYS[name]
    return found._replace(presets={"toy": Preset(suite, found.presets["quick"].sizes._replace(**sizes))})


LAW = Law(*map(np.float64, (1.32, 100.0, 480.0, 0.6, 0.6, 1.0)))  # its best sizes lie in the middle of the grid


def predicted(suite: Suite, law: Law = LAW, noise: float = 0.02, undecayed: float = 0.3) -> Models:
    """Runs as a scaling law predicts them, with noise in the loss above E: toys are too small to follow any."""
    models: Models = {name: [] for name in suite.models}
    for number, ((name, _, seed), job) in enumerate(zip(suite.runs, jobs(suite), strict=True)):
        config, generator = job.config, np.random.default_rng(number)
        counts, factor = count(config.model, config.data.length - 1), np.exp(noise * generator.standard_normal())
        lines = []
        for done in np.linspace(0, 1, 9)[1:]:
            tokens = round(done * config.steps) * config.batch * (config.data.length - 1)
            excess = float(law.loss(counts.parameters + counts.attention, tokens) - law.E) * factor
            excess *= 1 + undecayed * (done < 1)
            lines.append({"step": round(done * config.steps), "tokens": tokens, "loss": law.E + excess, "seconds": 60.0,
                          "bayes_loss": float(law.E), "excess_nats": excess})  # fmt: skip
        about = dict.fromkeys(("precision", "devices", "device", "commit", "code"), "none")
        models[name].append(Run(name, seed, config, None, lines, about))
    return models


def write_plays(folder: Path = Path("toy-plays")) -> None:
    """Five plays of random lines, split as works of text are; every character is in those of training."""
    rng, letters = np.random.default_rng(0), list("abdefgiklmnoprstuvxz")
    for number, name in enumerate(("train/a", "train/b", "validation/c", "test/d", "test/e")):
        lines = ["".join(rng.choice(letters, rng.integers(13, 19))) + "?."[line % 2] for line in range(60)]
        path = folder / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("BDFGKLMNPRSTVZ [x]\n" * (number == 0) + "\n".join(lines) + "\n" * 2)
