"""The fast forms against the plain ones, forwards and backwards, in both precisions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_synth import layers

TOLERANCE = {"float32": 2e-5, "bfloat16": 3e-2}


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def close(fast, plain, dtype):
    for a, b in zip(jax.tree.leaves(fast), jax.tree.leaves(plain), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, atol=TOLERANCE[dtype] * max(1.0, float(jnp.abs(b).max())))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7)])
def test_matmul_and_its_gradients(dtype, shape):
    x, weight, out = normal(0, *shape), normal(1, shape[-1], 11), normal(2, *shape[:-1], 11)
    fast, fast_vjp = jax.vjp(jax.jit(lambda x, w: layers.matmul(x, w, dtype)), x, weight)
    plain, plain_vjp = jax.vjp(lambda x, w: x @ w, x, weight)
    close((fast, fast_vjp(out)), (plain, plain_vjp(out)), dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("length", [1, 64, 100, 256])
def test_causal_attention_and_its_gradients(dtype, length):
    query, key, value, out = (normal(i, 2, 3, length, 8) for i in range(4))
    seen = jnp.tril(jnp.ones((length, length), bool))[None, None]
    fast, fast_vjp = jax.vjp(jax.jit(lambda *x: layers.causal_attention(*x, dtype)), query, key, value)
    plain, plain_vjp = jax.vjp(lambda *x: layers.attention(*x, seen, "float32"), query, key, value)
    close((fast, fast_vjp(out)), (plain, plain_vjp(out)), dtype)


def test_attention_by_hand():
    """Two positions, one head: the second sees both with softmax weights of its scaled scores."""
    query, key, value = (normal(i, 1, 1, 2, 4) for i in range(3))
    scores = np.asarray(query[0, 0, 1] @ key[0, 0].T) / 2
    weights = np.exp(scores) / np.exp(scores).sum()
    out = layers.causal_attention(query, key, value, "float32")
    np.testing.assert_allclose(out[0, 0, 0], value[0, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(out[0, 0, 1], weights @ value[0, 0], rtol=1e-5)


def test_rms_norm_and_its_gradients():
    x, gain, out = normal(0, 4, 6, 8), 1 + normal(1, 8), normal(2, 4, 6, 8)
    fast, fast_vjp = jax.vjp(layers.rms_norm, x, gain)
    plain, plain_vjp = jax.vjp(lambda x, g: x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * g, x, gain)
    close((fast, fast_vjp(out)), (plain, plain_vjp(out)), "float32")


def test_attention_dropout_keeps_the_mean():
    query, key, value = (normal(i, 1, 2, 4, 8) for i in range(3))
    seen = jnp.ones((1, 1, 4, 4), bool)
    plain = layers.attention(query, key, value, seen, "float32")
    keys = jax.random.split(jax.random.key(9), 4000)
    dropped = jax.vmap(lambda k: layers.attention(query, key, value, seen, "float32", dropout=0.3, dropout_key=k))(keys)
    assert dropped.std(0).min() > 0.01
    np.testing.assert_allclose(dropped.mean(0), plain, atol=0.08)


def test_precision_is_asked_for_or_measured(monkeypatch):
    """On a CPU bfloat16 has to win as clearly as matrix units do: 1.7 times as fast is not enough."""
    assert layers.choose_precision("bfloat16") == ("bfloat16", "asked for")
    for microseconds, expected in ((300, "float32"), (60, "float32"), (30, "bfloat16")):
        timed = iter([100e-6, microseconds * 1e-6] * 8)  # in turns
        monkeypatch.setattr(layers, "_seconds", lambda _, timed=timed: next(timed))
        chosen, why = layers.choose_precision("auto")
        assert chosen == expected and why == f"float32 product 100 us, bfloat16 {microseconds} us"


def test_row_sums():
    x = normal(0, 3, 5, 70)
    np.testing.assert_allclose(layers.row_sums(x), np.asarray(x, np.float64).sum(-1, keepdims=True), atol=2e-5)


def test_an_accelerators_forms_are_the_cpus(monkeypatch):
    """A CPU runs both. One row of bfloat16 is not padded there, sums are XLA's own, attention is JAX's."""
    query, key, value, out = (normal(i, 2, 3, 70, 8) for i in range(4))
    x, weight, gain, row = normal(4, 5, 7), normal(5, 7, 11), 1 + normal(6, 7), normal(7, 1, 1, 7)

    @functools.partial(jax.jit, static_argnums=0)
    def everything(backend, dtype):
        attended, attended_vjp = jax.vjp(lambda *qkv: layers.causal_attention(*qkv, dtype), query, key, value)
        multiplied, multiplied_vjp = jax.vjp(lambda x, w: layers.matmul(x, w, dtype), x, weight)
        normed, normed_vjp = jax.vjp(layers.rms_norm, x, gain)
        narrow = layers.product(row, weight, dtype)
        return attended
