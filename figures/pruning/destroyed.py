"""What only an exact world can show: does compression destroy what a model believes, or what it predicts from it?"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.block_float.block_model import in_format
from compression.pruning.apply import Pruning, prune_model
from compression.pruning.calibrate import calibration_documents
from figures.block_float.common import NAMED
from figures.lab.claims import Claim, listed, positive
from figures.lab.measure import held_back
from figures.lab.presets import KINDS, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLUE, ORANGE, WIDTH, draw_seeds
from figures.lab.tables import Table, as_estimate, only, over_seeds, pick
from figures.pruning.common import CALIBRATION
from icl_synth import bayes, checkpoints
from icl_synth.beliefs import Split, by_concept, split_divergence, without_history
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.evaluate import log_probs, map_rows
from icl_synth.prompt_layout import prompt_length
from icl_synth.prompts import sample_prompts

TITLE = "What compression destroys: beliefs about the concept, or predictions within it"
DIFFERS = (
    "No paper makes this split, which needs the exact predictions of every concept. At each token, the model's "
    "distribution of the next one is projected on mixtures (least KL(model || mixture), by expectation maximisation) "
    "of the concepts' predictions given the same history and of two that know no history: all tokens alike, and as "
    "often as the world has them. The weights of concepts are the belief that the model acts by, whatever it computes "
    "inside. Without the other two, exact Bayes with some uniform noise would pass for a reader who believes in "
    "several concepts. KL(Bayes || model) is the sum of two parts: wrong belief, the divergence between readers as "
    "ignorant as the model, with the exact weights of concepts and with the model's; and what is left, wrong "
    "prediction within concepts, which no weights of concepts could mend. The second is no divergence and may be a "
    "little below zero. A concept that the history rules out keeps the prediction that it has where impossible moves "
    "are jumps to anywhere: a model may still believe in it. On documents Bayes is the exact reader of documents, and "
    "the parts are means over tokens after the first; on prompts it is the reader that knows how prompts are made, at "
    "the token asked for, which models trained on documents miss even when dense. Prompts have as many examples of "
    "five tokens as fit. Calibration is on 128 documents or on as many prompts. As a control, exact Bayes with "
    "uniform noise, of which nothing is belief, is drawn beside the models. All questions are ours, on differences "
    "paired by seed and by document or prompt: of what compression adds, is more within concepts than in the belief, "
    "for every sparsity and format, on documents and on prompts; and does calibration on prompts, instead of "
    "documents, lower either part on prompts, for every sparsity?"
)
PUBLISHED = ()
BELIEF, WITHIN = "belief", "within concepts"
DOCUMENTS, PROMPTS = "documents", "prompts"
CONTROL, NOISE = "exact Bayes with noise", 0.1
STYLES = {BELIEF: (ORANGE, "s"), WITHIN: (BLUE, "o")}
SEED, EXAMPLE_LENGTH, AT_ONCE = 2304, 5, 16  # documents at once
Tokens = Int[np.ndarray, "B L"]


class Sizes(NamedTuple):
    documents: int  # that beliefs are read on
    prompts: int
    sparsities: tuple[float, ...] = (0.3, 0.5, 0.7)
    formats: tuple[str, ...] = ("mx9", "msfp12", "mx6", "mxfp4")


PRESETS = presets(KINDS, quick=Sizes(32, 128), small=Sizes(64, 1000), paper=Sizes(32, 1000))


class Asked(NamedTuple):
    """What a model is read on: histories, exact predictions of their next tokens by each concept and by Bayes.

    places: the first position of a history's tokens that is read; documents are read after every token, prompts after
    the last.
    """

    tokens: Tokens
    places: int
    of_concepts: Float[np.ndarray, "B T C V"]
    exact: Float[np.ndarray, "B T V"]
    ignorant: Float[np.ndarray, "2 V"]


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, compression, calibration (documents, prompts, none), asked (documents, prompts), quantity; in nats.

    Quantities: belief and within concepts (the two parts of KL(Bayes || model)), what compression adds to each
    ("added to ..."), "within more" (how much more it adds within concepts than to the belief), and "less BELIEF",
    "less WITHIN" of calibration on prompts (than on documents).
    """
    table = Table("model", "compression", "calibration", "asked", "quantity")
    first = next(iter(models.values()))[0]
    asked = {DOCUMENTS: on_documents(first, sizes.documents), PROMPTS: on_prompts(first, sizes.prompts)}
    for where, what in asked.items():
        add_split(table, (CONTROL, "dense", "none", where), None, with_noise(what), None)
    bar = tqdm(total=sum(map(len, models.values())), desc="models", unit="model")
    for name, runs in models.items():
        for run in runs:
            add_model(table, name, run, sizes, asked)
            bar.update()
    return table.rows()


