"""Model folders: what is exported is what is loaded, or it is refused; one step replaces a model by another."""

import dataclasses
import json
import os

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from icl_synth import checkpoints
from icl_synth.lstm import LSTMConfig
from icl_synth.transformer import Linear, TransformerConfig

LSTM = LSTMConfig(5, 8, 1, 4)
GPT2 = TransformerConfig(5, 8, 1, 4, 1, style="gpt2")
MODERN = TransformerConfig(5, 8, 1, 4, 1)
TOKENS = np.array([[0, 1, 4, 2]], np.int32)


def weights_of(model):
    return {name: np.asarray(value) for name, value in checkpoints.split(model)[1].items()}


def assert_same(model, other):
    assert checkpoints.split(model)[0] == checkpoints.split(other)[0]
    ours, theirs = weights_of(model), weights_of(other)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.fixture
def folder(tmp_path):
    return checkpoints.export(checkpoints.create(LSTM), tmp_path / "model", seed=3)


def rewrite(folder, change):
    """Change the arrays of a folder's weights file, as another program may; keep its metadata away."""
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")


@pytest.mark.parametrize("config", [LSTM, GPT2, MODERN], ids=["lstm", "gpt2", "modern"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_exported_is_loaded(config, dtype, tmp_path):
    model = checkpoints.create(config, 1, dtype)
    folder = checkpoints.export(model, tmp_path, note="é")
    assert_same(checkpoints.load(folder), model)
    assert checkpoints.read_config(folder) == config and checkpoints.read_card(folder) == {"note": "é"}
    assert checkpoints.load(folder, "float32").dtype == "float32"


def test_a_copy_with_bfloat16_weights_keeps_its_logits(tmp_path):
    graph, weights = checkpoints.split(checkpoints.create(LSTM, 1, "bfloat16"))
    narrow = {name: w.astype(jnp.bfloat16) if name.endswith("kernel") else w for name, w in weights.items()}
    model = checkpoints.merge(graph, narrow)
    np.testing.assert_array_equal(checkpoints.load(checkpoints.export(model, tmp_path))(TOKENS), model(TOKENS))


def test_weights_that_are_views_are_saved_as_they_read(tmp_path):
    graph, weights = checkpoints.split(checkpoints.create(LSTM, 1))
    views = {name: np.asarray(w).T.copy().T for name, w in weights.items()}
    assert not views["head.kernel"].flags.c_contiguous
    assert_same(checkpoints.load(checkpoints.export(checkpoints.merge(graph, views), tmp_path)), model_of(weights))
    mask = (np.asarray(weights["head.kernel"]) > 0).T.copy().T
    masked = {name: w * mask if name == "head.kernel" else w for name, w in weights.items()}
    checkpoints.save_masks({"head.kernel": mask}, tmp_path)
    np.testing.assert_array_equal(checkpoints.load_masks(tmp_path, masked)["head.kernel"], mask)


def model_of(weights):
    return checkpoints.merge(checkpoints.split(checkpoints.create(LSTM))[0], weights)


class Doubled(Linear):
    """A layer that a model's configuration does not tell of."""

    def __init__(self, linear):
        self.name, self.dtype, self.kernel, self.bias = linear.name, linear.dtype, linear.kernel, linear.bias

    def __call__(self, x, record=None):
        return 2 * super().__call__(x, record)


def test_a_model_that_its_weights_do_not_describe_is_refused(tmp_path):
    changes = {
        "layers of kind Doubled": lambda model: setattr(model, "head", Doubled(model.head)),
        "parts that its configuration lacks": lambda model: setattr(model.head, "dtype", "bfloat16"),
        "parts that": lambda model: setattr(model, "head", nnx.Linear(4, 5, rngs=nnx.Rngs(0))),
    }
    for message, change in changes.items():
        model = checkpoints.create(LSTM)
        change(model)
        with pytest.raises(TypeError, match=f"{message}.*export the model it was made from, keep the format's name"):
            checkpoints.export(model, tmp_path / "model")
    graph, weights = checkpoints.split(checkpoints.create(LSTM))
    for wrong, message in ((jnp.zeros((4, 5), jnp.int8), "head.kernel holds int8"), (jnp.zeros((5, 4)), "has shape")):
        with pytest.raises(ValueError, match=f"the model: .*{message}"):
            checkpoints.export(checkpoints.merge(graph, weights | {"head.kernel": wrong}), tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_floating_kinds_become_float32(dtype, folder):
    before = weights_of(checkpoints.load(folder))
    rewrite(folder, lambda arrays: {name: array.astype(dtype) for name, array in arrays.items()})
    for name, weight in weights_of(checkpoints.load(folder)).items():
        assert weight.dtype == np.float32
        np.testing.assert_array_equal(weight, before[name].astype(dtype).astype(np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays | {"head.kernel": arrays["head.kernel"].astype(np.int32)}, "head.kernel holds int32"),
        (lambda arrays: arrays | {"head.bias": arrays["head.bias"] > 0}, "head.bias holds bool"),
        (lambda arrays: arrays | {"head.kernel": arrays["head.kernel"].T.copy()}, r"head.kernel has shape \(5, 4\)"),
        (lambda arrays: arrays | {"extra": arrays["head.bias"]}, "extra is not part of the configured model"),
        (lambda arrays: {n: a for n, a in arrays.items() if n != "head.bias"}, "weight head.bias is missing"),
    ],
    ids=["integers", "booleans", "shape", "extra", "missing"],
)
def test_weights_that_do_not_fit_are_refused_by_name(change, message, folder):
    rewrite(folder, change)
    with pytest.raises(ValueError, match=f"model: .*{message}"):
        checkpoints.load(folder)


@pytest.mark.parametrize("about", [[], None, 3, {"icl_synth": "x"}, {"icl_synth": []}, {"other": {}}])
def test_a_configuration_of_another_program_is_refused(about, folder):
    (folder / "config.json").write_text(json.dumps(about))
    for read in (checkpoints.load, checkpoints.read_config, checkpoints.read_card):
        with pytest.raises(ValueError, match=r"config\.json has no icl_synth section"):
            read(folder)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("width", "4", "width must be of type int, got '4'"),
        ("depth", 1.0, "depth must be of type int, got 1.0"),
        ("depth", True, "depth must be of type int, got True"),
        ("depth", None, "depth must be of type int, got None"),
        ("depth", 0, "depth must be at least 1"),
        ("dropout", "0", "dropout must be of type float"),
        ("kind", ["lstm"], "names a model of kind"),
        ("kind", "rnn", "names a model of kind 'rnn': known are transformer, lstm"),
        ("precision", "int4", "precision must be one of float32, bfloat16, float16, got 'int4'"),
        ("heads", 2, "fields that a lstm does not know: heads"),
    ],
)
def test_a_wrong_field_is_refused_by_name(field, value, message, folder):
    config = json.loads((folder / "config.json").read_text())
    config["icl_synth"][field] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"config\.json.*{message}"):
        checkpoints.load(folder)


