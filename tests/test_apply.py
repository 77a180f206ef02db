"""Calibration and the walk through a model: Hessians by hand, the order of blocks, and a killed run that goes on."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compression.apply import main
from compression.pruning import packing
from compression.pruning.apply import Pruning, prune_layer, prune_model, size_on_disk
from compression.pruning.calibrate import calibrate, embed, run
from compression.pruning.folder import Folder, LayerReport, PrunedBlock
from compression.pruning.sparsegpt import sparsegpt
from icl_synth import checkpoints
from tests.test_transformer import TINY, TINY_LSTM, stirred

TOKENS = np.asarray(jax.random.randint(jax.random.key(0), (11, 20), 0, 11))
MODELS = pytest.mark.parametrize("config", [*TINY.values(), TINY_LSTM], ids=[*TINY, "lstm"])


@MODELS
def test_hessians_and_stages_are_those_of_the_whole_model(config):
    model = stirred(config)
    record = {}
    model(TOKENS, record=record)
    hidden = embed(model, TOKENS)
    for index in range(config.depth):
        for name, hessian in calibrate(model, index, hidden).items():
            rows = np.asarray(record[name], np.float64).reshape(-1, hessian.shape[0])
            np.testing.assert_allclose(hessian, 2 / len(TOKENS) * rows.T @ rows, rtol=2e-4, atol=2e-3)
        hidden = run(model, index, hidden)
    assert {name for name in record if name != "head"} == {
        name.removesuffix(".kernel")
        for name in checkpoints.split(model)[1]
        if name.startswith(("blocks", "layers")) and name.endswith("kernel")
    }


@MODELS
def test_each_block_is_calibrated_on_pruned_predecessors(config):
    model = stirred(config)
    pruned = prune_model(model, TOKENS, Pruning(pattern=(2, 4)))
    # the second block's layers, by hand: inputs from a model whose first block is already pruned
    graph, weights = checkpoints.split(model)
    after = checkpoints.split(pruned.model)[1]
    first = {name: after[name] for name in after if ".0." in name}
    record = {}
    checkpoints.merge(graph, weights | first)(TOKENS, record=record)
    for layer in pruned.report:
        if ".1." in layer.name:
            rows = np.asarray(record[layer.name]).reshape(-1, layer.inputs)
            expected = sparsegpt(weights[f"{layer.name}.kernel"].T, rows.T @ rows, pattern=(2, 4))
            same = np.asarray(expected.mask).T == pruned.masks[f"{layer.name}.kernel"]
            assert same.mean() > 0.99  # sums in another order may turn a near tie
    for name, mask in pruned.masks.items():
        assert not np.asarray(after[name])[~mask].any()
        assert mask.mean() == 0.5
    assert {layer.name + ".kernel" for layer in pruned.report} == set(pruned.masks)


@pytest.mark.parametrize("method", ["magnitude", "wanda", "ria", "alps"])
def test_every_method_prunes_the_first_blocks_only(method):
    pruned = prune_model(stirred(TINY["modern"]), TOKENS, Pruning(method=method, pattern=(1, 2), first_blocks=1))
    assert all(".0." in name for name in pruned.masks)
    assert all(layer.sparsity == 0.5 and 0 < layer.error < 1 for layer in pruned.report)


def test_saved_model_loads_with_its_masks_and_packs(tmp_path):
    pruned = prune_model(stirred(TINY["modern"]), TOKENS, Pruning(pattern=(2, 4)), tmp_path)
    loaded = checkpoints.split(checkpoints.load(tmp_path))[1]
    for name, weight in checkpoints.split(pruned.model)[1].items():
        np.testing.assert_array_equal(loaded[name], weight)
    dense, packed = size_on_disk(pruned, tmp_path)
    assert dense == sum(mask.size * 4 for mask in pruned.masks.values()) and packed < dense
    for name, layer in packing.load(tmp_path / "packed.safetensors").items():
        np.testing.assert_array_equal(packing.unpack(layer)[0].T, loaded[name])
        np.testing.assert_array_equal(packing.unpack(layer)[1].T, pruned.masks[name])
    with pytest.raises(ValueError, match="another pruning"):
        prune_model(stirred(TINY["modern"]), TOKENS, Pruning(pattern=(1, 2)), tmp_path)


def test_a_finished_run_is_of_its_own_model_documents_and_precision(tmp_path):
    graph, weights = checkpoints.split(checkpoints.create(TINY["modern"], dtype="bfloat16"))
    model, how = checkpoints.merge(graph, weights), Pruning("magnitude")
    first = prune_model(model, TOKENS, how, tmp_path).model
    again = prune_model(model, TOKENS.astype(np.int64), how, tmp_path).model
    assert again.dtype == "bfloat16"
    np.testing.assert_array_equal(first(TOKENS), again(TOKENS))
    shorter = checkpoints.merge(
        checkpoints.split(checkpoints.create(dataclasses.replace(TINY["modern"], context=20)))[0], weights
    )
    for other, tokens in (
        (shorter, TOKENS),
        (checkpoints.create(TINY["modern"]), TOKENS),
        (model, TOKENS.reshape(22, 10)),
    ):
        with pytest.raises(ValueError, match=r"another pruning .model_and_documents: "):
            prune_model(other, tokens, how, tmp_path)


@pytest.mark.slow
def test_killed_and_repeated_it_ends_with_the_same_bits(tmp_path):
    checkpoints.export(stirred(dataclasses.replace(TINY["modern"], vocab_size=50)), tmp_path / "model")
    arguments = ["--model", str(tmp_path / "model"), "--documents", "8", "--pattern", "2", "4"]
    command = [sys.executable, "-m", "compression.apply", *arguments, "--out"]
    process = subprocess.Popen([*command, str(tmp_path / "killed")], cwd=Path(__file__).parents[1])
    while not (tmp_path / "killed" / "block-0.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    main([*arguments, "--out", str(tmp_path / "killed")])
    main([*arguments, "--out", str(tmp_path / "whole")])
    for file in ("model.safetensors", "masks.safetensors"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    report = json.loads((tmp_path / "killed" / "report.json").read_text())
    assert len(report) == 8 and all(layer["sparsity"] == 0.5 for layer in report)


def test_plain_errors(tmp_path):
    model = stirred(TINY["modern"])
    with pytest.raises(ValueError, match="the model has 2 blocks"):
        prune_model(model, TOKENS, Pruning(first_blocks=3))
    with pytest.raises(ValueError, match="model's context is 24"):
        prune_model(model, np.zeros((2, 30), np.int32), Pruning())
    for tokens in (TOKENS + 1, TOKENS - 1):
        with pytest.raises(ValueError, match=r"tokens must lie in 0\.\.10"):
            embed(model, tokens)
    with pytest.raises(ValueError, match="pattern 3:5 needs inputs divisible by 5, got a layer of"):
        prune_model(model, TOKENS, Pruning(pattern=(3, 5)), tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    for change, message in (
        ({"method": "wanda", "bits": 4}, "bits belongs to method sparsegpt"),
        ({"bits": 9}, "bits must be 2 to 8"),
        ({"sparsity": 1.5}, "below 1, got 1.5"),
        ({"pattern": (4, 2)}, "keeps n of every m"),
        ({"mask_block_size": 0}, "mask_block_size must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Pruning(**change)
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty and holds no pruning of ours"):
        prune_model(model, TOKENS, Pruning(), tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "mine"


def test_a_block_of_any_memory_layout_comes_back(tmp_path):
    folder = Folder(tmp_path, {"method": "none"}, "float32")
    weight = np.arange(12.0, dtype=np.float32).reshape(3, 4)
    block = PrunedBlock(
        {"layer": weight.T}, {"layer": weight.T[:, ::-1] > 5}, [LayerReport("layer", 3, 4, 0.1, 0.5, None, 1.0)]
    )
    folder.write_block(0, block)
    back = folder.read_block(0)
    np.testing.assert_array_equal(back.weights["layer"], block.weights["layer"])
    np.testing.assert_array_equal(back.masks["layer"], block.masks["layer"])
    assert back.report == block.report
    assert folder.read_block(1) is None


def test_a_folder_that_was_damaged_is_named(tmp_path):
    """Each of its files, emptied, cut or filled with something else, with the file's name and a way out."""
    model, how = stirred(TINY["modern"]), Pruning("magnitude", first_blocks=1)
    prune_model(model, TOKENS, how, tmp_path)
    unfinished = tmp_path / "block-0.safetensors"
    for file, texts in (
        (tmp_path / "settings.json", ["", "{", "[]", "null", "\ufeff{"]),
        (tmp_path / "report.json", ["", "[", "null", "[{}]", '[{"name": 1}]', "{}x"]),
        (tmp_path / "masks.safetensors", ["", "{}"]),
        (unfinished, ["", "{}"]),
    ):
        kept = file.read_bytes() if file.exists() else None
        if file == unfinished:
            (tmp_path / "report.json").unlink()
        for text in texts:
            file.write_text(text, encoding="utf-8")
            with pytest.raises(ValueError, match=f"{file.name}.*(delete the folder|masks that)"):
                prune_model(model, TOKENS, how, tmp_path)
        if kept is not None:
            file.write_bytes(kept)
    unfinished.unlink()
    (tmp_path / "settings.json").write_text("\ufeff" + (tmp_path / "settings.json").read_text(), encoding="utf-8")
    prune_model(model, TOKENS, how, tmp_path)
    assert (tmp_path / "report.json").exists() and not list(tmp_path.glob("block*"))


