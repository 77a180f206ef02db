"""What is to be generated: prompts, where each row ends, the stop token; checked, and padded to sizes compiled once.

A program is compiled for each shape, so prompts and rooms are padded to a few sizes. What a row reads and says does
not depend on the padding: lengths are data.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from decoding.checks import matrix, whole
from decoding.readers import Reader
from icl_synth import checks

PAD = -1  # stands after the end of a row of the result
NO_STOP = -1  # no token equals it
STEP = 16  # the least difference between two padded sizes


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Job:
    """A batch to continue. Only the shape of `tokens` and `room` decide what is compiled."""

    tokens: Int[Array, "B L"]  # prompts, padded on the right with token 0
    lengths: Int[Array, "B"]  # of the prompts
    ends: Int[Array, "B"]  # length at which a row is complete
    stop: Int[Array, ""]  # token with which a row ends early
    room: int = dataclasses.field(metadata={"static": True})  # tokens that a row may reach, at least all ends


def check_job(
    readers: dict[str, Reader],
    prompt: Int[Array | np.ndarray, "B L"],
    lengths: Int[Array | np.ndarray, " B"] | None,
    num_tokens: int,
    stop: int | None,
) -> tuple[Job, int]:
    """The job for readers that share a vocabulary, and the width of its result, which is not padded.

    Raises ValueError where they cannot continue the prompts, and says what would be right.
    """
    prompt = matrix("prompt", prompt)
    num_tokens = whole("num_tokens", num_tokens, 1)
    batch, longest = prompt.shape
    lengths = np.full(batch, longest) if lengths is None else np.asarray(lengths)
    integers = np.issubdtype(lengths.dtype, np.integer)
    if not integers or lengths.shape != (batch,) or lengths.min() < 1 or lengths.max() > longest:
        raise ValueError(f"lengths must be {batch} whole numbers between 1 and {longest}, got {lengths.tolist()}")
    lengths = lengths.astype(np.int32)  # the ends would overflow a narrower type
    inside = np.where(np.arange(longest) < lengths[:, None], prompt, 0)
    vocab_size = next(iter(readers.values())).vocab_size
    checks.tokens(inside, vocab_size, "prompt")
    last = NO_STOP if stop is None else whole("stop", stop, 0, vocab_size - 1)
    for name, reader in readers.items():
        if longest + num_tokens > reader.context:
            raise ValueError(
                f"prompts of up to {longest} tokens and {num_tokens} new ones are longer than the {name}'s context "
                f"{reader.context}: shorten the prompts or ask for at most {max(0, reader.context - longest)}"
            )
    room = padded_room(longest + num_tokens, *readers.values())
    padding = min(padded_size(longest), room) - longest
    job = Job(
        tokens=jnp.asarray(np.pad(inside, ((0, 0), (0, padding))), jnp.int32),
        lengths=jnp.asarray(lengths, jnp.int32),
        ends=jnp.asarray(lengths + num_tokens, jnp.int32),
        stop=jnp.asarray(last, jnp.int32),
        room=room,
    )
    return job, longest + num_tokens


def padded_size(number: int) -> int:
    """The next multiple of 16, or of an eighth of the power of two below where that is more: at most 1/8 of padding
    from 128 on."""
    step = max(STEP, 1 << max(0, number.bit_length() - 4))
    return -(-number // step) * step


def padded_room(number: int, *readers: Reader) -> int:
    """The padded size, cut to the readers' contexts."""
    return min(padded_size(number), *(reader.context for reader in readers))


def columns(array: Array, count: int) -> Array:
    """The first columns of an array, cut in NumPy: JAX would compile a program for every count."""
    return jnp.asarray(np.asarray(array)[:, :count])
