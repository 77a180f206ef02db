"""Block floating point on small inputs, as JSON: the same with and without JAX_ENABLE_X64."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from compression.block_float import decode, encode, in_format, integer_matmul, matmul, pack, quantize, report, unpack
from compression.block_float.formats import FORMATS, find
from icl_synth import checkpoints
from icl_synth.lstm import LSTMConfig
from icl_synth.transformer import TransformerConfig

NAMES = ["mx6", "mxfp8_e4m3", "nvfp4", "int8", "q3.4", "bf16"]  # every kind of scale and element
RNG = np.random.default_rng(0)
X = np.ldexp(RNG.normal(size=(3, 20)), RNG.integers(-9, 9, (3, 20)))  # float64, as x64 users have it
Y = RNG.normal(size=(20, 2))


def numbers(values) -> list:
    return np.asarray(values).ravel().tolist()


def conversions(name: str) -> dict[str, list]:
    """Values of an array in a format, by every way that leads to them, and two products."""
    lines = {"values": numbers(quantize(X, name))}
    lines["random"] = numbers(quantize(X, name, rounding="stochastic", key=jax.random.key(1)))
    a, b = jnp.asarray(X), jnp.asarray(Y)
    lines["product"] = numbers(matmul(a, b, name))
    lines["gradients"] = numbers(jnp.concatenate([g.ravel() for g in jax.grad(product_sum, (0, 1))(a, b, name)]))
    if find(name).scale == "none":
        return lines
    encoded = encode(X, name)
    stored = pack(encoded)
    lines |= {f"stored {part}": numbers(array) for part, array in stored.items()}
    lines["decoded"] = numbers(decode(unpack(stored, encoded.format, encoded.shape, encoded.axis)))
    lines["integer product"] = numbers(integer_matmul(encoded, encode(Y, name, axis=0)).values)
    return lines


def product_sum(a, b, name: str):
    return (matmul(a, b, name) ** 2).sum()


def models() -> dict[str, list]:
    """Logits of models in a format, and the noise of a layer; weights come from NumPy and are the same either way."""
    lines, tokens = {}, np.arange(12).reshape(2, 6)
    for config in (TransformerConfig(50, 8, 1, 16, 2), LSTMConfig(50, 8, 1, 16)):
        graph, weights = checkpoints.split(checkpoints.create(config))
        rng = np.random.default_rng(1)
        drawn = {n: jnp.asarray(0.3 * rng.normal(size=w.shape), jnp.float32) for n, w in sorted(weights.items())}
        model, kind = checkpoints.merge(graph, drawn), type(config).__name__
        lines[f"{kind} logits"] = numbers(in_format(model, "msfp14")(tokens))
        lines[f"{kind} noise"] = numbers([line[1:] for line in report(model, "msfp14", tokens)])
    return lines


def everything() -> dict[str, list]:
    lines = {f"{name} {what}": values for name in NAMES for what, values in conversions(name).items()}
    return lines | models() | {"formats": [format.average_bits for format in FORMATS.values()]}


if __name__ == "__main__":
    print(json.dumps(everything()))
