"""Runs that go on from runs: trained in order, kept apart by what they begin with, and counted in what rows ask."""

import dataclasses
import json
import shutil
import subprocess

import numpy as np
import pytest

from figures.lab import record, runs
from figures.lab.catalogue import experiment
from figures.lab.presets import Preset, Suite
from icl_synth import checkpoints, presets, run_folder
from icl_synth.presets import PRESETS
from icl_synth.presets.recipes import SHORT
from icl_synth.presets.transfer import AFTER, FIRST, OWN_WORLDS, RATE, RATES, READING, After
from tests.toys import TOY, on

FIRST_TOY, SECOND_TOY = on(world="random", concepts=2, vocab_size=51), dataclasses.replace(TOY, steps=4)
KEPT, MIXED = After("first", reset=("embedding",)), After("first", permute=("blocks",))


@pytest.fixture
def toys(monkeypatch, tmp_path):
    """Two presets of one configuration and two beginnings, and one that begins with fresh weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        presets, "PRESETS", {"first": FIRST_TOY} | dict.fromkeys(("fresh", "kept", "mixed"), SECOND_TOY)
    )
    for module in (presets, runs):
        monkeypatch.setattr(module, "AFTER", {"kept": KEPT, "mixed": MIXED})
    monkeypatch.setattr(runs, "OWN_WORLDS", {"first"})


def test_a_run_goes_on_from_the_end_of_another_of_its_seed(toys):
    folder = runs.Job("kept", 1).train()
    begun = json.loads((folder / "config.json").read_text())["asked"]
    first = runs.Job("first", 1)
    assert first.done and first.config.data.world_seed == 1 and runs.Job("kept", 1).config.data.world_seed == 0
    assert begun["reset"] == ["embedding"] and len(begun["start"]) == 64
    before = checkpoints.split(checkpoints.load(first.folder / "model"))[1]
    after = checkpoints.split(checkpoints.load(folder / "model"))[1]
    fresh = checkpoints.split(checkpoints.create(SECOND_TOY.model, 1))[1]
    near = "blocks.0.up.kernel"  # four steps move it less than two draws differ
    distance = {name: np.abs(after[near] - other[near]).max() for name, other in (("before", before), ("fresh", fresh))}
    assert distance["before"] < 0.5 * distance["fresh"]


def test_of_a_run_whose_curve_is_kept_nothing_is_trained_again(toys, monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "KEPT", tmp_path / "kept")
    suite = Suite({"model": "kept"}, (0, 1), curves=True)
    runs.Job("kept", 0).train()  # with its weights, for others
    assert [job.done for job in runs.jobs(suite)] == [False, False]
    first, second = runs.load(suite)["model"]
    assert first.model is None and [run.metrics[-1]["step"] for run in (first, second)] == [SECOND_TOY.steps] * 2
    shutil.rmtree(tmp_path / "runs")
    monkeypatch.setattr(runs, "train", None)
    assert [job.done for job in runs.jobs(suite)] == [True, True] and not runs.Job("kept", 0).done
    again = runs.load(suite)["model"]
    assert [run.metrics for run in again] == [first.metrics, second.metrics]
    assert [run.record() for run in again] == [first.record(), second.record()]
    with monkeypatch.context() as patch:  # of other code, another run
        patch.setattr(run_folder, "training_code", lambda: "other")
        assert not runs.jobs(suite)[0].done


def test_kept_curves_are_committed():
    kept = runs.KEPT / "small-scaling-1e+12-w24-0-01234567" / "config.json"
    ignored = subprocess.run(["git", "check-ignore", "-q", kept], cwd=runs.FIGURES, check=False)
    assert ignored.returncode == 1


def test_what_a_run_begins_with_names_its_folder(toys, monkeypatch):
    folders = {name: runs.Job(name, 0).folder for name in ("fresh", "kept", "mixed")}
    assert len(set(folders.values())) == 3
    for module in (presets, runs):
        monkeypatch.setattr(module, "AFTER", {"kept": KEPT._replace(reset=("up",)), "mixed": MIXED})
    assert runs.Job("kept", 0).folder != folders["kept"] and runs.Job("mixed", 0).folder == folders["mixed"]


def test_what_runs_begin_with_counts_for_rows(toys, monkeypatch):
    asked = experiment("block_float/noise")
    sizes = asked.presets["quick"].sizes
    digests = set()
    for name in ("fresh", "kept", "mixed"):
        digests.add(record.asked(asked._replace(presets={"toy": Preset(Suite({"model": name}), sizes)}), "toy"))
    monkeypatch.setattr(runs, "OWN_WORLDS", set())
    digests.add(record.asked(asked._replace(presets={"toy": Preset(Suite({"model": "kept"}), sizes)}), "toy"))
    assert len(digests) == 4


@pytest.mark.parametrize("scale", ["quick", "small"])
def test_the_second_stage_has_its_factor_times_the_recipes_rates(scale):
    def ratio(run):
        recipe, own = SHORT[scale].optimizer, run.optimizer
        assert own.learning_rate / recipe.learning_rate == own.muon_learning_rate / recipe.muon_learning_rate
        return own.learning_rate / recipe.learning_rate

    for name, factor in (("half", 0.5), ("once", 1.0), ("double", 2.0)):
        assert {ratio(RATES[f"{scale}-transfer-{arm}-rate-{name}"]) for arm in ("random", "many")} == {factor}
    arms = [name for name in READING if name.startswith(f"{scale}-transfer-") and not name.endswith(("-wide", "-lstm"))]
    assert {ratio(READING[name]) for name in arms} == {RATE[scale]}


def test_every_arm_of_the_transfer_experiment_fits_what_it_goes_on_from():
    assert {AFTER[name].training for name in AFTER} == FIRST.keys() and AFTER.keys() < READING.keys() | RATES.keys()
    assert OWN_WORLDS < FIRST.keys()
    for name, after in AFTER.items():
        first, second = PRESETS[after.training].model, PRESETS[name].model
        assert dataclasses.replace(first, vocab_size=second.vocab_size) == second
        assert {"embedding", "head"} <= {*after.reset}
    for scale in ("quick", "small"):
        stages = [PRESETS[f"{scale}-transfer-{name}"] for name in ("first-many", "many", "more")]
        tokens = [stage.steps * stage.batch * (stage.data.length - 1) for stage in stages]
        assert tokens[0] + tokens[1] == tokens[2]
