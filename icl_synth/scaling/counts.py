"""Parameters and FLOPs of a transformer, counted in the three ways that give papers their different exponents."""

import functools
import math
from typing import NamedTuple

from icl_synth import checkpoints
from icl_synth.transformer import TransformerConfig

INSIDE = "blocks"  # names of weights inside layers begin so


class Counts(NamedTuple):
    """What a token costs, in weights: its training takes about 6 FLOPs for each (Kaplan et al. 2020, section 2.1)."""

    parameters: int
    """All weights, embeddings included (Hoffmann et al. 2022)."""
    inside: int
    """Weights inside layers alone (Kaplan et al. 2020)."""
    attention: int
    """The products of queries with keys and of scores with values, which have no weights: layers x context x width,
    half of what they would be without the causal mask."""

    def flops(self, tokens: float | int) -> float:
        """FLOPs of training on so many tokens, attention included."""
        return 6.0 * (self.parameters + self.attention) * tokens


@functools.cache
def count(config: TransformerConfig, context: int) -> Counts:
    """Count the weights of a transformer, and its attention over sequences of `context` tokens."""
    sizes = {name: math.prod(weight.shape) for name, weight in checkpoints.abstract(config)[1].items()}
    inside = sum(size for name, size in sizes.items() if name.startswith(INSIDE))
    return Counts(sum(sizes.values()), inside, config.depth * context * config.width)
