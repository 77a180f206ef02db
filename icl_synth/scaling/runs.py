"""Training runs as a scaling law sees them: parameters, tokens, loss."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

COLUMNS = ("parameters", "tokens", "loss")
WITHIN = 1.1  # budgets whose FLOPs differ by less than this factor are one


class Runs(NamedTuple):
    """R points of training runs."""

    parameters: Float[np.ndarray, " R"]
    tokens: Float[np.ndarray, " R"]
    loss: Float[np.ndarray, " R"]
    """On held-back data, nats per token."""

    @property
    def flops(self) -> Float[np.ndarray, " R"]:
        """6 N D (Kaplan et al. 2020)."""
        return 6.0 * self.parameters * self.tokens

    def select(self, chosen: np.ndarray) -> "Runs":
        """The points of an index or a mask."""
        return Runs(*(column[chosen] for column in self))


def read(path: Path) -> Runs:
    """Read a CSV file with the columns parameters, tokens and loss, in any order, among others.

    Raises ValueError, by the file's name and line, for a column that is missing, and for a value that is no positive
    number.
    """
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (lines.fieldnames or ())]
        if missing:
            raise ValueError(
                f"{path} has no column {', '.join(missing)}: expected a first line with parameters, tokens and loss, "
                f"got {', '.join(lines.fieldnames or ()) or 'an empty file'}"
            )
        points = [
            [_number(line[name], f"{path}, line {place}, {name}") for name in COLUMNS]
            for place, line in enumerate(lines, start=2)
        ]
    return Runs(*np.array(points, np.float64).reshape(-1, len(COLUMNS)).T)


def _number(text: str | None, where: str) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = np.nan
    if not (np.isfinite(number) and number > 0):
        raise ValueError(f"{where}: expected a positive number, got {text!r}")
    return number


def check(runs: Runs, least: int) -> None:
    """Raise ValueError for points that are not positive and finite, and for fewer of them than a fit needs."""
    values = np.stack(runs)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError("parameters, tokens and losses must be positive and finite")
    if values.shape[1] < least:
        raise ValueError(f"{values.shape[1]} runs are too few: this fit needs at least {least}")


def budgets(runs: Runs) -> list[Int[np.ndarray, " B"]]:
    """The indices of the runs of each compute budget, from small to large: FLOPs that differ by less than a tenth."""
    order = np.argsort(runs.flops, kind="stable")
    groups: list[list[int]] = []
    for index in order:
        if groups and runs.flops[index] < WITHIN * runs.flops[groups[-1][0]]:
            groups[-1].append(int(index))
        else:
            groups.append([int(index)])
    return [np.array(group) for group in groups]


def draw(runs: Runs, draws: int, seed: int) -> Int[np.ndarray, "S R"]:
    """Indices of bootstrap samples of all runs, with replacement."""
    return np.random.default_rng(seed).integers(0, len(runs.loss), (draws, len(runs.loss)))


def draw_at_budgets(runs: Runs, draws: int, seed: int) -> Int[np.ndarray, "S R"]:
    """Indices of bootstrap samples that have as many runs of each budget as there are: a frontier needs them all."""
    generator = np.random.default_rng(seed)
    return np.concatenate([generator.choice(group, (draws, len(group))) for group in budgets(runs)], axis=1)


def interval(values: Float[np.ndarray, " S"]) -> tuple[float, float]:
    """The middle 95 % of bootstrap draws; those that are NaN do not count."""
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)
