"""Where a program runs: one device for each CPU core or accelerator, one process or several, one mesh for all."""

import dataclasses
import os
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from icl_synth import checks

SHARDED_FROM = 1 << 20  # weights of at least this many numbers are split over the model axis
BY_HAND = "--coordinator HOST:PORT, --num-processes and --process-id"
SLURM_NUMBERS = ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")


@dataclasses.dataclass(frozen=True)
class Devices:
    """Which machines take part."""

    model_parallel: int = 1
    """Devices that large weights are split over; the others share the batch."""
    distributed: bool = False
    """Join several processes. Without the three below, the cluster's environment (SLURM, ...) describes them."""
    coordinator: str | None = None
    """HOST:PORT of process 0."""
    num_processes: int | None = None
    """Number of processes."""
    process_id: int | None = None
    """Number of this process, from 0."""


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start(choice: Devices, sequences: int) -> Mesh:
    """Join the other processes if asked, and lay a (data, model) mesh over all devices.

    A CPU counts as one device for each core, as far as `sequences`, the batch of all processes together, divides
    among them, so that each core runs a program of its own; `train` passes the number of micro-batches. Call before
    JAX is used for anything else. Raises ValueError where the processes are described wrongly or only in part, where
    they cannot join, and for numbers of devices or processes below one.
    """
    checks.at_least(1, model_parallel=choice.model_parallel)
    processes = count_processes(choice)
    on_this_machine = (choice.coordinator or "").rpartition(":")[0] in ("localhost", "127.0.0.1", "[::1]")
    available = max(1, cores() // processes if on_this_machine else cores())
    sequences = max(1, sequences // processes)
    share = max(n for n in range(1, available + 1) if sequences % n == 0)
    jax.config.update("jax_num_cpu_devices", share * choice.model_parallel)
    if choice.distributed or choice.coordinator:
        join(choice)
    return mesh(choice.model_parallel)


def count_processes(choice: Devices) -> int:
    """The number of processes that a choice describes, itself or through SLURM's environment.

    Raises ValueError that says what is expected where the description is wrong or incomplete.
    """
    described = (choice.coordinator, choice.num_processes, choice.process_id)
    if choice.coordinator is None or choice.num_processes is None or choice.process_id is None:
        if any(part is not None for part in described):
            raise ValueError(f"{BY_HAND} belong together; give all three or none")
        return count_slurm_tasks() if choice.distributed else 1
    checks.at_least(1, num_processes=choice.num_processes)
    if not 0 <= choice.process_id < choice.num_processes:
        raise ValueError(
            f"--process-id must lie in 0..{choice.num_processes - 1} for {choice.num_processes} processes, "
            f"got {choice.process_id}"
        )
    host, _, port = choice.coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ValueError(
            f"--coordinator must be HOST:PORT with a port from 1 to 65535, as in node1:1234, got {choice.coordinator!r}"
        )
    return choice.num_processes


def count_slurm_tasks() -> int:
    """The number of tasks of this SLURM step, 1 outside SLURM. Raises ValueError for a variable that is no number."""
    for name in SLURM_NUMBERS:
        if not (given := os.environ.get(name, "0")).isdecimal():
            raise ValueError(
                f"{name} must be a whole number such as 8, got {given!r}: "
                f"start the processes with srun, or give {BY_HAND}"
            )
    return max(1, int(os.environ.get("SLURM_NTASKS", "1")))


def join(choice: Devices) -> None:
    """Join the other processes. Raises ValueError where no cluster is found or its processes do not meet."""
    try:
        jax.distributed.initialize(choice.coordinator, choice.num_processes, choice.process_id)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"the processes cannot join ({error}). Expected {BY_HAND}, or --distributed inside a cluster that JAX "
            f"knows: a SLURM step sets {', '.join(SLURM_NUMBERS)} and SLURM_STEP_NODELIST"
        ) from error


def mesh(model_parallel: int = 1, over: Sequence[jax.Device] | None = None) -> Mesh:
    """All devices, or the given ones, as (data, model). Raises ValueError where they do not divide."""
    over = jax.devices() if over is None else over
    if model_parallel < 1 or not over or len(over) % model_parallel:
        raise ValueError(f"model_parallel {model_parallel} does not divide the {len(over)} devices")
    shape = (len(over) // model_parallel, model_parallel)
    return jax.make_mesh(shape, ("data", "model"), (AxisType.Auto, AxisType.Auto), devices=over)


def weight_sharding(weight: Array | jax.ShapeDtypeStruct, over: Mesh) -> NamedSharding:
    """Split a large weight's longest divisible axis over the model axis, keep small ones whole on every device."""
    parts = over.shape["model"]
    axes = [axis for axis, size in enumerate(weight.shape) if size % parts == 0]
    if parts == 1 or not axes or np.prod(weight.shape) < SHARDED_FROM:
        return NamedSharding(over, P())
    longest = max(axes, key=lambda axis: weight.shape[axis])
    return NamedSharding(over, P(*[None] * longest, "model"))
