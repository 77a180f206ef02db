"""What a run begins with instead of fresh weights: those of a model, some of them drawn anew or put in random order."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from icl_synth import checkpoints
from icl_synth.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Start:
    """What a run begins with instead of fresh weights.

    A layer is a part of a weight's name in model.safetensors: embedding, head, qkv, out, up, down, blocks.0, blocks.
    """

    start: Path | None = None
    """Begin with the model in this folder, written by a run, `checkpoints.export` or `compression.pruning.apply`."""
    keep_masks: bool = False
    """Weights that start/masks.safetensors drops stay zero."""
    reset: tuple[str, ...] = ()
    """Layers drawn anew, as the run's seed draws them. Reset embedding and head to go on with another vocabulary."""
    permute: tuple[str, ...] = ()
    """Layers whose matrices keep their numbers and lose their order, by the run's seed."""


def read_start(config: TrainConfig, begin: Start) -> tuple[checkpoints.Weights, checkpoints.Masks, dict[str, Any]]:
    """The weights to begin with, the masks to keep, and what a run knows both by again: digests, and names of layers.

    Weights that are missing are drawn anew. Raises ValueError and OSError for a folder without a model, for one that
    does not fit the configured model, and for layers that it does not have.
    """
    if begin.start is None:
        for option in ("keep_masks", "reset", "permute"):
            if getattr(begin, option):
                raise ValueError(f"--{option.replace('_', '-')} needs --start, the folder of a model")
        return {}, {}, {}
    model = checkpoints.load(begin.start)
    weights = checkpoints.split(model)[1]
    masks = checkpoints.load_masks(begin.start, weights) if begin.keep_masks else {}
    kept = {name: weight for name, weight in weights.items() if name not in named(begin.reset, weights)}
    _check_fits(model, kept, config, begin.start)
    if moved := (named(begin.reset, masks) | named(begin.permute, masks)):
        raise ValueError(f"--keep-masks would keep the wrong weights of {sorted(moved)[0]} at zero: do not change it")
    for number, name in enumerate(sorted(named(begin.permute, kept))):
        if kept[name].ndim > 1:
            order = np.random.default_rng([config.seed, number])
            kept[name] = order.permuted(np.asarray(kept[name]).ravel()).reshape(kept[name].shape)
    files = {"start": checkpoints.WEIGHTS} | ({"keep_masks": checkpoints.MASKS} if masks else {})
    digests = {name: hashlib.sha256((begin.start / file).read_bytes()).hexdigest() for name, file in files.items()}
    layers = {name: list(getattr(begin, name)) for name in ("reset", "permute") if getattr(begin, name)}
    return kept, masks, digests | layers


def named(layers: tuple[str, ...], weights: checkpoints.Weights | checkpoints.Masks) -> set[str]:
    """Names of the weights of some layers. Raises ValueError for a layer that no weight belongs to."""
    found: set[str] = set()
    for layer in layers if weights else ():
        belong = {name for name in weights if f".{layer}." in f".{name}."}
        if not belong:
            parts = sorted({part for name in weights for part in name.split(".") if not part.isdigit()})
            raise ValueError(f"no weight belongs to a layer {layer!r}: choose of {', '.join(parts)}")
        found |= belong
    return found


def _check_fits(model: checkpoints.Model, kept: checkpoints.Weights, config: TrainConfig, folder: Path) -> None:
    """Raise ValueError for a model of another shape, but for weights that are drawn anew."""
    wanted = config.model
    if dataclasses.replace(model.config, vocab_size=wanted.vocab_size, context=wanted.context) != wanted:
        raise ValueError(f"{folder} holds {model.config}, the run is configured for {wanted}")
    shapes = checkpoints.abstract(wanted)[1]
    for name, weight in kept.items():
        if weight.shape != shapes[name].shape:
            raise ValueError(
                f"{name} is of shape {weight.shape} in {folder}, but {shapes[name].shape} with a vocabulary of "
                f"{wanted.vocab_size} and a context of {wanted.context}: draw it anew by --reset {name.split('.')[0]}"
            )
