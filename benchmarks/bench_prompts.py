"""175,000 prompts over every k and n of the paper: seconds with compilation, and again without."""

import time

import jax

from icl_synth.concept_hmm import official_ginc
from icl_synth.evaluate import EXAMPLE_LENGTHS, EXAMPLES
from icl_synth.prompts import sample_prompts

PROMPTS = 175_000


def run() -> dict[str, float]:
    """Seconds of the first and of the second pass."""
    hmm, _ = official_ginc()
    each = PROMPTS // (len(EXAMPLE_LENGTHS) * len(EXAMPLES))
    seconds = {}
    for label in ("first pass, with compilation", "second pass"):
        start = time.perf_counter()
        for k in EXAMPLE_LENGTHS:
            for n in EXAMPLES:
                sample_prompts(hmm, jax.random.key(n), each, n, k).tokens.block_until_ready()
        seconds[label] = time.perf_counter() - start
    return seconds


if __name__ == "__main__":
    print(run())
