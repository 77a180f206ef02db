"""A decoder-only transformer with a key/value cache and named intermediates.

Three styles share one forward pass. "gpt2" is exactly the GPT-2 of Xie et al. 2022 (learned positions, LayerNorm,
tanh-GELU, biases, tied embedding, dropout). "modern" learned fastest at small size (rotary positions, RMSNorm, also of
queries and keys, squared ReLU, no biases, untied head). "llama" is that of Touvron et al. 2023 (rotary positions,
RMSNorm, SwiGLU, no biases), with keys and values that several heads may share, and with a tied or untied head.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import checkify
from jaxtyping import Array, Float, Int, Key

from icl_synth import checks, layers

LLAMA_ONLY = ("kv_heads", "hidden", "tied", "rope_base", "norm_epsilon")


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Shape of a transformer."""

    vocab_size: int = 50
    """Number of tokens the model knows."""
    context: int = 256
    """Longest sequence in tokens."""
    depth: int = 4
    """Number of blocks."""
    width: int = 128
    """Size of the residual stream."""
    heads: int = 4
    """Attention heads; must divide width."""
    style: Literal["modern", "gpt2", "llama"] = "modern"
    """modern: rotary, RMSNorm (of queries and keys too), squared ReLU. gpt2: the paper's GPT-2. llama: rotary, RMSNorm,
    SwiGLU."""
    dropout: float = 0.0
    """Probability of dropping an activation (gpt2 style only)."""
    kv_heads: int = 0
    """Heads of keys and values, each read by heads / kv_heads heads; 0: as many as heads (llama style only)."""
    hidden: int = 0
    """Size inside the perceptron; 0: four times the width (llama style only)."""
    tied: bool = False
    """Whether the embedding is the head too; always so in gpt2 style, never in modern."""
    rope_base: float = 1e4
    """Base of the rotary positions' wavelengths (llama style only)."""
    norm_epsilon: float = 1e-5
    """Added to the mean square of RMSNorm (llama style only)."""

    def __post_init__(self):
        checks.choices(self, "model.")
        for name in ("vocab_size", "context", "depth", "width", "heads"):
            checks.at_least(1, **{f"model.{name}": getattr(self, name)})
        if self.width % self.heads:
            raise ValueError(f"model.width {self.width} must be a multiple of model.heads {self.heads}")
        if self.style != "gpt2" and self.width // self.heads % 2:
            raise ValueError(f"rotary positions need an even head width, got {self.width} / {self.heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout must be in [0, 1), got {self.dropout}")
        if self.style != "gpt2" and self.dropout:
            raise ValueError('dropout belongs to style "gpt2"; set model.dropout to 0 or model.style to "gpt2"')
        for field in dataclasses.fields(self):
            if field.name in LLAMA_ONLY and self.style != "llama" and getattr(self, field.name) != field.default:
                raise ValueError(f'model.{field.name} belongs to style "llama": leave it at {field.default}')
        checks.at_least(0, **{"model.kv_heads": self.kv_heads, "model.hidden": self.hidden})
        checks.positive(**{"model.rope_base": self.rope_base, "model.norm_epsilon": self.norm_epsilon})
        if self.heads % self.shared_heads:
            raise ValueError(f"model.heads {self.heads} must be a multiple of model.kv_heads {self.kv_heads}")

    @property
    def shared_heads(self) -> int:
        """Heads of keys and values."""
        return self.kv_heads or self.heads

    @property
    def head_width(self) -> int:
        """Size of a query, a key and a value."""
        return self.width // self.heads

    @property
    def inner(self) -> int:
        """Size inside the perceptron."""
        return self.hidden or 4 * self.width

    @property
    def one_table(self) -> bool:
        """Whether the embedding is the head too."""
        return self.tied or self.style == "gpt2"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
    """Keys and values of the tokens read so far; entries at or past a row's length are never attended to."""

    keys: tuple[Float[Array, "B H S K"], ...]
    values: tuple[Float[Array, "B H S K"], ...]
    length: Int[Array, " B"]


