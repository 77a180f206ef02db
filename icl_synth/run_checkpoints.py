"""The checkpoints of one training run, written by orbax: each is whole or absent."""

from pathlib import Path

import orbax.checkpoint as ocp
from jaxtyping import PyTree
from orbax.checkpoint import checkpoint_managers


def _loss(metrics: dict[str, float]) -> float:
    return metrics["loss"]


class Checkpoints:
    """The last three checkpoints of a run and the one of lowest validation loss."""

    def __init__(self, directory: Path):
        keep = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(3),
                checkpoint_managers.BestN(get_metric_fn=_loss, reverse=True, n=1),
            ]
        )
        # best_fn makes orbax write the metrics down, so that a later process still knows the best
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep,
            best_fn=_loss,
            best_mode="min",
            cleanup_tmp_directories=True,
            enable_async_checkpointing=False,
        )
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def steps(self) -> list[int]:
        """Steps of all whole checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def latest(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, state: PyTree, loss: float) -> None:
        """Save the state after `step` steps. Raises OSError where the disk is full; older checkpoints stay."""
        self._manager.save(step, args=ocp.args.StandardSave(state), metrics={"loss": loss})

    def restore(self, step: int, like: PyTree) -> PyTree:
        """The state saved at `step`, with the shapes and shardings of `like`."""
        return self._manager.restore(step, args=ocp.args.StandardRestore(like))

    def close(self) -> None:
        self._manager.close()
