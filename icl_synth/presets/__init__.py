"""Named training runs: the paper's, those of two cores, and what varies worlds, vocabularies, sizes and budgets.

A preset counts by its values, which whoever uses it hashes: a new one here renames no run.
"""

from icl_synth.config import TrainConfig
from icl_synth.presets.recipes import FAMILY, PAPER, TINY
from icl_synth.presets.scaling import SCALING, SCALING_CONTROLS
from icl_synth.presets.transfer import AFTER, FIRST, RATES, READING
from icl_synth.presets.worlds import CONCEPT_SWEEP, LONGER, PROTOCOL, SEQUENCES, SHORTER, VOCABULARIES, WORLDS

PRESETS = {
    **TINY,
    **FAMILY,
    **WORLDS,
    **CONCEPT_SWEEP,
    **PAPER,
    **SHORTER,
    **PROTOCOL,
    **SEQUENCES,
    **LONGER,
    **VOCABULARIES,
    **SCALING,
    **SCALING_CONTROLS,
    **FIRST,
    **READING,
    **RATES,
}


def preset(name: str) -> TrainConfig:
    """The training configuration of that name. Raises ValueError naming the choices."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def first_of_its_kind(name: str) -> str:
    """The first preset with the same configuration and beginning: where two mean the same run, it is trained once."""
    wanted = preset(name), AFTER.get(name)
    return next(other for other, config in PRESETS.items() if (config, AFTER.get(other)) == wanted)