class Linear(nnx.Module):
    """x @ kernel + bias. If a `record` is given, the input is stored there under the layer's name, for calibration."""

    def __init__(self, name: str, inputs: int, outputs: int, std: float, bias: bool, dtype: str, rngs: nnx.Rngs):
        self.name, self.dtype = name, dtype
        self.kernel = nnx.Param(std * jax.random.normal(rngs.params(), (inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32)) if bias else None

    def __call__(self, x: Float[Array, "*B I"], record: dict[str, Array] | None = None) -> Float[Array, "*B O"]:
        if record is not None:
            record[self.name] = x
        y = layers.matmul(x, self.kernel[...], self.dtype)
        return y if self.bias is None else y + self.bias[...]


class Norm(nnx.Module):
    """LayerNorm with gain and bias (gpt2) or RMSNorm with gain (modern, llama)."""

    def __init__(self, width: int, config: TransformerConfig):
        self.epsilon = config.norm_epsilon
        self.gain = nnx.Param(jnp.ones(width, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(width, jnp.float32)) if config.style == "gpt2" else None

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        if self.bias is None:
            return layers.rms_norm(x, self.gain[...], self.epsilon)
        centred = x - x.mean(-1, keepdims=True)
        normed = centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + self.epsilon)
        return normed * self.gain[...] + self.bias[...]


class Block(nnx.Module):
    """Attention, then a perceptron, gated in llama style; each reads the residual stream and adds to it."""

    def __init__(self, name: str, config: TransformerConfig, dtype: str, rngs: nnx.Rngs):
        width, hidden, gpt2 = config.width, config.inner, config.style == "gpt2"
        # GPT-2 scales the initial output weights by its depth; zeros work better with RMSNorm
        inward, outward = (0.02, 0.02 / math.sqrt(2 * config.depth)) if gpt2 else (width**-0.5, 0.0)
        linear = functools.partial(Linear, bias=gpt2, dtype=dtype, rngs=rngs)
        self.norm1, self.norm2 = Norm(width, config), Norm(width, config)
        if config.style == "modern":
            self.query_norm, self.key_norm = (Norm(config.head_width, config) for _ in "qk")
        self.qkv = linear(f"{name}.qkv", width, width + 2 * config.shared_heads * config.head_width, inward)
        self.out = linear(f"{name}.out", width, width, outward)
        self.gate = linear(f"{name}.gate", width, hidden, inward) if config.style == "llama" else None
        self.up = linear(f"{name}.up", width, hidden, inward)
        self.down = linear(f"{name}.down", hidden, width, outward)
        self.activation = {"gpt2": gelu, "modern": squared_relu, "llama": jax.nn.silu}[config.style]

    def __call__(self, x: Array, attend: Callable, drop: Callable, record: dict[str, Array] | None) -> Array:
        x = x + drop(self.out(attend(self.qkv(self.norm1(x), record)), record))
        y = self.norm2(x)
        if self.gate is None:
            inside = self.activation(self.up(y, record))
        else:
            inside = self.activation(self.gate(y, record)) * self.up(y, record)
        return x + drop(self.down(inside, record))


class Transformer(nnx.Module):
    """Tokens to next-token logits.

    model(tokens) reads whole sequences; model.extend(tokens, cache) continues from a cache, with equal logits.
    `dtype` is the precision of operands in matrix products; parameters and sums stay float32.
    """

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs, dtype: str = "float32"):
        self.config, self.dtype = config, dtype
        gpt2 = config.style == "gpt2"
        shape, room = (config.vocab_size, config.width), (config.context, config.width)
        self.embedding = nnx.Param((0.02 if gpt2 else 1.0) * jax.random.normal(rngs.params(), shape, jnp.float32))
        self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), room, jnp.float32)) if gpt2 else None
        self.blocks = nnx.List([Block(f"blocks.{i}", config, dtype, rngs) for i in range(config.depth)])
        self.norm = Norm(config.width, config)
        self.head = (
            None if config.one_table else Linear("head", config.width, config.vocab_size, 0.0, False, dtype, rngs)
        )

    def __call__(
        self,
        tokens: Int[Array | np.ndarray, "B T"],
        *,
        key: Key[Array, ""] | None = None,
        record: dict[str, Array] | None = None,
    ) -> Float[Array, "B T V"]:
        """Logits after each token. `key` turns dropout on; `record` is filled with the input of each linear layer.

        Raises ValueError for a sequence that is empty or longer than the context, and unless `tokens` holds tokens of
        the vocabulary.
        """
        x = self._drop(self.embed(tokens), key, 3 * self.config.depth)
        for index in range(self.config.depth):
            x = self.stage(index, x, key=key, record=record)
        return self._logits(x, record)

    def embed(self, tokens: Int[Array | np.ndarray, "B T"]) -> Float[Array, "B T D"]:
        """The input of the first block, for tokens from position 0 on. Raises the errors of a call of the model."""
        checks.at_least(1, length=tokens.shape[1])
        if tokens.shape[1] > self.config.context:
            raise ValueError(
                f"sequence of {tokens.shape[1]} tokens is longer than the model's context {self.config.context}"
            )
        return self._embed(tokens, jnp.arange(tokens.shape[1], dtype=jnp.int32)[None])

    def stage(
        self,
        index: int,
        x: Float[Array, "B T D"],
        *,
        key: Key[Array, ""] | None = None,
        record: dict[str, Array] | None = None,
    ) -> Float[Array, "B T D"]:
        """The output of block `index` for its input; `key` and `record` are those of a call of the model."""
        length, rate = x.shape[1], self.config.dropout
        # attention and the two residual sums of block i draw from sites 3i, 3i + 1 and 3i + 2
        sites = iter((3 * index + 1, 3 * index + 2))

        def attend(qkv):
            query, keys, values = self._heads(self.blocks[index], qkv, jnp.arange(length, dtype=jnp.int32)[None])
            if key is None or not rate:
                return merge_heads(layers.causal_attention(query, keys, values, self.dtype))
            seen, site = jnp.tril(jnp.ones((length, length), bool))[None, None], jax.random.fold_in(key, 3 * index)
            return merge_heads(layers.attention(query, keys, values, seen, self.dtype, dropout=rate, dropout_key=site))

        return self.blocks[index](x, attend, lambda y: self._drop(y, key, next(sites)), record)

    def _drop(self, x: Array, key: Array | None, site: int) -> Array:
        rate = self.config.dropout
        if key is None or not rate:
            return x
        return layers.drop(x, jax.random.fold_in(key, site), rate)

    def init_state(self, batch_size: int, length: int, spare: int = 0) -> Cache:
        """An empty cache with room for `length` tokens a row, and for `spare` more that will be taken back.

        Raises ValueError for a length beyond the context, a batch_size below 1, and negative numbers.
        """
        checks.at_least(1, batch_size=batch_size)
        checks.at_least(0, length=length, spare=spare)
        config = self.config
        if length > config.context:
            raise ValueError(f"a cache of {length} tokens is longer than the model's context {config.context}")
        room = jnp.zeros((batch_size, config.shared_heads, length + spare, config.head_width), self.dtype)
        return Cache((room,) * config.depth, (room,) * config.depth, jnp.zeros(batch_size, jnp.int32))

    def extend(self, tokens: Int[Array | np.ndarray, "B T"], cache: Cache) -> tuple[Float[Array, "B T V"], Cache]:
        """Logits after each of T further tokens, and the cache with these tokens added.

        To roll back, replace the cache's length. Rows may differ in length. Raises ValueError where a row would
        outgrow the cache's room, for another number of rows, and unless `tokens` holds tokens of the vocabulary.
        Under jit, lengths are unknown: `jax.experimental.checkify.checkify` reports a row that outgrows its room, and
        without it what does not fit is silently lost (a negative length is not allowed there).
        """
        checks.rows(tokens, cache.length)
        count, room = tokens.shape[1], cache.keys[0].shape[2]
        check_room(cache.length, count, room)
        position = cache.length[:, None] + jnp.arange(count, dtype=jnp.int32)
        seen = (jnp.arange(room, dtype=jnp.int32) <= position[..., None])[:, None]
        rows = jnp.arange(len(tokens), dtype=jnp.int32)[:, None, None]
        heads = jnp.arange(self.config.shared_heads, dtype=jnp.int32)[:, None]
        keys, values = list(cache.keys), list(cache.values)

        def write(old, new):  # entry by entry: one slice for a single row would make a CPU copy the whole cache
            return old.at[rows, heads, position[:, None]].set(new.astype(self.dtype), unique_indices=True)

        def attend(index, qkv):
            query, new_keys, new_values = self._heads(self.blocks[index], qkv, position)
            keys[index], values[index] = write(keys[index], new_keys), write(values[index], new_values)
            return merge_heads(layers.attention(query, keys[index], values[index], seen, self.dtype))

        x = self._embed(tokens, position)
        for i, block in enumerate(self.blocks):
            x = block(x, functools.partial(attend, i), lambda y: y, None)
        return self._logits(x, None), Cache(tuple(keys), tuple(values), cache.length + count)

    def _embed(self, tokens, position):
        checks.tokens(tokens, self.config.vocab_size)
        x = self.embedding[...][tokens]
        return x if self.positions is None else x + self.positions[...][position]

    def _heads(self, block, qkv, position):
        """Queries [B H T K], keys and values [B G T K]; queries and keys turned, in modern style normed before."""
        config = self.config
        first, second = config.width, config.width + config.shared_heads * config.head_width
        parts = jnp.split(qkv, (first, second), axis=-1)
        query, keys, values = (x.reshape(*x.shape[:2], -1, config.head_width) for x in parts)
        if config.style == "modern":
            query, keys = block.query_norm(query), block.key_norm(keys)
        if self.positions is None:
            query, keys = (rotate(x, position, config.rope_base) for x in (query, keys))
        return query.swapaxes(1, 2), keys.swapaxes(1, 2), values.swapaxes(1, 2)

    def _logits(self, x, record):
        x = self.norm(x)
        if self.head is not None:
            return self.head(x, record)
        return layers.matmul_transposed(x, self.embedding[...], self.dtype)


