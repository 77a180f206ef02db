"""Models on disk: named weights, checkpoints of a run (orbax, atomic), export to and from safetensors.

Weights are a flat dict of names to arrays everywhere outside a model: `blocks.0.qkv.kernel` and so on.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from jaxtyping import Array, Bool, PyTree
from orbax.checkpoint import checkpoint_managers
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from icl_synth.files import write_atomically, write_safetensors, write_text
from icl_synth.lstm import LSTM, LSTMConfig
from icl_synth.transformer import Transformer, TransformerConfig

__all__ = ["write_atomically", "write_text"]  # other rooms still import these from here
Model = Transformer | LSTM
Weights = dict[str, Array | jax.ShapeDtypeStruct]
Masks = dict[str, Bool[np.ndarray, "I O"]]  # by the name of a pruned weight: where it was kept
MODELS = {"transformer": (TransformerConfig, Transformer), "lstm": (LSTMConfig, LSTM)}


def create(config: TransformerConfig | LSTMConfig, seed: int = 0, dtype: str = "float32") -> Model:
    """A model with fresh weights."""
    if isinstance(config, TransformerConfig):
        return Transformer(config, nnx.Rngs(seed), dtype)
    return LSTM(config, nnx.Rngs(seed), dtype)


def split(model: Model) -> tuple[nnx.GraphDef, Weights]:
    """What a model is, and its weights by name."""
    graph, state = nnx.split(model)
    nested = nnx.traversals.flatten_mapping(nnx.to_pure_dict(state))
    return graph, {".".join(map(str, path)): value for path, value in nested.items()}


def merge(graph: nnx.GraphDef, weights: Weights) -> Model:
    """The model with these weights; usable under jit and grad."""
    paths = {tuple(int(k) if k.isdigit() else k for k in name.split(".")): w for name, w in weights.items()}
    return nnx.merge(graph, nnx.traversals.unflatten_mapping(paths))


def check_plain(model: Model) -> None:
    """Raise TypeError for a model whose layers were replaced, by a number format or int8: its weights are not all."""
    replaced = {type(part).__name__ for _, part in nnx.iter_graph(model) if isinstance(part, nnx.Module)
                and not type(part).__module__.startswith(("icl_synth.", "flax."))}  # fmt: skip
    if replaced:
        raise TypeError(f"the model has layers of kind {', '.join(sorted(replaced))}: give the model it was made from")


def _loss(metrics: dict[str, float]) -> float:
    return metrics["loss"]


class Checkpoints:
    """The checkpoints of one run: the last three and the one of lowest validation loss, each whole or absent."""

    def __init__(self, directory: Path):
        keep = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(3),
                checkpoint_managers.BestN(get_metric_fn=_loss, reverse=True, n=1),
            ]
        )
        # best_fn makes orbax write the metrics down, so that a later process still knows the best
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep,
            best_fn=_loss,
            best_mode="min",
            cleanup_tmp_directories=True,
            enable_async_checkpointing=False,
        )
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def steps(self) -> list[int]:
        """Steps of all whole checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def latest(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, state: PyTree, loss: float) -> None:
        """Save the state after `step` steps; raises OSError when the disk is full, older ones stay."""
        self._manager.save(step, args=ocp.args.StandardSave(state), metrics={"loss": loss})

    def restore(self, step: int, like: PyTree) -> PyTree:
        """The state saved at `step`, with the shapes and shardings of `like`."""
        return self._manager.restore(step, args=ocp.args.StandardRestore(like))

    def close(self) -> None:
        self._manager.close()


