"""The transformer against itself (cache, causality), against the paper's sizes and against Hugging Face's GPT-2."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental import checkify
from safetensors.numpy import load_file

from icl_synth import checkpoints
from icl_synth.lstm import LSTM, LSTMConfig
from icl_synth.presets import preset
from icl_synth.transformer import Transformer, TransformerConfig

TINY = {
    "modern": TransformerConfig(vocab_size=11, context=24, depth=2, width=16, heads=2),
    "gpt2": TransformerConfig(11, 24, 2, 16, 2, style="gpt2", dropout=0.1),
    "llama": TransformerConfig(11, 24, 2, 16, 4, style="llama", kv_heads=2, hidden=40, tied=True, rope_base=500.0),
}
TINY_LSTM = LSTMConfig(vocab_size=11, context=24, depth=2, width=16)


def stirred(config, seed=0):
    """A model all of whose weights are random: zero-initialised ones would hide mistakes."""
    model = checkpoints.create(config, seed)
    graph, weights = checkpoints.split(model)
    keys = jax.random.split(jax.random.key(seed + 1), len(weights))
    stirred = {n: w + 0.3 * jax.random.normal(k, w.shape) for (n, w), k in zip(weights.items(), keys, strict=True)}
    return checkpoints.merge(graph, stirred)


def tokens(rows=3, length=20, seed=5):
    return jax.random.randint(jax.random.key(seed), (rows, length), 0, 11)


ALL = pytest.mark.parametrize("config", [*TINY.values(), TINY_LSTM], ids=[*TINY, "lstm"])


@ALL
@pytest.mark.parametrize("cuts", [(1,) * 20, (5, 1, 14)])
def test_extending_a_state_gives_the_full_forward(config, cuts):
    model, x = stirred(config), tokens()
    state, parts, start = model.init_state(3, 22), [], 0
    extend = jax.jit(lambda tokens, state: model.extend(tokens, state))
    for count in cuts:
        logits, state = extend(x[:, start : start + count], state)
        parts.append(logits)
        start += count
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1), model(x), atol=2e-4)
    assert state.length.tolist() == [20, 20, 20]


@pytest.mark.parametrize("style", TINY)
def test_rows_of_a_cache_may_differ_in_length_and_roll_back(style):
    model, x = stirred(TINY[style]), tokens()
    _, cache = model.extend(x[:, :10], model.init_state(3, 24))
    lengths = jnp.array([10, 4, 7])
    rolled = type(cache)(cache.keys, cache.values, lengths)
    logits, _ = model.extend(jnp.stack([x[i, n : n + 3] for i, n in enumerate(lengths)]), rolled)
    for i, n in enumerate(lengths.tolist()):
        np.testing.assert_allclose(logits[i], model(x)[i, n : n + 3], atol=2e-4)


@ALL
def test_no_position_sees_a_later_token(config):
    """Changing one token changes every logit from there on and none before."""
    model, x = stirred(config), tokens(1)
    forward = jax.jit(lambda tokens: model(tokens)[0])
    before = forward(x)
    for t in (0, 7, 19):
        changed = forward(x.at[0, t].set((x[0, t] + 1) % 11))
        assert jnp.array_equal(changed[:t], before[:t])
        assert (jnp.abs(changed[t:] - before[t:]).max(-1) > 0).all()


@pytest.mark.parametrize(
    ("name", "count"),
    [("paper-4l", 29_178_624), ("paper-12l", 85_881_600), ("paper-16l", 114_233_088), ("paper-lstm", 28_426_803)],
)
def test_paper_sizes(name, count):
    config = preset(name).model
    kind = LSTM if isinstance(config, LSTMConfig) else Transformer
    shapes = jax.eval_shape(lambda: nnx.split(kind(config, nnx.Rngs(0)))[1])
    assert sum(np.prod(x.shape, dtype=int) for x in jax.tree.leaves(shapes)) == count


@ALL
def test_record_holds_the_input_of_every_linear_layer(config):
    model, x = stirred(config), tokens()
    record = {}
    assert jnp.array_equal(model(x, record=record), model(x))
    kernels = {name.removesuffix(".kernel"): w for name, w in checkpoints.split(model)[1].items() if "kernel" in name}
    assert record.keys() == kernels.keys()
    for name, seen in record.items():
        assert seen.shape[-1] == kernels[name].shape[0], name
    last = record["head"] @ kernels["head"] if "head" in kernels else None
    if isinstance(model, Transformer) and last is not None:
        np.testing.assert_allclose(last, model(x), atol=1e-4)


def test_a_sequence_beyond_the_context_is_refused():
    with pytest.raises(ValueError, match="25 tokens is longer than the model's context 24"):
        stirred(TINY["modern"])(tokens(length=25))


@pytest.mark.parametrize(
    ("count", "lengths", "message"),
    [(5, (0, 0, 0), "5 tokens do not fit a cache with room for 4"),
     (2, (0, 3, 2), "a row of length 3 and 2 more tokens do not fit a cache with room for 4"),
     (1, (0, -1, 2), "a row of length -1 ")],
)  # fmt: skip
def test_a_row_that_outgrows_its_cache_is_refused(count, lengths, message):
    """What does not fit would be lost without a word."""
    model = stirred(TINY["modern"])
    cache = dataclasses.replace(model.init_state(3, 4), length=jnp.array(lengths))
    with pytest.raises(ValueError, match=message):
        model.extend(tokens(length=count), cache)


def test_checkify_reports_a_traced_row_that_outgrows_its_cache():
    model = stirred(TINY["modern"])
    cache = model.init_state(3, 4)
    extend = jax.jit(checkify.checkify(lambda lengths: model.extend(
        tokens(length=2), dataclasses.replace(cache, length=lengths)
    )[0]))  # fmt: skip
    error, logits = extend(jnp.array([0, 2, 1]))
    assert error.get() is None
    assert jnp.isfinite(logits).all()
    for lengths in ([0, 3, 2], [0, -1, 2]):
        assert "exceed the cache's room 4" in extend(jnp.array(lengths))[0].get()


@pytest.mark.parametrize(
    ("field", "message"),
    [({"heads": 3}, "multiple of model.heads"), ({"depth": 0}, "at least 1"),
     ({"dropout": 0.1}, "belongs to style"),
     ({"kv_heads": 2}, "model.kv_heads belongs to style"), ({"tied": True}, "model.tied belongs to style"),
     ({"style": "llama", "kv_heads": 3}, "multiple of model.kv_heads"),
     ({"style": "llama", "hidden": -1}, "at least 0"),
     ({"style": "llama", "rope_base": 0.0}, "model.rope_base must be above 0")],
)  # fmt: skip
def test_impossible_shapes_are_refused(field, message):
    with pytest.raises(ValueError, match=message):
        TransformerConfig(width=16, **field)


def test_heads_that_share_keys_and_values_are_heads_with_equal_ones():
    shared = TransformerConfig(11, 24, 2, 16, 4, style="llama", kv_heads=2)
    model, x = stirred(shared), tokens()
    weights = checkpoints.split(model)[1]
    for name in [name for name in weights if name.endswith("qkv.kernel")]:
        query, keys, values = np.split(np.asarray(weights[name]), (16, 24), axis=1)
        keys, values = (part.reshape(16, 2, 4).repeat(2, axis=1).reshape(16, 16) for part in (keys, values))
        weights[name] = jnp.concatenate([query, keys, values], axis=1)
    every = checkpoints.merge(checkpoints.abstract(dataclasses.replace(shared, kv_heads=0))[0], weights)
    np.testing.assert_allclose(every(x), model(x), atol=1e-5)


def by_hand(weights, config, x):
    """A Llama in NumPy, a token at a time and a head at a time."""

    def norm(x, gain):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_epsilon) * weights[gain]

    def turn(x):  # [T, K]: planes of the two halves of a head, turned by the position
        half = x.shape[1] // 2
        angle = np.arange(len(x))[:, None] * config.rope_base ** (-np.arange(half) / half)
        turned = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * angle)
        return np.concatenate([turned.real, turned.imag], axis=1)

    x, K, readers = weights["embedding"][x], config.head_width, config.heads // config.shared_heads
    for i in range(config.depth):
        y = norm(x, f"blocks.{i}.norm1.gain") @ weights[f"blocks.{i}.qkv.kernel"]
        heads = np.split(y, y.shape[1] // K, axis=1)
        keys, values = heads[config.heads :][: config.shared_heads], heads[config.heads + config.shared_heads :]
        read = []
        for number, query in enumerate(heads[: config.heads]):
            scores = turn(query) @ turn(keys[number // readers]).T / np.sqrt(K)
            scores = np.exp(np.where(np.tri(len(x)), scores, -np.inf))
            read.append(scores / scores.sum(1, keepdims=True) @ values[number // readers])
        x = x + np.concatenate(read, axis=1) @ weights[f"blocks.{i}.out.kernel"]
        y = norm(x, f"blocks.{i}.norm2.gain")
        gate, up = (y @ weights[f"blocks.{i}.{name}.kernel"] for name in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[f"blocks.{i}.down.kernel"]
    return norm(x, "norm.gain") @ weights["embedding"].T


def test_llama_style_is_a_llama_by_hand():
    model, x = stirred(TINY["llama"]), tokens(1)
    weights = {name: np.asarray(weight, np.float64) for name, weight in checkpoints.split(model)[1].items()}
    np.testing.assert_allclose(model(x)[0], by_hand(weights, model.config, np.asarray(x[0])), atol=2e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_llama_style_is_stored_under_hugging_faces_names(tied, tmp_path):
    """LlamaForCausalLM's names and shapes: Linear weights [out, in]; queries, keys and values apart."""
    config = dataclasses.replace(TINY["llama"], depth=1, tied=tied)
    model = stirred(config)
    checkpoints.export(model, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    shapes = {
        "embed_tokens": (11, 16), "norm": (16,), "layers.0.input_layernorm": (16,),
        "layers.0.post_attention_layernorm": (16,), "layers.0.self_attn.q_proj": (16, 16),
        "layers.0.self_attn.k_proj": (8, 16), "layers.0.self_attn.v_proj": (8, 16),
        "layers.0.self_attn.o_proj": (16, 16), "layers.0.mlp.gate_proj": (40, 16), "layers.0.mlp.up_proj": (40, 16),
        "layers.0.mlp.down_proj": (16, 40),
    }  # fmt: skip
    expected = {f"model.{name}.weight": shape for name, shape in shapes.items()}
    expected |= {} if tied else {"lm_head.weight": (11, 16)}
    assert {name: weight.shape for name, weight in stored.items()} == expected
    qkv = np.asarray(checkpoints.split(model)[1]["blocks.0.qkv.kernel"])
    np.testing.assert_array_equal(stored["model.layers.0.self_attn.k_proj.weight"], qkv[:, 16:24].T)
    described = json.loads((tmp_path / "config.json").read_text())
    assert described.items() >= {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "vocab_size": 11,
        "max_position_embeddings": 24, "hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 500.0,
        "tie_word_embeddings": tied,
    }.items()  # fmt: skip


@pytest.mark.parametrize("tied", [False, True])
def test_llama_style_is_hugging_faces_llama(tied, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model, x = stirred(dataclasses.replace(TINY["llama"], tied=tied)), tokens()
    reference = transformers.LlamaForCausalLM.from_pretrained(checkpoints.export(model, tmp_path)).eval()
    with torch.no_grad():
        theirs = reference(torch.tensor(np.asarray(x))).logits.numpy()
    np.testing.assert_allclose(model(x), theirs, atol=1e-4)


def test_dropout_needs_a_key_and_changes_with_it():
    model, x = stirred(TINY["gpt2"]), tokens()
    one, two = (model(x, key=jax.random.key(i)) for i in range(2))
    assert jnp.array_equal(model(x, key=jax.random.key(0)), one)
    assert float(jnp.abs(one - two).max()) > 0.1
    assert jnp.array_equal(model(x), model(x))


@ALL
def test_export_and_load_give_the_same_model(config, tmp_path):
    model, x = stirred(config), tokens()
    checkpoints.export(model, tmp_path / "model", seed=0)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["card"] == {"seed": 0}
    assert jnp.array_equal(checkpoints.load(tmp_path / "model")(x), model(x))


def test_loading_weights_that_do_not_fit_says_which(tmp_path):
    checkpoints.export(stirred(TINY["modern"]), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["icl_synth"]["vocab_size"] = 12
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"embedding has shape \(11, 16\), the config says \(12, 16\)"):
        checkpoints.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoints.load(tmp_path)


def test_gpt2_style_is_hugging_faces_gpt2(tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model, x = stirred(TINY["gpt2"]), tokens()
    reference = transformers.GPT2LMHeadModel.from_pretrained(checkpoints.export(model, tmp_path)).eval()
    with torch.no_grad():
        theirs = reference(torch.tensor(np.asarray(x))).logits.numpy()
    np.testing.assert_allclose(model(x), theirs, atol=1e-4)


def test_gpt2_style_is_stored_under_hugging_faces_names(tmp_path):
    """GPT2LMHeadModel's names and shapes, Conv1D weights [in, out]; its head is the embedding and not stored."""
    config = TransformerConfig(11, 24, 1, 16, 4, style="gpt2", dropout=0.1)
    names = {
        "embedding": ("wte.weight", (11, 16)),
        "positions": ("wpe.weight", (24, 16)),
        "blocks.0.norm1.gain": ("h.0.ln_1.weight", (16,)),
        "blocks.0.norm1.bias": ("h.0.ln_1.bias", (16,)),
        "blocks.0.qkv.kernel": ("h.0.attn.c_attn.weight", (16, 48)),
        "blocks.0.qkv.bias": ("h.0.attn.c_attn.bias", (48,)),
        "blocks.0.out.kernel": ("h.0.attn.c_proj.weight", (16, 16)),
        "blocks.0.out.bias": ("h.0.attn.c_proj.bias", (16,)),
        "blocks.0.norm2.gain": ("h.0.ln_2.weight", (16,)),
        "blocks.0.norm2.bias": ("h.0.ln_2.bias", (16,)),
        "blocks.0.up.kernel": ("h.0.mlp.c_fc.weight", (16, 64)),
        "blocks.0.up.bias": ("h.0.mlp.c_fc.bias", (64,)),
        "blocks.0.down.kernel": ("h.0.mlp.c_proj.weight", (64, 16)),
        "blocks.0.down.bias": ("h.0.mlp.c_proj.bias", (16,)),
        "norm.gain": ("ln_f.weight", (16,)),
        "norm.bias": ("ln_f.bias", (16,)),
    }
    graph, weights = checkpoints.split(nnx.eval_shape(lambda: checkpoints.create(config)))
    rng = np.random.default_rng(0)
    weights = {name: jnp.asarray(rng.normal(size=w.shape), jnp.float32) for name, w in weights.items()}
    checkpoints.export(checkpoints.merge(graph, weights), tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert {name: w.shape for name, w in stored.items()} == {f"transformer.{n}": shape for n, shape in names.values()}
    for ours, (theirs, _) in names.items():
        np.testing.assert_array_equal(stored[f"transformer.{theirs}"], weights[ours], err_msg=ours)
    described = json.loads((tmp_path / "config.json").read_text())
    assert described.items() >= {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new",
        "vocab_size": 11, "n_positions": 24, "n_embd": 16, "n_layer": 1, "n_head": 4, "layer_norm_epsilon": 1e-5,
        "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1, "tie_word_embeddings": True,
    }.items()  # fmt: skip
