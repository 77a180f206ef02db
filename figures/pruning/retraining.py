"""A large model pruned and retrained against a dense one of as many weights and as many training tokens."""

import dataclasses
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.pruning.apply import Pruning, prune_model
from compression.pruning.calibrate import BLOCKS, calibration_documents
from figures.lab.claims import Claim, at_least, nats, positive, scaled, show
from figures.lab.measure import Documents, excess, held_back, parameters
from figures.lab.presets import PAPER_TRANSFORMERS, SEEDS, WIDTHS, Suite, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLACK, BLUE, GREY, SKY, WIDTH
from figures.lab.tables import Table, only, over_seeds, pick
from figures.pruning.common import CALIBRATION, share_of
from icl_synth import checkpoints, devices
from icl_synth.step import initial_state, make_optimizer, make_steps
from icl_synth.training_data import make_data

TITLE = "Train large, prune and retrain, or train small? At equal weights and tokens"
DIFFERS = (
    "In pruning/size a large model pruned loses more than a dense one with as many weights. Two causes are "
    "suspected: the dense models are undertrained, so that a larger one is hardly better, and the pruned ones "
    "are not retrained. SparseGPT's paper retrains nothing and compares with no small dense model, so that all "
    "questions here are ours. Width 128 is pruned to the exact number of weights of width 96 and then retrained for "
    "500 steps at a tenth of its rates, on fresh documents, with the dropped weights held at 0; width 96 was "
    "trained for as many tokens as pruned and retrained width 128 together, once with the usual number of steps and "
    "once with four times as many for width 128. (Width 256 is too expensive for three seeds on two cores.) Seed i of "
    "one is paired with seed i of the other, on the same documents. Asked are, at both lengths of training, whether "
    "the pruned model loses less than the dense one, without and with retraining; and whether retraining makes good "
    "at least half of what pruning costs the large model. Five hundred steps more may help a dense model too: the "
    "large one is trained on for the same steps, at the same rates on the same documents, and what it gains by them "
    "is not counted as made good."
)
PUBLISHED = ()
DENSE, LARGE, LONGER = "dense, as many weights", "dense, all weights", "dense, trained on"
PRUNED, RETRAINED = "pruned", "pruned and retrained"
STYLES = {
    DENSE: (BLACK, "s"), LARGE: (GREY, "D"), LONGER: (GREY, "d"), PRUNED: (SKY, "v"), RETRAINED: (BLUE, "o"),
}  # fmt: skip


class Sizes(NamedTuple):
    documents: int  # that losses are measured on
    pairs: tuple[tuple[str, str], ...]  # names of a large model and of the dense one of as many weights
    steps: int = 500  # of retraining


