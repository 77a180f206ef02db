"""Accuracy, divergence from exact Bayes and calibration by position in a document. Beyond Xie et al. 2022."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.claims import Claim, above, judged
from figures.colours import MODELS
from figures.pruning import draw_line, held_back, only, pick
from figures.recipes import Recipe, Wanted, trained
from icl_synth import bayes, checkpoints
from icl_synth.evaluate import Estimate, estimate, map_rows

TITLE = "Accuracy, distance to exact Bayes and calibration by position (beyond Xie et al. 2022)"
DIFFERS = (
    "The paper compares models with each other; here the exact next-token distribution is known at every position of "
    "a held-back document. The divergence is KL(Bayes || model), nats; accuracy is how often the likeliest token is "
    "the one that comes; reliability puts predictions in tenths by the probability of their likeliest token and "
    "compares its mean with how often that token comes, apart for the first 15 tokens, while the concept is open, and "
    "the rest. The calibration error is the mean distance of the two, weighted by how many fall in each tenth; exact "
    "Bayes, calibrated by construction, shows how much of it is sampling alone. Calibrated is not near: a reader that "
    "always gives the frequencies of tokens would be calibrated too. Intervals of reliability are over tokens, those "
    "of the error over training seeds. No claim here is a paper's. A model is called calibrated where its error is "
    "within .01 of exact Bayes's (*holds*), .02 (*partly*); that the divergence is largest in the first 15 tokens "
    "*holds* where its interval is apart from the last point's, *partly* where only means are."
)
PUBLISHED = ()
BAYES, BINS = "exact Bayes", 10
EARLY = 16  # tokens read before this many are early
EDGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)  # positions from one edge up to the next, or to the end
COLOURS = {BAYES: "black", **MODELS}


class Reading(NamedTuple):
    """What a reader says at each of T positions of B documents."""

    kl: Float[np.ndarray, "B T"]
    confidence: Float[np.ndarray, "B T"]  # probability of its likeliest token
    right: Bool[np.ndarray, "B T"]


def wanted(recipe: Recipe) -> Wanted:
    return recipe.kinds


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: model, quantity, at, value, half_width (95 %), share.

    Quantities: kl (nats) and accuracy (%) from position `at` on to the next edge; then of early and late positions
    apart: reliability, the accuracy (%) of predictions whose confidence (%) is `at` on average, with their share of
    all; and calibration_error (fraction; at = 0), half width over training seeds.
    """
    models = trained(wanted(recipe))
    hmm, _ = models[0].config.data.build()
    tokens = held_back(models[0], recipe).tokens
    exact = np.asarray(bayes.next_token_log_probs(hmm, tokens))[:, 1:]
    readings = {BAYES: [read(exact, exact, tokens)]}
    for one in tqdm(models, desc="calibration", unit="model"):
        learned = map_rows(log_probs, *checkpoints.split(one.model), tokens[:, :-1])[..., : hmm.vocab_size]
        readings.setdefault(one.name, []).append(read(exact, learned, tokens))
    rows = []
    for name, several in readings.items():
        kl, confidence, right = (np.stack(part) for part in zip(*several, strict=True))
        length = kl.shape[-1]
        edges = [edge for edge in EDGES if edge < length] + [length + 1]
        for start, stop in itertools.pairwise(edges):
            span = slice(start - 1, stop - 1)
            rows.append((name, "kl", start, *estimate(kl[..., span].mean(-1)), 1.0))
            rows.append((name, "accuracy", start, *(100 * x for x in estimate(right[..., span].mean(-1))), 1.0))
        for of, here in (("early", np.s_[..., : EARLY - 1]), ("late", np.s_[..., EARLY - 1 :])):
            errors = []
            for one, other in zip(confidence[here], right[here], strict=True):
                errors.append(sum(share * abs(mean - rate) for mean, rate, _, share in bins(one, other)))
            half_width = estimate(np.stack(errors)[:, None]).half_width
            rows.append((name, f"calibration_error_{of}", 0, float(np.mean(errors)), half_width, 1.0))
            for mean, rate, count, share in bins(confidence[here], right[here]):
                half_width = 1.96 * (rate * (1 - rate) / (count / len(several))) ** 0.5  # seeds share the tokens
                rows.append((name, f"reliability_{of}", 100 * mean, 100 * rate, 100 * half_width, share))
    table = pd.DataFrame(rows, columns=["model", "quantity", "at", "value", "half_width", "share"])
    table.attrs["models"] = [one.record() for one in models]
    return table


