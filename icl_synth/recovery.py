"""Damaged checkpoints: the newest state of a run that can still be read, and what to do about the others."""

import shutil
import sys
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from jaxtyping import PyTree
from tqdm import tqdm

from icl_synth.files import read_json


def restore_newest(folder: Path, like: PyTree) -> PyTree | None:
    """The newest readable state in a folder of checkpoints, with the shapes and shardings of `like`; None without any.

    Each damaged checkpoint is named on standard error and renamed to damaged-STEP. Raises ValueError, and renames
    nothing, where no checkpoint can be read, and where several processes share the run.
    """
    state, good, damaged = None, 0, {}
    steps = sorted((int(path.name) for path in folder.glob("*") if path.name.isdecimal()), reverse=True)
    with ocp.StandardCheckpointer() as reader:
        for step in steps:
            checkpoint = folder.absolute() / str(step)
            try:
                check_loss(checkpoint)  # of all: where one loss is damaged, orbax opens no checkpoint of the folder
                if state is None:
                    state, good = reader.restore(checkpoint / "default", like), step
            except (ValueError, OSError, KeyError) as error:
                damaged[step] = str(error).partition("\n")[0][:200]
    if not damaged:
        return state
    reasons = "; ".join(f"{folder / str(step)} is damaged ({why})" for step, why in damaged.items())
    if state is None:
        raise ValueError(f"no checkpoint can be read: {reasons}. Restore one, or remove {folder.parent} to start anew")
    if jax.process_count() > 1:
        raise ValueError(f"{reasons}. Remove it: the run then goes on from the checkpoint before")
    tqdm.write(f"{reasons}; renamed to damaged-STEP. The run goes on from step {good}", file=sys.stderr)
    for step in damaged:
        put_aside(folder, step)
    return state


def check_loss(checkpoint: Path) -> None:
    """Raise ValueError where the loss that was saved with a checkpoint cannot be read."""
    metrics = read_json(checkpoint / "metrics" / "metrics", "the loss of a checkpoint")
    if not isinstance(metrics, dict) or "loss" not in metrics:
        raise ValueError(f"{checkpoint / 'metrics' / 'metrics'} holds no loss")


def put_aside(folder: Path, step: int) -> None:
    """Rename a damaged checkpoint to damaged-STEP, in the place of an earlier one of that name."""
    aside = folder / f"damaged-{step}"
    shutil.rmtree(aside, ignore_errors=True)
    (folder / str(step)).rename(aside)
