"""Models under the names that transformers gives them, so that its GPT-2 and Llama read our folders.

GPT-2's Conv1D kernels are [inputs, outputs], as ours are: only names differ. Llama's Linear kernels are transposed, and
its queries, keys and values are weights of their own.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from icl_synth.transformer import TransformerConfig

GPT2 = {
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
LLAMA = {
    "embedding": "model.embed_tokens.weight",
    "norm": "model.norm",
    "head": "lm_head",
    "norm1": "input_layernorm",
    "norm2": "post_attention_layernorm",
    "qkv": "self_attn.qkv",
    "out": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "blocks": "model.layers",
    "kernel": "weight",
    "gain": "weight",
}
STYLES = ("gpt2", "llama")


def names(name: str, config: TransformerConfig) -> tuple[str, ...]:
    """transformers' names of the parts of one of our weights."""
    if config.style == "gpt2":
        return ("transformer." + ".".join(GPT2.get(part, part) for part in name.split(".")),)
    theirs = ".".join(LLAMA.get(part, part) for part in name.split("."))
    return tuple(theirs.replace(".qkv.", f".{part}_proj.") for part in "qkv") if ".qkv." in theirs else (theirs,)


def store(weights: Mapping[str, Any], config: TransformerConfig) -> dict[str, np.ndarray]:
    """Our weights as transformers stores them."""
    stored: dict[str, np.ndarray] = {}
    for name, weight in weights.items():
        parts, whole = names(name, config), np.asarray(weight)
        whole = whole.T if _transposed(name, config) else whole
        stored |= zip(parts, np.split(whole, _borders(config)) if len(parts) > 1 else [whole], strict=True)
    return stored


def restore(stored: Mapping[str, np.ndarray], config: TransformerConfig, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Our weights of the wanted names from what transformers stores, and what is left over under the names it has.

    A weight of which a part is missing is left out.
    """
    left, weights = dict(stored), {}
    for name in wanted:
        parts = names(name, config)
        if all(part in left for part in parts):
            whole = np.concatenate([left.pop(part) for part in parts]) if len(parts) > 1 else left.pop(parts[0])
            weights[name] = whole.T if _transposed(name, config) else whole
    return weights | left


def _transposed(name: str, config: TransformerConfig) -> bool:
    return config.style == "llama" and name.endswith(".kernel")


def _borders(config: TransformerConfig) -> tuple[int, int]:
    """Where keys and values begin among the outputs of queries, keys and values."""
    return config.width, config.width + config.shared_heads * config.head_width


def config_fields(config: TransformerConfig) -> dict[str, Any]:
    """The fields of transformers' GPT2Config or LlamaConfig that describe the same model."""
    if config.style == "gpt2":
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
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context,
        "hidden_size": config.width,
        "intermediate_size": config.inner,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.shared_heads,
        "head_dim": config.head_width,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_base},
        "tie_word_embeddings": config.tied,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": None,
        "eos_token_id": None,
    }
