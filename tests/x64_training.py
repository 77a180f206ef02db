"""Print what training and the models compute on tiny inputs; it must not depend on jax_enable_x64 (see test_x64.py)."""

import json
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from icl_synth import checkpoints, devices, layers
from icl_synth.config import DataConfig, OptimizerConfig, TrainConfig
from icl_synth.lstm import LSTMConfig
from icl_synth.train import train
from icl_synth.transformer import TransformerConfig

MODELS = {
    "modern": TransformerConfig(50, 8, 1, 8, 2),
    "gpt2": TransformerConfig(50, 8, 1, 8, 2, style="gpt2", dropout=0.3),
    "lstm": LSTMConfig(50, 8, 1, 8, dropout=0.3),
}
OPTIMIZERS = {"modern": OptimizerConfig(), "lstm": OptimizerConfig("adamw")}
TOKENS = np.arange(12, dtype=np.int32).reshape(2, 6)


def flat(tree) -> list[float]:
    """All numbers of a pytree; a 64-bit float in it is an error."""
    leaves = jax.tree.leaves(tree)
    wide = [leaf.dtype for leaf in leaves if leaf.dtype == jnp.float64]
    if wide:
        raise TypeError(f"{len(wide)} arrays are of 64 bits")
    return np.concatenate([np.ravel(leaf) for leaf in leaves]).tolist()


def trained(name: str) -> list[float]:
    """Weights after three steps."""
    config = TrainConfig(
        steps=3, batch=2, evaluate_every=3, evaluation_documents=2, precision="float32",
        data=DataConfig(length=9), model=MODELS[name], optimizer=OPTIMIZERS[name],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        model = train(config, Path(folder) / "run", devices.mesh(over=jax.devices()[:1]))
    return flat(dict(sorted(checkpoints.split(model)[1].items())))


def read(name: str) -> dict[str, list[float]]:
    """Fresh weights, logits with and without dropout, and logits from a state that is extended twice."""
    fresh = checkpoints.create(MODELS[name], 5)
    graph, weights = checkpoints.split(fresh)
    # zero-initialised weights would hide differences
    waves = {key: np.cos(np.arange(weight.size)).reshape(weight.shape) for key, weight in weights.items()}
    weights = {key: weight + jnp.asarray(0.1 * waves[key], jnp.float32) for key, weight in weights.items()}
    model = checkpoints.merge(graph, weights)
    state = model.init_state(2, 6)
    _, state = model.extend(TOKENS[:, :4], state)
    logits, state = model.extend(TOKENS[:, 4:], state)
    return {
        f"{name}.fresh": flat(dict(sorted(checkpoints.split(fresh)[1].items()))),
        f"{name}.logits": flat(model(TOKENS)),
        f"{name}.dropout": flat(model(TOKENS, key=jax.random.key(1))),
        f"{name}.extended": flat([logits, state]),
    }


def attended() -> list[float]:
    """Causal attention and RMSNorm with their gradients."""
    query, key, value = (jax.random.normal(jax.random.key(i), (1, 2, 70, 4), jnp.float32) for i in range(3))
    out, pull = jax.vjp(lambda *x: layers.causal_attention(*x, "float32"), query, key, value)
    gain = jnp.arange(4, dtype=jnp.float32)
    normed, norm_pull = jax.vjp(lambda x, gain: layers.rms_norm(x, gain, 1e-5), query, gain)
    return flat([out, pull(value), normed, norm_pull(key)])


def main() -> None:
    numbers = {f"{name}.trained": trained(name) for name in OPTIMIZERS}
    for name in MODELS:
        numbers |= read(name)
    print(json.dumps(numbers | {"attention": attended()}))


if __name__ == "__main__":
    main()
