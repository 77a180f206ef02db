"""Recorded rows of experiments, for the notebooks: their pictures and their claims."""

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Image, display
from matplotlib.figure import Figure

from figures.lab import record
from figures.lab.catalogue import experiment
from figures.lab.report import recorded_claims


def picture(name: str, preset: str = "small") -> Figure | None:
    """An experiment's picture, drawn from its recorded rows; where today's code draws other rows, the recorded one is
    shown."""
    recorded = experiment(name)
    before = plt.get_fignums()
    drawn = record.from_rows(recorded.module.plot, recorded, preset)
    if drawn is None:
        for half_made in set(plt.get_fignums()) - set(before):
            plt.close(half_made)
        display(Image(record.file_of(name, preset, ".png").read_bytes(), width=900))
    return drawn


def claims(*names: str, preset: str = "small") -> pd.DataFrame:
    """The claims of experiments, with the papers' numbers, ours and the verdicts."""
    found = [(name, *claim.cells) for name in names for claim in recorded_claims(experiment(name), preset)]
    return pd.DataFrame(found, columns=["experiment", "claim", "paper", "ours", "verdict"])


def headlines(*names: str, preset: str = "small") -> pd.DataFrame:
    """The few claims of experiments that README lists too."""
    found = [claim.cells for name in names for claim in recorded_claims(experiment(name), preset) if claim.headline]
    return pd.DataFrame(found, columns=["claim", "paper", "ours", "verdict"])
