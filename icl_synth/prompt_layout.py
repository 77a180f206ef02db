"""How a prompt is laid out: n examples of k tokens, a delimiter after each, then one more example without its label.

The last token of an example is its label, so that a prompt has n (k + 1) + k - 1 tokens.
"""

import jax.numpy as jnp
from jaxtyping import Array, Int

from icl_synth import checks

DELIMITER = 0


def prompt_length(num_examples: int, example_length: int) -> int:
    """Tokens of a prompt. Raises ValueError for a negative number of examples and for examples below two tokens."""
    checks.at_least(0, num_examples=num_examples)
    checks.at_least(2, example_length=example_length)
    return num_examples * (example_length + 1) + example_length - 1


def most_examples(context: int, example_length: int) -> int:
    """The most examples whose prompt fits a context; -1 where even the test input does not fit.

    Raises ValueError for examples below two tokens.
    """
    checks.at_least(2, example_length=example_length)
    return max(-1, (context - example_length + 1) // (example_length + 1))


def num_examples(length: int, example_length: int) -> int:
    """The number of examples in a prompt of `length` tokens. Raises ValueError where no prompt has that length."""
    if example_length >= 2:
        count = most_examples(length, example_length)
        if count >= 0 and prompt_length(count, example_length) == length:
            return count
    raise ValueError(
        f"{length} tokens are no prompt of examples of {example_length} tokens: "
        "a prompt of n examples of k >= 2 tokens has n (k + 1) + k - 1 tokens"
    )


def split_prompts(tokens: Int[Array, "*B L"], example_length: int) -> tuple[Int[Array, "*B N K"], Int[Array, "*B J"]]:
    """The N examples of K tokens, and the test input of J = K - 1 tokens.

    Raises ValueError where the tokens are no prompts of such examples.
    """
    count = num_examples(tokens.shape[-1], example_length)
    end = count * (example_length + 1)
    shown = tokens[..., :end].reshape(*tokens.shape[:-1], count, example_length + 1)
    return shown[..., :-1], tokens[..., end:]


def join_prompts(examples: Int[Array, "B N W"], test: Int[Array, "B J"]) -> Int[Array, "B M"]:
    """Prompts of M = N (W + 1) + J tokens: a delimiter after each example, then the test input."""
    delimited = jnp.pad(examples, ((0, 0), (0, 0), (0, 1)), constant_values=DELIMITER)
    shown = delimited.reshape(len(test), delimited.shape[1] * delimited.shape[2])
    return jnp.concatenate([shown, test], axis=1)
