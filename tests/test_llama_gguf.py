"""GGUF files that these tests write: every supported type, turned heads, and what is refused; SmolLM2 where it is."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compression import apply
from icl_synth import checkpoints, language, llama_gguf, pretrained
from tests.gguf_files import CONFIG, TOKENS, write, write_language
from tests.test_transformer import stirred


@pytest.mark.parametrize("tied", [False, True])
def test_a_written_model_comes_back_to_the_bit(tied, tmp_path):
    model = stirred(dataclasses.replace(CONFIG, tied=tied))
    again = checkpoints.load_gguf(write(tmp_path / "model.gguf", model))
    assert again.config == dataclasses.replace(model.config, norm_epsilon=again.config.norm_epsilon)
    assert np.float32(again.config.norm_epsilon) == np.float32(model.config.norm_epsilon)
    ours, theirs = (checkpoints.split(one)[1] for one in (model, again))
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(("kind", "bits"), [("F16", 11), ("BF16", 8), ("Q8_0", 7), ("Q4_0", 3), ("Q4_1", 4)])
def test_every_supported_type_is_what_its_bits_stand_for(kind, bits, tmp_path):
    """De-quantised by hand: 16 bits by NumPy and JAX, blocks of 32 by their steps."""
    model = stirred(CONFIG)
    found = checkpoints.split(checkpoints.load_gguf(write(tmp_path / "model.gguf", model, kind)))[1]
    for name, weight in checkpoints.split(model)[1].items():
        blocks, read = (np.asarray(w).T if name.endswith("kernel") else np.asarray(w) for w in (weight, found[name]))
        if weight.ndim == 1:
            assert np.array_equal(read, blocks)
        elif kind in ("F16", "BF16"):
            dtype = {"F16": np.float16, "BF16": jnp.bfloat16}[kind]
            assert np.array_equal(read, blocks.astype(dtype).astype(np.float32))
        else:
            blocks, read = (x.reshape(-1, 32) for x in (blocks, read))
            size = np.ptp(blocks, axis=1) if kind == "Q4_1" else np.abs(blocks).max(1)
            step = size / (2**bits - 1 if kind != "Q4_0" else 8)
            # half a step, and the rounding of steps to 16 bits; codes of Q4_0 end a step early on one side
            most = {"Q8_0": 0.5, "Q4_1": 0.5, "Q4_0": 1.0}[kind] * step + 2.0**-10 * np.abs(blocks).max(1)
            assert (np.abs(read - blocks).max(1) <= most).all()
            assert (np.abs(read - blocks).max(1) > 0.2 * step).mean() > 0.9


def test_a_model_of_a_file_extends_its_cache_as_it_reads_whole_texts(tmp_path):
    model = checkpoints.load_gguf(write(tmp_path / "model.gguf", stirred(CONFIG), "Q8_0"))
    x = jax.random.randint(jax.random.key(0), (2, 20), 0, 64)
    _, cache = model.extend(x[:, :13], model.init_state(2, 20))
    logits, _ = model.extend(x[:, 13:], cache)
    np.testing.assert_allclose(logits, model(x)[:, 13:], atol=2e-4)
    checkpoints.export(model, tmp_path / "ours")
    assert jnp.array_equal(checkpoints.load(tmp_path / "ours")(x), model(x))


def without(name):
    return lambda found: {key: value for key, value in found.items() if key != name}


@pytest.mark.parametrize(
    ("how", "message"),
    [({"architecture": "qwen2"}, "architecture 'qwen2': only llama is supported"),
     ({"change": without("blk.1.ffn_up.weight")}, "lacks the tensor blk.1.ffn_up.weight"),
     ({"change": lambda found: found | {"rope_freqs.weight": np.ones(8, "f")}}, "no Llama of ours has: rope_freqs"),
     ({"feed_forward_length": None}, "lacks the metadata llama.feed_forward_length"),
     ({"rope.scaling.type": "yarn"}, "scales its rotary positions by 'yarn'"),
     ({"rope.dimension_count": 8}, "turns only a part of each head"),
     ({"kind": "Q5_0"}, "is of type Q5_0; supported are F32, F16"),
     ({"feed_forward_length": 95}, "down.kernel has shape .96, 64., the config says .95, 64.")],
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(how, message, tmp_path):
    path = write(tmp_path / "model.gguf", stirred(CONFIG), **how)
    with pytest.raises(ValueError, match=message):
        checkpoints.load_gguf(path)


def test_a_damaged_or_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing.gguf: no such file"):
        checkpoints.load_gguf(tmp_path / "nothing.gguf")
    whole = write(tmp_path / "model.gguf", stirred(CONFIG)).read_bytes()
    for size in (0, 3, 100, len(whole) // 2, len(whole) - 10):
        (tmp_path / "cut.gguf").write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"cut.gguf is no GGUF file, or a damaged or truncated one"):
            llama_gguf.read(tmp_path / "cut.gguf")
    (tmp_path / "other.gguf").write_bytes(b"not a model" * 100)
    with pytest.raises(ValueError, match=r"other.gguf is no GGUF file"):
        llama_gguf.read(tmp_path / "other.gguf")


def test_a_model_of_a_file_is_pruned_calibrated_on_text(tmp_path, capsys):
    """From the command: the tokenizer of the file cuts works, blocks are pruned, and the folder loads again."""
    pytest.importorskip("tokenizers")
    path = tmp_path / "model.gguf"
    write_language(path, tmp_path / "text")
    read = language.load(path)
    assert [TOKENS[n] for n in read.encode("to be OR")] == ["to", "Ġbe", "Ġ", "O", "R"]
    assert read.decode(read.encode("to be OR")) == "to be OR"
    apply.main(["--model", str(path), "--text", str(tmp_path / "text"), "--documents", "4", "--pattern", "2", "4",
                "--out", str(tmp_path / "out")])  # fmt: skip
    assert "packed" in capsys.readouterr().out
    masks = checkpoints.load_masks(tmp_path / "out", checkpoints.split(checkpoints.load(tmp_path / "out"))[1])
    assert len(masks) == 2 * 5 and all(mask.mean() == 0.5 for mask in masks.values())
    with pytest.raises(SystemExit, match="a language model is calibrated on text"):
        apply.main(["--model", str(path), "--out", str(tmp_path / "other")])
    with pytest.raises(ValueError, match="learnt no characters"):
        language.load(pretrained.HERE / "draft")


def test_the_python_of_the_guide_runs(tmp_path, monkeypatch):
    pytest.importorskip("tokenizers")
    write_language(tmp_path / "model.gguf", tmp_path / "text")
    monkeypatch.setattr(language, "smollm2", lambda: tmp_path / "model.gguf")
    names = {}
    exec((ROOT / "docs" / "own_model.md").read_text().split("```python\n")[1].split("```")[0], names)
    assert names["text"].startswith("The rain in Spain") and names["nats"] > 0
    assert names["run"].tokens.shape[1] == names["prompt"].shape[1] + 20


try:
    SMOLLM2 = language.smollm2()
except FileNotFoundError:
    SMOLLM2 = None
ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "goldens" / "smollm2.npz"  # logits and tokens of transformers 5, from the same file


@pytest.mark.slow
@pytest.mark.skipif(SMOLLM2 is None, reason="SmolLM2 is not there: make language")
def test_smollm2_is_what_transformers_reads_from_the_same_file():
    pytest.importorskip("tokenizers")
    golden, smollm2 = np.load(GOLDEN), language.load(SMOLLM2)
    ends = np.cumsum(golden["line_lengths"])
    for line, tokens in zip(json.loads(str(golden["lines"])), np.split(golden["line_tokens"], ends[:-1]), strict=True):
        assert smollm2.encode(line).tolist() == tokens.tolist(), line
    logits = np.asarray(jax.jit(smollm2.model.__call__)(golden["tokens"][None]))[0]
    np.testing.assert_allclose(logits[golden["positions"]][:, golden["entries"]], golden["logits"], atol=1e-3)
    assert np.array_equal(logits.argmax(-1), golden["likeliest"])