def on_documents(run: Run, number: int) -> Asked:
    """Held-back documents, with the exact predictions after each token but the last."""
    hmm, _ = run.config.data.build()
    tokens = held_back(run, number).tokens

    def predict(world: ConceptHMM, smoothing: float) -> Float[np.ndarray, "B T V"]:
        return np.exp(np.asarray(bayes.next_token_log_probs(world, jnp.asarray(tokens), smoothing))[:, 1:])

    return Asked(tokens[:, :-1], 0, by_concept(hmm, predict), predict(hmm, 0.0), without_history(hmm))


def on_prompts(run: Run, number: int) -> Asked:
    """Prompts, with the exact predictions of their labels for a reader who knows how prompts are made."""
    hmm, _ = run.config.data.build()
    tokens = prompts_of(hmm, run.model.config.context, number, SEED)

    def predict(world: ConceptHMM, smoothing: float) -> Float[np.ndarray, "B 1 V"]:
        return np.exp(np.asarray(bayes.prompt_log_probs(world, jnp.asarray(tokens), EXAMPLE_LENGTH, smoothing)))[
            :, None
        ]

    return Asked(tokens, tokens.shape[1] - 1, by_concept(hmm, predict), predict(hmm, 0.0), without_history(hmm))


def prompts_of(hmm: ConceptHMM, context: int, number: int, seed: int) -> Tokens:
    """Prompts of as many examples of five tokens as fit."""
    examples = max(n for n in range(context) if prompt_length(n, EXAMPLE_LENGTH) <= context)
    return np.asarray(sample_prompts(hmm, jax.random.key(seed), number, examples, EXAMPLE_LENGTH).tokens)


def add_model(table: Table, name: str, run: Run, sizes: Sizes, asked: dict[str, Asked]) -> None:
    """The parts of one model dense and after each compression, and what each compression adds."""
    shares = [f"{100 * sparsity:g} %" for sparsity in sizes.sparsities]
    models = compressed(run, sizes)
    for where, what in asked.items():
        splits = {key: mean_split(model, what) for key, model in models.items()}
        for (label, source), split in splits.items():
            dense = None if label == "dense" else splits["dense", "none"]
            add_split(table, (name, label, source, where), run.seed, split, dense)
        for label in shares:
            for part, before, after in zip(STYLES, splits[label, DOCUMENTS], splits[label, PROMPTS], strict=True):
                table.add(name, label, PROMPTS, where, f"less {part}", seed=run.seed, values=np.asarray(before - after))


def compressed(run: Run, sizes: Sizes) -> dict[tuple[str, str], checkpoints.Model]:
    """A model dense, in every format, and pruned to every sparsity by either calibration."""
    hmm, _ = run.config.data.build()
    calibrations = {
        DOCUMENTS: calibration_documents(hmm, run.model, CALIBRATION),
        PROMPTS: prompts_of(hmm, run.model.config.context, CALIBRATION, SEED + 1),
    }
    models = {("dense", "none"): run.model}
    models |= {(format, "none"): in_format(run.model, format) for format in sizes.formats}
    return models | {
        (f"{100 * sparsity:g} %", source): prune_model(run.model, tokens, Pruning(sparsity=sparsity)).model
        for sparsity in sizes.sparsities
        for source, tokens in calibrations.items()
    }


def add_split(table: Table, cell: tuple[str, ...], seed: int | None, split: Split, dense: Split | None) -> None:
    for part, values in zip(STYLES, split, strict=True):
        table.add(*cell, part, seed=seed, values=np.asarray(values))
    if dense is not None:
        added = Split(split.belief - dense.belief, split.within - dense.within)
        for part, values in zip(STYLES, added, strict=True):
            table.add(*cell, f"added to {part}", seed=seed, values=np.asarray(values))
        table.add(*cell, "within more", seed=seed, values=np.asarray(added.within - added.belief))


def mean_split(model: checkpoints.Model, asked: Asked) -> Split:
    """The two parts of each document or prompt, means over its tokens."""
    learned = map_rows(log_probs, *checkpoints.split(model), asked.tokens)
    return split_of(learned[:, asked.places :, : asked.exact.shape[-1]], asked)


def with_noise(asked: Asked) -> Split:
    """The two parts of exact Bayes with a tenth of uniform noise."""
    noisy = (1 - NOISE) * asked.exact + NOISE / asked.exact.shape[-1]
    return split_of(np.log(noisy).astype(np.float32), asked)


def split_of(learned: Float[np.ndarray, "B T V"], asked: Asked) -> Split:
    """The two parts of log-probabilities."""
    ignorant = jnp.asarray(asked.ignorant)
    parts = [
        split_divergence(
            *(jnp.asarray(x[at : at + AT_ONCE]) for x in (asked.exact, learned, asked.of_concepts)), ignorant
        )
        for at in range(0, len(learned), AT_ONCE)
    ]
    return Split(*(np.concatenate([np.asarray(part).mean(-1) for part in both]) for both in zip(*parts, strict=True)))


