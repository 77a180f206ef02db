"""What the experiments of synthetic documents before real text share: the arms, their runs, and what a run is asked."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from figures.lab.claims import Finding
from figures.lab.presets import MORE_SEEDS, Suite
from figures.lab.runs import Models, Run
from figures.lab.style import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, SKY, YELLOW
from icl_synth import checkpoints, text
from icl_synth.evaluate import token_losses

REGISTERED = (
    "Model, arms, rate, seeds, outcomes, tests and stopping rule were committed before the first run: "
    "`figures/transfer/PREREGISTRATION.md`. "
)
# by name: colour, and what was read first
ARMS = {
    "random": (BLACK, "nothing"),
    "more": (GREY, "more real text"),
    "many": (BLUE, "many concepts"),
    "one": (SKY, "one concept"),
    "uniform": (ORANGE, "uniform tokens"),
    "shuffled": (YELLOW, "shuffled documents"),
    "dyck": (GREEN, "brackets"),
    "permuted": (PINK, "many concepts, weights permuted"),
    "attention": ("#8a3a68", "many concepts, attention alone"),
}
RANDOM, MORE, MANY, ONE = "random", "more", "many", "one"
OWN_PREFIX, TAIL = 192, 64  # characters that precede, and that follow in both
SPLICE = 16  # first ones of the tail, which are not judged: another work's text may break off in a word
CONTEXT = OWN_PREFIX + TAIL
LEAST_SEEDS = 4


def suite(scale: str) -> Suite:
    """All arms with every seed."""
    return Suite({arm: f"{scale}-transfer-{arm}" for arm in ARMS}, MORE_SEEDS[scale])


SUITES = {scale: suite(scale) for scale in ("quick", "small")}


def lacks() -> str | None:
    """What has to be fetched before these experiments can be made; None where it is there."""
    return None if text.SHAKESPEARE.is_dir() else "Shakespeare's works: run make text"


class Curve(NamedTuple):
    """The evaluations of a run: tokens read, and the loss on validation works, nats per character."""

    tokens: Float[np.ndarray, " E"]
    loss: Float[np.ndarray, " E"]


def curve(run: Run) -> Curve:
    """Raises ValueError for a run with fewer than two evaluations. What an interrupted run evaluated beside its own
    steps is left out."""
    every, last = run.config.evaluate_every, run.config.steps
    lines = [line for line in run.metrics if line["step"] % every == 0 or line["step"] == last]
    tokens, loss = (np.array([line[name] for line in lines], float) for name in ("tokens", "loss"))
    if len(tokens) < 2:
        raise ValueError(
            f"the run of {run.name}, seed {run.seed}, has {len(tokens)} evaluations: at least two are needed"
        )
    return Curve(tokens, loss)


def tokens_to(reached: float, of: Curve) -> float:
    """The tokens after which a curve first falls to a loss, linear between evaluations.

    A curve that never does is extended along the mean slope of its last five evaluations; at most to twice its tokens,
    which is also where one that does not fall any more ends.
    """
    below = np.flatnonzero(of.loss <= reached)
    if len(below) and (place := below[0]) == 0:
        return float(of.tokens[0])
    if len(below):
        high, low = of.loss[place - 1], of.loss[place]
        share = (high - reached) / (high - low)
        return float(of.tokens[place - 1] + share * (of.tokens[place] - of.tokens[place - 1]))
    last = slice(-min(5, len(of.loss)), None)
    slope = (of.loss[last][-1] - of.loss[last][0]) / (of.tokens[last][-1] - of.tokens[last][0])
    end = float(of.tokens[-1])
    return min(2 * end, end + (reached - of.loss[-1]) / slope) if slope < 0 else 2 * end


def saved(arm: Curve, reference: Curve, before: float = 0.0) -> float:
    """The share of the reference's tokens that an arm, which read `before` others, saves to reach its final loss."""
    return 1.0 - (before + tokens_to(float(reference.loss[-1]), arm)) / float(reference.tokens[-1])


def all_seeds(models: Models, number: int) -> list[dict[str, Run]]:
    """The runs of each seed by arm. Raises ValueError for fewer seeds than these, or a seed without all arms."""
    by_seed: dict[int, dict[str, Run]] = {}
    for arm, runs in models.items():
        for run in runs:
            by_seed.setdefault(run.seed, {})[arm] = run
    whole = [runs for runs in by_seed.values() if runs.keys() == models.keys()]
    if len(whole) < number:
        raise ValueError(f"{len(whole)} of {number} seeds have all arms: outcomes are computed when all are trained")
    return whole


def enough(seeds: int, finding: Finding) -> Finding:
    """A finding of at least four seeds; of fewer none follows."""
    return finding if seeds >= LEAST_SEEDS else Finding("inconclusive", 1.0)


def kept(run: Run) -> list[tuple[int, Callable[[], checkpoints.Model]]]:
    """The models that stayed on the way, by step, each read when it is called for."""
    assert run.folder
    folders = sorted((run.folder / "models").iterdir(), key=lambda folder: int(folder.name))
    return [(int(folder.name), functools.partial(checkpoints.load, folder, "float32")) for folder in folders]


def works(run: Run, part: str) -> dict[str, Int[np.ndarray, " _"]]:
    """The works of a part, as the tokens of a run."""
    return getattr(text.read(run.config.data.text), part)


class Windows(NamedTuple):
    """Windows of works: 64 characters after the 192 that precede them, and after 192 of another work."""

    own: Int[np.ndarray, "N L"]
    other: Int[np.ndarray, "N L"]


def windows(run: Run, number: int, seed: int = 0) -> Windows:
    """So many windows of the test works, the same for all runs."""
    rng, tokens = np.random.default_rng(seed), works(run, "test")
    names = list(tokens)
    of = [names[place % len(names)] for place in range(number)]
    cut = [piece(rng, tokens[name], CONTEXT) for name in of]
    elsewhere = [piece(rng, tokens[rng.choice([one for one in names if one != name])], OWN_PREFIX) for name in of]
    other = [np.concatenate([begun, window[OWN_PREFIX:]]) for begun, window in zip(elsewhere, cut, strict=True)]
    return Windows(np.stack(cut), np.stack(other))


def piece(rng: np.random.Generator, work: Int[np.ndarray, " T"], length: int) -> Int[np.ndarray, " L"]:
    """So many characters of a work from a place drawn at random. Raises ValueError for a shorter work."""
    if len(work) < length:
        raise ValueError(f"a work of {len(work)} characters is shorter than a window of {length}")
    start = rng.integers(0, len(work) - length + 1)
    return work[start : start + length]


def losses(model: checkpoints.Model, sequences: Int[np.ndarray, "N L"]) -> Float[np.ndarray, "N T"]:
    """Nats of each character after the first."""
    return token_losses(*checkpoints.split(model), sequences)


def context_gain(model: checkpoints.Model, chosen: Windows) -> Float[np.ndarray, " N"]:
    """What the own work's earlier text saves the tail against another's: nats per character."""
    return gain(*(losses(model, sequences) for sequences in chosen))


def gain(own: Float[np.ndarray, "N T"], other: Float[np.ndarray, "N T"]) -> Float[np.ndarray, " N"]:
    """The same from the losses of both readings; the tail's first 16 characters are left out."""
    own, other = (each[:, SPLICE - TAIL :].mean(-1) for each in (own, other))
    return other - own
