"""Every figure at toy size, from training to picture, and the table that is generated from recorded rows."""

import dataclasses
import importlib
import json
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import pytest

from figures import __main__ as command
from figures import record
from figures.recipes import Recipe
from icl_synth import checkpoints, config
from icl_synth.lstm import LSTMConfig
from icl_synth.transformer import TransformerConfig

ROOT = Path(__file__).parents[1]
TOY = config.TrainConfig(
    steps=8,
    batch=8,
    evaluate_every=8,
    evaluation_documents=8,
    precision="float32",
    data=config.DataConfig(length=32, documents=4, document_length=320),
    model=TransformerConfig(51, 32, 2, 16, 2, style="gpt2", dropout=0.1),
    optimizer=config.OptimizerConfig("adamw", 8e-4, warmup_steps=2, schedule="plateau"),
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The paper presets' code path (GPT-2, dropout, finite data, plateau), two seeds, a thousand times smaller."""
    presets = {"toy": TOY, "toy-lstm": dataclasses.replace(TOY, model=LSTMConfig(51, 32, 1, 16, dropout=0.2))}
    for name, data in (
        ("single", {"world": "single"}),
        ("uniform", {"world": "uniform"}),
        ("moving", {"entity_persistence": 0.0}),
        ("cold", {"world": "cold", "concepts": 3}),
        ("concepts-1", {"world": "random", "concepts": 1}),
        ("concepts-9", {"world": "random", "concepts": 9}),
    ):
        presets[f"toy-{name}"] = dataclasses.replace(TOY, data=dataclasses.replace(TOY.data, **data))
    for size in (100, 150):
        data, model = dataclasses.replace(TOY.data, vocab_size=size), dataclasses.replace(TOY.model, vocab_size=size)
        presets[f"toy-v{size}"] = dataclasses.replace(TOY, data=data, model=model)
    presets["toy-4"] = dataclasses.replace(TOY, steps=4)
    folder = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "PRESETS", presets)
        patch.setattr(record, "OUT", folder / "out")
        patch.chdir(folder)
        patch.setattr("figures.fig_pruning_sparsity.SPARSITIES", (0.6, 0.7))
        patch.setattr("figures.fig_icl_order.SETS", 2)
        patch.setattr("figures.fig_pruning_bits.JOINT", (2, 4))
        patch.setattr("figures.fig_pruning_bits.ALONE", (2, 3))
        patch.setattr("figures.fig_pruning_ablations.DRAWS", 2)
        documents, dampings, blocks = (2, 64, 128, 256), (0.001, 0.01, 1.0), (1, 16, 256)
        compared = {"calibration documents": documents, "damping": dampings, "mask block": blocks}
        patch.setattr("figures.fig_pruning_ablations.SETTINGS", compared)
        patch.setattr("figures.fig_icl_probe.RIDGES", (1e-3, 1e-2))
        patch.setattr("figures.fig_icl_worlds.EXAMPLE_LENGTHS", (3, 5, 10))
        for name in ("accuracy", "unseen", "vocabulary", "worlds"):  # every other number is a program to compile
            patch.setattr(f"figures.fig_icl_{name}.examples_that_fit", lambda context, k: [0, 2])
        patch.setattr("figures.fig_block_noise.VECTORS", 20)
        patch.setattr("figures.fig_block_noise.BLOCK_SIZES", (4, 256))
        patch.setattr("figures.fig_block_noise.SIZED", ("mx9", "mxfp4"))
        patch.setattr("figures.fig_block_models.TUNED", ("msfp11",))
        patch.setattr("figures.fig_block_models.TUNING_STEPS", 2)
        large = tuple(checkpoints.create(TransformerConfig(50, 32, 1, width, 1)) for width in (16, 8))
        for name in ("fig_assisted_speed", "fig_assisted_batch"):
            patch.setattr(f"figures.{name}.large_pair", lambda: large)
        patch.setattr("figures.fig_assisted_speed.GAMMAS", (2,))
        patch.setattr("decoding.speedup.WIDTHS", (2,))
        patch.setattr("figures.fig_assisted_speed.PROMPTS", 1)
        patch.setattr("figures.fig_assisted_batch.BATCHES", (1, 2))
        patch.setattr("figures.fig_assisted_batch.READ_WIDTHS", (1, 6))
        patch.setattr("figures.fig_assisted_drafts.DRAFT_FORMATS", ())
        patch.setattr("figures.fig_assisted_drafts.PRUNINGS", {})
        patch.setattr("figures.fig_assisted_drafts.SCHEDULES", ("constant", "optimal"))
        patch.setattr("figures.fig_assisted_drafts.ROWS", 2)
        patch.setattr("figures.fig_assisted_drafts.CONSTANTS", ())
        kinds, family = {"transformer": "toy", "LSTM": "toy-lstm"}, {"small": "toy", "large": "toy"}
        formats = ("msfp16", "msfp12", "msfp11", "msfp12:truncate", "mx9", "mxint8", "mxfp6_e3m2")
        elsewhere = {
            "single concept": "toy-single",
            "random tokens": "toy-uniform",
            "no entity persistence": "toy-moving",
        }
        cold = {"low entropy, world 1": "toy-cold"}
        concepts = {"1 concepts, world 1": "toy-concepts-1", "9 concepts, world 1": "toy-concepts-9"}
        vocabularies = {
            "transformer, V = 50": "toy",
            "transformer, V = 100": "toy-v100",
            "transformer, V = 150": "toy-v150",
        }
        steps = {"4 steps": "toy-4", "8 steps": "toy"}
        yield Recipe(
            "toy",
            kinds,
            family,
            {"LSTM": "toy-lstm"},
            (0, 1),
            12,
            16,
            formats,
            family,
            elsewhere,
            cold,
            concepts,
            vocabularies,
            steps,
            {},
        )


