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


@dataclasses.dataclass(frozen=True)
class Devices:
    """Which machines take part."""

    model_parallel: int = 1
    """Devices that large weights are split over; the others share the batch."""
    distributed: bool = False
    """Join several processes. With none of the three below, the cluster's environment (SLURM, ...) tells them."""
    coordinator: str | None = None
    """host:port of process 0."""
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
    among them, so that each core runs a program of its own; `train` gives it the number of micro-batches. Call before
    JAX is used for anything else. Raises ValueError where the processes are only half described, and for numbers of
    devices or processes below one.
    """
    checks.at_least(1, model_parallel=choice.model_parallel)
    if choice.num_processes is not None:
        checks.at_least(1, num_processes=choice.num_processes)
    described = (choice.coordinator, choice.num_processes, choice.process_id)
    if any(x is not None for x in described) and None in described:
        raise ValueError("--coordinator, --num-processes and --process-id belong together; give all three or none")
    processes = choice.num_processes or int(os.environ.get("SLURM_NTASKS", "1") if choice.distributed else "1")
    here = (choice.coordinator or "").split(":")[0] in ("localhost", "127.0.0.1")
    here_alone = max(1, cores() // processes if here else cores())
    sequences = max(1, sequences // processes)
    share = max(n for n in range(1, here_alone + 1) if sequences % n == 0)
    jax.config.update("jax_num_cpu_devices", share * choice.model_parallel)
    if choice.distributed or choice.coordinator:
        jax.distributed.initialize(choice.coordinator, choice.num_processes, choice.process_id)
    return mesh(choice.model_parallel)


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
