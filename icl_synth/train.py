"""Train a model on documents of a concept-HMM: python -m icl_synth.train --preset quick --out runs/quick

Started again with the same command, a run goes on from its last checkpoint and ends with bit-equal weights.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Int
from tqdm import tqdm

from icl_synth import bayes, checkpoints, devices, layers
from icl_synth.config import TrainConfig, preset
from icl_synth.documents import sample_documents
from icl_synth.evaluate import token_losses
from icl_synth.lock import alone
from icl_synth.provenance import commit, device
from icl_synth.step import TrainState, initial_state, make_data, make_optimizer, make_steps, split_batch
from icl_synth.transformer import TransformerConfig

STEPS_A_CALL = 20  # run as one compiled call; Ctrl-C and the progress bar act between calls
VALIDATION_SEED = 2022
THIS_MACHINE = devices.Devices()
PATIENCE = 2  # evaluations without a better loss before the plateau schedule quarters the rate


class TrainingError(RuntimeError):
    """A run cannot start or go on; the message says why and what to do."""


class Interruption:
    """Remembers Ctrl-C (and SIGTERM) so that the loop can save first; a second Ctrl-C acts at once."""

    def __enter__(self):
        self.seen = False
        in_main = threading.current_thread() is threading.main_thread()  # elsewhere Python lets nobody listen
        signals = (signal.SIGINT, signal.SIGTERM) if in_main else ()
        self._before = {number: signal.signal(number, self._remember) for number in signals}
        return self

    def _remember(self, number, frame):
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True

    def anywhere(self) -> bool:
        """Whether any process was interrupted: all must stop between the same steps."""
        if jax.process_count() == 1:
            return self.seen
        return bool(multihost_utils.process_allgather(np.array(self.seen)).any())

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)


@dataclasses.dataclass(frozen=True)
class Start:
    """What a run begins with instead of fresh weights."""

    start: Path | None = None
    """Fine-tune the model in this folder, written by a run, `checkpoints.export` or `compression.apply`."""
    keep_masks: bool = False
    """Weights that start/masks.safetensors drops stay zero."""


def train(config: TrainConfig, out: Path | str, mesh: Mesh | None = None, begin: Start = Start()) -> checkpoints.Model:
    """Train to the end, or go on where `out` stopped; returns the trained model, also written to out/model.

    Writes out/config.json, out/metrics.jsonl (a line each evaluation: step, tokens, loss, bayes_loss, excess_nats,
    tokens_per_second, seconds; losses in nats a token on held-back documents; the first line after a start counts
    compilation in), out/checkpoints and out/model (with the masks that were kept).
    Raises TrainingError with advice when `out` holds another configuration, when the loss is no longer a number and
    when the disk is full; KeyboardInterrupt, after saving, on Ctrl-C.
    """
    out, mesh = Path(out), mesh or devices.mesh()
    chief = jax.process_index() == 0
    weights, masks, beginning = read_start(config, begin)
    try:  # before the folder is claimed
        hmm, _ = config.data.build()
        split_batch(config, mesh)
    except ValueError as error:
        raise TrainingError(str(error)) from error
    resolved, how = settle(config, out, mesh, beginning)
    started = time.perf_counter()

    optimizer = make_optimizer(resolved.optimizer, resolved.steps)
    graph, _ = checkpoints.split(checkpoints.create(resolved.model, resolved.seed, resolved.precision))
    advance = make_steps(resolved, graph, optimizer, make_data(resolved, hmm), mesh, masks)
    state = initial_state(resolved, optimizer, mesh, weights)
    validation, bayes_loss = validation_documents(resolved)

    saved = checkpoints.Checkpoints(out / "checkpoints")
    done = saved.latest() or 0
    if done:
        state = saved.restore(done, state)
    history = read_metrics(out / "metrics.jsonl", done)
    before = history[-1]["seconds"] if history else 0.0
    if chief:
        rewrite_metrics(out / "metrics.jsonl", history)
        tqdm.write(
            f"{how}; {mesh.shape['data']} x {mesh.shape['model']} devices; "
            f"exact Bayes {bayes_loss:.4f} nats/token{f'; going on from step {done}' if done else ''}",
            file=sys.stderr,
        )

    def per_second(steps: int, seconds: float) -> float:
        return steps * resolved.batch * (resolved.data.length - 1) / seconds

    evaluated, busy = done, 0.0  # steps and seconds of training alone since the last evaluation

    def check_finite(loss: float, where: str) -> None:
        if not np.isfinite(loss):
            good = f"step {saved.latest()} in {out}/checkpoints" if saved.latest() else "none yet"
            raise TrainingError(
                f"the loss is {loss} {where}; the last good checkpoint is {good}. Lower optimizer.learning_rate "
                "(or muon_learning_rate), or lengthen optimizer.warmup_steps, in a new --out"
            )

    def evaluate_and_save() -> None:
        nonlocal state, evaluated, busy
        loss = float(token_losses(graph, state.weights, validation, mesh).mean())
        check_finite(loss, f"on held-back documents after step {done}")
        line = {
            "step": done,
            "tokens": done * resolved.batch * (resolved.data.length - 1),
            "loss": loss,
            "bayes_loss": bayes_loss,
            "excess_nats": loss - bayes_loss,
            "tokens_per_second": per_second(done - evaluated, busy),
            "seconds": before + time.perf_counter() - started,
        }
        history.append(line)
        if done % resolved.evaluate_every == 0:  # not at an interruption: the schedule must not depend on those
            state = slow_down(resolved, state, history)
        if chief:
            with open(out / "metrics.jsonl", "a") as file:
                file.write(json.dumps(line) + "\n")
        evaluated, busy = done, 0.0
        save(saved, done, state, loss)  # last: a line without its checkpoint is done again, never the reverse

    bar = tqdm(total=resolved.steps, initial=done, unit="step", desc=out.name, disable=not chief, smoothing=0.1)
    with bar, Interruption() as interruption:
        while done < resolved.steps:
            due = min(resolved.steps, (done // resolved.evaluate_every + 1) * resolved.evaluate_every)
            number = min(STEPS_A_CALL, due - done)
            tick = time.perf_counter()
            state, mean_loss = advance(state, number)
            loss = float(mean_loss)
            check_finite(loss, f"within steps {done + 1} to {done + number}")
            done += number
            seconds = time.perf_counter() - tick
            busy += seconds
            stop = interruption.anywhere()
            if done == due or stop:
                evaluate_and_save()
            bar.update(number)
            excess = f"{history[-1]['excess_nats']:.3f}" if history else "?"
            bar.set_postfix(loss=f"{loss:.3f}", excess=excess, tokens_per_s=f"{per_second(number, seconds):,.0f}")
            if stop and done < resolved.steps:
                raise KeyboardInterrupt(f"saved step {done}; the same command goes on from there")
    saved.close()
    whole = jax.jit(lambda weights: weights, out_shardings=NamedSharding(mesh, P()))(state.weights)
    model = checkpoints.merge(graph, {name: jnp.asarray(jax.device_get(w)) for name, w in whole.items()})
    if chief:
        if masks:
            checkpoints.save_masks(masks, out / "model")
        checkpoints.export(model, out / "model", **history[-1] if history else {})
    return model


def read_start(
    config: TrainConfig, begin: Start
) -> tuple[checkpoints.Weights | None, checkpoints.Masks, dict[str, Any]]:
    """The weights and masks to begin with, and the hashes of their files, by which a run knows them again."""
    if begin.start is None:
        if begin.keep_masks:
            raise TrainingError("--keep-masks needs --start, the folder of a pruned model")
        return None, {}, {}
    try:
        model = checkpoints.load(begin.start)
        weights = checkpoints.split(model)[1]
        masks = checkpoints.load_masks(begin.start, weights) if begin.keep_masks else {}
    except (ValueError, OSError) as error:
        raise TrainingError(str(error)) from error
    if model.config != config.model:
        raise TrainingError(f"{begin.start} holds {model.config}, the run is configured for {config.model}")
    files = {"start": "model.safetensors"} | ({"keep_masks": "masks.safetensors"} if masks else {})
    return (
        weights,
        masks,
        {name: hashlib.sha256((begin.start / file).read_bytes()).hexdigest() for name, file in files.items()},
    )


def run_directory(config: TrainConfig, name: str) -> Path:
    """runs/NAME-SEED-DIGEST: a folder for each configuration, so that a changed preset never meets an old run."""
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(config), sort_keys=True).encode()).hexdigest()[:8]
    return Path("runs") / f"{name}-{config.seed}-{digest}"


def validation_documents(config: TrainConfig) -> tuple[Int[np.ndarray, "B L"], float]:
    """Documents that no training seed sees, the same for all runs of a world, and their exact loss in nats a token."""
    hmm, _ = config.data.build()
    key = jax.random.key(VALIDATION_SEED)
    tokens, _ = sample_documents(hmm, key, config.evaluation_documents, config.data.length)
    return np.asarray(tokens), -float(bayes.token_log_likelihoods(hmm, tokens)[:, 1:].mean())


def settle(config: TrainConfig, out: Path, mesh: Mesh, beginning: dict[str, Any]) -> tuple[TrainConfig, str]:
    """Decide what the configuration leaves open, once for the run's whole life; check `out` against it.

    Process 0 decides and writes; the others wait and read, so that all agree.
    """
    path, asked = out / "config.json", dataclasses.asdict(config) | beginning
    if jax.process_index() == 0 and not path.exists():
        if out.exists() and (
            not out.is_dir() or any(not file.name.endswith(".writing.json") for file in out.iterdir())
        ):
            raise TrainingError(f"{out} is not empty and holds no run of ours: choose another --out")
        precision, why = layers.choose_precision(config.precision)
        in_cache = jax.default_backend() == "cpu" and isinstance(config.model, TransformerConfig)
        choice = {
            "asked": asked,
            "precision": precision,
            "micro_batch": config.micro_batch or (1 if in_cache else 0),
            "why": why,
            "devices": mesh.shape["data"],
            "device": device(),
            "commit": commit(),
        }
        checkpoints.write_text(path, json.dumps(choice, indent=2) + "\n")
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("the configuration is written")
    stored = json.loads(path.read_text())
    if "asked" not in stored:
        raise TrainingError(f"{out} holds a model, not a run of ours: choose another --out")
    there, here = dict(_flat(stored["asked"])), dict(_flat(asked))
    different = [
        f"{name}: {there.get(name, 'nothing')} there, {here.get(name, 'nothing')} asked for"
        for name in there | here
        if there.get(name) != here.get(name)
    ]
    if different:
        raise TrainingError(
            f"{out} holds a run of another configuration ({'; '.join(different)}). "
            "Nothing was changed: choose another --out, or repeat the command that made it"
        )
    resolved = dataclasses.replace(config, precision=stored["precision"], micro_batch=stored["micro_batch"])
    how = f"{stored['precision']} products ({stored['why']})"
    if stored["devices"] != mesh.shape["data"]:
        how += f"; begun on {stored['devices']} devices, so weights will equal an uninterrupted run's to rounding only"
    return resolved, how


def _flat(nested: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def slow_down(config: TrainConfig, state: TrainState, history: list[dict[str, Any]]) -> TrainState:
    """Quarter the learning rate when the validation loss has stalled (plateau schedule only)."""
    losses = [line["loss"] for line in history if line["step"] % config.evaluate_every == 0]
    # a stall is PATIENCE lines without a new minimum; counting from the minimum makes every further PATIENCE one more
    stalled = len(losses) - 1 - losses.index(min(losses))
    if config.optimizer.schedule != "plateau" or not stalled or stalled % PATIENCE:
        return state
    return state._replace(scale=state.scale * 0.25)


def save(saved: checkpoints.Checkpoints, step: int, state: TrainState, loss: float) -> None:
    """Save a checkpoint; a full disk becomes a plain TrainingError."""
    try:
        saved.save(step, state, loss)
    except Exception as error:
        if "No space left" not in str(error) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise TrainingError(
            f"the disk is full: step {step} was not saved, the last whole checkpoint is step {saved.latest()}. "
            "Make room and repeat the command"
        ) from error


def read_metrics(path: Path, step: int) -> list[dict[str, Any]]:
    """The lines up to a step; what a killed run wrote after its last checkpoint is done again."""
    if not path.exists():
        return []
    whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in map(json.loads, whole) if line["step"] <= step]


def rewrite_metrics(path: Path, lines: list[dict[str, Any]]) -> None:
    checkpoints.write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def main(arguments: list[str] | None = None) -> None:
    """The command line; errors that a user can mend end it with one plain line."""
    chooser = argparse.ArgumentParser(add_help=False)
    chooser.add_argument("--preset", default="quick")
    chooser.add_argument("--start")
    chosen, _ = chooser.parse_known_args(arguments)
    try:
        default = preset(chosen.preset)
        if chosen.start:
            model = checkpoints.load(chosen.start).config
            vocab_size, length = (
                min(default.data.vocab_size, model.vocab_size),
                min(default.data.length, model.context + 1),
            )
            data = dataclasses.replace(default.data, vocab_size=vocab_size, length=length)
            default = dataclasses.replace(default, model=model, data=data)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")

    def run(
        out: Path,
        preset: str = chosen.preset,
        config: Annotated[TrainConfig, tyro.conf.arg(name="")] = default,
        begin: Annotated[Start, tyro.conf.arg(name="")] = Start(),
        where: Annotated[devices.Devices, tyro.conf.arg(name="")] = THIS_MACHINE,
    ) -> None:
        """Train a model on documents of a concept-HMM, or go on with a run that was stopped.

        Args:
            out: Folder of the run: config.json, metrics.jsonl, checkpoints and the final model.
            preset: Configuration that the fields below start from; a wrong name lists them.
            config: What decides the weights. With --start, the model's shape is that of the folder.
            begin: What to fine-tune, if anything.
            where: What runs it.
        """
        mesh = devices.start(where, config.batch // max(1, config.micro_batch))
        # of several processes of one run the first stands for all
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