def plot(rows: pd.DataFrame) -> Figure:
    means = over_seeds(rows)
    name = next(name for name in rows.model if name != CONTROL)
    figure, panels = plt.subplots(1, 2, figsize=(WIDTH, 4.0))
    for panel, where in zip(panels, (DOCUMENTS, PROMPTS), strict=True):
        draw_parts(panel, rows, means, name, where)
        panel.set_title(f"{name}, on {where}")
    panels[0].set_ylabel("part of KL(Bayes || model), nats")
    for place, (part, (colour, _)) in enumerate(STYLES.items()):
        panels[0].annotate(part, (0.03, 0.95 - 0.07 * place), xycoords="axes fraction", size=9, color=colour)
    figure.supxlabel("format, or weights dropped (open: calibrated on prompts)", size=10)
    found = shares_within(means, name)
    figure.suptitle(f"Of what pruning adds to the error on documents, within concepts are\n{found}", size=11)
    return figure


def shares_within(means: pd.DataFrame, name: str) -> str:
    """Of what pruning adds on documents, calibrated on documents, the share within concepts by sparsity."""
    cells = pick(means, model=name, calibration=DOCUMENTS, asked=DOCUMENTS)
    shares = {}
    for label in cells.compression.unique():
        belief, within = (only(cells, compression=label, quantity=f"added to {part}").mean for part in STYLES)
        shares[label] = within / (belief + within)
    return ", ".join(f"{100 * share:.0f} % at {label}" for label, share in shares.items())


def draw_parts(panel: Axes, rows: pd.DataFrame, means: pd.DataFrame, name: str, where: str) -> None:
    """Both parts by compression, seeds as dots, calibrated on documents (full) and on prompts (open)."""
    means, rows = (
        table[table.model.isin([CONTROL, name]) & (table.asked == where)].assign(
            compression=lambda t: t.compression.where(t.model != CONTROL, "Bayes, noise")
        )
        for table in (means, rows)
    )
    labels = ["Bayes, noise", *(label for label in means.compression.unique() if label != "Bayes, noise")]
    for part, (colour, marker) in STYLES.items():
        for source, fill in ((DOCUMENTS, colour), ("none", colour), (PROMPTS, "white")):
            shift = 0.25 * (source == PROMPTS)
            line, each = (pick(table, quantity=part, calibration=source) for table in (means, rows))
            line, each = (table.assign(x=table.compression.map(labels.index) + shift) for table in (line, each))
            draw_seeds(panel, each, "x", colour, 0.12)
            panel.errorbar(line.x, line.value, line.half_width, color=colour, mfc=fill, marker=marker, ls="", ms=5,
                           elinewidth=1, capsize=2)  # fmt: skip
    panel.set_yscale("log")
    panel.set_ylim(bottom=1e-3)  # what is below is 0 but for rounding
    panel.yaxis.set_major_formatter("{x:g}")
    shown = [label.upper() if label in NAMED else label for label in labels]
    panel.set_xticks(range(len(labels)), labels=shown, rotation=45, size=8)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Which part compression adds to, and what calibration on prompts changes."""
    rows = over_seeds(rows)
    return [
        claim
        for name in rows.model.unique()
        if name != CONTROL
        for claim in (
            *(within_claim(rows, name, where) for where in (DOCUMENTS, PROMPTS)),
            *(calibration_claim(rows, name, part) for part in STYLES),
        )
    ]


def within_claim(rows: pd.DataFrame, name: str, where: str) -> Claim:
    cells = pick(rows, model=name, asked=where, quantity="within more")
    cells = cells[cells.calibration != PROMPTS]
    return Claim(
        f"{name}: on {where}, compression adds more error within concepts than in the belief",
        "no paper makes this split",
        f"{listed({row.compression: as_estimate(row) for _, row in cells.iterrows()}, 3)} nats more",
        [positive(as_estimate(row)) for _, row in cells.iterrows()],
        own=True,
    )


def calibration_claim(rows: pd.DataFrame, name: str, part: str) -> Claim:
    cells = pick(rows, model=name, asked=PROMPTS, quantity=f"less {part}")
    what = "wrong belief" if part == BELIEF else "wrong prediction within concepts"
    return Claim(
        f"{name}: calibrated on prompts instead of documents, pruning leaves less {what} on prompts",
        "no paper makes this split",
        f"{listed({row.compression: as_estimate(row) for _, row in cells.iterrows()}, 3)} nats less",
        [positive(as_estimate(row)) for _, row in cells.iterrows()],
        own=True,
    )
