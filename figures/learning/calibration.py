"""Accuracy, divergence from exact Bayes and calibration by position in a document. Beyond Xie et al. 2022."""

import itertools
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, no_more, positive, show
from figures.lab.measure import held_back
from figures.lab.presets import KINDS, presets
from figures.lab.runs import Models
from figures.lab.style import BAYES, GREY, MODELS, WIDTH, draw_line, legend_below
from figures.lab.tables import Table, only, over_seeds, pick
from figures.learning.common import any_run, in_short, learned, one_of_each
from icl_synth import bayes, checkpoints
from icl_synth.evaluate import kl_to_bayes, log_probs, map_rows

TITLE = "Accuracy, distance to exact Bayes and calibration by position (beyond Xie et al. 2022)"
DIFFERS = (
    "The paper compares models with each other. Here the exact next-token distribution is known at every position of "
    "a held-back document. The divergence is KL(Bayes || model) in nats. Accuracy is how often the likeliest token is "
    "the one that comes. Reliability sorts predictions into tenths by the probability of their likeliest token, and "
    "compares the mean of that probability with how often the token comes, once for the first 15 tokens, while the "
    "concept is open, and once for the rest. The calibration error is the mean distance of the two, weighted by the "
    "number of predictions in each tenth; confidence to spare is the mean probability of the likeliest token less how "
    "often it comes. Exact Bayes is calibrated by construction, so its own numbers show how much is due to sampling "
    "alone: a model is compared with it on the same documents. A calibrated reader need not be near Bayes: one that "
    "always gives the frequencies of tokens would be calibrated too. Intervals of reliability are over tokens, all "
    "others over documents and training seeds. No claim here is a paper's. That a model is calibrated requires that "
    "its error be above that of exact Bayes by at most 0.01, a tenth of the width of a tenth. That it is too confident "
    "requires that its confidence to spare be above that of exact Bayes. That it is furthest from exact Bayes in the "
    "first 15 tokens requires that its mean divergence there be above its mean divergence later, in the same documents."
)
PUBLISHED = ()
BINS = 10
EARLY = 16  # tokens read before this many are early
EDGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)  # positions from one edge up to the next, or to the end
PARTS = {"early": np.s_[..., : EARLY - 1], "late": np.s_[..., EARLY - 1 :]}
SHOWN = 0.01  # of all predictions, in a tenth that is drawn
CALIBRATED = 0.1 / BINS  # above the error of exact Bayes
WORDS = {"early": f"in the first {EARLY - 1} tokens", "late": "later"}


class Reading(NamedTuple):
    """The predictions of a reader at each of T positions of B documents."""

    kl: Float[np.ndarray, "B T"]
    confidence: Float[np.ndarray, "B T"]  # probability of its likeliest token
    right: Bool[np.ndarray, "B T"]


class Sizes(NamedTuple):
    documents: int


PRESETS = presets(KINDS, quick=Sizes(128), small=Sizes(512), paper=Sizes(100))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, quantity, at, share.

    Quantities: kl (nats) and accuracy (%) from position `at` on to the next edge. Then, of early and of late
    positions (at = 0): calibration_error (a fraction), and more_error and more_confidence, the calibration error and
    the confidence to spare less those of exact Bayes; and reliability over all seeds, the accuracy (%) of predictions
    whose confidence (%) is `at` on average, with their share of all. kl_more_early is the divergence of early positions
    less that of late ones (nats).
    """
    table = Table("model", "quantity", "at")
    hmm, _ = any_run(models).config.data.build()
    tokens = held_back(any_run(models), sizes.documents).tokens
    exact = np.asarray(bayes.next_token_log_probs(hmm, tokens))[:, 1:]
    ideal = read(exact, exact, tokens)
    readings = {BAYES: [ideal]}
    add_reading(table, BAYES, None, ideal)
    for name, runs in models.items():
        readings[name] = []
        for run in tqdm(runs, desc=f"calibration, {name}", unit="model"):
            graph, weights = checkpoints.split(run.model)
            reading = read(exact, map_rows(log_probs, graph, weights, tokens[:, :-1])[..., : hmm.vocab_size], tokens)
            add_reading(table, name, run.seed, reading)
            add_comparison(table, name, run.seed, reading, ideal)
            readings[name].append(reading)
    return pd.concat([table.rows().assign(share=1.0), reliability(readings)], ignore_index=True)


def read(
    exact: Float[np.ndarray, "B T V"], learned: Float[np.ndarray, "B T V"], tokens: Int[np.ndarray, "B L"]
) -> Reading:
    """The reading of a model's log-probabilities at the T = L - 1 positions after the first token."""
    likeliest = learned.argmax(-1)
    confidence = np.exp(np.take_along_axis(learned, likeliest[..., None], -1))[..., 0]
    with np.errstate(invalid="ignore"):  # exact Bayes beside itself: 0 times infinity, which counts nothing
        return Reading(kl_to_bayes(exact, learned), confidence, likeliest == tokens[:, 1:])


def add_reading(table: Table, name: str, seed: int | None, reading: Reading) -> None:
    """Divergence and accuracy by position, and calibration errors."""
    length = reading.kl.shape[-1]
    edges = [edge for edge in EDGES if edge < length] + [length + 1]
    for start, stop in itertools.pairwise(edges):
        span = np.s_[:, start - 1 : stop - 1]
        table.add(name, "kl", start, seed=seed, values=reading.kl[span].mean(-1))
        table.add(name, "accuracy", start, seed=seed, values=100.0 * reading.right[span].mean(-1))
    for part, here in PARTS.items():
        table.add(name, f"calibration_error_{part}", 0, seed=seed, values=errors(reading, here))


