"""The names that transformers gives to a model of gpt2 style, so that GPT2LMHeadModel.from_pretrained reads its folder.

transformers' Conv1D kernels are [inputs, outputs], as ours are: only names differ.
"""

from typing import Any

from icl_synth.transformer import TransformerConfig

RENAMED = {
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


def weight_name(name: str) -> str:
    """transformers' name of one of our weights."""
    return "transformer." + ".".join(RENAMED.get(part, part) for part in name.split("."))


def config_fields(config: TransformerConfig) -> dict[str, Any]:
    """The fields of transformers' GPT2Config that describe the same model."""
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
