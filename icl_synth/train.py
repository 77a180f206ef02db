"""Train a model on documents of a concept-HMM: python -m icl_synth.train --preset quick --out runs/quick

The same command goes on with a stopped run from its last checkpoint and ends with bit-equal weights.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from icl_synth import checkpoints, devices, text
from icl_synth.config import DataConfig, TrainConfig
from icl_synth.evaluate import token_losses
from icl_synth.interruption import Interruption
from icl_synth.lock import alone
from icl_synth.presets import preset
from icl_synth.recovery import restore_newest
from icl_synth.run_checkpoints import Checkpoints
from icl_synth.run_folder import Line, TrainingError, read_metrics, rewrite_metrics, saving, settle
from icl_synth.start import Start, read_start
from icl_synth.step import (
    TrainState,
    in_32_bits,
    initial_state,
    make_optimizer,
    make_steps,
    split_batch,
)
from icl_synth.training_data import make_data, read_text, validation_documents

STEPS_A_CALL = 20  # run as one compiled call; Ctrl-C and the progress bar act between calls
THIS_MACHINE = devices.Devices()
FRESH = Start()
PATIENCE = 2  # evaluations without a better loss before the plateau schedule quarters the rate


class Run(NamedTuple):
    """What stays the same while a process trains."""

    config: TrainConfig
    """With its open choices decided."""
    out: Path
    mesh: Mesh
    graph: nnx.GraphDef
    advance: Callable[[TrainState, int], tuple[TrainState, Float[Array, ""]]]
    """Several steps: see `make_steps`."""
    validation: Int[np.ndarray, "B L"]
    bayes_loss: float | None
    """Exact loss on the validation documents, nats per token; None where it is unknown."""
    alphabet: str | None
    """The characters that tokens count, of a text."""
    masks: checkpoints.Masks
    saved: Checkpoints
    began: float
    """time.perf_counter() at which the run began, or would have, had it never been stopped."""


@in_32_bits
def train(config: TrainConfig, out: Path | str, mesh: Mesh | None = None, begin: Start = FRESH) -> checkpoints.Model:
    """Train to the end, or go on where `out` stopped; returns the trained model, also written to out/model.

    Writes out/config.json, out/metrics.jsonl (a line each evaluation: step, tokens, loss, bayes_loss, excess_nats,
    tokens_per_second, seconds; losses in nats per token on held-back documents, of which a text has no exact one; the
    first line after a start includes compilation), out/checkpoints, out/models/STEP where models stay on the way, and
    out/model (with the masks that were kept).
    Raises TrainingError with advice when `out` holds another configuration or a run of other code, when its files are
    damaged, when the loss is not finite and when the disk is full; KeyboardInterrupt, after saving, on Ctrl-C.
    """
    try:
        run, state, history = open_run(config, Path(out), mesh or devices.mesh(), begin)
    except (ValueError, FileNotFoundError) as error:
        raise TrainingError(str(error)) from error
    state = run_steps(run, state, history)
    return finish(run, state, history)


def open_run(config: TrainConfig, out: Path, mesh: Mesh, begin: Start) -> tuple[Run, TrainState, list[Line]]:
    """The run that `out` holds, new or stopped; the state to go on with; the metrics so far.

    Raises ValueError or TrainingError for a configuration that cannot be trained here, and where `out` holds something
    else or is damaged.
    """
    started = time.perf_counter()
    # before the folder is claimed, so that an error leaves no folder
    weights, masks, beginning = read_start(config, begin)
    data, (validation, bayes_loss) = make_data(config), validation_documents(config)
    read = read_text(config) if config.data.text else None
    if read and begin.start and "embedding" not in begin.reset:
        check_alphabet(begin.start, read.alphabet)
    split_batch(config, mesh)
    config, how = settle(config, out, mesh, beginning | ({"text": read.digest} if read else {}))

    optimizer = make_optimizer(config.optimizer, config.steps)
    graph, _ = checkpoints.abstract(config.model, config.precision)
    advance = make_steps(config, graph, optimizer, data, mesh, masks)
    fresh = initial_state(config, optimizer, mesh, weights)

    restored = restore_newest(out / "checkpoints", fresh)
    state = fresh if restored is None else restored
    done = int(state.step)
    history = read_metrics(out / "metrics.jsonl", done)
    about_loss = "no exact loss is known" if bayes_loss is None else f"exact Bayes {bayes_loss:.4f} nats/token"
    if jax.process_index() == 0:
        with saving("metrics.jsonl", out, 0, done):
            rewrite_metrics(out / "metrics.jsonl", history)
        tell(
            f"{how}; {mesh.shape['data']} x {mesh.shape['model']} devices; {about_loss}"
            f"{f'; going on from step {done}' if done else ''}"
        )
    began = started - (history[-1]["seconds"] if history else 0.0)
    saved = Checkpoints(out / "checkpoints")
    alphabet = read.alphabet if read else None
    return Run(config, out, mesh, graph, advance, validation, bayes_loss, alphabet, masks, saved, began), state, history


def check_alphabet(start: Path, alphabet: str) -> None:
    """Raise ValueError where a model knows tokens as other characters, or as none."""
    known = checkpoints.read_card(start).get("alphabet")
    if known != alphabet:
        raise ValueError(
            f"the model in {start} reads {'other characters' if known else 'no characters'}: draw its embedding and "
            "head anew by --reset embedding head"
        )


def run_steps(run: Run, state: TrainState, history: list[Line]) -> TrainState:
    """Train from `state` to the last step; evaluate, save and extend `history` on the way.

    Raises KeyboardInterrupt, after saving, on Ctrl-C.
    """
    config, done = run.config, int(state.step)
    evaluated, busy = done, 0.0  # steps, and seconds of training alone since then
    with progress_bar(run, done) as bar, Interruption() as interruption:
        while done < config.steps:
            due = next_evaluation(config, done)
            number = min(STEPS_A_CALL, due - done)
            tick = time.perf_counter()
            state, mean_loss = run.advance(state, number)
            loss = float(mean_loss)
            seconds = time.perf_counter() - tick
            check_finite(run, loss, f"within steps {done + 1} to {done + number}")
            done, busy = done + number, busy + seconds
            stop = interruption.anywhere()
            if done == due or stop:
                speed = tokens_per_second(config, done - evaluated, busy)
                state = evaluate_and_save(run, state, done, speed, history)
                evaluated, busy = done, 0.0
            speed = tokens_per_second(config, number, seconds)
            known = {name: history[-1].get(name) for name in ("loss", "excess_nats")} if history else {}
            told = {name: f"{value:.3f}" for name, value in known.items() if value is not None}
            bar.set_postfix({"training": f"{loss:.3f}"} | told | {"tokens_per_s": f"{speed:,.0f}"}, refresh=False)
            bar.update(number)
            if stop and done < config.steps:
                raise KeyboardInterrupt(f"saved step {done}; the same command goes on from there")
    return state


def next_evaluation(config: TrainConfig, done: int) -> int:
    """The step after which the next evaluation is due."""
    return min(config.steps, (done // config.evaluate_every + 1) * config.evaluate_every)


def tokens_per_second(config: TrainConfig, steps: int, seconds: float) -> float:
    """Predicted tokens of so many steps, by their seconds."""
    return steps * config.batch * (config.data.length - 1) / seconds


def check_finite(run: Run, loss: float, where: str) -> None:
    """Raise TrainingError with advice for a loss that is infinite or NaN."""
    if not np.isfinite(loss):
        last = run.saved.latest()
        good = f"step {last} in {run.out}/checkpoints" if last else "none yet"
        raise TrainingError(
            f"the loss is {loss} {where}; the last good checkpoint is {good}. Lower optimizer.learning_rate "
            "(or muon_learning_rate), or lengthen optimizer.warmup_steps, in a new --out"
        )


def evaluate_and_save(run: Run, state: TrainState, done: int, speed: float, history: list[Line]) -> TrainState:
    """Measure the loss on held-back documents, add its line to `history` and metrics.jsonl, and save a checkpoint.

    A model that is to stay is written before the checkpoint, so that a killed run leaves none out. Returns the state
    with the learning rate that the schedule takes from here on. `speed` is in tokens per second.
    """
    config = run.config
    loss = float(token_losses(run.graph, state.weights, run.validation, run.mesh).mean())
    check_finite(run, loss, f"on held-back documents after step {done}")
    line = {
        "step": done,
        "tokens": done * config.batch * (config.data.length - 1),
        "loss": loss,
        **({} if run.bayes_loss is None else {"bayes_loss": run.bayes_loss, "excess_nats": loss - run.bayes_loss}),
        "tokens_per_second": speed,
        "seconds": time.perf_counter() - run.began,
    }
    history.append(line)
    if done % config.evaluate_every == 0:  # not at an interruption: the schedule must not depend on those
        state = slow_down(config, state, history)
    if config.keep_every and done % config.keep_every == 0:
        write_model(run, state, run.out / "models" / str(done), history)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    with saving(f"step {done}", run.out, size, run.saved.latest() or 0):
        if jax.process_index() == 0:
            with open(run.out / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        # last: the line of a checkpoint that is missing is written again, but a missing line would be lost
        run.saved.save(done, state, loss)
    return state


def slow_down(config: TrainConfig, state: TrainState, history: list[Line]) -> TrainState:
    """Quarter the learning rate when the validation loss has stalled (plateau schedule only)."""
    losses = [line["loss"] for line in history if line["step"] % config.evaluate_every == 0]
    # a stall is PATIENCE lines without a new minimum; counting from the minimum makes every further PATIENCE another
    stalled = len(losses) - 1 - losses.index(min(losses))
    if config.optimizer.schedule != "plateau" or not stalled or stalled % PATIENCE:
        return state
    return state._replace(scale=state.scale * 0.25)


def finish(run: Run, state: TrainState, history: list[Line]) -> checkpoints.Model:
    """The trained model, also written to out/model."""
    run.saved.close()
    return write_model(run, state, run.out / "model", history)


def write_model(run: Run, state: TrainState, folder: Path, history: list[Line]) -> checkpoints.Model:
    """The model of a state, gathered from all devices; process 0 writes it, with its masks, into a folder."""
    gathered = jax.jit(lambda weights: weights, out_shardings=NamedSharding(run.mesh, P()))(state.weights)
    weights: checkpoints.Weights = {name: jnp.asarray(jax.device_get(weight)) for name, weight in gathered.items()}
    model = checkpoints.merge(run.graph, weights)
    if jax.process_index() == 0:
        size = sum(weight.nbytes for weight in gathered.values())
        about = history[-1] if history else {}
        with saving("the model", run.out, size, int(state.step)):
            if run.masks:
                checkpoints.save_masks(run.masks, folder)
            checkpoints.export(model, folder, **about, **({"alphabet": run.alphabet} if run.alphabet else {}))
    return model


def progress_bar(run: Run, done: int) -> tqdm:
    """A bar of steps on standard error, of the first process alone; `icl_synth` sets its pace."""
    quiet = jax.process_index() != 0
    return tqdm(desc=run.out.name, total=run.config.steps, initial=done, unit="step", smoothing=0.1, disable=quiet)


def tell(words: str) -> None:
    """Write a line to standard error without breaking a progress bar."""
    tqdm.write(words, file=sys.stderr)


def read_preset(arguments: list[str] | None) -> tuple[str, TrainConfig]:
    """The preset that a command line names and its configuration.

    The model's shape is that of --start if given, and the vocabulary that of --text.
    Raises ValueError for an unknown preset, ValueError and OSError for a --start without a model or a --text without
    works.
    """
    chooser = argparse.ArgumentParser(add_help=False)
    chooser.add_argument("--preset", default="quick")
    chooser.add_argument("--start")
    chooser.add_argument("--text")
    chosen, _ = chooser.parse_known_args(arguments)
    config = preset(chosen.preset)
    data, model = config.data, checkpoints.read_config(chosen.start) if chosen.start else config.model
    if chosen.text:
        vocab_size = len(text.read(chosen.text).alphabet)
        data = DataConfig("text", chosen.text, vocab_size, length=data.length)
        model = dataclasses.replace(model, vocab_size=vocab_size)
    vocab_size, length = min(data.vocab_size, model.vocab_size), min(data.length, model.context + 1)
    data = dataclasses.replace(data, vocab_size=vocab_size, length=length)
    return chosen.preset, dataclasses.replace(config, data=data, model=model)


def main(arguments: list[str] | None = None) -> None:
    """The command line; an error that a user can mend ends it with one plain line."""
    try:
        chosen, default = read_preset(arguments)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")

    def run(
        out: Path,
        preset: str = chosen,
        text: Path | None = None,
        config: Annotated[TrainConfig, tyro.conf.arg(name="")] = default,
        begin: Annotated[Start, tyro.conf.arg(name="")] = FRESH,
        where: Annotated[devices.Devices, tyro.conf.arg(name="")] = THIS_MACHINE,
    ) -> None:
        """Train a model on documents of a concept-HMM, or go on with a run that was stopped.

        Args:
            out: Folder of the run: config.json, metrics.jsonl, checkpoints and the final model.
            preset: Configuration that the fields below start from; a wrong name lists them.
            text: Folder of works to read instead of documents of a world; sets data.text and the vocabulary.
            config: What decides the weights. With --start, the model's shape is that of the folder.
            begin: What to go on from, if anything.
            where: What runs it.
        """
        mesh = devices.start(where, config.batch // max(1, config.micro_batch))
        # of several processes of one run, the first holds the lock for all
        with alone(Path(f"{out}.lock")) if jax.process_index() == 0 else contextlib.nullcontext():
            train(config, out, mesh, begin)

    try:
        tyro.cli(run, args=arguments, prog="python -m icl_synth.train", config=(tyro.conf.AvoidSubcommands,))
    except (TrainingError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as interruption:
        print(interruption, file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