@pytest.mark.parametrize("name", command.MODULES)
def test_a_figure_from_training_to_picture_and_nothing_twice(name, toy, monkeypatch, capsys):
    module = importlib.import_module(f"figures.{name}")
    if name.startswith(("fig_block", "fig_pruning")):  # what LSTMs are there is tested with compression itself
        toy = dataclasses.replace(toy, models={"transformer": "toy"})
    record.make(name, module, toy, "a command")
    written = {path.suffix for path in (record.OUT / "toy").glob(f"{name}.*")}
    assert written == {".csv", ".json", ".png", ".pdf"}
    rows = record.read_rows(name, "toy")
    assert rows.drop(columns="model", errors="ignore").select_dtypes("number").notna().all(axis=None)
    table = module.claims(rows)
    assert table and all(claim.verdict in ("holds", "partly", "fails", "not found") for claim in table)
    known = json.loads((record.OUT / "toy" / f"{name}.json").read_text())
    assert known["seeds"] == list(module.wanted(toy).seeds)
    assert all(one["model"].get("style", "gpt2") == "gpt2" for one in known["training"].values())
    assert record.state(name, module, toy) == "fresh"
    assert record.state(name, module, dataclasses.replace(toy, prompts=13)) == "stale"
    with monkeypatch.context() as patch:
        patch.setattr(record, "digest", lambda text: "of other rows")
        assert record.state(name, module, toy) == "stale"
    monkeypatch.setattr("figures.recipes.train", None)  # a second time nothing is trained or computed
    monkeypatch.setattr(module, "compute", None)
    monkeypatch.setattr(command.devices, "start", lambda *_: None)
    monkeypatch.setitem(command.RECIPES, "toy", toy)
    monkeypatch.setattr("sys.argv", ["figures", name, "--preset", "toy"])
    command.main()
    assert f"{name}.png" in capsys.readouterr().out


def test_the_worked_example_of_contributing_is_a_figure(toy):
    text = (ROOT / "CONTRIBUTING.md").read_text()
    module = ModuleType("fig_example")
    exec(text.split("```python\n")[1].split("```")[0], module.__dict__)
    rows = module.compute(toy)
    assert len(rows) == 4 and rows.notna().all(axis=None) and rows.attrs["models"]
    assert module.plot(rows).axes[0].get_ylabel() == "nats a token"
    assert [claim.verdict in ("holds", "fails") for claim in module.claims(rows)] == [True]


def test_an_unknown_figure_names_the_choices():
    with pytest.raises(SystemExit, match="unknown figure 'fig_nine': choose from fig_assisted_batch, fig_"):
        command.load(["fig_nine"])


def test_the_list_tells_every_figure_and_one_that_fails_does_not_stop_the_others(toy, monkeypatch, capsys):
    afresh = dataclasses.replace(toy, name="afresh")  # a folder of its own, where nothing is made yet
    monkeypatch.setattr(command, "RECIPES", {"afresh": afresh})  # the presets of the others are not here
    monkeypatch.setattr("sys.argv", ["figures", "--list", "--preset", "afresh"])
    command.main()
    said = capsys.readouterr().out
    assert all(name in said for name in command.MODULES) and "missing" in said
    monkeypatch.setattr(command.devices, "start", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["figures", "fig_block_formats", "fig_block_noise", "--preset", "afresh"])
    monkeypatch.setattr("figures.fig_block_formats.compute", lambda recipe: 1 / 0)
    with pytest.raises(SystemExit, match="fig_block_formats: ZeroDivisionError"):
        command.main()
    assert record.state("fig_block_noise", importlib.import_module("figures.fig_block_noise"), afresh) == "fresh"
    assert record.read_provenance("fig_block_formats", "afresh") is None


def test_a_folder_that_refuses_is_told_in_a_line(toy, monkeypatch):
    def refuse(path, text):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(command, "write_text", refuse)
    monkeypatch.setattr("sys.argv", ["figures", "--results"])
    monkeypatch.setattr(command.claims, "results", lambda modules: "")
    with pytest.raises(SystemExit, match=r"^error: .*Read-only file system: '.*RESULTS.md'$"):
        command.main()


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")
