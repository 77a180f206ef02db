"""Training in a format from the first step, forwards and backwards, beside float32 from the same seed."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
from flax import nnx
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.block_float.block_model import in_format
from compression.block_float.mixed import in_two_formats
from figures.block_float import common
from figures.block_float.common import FAMILIES, LAST_DIGIT, MIXED, UNVERIFIED, family_of, published
from figures.lab.claims import Claim, near_zero, no_more, positive, show
from figures.lab.measure import Documents, excess, held_back, parameters
from figures.lab.presets import NONE, SEEDS, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLACK, BLUE, GREEN, ORANGE, PINK, PUBLISHED_LINE, SKY, WIDTH, draw_seeds, name_ends
from figures.lab.tables import Table, as_estimate, only, over_seeds, pick
from icl_synth import checkpoints
from icl_synth.config import TrainConfig
from icl_synth.documents import sample_documents
from icl_synth.estimates import Estimate
from icl_synth.presets.recipes import TINY
from icl_synth.step import make_optimizer

TITLE = "Training in MX9, MX6 and MXFP6 (Rouhani et al. 2023; OCP Microscaling)"
DIFFERS = (
    "A transformer of the preset `quick-draft` is trained in each format and in float32. A seed gives all of them the "
    "same first weights, documents and rates. Every product of a linear layer is in the format, the head's too: "
    "forwards, and in both products of the gradient. Each operand is quantised along the axis that is summed over, so "
    "that a weight and its transpose are quantised separately. Gradients pass through the rounding unchanged. Weights "
    "and their updates, norms, embeddings and sums stay in float32, as in the papers; so do the products inside "
    "attention, which the papers quantise. Ties are rounded to even, in OCP's training away from zero. The papers' "
    "models have 20 million parameters and more and read text; ours has tens of thousands and reads the synthetic "
    "world. OCP prints losses with two decimals. The paper's claim is about MXFP6 (E3M2): the loss on fresh documents "
    "may lie above that of float32, paired by seed and document, by no more than the most that OCP's table shows. Our "
    f"own questions ask whether MX9, MX6, MXFP6 (E2M3) and MXFP4 with MXFP6 end within {LAST_DIGIT:g} nats of float32, "
    "the last digit of that table, and whether MX6 ends above MX9."
)
PUBLISHED = common.PUBLISHED
FLOAT32 = "float32"
DRAWN = {"mx9": ORANGE, "mx6": PINK, "mxfp6_e3m2": GREEN, "mxfp6_e2m3": SKY, MIXED: BLUE}
SHADES = {  # as drawn: those of a family alike
    "mx9": ORANGE, "mx6": "#8a3c00", "mxfp6_e3m2": GREEN, "mxfp6_e2m3": "#00543e", MIXED: "#4cc9a4",
}  # fmt: skip
THEIRS = ("20M", "150M", "300M", "1.5B")  # OCP's models by parameters
WINDOWS = 20  # of a curve
DATA_STREAM = 1  # of a seed's key


class Sizes(NamedTuple):
    seeds: tuple[int, ...]
    documents: int = 512  # fresh ones that the trained models are compared on
    formats: tuple[str, ...] = tuple(DRAWN)
    steps: int = TINY["quick-draft"].steps
    batch: int = TINY["quick-draft"].batch
    depth: int = TINY["quick-draft"].model.depth

    @property
    def recipe(self) -> TrainConfig:
        like = TINY["quick-draft"]
        model = dataclasses.replace(like.model, depth=self.depth)
        return dataclasses.replace(like, steps=self.steps, batch=self.batch, model=model, precision="float32")


PRESETS = presets(
    NONE, quick=Sizes(SEEDS["quick"], 128, steps=400), small=Sizes(SEEDS["small"]), paper=Sizes(SEEDS["paper"])
)


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: format, quantity, step; value in nats per token.

    Quantities: excess (over exact Bayes, on fresh documents), cost (loss above float32's, paired by seed and document),
    above mx9 (the same above MX9's), curve (training loss above float32's, mean of the steps up to this one) and
    parameters (a count).
    """
    table, recipe = Table("format", "quantity", "step"), sizes.recipe
    formats = (FLOAT32, *sizes.formats)
    with tqdm(total=len(formats) * len(sizes.seeds), desc="training in a format", unit="model") as bar:
        trained = {format: train_seeds(recipe, format, sizes.seeds, bar) for format in formats}
    documents = held_back(trained[FLOAT32][0][0], sizes.documents)
    table.add(FLOAT32, "parameters", sizes.steps, values=np.array([parameters(trained[FLOAT32][0][0].model)]))
    for n in range(len(sizes.seeds)):
        add_seed(table, {format: seeds[n] for format, seeds in trained.items()}, documents)
    return table.rows()


