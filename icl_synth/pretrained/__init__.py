"""Tiny trained models that ship with the library, so that notebooks need no training.

    from icl_synth import pretrained
    model = pretrained.load("transformer")
    logits = model(tokens)

Each is a folder of model.safetensors and config.json, whose card says how it was made and what it scored.
`python -m icl_synth.pretrained` makes them from the quick runs of `python -m figures --preset quick`.
"""

from pathlib import Path
from typing import Any

from icl_synth import checkpoints

HERE = Path(__file__).parent


def names() -> tuple[str, ...]:
    """The names of the models: the largest transformer, its draft, and the LSTM."""
    return ("transformer", "draft", "lstm")


def _folder(name: str) -> Path:
    if name not in names():
        raise ValueError(f"unknown pretrained model {name!r}: choose one of {', '.join(names())}")
    return HERE / name


def load(name: str, dtype: str | None = None) -> checkpoints.Model:
    """The model of that name, a function from tokens i32[B L] to logits f32[B L V].

    dtype: as in `checkpoints.load`. Raises ValueError for another name.
    """
    return checkpoints.load(_folder(name), dtype)


def card(name: str) -> dict[str, Any]:
    """How a model was made (preset, seed, command, commit, minutes, device) and what it scores (losses in nats).

    Raises ValueError for another name.
    """
    return checkpoints.read_card(_folder(name))
