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
from figures.lab.claims import Claim, nats, positive, scaled
from figures.lab.measure import Documents, excess, held_back
from figures.lab.presets import KINDS, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLACK, WIDTH
from figures.lab.tables import Table, only, over_seeds, pick
from figures.pruning import common
from figures.pruning.common import CALIBRATION, pruned
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
    means, sources = over_seeds(rows), list(rows.source.unique())
    figure, panel = plt.subplots(figsize=(WIDTH, 3.6))
    for number, (name, (colour, marker)) in enumerate(common.looks(rows).items()):
        draw_model(panel, pick(rows, model=name), pick(means, model=name), colour, marker, number)
        panel.annotate(name, (0.98, 0.95 - 0.08 * number), xycoords="axes fraction", size=9, color=colour, ha="right")
    panel.axvline(1, color=BLACK, ls=":", lw=1)
    panel.set_yticks(range(len(sources)), labels=sources[::-1])
    panel.set(ylabel="calibrated on", xlabel="cost of pruning, times that with own documents")
    name, worst, times = worst_source(means)
    figure.suptitle(f"{name}, 50 %: calibrated on {worst}, pruning costs {times:.1f} times as much", size=11)
    return figure


def worst_source(means: pd.DataFrame) -> tuple[str, str, float]:
    """The first model, the source that costs it most, and how many times the cost with own documents."""
    name = str(means.model.iloc[0])
    costs = pick(means, model=name, quantity="cost").set_index("source").value
    others = costs.drop([OWN, MAGNITUDE])
    return name, str(others.idxmax()), float(others.max() / costs[OWN])


def draw_model(panel: Axes, rows: pd.DataFrame, means: pd.DataFrame, colour: str, marker: str, number: int) -> None:
    """The cost of one model by source, seeds as dots, over its cost with own documents."""
    own, sources = only(means, source=OWN, quantity="cost").mean, list(means.source.unique())
    for place, source in enumerate(sources[::-1]):
        cost, seeds = only(means, source=source, quantity="cost"), pick(rows, source=source, quantity="cost").value
        height = place - 0.2 * number
        panel.plot(seeds / own, np.full(len(seeds), height - 0.08), ".", ms=3, color=colour, alpha=0.5)
        panel.errorbar(cost.mean / own, height, xerr=cost.half_width / own, color=colour, marker=marker, ms=5,
                       elinewidth=1, capsize=2)  # fmt: skip


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
    against = f"{nats(cost)} nats against {nats(own)}: {nats(above)} more"
    no_claim = "not varied in the paper, which calibrates on C4 and measures on WikiText2 too"
    return [
        Claim(f"{name}: calibrated on {source}, pruning costs more than on own documents", no_claim, against,
              [positive(above)], own=True),
        Claim(f"{name}: calibrated on {source}, SparseGPT costs less than magnitude", no_claim,
              f"{nats(cost)} nats against {nats(none)}: {nats(scaled(below, -1))} more", [positive(below)], own=True),
    ]  # fmt: skip
