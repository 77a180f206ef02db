"""Fine-tuning: a run that begins with a saved model, and keeps its pruned weights at zero."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compression.pruning.apply import Pruning, prune_model
from icl_synth import checkpoints, pretrained, train
from icl_synth.run_folder import TrainingError
from icl_synth.start import Start, read_start
from icl_synth.step import initial_state, make_optimizer
from icl_synth.training_data import validation_documents
from tests.test_train import TINY, one_device

ROOT = Path(__file__).parents[1]
TUNED = dataclasses.replace(TINY, seed=1)


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pruned")
    documents, _ = validation_documents(TINY)
    dense = train.train(dataclasses.replace(TINY, steps=200, evaluate_every=200), folder / "run", one_device())
    prune_model(dense, documents[:, :-1], Pruning(method="magnitude", sparsity=0.7), folder / "pruned")
    return folder / "pruned"


def last_line(out):
    return json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])


def test_masks_are_kept_and_the_loss_comes_back(pruned, tmp_path):
    start = checkpoints.split(checkpoints.load(pruned))[1]
    masks = checkpoints.load_masks(pruned, start)
    train.train(TUNED, tmp_path / "kept", one_device(), Start(pruned, keep_masks=True))
    after = checkpoints.split(checkpoints.load(tmp_path / "kept" / "model"))[1]
    for name, mask in masks.items():
        assert not np.asarray(after[name])[~mask].any()
        assert (np.asarray(after[name]) != start[name])[mask].mean() > 0.9
    again = checkpoints.load_masks(tmp_path / "kept" / "model", after)
    assert all(np.array_equal(again[name], masks[name]) for name in masks)

    train.train(TUNED, tmp_path / "free", one_device(), Start(pruned))
    free = checkpoints.split(checkpoints.load(tmp_path / "free" / "model"))[1]
    assert any(np.asarray(free[name])[~mask].any() for name, mask in masks.items())

    train.train(TUNED, tmp_path / "fresh", one_device())
    losses = {name: last_line(tmp_path / name)["loss"] for name in ("kept", "free", "fresh")}
    assert losses["free"] < losses["kept"] < losses["fresh"]


def test_what_does_not_fit_is_refused(pruned, tmp_path):
    with pytest.raises(TrainingError, match="--keep-masks needs --start"):
        train.train(TUNED, tmp_path / "a", one_device(), Start(keep_masks=True))
    with pytest.raises(TrainingError, match="the run is configured for"):
        wider = dataclasses.replace(TUNED, model=dataclasses.replace(TUNED.model, width=32))
        train.train(wider, tmp_path / "a", one_device(), Start(pruned))
    with pytest.raises(TrainingError, match=r"masks.safetensors is missing"):
        train.train(TUNED, tmp_path / "a", one_device(), Start(pruned.parent / "run" / "model", keep_masks=True))
    train.train(TUNED, tmp_path / "b", one_device())
    with pytest.raises(TrainingError, match="start: nothing there"):
        train.train(TUNED, tmp_path / "b", one_device(), Start(pruned))
    weights = checkpoints.split(checkpoints.load(pruned))[1]
    with pytest.raises(ValueError, match="has weights at places that the mask"):
        checkpoints.load_masks(pruned, {name: weight + 1 for name, weight in weights.items()})


def test_layers_are_drawn_anew_or_permuted_and_all_others_kept(pruned, tmp_path):
    before = checkpoints.split(checkpoints.load(pruned))[1]
    fresh = checkpoints.split(checkpoints.create(TUNED.model, TUNED.seed))[1]
    kept, masks, known = read_start(TUNED, Start(pruned, reset=("embedding", "blocks.0.up"), permute=("qkv", "norm1")))
    assert before.keys() - kept.keys() == {"embedding", "blocks.0.up.kernel"} and not masks
    assert known["reset"] == ["embedding", "blocks.0.up"] and known["permute"] == ["qkv", "norm1"]
    for name, weight in kept.items():
        if "qkv" in name:
            assert not np.array_equal(weight, before[name])
            assert np.array_equal(np.sort(weight, axis=None), np.sort(before[name], axis=None))
        else:  # a gain is no matrix
            assert np.array_equal(weight, before[name])
    optimizer = make_optimizer(TUNED.optimizer, TUNED.steps)
    state = initial_state(TUNED, optimizer, one_device(), kept)
    assert all(np.array_equal(state.weights[name], kept.get(name, fresh[name])) for name in fresh)

    wider = dataclasses.replace(TUNED, model=dataclasses.replace(TUNED.model, vocab_size=60))
    with pytest.raises(ValueError, match=r"embedding is of shape .* draw it anew by --reset embedding"):
        read_start(wider, Start(pruned))
    assert "embedding" not in read_start(wider, Start(pruned, reset=("embedding", "head")))[0]
    with pytest.raises(ValueError, match="no weight belongs to a layer 'heads': choose of blocks, down, embedding"):
        read_start(TUNED, Start(pruned, reset=("heads",)))
    with pytest.raises(ValueError, match="no weight belongs to a layer 'block'"):  # a part of a part is none
        read_start(TUNED, Start(pruned, reset=("block",)))
    with pytest.raises(ValueError, match=r"--keep-masks would keep the wrong weights of blocks\.0\.qkv"):
        read_start(TUNED, Start(pruned, keep_masks=True, permute=("qkv",)))
    with pytest.raises(ValueError, match="--reset needs --start"):
        read_start(TUNED, Start(reset=("head",)))


def test_the_command_fine_tunes_a_folder(tmp_path):
    """The command reads the model's shape before it has laid out the devices."""
    command = [sys.executable, "-m", "icl_synth.train", "--start", str(pretrained.HERE / "draft"), "--steps", "1"]
    small = ["--batch", "2", "--data.length", "17", "--evaluation-documents", "2", "--precision", "float32"]
    done = subprocess.run([*command, *small, "--out", str(tmp_path / "run")], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert checkpoints.load(tmp_path / "run" / "model").config == checkpoints.load(pretrained.HERE / "draft").config


def test_a_run_whose_precision_was_left_open_is_the_run_with_what_was_decided(tmp_path):
    train.train(TUNED, tmp_path / "run", one_device())
    done = train.train(dataclasses.replace(TUNED, precision="auto"), tmp_path / "run", one_device())
    assert done.dtype == "float32"
    with pytest.raises(TrainingError, match="precision: float32 there, bfloat16 asked for"):
        train.train(dataclasses.replace(TUNED, precision="bfloat16"), tmp_path / "run", one_device())
