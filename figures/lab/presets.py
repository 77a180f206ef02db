"""What a preset trains and how much it asks: the shapes of both, and the models that several experiments share."""

from typing import Any, NamedTuple

from icl_synth.presets.recipes import FAMILY

NAMES = ("quick", "small", "paper")
RECORDED = ("small", "paper")  # their rows are committed, so they come from committed code


class Suite(NamedTuple):
    """Models to train: name -> training preset, each with every seed, those in `fewer` with seeds of their own."""

    models: dict[str, str]
    seeds: tuple[int, ...] = (0,)
    fewer: dict[str, tuple[int, ...]] = {}  # noqa: RUF012 (never changed)
    curves: bool = False
    """Only the metrics of the runs are read: they are kept beside the rows, and weights are not asked for again."""

    @property
    def runs(self) -> list[tuple[str, str, int]]:
        """Name, training preset and seed of every run."""
        return [
            (name, training, seed)
            for name, training in self.models.items()
            for seed in self.fewer.get(name, self.seeds)
        ]

    def of(self, seeds: tuple[int, ...]) -> "Suite":
        """The same models with these of their seeds only; a model without any of them is left out."""
        kept = {name: tuple(s for s in self.fewer.get(name, self.seeds) if s in seeds) for name in self.models}
        models = {name: training for name, training in self.models.items() if kept[name]}
        fewer = {name: kept[name] for name in models}
        return Suite(models, tuple(s for s in self.seeds if s in seeds), fewer, self.curves)


class Preset(NamedTuple):
    """The models that an experiment stands on, and its own NamedTuple of sizes: how many prompts, which formats, ..."""

    suite: Suite
    sizes: Any


def presets(suites: dict[str, Suite], **sizes: Any) -> dict[str, Preset]:
    """Join the suites and the sizes of each preset: presets(KINDS, quick=Sizes(...), small=Sizes(...), ...)."""
    if set(sizes) != set(suites):
        raise ValueError(f"sizes of presets {sorted(sizes)} do not match suites of {sorted(suites)}")
    return {name: Preset(suites[name], sizes[name]) for name in suites}


SEEDS = {"quick": (0,), "small": (0, 1, 2), "paper": (0, 1, 2, 3, 4)}  # of most experiments
MORE_SEEDS = SEEDS | {"small": (0, 1, 2, 3, 4, 5)}  # of the transformer and the LSTM, on which most claims stand
PAPER_TRANSFORMERS = {f"transformer, {depth} layers": f"paper-{depth}l" for depth in (4, 12, 16)}
WIDTHS = {
    "quick": {"width 32": "quick-draft", "width 64": "quick"},
    "small": {f"width {config.model.width}": name for name, config in FAMILY.items()},
    "paper": PAPER_TRANSFORMERS,
}
NONE = {name: Suite({}) for name in NAMES}  # of experiments that ask no trained model

# a transformer and an LSTM
KINDS = {
    "quick": Suite({"transformer": "quick", "LSTM": "quick-lstm"}, MORE_SEEDS["quick"]),
    "small": Suite({"transformer": "small", "LSTM": "small-lstm"}, MORE_SEEDS["small"]),
    "paper": Suite(PAPER_TRANSFORMERS | {"LSTM": "paper-lstm"}, MORE_SEEDS["paper"]),
}
ONE_SEED: dict[str, tuple[int, ...]] = {"width 256": (0,)}  # as long to train as ten of the others
# transformers of one recipe from small to large
FAMILIES = {name: Suite(widths, SEEDS[name], ONE_SEED) for name, widths in WIDTHS.items()}


def _with_ends(name: str) -> Suite:
    """KINDS, and the smallest and the largest of the family."""
    kinds, widths = KINDS[name], WIDTHS[name]
    ends = [width for width in (*list(widths)[:1], *list(widths)[-1:]) if widths[width] not in kinds.models.values()]
    seeds = {width: ONE_SEED.get(width, SEEDS[name]) for width in ends}
    return Suite(kinds.models | {width: widths[width] for width in ends}, kinds.seeds, seeds)


ENDS = {name: _with_ends(name) for name in NAMES}