def test_an_unknown_style_or_precision_is_refused(tmp_path):
    checkpoints.export(checkpoints.create(MODERN), tmp_path)
    with pytest.raises(ValueError, match="precision must be one of float32, bfloat16, float16, got 'flaot32'"):
        checkpoints.load(tmp_path, "flaot32")
    config = json.loads((tmp_path / "config.json").read_text())
    for style in ("gpt3", ["gpt2"], None):
        config["icl_synth"]["style"] = style
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=r"config\.json: .*style must be one of modern, gpt2"):
            checkpoints.load(tmp_path)


def test_broken_files_are_named_and_a_byte_order_mark_is_accepted(folder):
    path = folder / "config.json"
    text = path.read_text()
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert checkpoints.read_config(folder) == LSTM
    for cut in ("", text[:-20]):
        path.write_text(cut)
        with pytest.raises(ValueError, match=r"config\.json is not valid JSON .*expected a model folder"):
            checkpoints.load(folder)
    path.write_text(text)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors is missing: expected a model folder"):
        checkpoints.load(folder)
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing: expected a model folder"):
        checkpoints.load(folder / "nowhere")


def test_a_configuration_that_was_changed_after_export_is_refused(tmp_path):
    config = dataclasses.replace(GPT2, heads=2)  # as many weights as with one head
    checkpoints.export(checkpoints.create(config), tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"heads": 2', '"heads": 1'))
    with pytest.raises(ValueError, match=r"is not the configuration that model\.safetensors was exported with"):
        checkpoints.load(tmp_path)


def test_folders_written_before_the_weights_knew_their_configuration_load(folder):
    model = checkpoints.load(folder)
    rewrite(folder, lambda arrays: arrays)
    config = json.loads((folder / "config.json").read_text())
    del config["icl_synth"]["precision"]
    (folder / "config.json").write_text(json.dumps(config))
    assert_same(checkpoints.load(folder), model)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        checkpoints.load(folder)


@pytest.mark.parametrize("step", ["1st replace", "2nd replace", "unlink"])
@pytest.mark.parametrize("other", [GPT2, LSTM], ids=["another kind", "the same kind"])
def test_an_export_that_is_killed_leaves_the_old_model_or_the_new_one(step, other, folder, monkeypatch):
    old, new = checkpoints.load(folder), checkpoints.create(other, 7)
    real, calls = os.replace, []

    def replace(source, target):
        calls.append(target)
        if len(calls) == {"1st replace": 1, "2nd replace": 2, "unlink": 0}[step]:
            raise KeyboardInterrupt
        real(source, target)

    def unlink(path, missing_ok=False):
        if path.name == "config.json":
            raise KeyboardInterrupt
        os.unlink(path) if path.exists() else None

    monkeypatch.setattr(os, "replace", replace)
    if step == "unlink":
        monkeypatch.setattr(type(folder), "unlink", unlink)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.export(new, folder, seed=4)
    monkeypatch.undo()
    expected, seed = (new, 4) if step == "2nd replace" else (old, 3)
    assert_same(checkpoints.load(folder), expected)
    assert checkpoints.read_config(folder) == expected.config and checkpoints.read_card(folder) == {"seed": seed}
    assert not list(folder.glob(".*"))


def test_masks_that_cannot_be_read_are_named(folder):
    weights = jax.tree.map(jnp.asarray, weights_of(checkpoints.load(folder)))
    with pytest.raises(FileNotFoundError, match=r"masks\.safetensors is missing: expected the masks"):
        checkpoints.load_masks(folder, weights)
    (folder / "masks.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"masks\.safetensors cannot be read"):
        checkpoints.load_masks(folder, weights)