def test_the_command_says_in_a_line_what_is_wrong(tmp_path):
    whole = checkpoints.export(
        checkpoints.create(dataclasses.replace(TINY["modern"], vocab_size=50)), tmp_path / "model"
    )
    broken, other = tmp_path / "broken", tmp_path / "other"
    checkpoints.export(stirred(TINY["modern"]), other)
    broken.mkdir()
    (broken / "config.json").write_text("[]")
    for arguments, message in (
        (["--model", tmp_path / "nowhere"], "nowhere/config.json is missing"),
        (["--model", broken], "broken/config.json"),
        (["--model", other], "the model has 11 tokens: give --vocab-size"),
        (["--model", whole, "--seed", 2**64], "seed must lie in"),
        (["--model", whole, "--documents", 0], "num_documents must be at least 1"),
        (["--model", whole, "--first-blocks", 3], "the model has 2 blocks"),
        (["--model", whole, "--pattern", "3", "5"], "needs inputs divisible by 5"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main([*map(str, arguments), "--out", str(tmp_path / "out")])
        assert str(stopped.value).startswith("error: ") and message in str(stopped.value)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["magnitude", "wanda", "ria", "alps", "sparsegpt"])
def test_two_of_four_stay_even_where_weights_are_zero_already(method):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((8, 16)).astype(np.float32)
    weight[:, :3] = 0
    x = rng.standard_normal((16, 200))
    pruned, mask, _ = prune_layer(
        jnp.asarray(weight), jnp.asarray(x @ x.T, jnp.float32), Pruning(method, pattern=(2, 4))
    )
    assert (np.asarray(mask).reshape(8, 4, 4).sum(-1) == 2).all()
    assert not np.asarray(pruned)[~np.asarray(mask)].any()
