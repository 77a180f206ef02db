"""The fast forms against the plain ones, forwards and backwards, in both precisions."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_synth import layers

TOLERANCE = {"float32": 2e-5, "bfloat16": 3e-2}


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def close(fast, plain, tolerance):
    for a, b in zip(jax.tree.leaves(fast), jax.tree.leaves(plain), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, atol=tolerance * max(1.0, float(jnp.abs(b).max())))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7)])
def test_matmul_and_its_gradients(dtype, shape):
    x, weight, out = normal(0, *shape), normal(1, shape[-1], 11), normal(2, *shape[:-1], 11)
    fast, fast_vjp = jax.vjp(jax.jit(lambda x, w: layers.matmul(x, w, dtype)), x, weight)
    plain, plain_vjp = jax.vjp(lambda x, w: x @ w, x, weight)
    close((fast, fast_vjp(out)), (plain, plain_vjp(out)), TOLERANCE[dtype])
    fast, fast_vjp = jax.vjp(jax.jit(lambda x, w: layers.matmul_transposed(x, w, dtype)), x, weight.T)
    plain, plain_vjp = jax.vjp(lambda x, w: x @ w.T, x, weight.T)
    close((fast, fast_vjp(out)), (plain, plain_vjp(out)), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("length", [1, 64, 100, 256])
def test_causal_attention_and_its_gradients(dtype, length):
    query, key, value, out = (normal(i, 2, 3, length, 8) for i in range(4))
    seen = jnp.tril(jnp.ones((length, length), bool))[None, None]
    fast, fast_vjp = jax.vjp(jax.jit(lambda *x: layers.causal_attention(*x, dtype)), query, key, value)
    plain, plain_vjp = jax.vjp(lambda *x: layers.attention(*x, seen, "float32"), query, key, value)
    close((fast, fast_vjp(out)), (plain, plain_vjp(out)), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(7,), (1, 7), (1, 1, 7)])
def test_a_single_row_reads_a_tied_head(dtype, shape):
    x, table = normal(0, *shape), normal(1, 11, 7)
    found = layers.matmul_transposed(x, table, dtype)
    assert found.shape == (*shape[:-1], 11)
    close(found, x @ table.T, TOLERANCE[dtype])


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("queries", [1, 2, 9])
def test_attention_of_queries_to_more_keys(queries, dtype, backend, monkeypatch):
    """Four heads on two of keys and values; nine queries are more than a head is wide."""
    monkeypatch.setattr(layers.jax, "default_backend", lambda: backend)
    query, key, value = normal(0, 3, 4, queries, 8), normal(1, 3, 2, 20, 8), normal(2, 3, 2, 20, 8)
    seen = normal(3, 3, 1, queries, 20) > 0
    shared_key, shared_value = (np.repeat(x, 2, axis=1) for x in (key, value))
    scores = np.einsum("bhtk,bhsk->bhts", query, shared_key) / np.sqrt(8)
    weights = np.exp(scores) * np.asarray(seen)
    plain = np.einsum("bhts,bhsk->bhtk", weights / weights.sum(-1, keepdims=True), shared_value)
    close(layers.attention(query, key, value, seen, dtype), plain, TOLERANCE[dtype])


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
    fast, fast_vjp = jax.vjp(lambda x, gain: layers.rms_norm(x, gain, 1e-5), x, gain)
    plain, plain_vjp = jax.vjp(lambda x, g: x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * g, x, gain)
    close((fast, fast_vjp(out)), (plain, plain_vjp(out)), TOLERANCE["float32"])


def test_attention_dropout_keeps_the_mean():
    query, key, value = (normal(i, 1, 2, 4, 8) for i in range(3))
    seen = jnp.ones((1, 1, 4, 4), bool)
    plain = layers.attention(query, key, value, seen, "float32")
    keys = jax.random.split(jax.random.key(9), 4000)
    dropped = jax.vmap(lambda k: layers.attention(query, key, value, seen, "float32", dropout=0.3, dropout_key=k))(keys)
    assert dropped.std(0).min() > 0.01
    np.testing.assert_allclose(dropped.mean(0), plain, atol=0.08)


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx512_bf16\n", False),
        ("flags\t\t: fpu avx512_bf16 amx_tile amx_bf16 amx_int8\n", True),
        ("flags\t\t: fpu amx_tile amx_int8\n", False),  # matrix units, but for integers
        ("model name\t: a processor named amx_bf16\nflags\t\t: fpu\n", False),
        ("Features\t: fp asimd bf16 i8mm\n", False),  # ARM
        (None, False),  # macOS has no such file
    ],
)
def test_precision_follows_from_the_processors_features(cpuinfo, expected, tmp_path, monkeypatch):
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(layers, "CPUINFO", tmp_path / "cpuinfo")
    chosen, why = layers.choose_precision("auto")
    assert chosen == ("bfloat16" if expected else "float32")
    assert why == f"the CPU has {'AMX' if expected else 'no AMX'} matrix units"
    assert layers.choose_precision("bfloat16") == ("bfloat16", "asked for")
    with pytest.raises(ValueError, match="precision must be one of auto, float32, bfloat16, got 'half'"):
        inspect.unwrap(layers.choose_precision)("half")  # without the tests' own check of types


def test_row_sums():
    x = normal(0, 3, 5, 70)
    np.testing.assert_allclose(layers.row_sums(x), np.asarray(x, np.float64).sum(-1, keepdims=True), atol=2e-5)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_an_accelerators_forms_and_their_gradients_are_the_cpus(dtype, monkeypatch):
    """A CPU runs them too: attention and sums are JAX's own there, and nothing is padded or laid out for a CPU."""
    query, key, value, out = (normal(i, 2, 3, 70, 8) for i in range(4))
    x, weight, gain, row, wide = normal(4, 5, 7), normal(5, 7, 11), 1 + normal(6, 7), normal(7, 1, 7), normal(8, 5, 11)

    def forms(query, key, value, out, x, weight, gain, row, wide):
        attended, attention_vjp = jax.vjp(lambda *x: layers.causal_attention(*x, dtype), query, key, value)
        multiplied, matmul_vjp = jax.vjp(lambda x, w: layers.matmul(x, w, dtype), x, weight)
        normed, norm_vjp = jax.vjp(lambda x, gain: layers.rms_norm(x, gain, 1e-5), x, gain)
        gradients = attention_vjp(out), matmul_vjp(wide), norm_vjp(x)
        return attended, multiplied, normed, layers.product(row, weight, dtype), layers.row_sums(out), gradients

    found = {}
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(layers.jax, "default_backend", lambda backend=backend: backend)
        traced = jax.jit(lambda *x: forms(*x))  # anew for each backend
        found[backend] = traced(query, key, value, out, x, weight, gain, row, wide)
    close(found["gpu"], found["cpu"], {"float32": 1e-5, "bfloat16": 1e-2}[dtype])  # of bfloat16's steps, two or three


def test_an_accelerator_takes_bfloat16(monkeypatch):
    monkeypatch.setattr(layers.jax, "default_backend", lambda: "gpu")
    assert layers.choose_precision("auto") == ("bfloat16", f"an accelerator, {jax.devices()[0].device_kind}")
    assert layers.choose_precision("float32") == ("float32", "asked for")
