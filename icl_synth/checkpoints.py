"""Models by named weights, and model folders: `model.safetensors` beside `config.json`.

Outside a model, weights are a flat dict from names such as `blocks.0.qkv.kernel` to arrays.

The metadata of `model.safetensors` repeat `config.json`, and an export replaces the weights in one step, so that a
process that is killed at any moment leaves either the old model or the new one.
"""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args, get_origin, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Key

from icl_synth import files, hugging_face, llama_gguf
from icl_synth.lstm import LSTM, LSTMConfig
from icl_synth.transformer import Transformer, TransformerConfig

Model = Transformer | LSTM
ModelConfig = TransformerConfig | LSTMConfig
Weights = dict[str, Array | np.ndarray | jax.ShapeDtypeStruct]
Masks = dict[str, Bool[np.ndarray, "I O"]]  # by the name of a pruned weight: True where it was kept
CONFIGS: dict[str, type[ModelConfig]] = {"transformer": TransformerConfig, "lstm": LSTMConfig}
PRECISIONS = ("float32", "bfloat16", "float16")
NUMBERS: dict[type, Any] = {bool: bool, int: int, float: int | float}
WEIGHTS, CONFIG, MASKS = "model.safetensors", "config.json", "masks.safetensors"
FOLDER = f"a model folder as icl_synth.checkpoints.export writes it, {CONFIG} and {WEIGHTS}"


def create(config: ModelConfig, seed: int | Key[Array, ""] = 0, dtype: str = "float32") -> Model:
    """A model with fresh weights; `dtype` is the precision of operands in matrix products."""
    if isinstance(config, TransformerConfig):
        return Transformer(config, nnx.Rngs(seed), dtype)
    return LSTM(config, nnx.Rngs(seed), dtype)


def split(model: Model) -> tuple[nnx.GraphDef, Weights]:
    """The graph definition of a model, and its weights by name."""
    graph, state = nnx.split(model)
    nested = nnx.traversals.flatten_mapping(nnx.to_pure_dict(state))
    return graph, {".".join(map(str, path)): value for path, value in nested.items()}


def merge(graph: nnx.GraphDef, weights: Weights) -> Model:
    """The model of a graph definition with these weights; usable under jit and grad."""
    paths = {tuple(int(k) if k.isdigit() else k for k in name.split(".")): w for name, w in weights.items()}
    return nnx.merge(graph, nnx.traversals.unflatten_mapping(paths))


@functools.cache
def abstract(config: ModelConfig, dtype: str = "float32") -> tuple[nnx.GraphDef, Weights]:
    """The graph definition of `create`, and the shapes of its weights; computes nothing."""
    return split(nnx.eval_shape(lambda: create(config, 0, dtype)))


def check_plain(model: Model, advice: str = "give the model it was made from") -> None:
    """Raise TypeError for a model that `create` would not make from its configuration.

    Such a model has layers of another kind, as after `in_format` or `in_int8`: its weights alone do not describe it.
    """
    if split(model)[0] == abstract(model.config, model.dtype)[0]:
        return
    replaced = {type(part).__name__ for _, part in nnx.iter_graph(model) if isinstance(part, nnx.Module)
                and not type(part).__module__.startswith(("icl_synth.", "flax."))}  # fmt: skip
    kinds = f"layers of kind {', '.join(sorted(replaced))}" if replaced else "parts that its configuration lacks"
    raise TypeError(f"the model has {kinds}: {advice}")


def export(model: Model, directory: Path | str, **card: Any) -> Path:
    """Write a model into a directory, in one step, and return the directory.

    `config.json` holds the configuration, the precision of products and, under "card", the further keywords; the
    metadata of `model.safetensors` hold the same. transformers' from_pretrained reads the folder of a model of gpt2 or
    llama style. Raises TypeError for a model whose layers were replaced, by a number format or int8, and
    ValueError for weights that `load` would refuse.
    """
    check_plain(model, "export the model it was made from, keep the format's name, and apply the format after loading")
    weights = split(model)[1]
    _check_weights(abstract(model.config, model.dtype)[1], weights, "the model")
    kind = next(kind for kind, config_class in CONFIGS.items() if isinstance(model.config, config_class))
    precision = _known_precision(model.dtype, "the model")
    about = {"kind": kind, "precision": precision, **dataclasses.asdict(model.config)}
    config: dict[str, Any] = {"icl_synth": about, "card": card}
    stored: dict[str, Any] = weights
    if _in_transformers(model.config):
        config |= hugging_face.config_fields(model.config)
        stored = hugging_face.store(weights, model.config)
    text = json.dumps(config, indent=2) + "\n"
    directory = Path(directory)
    with files.replacing(directory / CONFIG) as new_config, files.replacing(directory / WEIGHTS) as new_weights:
        new_config.write_text(text, encoding="utf-8")
        files.fill_safetensors(new_weights, stored, {"format": "pt", "config": text})
        # a process killed between the two replacements leaves weights alone, and these know their configuration
        (directory / CONFIG).unlink(missing_ok=True)
    return directory


def read_config(directory: Path | str) -> ModelConfig:
    """The configuration of the model in a directory; starts no device.

    Raises FileNotFoundError where it is missing, ValueError where it is no configuration of ours.
    """
    return _parse(*_read_stored(Path(directory)))[0]


def read_card(directory: Path | str) -> dict[str, Any]:
    """The further keywords that `export` was given. Errors as for `read_config`."""
    stored, where = _read_stored(Path(directory))
    _parse(stored, where)
    return stored.get("card", {})


