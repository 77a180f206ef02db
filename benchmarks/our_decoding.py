"""Our generation, timed in a process of its own.

`python -m benchmarks.our_decoding tiny FOLDER`, or `large`, or `batch SIZE ...`.

The large pair has the pretrained models' functions at the shapes of the peer's: channels are repeated, so that every
product costs what it costs at that width and every logit is the small model's.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from decoding import speedup
from decoding.assisted import assisted_generate
from decoding.compare import compare, timed
from decoding.generate import generate
from decoding.readers import Reader, as_reader
from decoding.variants import in_bfloat16, in_int8, weight_bytes
from figures.assisted.common import Large
from figures.lab.programs import forget_if_many
from icl_synth import checkpoints, pretrained
from icl_synth.concept_hmm import official_ginc
from icl_synth.config import DataConfig, OptimizerConfig, TrainConfig
from icl_synth.documents import sample_documents
from icl_synth.train import train
from icl_synth.transformer import TransformerConfig

PROMPT, NEW, LONG, REPEATS = 32, 192, 96, 7
GAMMAS = (3, 5)  # more of them: figures/assisted/speed.py
BATCHES = (1, 2, 4, 8, 16, 32, 64)


def prompts(number: int) -> np.ndarray:
    """Beginnings of documents, never trained on."""
    return np.asarray(sample_documents(official_ginc()[0], jax.random.key(41), number, PROMPT)[0])


def train_tiny(folder: Path) -> None:
    """The peer's tiny pair as GPT-2s that transformers can read: 2 layers of 64 and 1 layer of 32."""
    for name, depth, width in (("target", 2, 64), ("draft", 1, 32)):
        config = TrainConfig(
            steps=1500,
            batch=8,
            evaluate_every=1500,
            precision="float32",
            data=DataConfig(),
            model=TransformerConfig(50, 256, depth, width, width // 32, style="gpt2"),
            optimizer=OptimizerConfig(),
        )
        train(config, folder / name)


def tiny(folder: Path) -> dict[str, Any]:
    """Seconds of greedy generation with the tiny pair, compile time, and the tokens, for the peer to compare."""
    target, draft = (as_reader(checkpoints.load(folder / name / "model")) for name in ("target", "draft"))
    prompt = prompts(1)
    began = time.perf_counter()
    tokens = generate(target, prompt, NEW)
    compile_plain = time.perf_counter() - began
    began = time.perf_counter()
    assisted = assisted_generate(target, draft, prompt, NEW)
    compile_assisted = time.perf_counter() - began
    assert (assisted.tokens == tokens).all()
    return {
        "plain": timed(lambda: generate(target, prompt, NEW), REPEATS),
        "assisted": timed(lambda: assisted_generate(target, draft, prompt, NEW), REPEATS),
        "compile": {"plain": compile_plain, "assisted": compile_assisted},
        "alpha": assisted.acceptance,
        "tokens": np.asarray(tokens).tolist(),
    }


def large() -> dict[str, Any]:
    """The large pair at batch 1: float32, bfloat16 and int8 targets, greedy and sampled."""
    target, draft = Large().models()
    assert np.allclose(target(prompts(1)), pretrained.load("transformer")(prompts(1)), atol=1e-3)
    kinds = {"float32": target, "bfloat16": in_bfloat16(target), "int8": in_int8(target)}
    probe, *texts = np.split(prompts(3), 3)
    sampled = {"temperature": 1.0, "key": jax.random.key(5)}
    found: dict[str, Any] = {"copy": speedup.copy_bandwidth()}
    said: dict[str, np.ndarray] = {}
    for name, model in kinds.items():
        reader = as_reader(model)
        said[name] = np.asarray(generate(reader, prompts(16), LONG))[:, PROMPT:]
        found[name] = {
            "bytes": weight_bytes(model),
            "same tokens": float((said[name] == said["float32"]).mean()),
            **exactness(model, as_reader(draft)),
        }
        for label, how in (("greedy", {}), ("sampled", sampled)):
            forget_if_many()
            lines = compare(reader, as_reader(draft), texts, probe, LONG, GAMMAS, **how)
            found[name][label] = [
                {
                    "gamma": line.gamma,
                    "plain": line.token,
                    "speedup": line.speedup,
                    "predicted": line.predicted_from_rounds,
                    "acceptance": line.acceptance,
                    "window": line.costs.verify[line.gamma + 1],
                }
                for line in lines
            ]
    return found


def exactness(model: checkpoints.Model, draft: Reader) -> dict[str, float | None]:
    """Assisted texts that are the model's own, and by how much its first choice beats its second, in nats: the median
    over all tokens, and where an assisted text first differs (a window rounds otherwise than a single token)."""
    reader, texts = as_reader(model), prompts(16)
    plain = np.asarray(generate(reader, texts, LONG))
    differ = np.asarray(assisted_generate(reader, draft, texts, LONG).tokens) != plain
    best = np.sort(np.asarray(model(plain[:, :-1])), axis=-1)[..., -2:]
    margin = (best[..., 1] - best[..., 0])[:, PROMPT - 1 :]
    first = [margin[row, differ[row, PROMPT:].argmax()] for row in np.flatnonzero(differ.any(1))]
    return {
        "own texts": float((~differ.any(1)).mean()),
        "margin": float(np.median(margin)),
        "margin where they differ": round(float(np.median(first)), 3) if first else None,
    }


def batch(sizes: Sequence[int]) -> dict[str, Any]:
    """Seconds by batch size with the pretrained transformer and its draft, all finishing at the same length."""
    target, draft = (as_reader(pretrained.load(name)) for name in ("transformer", "draft"))
    found = {}
    for size in sizes:
        prompt = prompts(size)
        assisted = assisted_generate(target, draft, prompt, NEW, num_draft=3)
        found[str(size)] = {
            "plain": timed(lambda prompt=prompt: generate(target, prompt, NEW), REPEATS),
            "assisted": timed(
                lambda prompt=prompt: assisted_generate(target, draft, prompt, NEW, num_draft=3), REPEATS
            ),
            "alpha": assisted.acceptance,
            "mean rounds": float(assisted.rounds.mean()),
            "rounds": int(assisted.rounds.max()),
        }
    return found


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "train":
        train_tiny(Path(rest[0]))
    elif what == "batch":
        print(json.dumps(batch([int(size) for size in rest] or BATCHES)))
    else:
        print(json.dumps(tiny(Path(rest[0])) if what == "tiny" else large()))
