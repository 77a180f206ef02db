"""From logits to tokens: temperature, top-k, top-p."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from decoding.checks import real, whole

TINIEST, HOTTEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
COLDEST = 1e-4  # the logits over a lower temperature would overflow float32


class Sampling(NamedTuple):
    """How tokens are drawn. The first three decide what is compiled; the others may change without compiling again."""

    greedy: bool
    top_k: int | None
    truncated: bool  # by top_p
    temperature: Float[Array, ""]
    top_p: Float[Array, ""]


jax.tree_util.register_pytree_node(
    Sampling,
    lambda s: ((s.temperature, s.top_p), (s.greedy, s.top_k, s.truncated)),
    lambda static, leaves: Sampling(*static, *leaves),
)


def check_sampling(
    temperature: float, top_k: int | None, top_p: float | None, key: Key[Array, ""] | None, vocab_size: int
) -> Sampling:
    """Raises ValueError, before anything is compiled, for a number out of range, a key of the wrong kind, and for
    sampling without a key."""
    allowed = f"0 (greedy) or {COLDEST} to {HOTTEST:.2g}"
    temperature = real("temperature", temperature, allowed, 0.0, HOTTEST)
    if temperature > 0:
        real("temperature", temperature, allowed, COLDEST)
        if key is None:
            raise ValueError("sampling at a temperature above 0 needs a key: key=jax.random.key(seed)")
    check_key(key)
    if top_k is not None:
        top_k = whole("top_k", top_k, 1, vocab_size)
    if top_p is not None:
        top_p = real("top_p", top_p, "above 0, in float32 too, and at most 1", TINIEST, 1.0)
    top = jnp.float32(1 if top_p is None else top_p)
    return Sampling(temperature == 0, top_k, top_p is not None, jnp.float32(temperature), top)


def check_key(key: Any) -> None:
    """Raises ValueError for anything but one typed key or None."""
    if key is None:
        return
    if not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise ValueError(f"key must be made by jax.random.key(seed), got {key!r}")
    if key.shape != ():
        raise ValueError(f"key must be a single one, got an array of keys of shape {key.shape}")


def distribution(logits: Float[Array, "*B V"], how: Sampling) -> Float[Array, "*B V"]:
    """The probabilities that tokens are drawn from: softmax at the temperature, cut to the top k, then to the top p.

    Tokens as likely as the k-th stay with it. top_p keeps the likeliest tokens until their sum reaches p
    (Holtzman et al. 2020), and at least one.
    """
    probs = jax.nn.softmax(logits / how.temperature)
    if how.top_k is not None:
        least = jax.lax.top_k(probs, how.top_k)[0][..., -1:]
        probs = jnp.where(probs >= least, probs, 0.0)
        probs /= probs.sum(-1, keepdims=True)
    if how.truncated:
        order = jnp.argsort(-probs, axis=-1)
        ordered = jnp.take_along_axis(probs, order, axis=-1)
        before = jnp.cumsum(ordered, axis=-1) - ordered
        kept = jnp.where(before < how.top_p, ordered, 0.0)
        probs = jnp.put_along_axis(jnp.zeros_like(probs), order, kept, axis=-1, inplace=False)
        probs /= probs.sum(-1, keepdims=True)
    return probs


def draw(key: Key[Array, ""], probs: Float[Array, "*B V"]) -> Int[Array, "*B"]:
    """A token from each distribution."""
    return jax.random.categorical(key, jnp.log(probs)).astype(jnp.int32)


def choose(logits: Float[Array, "*B V"], how: Sampling, key: Key[Array, ""]) -> Int[Array, "*B"]:
    """A token after each of the logits: the likeliest where greedy, else a drawn one."""
    if how.greedy:
        return logits.argmax(-1).astype(jnp.int32)
    return draw(key, distribution(logits, how))
