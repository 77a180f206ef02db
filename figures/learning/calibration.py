"""Accuracy, divergence from exact Bayes and calibration by position in a document. Beyond Xie et al. 2022."""

import itertools
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, above, difference, judged
from figures.lab.measure import held_back
from figures.lab.presets import KINDS, presets
from figures.lab.runs import Models
from figures.lab.style import BAYES, GREY, MODELS, draw_line, legend_below
from figures.lab.tables import Table, only, over_seeds, pick
from figures.learning.common import any_run, learned
from icl_synth import bayes, checkpoints
from icl_synth.evaluate import Estimate, kl_to_bayes, log_probs, map_rows

TITLE = "Accuracy, distance to exact Bayes and calibration by position (beyond Xie et al. 2022)"
DIFFERS = (
    "The paper compares models with each other. Here the exact next-token distribution is known at every position of "
    "a held-back document. The divergence is KL(Bayes || model) in nats. Accuracy is how often the likeliest token is "
    "the one that comes. Reliability sorts predictions into tenths by the probability of their likeliest token, and "
    "compares the mean of that probability with how often the token comes, once for the first 15 tokens, while the "
    "concept is open, and once for the rest. The calibration error is the mean distance of the two, weighted by the "
    "number of predictions in each tenth. Exact Bayes is calibrated by construction, so its own error shows how much "
    "is due to sampling alone; errors are compared with it on the same documents. A calibrated reader need not be near "
    "Bayes: one that always gives the frequencies of tokens would be calibrated too. Intervals of reliability are "
    "over tokens, all others over documents and training seeds. No claim here is a paper's. That a model is calibrated "
    "*holds* where the 95 % interval of its error less that of exact Bayes ends below 0.01, and *partly* where the "
    "mean is below 0.02. That the divergence is largest in the first 15 tokens *holds* where the interval of its "
    "largest value there lies above that of its largest value later, and *partly* where only the means have this "
    "order."
)
PUBLISHED = ()
BINS = 10
EARLY = 16  # tokens read before this many are early
EDGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)  # positions from one edge up to the next, or to the end
PARTS = {"early": np.s_[..., : EARLY - 1], "late": np.s_[..., EARLY - 1 :]}
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
    positions: calibration_error, and more_error, the same less exact Bayes's (fractions; at = 0); and reliability over
    all seeds, the accuracy (%) of predictions whose confidence (%) is `at` on average, with their share of all.
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
            for part, here in PARTS.items():
                more = errors(reading, here) - errors(ideal, here)
                table.add(name, f"more_error_{part}", 0, seed=run.seed, values=more)
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
    rows = over_seeds(rows)
    figure, (left, middle, *reliable) = plt.subplots(1, 4, figsize=(15, 4.2))
    for name in rows.model.unique():
        here = pick(rows, model=name)
        style = {"color": MODELS[name], "marker": "o", "label": name}
        if name == BAYES:
            style |= {"ls": "--", "marker": "s", "mfc": "white"}
        else:
            draw_line(left, pick(here, quantity="kl"), "at", **style)
        draw_line(middle, pick(here, quantity="accuracy"), "at", **style)
        for panel, part in zip(reliable, PARTS, strict=True):
            draw_line(panel, pick(here, quantity=f"reliability_{part}"), "at", **style)
    left.set(yscale="log", ylabel="KL(Bayes || model), nats", title="distance to exact Bayes")
    middle.set(ylabel="likeliest token right, %", title="accuracy")
    for panel in (left, middle):
        panel.set_xscale("log", base=2)
        panel.set_xlabel("tokens read (each point: up to the next)")
        panel.xaxis.set_major_formatter("{x:g}")
    finish_reliability(reliable)
    legend_below(figure, middle, 5)
    return figure


def finish_reliability(reliable: list[Axes]) -> None:
    """The diagonal and the words around it."""
    for panel, title in zip(reliable, (f"reliability, first {EARLY - 1} tokens", "reliability, later"), strict=True):
        panel.plot([0, 100], [0, 100], ":", color=GREY)
        panel.set(ylabel="right, %", title=title, xlabel="probability of the likeliest token, %")


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Calibration beside exact Bayes, early and late in a document, and where models are far from it."""
    rows = over_seeds(rows)
    table = []
    for name in learned(rows, BAYES):
        table += [calibration_claim(rows, name, part) for part in PARTS]
        table.append(divergence_claim(pick(rows, model=name, quantity="kl"), name))
    return table


def more_error(rows: pd.DataFrame, name: str, part: str) -> Estimate:
    """A model's calibration error less that of exact Bayes: paired, where rows have it; older rows do not."""
    paired = pick(rows, model=name, quantity=f"more_error_{part}")
    errors = (only(rows, model=who, quantity=f"calibration_error_{part}") for who in (name, BAYES))
    return only(paired) if len(paired) else difference(*errors)


def calibration_claim(rows: pd.DataFrame, name: str, part: str) -> Claim:
    error, chance = (only(rows, model=who, quantity=f"calibration_error_{part}") for who in (name, BAYES))
    more = more_error(rows, name, part)
    return Claim(
        f"{name}: next-token predictions {WORDS[part]} are calibrated",
        "no claim of a paper's",
        f"calibration error {error.mean:.4f}, exact Bayes {chance.mean:.4f}: {more.mean:+.4f} ± {more.half_width:.4f}",
        judged(more.mean + more.half_width < 0.01, more.mean < 0.02),
    )


def divergence_claim(line: pd.DataFrame, name: str) -> Claim:
    parts = line[line["at"] < EARLY], line[line["at"] >= EARLY]
    early, late = (part.iloc[int(part.value.argmax())] for part in parts)
    worst, rest = (Estimate(row.value, row.half_width) for row in (early, late))
    return Claim(
        f"{name}: the divergence from exact Bayes is largest in the first {EARLY - 1} tokens",
        "no claim of a paper's",
        f"{worst.mean:.3f} ± {worst.half_width:.3f} nats after {early['at']:.0f} tokens, later at most "
        f"{rest.mean:.3f} ± {rest.half_width:.3f} (from {late['at']:.0f} on)",
        above(worst, rest),
    )
