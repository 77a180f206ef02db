"""Our training step at the peer's shape: `python -m benchmarks.our_step transformer float32 adamw REPEATS SECONDS`."""

import sys
import time
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


def time_step(
    kind: str, precision: str, optimizer: Literal["muon", "adamw"], repeats: int, seconds: float
) -> list[float]:
    """Tokens a second of each of `repeats` timings of at least `seconds` of optimizer steps, data included."""
    model, micro_batch = MODELS[kind]
    config = TrainConfig(
        batch=16,
        micro_batch=micro_batch,
        data=DataConfig(length=257),
        model=model,
        optimizer=OptimizerConfig(optimizer),
    )
    mesh = devices.start(devices.Devices(), config.batch)
    transformation = make_optimizer(config.optimizer, config.steps)
    graph, _ = checkpoints.split(checkpoints.create(config.model, dtype=precision))
    advance = make_steps(config, graph, transformation, make_data(config), mesh)
    state, loss = advance(initial_state(config, transformation, mesh), 1)
    loss.block_until_ready()
    speeds = []
    for _ in range(repeats):
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            state, loss = advance(state, 2)
            loss.block_until_ready()
            steps += 2
        speeds.append(steps * config.batch * (config.data.length - 1) / (time.perf_counter() - start))
    return speeds


if __name__ == "__main__":
    kind, precision, optimizer, repeats, seconds = sys.argv[1:]
    chosen = cast(Literal["muon", "adamw"], optimizer)
    print(*time_step(kind, precision, chosen, int(repeats), float(seconds)))