Trained = tuple[Run, Float[np.ndarray, " S"]]  # a model and its training loss at each step


def train_seeds(recipe: TrainConfig, format: str, seeds: tuple[int, ...], bar: tqdm) -> list[Trained]:
    """A model for each seed, trained in a format."""
    graph, _ = checkpoints.split(fresh(recipe, format, 0))
    train = trainer(recipe, graph)
    trained = []
    for seed in seeds:
        _, weights = checkpoints.split(fresh(recipe, format, seed))
        weights, losses = train(weights, jax.random.fold_in(jax.random.key(seed), DATA_STREAM))
        config = dataclasses.replace(recipe, seed=seed)
        trained.append((Run(format, seed, config, checkpoints.merge(graph, weights), [], {}), np.asarray(losses)))
        bar.update()
    return trained


def fresh(recipe: TrainConfig, format: str, seed: int) -> checkpoints.Model:
    """An untrained model that computes in a format, its head too."""
    model = checkpoints.create(recipe.model, seed, "float32")
    if format == FLOAT32:
        return model
    if format == MIXED:
        return in_two_formats(model, *MIXED.split(" with "), keep_head=False)
    return in_format(model, format, keep=(), precision="float32")


def trainer(recipe: TrainConfig, graph: nnx.GraphDef) -> Callable[..., tuple[checkpoints.Weights, Array]]:
    """The compiled function (first weights, key) -> (last weights, training loss at each step)."""
    optimizer, (hmm, _) = make_optimizer(recipe.optimizer, recipe.steps), recipe.data.build()

    def loss(weights: checkpoints.Weights, tokens: Array) -> Array:
        logits = checkpoints.merge(graph, weights)(tokens[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    def step(key: Array, number: Array, state: tuple) -> tuple:
        weights, moments, losses = state
        tokens, _ = sample_documents(hmm, jax.random.fold_in(key, number), recipe.batch, recipe.data.length)
        value, gradient = jax.value_and_grad(loss)(weights, tokens)
        updates, moments = optimizer.update(gradient, moments, weights)
        return optax.apply_updates(weights, updates), moments, losses.at[number].set(value)

    @jax.jit
    def train(weights: checkpoints.Weights, key: Array) -> tuple[checkpoints.Weights, Array]:
        begin = weights, optimizer.init(weights), jnp.zeros(recipe.steps)
        weights, _, losses = jax.lax.fori_loop(0, recipe.steps, functools.partial(step, key), begin)
        return weights, losses

    return train


def add_seed(table: Table, trained: dict[str, Trained], documents: Documents) -> None:
    """One seed's models in all formats, each beside that in float32."""
    above_bayes = {format: excess(run.model, documents) for format, (run, _) in trained.items()}
    float32, plain_losses = trained[FLOAT32]
    last = float32.config.steps
    for format, (run, losses) in trained.items():
        table.add(format, "excess", last, seed=run.seed, values=above_bayes[format])
        if format == FLOAT32:
            continue
        table.add(format, "cost", last, seed=run.seed, values=above_bayes[format] - above_bayes[FLOAT32])
        if "mx9" in trained and format != "mx9":
            table.add(format, "above mx9", last, seed=run.seed, values=above_bayes[format] - above_bayes["mx9"])
        for window in np.array_split(np.arange(last), min(WINDOWS, last)):
            apart = (losses - plain_losses)[window].mean()
            table.add(format, "curve", int(window[-1]) + 1, seed=run.seed, values=np.array([apart]))


def plot(rows: pd.DataFrame) -> Figure:
    joined = over_seeds(rows)
    figure, (curves, ends) = plt.subplots(1, 2, figsize=(WIDTH, 4.2), width_ratios=(1, 1.15))
    costs = pick(joined, quantity="cost").set_index("format").value
    most, least = str(costs.idxmax()), str(costs.abs().idxmin())
    figure.suptitle(f"Trained in {label(least)} a model ends {costs[least]:+.3f} nats from float32, in {label(most)} "
                    f"{costs[most]:+.3f}", size=10)  # fmt: skip
    draw_curves(curves, joined, list(costs.index))
    draw_ends(ends, rows, joined)
    return figure


def label(format: str) -> str:
    """A format's name as it is written in the picture."""
    return "MXFP4 with MXFP6" if format == MIXED else format.upper()


def draw_curves(panel: Axes, joined: pd.DataFrame, formats: list[str]) -> None:
    """Training loss above float32's along the steps."""
    names = []
    for format in formats:
        line = pick(joined, format=format, quantity="curve")
        panel.plot(line.step, line.value, color=SHADES[format], lw=1.2)
        names.append((label(format), line.step.iloc[-1], line.value.iloc[-1], SHADES[format]))
    panel.axhline(0, color=BLACK, lw=0.8, ls=":")
    panel.set(xlabel="steps", ylabel="training loss above float32's, nats", title="while they train")
    name_ends(panel, names)


def draw_ends(panel: Axes, rows: pd.DataFrame, joined: pd.DataFrame) -> None:
    """Loss above float32's at the end: ours, seeds as dots, beside the papers' larger models."""
    costs = pick(joined, quantity="cost")
    for number, format in enumerate(costs["format"].unique().tolist()):
        place, line, colour = 0.14 * (number - 2), pick(costs, format=format), SHADES[format]
        draw_seeds(panel, pick(rows, format=format, quantity="cost").assign(place=place), "place", colour, 0.05)
        panel.errorbar(place, line.value, line.half_width, fmt=FAMILIES[family_of(format)].marker, ms=5, color=colour,
                       capsize=2)  # fmt: skip
    for format, verified in (("mxfp6_e3m2", True), (MIXED, False)):
        theirs = published_costs(format)
        panel.plot(range(1, 1 + len(THEIRS)), theirs,
                   **PUBLISHED_LINE | {"color": SHADES[format], "ls": "--" if verified else ":"})  # fmt: skip
        said = f"OCP: {label(format)}" + ("" if verified else f",\n{UNVERIFIED}")
        how = {"ha": "right", "va": "top", "xytext": (5, -4)} if verified else {"xytext": (0, 5)}
        panel.annotate(said, (len(THEIRS), theirs[-1]) if verified else (1, theirs[0]), textcoords="offset points",
                       size=8, color=SHADES[format], **how)  # fmt: skip
    size = only(joined, quantity="parameters").mean
    panel.set_xticks(range(1 + len(THEIRS)), [f"{size / 1e3:.0f}K,\nours", *THEIRS])
    panel.axhline(0, color=BLACK, lw=0.8, ls=":")
    panel.set(xlabel="parameters", ylabel="loss above float32's, nats", title="at the end")


def published_costs(format: str) -> list[float]:
    """Training losses above float32's that OCP prints, by the size of the model; two decimals, as the losses."""
    tables = [published(f"training loss {size}") for size in THEIRS]
    return [round(float(losses[format] - losses[FLOAT32]), 2) for losses in tables]


def claims(rows: pd.DataFrame) -> list[Claim]:
    """MXFP6 by OCP's losses; MX9, MX6 and the others by our own margin."""
    joined = over_seeds(rows)
    costs = {row["format"]: as_estimate(row) for _, row in pick(joined, quantity="cost").iterrows()}
    table = [ocp_claim(costs["mxfp6_e3m2"])] if "mxfp6_e3m2" in costs else []
    table += [near_claim(format, cost) for format, cost in costs.items() if format != "mxfp6_e3m2"]
    if {"mx9", "mx6"} <= costs.keys():
        table.append(order_claim(only(joined, format="mx6", quantity="above mx9")))
    return table


def ocp_claim(cost: Estimate) -> Claim:
    theirs = published_costs("mxfp6_e3m2")
    shown = ", ".join(f"{value:.2f} at {size}" for value, size in zip(theirs, THEIRS, strict=True))
    return Claim(
        "training in MXFP6 (E3M2), gradients too, costs little loss",
        f"{shown} parameters, nats above float32 (OCP Microscaling)",
        f"{show(cost, 4)} nats above float32",
        [no_more(cost, max(theirs))],
        headline=True,
    )


def near_claim(format: str, cost: Estimate) -> Claim:
    gpt = published("training loss GPT-XL")
    shown = ", ".join(f"{value:.2f} at {size}" for value, size in zip(published_costs(MIXED), THEIRS, strict=True))
    paper = {
        "mx9": f"loss {gpt[FLOAT32]:.2f} in float32 and {gpt['mx9']:.2f} in MX9 (GPT-XL; Rouhani et al. 2023; "
        f"{UNVERIFIED})",
        "mx6": "no number",
        "mxfp6_e2m3": "no number; OCP trains in E3M2",
        MIXED: f"a minor penalty (OCP Microscaling); {shown} parameters ({UNVERIFIED})",
    }[format]
    return Claim(
        f"training in {format} ends within {LAST_DIGIT:g} nats of float32",
        paper,
        f"{show(cost, 4)} nats above float32",
        [near_zero(cost, LAST_DIGIT)],
        own=True,
        headline=format == "mx9",
    )


def order_claim(apart: Estimate) -> Claim:
    return Claim(
        "training in MX6 ends above training in MX9",
        "no number",
        f"{show(apart, 4)} nats above MX9",
        [positive(apart)],
        own=True,
    )
