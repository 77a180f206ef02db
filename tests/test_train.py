"""Training: it learns, it is the same on any mesh, it survives being killed, and it says plainly what is wrong."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file

from icl_synth import checkpoints, devices, files, train
from icl_synth.config import DataConfig, OptimizerConfig, TrainConfig
from icl_synth.lstm import LSTMConfig
from icl_synth.presets import preset
from icl_synth.run_checkpoints import Checkpoints
from icl_synth.run_folder import TrainingError, read_metrics
from icl_synth.step import initial_state, make_optimizer, make_steps
from icl_synth.training_data import make_data
from icl_synth.transformer import TransformerConfig

ROOT = Path(__file__).parents[1]
TINY = TrainConfig(
    steps=40,
    batch=8,
    evaluate_every=20,
    evaluation_documents=8,
    precision="float32",
    data=DataConfig(length=33),
    model=TransformerConfig(context=32, depth=1, width=16, heads=1),
)
# the same from the command line, in processes of their own
FLAGS = (
    "--steps 300 --batch 8 --evaluate-every 20 --evaluation-documents 8 --precision float32 --data.length 33 "
    "--model.context 32 --model.depth 1 --model.width 16 --model.heads 1"
).split()


def one_device():
    return devices.mesh(over=jax.devices()[:1])


def test_it_learns_and_keeps_a_record(tmp_path):
    model = train.train(dataclasses.replace(TINY, steps=200, evaluate_every=100), tmp_path / "run", one_device())
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [100, 200]
    assert lines[-1].keys() == {
        "step", "tokens", "loss", "bayes_loss", "excess_nats", "tokens_per_second", "seconds"
    }  # fmt: skip
    assert lines[-1]["tokens"] == 200 * 8 * 32
    assert 0 < lines[-1]["excess_nats"] < 2.2 < np.log(50) - lines[-1]["bayes_loss"]
    assert lines[-1]["excess_nats"] == pytest.approx(lines[-1]["loss"] - lines[-1]["bayes_loss"])
    loaded = checkpoints.load(tmp_path / "run" / "model")
    x = jnp.arange(12)[None]
    assert jnp.array_equal(loaded(x), model(x))


@pytest.mark.parametrize("model", [TINY.model, LSTMConfig(context=32, depth=1, width=16)], ids=["transformer", "lstm"])
@pytest.mark.parametrize(("data", "model_parallel"), [(8, 1), (4, 2)])
def test_a_mesh_of_eight_devices_gives_the_same_losses(model, data, model_parallel, monkeypatch):
    monkeypatch.setattr(devices, "SHARDED_FROM", 64)
    optimizer_config = OptimizerConfig("adamw", warmup_steps=2)
    config = dataclasses.replace(TINY, model=model, optimizer=optimizer_config, micro_batch=1)
    optimizer = make_optimizer(config.optimizer, config.steps)
    graph, _ = checkpoints.split(checkpoints.create(config.model))
    losses = {}
    for name, mesh in {"one": one_device(), "eight": devices.mesh(model_parallel, jax.devices())}.items():
        state = initial_state(config, optimizer, mesh)
        steps = make_steps(config, graph, optimizer, make_data(config), mesh)
        split = [w for w in state.weights.values() if not w.sharding.is_fully_replicated]
        assert bool(split) == (name == "eight" and model_parallel > 1)
        losses[name] = []
        for _ in range(4):
            state, loss = steps(state, 3)
            losses[name].append(float(loss))
    np.testing.assert_allclose(losses["one"], losses["eight"], rtol=2e-5)


def test_micro_batches_sum_to_the_whole_batch():
    optimizer = make_optimizer(OptimizerConfig("adamw", warmup_steps=2), 40)
    graph, _ = checkpoints.split(checkpoints.create(TINY.model))
    losses = []
    for micro in (1, 4, 8):
        config = dataclasses.replace(TINY, micro_batch=micro)
        steps = make_steps(config, graph, optimizer, make_data(config), one_device())
        losses.append(float(steps(initial_state(config, optimizer, one_device()), 6)[1]))
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)


def test_models_stay_on_the_way_and_are_those_of_a_shorter_look(tmp_path):
    config = dataclasses.replace(TINY, steps=8, evaluate_every=2, keep_every=4)
    last = train.train(config, tmp_path / "run", one_device())
    assert sorted(path.name for path in (tmp_path / "run" / "models").iterdir()) == ["4", "8"]
    kept = checkpoints.split(checkpoints.load(tmp_path / "run" / "models" / "8"))[1]
    middle = checkpoints.split(checkpoints.load(tmp_path / "run" / "models" / "4"))[1]
    for name, weight in checkpoints.split(last)[1].items():
        assert np.array_equal(weight, kept[name])
    assert any(not np.array_equal(middle[name], kept[name]) for name in kept)
    assert checkpoints.read_card(tmp_path / "run" / "models" / "4")["step"] == 4
    with pytest.raises(ValueError, match="keep_every must be a multiple of evaluate_every 2"):
        dataclasses.replace(config, keep_every=3)


def test_a_finite_data_set_is_seen_once_an_epoch():
    config = dataclasses.replace(TINY, batch=4, data=DataConfig(length=32, documents=6, document_length=64))
    data = jax.jit(make_data(config))
    first, second = (
        np.concatenate([data(jnp.int32(step)) for step in range(3 * epoch, 3 * epoch + 3)]) for epoch in (0, 1)
    )
    assert len({row.tobytes() for row in first}) == 12
    assert {row.tobytes() for row in first} == {row.tobytes() for row in second}
    assert not np.array_equal(first, second)


def test_plateau_quarters_the_rate_when_the_loss_stalls():
    config = dataclasses.replace(TINY, optimizer=OptimizerConfig("adamw", schedule="plateau"))
    state = initial_state(config, make_optimizer(config.optimizer, 40), one_device())
    scales = []
    for count in range(1, 7):
        losses = (3.0, 2.0, 2.1, 2.2, 2.1, 2.3)[:count]
        history = [{"step": 20 * (i + 1), "loss": loss} for i, loss in enumerate(losses)]
        history.insert(1, {"step": 25, "loss": 1.0})  # an interruption's line does not count
        state = train.slow_down(config, state, history)
        scales.append(float(state.scale))
    assert scales == [1.0, 1.0, 1.0, 0.25, 0.25, 0.0625]


def test_a_run_slows_down_where_its_held_back_loss_stalls(tmp_path, monkeypatch):
    scales = []
    monkeypatch.setattr(train, "make_steps", lambda *_: lambda state, number: (state, jnp.float32(2.0)))
    monkeypatch.setattr(train, "validation_documents", lambda _: (np.zeros((1, 33), int), 1.0))
    monkeypatch.setattr(train, "token_losses", lambda *_: np.array([2.0]))

    class Recorder:
        def __init__(self, _):
            pass

        def save(self, step, state, loss):
            scales.append(float(state.scale))

        def latest(self):
            return None

        def close(self):
            pass

    monkeypatch.setattr(train, "Checkpoints", Recorder)
    plateau = OptimizerConfig("adamw", schedule="plateau")
    train.train(dataclasses.replace(TINY, steps=5, evaluate_every=1, optimizer=plateau), tmp_path / "run", one_device())
    assert scales == [1.0, 1.0, 0.25, 0.25, 0.0625]


def command(out, *more):
    return [sys.executable, "-m", "icl_synth.train", "--out", str(out), *FLAGS, *more]


def start(out, *more):
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(command(out, *more), cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, error = process.communicate(timeout=300)
    return process.returncode, error


def wait_for_lines(out, count, process):
    path = out / "metrics.jsonl"
    while not path.exists() or len(path.read_text().splitlines()) < count:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)


def test_killed_at_any_moment_it_ends_with_bit_equal_weights(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    code, error = finish(start(whole))
    assert code == 0, error
    assert error.count("step/s") <= 3, "without a terminal the progress bar prints a line a minute"
    for lines, sent in ((4, signal.SIGKILL), (9, signal.SIGINT)):
        process = start(broken)
        wait_for_lines(broken, lines, process)
        time.sleep(0.05 * np.random.default_rng().uniform())
        process.send_signal(sent)
        code, error = finish(process)
        assert code == (130 if sent == signal.SIGINT else -signal.SIGKILL), error
    assert "goes on from there" in error
    code, error = finish(start(broken))
    assert code == 0, error
    expected, found = (load_file(out / "model" / "model.safetensors") for out in (whole, broken))
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)
    steps = [json.loads(line)["step"] for line in (broken / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 300 and steps == sorted(set(steps)) and set(range(20, 301, 20)) <= set(steps)


def test_two_processes_train_as_one(tmp_path):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    few = ["--steps", "40", "--optimizer.name", "adamw"]
    pair = [
        start(tmp_path / "pair", *few, "--coordinator", f"localhost:{port}", "--num-processes", "2",
              "--process-id", str(i))
        for i in range(2)
    ]  # fmt: skip
    assert [finish(process)[0] for process in pair] == [0, 0]
    assert finish(start(tmp_path / "alone", *few))[0] == 0
    pair_lines, alone_lines = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("pair", "alone")
    )
    np.testing.assert_allclose([x["loss"] for x in pair_lines], [x["loss"] for x in alone_lines], rtol=1e-4)


def test_a_loss_that_is_no_number_stops_with_advice(tmp_path):
    wild = dataclasses.replace(TINY, optimizer=OptimizerConfig("adamw", learning_rate=1e38, warmup_steps=0))
    with pytest.raises(TrainingError, match=r"last good checkpoint is none yet. Lower optimizer.learning_rate"):
        train.train(dataclasses.replace(wild, model=dataclasses.replace(TINY.model, depth=2)), tmp_path / "run")


def test_a_loss_that_stops_being_a_number_names_the_last_good_checkpoint(tmp_path, monkeypatch):
    losses = iter([2.0, float("nan")])
    monkeypatch.setattr(train, "token_losses", lambda *_: np.array([next(losses)]))
    with pytest.raises(TrainingError, match=r"held-back documents after step 40; the last good .* is step 20 in"):
        train.train(TINY, tmp_path / "run", one_device())
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [20]
    assert not (tmp_path / "run" / "model").exists()


def test_the_last_three_checkpoints_and_the_best_are_kept_across_restarts(tmp_path):
    losses = {1: 3.0, 2: 1.0, 3: 2.0, 4: 2.5, 5: 2.1, 6: 2.2, 7: 2.3, 8: 2.4}
    for steps in ((1, 2, 3, 4, 5), (6, 7, 8)):
        saved = Checkpoints(tmp_path)
        for step in steps:
            saved.save(step, {"weight": jnp.full(3, step)}, losses[step])
        saved.close()
    assert Checkpoints(tmp_path).steps() == [2, 6, 7, 8]
    restored = Checkpoints(tmp_path).restore(2, {"weight": jnp.zeros(3, int)})
    assert restored["weight"].tolist() == [2, 2, 2]


def test_a_run_killed_before_it_wrote_anything_starts_again(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / ".config.123.writing.json").write_text("{")
    train.train(dataclasses.replace(TINY, steps=20), out, one_device())


def test_another_configuration_is_refused_and_nothing_is_lost(tmp_path):
    out = tmp_path / "run"
    train.train(dataclasses.replace(TINY, steps=20), out, one_device())
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(TrainingError, match=r"batch: 8 there, 16 asked for"):
        train.train(dataclasses.replace(TINY, steps=20, batch=16), out, one_device())
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_damaged_checkpoint_is_done_again_to_the_same_weights(tmp_path, capsys):
    trained = train.train(TINY, tmp_path / "run", one_device())
    expected, lines = checkpoints.split(trained)[1], read_metrics(tmp_path / "run" / "metrics.jsonl", 40)
    for file in (tmp_path / "run" / "checkpoints" / "40").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    again = checkpoints.split(train.train(TINY, tmp_path / "run", one_device()))[1]
    said = capsys.readouterr().err
    assert "checkpoints/40 is damaged" in said and "going on from step 20" in said
    assert all(np.array_equal(expected[name], again[name]) for name in expected)
    assert read_metrics(tmp_path / "run" / "metrics.jsonl", 40)[-1]["loss"] == lines[-1]["loss"]
    assert (tmp_path / "run" / "checkpoints" / "damaged-40").exists()


def test_a_full_disk_says_what_was_not_saved_and_the_command_goes_on_once_there_is_room(tmp_path, monkeypatch):
    save = Checkpoints.save

    def full(self, step, state, loss):
        if step == 40:
            raise RuntimeError("Event loop is closed") from ValueError("os_error_code 28: No space left on device")
        save(self, step, state, loss)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", full)
        with pytest.raises(
            TrainingError, match=r"is full: step 40 was not saved, the last whole checkpoint is step 20"
        ):
            train.train(TINY, tmp_path / "run", one_device())
    train.train(TINY, tmp_path / "run", one_device())
    assert [line["step"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl", 40)] == [20, 40]


def test_an_evaluation_is_due_at_its_multiples_and_at_the_end():
    config = dataclasses.replace(TINY, steps=50)
    assert [train.next_evaluation(config, done) for done in (0, 19, 20, 39, 40, 49)] == [20, 20, 40, 40, 50, 50]
    assert train.tokens_per_second(config, 10, 2.0) == 10 * 8 * 32 / 2


@pytest.mark.parametrize("process", [0, 1])
def test_the_progress_bar_of_a_run_that_goes_on_begins_where_it_stopped(process, tmp_path, monkeypatch):
    monkeypatch.setattr(train.jax, "process_index", lambda: process)
    nothing = dict.fromkeys(train.Run._fields)
    with train.progress_bar(train.Run(**nothing | {"config": TINY, "out": tmp_path}), 20) as bar:
        assert (bar.n, bar.total, bar.disable) == (20, 40, process > 0)


def test_a_full_disk_while_a_model_is_written_keeps_the_old_one(tmp_path, monkeypatch):
    """safetensors has an error of its own for it, which is no OSError."""
    model = checkpoints.create(TINY.model)
    checkpoints.export(model, tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()

    def full(*_, **__):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(OSError, match=r"could not be written: I/O error: No space left"):
        checkpoints.export(model, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("kind", ["modern", "gpt2", "lstm"])
def test_bfloat16_trains_as_float32_does_under_the_compiler_that_users_have(kind, tmp_path):
    """Some products of bfloat16 fail or fall back only in XLA's full pipeline, which the other tests turn off."""
    program = f"""
import dataclasses, sys
from icl_synth import devices, train
from icl_synth.config import DataConfig, TrainConfig
from icl_synth.lstm import LSTMConfig
from icl_synth.transformer import TransformerConfig
model = (LSTMConfig(width=32) if {kind!r} == "lstm" else
         TransformerConfig(context=96, depth=1, width=32, heads=2, style={kind!r}))
config = TrainConfig(steps=120, batch=4, evaluate_every=120, evaluation_documents=4, data=DataConfig(length=97),
                     model=model, micro_batch=1)
devices.start(devices.Devices(), 2)
for precision in ("float32", "bfloat16"):
    train.train(dataclasses.replace(config, precision=precision), sys.argv[1] + "/" + precision)
"""
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, env=environment, check=True, timeout=300)
    losses = [read_metrics(tmp_path / name / "metrics.jsonl", 120)[-1]["loss"] for name in ("float32", "bfloat16")]
    assert losses[0] < np.log(50) - 0.3 and losses[1] == pytest.approx(losses[0], abs=0.01)