def load(directory: Path | str, dtype: str | None = None) -> Model:
    """The model that `export` wrote into a directory, its weights in float32.

    dtype: precision of operands in matrix products, that of the exported model by default. Raises FileNotFoundError
    where a file is missing, ValueError where the weights do not fit the configuration or are no floating-point numbers.
    """
    directory = Path(directory)
    config, precision = _parse(*_read_stored(directory))
    precision = _known_precision(dtype or precision, f"{directory}")
    graph, expected = abstract(config, precision)
    arrays, metadata = files.read_safetensors(directory / WEIGHTS, FOLDER)
    if _in_transformers(config):
        arrays = hugging_face.restore(arrays, config, expected)
    _check_weights(expected, arrays, str(directory))
    if "config" in metadata and _parse(*_from_metadata(metadata, directory / WEIGHTS))[0] != config:
        raise ValueError(f"{directory / CONFIG} is not the configuration that {WEIGHTS} was exported with")
    return merge(graph, {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()})


def load_gguf(path: Path | str, dtype: str = "float32") -> Model:
    """The model of a GGUF file of Llama architecture, its weights de-quantised to float32.

    dtype: precision of operands in matrix products. Errors as for `llama_gguf.read`.
    """
    config, weights = llama_gguf.read(path)
    graph, expected = abstract(config, _known_precision(dtype, f"{path}"))
    _check_weights(expected, weights, f"{path}")
    return merge(graph, {name: jnp.asarray(weight) for name, weight in weights.items()})


def _read_stored(directory: Path) -> tuple[Any, str]:
    """The contents of config.json, and the file that they were read from."""
    path = directory / CONFIG
    if not path.exists() and (directory / WEIGHTS).exists():  # an export was killed between its two files
        metadata = files.read_safetensors(directory / WEIGHTS, FOLDER)[1]
        if "config" in metadata:
            return _from_metadata(metadata, directory / WEIGHTS)
    return files.read_json(path, FOLDER), f"{path}"


def _from_metadata(metadata: dict[str, str], path: Path) -> tuple[Any, str]:
    try:
        return json.loads(metadata["config"]), f"the metadata of {path}"
    except ValueError as error:
        raise ValueError(f"the metadata of {path} hold no configuration ({error}): expected {FOLDER}") from error


def _parse(stored: Any, where: str) -> tuple[ModelConfig, str]:
    """The configuration and the precision that config.json holds. Raises ValueError, naming the file."""
    about = stored.get("icl_synth") if isinstance(stored, dict) else None
    if not isinstance(about, dict):
        raise ValueError(f"{where} has no icl_synth section of named fields: expected {FOLDER}")
    fields = dict(about)
    kind, precision = fields.pop("kind", None), fields.pop("precision", "float32")
    if not isinstance(kind, str) or kind not in CONFIGS:
        raise ValueError(f"{where} names a model of kind {kind!r}: known are {', '.join(CONFIGS)}")
    _known_precision(precision, where)
    hints = get_type_hints(CONFIGS[kind])
    if unknown := fields.keys() - hints.keys():
        raise ValueError(f"{where} has fields that a {kind} does not know: {', '.join(sorted(unknown))}")
    for name, value in fields.items():
        if get_origin(hints[name]) is Literal:
            if value not in get_args(hints[name]):
                raise ValueError(f"{where}: {name} must be one of {', '.join(get_args(hints[name]))}, got {value!r}")
        elif isinstance(value, bool) != (hints[name] is bool) or not isinstance(value, NUMBERS[hints[name]]):
            raise ValueError(f"{where}: {name} must be of type {hints[name].__name__}, got {value!r}")
    try:
        return CONFIGS[kind](**fields), precision
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _known_precision(precision: Any, where: str) -> str:
    if precision not in PRECISIONS:
        raise ValueError(f"{where}: precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    return precision


def _check_weights(expected: Weights, given: dict[str, Any], where: str) -> None:
    """Raise ValueError for the first weight that is missing, left over, of another shape or not floating-point."""
    for name in sorted(expected.keys() | given.keys()):
        if name not in given:
            raise ValueError(f"{where}: weight {name} is missing")
        if name not in expected:
            raise ValueError(f"{where}: weight {name} is not part of the configured model")
        if expected[name].shape != given[name].shape:
            raise ValueError(f"{where}: {name} has shape {given[name].shape}, the config says {expected[name].shape}")
        if not jnp.issubdtype(given[name].dtype, jnp.floating):
            raise ValueError(f"{where}: {name} holds {given[name].dtype}, expected floating-point numbers")


def _in_transformers(config: ModelConfig) -> TypeGuard[TransformerConfig]:
    """Whether transformers knows models of this kind."""
    return isinstance(config, TransformerConfig) and config.style in hugging_face.STYLES


def save_masks(masks: Masks, directory: Path | str) -> None:
    """Write `masks.safetensors` beside a pruned model."""
    files.write_safetensors(Path(directory) / MASKS, masks)


def load_masks(directory: Path | str, weights: Weights) -> Masks:
    """The masks beside a pruned model that has these weights.

    Raises FileNotFoundError where there are none, ValueError where they do not fit the weights.
    """
    path = Path(directory) / MASKS
    masks, _ = files.read_safetensors(path, "the masks that compression.pruning.apply writes beside a pruned model")
    for name, mask in masks.items():
        if name not in weights or weights[name].shape != mask.shape or mask.dtype != bool:
            raise ValueError(
                f"{path}: the mask {name}, {mask.dtype} {mask.shape}, fits no weight of the model beside it"
            )
        if np.asarray(weights[name])[~mask].any():
            raise ValueError(f"{path}: the model beside it has weights at places that the mask {name} drops")
    return masks
