"""From logits to tokens: temperature, top-k, top-p; and what both kinds of generation check first."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from decoding.checks import matrix, whole
from decoding.readers import Reader
from icl_synth import checks

PAD = -1  # where a row of the result has ended
TINIEST, HOTTEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
COLDEST = 1e-4  # lower temperatures would overflow float32


class Sampling(NamedTuple):
    """How tokens are drawn. greedy and top_k decide what is compiled, the rest may change without compiling again."""

    greedy: bool
    top_k: int | None
    truncated: bool
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
    """Raise ValueError for what makes no sense, before anything is compiled."""
    if not (temperature == 0 or COLDEST <= temperature <= HOTTEST):
        raise ValueError(f"temperature must be 0 (greedy) or {COLDEST} to {HOTTEST:.2g}, got {temperature}")
    if temperature > 0 and key is None:
        raise ValueError("sampling at a temperature above 0 needs a key: key=jax.random.key(seed)")
    if key is not None and not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise ValueError(f"key must be made by jax.random.key(seed), got {key!r}")
    if key is not None and key.shape != ():
        raise ValueError(f"key must be a single one, got an array of keys of shape {key.shape}")
    if top_k is not None:
        top_k = whole("top_k", top_k, 1, vocab_size)
    if top_p is not None and not TINIEST <= top_p <= 1:
        raise ValueError(f"top_p must be above 0, in float32 too, and at most 1, got {top_p}")
    top = jnp.float32(1 if top_p is None else top_p)
    return Sampling(temperature == 0, top_k, top_p is not None, jnp.float32(temperature), top)


class Job(NamedTuple):
    """A batch to continue: prompts filled up on the right, the length of each, and the length it is to reach."""

    tokens: Int[Array, "B L"]
    lengths: Int[Array, "B"]
    ends: Int[Array, "B"]


def check_job(
    readers: dict[str, Reader], prompt: Int[Array | np.ndarray, "B L"], lengths, num_tokens: int, stop: int | None
) -> tuple[Job, int, int | None]:
    """The prompts as arrays, num_tokens and stop; ValueError, saying what would be right, where a reader cannot
    continue them."""
    prompt = matrix("prompt", prompt)
    num_tokens = whole("num_tokens", num_tokens, 1)
    batch, longest = prompt.shape
    lengths = np.full(batch, longest) if lengths is None else np.asarray(lengths)
    integers = np.issubdtype(lengths.dtype, np.integer)
    if not integers or lengths.shape != (batch,) or lengths.min() < 1 or lengths.max() > longest:
        raise ValueError(f"lengths must be {batch} whole numbers between 1 and {longest}, got {lengths.tolist()}")
    lengths = lengths.astype(np.int32)  # in a narrower type the ends would overflow
    vocab_size = readers["model" if "model" in readers else "target"].vocab_size
    inside = np.where(np.arange(longest) < lengths[:, None], prompt, 0)
    checks.tokens(inside, vocab_size, "prompt")
    if stop is not None:
        stop = whole("stop", stop, 0, vocab_size - 1)
    for name, reader in readers.items():
        if longest + num_tokens > reader.context:
            raise ValueError(
                f"prompts filled up to {longest} tokens and {num_tokens} new ones are longer than the {name}'s context "
                f"{reader.context}: shorten the prompts or ask for at most {max(0, reader.context - longest)}"
            )
    return Job(*(jnp.asarray(x, jnp.int32) for x in (inside, lengths, lengths + num_tokens))), num_tokens, stop


def distribution(logits: Float[Array, "*B V"], how: Sampling) -> Float[Array, "*B V"]:
    """The probabilities that tokens are drawn from: softmax at the temperature, cut to the top k, then to the top p.

    What is as likely as the k-th token stays with it. top_p keeps the likeliest tokens until their sum reaches p
    (Holtzman et al. 2020); at least one.
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
    return jax.random.categorical(key, jnp.log(probs))
