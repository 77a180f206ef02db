"""175,000 prompts over every k and n of the paper: seconds with compilation, and again without."""

import time

import jax

from icl_synth.concept_hmm import official_ginc
from icl_synth.evaluate import EXAMPLE_LENGTHS, EXAMPLES
from icl_synth.prompts import sample_prompts

PROMPTS = 175_000


def measure() -> dict[str, float]:
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


def report(measured: dict[str, float]) -> list[str]:
    """The section of benchmarks/RESULTS.md."""
    lines = [f"## Sampling {PROMPTS:,} prompts (k = 3, 5, 8, 10; n = 0 to 64)", "", "| pass | seconds |", "|---|---:|"]
    return [*lines, *(f"| {label} | {seconds:.1f} |" for label, seconds in measured.items()), ""]


if __name__ == "__main__":
    print(measure())
