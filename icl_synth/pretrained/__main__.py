"""python -m icl_synth.pretrained: train the quick models that runs/ lacks, and export them with their cards."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from icl_synth import checkpoints, devices, pretrained
from icl_synth.config import TrainConfig
from icl_synth.evaluate import answers, token_losses
from icl_synth.files import read_json
from icl_synth.lock import alone
from icl_synth.presets import preset
from icl_synth.prompts import sample_prompts
from icl_synth.run_folder import run_directory
from icl_synth.train import train
from icl_synth.training_data import validation_documents

PRESETS = {"transformer": "quick", "draft": "quick-draft", "lstm": "quick-lstm"}
PROMPTS = {"num_prompts": 1000, "num_examples": 16, "example_length": 10}


def scores(model: checkpoints.Model, config: TrainConfig) -> dict[str, Any]:
    """Loss and excess over Bayes on the run's validation documents, and accuracy on 1,000 prompts (k = 10, n = 16)."""
    validation, bayes_loss = validation_documents(config)
    assert bayes_loss is not None  # of a world
    loss = float(token_losses(*checkpoints.split(model), validation).mean())
    prompts = sample_prompts(config.data.build()[0], jax.random.key(1114), **PROMPTS)
    accuracy = float((answers(model, prompts) == np.asarray(prompts.labels)).mean())
    return {"loss": loss, "excess_nats": loss - bayes_loss, "accuracy": accuracy}


def main() -> None:
    devices.start(devices.Devices(), 2)
    for name, training in PRESETS.items():
        config = preset(training)
        out = run_directory(config, training)
        with alone(Path(f"{out}.lock")):
            train(config, out)
        # the shipped models multiply in float32 on every machine, whatever they were trained with
        model = checkpoints.load(out / "model", "float32")
        run = read_json(out / "config.json", "the folder of a run")
        record = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
        checkpoints.export(
            model,
            pretrained.HERE / name,
            preset=training,
            seed=config.seed,
            command=f"python -m icl_synth.train --preset {training} --out {out}",
            training=dataclasses.asdict(config),
            parameters=sum(weight.size for weight in checkpoints.split(model)[1].values()),
            tokens=record["tokens"],
            minutes=round(record["seconds"] / 60, 2),
            device=run["device"],
            commit=run["commit"],
            precision=run["precision"],
            prompts=PROMPTS,
            **scores(model, config),
        )


if __name__ == "__main__":
    main()
