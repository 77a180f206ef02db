"""Tidy rows: one for each quantity and training seed; and what claims and pictures read off them."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Shaped

from icl_synth import estimates
from icl_synth.estimates import Estimate, estimate

PAPER_VALUES = Path(__file__).parents[1] / "paper_values"
MEASURED = ["seed", "value", "half_width", "half_width_of_mean"]


class Table:
    """Rows in the making: values of N prompts or documents by cell and training seed.

    A row holds the mean of its seed's values (`value`), its 95 % interval over prompts or documents (`half_width`), and
    that of the mean over all seeds of the cell (`half_width_of_mean`), for seeds are asked the same prompts. What was
    not trained has no seed.
    """

    def __init__(self, *columns: str):
        self.columns = columns
        self.cells: dict[tuple, dict[int | None, np.ndarray]] = {}
        self.least: dict[tuple, float] = {}

    def add(self, *cell: object, values: Shaped[np.ndarray, " N"], seed: int | None = None, least: float = 0.0) -> None:
        """Add one seed's values of a cell. `least` is the smallest half width that so many values can support."""
        if len(cell) != len(self.columns):
            raise ValueError(f"{len(cell)} labels {cell} for {len(self.columns)} columns {self.columns}")
        seeds = self.cells.setdefault(cell, {})
        if seed in seeds:
            raise ValueError(f"seed {seed} of {cell} is there already")
        seeds[seed] = np.atleast_1d(np.asarray(values, np.float64))
        self.least[cell] = max(least, self.least.get(cell, 0.0))

    def rows(self) -> pd.DataFrame:
        """The columns, then seed, value, half_width and half_width_of_mean."""
        rows: list[tuple] = []
        for cell, seeds in self.cells.items():
            sizes = {len(values) for values in seeds.values()}
            if len(sizes) > 1:
                raise ValueError(f"the seeds of {cell} have different numbers of values: {sorted(sizes)}")
            of_mean = max(estimate(np.mean(list(seeds.values()), axis=0)).half_width, self.least[cell])
            for seed, values in seeds.items():
                mean, half_width, _ = estimate(values)
                rows.append((*cell, seed, mean, max(half_width, self.least[cell]), of_mean))
        table = pd.DataFrame(rows, columns=[*self.columns, *MEASURED])
        return table.astype({"seed": "Int64"})


def join(recorded: pd.DataFrame, more: pd.DataFrame) -> pd.DataFrame:
    """Rows of some seeds and rows of others, which were computed apart.

    How seeds go together prompt by prompt is not known then: the interval of their mean over prompts is taken as wide
    as if a prompt were as hard for all. Raises ValueError for rows without intervals over prompts, and where the two
    disagree on what no seed was trained for.
    """
    if not {*MEASURED} <= {*recorded.columns}:
        raise ValueError(f"rows without {', '.join(MEASURED)} are not joined: make all seeds at once, without --seeds")
    keys = [column for column in recorded.columns if column not in MEASURED]
    rows = pd.concat([recorded, more.astype({"seed": "Int64"})], ignore_index=True)
    rows = rows.drop_duplicates([*keys, "seed", "value"], ignore_index=True)
    if (twice := rows.duplicated([*keys, "seed"])).any():
        raise ValueError(f"two values for {dict(rows.loc[twice, keys].iloc[0])}: these rows are not of seeds alone")
    squares = rows.half_width**2
    of_mean = squares.groupby([rows[key] for key in keys], dropna=False).transform("mean") ** 0.5
    several = rows.groupby(keys, dropna=False).seed.transform("count") > 1
    return rows.assign(half_width_of_mean=rows.half_width_of_mean.where(~several, of_mean))


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each cell: `value`, the mean over training seeds, and `half_width`, its 95 % interval.

    The interval has the part of the prompts or documents and that of the seeds (Student's t), as
    `icl_synth.estimates.over_seeds`. Rows recorded before there was one for each seed are such a table already.
    """
    if "half_width_of_mean" not in rows:
        return rows
    keys = [column for column in rows.columns if column not in MEASURED]
    cells = []
    for key, group in rows.groupby(keys, sort=False, dropna=False):
        of_each, of_mean = ((group[column].to_numpy() / estimates.Z) ** 2 for column in MEASURED[2:])
        cells.append((*key, *estimates.over_seeds(group.value.to_numpy(), of_each, float(of_mean[0]))))
    return pd.DataFrame(cells, columns=[*keys, "value", "half_width", "df"])


def pick(rows: pd.DataFrame, **where: object) -> pd.DataFrame:
    """The rows whose columns have these values."""
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows


def only(rows: pd.DataFrame, **where: object) -> Estimate:
    """The value of the one row whose columns have these values. Raises KeyError where there are none or several."""
    chosen = pick(rows, **where)
    if len(chosen) != 1:
        raise KeyError(f"{len(chosen)} rows have {where}, not one")
    return as_estimate(chosen.iloc[0])


def as_estimate(row: pd.Series) -> Estimate:
    """A row of `over_seeds` as an estimate."""
    return Estimate(float(row["value"]), float(row["half_width"]), float(row.get("df", math.inf)))


def published(name: str, **where: object) -> pd.DataFrame:
    """Rows of figures/paper_values/NAME.csv whose columns have these values."""
    return pick(pd.read_csv(PAPER_VALUES / f"{name}.csv"), **where)
