"""The LSTM against a plain loop, its written gradient against differentiation, and torch's where it is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_transformer import TINY_LSTM, stirred, tokens

from icl_synth import checkpoints
from icl_synth.lstm import recurrence


def plain_recurrence(gates, weight, hidden, cell):
    outputs = []
    for gates_in in gates:
        i, f, g, o = jnp.split(gates_in + hidden @ weight, 4, axis=-1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        outputs.append(hidden)
    return jnp.stack(outputs), hidden, cell


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 5e-2)])
def test_recurrence_and_its_gradients(dtype, tolerance):
    shapes = [(6, 2, 12), (3, 12), (2, 3), (2, 3)]
    inputs = [jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]
    fast, fast_vjp = jax.vjp(jax.jit(lambda *x: recurrence(*x, dtype)), *inputs)
    plain, plain_vjp = jax.vjp(plain_recurrence, *inputs)
    out = jax.tree.map(lambda x: jax.random.normal(jax.random.key(9), x.shape), plain)
    for a, b in zip(jax.tree.leaves((fast, fast_vjp(out))), jax.tree.leaves((plain, plain_vjp(out))), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * float(jnp.abs(b).max()))


def test_equals_torch():
    torch = pytest.importorskip("torch")
    model, x = stirred(TINY_LSTM), tokens()
    weights = {name: torch.tensor(np.asarray(w)) for name, w in checkpoints.split(model)[1].items()}
    reference = torch.nn.LSTM(16, 16, num_layers=2, batch_first=True)
    theirs = {}
    for layer in range(2):
        for ours, name in (("input", "ih"), ("recurrent", "hh")):
            theirs[f"weight_{name}_l{layer}"] = weights[f"layers.{layer}.{ours}.kernel"].T
            theirs[f"bias_{name}_l{layer}"] = weights[f"layers.{layer}.{ours}.bias"]
    reference.load_state_dict(theirs)
    with torch.no_grad():
        hidden, _ = reference(weights["embedding"][torch.tensor(np.asarray(x)).long()])
        logits = hidden @ weights["head.kernel"] + weights["head.bias"]
    np.testing.assert_allclose(model(x), logits.numpy(), atol=1e-5)