def export(model: Model, directory: Path | str, **card: Any) -> Path:
    """Write `model.safetensors` and `config.json` into a directory, and return it.

    A model of gpt2 style is written the way transformers' GPT2LMHeadModel.from_pretrained reads it. Further
    keywords are kept in config.json under "card".
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    weights = {name: np.asarray(value) for name, value in split(model)[1].items()}
    kind = "transformer" if isinstance(model, Transformer) else "lstm"
    config: dict[str, Any] = {"icl_synth": {"kind": kind, **dataclasses.asdict(model.config)}, "card": card}
    if isinstance(model, Transformer) and model.config.style == "gpt2":
        weights = {gpt2_name(name): value for name, value in weights.items()}
        config |= gpt2_config(model.config)
    write_safetensors(directory / "model.safetensors", weights, {"format": "pt"})
    write_text(directory / "config.json", json.dumps(config, indent=2) + "\n")
    return directory


def read_config(directory: Path | str) -> TransformerConfig | LSTMConfig:
    """The configuration of the model that `export` wrote into a directory; starts no device.

    Raises FileNotFoundError where it is missing, ValueError for one that is not of ours.
    """
    directory = Path(directory)
    config = json.loads((directory / "config.json").read_text()).get("icl_synth")
    if config is None:
        raise ValueError(f"{directory}/config.json has no icl_synth section: not written by icl_synth's export")
    kind = config.pop("kind", None)
    if kind not in MODELS:
        raise ValueError(f"{directory}/config.json names a model of kind {kind!r}: known are {', '.join(MODELS)}")
    config_class, _ = MODELS[kind]
    unknown = config.keys() - {field.name for field in dataclasses.fields(config_class)}
    if unknown:
        raise ValueError(
            f"{directory}/config.json has fields that a {kind} does not know: {', '.join(sorted(unknown))}"
        )
    return config_class(**config)


def load(directory: Path | str, dtype: str = "float32") -> Model:
    """The model that `export` wrote into a directory.

    Raises FileNotFoundError where it is missing, ValueError where weights do not fit the config.
    """
    directory, config = Path(directory), read_config(directory)
    graph, expected = split(nnx.eval_shape(lambda: create(config, 0, dtype)))
    try:
        with safe_open(directory / "model.safetensors", framework="numpy") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{directory}/model.safetensors cannot be read: {error}") from error
    gpt2 = isinstance(config, TransformerConfig) and config.style == "gpt2"
    stored_names = {name: gpt2_name(name) if gpt2 else name for name in expected}
    check_fit({stored: expected[name].shape for name, stored in stored_names.items()}, found, str(directory))
    return merge(graph, {name: jax.numpy.asarray(found[stored]) for name, stored in stored_names.items()})


def save_masks(masks: Masks, directory: Path | str) -> None:
    """Write `masks.safetensors` beside a pruned model."""
    write_safetensors(Path(directory) / "masks.safetensors", masks)


def load_masks(directory: Path | str, weights: Weights) -> Masks:
    """The masks beside a pruned model whose weights these are.

    Raises FileNotFoundError where there are none, ValueError where they do not fit the weights.
    """
    path = Path(directory) / "masks.safetensors"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: {directory} was not written by compression.pruning.apply")
    masks = load_file(path)
    for name, mask in masks.items():
        if name not in weights or weights[name].shape != mask.shape or mask.dtype != bool:
            raise ValueError(
                f"{path}: the mask {name}, {mask.dtype} {mask.shape}, fits no weight of the model beside it"
            )
        if np.asarray(weights[name])[~mask].any():
            raise ValueError(f"{path}: the model beside it has weights at places that the mask {name} drops")
    return masks


def check_fit(expected: dict[str, tuple[int, ...]], found: dict[str, np.ndarray], where: str) -> None:
    """Raise ValueError naming the first weight that is missing, left over or of another shape."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise ValueError(f"{where}: weight {name} is missing")
        if name not in expected:
            raise ValueError(f"{where}: weight {name} is not part of the configured model")
        if expected[name] != found[name].shape:
            raise ValueError(f"{where}: {name} has shape {found[name].shape}, the config says {expected[name]}")


def gpt2_name(name: str) -> str:
    """transformers' name of one of our gpt2-style weights; its Conv1D kernels are [in, out] like ours."""
    renamed = {
        "embedding": "wte.weight",
        "positions": "wpe.weight",
        "norm": "ln_f",
        "norm1": "ln_1",
        "norm2": "ln_2",
        "qkv": "attn.c_attn",
        "out": "attn.c_proj",
        "up": "mlp.c_fc",
        "down": "mlp.c_proj",
        "blocks": "h",
        "kernel": "weight",
        "gain": "weight",
    }
    return "transformer." + ".".join(renamed.get(part, part) for part in name.split("."))


def gpt2_config(config: TransformerConfig) -> dict[str, Any]:
    """The fields of transformers' GPT2Config that make the same model."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "vocab_size": config.vocab_size,
        "n_positions": config.context,
        "n_embd": config.width,
        "n_layer": config.depth,
        "n_head": config.heads,
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": None,
    }
