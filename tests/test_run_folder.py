"""A run's folder: whose it is, what is said where its files are damaged, and which checkpoint is taken then."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_synth import devices, resume, run_folder
from icl_synth.config import DataConfig, TrainConfig
from icl_synth.recovery import restore_newest
from icl_synth.run_checkpoints import Checkpoints
from icl_synth.run_folder import TrainingError, read_metrics, run_directory, saving, settle
from icl_synth.transformer import TransformerConfig

CONFIG = TrainConfig(
    batch=8, data=DataConfig(length=33), model=TransformerConfig(context=32, depth=1, width=16, heads=1)
)


def settled(out, config=CONFIG):
    return settle(config, out, devices.mesh(over=jax.devices()[:1]), {})


def test_a_folder_is_claimed_once(tmp_path):
    path = tmp_path / "work" / "settings.json"
    assert resume.claim(path, "pruning", lambda: {"pair": (2, 4)}) == {"pair": [2, 4]}
    assert resume.claim(path, "pruning", lambda: 1 / 0) == {"pair": [2, 4]}
    resume.check_same(
        path.parent, "pruning", {"pair": [2, 4], "how": {"bits": 3}}, {"pair": (2, 4), "how": {"bits": 3}}
    )
    with pytest.raises(
        ValueError, match=r"another pruning \(how.bits: 3 there, nothing asked for; bits: nothing there"
    ):
        resume.check_same(path.parent, "pruning", {"how": {"bits": 3}}, {"bits": 3})


def test_a_folder_of_something_else_is_not_claimed(tmp_path):
    (tmp_path / ".settings.1.writing.json").write_text("{")  # of a killed process
    resume.claim(tmp_path / "settings.json", "run", dict)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("")
    for folder in ("other", "file"):
        with pytest.raises(ValueError, match=f"{folder} is not empty and holds no run of ours"):
            resume.claim(tmp_path / folder / "settings.json", "run", dict)


def test_a_run_is_named_by_its_configuration_and_its_code(monkeypatch):
    names = set()
    for code in ("a" * 64, "b" * 64):
        monkeypatch.setattr(run_folder, "training_code", lambda code=code: code)
        for seed in (0, 1):
            names.add(run_directory(dataclasses.replace(CONFIG, seed=seed), "tiny"))
            assert run_directory(CONFIG, "tiny") in names
    assert len(names) == 4
    assert all(name.parent == Path("runs") and name.name.startswith(("tiny-0-", "tiny-1-")) for name in names)


def test_a_run_of_other_code_is_refused(tmp_path, monkeypatch):
    settled(tmp_path / "run")
    stored = (tmp_path / "run" / "config.json").read_text()
    assert json.loads(stored)["code"] == run_folder.training_code() and len(run_folder.training_code()) == 64
    settled(tmp_path / "run")
    monkeypatch.setattr(run_folder, "training_code", lambda: "0" * 64)
    commit = json.loads(stored)["commit"].replace("+", r"\+")
    with pytest.raises(ValueError, match=f"was begun by other code, of commit {commit}; .* choose another folder"):
        settled(tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_text() == stored


def test_a_run_that_moved_is_not_called_bit_equal(tmp_path, monkeypatch):
    _, told = settled(tmp_path / "run")
    assert "rounding" not in told
    monkeypatch.setattr(run_folder, "device", lambda: "another processor")
    _, told = settled(tmp_path / "run")
    assert "begun with device" in told and "to rounding only" in told


@pytest.mark.parametrize("seed", [-1, 1 << 32, 1 << 64])
def test_seeds_that_jax_would_cut_are_refused(seed):
    for make in (lambda: TrainConfig(seed=seed), lambda: DataConfig("random", world_seed=seed)):
        with pytest.raises(ValueError, match=f"seed must lie in 0..4294967295, got {seed}"):
            make()
    assert TrainConfig(seed=(1 << 32) - 1).seed == (1 << 32) - 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not valid JSON"),
        ('{"asked"', "is not valid JSON"),
        ("\0\0\0", "is not valid JSON"),
        ("[]", "holds list, not a JSON object"),
        ("null", "holds NoneType, not a JSON object"),
        ("{}", "has no dict 'asked'"),
        ('{"asked": {}, "precision": 32}', "has no str 'precision'"),
        ('{"icl_synth": {}}', "holds a model, not a run of ours"),
    ],
)
def test_a_damaged_configuration_is_named(text, message, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        settled(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_byte_order_mark_is_accepted(tmp_path):
    settled(tmp_path / "run")
    lines = [{"step": 20, "loss": 3.0, "seconds": 1.5}, {"step": 40, "loss": 2.0, "seconds": 2.5}]
    metrics = tmp_path / "run" / "metrics.jsonl"
    run_folder.rewrite_metrics(metrics, lines)
    for file in (tmp_path / "run" / "config.json", metrics):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    settled(tmp_path / "run")
    assert read_metrics(metrics, 40) == lines


def test_metrics_are_read_up_to_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path, 0) == []
    lines = [{"step": step, "loss": 3.0, "seconds": 1.5} for step in (20, 30, 40)]
    run_folder.rewrite_metrics(path, lines)
    with open(path, "a") as file:
        file.write('{"step": 60, "loss')  # killed while it wrote
    assert read_metrics(path, 30) == lines[:2]
    assert read_metrics(path, 0) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no line for step 20"),
        ("\n", "line 1, is not valid JSON"),
        ("\0\0\0\n", "line 1, is not valid JSON"),
        ('{"step": 20, "loss": 3.0, "seconds": 1.5}\n{"step"\n', "line 2, is not valid JSON"),
        ("[]\n", "line 1, is no JSON object with numbers step, loss and seconds"),
        ("null\n", "line 1, is no JSON object"),
        ('{"step": 20, "loss": "3", "seconds": 1.5}\n', "line 1, is no JSON object"),
        ('{"step": 10, "loss": 3.0, "seconds": 1.5}\n', "has no line for step 20, which was saved: restore the file"),
        ('{"step": 20, "loss": 3.0, "seconds": 1.5}', "has no line for step 20"),
    ],
)
def test_damaged_metrics_are_named(text, message, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_metrics(tmp_path / "metrics.jsonl", 20)
    assert str(tmp_path / "metrics.jsonl") in str(error.value)


def test_only_a_full_disk_is_called_full(tmp_path, monkeypatch):
    def fail(error, cause=None):
        with saving("step 80", tmp_path, 1000, 60):
            raise error from cause

    for full in (OSError(28, "No space left on device"), OSError(122, "Disk quota exceeded")):
        with pytest.raises(
            TrainingError, match=r"is full: step 80 was not saved, the last whole checkpoint is step 60"
        ):
            fail(full)
        with pytest.raises(TrainingError, match="is full"):
            fail(RuntimeError("Event loop is closed"), full)
    with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED: Out of memory"):
        fail(RuntimeError("RESOURCE_EXHAUSTED: Out of memory"))
    for free, kind in ((999, TrainingError), (1000, RuntimeError)):
        usage = run_folder.shutil.disk_usage(tmp_path)._replace(free=free)
        with monkeypatch.context() as patched, pytest.raises(kind):
            patched.setattr(run_folder.shutil, "disk_usage", lambda _, usage=usage: usage)
            fail(RuntimeError("Event loop is closed"))


STATE = {"weight": np.arange(1000.0, dtype=np.float32), "step": np.int32(0)}


def state(step):
    return {"weight": jnp.asarray(STATE["weight"] + step), "step": jnp.int32(step)}


def empty(file):
    file.write_bytes(b"")


def remove(file):
    file.unlink()


@pytest.fixture
def checkpoints(tmp_path):
    saved = Checkpoints(tmp_path / "checkpoints")
    for step in (20, 40):
        saved.save(step, state(step), 3.0)
    saved.close()
    return tmp_path / "checkpoints"


@pytest.mark.parametrize(
    ("hurt", "files"),
    [(empty, "**/*"), (empty, "default/**/*"), (empty, "metrics/metrics"), (remove, "metrics/metrics"),
     (remove, "default/manifest.ocdbt"), (remove, "default/**/*"), (remove, "**/*")],
)  # fmt: skip
def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_taken(hurt, files, checkpoints, capsys):
    for file in (checkpoints / "40").glob(files):
        if file.is_file():
            hurt(file)
    restored = restore_newest(checkpoints, state(0))
    assert int(restored["step"]) == 20 and jnp.array_equal(restored["weight"], state(20)["weight"])
    said = capsys.readouterr().err
    assert f"{checkpoints}/40 is damaged" in said and "The run goes on from step 20" in said
    saved = Checkpoints(checkpoints)  # with a damaged loss in it, orbax opens no folder
    saved.save(40, state(40), 3.0)
    saved.close()
    assert sorted(file.name for file in checkpoints.iterdir()) == ["20", "40", "damaged-40"]
    assert int(restore_newest(checkpoints, state(0))["step"]) == 40


def test_an_older_damaged_checkpoint_is_put_aside_too(checkpoints):
    (checkpoints / "20" / "metrics" / "metrics").write_text("null")
    assert int(restore_newest(checkpoints, state(0))["step"]) == 40
    assert Checkpoints(checkpoints).steps() == [40]


def test_where_no_checkpoint_can_be_read_it_says_how_to_start_anew(checkpoints):
    for file in checkpoints.rglob("*"):
        if file.is_file():
            empty(file)
    with pytest.raises(ValueError, match=rf"no checkpoint can be read: .*remove {checkpoints.parent} to start anew"):
        restore_newest(checkpoints, state(0))
    assert sorted(file.name for file in checkpoints.iterdir()) == ["20", "40"]
    assert restore_newest(checkpoints.parent / "nothing", state(0)) is None
