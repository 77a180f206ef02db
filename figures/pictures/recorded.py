"""Recorded rows of experiments, for the notebooks: their pictures and their claims."""

import pandas as pd
from matplotlib.figure import Figure

from figures.lab import record
from figures.lab.catalogue import experiment
from figures.lab.report import recorded_claims


def picture(name: str, preset: str = "small") -> Figure:
    """An experiment's picture, drawn from its recorded rows."""
    return experiment(name).module.plot(record.read_rows(name, preset))


def claims(*names: str, preset: str = "small") -> pd.DataFrame:
    """The claims of experiments, with the papers' numbers, ours and the verdicts."""
    found = [(name, *claim.cells) for name in names for claim in recorded_claims(experiment(name), preset)]
    return pd.DataFrame(found, columns=["experiment", "claim", "paper", "ours", "verdict"])
