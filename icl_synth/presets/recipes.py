"""The recipes: the paper's models, and those of two cores by size; and how a recipe is put on other documents."""

import dataclasses

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


def tiny(steps: int, batch: int, model: TransformerConfig | LSTMConfig) -> TrainConfig:
    """A few minutes on two cores: fresh documents, Muon.

    benchmarks/LEARNING.md tells what else was tried; the provenance in figures/out tells what each preset reached.
    """
    return TrainConfig(steps=steps, batch=batch, evaluate_every=250, model=model)


_TINIEST = TransformerConfig(depth=2, width=32, heads=1)
TINY = {
    "quick": tiny(3900, 8, TransformerConfig(depth=6, width=64, heads=2)),
    "quick-draft": tiny(1500, 8, _TINIEST),
    "quick-lstm": tiny(3800, 16, LSTMConfig()),
    "small-lstm": tiny(5000, 16, LSTMConfig()),
    "small-lstm-w64": tiny(5000, 16, LSTMConfig(width=64)),
}

# transformers of the same recipe and many sizes, for what depends on size; `small` is one of them
FAMILY = {
    "small-w32": tiny(8000, 8, TransformerConfig(depth=4, width=32, heads=1)),
    "small-w48": tiny(6000, 8, TransformerConfig(depth=6, width=48, heads=2)),
    "small": tiny(6000, 8, TransformerConfig(depth=6, width=64, heads=2)),
    "small-w96": tiny(5000, 8, TransformerConfig(depth=6, width=96, heads=3)),
    "small-w128": tiny(4500, 8, TransformerConfig(depth=6, width=128, heads=4)),
    "small-w256": tiny(3000, 8, TransformerConfig(depth=6, width=256, heads=8)),
}


def on(like: TrainConfig, **data) -> TrainConfig:
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


def of_length(like: TrainConfig, length: int) -> TrainConfig:
    """The same model, steps and tokens a step, on sequences of another length; as many tokens at once on a CPU."""
    return dataclasses.replace(
        like,
        batch=like.batch * (like.data.length - 1) // (length - 1),
        micro_batch=max(1, (like.data.length - 1) // (length - 1)),
        data=dataclasses.replace(like.data, length=length),
        model=dataclasses.replace(like.model, context=max(like.model.context, length - 1)),
    )