def check_room(length: Int[Array, " B"], count: int, room: int) -> None:
    """Raise ValueError where `count` more tokens do not fit a cache with `room` entries a row.

    Traced lengths are checked only under `checkify`; otherwise the compiler drops the check, which then costs nothing.
    """
    if count > room:
        raise ValueError(f"{count} tokens do not fit a cache with room for {room}")
    if checks.traced(length):
        fits = ((length >= 0) & (length <= room - count)).all()
        checkify.debug_check(fits, f"lengths {{length}} + {count} tokens exceed the cache's room {room}", length=length)
    elif outside := [n for n in np.asarray(length).tolist() if not 0 <= n <= room - count]:
        raise ValueError(
            f"a row of length {outside[0]} and {count} more tokens do not fit a cache with room for {room}: "
            "give init_state a greater length"
        )


def gelu(x: Array) -> Array:
    """GELU in the tanh approximation, as in GPT-2."""
    return jax.nn.gelu(x, approximate=True)


def squared_relu(x: Array) -> Array:
    """max(x, 0)^2 (So et al. 2021)."""
    return jnp.square(jax.nn.relu(x))


@functools.partial(jax.jit, static_argnames="base")
def rotate(x: Float[Array, "B T H K"], position: Int[Array, "#B T"], base: float) -> Float[Array, "B T H K"]:
    """Rotary positions (Su et al. 2021). A plane's two axes lie in the two halves of a head."""
    half = x.shape[-1] // 2
    angle = position[:, :, None, None] * base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    first, second = x[..., :half], x[..., half:]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def merge_heads(x: Float[Array, "B H T K"]) -> Float[Array, "B T D"]:
    """Heads side by side, D = H K."""
    batch, _, length, _ = x.shape
    return x.swapaxes(1, 2).reshape(batch, length, -1)
