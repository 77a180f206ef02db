"""The two hot operations, matmul and causal attention, each with its precision.

On a GPU or TPU the plain forms are the fast ones. On a CPU (seen with jaxlib 0.10.2) six rules decide the speed; the
tests compare each fast form with the plain one:

- Products of bf16 operands with float32 sums run on a CPU's matrix units (AMX), but only if they contract the last
  axis of the left operand. A weight gradient contracts the first axis of both, which is slow in float32 too: a leading
  axis of size 1 keeps it on the fast path.
- Sums over rows are products with a column of ones: XLA splits its own sums into tasks that wait for each other's core.
- Products batched over heads are fast in float32 and slow on AMX, so bf16 unrolls the heads.
- A single row times a bfloat16 or int8 matrix leaves the fast kernels, so a second row of zeros is added.
- A transposed operand of few rows is copied first. So one row reads a tied head, and few queries read many keys, as
  they lie: the table and the keys are the left operand, and the result is turned.
- Causal attention in blocks of queries, each against the keys it can see, skips the masked half.
"""

import functools
from pathlib import Path
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Key

Precision = Literal["auto", "float32", "bfloat16"]
MASKED = -1e30
QUERY_BLOCK = 64
CPUINFO = Path("/proc/cpuinfo")


def choose_precision(precision: Precision) -> tuple[Literal["float32", "bfloat16"], str]:
    """Resolve "auto" by the processor's features alone: ("float32" or "bfloat16", reason).

    An accelerator takes bfloat16, and so does a CPU with matrix units for it (AMX). Every other CPU takes float32:
    with AVX-512 alone a bfloat16 training step gains too little (benchmarks/RESULTS.md) to pay for the digits it gives
    up. The answer never depends on the machine's load. Raises ValueError for another word.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}")
    if precision != "auto":
        return precision, "asked for"
    if jax.default_backend() != "cpu":
        return "bfloat16", f"an accelerator, {jax.devices()[0].device_kind}"
    if has_matrix_units(CPUINFO):
        return "bfloat16", "the CPU has AMX matrix units"
    return "float32", "the CPU has no AMX matrix units"


def has_matrix_units(cpuinfo: Path) -> bool:
    """Whether Linux lists matrix units for bfloat16 among the CPU's features; False where the file is missing."""
    if not cpuinfo.exists():  # macOS and Windows
        return False
    with cpuinfo.open(errors="replace") as lines:
        return any(line.startswith("flags") and "amx_bf16" in line.split() for line in lines)


def product(a: Array, b: Array, dtype: DTypeLike) -> Array:
    """a @ b with operands rounded to dtype and float32 accumulation."""
    return narrow_product(a.astype(dtype), b.astype(dtype), jnp.float32)


def narrow_product(a: Array, b: Array, sums: DTypeLike) -> Array:
    """a @ b with sums in another dtype than the operands'."""
    matmul = functools.partial(jnp.matmul, precision=precision_of(a.dtype), preferred_element_type=sums)
    if b.ndim == 2 and a.size == a.shape[-1] and a.dtype.itemsize < 4 and jax.default_backend() == "cpu":
        two_rows = jnp.pad(a.reshape(1, -1), ((0, 1), (0, 0)))
        return matmul(two_rows, b)[:1].reshape(*a.shape[:-1], -1)
    return matmul(a, b)


def precision_of(dtype: DTypeLike) -> jax.lax.Precision | None:
    """The precision of a product's operands: full float32, of which a GPU's default would keep ten bits."""
    return jax.lax.Precision.HIGHEST if jnp.dtype(dtype) == jnp.float32 else None


def unrolls_for_matrix_units(dtype: DTypeLike) -> bool:
    """Whether products take the forms that keep bf16 on a CPU's matrix units."""
    return dtype == jnp.bfloat16 and jax.default_backend() == "cpu"


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(x: Float[Array, "*B I"], weight: Float[Array, "I O"], dtype: DTypeLike) -> Float[Array, "*B O"]:
    """x @ weight, operands in dtype, sums and result in float32, forwards and backwards."""
    return product(x, weight, dtype)


def _matmul_forward(x, weight, dtype):
    x, weight = x.astype(dtype), weight.astype(dtype)
    return product(x, weight, dtype), (x, weight)


