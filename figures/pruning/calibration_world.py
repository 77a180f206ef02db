"""Pruning calibrated on documents of another world than the model's own."""

from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.pruning.apply import Pruning, prune_model
from figures.lab.claims import Claim, positive
from figures.lab.measure import Documents, excess, held_back
from figures.lab.presets import KINDS, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLUE, ORANGE
from figures.lab.tables import Table, only, over_seeds
from figures.pruning.common import CALIBRATION, pruned, scaled, show
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.config import DataConfig, uniform_tokens
from icl_synth.documents import sample_documents
from icl_synth.prompt_layout import prompt_length
from icl_synth.prompts import sample_prompts

TITLE = "What the calibration documents must share with the model's own world"
DIFFERS = (
    "The paper calibrates on C4 and measures on WikiText2, PTB and C4, so that its models see other text than they are "
    "asked for; it varies the number of documents and their draw, not their source. Ours are calibrated on documents "
    "that share less and less with the documents of training: prompts of the same world (independent examples of five "
    "tokens), documents of the five concepts that are held out, documents of the same world in which entities do not "
    "persist, of a random world of the same recipe, and tokens of equal probability. Each has as many sequences and "
    "as long ones, prompts as long as whole examples fit. SparseGPT drops half of the weights, and the loss is that on "
    "documents of the model's own world. Two questions, both ours, on differences paired by seed and document: does "
    "each source cost more than own documents, and does it still cost less than magnitude, which calibrates on "
    "nothing?"
)
PUBLISHED = ()
OWN, MAGNITUDE = "own documents", "none (magnitude)"
SEED = 2303
EXAMPLE_LENGTH = 5


class Sizes(NamedTuple):
    documents: int  # that losses are measured on


PRESETS = presets(KINDS, quick=Sizes(128), small=Sizes(512), paper=Sizes(100))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, source, quantity; value in nats per token.

    Quantities: cost (loss above the dense model's), above_own (that with own calibration documents) and
    below_magnitude, all paired.
    """
    table = Table("model", "source", "quantity")
    first = next(iter(models.values()))[0]
    documents, sources = held_back(first, sizes.documents), calibration(first)
    bar = tqdm(total=sum(map(len, models.values())), desc="models", unit="model")
    for name, runs in models.items():
        for run in runs:
            add_sources(table, name, run, sources, documents)
            bar.update()
    return table.rows()


def calibration(run: Run) -> dict[str, Int[np.ndarray, "B T"]]:
    """Calibration sequences of other sources than the model's own documents, as long as its context at most."""
    own, held_out = run.config.data.build()
    V, context, key = own.vocab_size, run.model.config.context, jax.random.key(SEED)
    worlds: dict[str, ConceptHMM] = {
        "held-out concepts": held_out,
        "no persistence": DataConfig(vocab_size=V, entity_persistence=0.0).build()[0],
        "a random world": DataConfig(world="random", vocab_size=V).build()[0],
        "random tokens": uniform_tokens(V),
    }
    examples = max(n for n in range(context) if prompt_length(n, EXAMPLE_LENGTH) <= context)
    sequences = {"prompts": sample_prompts(own, key, CALIBRATION, examples, EXAMPLE_LENGTH).tokens}
    sequences |= {name: sample_documents(world, key, CALIBRATION, context)[0] for name, world in worlds.items()}
    return {name: np.asarray(tokens) for name, tokens in sequences.items()}


def add_sources(
    table: Table, name: str, run: Run, sources: dict[str, Int[np.ndarray, "B T"]], documents: Documents
) -> None:
    """What pruning costs one model by each source of calibration."""
    dense, how = excess(run.model, documents), Pruning()
    costs = {OWN: excess(pruned(run, how), documents) - dense}
    for source, tokens in sources.items():
        costs[source] = excess(prune_model(run.model, tokens, how).model, documents) - dense
    costs[MAGNITUDE] = excess(pruned(run, Pruning("magnitude")), documents) - dense
    for source, cost in costs.items():
        table.add(name, source, "cost", seed=run.seed, values=cost)
        if source in sources:
            table.add(name, source, "above_own", seed=run.seed, values=cost - costs[OWN])
            table.add(name, source, "below_magnitude", seed=run.seed, values=costs[MAGNITUDE] - cost)


def plot(rows: pd.DataFrame) -> Figure:
    rows = over_seeds(rows)
    names, sources = list(rows.model.unique()), list(rows.source.unique())
    figure, panels = plt.subplots(1, len(names), figsize=(7.5, 3.0), squeeze=False, sharey=True)
    for panel, name in zip(panels[0], names, strict=True):
        draw_model(panel, rows, name, sources)
    panels[0, 0].set_yticks(range(len(sources)), labels=sources[::-1])
    panels[0, 0].set_ylabel("calibrated on")
    figure.supxlabel("loss of own documents above the dense model's, nats per token", size=10)
    worst = max((source for source in sources if source not in (OWN, MAGNITUDE)),
                key=lambda source: only(rows, model=names[0], source=source, quantity="cost").mean)  # fmt: skip
    cost = only(rows, model=names[0], source=worst, quantity="cost").mean
    times = cost / only(rows, model=names[0], source=OWN, quantity="cost").mean
    figure.suptitle(f"{names[0]}, 50 %: calibrated on {worst}, pruning costs {times:.1f} times as much", size=11)
    return figure


def draw_model(panel: Axes, rows: pd.DataFrame, name: str, sources: list[str]) -> None:
    for place, source in enumerate(sources[::-1]):
        cost = only(rows, model=name, source=source, quantity="cost")
        panel.errorbar(cost.mean, place, xerr=cost.half_width, marker="o", elinewidth=1, capsize=2,
                       color=ORANGE if source == MAGNITUDE else BLUE)  # fmt: skip
    panel.axvline(only(rows, model=name, source=OWN, quantity="cost").mean, color="black", ls=":", lw=1)
    panel.set_title(name)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Each source against own documents and against none."""
    rows = over_seeds(rows)
    others = [source for source in rows.source.unique() if source not in (OWN, MAGNITUDE)]
    return [claim for name in rows.model.unique() for source in others for claim in source_claims(rows, name, source)]


def source_claims(rows: pd.DataFrame, name: str, source: str) -> list[Claim]:
    cost, above, below = (
        only(rows, model=name, source=source, quantity=q) for q in ("cost", "above_own", "below_magnitude")
    )
    own, none = (only(rows, model=name, source=s, quantity="cost") for s in (OWN, MAGNITUDE))
    against = f"{show(cost)} nats against {show(own)}: {show(above)} more"
    no_claim = "not varied in the paper, which calibrates on C4 and measures on WikiText2 too"
    return [
        Claim(f"{name}: calibrated on {source}, pruning costs more than on own documents", no_claim, against,
              [positive(above)], own=True),
        Claim(f"{name}: calibrated on {source}, SparseGPT costs less than magnitude", no_claim,
              f"{show(cost)} nats against {show(none)}: {show(scaled(below, -1))} more", [positive(below)], own=True),
    ]  # fmt: skip
