"""Recorded rows of experiments, for the notebooks: their pictures and their claims."""

import pandas as pd
from IPython.display import Image
from matplotlib.figure import Figure

from figures.lab import record
from figures.lab.catalogue import experiment
from figures.lab.report import recorded_claims


def picture(name: str, preset: str = "small") -> Figure | Image:
    """An experiment's picture, drawn from its recorded rows; the recorded one where today's code draws other rows."""
    recorded = experiment(name)
    drawn = record.from_rows(recorded.module.plot, recorded, preset)
    return drawn or Image(record.file_of(name, preset, ".png").read_bytes(), width=900)


def claims(*names: str, preset: str = "small") -> pd.DataFrame:
    """The claims of experiments, with the papers' numbers, ours and the verdicts."""
    found = [(name, *claim.cells) for name in names for claim in recorded_claims(experiment(name), preset)]
    return pd.DataFrame(found, columns=["experiment", "claim", "paper", "ours", "verdict"])