SUITES = {
    "quick": Suite(WIDTHS["quick"], SEEDS["quick"]),
    "small": Suite(
        {
            "width 96": "small-w96",
            "width 128": "small-w128",
            "width 96, long": "small-w96-long",
            "width 128, long": "small-w128-long",
        },
        SEEDS["small"],
    ),
    "paper": Suite(PAPER_TRANSFORMERS, SEEDS["paper"]),
}
PRESETS = presets(
    SUITES,
    quick=Sizes(128, (("width 64", "width 32"),), 100),
    small=Sizes(512, (("width 128", "width 96"), ("width 128, long", "width 96, long"))),
    paper=Sizes(100, (("transformer, 12 layers", "transformer, 4 layers"),)),
)


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model (the large one), weights, tokens (of the large model, in millions), state, quantity.

    Quantities in nats per token: excess (over exact Bayes) in the five states of STYLES, and below_dense (how much
    less than the dense model of as many weights) of PRUNED and RETRAINED, paired; recovered, the share of what pruning
    costs the large model that retraining makes good, beyond what the same steps gain without pruning.
    """
    table = Table("model", "weights", "tokens", "state", "quantity")
    documents = held_back(next(iter(models.values()))[0], sizes.documents)
    for large, small in tqdm(sizes.pairs, desc="pairs", unit="pair"):
        for big, dense in zip(models[large], models[small], strict=True):
            add_pair(table, large, big, dense, sizes.steps, documents)
    return table.rows()


def add_pair(table: Table, name: str, big: Run, dense: Run, steps: int, documents: Documents) -> None:
    """One seed of a large model, dense, pruned and retrained, beside the dense one of as many weights."""
    hmm, _ = big.config.data.build()
    how = Pruning(sparsity=sparsity_to(big.model, parameters(dense.model)))
    now = prune_model(big.model, calibration_documents(hmm, big.model, CALIBRATION), how)
    models = {DENSE: dense.model, LARGE: big.model, PRUNED: now.model}
    models |= {LONGER: trained_on(big, big.model, steps), RETRAINED: trained_on(big, now.model, steps, now.masks)}
    losses = {state: excess(model, documents) for state, model in models.items()}
    cell = (name, parameters(dense.model), round(big.metrics[-1]["tokens"] / 1e6, 1))
    for state, values in losses.items():
        table.add(*cell, state, "excess", seed=big.seed, values=values)
        if state in (PRUNED, RETRAINED):
            table.add(*cell, state, "below_dense", seed=big.seed, values=losses[DENSE] - values)
    gained, more = losses[PRUNED] - losses[RETRAINED], losses[LARGE] - losses[LONGER]
    recovered = share_of(gained - more, losses[PRUNED] - losses[LARGE])
    table.add(*cell, RETRAINED, "recovered", seed=big.seed, values=recovered)


def sparsity_to(model: checkpoints.Model, weights: int) -> float:
    """The sparsity of the matrices inside layers that leaves a model so many weights in all."""
    inside = sum(
        weight.size
        for name, weight in checkpoints.split(model)[1].items()
        if name.startswith(BLOCKS) and name.endswith(".kernel")
    )
    return (parameters(model) - weights) / inside


def trained_on(
    run: Run, model: checkpoints.Model, steps: int, masks: checkpoints.Masks | None = None
) -> checkpoints.Model:
    """A model of a run trained further on fresh documents, at a tenth of its rates; weights that masks drop stay 0."""
    optimizer = dataclasses.replace(
        run.config.optimizer,
        learning_rate=run.config.optimizer.learning_rate / 10,
        muon_learning_rate=run.config.optimizer.muon_learning_rate / 10,
        warmup_steps=steps // 10,
    )
    config = dataclasses.replace(run.config, seed=run.seed + 100, steps=steps, optimizer=optimizer)
    mesh, rates = devices.mesh(), make_optimizer(optimizer, steps)
    graph, weights = checkpoints.split(model)
    advance = make_steps(config, graph, rates, make_data(config), mesh, masks)
    state = initial_state(config, rates, mesh, weights)
    for done in range(0, steps, 20):
        state, _ = advance(state, min(20, steps - done))
    return checkpoints.merge(graph, state.weights)


def plot(rows: pd.DataFrame) -> Figure:
    means = over_seeds(rows)
    names = list(rows.model.unique())
    figure, panels = plt.subplots(1, len(names), figsize=(WIDTH, 3.4), squeeze=False, sharey=True)
    for panel, name in zip(panels[0], names, strict=True):
        draw_states(panel, pick(rows, model=name, quantity="excess"), pick(means, model=name, quantity="excess"))
        tokens = pick(rows, model=name).tokens.iloc[0]
        panel.set_title(f"{name}: {tokens:g} M tokens", size=10)
    panels[0, 0].set_yticks(range(len(STYLES)), labels=list(STYLES)[::-1], size=9)
    figure.supxlabel("loss above exact Bayes, nats per token", size=10)
    below = [only(means, model=name, state=RETRAINED, quantity="below_dense").mean for name in names]
    found = ", ".join(f"{abs(x):.4f} nats {'less' if x > 0 else 'more'}" for x in below)
    figure.suptitle(f"Pruned and retrained, a large model loses {found}\nthan a dense one of as many weights", size=11)
    return figure


def draw_states(panel: Axes, rows: pd.DataFrame, means: pd.DataFrame) -> None:
    """The five losses of a pair, a dot for each seed below the mean with its interval."""
    for place, (state, (colour, marker)) in enumerate(reversed(STYLES.items())):
        seeds, mean = pick(rows, state=state).value, only(means, state=state)
        panel.plot(seeds, np.full(len(seeds), place - 0.2), ".", color=colour, alpha=0.6)
        panel.errorbar(mean.mean, place, xerr=mean.half_width, color=colour, marker=marker, elinewidth=1, capsize=2)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Pruned against dense without and with retraining, and what retraining makes good."""
    rows = over_seeds(rows)
    return [
        claim
        for name in rows.model.unique()
        for claim in (
            against_claim(rows, name, PRUNED),
            against_claim(rows, name, RETRAINED),
            recovered_claim(rows, name),
        )
    ]


def losses(rows: pd.DataFrame, name: str) -> dict[str, str]:
    return {state: nats(only(rows, model=name, state=state, quantity="excess")) for state in STYLES}


def against_claim(rows: pd.DataFrame, name: str, state: str) -> Claim:
    below, shown = only(rows, model=name, state=state, quantity="below_dense"), losses(rows, name)
    weights = int(pick(rows, model=name).weights.iloc[0])
    return Claim(
        f"{name} {state} loses less than a dense model of as many weights and tokens",
        "no comparison in the paper",
        f"{shown[state]} nats above Bayes with {weights:,} weights, dense {shown[DENSE]}: {nats(below)} less",
        [positive(below)],
        own=True,
    )


def recovered_claim(rows: pd.DataFrame, name: str) -> Claim:
    share, shown = only(rows, model=name, state=RETRAINED, quantity="recovered"), losses(rows, name)
    return Claim(
        f"{name}: retraining makes good at least half of what pruning costs",
        "no retraining in the paper",
        f"{shown[LARGE]} nats dense ({shown[LONGER]} trained on) → {shown[PRUNED]} pruned → {shown[RETRAINED]} "
        f"retrained: {show(scaled(share, 100))} % made good",
        [at_least(share, 0.5)],
        own=True,
    )
