"""Train a model on documents of a concept-HMM: python -m icl_synth.train --preset quick --out runs/quick

Started again with the same command, a run goes on from its last checkpoint and ends with bit-equal weights.
"""

import argparse
import contextlib
import dataclasses
import json
import signal
import sys
import threading
import time
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

from icl_synth import bayes, checkpoints, devices
from icl_synth.config import TrainConfig, preset
from icl_synth.documents import sample_documents
from icl_synth.evaluate import token_losses
from icl_synth.lock import alone
from icl_synth.run_folder import Start, TrainingError, read_metrics, read_start, rewrite_metrics, save, settle
from icl_synth.step import TrainState, initial_state, make_data, make_optimizer, make_steps, split_batch

STEPS_A_CALL = 20  # run as one compiled call; Ctrl-C and the progress bar act between calls
VALIDATION_SEED = 2022
THIS_MACHINE = devices.Devices()
FRESH = Start()
PATIENCE = 2  # evaluations without a better loss before the plateau schedule quarters the rate


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


def train(config: TrainConfig, out: Path | str, mesh: Mesh | None = None, begin: Start = FRESH) -> checkpoints.Model:
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


def validation_documents(config: TrainConfig) -> tuple[Int[np.ndarray, "B L"], float]:
    """Documents that no training seed sees, the same for all runs of a world, and their exact loss in nats a token."""
    hmm, _ = config.data.build()
    key = jax.random.key(VALIDATION_SEED)
    tokens, _ = sample_documents(hmm, key, config.evaluation_documents, config.data.length)
    return np.asarray(tokens), -float(bayes.token_log_likelihoods(hmm, tokens)[:, 1:].mean())


def slow_down(config: TrainConfig, state: TrainState, history: list[dict[str, Any]]) -> TrainState:
    """Quarter the learning rate when the validation loss has stalled (plateau schedule only)."""
    losses = [line["loss"] for line in history if line["step"] % config.evaluate_every == 0]
    # a stall is PATIENCE lines without a new minimum; counting from the minimum makes every further PATIENCE one more
    stalled = len(losses) - 1 - losses.index(min(losses))
    if config.optimizer.schedule != "plateau" or not stalled or stalled % PATIENCE:
        return state
    return state._replace(scale=state.scale * 0.25)


def main(arguments: list[str] | None = None) -> None:
    """The command line; errors that a user can mend end it with one plain line."""
    chooser = argparse.ArgumentParser(add_help=False)
    chooser.add_argument("--preset", default="quick")
    chooser.add_argument("--start")
    chosen, _ = chooser.parse_known_args(arguments)
    try:
        default = preset(chosen.preset)
        if chosen.start:
            model = checkpoints.read_config(chosen.start)
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
        begin: Annotated[Start, tyro.conf.arg(name="")] = FRESH,
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
