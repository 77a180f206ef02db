"""The compute-optimal size without a model of the loss: approaches 1 and 2 of Hoffmann et al. 2022.

Both read the best size at each of several budgets C off the runs, and lay a power law through them: N_opt ~ C^a. Since
C = 6 N D, the tokens follow: D_opt ~ C^b with b = 1 - a.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from icl_synth.scaling.runs import Runs, budgets, check

SIZES = 3  # at a budget, of which a parabola can be laid through the losses
FLOP_VALUES = 1500  # at which approach 1 asks for the best size


class Frontier(NamedTuple):
    """The best sizes by compute, and the power law through them."""

    a: float
    """Exponent: N_opt ~ C^a."""
    scale: float
    """log N_opt at C = 1."""
    flops: Float[np.ndarray, " F"]
    parameters: Float[np.ndarray, " F"]

    @property
    def b(self) -> float:
        """D_opt ~ C^b."""
        return 1.0 - self.a

    def optimal_parameters(self, flops: np.ndarray | float) -> np.ndarray | np.float64:
        """The compute-optimal number of parameters."""
        return np.exp(self.scale + self.a * np.log(flops))


class Curves(NamedTuple):
    """The loss of each size at the same FLOPs, NaN outside what the size was trained for."""

    parameters: Float[np.ndarray, " S"]
    flops: Float[np.ndarray, " F"]
    loss: Float[np.ndarray, "S F"]


def curves_of(runs: Runs, number: int = FLOP_VALUES) -> Curves:
    """The loss of each size by compute, log-linear between its points; of several points at one budget the mean."""
    check(runs, 2)
    flops = np.geomspace(runs.flops.min(), runs.flops.max(), number)
    sizes = np.unique(runs.parameters)
    loss = np.full((len(sizes), number), np.nan)
    for place, size in enumerate(sizes):
        own = runs.select(runs.parameters == size)
        at = np.unique(own.flops)
        means = [own.loss[own.flops == value].mean() for value in at]
        loss[place] = np.interp(np.log(flops), np.log(at), means, left=np.nan, right=np.nan)
    return Curves(sizes, flops, loss)


def envelope(runs: Runs, most: float = np.inf) -> Frontier:
    """Approach 1: the size of the lowest loss at each of many FLOP values, where it lies between two others.

    A lowest loss of the smallest or of the largest size that was trained so far is no minimum and is left out, and so
    is what lies above `most` FLOPs. Raises ValueError where fewer than two sizes are ever the best between others.
    """
    curves = curves_of(runs)
    known = np.isfinite(curves.loss)
    best = np.where(known, curves.loss, np.inf).argmin(0)
    smallest, largest = known.argmax(0), len(known) - 1 - known[::-1].argmax(0)
    inside = (best > smallest) & (best < largest) & (curves.flops <= most)
    if len(np.unique(best[inside])) < 2:
        raise ValueError(
            "no envelope: fewer than two sizes have the lowest loss at some compute where smaller and larger ones were "
            "trained too. Train each size for several numbers of tokens"
        )
    return _through(curves.flops[inside], curves.parameters[best[inside]])


def isoflop(runs: Runs) -> Frontier:
    """Approach 2: at each budget the vertex of a parabola through the losses by log N.

    A budget counts with three sizes or more, where the parabola opens upwards and its vertex lies among them.
    Raises ValueError where fewer than two budgets count.
    """
    check(runs, 2 * SIZES)
    vertices = [(runs.flops[group].mean(), vertex(runs, group)) for group in budgets(runs)]
    kept = [(flops, size) for flops, size in vertices if size is not None]
    if len(kept) < 2:
        raise ValueError(
            f"{len(kept)} of {len(vertices)} budgets have a lowest loss between {SIZES} sizes or more, but two are "
            f"needed: train several sizes at the same compute 6 N D"
        )
    return _through(*(np.array(column) for column in zip(*kept, strict=True)))


def vertex(runs: Runs, group: Int[np.ndarray, " B"]) -> float | None:
    """The size at which a parabola through the losses of a budget is lowest; None where there is no such size."""
    sizes, loss = np.log(runs.parameters[group]), runs.loss[group]
    if len(np.unique(sizes)) < SIZES:
        return None
    middle = sizes.mean()
    bend, slope, _ = np.polyfit(sizes - middle, loss, 2)
    lowest = middle - slope / (2 * bend) if bend > 0 else np.inf
    return float(np.exp(lowest)) if sizes.min() <= lowest <= sizes.max() else None


def bootstrap(approach: Callable[[Runs], Frontier], samples: Sequence[Runs]) -> Float[np.ndarray, " S"]:
    """The exponents a of samples of the runs; NaN where a sample's lowest losses have no frontier.

    Raises ValueError where that is more than half of the samples.
    """
    exponents = np.full(len(samples), np.nan)
    for place, sample in enumerate(samples):
        with contextlib.suppress(ValueError):
            exponents[place] = approach(sample).a
    if np.isnan(exponents).mean() > 0.5:
        raise ValueError(
            f"only {np.isfinite(exponents).sum()} of {len(samples)} samples of the runs have a frontier, too few "
            "for an interval: train more sizes at each budget"
        )
    return exponents


def _through(flops: Float[np.ndarray, " F"], parameters: Float[np.ndarray, " F"]) -> Frontier:
    """The least-squares line through the logarithms."""
    a, scale = np.polyfit(np.log(flops), np.log(parameters), 1)
    return Frontier(float(a), float(scale), flops, parameters)
