"""Recorded rows of experiments, for the notebooks: their pictures and their claims."""

import pandas as pd
from matplotlib.figure import Figure

from figures.lab import record
from figures.lab.catalogue import experiment
from figures.lab.claims import Claim


def picture(name: str, preset: str = "small") -> Figure:
    """An experiment's picture, drawn from its recorded rows."""
    return experiment(name).module.plot(record.read_rows(name, preset))


def claims(*names: str, preset: str = "small") -> pd.DataFrame:
    """The claims of experiments, with the papers' numbers, ours and the verdicts."""
    found = [
        (name, *claim[:4]) for name in names for claim in experiment(name).module.claims(record.read_rows(name, preset))
    ]
    return pd.DataFrame(found, columns=["experiment", *Claim._fields[:4]])