def _matmul_backward(dtype, saved, gradient):
    x, weight = saved
    gradient = gradient.astype(dtype)
    dx = jax.lax.dot_general(
        gradient,
        weight,
        (((gradient.ndim - 1,), (1,)), ((), ())),
        precision=precision_of(dtype),
        preferred_element_type=jnp.float32,
    )
    return dx, weight_gradient(x, gradient, dtype)


def weight_gradient(x: Float[Array, "*B I"], gradient: Float[Array, "*B O"], dtype: DTypeLike) -> Float[Array, "I O"]:
    """Sum over all rows of x^T gradient."""
    rows, columns = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    if jax.default_backend() == "cpu":
        return product(rows[None].swapaxes(1, 2), columns[None], dtype)[0]
    return product(rows.T, columns, dtype)


matmul.defvjp(_matmul_forward, _matmul_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul_transposed(x: Float[Array, "*B I"], weight: Float[Array, "O I"], dtype: DTypeLike) -> Float[Array, "*B O"]:
    """x @ weight.T, as `matmul`. Through `matmul`, XLA folds the transpose into the weight gradient, and has no bf16
    kernel for that form on a CPU."""
    if x.size == x.shape[-1] and jnp.dtype(dtype) == jnp.float32 and jax.default_backend() == "cpu":
        return product(weight, x.reshape(-1), dtype).reshape(*x.shape[:-1], -1)
    return product(x, weight.T, dtype)


def _transposed_forward(x, weight, dtype):
    x, weight = x.astype(dtype), weight.astype(dtype)
    return product(x, weight.T, dtype), (x, weight)


def _transposed_backward(dtype, saved, gradient):
    x, weight = saved
    gradient = gradient.astype(dtype)
    return product(gradient, weight, dtype), weight_gradient(gradient, x, dtype)


matmul_transposed.defvjp(_transposed_forward, _transposed_backward)


def drop(x: Float[Array, "*B D"], key: Key[Array, ""], rate: float) -> Float[Array, "*B D"]:
    """Dropout: each activation is zero with probability `rate`, and the others are divided by 1 - rate."""
    # a Python float would draw 64-bit numbers, and so other activations, under jax_enable_x64
    kept = jax.random.bernoulli(key, jnp.float32(1 - rate), x.shape)
    return jnp.where(kept, x / (1 - rate), 0.0)


def row_sums(x: Float[Array, "*B D"]) -> Float[Array, "*B 1"]:
    """Sums over the last axis, kept."""
    if jax.default_backend() == "cpu":
        return jnp.matmul(x, jnp.ones((x.shape[-1], 1), x.dtype), precision="highest")
    return x.sum(-1, keepdims=True)


def attention(
    query: Float[Array, "B H T K"],
    key: Float[Array, "B G S K"],
    value: Float[Array, "B G S K"],
    seen: Bool[Array, "#B 1 T S"],
    dtype: DTypeLike,
    *,
    dropout: float = 0.0,
    dropout_key: Key[Array, ""] | None = None,
) -> Float[Array, "B H T K"]:
    """softmax(query key^T / sqrt(K)) value over the keys that are seen: the plain form, for any mask.

    Each of G heads of keys and values is read by H / G heads. `dropout` is the probability of dropping a weight; it
    acts only if a `dropout_key` is given.
    """
    shape, readers = query.shape, query.shape[1] // key.shape[1]
    if readers > 1:  # as further queries of one head, so that keys and values are not copied
        query, seen = query.reshape(*key.shape[:2], -1, shape[-1]), jnp.tile(seen, (1, 1, readers, 1))
    query = query * shape[-1] ** -0.5
    if query.shape[-2] < shape[-1] and jax.default_backend() == "cpu":
        scores = product(key, query.swapaxes(-1, -2), dtype).swapaxes(-1, -2)
    else:
        scores = product(query, key.swapaxes(-1, -2), dtype)
    weights = jax.nn.softmax(jnp.where(seen, scores, MASKED), axis=-1)
    if dropout_key is not None:
        weights = drop(weights, dropout_key, dropout)
    return product(weights, value, dtype).reshape(shape)


@functools.partial(jax.jit, static_argnames="dtype")
def causal_attention(
    query: Float[Array, "B H T K"], key: Float[Array, "B G T K"], value: Float[Array, "B G T K"], dtype: DTypeLike
) -> Float[Array, "B H T K"]:
    """Attention in which each position sees itself and earlier positions: the fast form; heads as in `attention`."""
    key, value = (jnp.repeat(x, query.shape[1] // x.shape[1], axis=1) for x in (key, value))
    if jax.default_backend() != "cpu":
        heads_last = (x.astype(dtype).swapaxes(1, 2) for x in (query, key, value))
        with jax.default_matmul_precision("highest" if jnp.dtype(dtype) == jnp.float32 else "default"):
            return jax.nn.dot_product_attention(*heads_last, is_causal=True).swapaxes(1, 2).astype(jnp.float32)
    batch, heads, length, width = query.shape
    flat = (x.reshape(batch * heads, length, width) for x in (query * width**-0.5, key, value))
    return blocked_attention(*flat, dtype).reshape(query.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def blocked_attention(
    query: Float[Array, "H T K"], key: Float[Array, "H T K"], value: Float[Array, "H T K"], dtype: DTypeLike
) -> Float[Array, "H T K"]:
    """Causal attention with query already scaled, in blocks of queries against the keys they can see."""
    return _attention_forward(query, key, value, dtype)[0]


def _query_blocks(length: int) -> list[tuple[int, int]]:
    return [(start, min(start + QUERY_BLOCK, length)) for start in range(0, length, QUERY_BLOCK)]


def _heads_product(a, b, dtype):
    """One product for each head: batched in float32, unrolled where bf16 runs on matrix units."""
    if not unrolls_for_matrix_units(dtype):
        return product(a, b, dtype)
    return jnp.concatenate([product(a[h : h + 1], b[h : h + 1], dtype) for h in range(a.shape[0])])


def _attention_forward(query, key, value, dtype):
    query, key, value = (x.astype(dtype) for x in (query, key, value))
    rows, weights = [], []
    for start, end in _query_blocks(query.shape[1]):
        seen = np.tril(np.ones((end - start, end), bool), k=start)
        scores = jnp.where(seen, _heads_product(query[:, start:end], key[:, :end].swapaxes(1, 2), dtype), MASKED)
        p = jnp.exp(scores - scores.max(-1, keepdims=True))
        p = (p / row_sums(p)).astype(dtype)
        rows.append(_heads_product(p, value[:, :end], dtype))
        weights.append(p)
    out = jnp.concatenate(rows, axis=1)
    return out, (query, key, value, weights, out)


def _attention_backward(dtype, saved, gradient):
    query, key, value, weights, out = saved
    length = query.shape[1]
    delta = row_sums(gradient * out)
    gradient = gradient.astype(dtype)
    dq, dk, dv = [], jnp.zeros(key.shape, jnp.float32), jnp.zeros(value.shape, jnp.float32)
    for p, (start, end) in zip(weights, _query_blocks(length), strict=True):
        unseen = ((0, 0), (0, length - end), (0, 0))
        dv += jnp.pad(_heads_product(p.swapaxes(1, 2), gradient[:, start:end], dtype), unseen)
        dp = _heads_product(gradient[:, start:end], value[:, :end].swapaxes(1, 2), dtype)
        ds = (p.astype(jnp.float32) * (dp - delta[:, start:end])).astype(dtype)
        dq.append(_heads_product(ds, key[:, :end], dtype))
        dk += jnp.pad(_heads_product(ds.swapaxes(1, 2), query[:, start:end], dtype), unseen)
    return jnp.concatenate(dq, axis=1), dk, dv


blocked_attention.defvjp(_attention_forward, _attention_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def rms_norm(x: Float[Array, "*B D"], gain: Float[Array, " D"], epsilon: float) -> Float[Array, "*B D"]:
    """x / sqrt(mean(x^2) + epsilon) * gain. The gain's gradient is a product: fused column sums are slow on a CPU."""
    return _rms_norm_forward(x, gain, epsilon)[0]


def _rms_norm_forward(x, gain, epsilon):
    scale = jax.lax.rsqrt(row_sums(x * x) / x.shape[-1] + epsilon)
    normed = x * scale
    return normed * gain, (normed, scale, gain)


def _rms_norm_backward(epsilon, saved, gradient):
    normed, scale, gain = saved
    d = gradient * gain
    dx = scale * (d - normed * row_sums(d * normed) / d.shape[-1])
    rows = (gradient * normed).reshape(-1, normed.shape[-1])
    return dx, jnp.matmul(jnp.ones((1, rows.shape[0]), rows.dtype), rows, precision="highest")[0]


rms_norm.defvjp(_rms_norm_forward, _rms_norm_backward)