def log_probs(model, tokens):
    return jax.nn.log_softmax(model(tokens))


def read(exact: np.ndarray, learned: np.ndarray, tokens: np.ndarray) -> Reading:
    """Of log-probabilities [B T V], the exact ones and a reader's, at the T positions after the first token."""
    possible = jnp.isfinite(exact)
    kl = jnp.where(possible, jnp.exp(exact) * (jnp.where(possible, exact, 0.0) - learned), 0.0).sum(-1)
    likeliest = learned.argmax(-1)
    confidence = np.exp(np.take_along_axis(learned, likeliest[..., None], -1))[..., 0]
    return Reading(np.asarray(kl), confidence, likeliest == tokens[:, 1:])


def bins(confidence: np.ndarray, right: np.ndarray) -> list[tuple[float, float, int, float]]:
    """Mean confidence, rate of being right, number and share of the predictions in each tenth that has any."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    each = [place == index for index in range(BINS)]
    return [
        (float(confidence[here].mean()), float(right[here].mean()), int(here.sum()), float(here.mean()))
        for here in each
        if here.any()
    ]


def plot(rows: pd.DataFrame) -> Figure:
    figure, (left, middle, *reliable) = plt.subplots(1, 4, figsize=(15, 4.2))
    for name in rows.model.unique():
        style = {"color": COLOURS[name], "marker": "o", "label": name}
        if name == BAYES:
            style |= {"ls": "--", "marker": "s", "mfc": "white"}
        else:
            draw_line(left, pick(rows, model=name, quantity="kl"), "at", **style)
        draw_line(middle, pick(rows, model=name, quantity="accuracy"), "at", **style)
        for panel, of in zip(reliable, ("early", "late"), strict=True):
            draw_line(panel, pick(rows, model=name, quantity=f"reliability_{of}"), "at", **style)
    left.set(yscale="log", ylabel="KL(Bayes || model), nats", title="distance to exact Bayes")
    middle.set(ylabel="likeliest token right, %", title="accuracy")
    for panel, title in zip(reliable, (f"reliability, first {EARLY - 1} tokens", "reliability, later"), strict=True):
        panel.plot([0, 100], [0, 100], ":", color="#777777")
        panel.set(ylabel="right, %", title=title, xlabel="probability of the likeliest token, %")
    for panel in (left, middle):
        panel.set_xscale("log", base=2)
        panel.set_xlabel("tokens read (each point: up to the next)")
        panel.xaxis.set_major_formatter("{x:g}")
    figure.legend(*middle.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Calibration beside exact Bayes, early and late in a document, and where models are far from it."""
    table = []
    for name in (name for name in rows.model.unique() if name != BAYES):
        for of, words in (("early", f"in the first {EARLY - 1} tokens"), ("late", "later")):
            error, chance = (only(rows, model=who, quantity=f"calibration_error_{of}") for who in (name, BAYES))
            more = error.mean - chance.mean
            table.append(
                Claim(
                    f"{name}: next-token predictions {words} are calibrated",
                    "no claim of a paper's",
                    f"calibration error {error.mean:.4f} ± {error.half_width:.4f}, exact Bayes {chance.mean:.4f}",
                    judged(more + error.half_width < 0.01, more < 0.02),
                )
            )
        line = pick(rows, model=name, quantity="kl")
        worst, last = line.iloc[int(line.value.argmax())], line.iloc[-1]
        order = above(Estimate(worst.value, worst.half_width), Estimate(last.value, last.half_width))
        table.append(
            Claim(
                f"{name}: the divergence from exact Bayes is largest in the first {EARLY - 1} tokens",
                "no claim of a paper's",
                f"{worst.value:.3f} ± {worst.half_width:.3f} nats after {worst['at']:.0f} tokens, "
                f"{last.value:.3f} ± {last.half_width:.3f} after {last['at']:.0f} and more",
                order if worst["at"] < EARLY else "fails",
            )
        )
    return table
