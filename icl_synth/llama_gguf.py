"""GGUF files of Llama-architecture models, as llama.cpp writes them: configuration, weights in float32, tokenizer.

Weights of 4 or 8 bits are de-quantised, so that a model here is what those bits stand for. llama.cpp stores queries and
keys with a rotary plane's two axes side by side; ours lie in the two halves of a head, so their order is turned back.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from icl_synth.transformer import TransformerConfig

TYPES = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0")
NEEDED = "GGUF files are read by the packages gguf and tokenizers: run make language, or pip install gguf tokenizers"
PREFIXES = ("general.", "llama.")
SPLITS = ("gpt-2", "smollm")
CONTROL = 3  # of token_type: marks such as the end of a text, which no characters make
LAYERS = {"attn_output": "out", "ffn_gate": "gate", "ffn_up": "up", "ffn_down": "down"}
NORMS = {"attn_norm": "norm1", "ffn_norm": "norm2"}


def read(path: Path | str) -> tuple[TransformerConfig, dict[str, Float[ndarray, "..."]]]:
    """The configuration that a file's metadata give, and its weights by our names.

    Raises FileNotFoundError where there is no file, ImportError without the package gguf, and ValueError, by the file's
    name, for a damaged or truncated file, another architecture, metadata or tensors that are missing or of another
    shape, and tensors of a type or a kind that is not supported.
    """
    fields, tensors = _open(Path(path))
    config = _config(fields, set(tensors), f"{path}")
    weights = {}
    for name, parts in _names(config).items():
        arrays = [_take(tensors, part, f"{path}") for part in parts]
        if len(parts) == 3:  # queries, keys and values are one product here
            heads = (config.heads, config.shared_heads)
            arrays[:2] = [_in_halves(array, number) for array, number in zip(arrays[:2], heads, strict=True)]
        array = np.concatenate(arrays)
        weights[name] = np.ascontiguousarray(array.T) if name.endswith(".kernel") else array
    if tensors:
        raise ValueError(f"{path} has tensors that no Llama of ours has: {', '.join(sorted(tensors)[:3])}")
    return config, weights


def tokenizer(path: Path | str) -> Any:
    """The `tokenizers.Tokenizer` that a file holds: byte-level BPE, split as transformers does with this file.

    SmolLM2's own tokenizer also sets digits apart before it splits. That differs only where a digit follows two or more
    white spaces, and for numerals of other scripts. Raises the errors of `read`, and ValueError for a tokenizer of
    another kind.
    """
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    except ImportError as error:
        raise ImportError(NEEDED) from error
    kept = "tokenizer.ggml."
    fields = {name.removeprefix(kept): value for name, value in _open(Path(path), (kept,))[0].items()}
    kind, split = fields.get("model"), fields.get("pre", SPLITS[0])
    if kind != "gpt2" or split not in SPLITS or "merges" not in fields:
        raise ValueError(
            f"{path} has a tokenizer of kind {kind!r}, split {split!r}: supported is byte-level BPE (gpt2), split as "
            f"{' or '.join(SPLITS)}"
        )
    vocabulary = {token: number for number, token in enumerate(fields["tokens"])}
    merges = [tuple(merge.split(" ", 1)) for merge in fields["merges"]]
    made = Tokenizer(models.BPE(vocabulary, merges))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    kinds = fields.get("token_type", [])
    made.add_special_tokens([token for token, kind in zip(fields["tokens"], kinds, strict=False) if kind == CONTROL])
    return made


def _open(path: Path, prefixes: tuple[str, ...] = PREFIXES) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metadata whose names begin so, and the tensors of a file, by name."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ImportError(NEEDED) from error
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give a GGUF file of a Llama-architecture model")
    try:
        reader = GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items() if name.startswith(prefixes)}
    except (ValueError, IndexError, KeyError, UnicodeDecodeError, OverflowError) as error:
        raise ValueError(f"{path} is no GGUF file, or a damaged or truncated one ({error})") from error
    return fields, {tensor.name: tensor for tensor in reader.tensors}


def _config(fields: dict[str, Any], tensors: set[str], where: str) -> TransformerConfig:
    architecture = fields.get("general.architecture")
    if architecture != "llama":
        raise ValueError(f"{where} holds a model of architecture {architecture!r}: only llama is supported")

    def field(name: str, default: Any = None) -> Any:
        value = fields.get(f"llama.{name}", default)
        if value is None:
            raise ValueError(f"{where} lacks the metadata llama.{name}")
        return value

    if (scaling := fields.get("llama.rope.scaling.type", "none")) != "none":
        raise ValueError(f"{where} scales its rotary positions by {scaling!r}: that is not supported")
    width, heads = field("embedding_length"), field("attention.head_count")
    if field("rope.dimension_count", width // heads) != width // heads:
        raise ValueError(f"{where} turns only a part of each head: that is not supported")
    return TransformerConfig(
        vocab_size=field("vocab_size"),
        context=field("context_length"),
        depth=field("block_count"),
        width=width,
        heads=heads,
        style="llama",
        kv_heads=field("attention.head_count_kv", heads),
        hidden=field("feed_forward_length"),
        tied="output.weight" not in tensors,
        rope_base=field("rope.freq_base", 1e4),
        norm_epsilon=field("attention.layer_norm_rms_epsilon"),
    )


def _names(config: TransformerConfig) -> dict[str, tuple[str, ...]]:
    """The file's tensors behind each weight of ours."""
    names: dict[str, tuple[str, ...]] = {"embedding": ("token_embd.weight",), "norm.gain": ("output_norm.weight",)}
    if not config.tied:
        names["head.kernel"] = ("output.weight",)
    for index in range(config.depth):
        theirs, ours = f"blk.{index}.", f"blocks.{index}."
        names[f"{ours}qkv.kernel"] = tuple(f"{theirs}attn_{part}.weight" for part in "qkv")
        names |= {f"{ours}{layer}.kernel": (f"{theirs}{name}.weight",) for name, layer in LAYERS.items()}
        names |= {f"{ours}{norm}.gain": (f"{theirs}{name}.weight",) for name, norm in NORMS.items()}
    return names


def _take(tensors: dict[str, Any], name: str, where: str) -> Float[ndarray, "..."]:
    """A tensor in float32, outputs first; it is taken out of the dictionary."""
    from gguf.quants import dequantize

    if name not in tensors:
        raise ValueError(f"{where} lacks the tensor {name}")
    tensor = tensors.pop(name)
    if tensor.tensor_type.name not in TYPES:
        raise ValueError(f"{where}: {name} is of type {tensor.tensor_type.name}; supported are {', '.join(TYPES)}")
    return dequantize(tensor.data, tensor.tensor_type).astype(np.float32)


def _in_halves(weight: Float[ndarray, "O I"], heads: int) -> Float[ndarray, "O I"]:
    """Rows of queries or keys in our order: the first axes of all planes of a head, then the second ones."""
    inputs = weight.shape[1]
    return weight.reshape(heads, -1, 2, inputs).swapaxes(1, 2).reshape(-1, inputs)
