"""Our training step at the peer's shape: `python -m benchmarks.our_step transformer float32 adamw REPEATS SECONDS`."""

import sys
import time
from collections.abc import Callable
from typing import Literal, cast

from icl_synth import checkpoints, devices
from icl_synth.config import DataConfig, OptimizerConfig, TrainConfig
from icl_synth.lstm import LSTMConfig
from icl_synth.step import initial_state, make_optimizer, make_steps
from icl_synth.training_data import make_data
from icl_synth.transformer import TransformerConfig

MODELS: dict[str, tuple[TransformerConfig | LSTMConfig, int]] = {
    "transformer": (TransformerConfig(50, 256, 4, 128, 4), 1),
    "lstm": (LSTMConfig(50, 256, 2, 128), 0),
}
BATCH = 16


def stepping(
    model: TransformerConfig | LSTMConfig,
    batch: int,
    micro_batch: int,
    precision: str,
    optimizer: Literal["muon", "adamw"] = "adamw",
) -> Callable[[int], None]:
    """A function that takes so many optimizer steps, data included, and returns when they are done."""
    config = TrainConfig(
        batch=batch,
        micro_batch=micro_batch,
        data=DataConfig(length=model.context + 1),
        model=model,
        optimizer=OptimizerConfig(optimizer),
    )
    mesh = devices.start(devices.Devices(), batch // max(1, micro_batch))
    transformation = make_optimizer(config.optimizer, config.steps)
    graph, _ = checkpoints.split(checkpoints.create(config.model, dtype=precision))
    advance = make_steps(config, graph, transformation, make_data(config), mesh)
    state = initial_state(config, transformation, mesh)

    def step(steps: int) -> None:
        nonlocal state
        state, loss = advance(state, steps)
        loss.block_until_ready()

    return step


def time_step(
    kind: str, precision: str, optimizer: Literal["muon", "adamw"], repeats: int, seconds: float
) -> list[float]:
    """Tokens a second of each of `repeats` timings of at least `seconds` of optimizer steps, data included."""
    model, micro_batch = MODELS[kind]
    step = stepping(model, BATCH, micro_batch, precision, optimizer)
    step(1)
    speeds = []
    for _ in range(repeats):
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            step(2)
            steps += 2
        speeds.append(steps * BATCH * model.context / (time.perf_counter() - start))
    return speeds


if __name__ == "__main__":
    kind, precision, optimizer, repeats, seconds = sys.argv[1:]
    chosen = cast(Literal["muon", "adamw"], optimizer)
    print(*time_step(kind, precision, chosen, int(repeats), float(seconds)))
