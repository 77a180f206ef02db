"""Every experiment: a module in a subject's folder. Nothing is listed by hand, so that none can be forgotten."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from figures.lab import presets
from figures.lab.presets import Preset

FIGURES = Path(__file__).parents[1]
NO_SUBJECTS = ("lab", "out", "paper_values", "pictures")
ORDER = (
    "learning",
    "pruning",
    "block_float",
    "assisted",
    "scaling",
    "transfer",
    "language",
)  # of subjects; others follow by their name
SHARED = "common"  # what the experiments of a subject share
INTERFACE = ("TITLE", "DIFFERS", "PUBLISHED", "PRESETS", "compute", "plot", "claims")


class Experiment(NamedTuple):
    """A module that computes rows, draws them and judges claims; its name is its place, such as learning/accuracy."""

    name: str
    module: ModuleType
    presets: dict[str, Preset]

    @property
    def subject(self) -> str:
        return self.name.split("/")[0]

    @property
    def title(self) -> str:
        return self.module.TITLE

    @property
    def alone(self) -> bool:
        """Whether it measures time, which other work beside it would spoil."""
        return getattr(self.module, "ALONE", False)

    @property
    def lacks(self) -> str | None:
        """What it stands on that this machine does not have, and how to get it; None where all is there."""
        return self.module.lacks() if hasattr(self.module, "lacks") else None

    @property
    def path(self) -> Path:
        assert self.module.__file__
        return Path(self.module.__file__)


def subjects() -> list[str]:
    """The folders that hold experiments."""
    folders = [path.parent.name for path in FIGURES.glob("*/__init__.py") if path.parent.name not in NO_SUBJECTS]
    return sorted(folders, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def subject_title(subject: str) -> str:
    """The first line of the folder's docstring."""
    return (importlib.import_module(f"figures.{subject}").__doc__ or subject).splitlines()[0].rstrip(".")


def names() -> list[str]:
    """Every experiment, by subject."""
    return [
        f"{subject}/{path.stem}"
        for subject in subjects()
        for path in sorted((FIGURES / subject).glob("*.py"))
        if path.stem not in ("__init__", SHARED)
    ]


def experiment(name: str) -> Experiment:
    """The experiment of that name. Raises TypeError for a module that is none."""
    module = importlib.import_module(f"figures.{name.replace('/', '.')}")
    missing = [part for part in INTERFACE if not hasattr(module, part)]
    if missing or set(module.PRESETS) - set(presets.NAMES):
        raise TypeError(
            f"figures/{name}.py is no experiment: it lacks {', '.join(missing) or 'nothing'} and has presets "
            f"{', '.join(getattr(module, 'PRESETS', ()))} (see docs/experiments.md)"
        )
    return Experiment(name, module, module.PRESETS)


def choose(wanted: list[str] | tuple[str, ...]) -> list[Experiment]:
    """Those of these names or subjects, all if none; ends the program naming the choices for an unknown one."""
    known = names()
    chosen: list[str] = []
    for word in wanted or subjects():
        found = [name for name in known if word in (name, name.split("/")[0])]
        if not found:
            sys.exit(f"error: unknown experiment {word!r}: choose from {', '.join([*subjects(), *known])}")
        chosen += [name for name in found if name not in chosen]
    return [experiment(name) for name in chosen]