def add_comparison(table: Table, name: str, seed: int, reading: Reading, ideal: Reading) -> None:
    """A model beside exact Bayes on the same documents, and early beside late."""
    for part, here in PARTS.items():
        for quantity, of in (("error", errors), ("confidence", spare)):
            table.add(name, f"more_{quantity}_{part}", 0, seed=seed, values=of(reading, here) - of(ideal, here))
    early, late = (reading.kl[here].mean(-1) for here in PARTS.values())
    table.add(name, "kl_more_early", 0, seed=seed, values=early - late)


def spare(reading: Reading, part: tuple) -> Float[np.ndarray, " B"]:
    """Confidence to spare, by document."""
    return (reading.confidence[part] - reading.right[part]).mean(-1)


def tenths(confidence: Float[np.ndarray, "*B T"]) -> Int[np.ndarray, "*B T"]:
    """The tenth that each prediction falls in."""
    return np.minimum((confidence * BINS).astype(int), BINS - 1)


def errors(reading: Reading, part: tuple) -> Float[np.ndarray, " B"]:
    """Values of documents whose mean is the calibration error and whose spread gives its interval (delta method).

    The error is the sum over tenths of |sum of confidence - right| / N; each prediction counts with the sign of its
    tenth's sum.
    """
    confidence, right = reading.confidence[part].astype(np.float64), reading.right[part]
    gaps, place = confidence - right, tenths(reading.confidence[part])
    signs = np.sign(np.bincount(place.ravel(), gaps.ravel(), minlength=BINS))
    return (signs[place] * gaps).mean(-1)


def reliability(readings: dict[str, list[Reading]]) -> pd.DataFrame:
    """Accuracy by confidence, over all seeds of a model."""
    rows = []
    for name, several in readings.items():
        for part, here in PARTS.items():
            confidence = np.stack([reading.confidence for reading in several])[here]
            right = np.stack([reading.right for reading in several])[here]
            place = tenths(confidence)
            for chosen in (place == index for index in range(BINS) if (place == index).any()):
                mean, rate = float(confidence[chosen].mean()), float(right[chosen].mean())
                # seeds share the tokens
                half_width = 196 * (rate * (1 - rate) / (chosen.sum() / len(several))) ** 0.5
                values = 100 * rate, half_width, half_width
                rows.append((name, f"reliability_{part}", 100 * mean, pd.NA, *values, float(chosen.mean())))
    columns = ["model", "quantity", "at", "seed", "value", "half_width", "half_width_of_mean", "share"]
    return pd.DataFrame(rows, columns=columns).astype({"seed": "Int64"})


def plot(rows: pd.DataFrame) -> Figure:
    """How far from the diagonal predictions lie, early and late in a document."""
    rows = over_seeds(rows)
    names = one_of_each(learned(rows, BAYES))
    figure, panels = plt.subplots(1, len(PARTS), figsize=(WIDTH, 3.6), sharey=True)
    for panel, part in zip(panels, PARTS, strict=True):
        for index, name in enumerate((BAYES, *names)):
            line = pick(rows, model=name, quantity=f"reliability_{part}")
            line = line[line.share >= SHOWN]
            line = line.assign(value=line.value - line["at"], at=line["at"] + index - len(names) / 2)
            draw_line(panel, line, "at", color=MODELS[name], marker="o", ms=4, ls="--" if name == BAYES else "-",
                      lw=1.2, label=name)  # fmt: skip
        panel.axhline(0, color=GREY, lw=1)
        panel.set(xlim=(0, 100), xlabel="probability of the likeliest token, %", title=f"predictions {WORDS[part]}")
    panels[0].set_ylabel("right less probability, points")
    more = [100 * only(rows, model=names[0], quantity=f"more_error_{part}").mean for part in PARTS]
    figure.suptitle(
        f"The {in_short(names[0])}'s calibration error less that of exact Bayes:\n{more[0]:+.1f} points in the first "
        f"{EARLY - 1} tokens, {more[1]:+.1f} later", size=11
    )  # fmt: skip
    legend_below(figure, panels[0], 5)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Calibration beside exact Bayes, early and late in a document, and where models are far from it."""
    rows = over_seeds(rows)
    table = []
    for name in learned(rows, BAYES):
        for part in PARTS:
            table += [calibration_claim(rows, name, part), confidence_claim(rows, name, part)]
        table.append(divergence_claim(rows, name))
    return table


def calibration_claim(rows: pd.DataFrame, name: str, part: str) -> Claim:
    error, chance = (only(rows, model=who, quantity=f"calibration_error_{part}") for who in (name, BAYES))
    more = only(rows, model=name, quantity=f"more_error_{part}")
    return Claim(
        f"{name}: next-token predictions {WORDS[part]} are calibrated",
        "no claim of a paper's",
        f"calibration error {error.mean:.4f}, exact Bayes {chance.mean:.4f}: {show(more, 4)} more",
        [no_more(more, CALIBRATED)],
        own=True,
    )


def confidence_claim(rows: pd.DataFrame, name: str, part: str) -> Claim:
    more = only(rows, model=name, quantity=f"more_confidence_{part}")
    return Claim(
        f"{name}: next-token predictions {WORDS[part]} are too confident",
        "no claim of a paper's",
        f"confidence to spare {show(more, 4)} above that of exact Bayes",
        [positive(more)],
        own=True,
    )


def divergence_claim(rows: pd.DataFrame, name: str) -> Claim:
    more = only(rows, model=name, quantity="kl_more_early")
    return Claim(
        f"{name}: it is furthest from exact Bayes in the first {EARLY - 1} tokens",
        "no claim of a paper's",
        f"{show(more, 4)} nats per token more than later",
        [positive(more)],
        own=True,
    )