def test_a_random_world_trains(tmp_path):
    data = DataConfig("random", vocab_size=20, concepts=3, entities=4, properties=5, length=33)
    seen, held_out = data.build()
    assert seen.num_concepts == held_out.num_concepts == 3 and seen.property_transitions.shape == (3, 5, 5)
    assert not np.array_equal(seen.property_transitions, held_out.property_transitions)
    model = train.train(dataclasses.replace(TINY, steps=20, data=data), tmp_path / "run", one_device())
    assert model(jnp.arange(12)[None]).shape == (1, 12, 50)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: preset("quik"), "unknown preset 'quik': choose one of quick"),
        (lambda: TrainConfig(steps=0), "steps must be at least 1"),
        (lambda: TrainConfig(data=DataConfig(vocab_size=80)), "set model.vocab_size to at least 80"),
        (lambda: TrainConfig(data=DataConfig(length=400)), "more than model.context 256"),
        (lambda: DataConfig(concepts=7), "set data.world to random"),
        (lambda: OptimizerConfig(beta1=2.0), r"optimizer.beta1 must be in \[0, 1\), got 2.0"),
        (lambda: OptimizerConfig(weight_decay=-1.0), "optimizer.weight_decay must be 0 or more, got -1.0"),
        (lambda: TrainConfig(data=DataConfig(length=32, documents=1, document_length=64)), "fewer sequences"),
    ],
)
def test_impossible_configurations_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_batch_that_does_not_split_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="make batch a multiple of 8"):
        train.train(dataclasses.replace(TINY, batch=12), tmp_path / "run", devices.mesh(over=jax.devices()))


@pytest.mark.parametrize(
    "arguments", [["--preset", "quik"], ["--out", "x", "--stepz", "3"], ["--out", "x", "--steps", "0"]]
)
def test_the_command_line_exits_plainly(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        train.main(arguments)
    said = str(exit_.value) + capsys.readouterr().err
    assert exit_.value.code not in (0, None)
    assert "Traceback" not in said and any(word in said for word in ("unknown preset", "stepz", "steps must be"))
