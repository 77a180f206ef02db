"""GGUF files that tests write: models of Llama architecture in every supported type, with a tokenizer if asked."""

from pathlib import Path

import numpy as np
import pytest

from icl_synth import checkpoints
from icl_synth.transformer import TransformerConfig
from tests.test_transformer import stirred

gguf = pytest.importorskip("gguf", reason="the package gguf is not installed: make language")

CONFIG = TransformerConfig(
    vocab_size=100, context=160, depth=2, width=64, heads=4, style="llama", kv_heads=2, hidden=96, rope_base=700.0
)
LAYERS = {"out": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}
NORMS = {"norm1": "attn_norm", "norm2": "ffn_norm"}


def turned(weight, heads):
    """As llama.cpp's converter does: rows of a rotary plane beside each other."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def tensors(model):
    """The tensors of a file for a model, outputs first."""
    config, weights = model.config, {n: np.asarray(w).T for n, w in checkpoints.split(model)[1].items()}
    found = {"token_embd.weight": weights["embedding"].T, "output_norm.weight": weights["norm.gain"]}
    if not config.tied:
        found["output.weight"] = weights["head.kernel"]
    for i in range(config.depth):
        size = config.shared_heads * config.head_width
        query, key, value = np.split(weights[f"blocks.{i}.qkv.kernel"], (config.width, config.width + size))
        attention = {"q": turned(query, config.heads), "k": turned(key, config.shared_heads), "v": value}
        found |= {f"blk.{i}.attn_{name}.weight": part for name, part in attention.items()}
        found |= {f"blk.{i}.{theirs}.weight": weights[f"blocks.{i}.{ours}.kernel"] for ours, theirs in LAYERS.items()}
        found |= {f"blk.{i}.{theirs}.weight": weights[f"blocks.{i}.{ours}.gain"] for ours, theirs in NORMS.items()}
    return found


def write(path, model, kind="F32", change=lambda found: found, architecture="llama", strings=(), lists=(), **metadata):
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    known = {
        "vocab_size": config.vocab_size, "context_length": config.context, "embedding_length": config.width,
        "block_count": config.depth, "feed_forward_length": config.hidden, "attention.head_count": config.heads,
        "attention.head_count_kv": config.shared_heads, "rope.freq_base": config.rope_base,
        "attention.layer_norm_rms_epsilon": config.norm_epsilon,
    } | metadata  # fmt: skip
    for name, value in known.items():
        if value is not None:
            add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
            add(f"{architecture}.{name}", value)
    for add, values in ((writer.add_string, strings), (writer.add_array, lists)):
        for name, value in values:
            add(f"tokenizer.ggml.{name}", value)
    for name, array in change(tensors(model)).items():
        dtype = gguf.GGMLQuantizationType[kind if array.ndim > 1 else "F32"]
        writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(array), dtype), raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# printable ASCII, the space, the end of a line, and a few words
TOKENS = [*(chr(n) for n in range(33, 127)), "Ġ", "Ċ", "to", "be", "Ġb", "Ġbe"]
TOKENIZER = {
    "strings": (("model", "gpt2"), ("pre", "smollm")),
    "lists": (("tokens", TOKENS), ("merges", ["t o", "b e", "Ġ be"])),
}


def write_language(model=Path("toy.gguf"), works=Path("toy-text")):
    """A language model with its tokenizer, and two works for it."""
    write(model, stirred(CONFIG), **TOKENIZER)
    works.mkdir(exist_ok=True)
    for name in "ab":
        (works / name).write_text("TO be OR NOT TO be " * 400)
