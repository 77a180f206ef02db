"""What a preset trains and how much it asks: the shapes of both, and the models that several experiments share."""

from typing import Any, NamedTuple

from icl_synth.config import FAMILY

NAMES = ("quick", "small", "paper")
RECORDED = ("small", "paper")  # their rows are committed, so they come from committed code


class Suite(NamedTuple):
    """Models to train: name -> training preset, each with every seed; those in `once` with the first seed alone."""

    models: dict[str, str]
    seeds: tuple[int, ...] = (0,)
    once: dict[str, str] = {}  # noqa: RUF012 (never changed)

    @property
    def training(self) -> dict[str, str]:
        """Name -> training preset of all models."""
        return self.models | self.once

    @property
    def runs(self) -> list[tuple[str, str, int]]:
        """Name, training preset and seed of every run."""
        seeds = {name: self.seeds for name in self.models} | {name: self.seeds[:1] for name in self.once}
        return [(name, training, seed) for name, training in self.training.items() for seed in seeds[name]]


class Preset(NamedTuple):
    """The models that an experiment stands on, and its own NamedTuple of sizes: how many prompts, which formats, ..."""

    suite: Suite
    sizes: Any


def presets(suites: dict[str, Suite], **sizes: Any) -> dict[str, Preset]:
    """Join the suites and the sizes of each preset: presets(KINDS, quick=Sizes(...), small=Sizes(...), ...)."""
    if set(sizes) != set(suites):
        raise ValueError(f"sizes of presets {sorted(sizes)} do not match suites of {sorted(suites)}")
    return {name: Preset(suites[name], sizes[name]) for name in suites}


SEEDS = {"quick": (0,), "small": (0, 1, 2), "paper": (0, 1, 2, 3, 4)}
PAPER_TRANSFORMERS = {f"transformer, {depth} layers": f"paper-{depth}l" for depth in (4, 12, 16)}
WIDTHS = {
    "quick": {"width 32": "quick-draft", "width 64": "quick"},
    "small": {f"width {config.model.width}": name for name, config in FAMILY.items()},
    "paper": PAPER_TRANSFORMERS,
}
NONE = {name: Suite({}) for name in NAMES}  # of experiments that ask no trained model

# a transformer and an LSTM, with all seeds
KINDS = {
    "quick": Suite({"transformer": "quick", "LSTM": "quick-lstm"}, SEEDS["quick"]),
    "small": Suite({"transformer": "small", "LSTM": "small-lstm"}, SEEDS["small"]),
    "paper": Suite(PAPER_TRANSFORMERS | {"LSTM": "paper-lstm"}, SEEDS["paper"]),
}
# transformers of one recipe from small to large, with one seed
FAMILIES = {name: Suite(widths) for name, widths in WIDTHS.items()}


def _with_ends(name: str) -> Suite:
    """KINDS, and the smallest and the largest of the family with one seed."""
    kinds, widths = KINDS[name], WIDTHS[name]
    ends = {width: widths[width] for width in (next(iter(widths)), next(reversed(widths)))}
    return kinds._replace(once={w: training for w, training in ends.items() if training not in kinds.models.values()})


ENDS = {name: _with_ends(name) for name in NAMES}
