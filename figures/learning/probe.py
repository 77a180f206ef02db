"""Is the exact posterior over concepts in the residual stream? Linear probes, layer by layer. Beyond Xie et al."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from tqdm import tqdm

from figures.lab.claims import Claim, Finding, at_least, positive, show
from figures.lab.presets import KINDS, presets
from figures.lab.runs import Models, Run
from figures.lab.style import GREY, MODELS, WIDTH, name_ends
from figures.lab.tables import Table, only, over_seeds, pick
from figures.learning.common import any_run, draw_mean, in_short, one_of_each
from icl_synth import bayes, checkpoints, probe
from icl_synth.documents import sample_documents
from icl_synth.estimates import Estimate, ratio_of_means
from icl_synth.evaluate import map_rows
from icl_synth.lstm import LSTMConfig

TITLE = "Reading the posterior over concepts off the activations, layer by layer (beyond Xie et al. 2022)"
DIFFERS = (
    "The paper's theory says that a model infers the concept; the paper does not look for it inside. Here a linear "
    "probe (softmax regression, convex) predicts the exact posterior over the five concepts from the residual stream "
    "after each layer, divided by its root mean square as the layers that read it see it (of an LSTM: its hidden "
    "states as they are). The probe is fitted on documents that no model was trained on and read on others. The "
    "figure shows the share that the probe explains of the divergence left by the best constant guess for each place: "
    "1 is the exact posterior, and a probe, which is not told the place, can fall below 0. Most positions are early "
    "ones, since the concept is all but known after a dozen tokens. The ridge and the best layer are chosen on a third "
    "set of documents. There are three controls: each model with the numbers inside every matrix in a random order (a "
    "fresh transformer would be none, since its layers begin by adding zero to the stream); the last pair of "
    "neighbours; and the counts of all pairs so far. Only pairs show which concept a document has, since all concepts "
    "have nearly the same frequencies of single tokens; an embedding therefore tells nothing. The counts are nearly "
    "sufficient, linear and not learned: they mark how much can be read off rather than serve as a control. A probe "
    "shows that the posterior can be read off, not that the model uses it. Intervals are those of a ratio of means "
    "over documents, and include what other documents would do to the constant guess. No claim here is a paper's. Each "
    "asks of the share that the probe of a model's best layer explains at all positions, less the share of what it is "
    "held against, on the same documents: that it be above zero, or for the counts at least zero. The shuffled network "
    "has a best layer of its own, chosen on the same third set. That the posterior fades towards the output requires "
    "that the best layer's share be above the last layer's."
)
PUBLISHED = ()
THEORY = "no claim of a paper's (its theory says that the concept is inferred)"
DOCUMENT_SEED = 1123
POSITIONS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 255)
EARLY = 16  # positions before this are early
CHOICE = "documents the layer is chosen on"
KINDS_OF_WEIGHTS = {"trained": "trained", "shuffled": "weights shuffled"}
PAIR, PAIRS = "last pair", "counts of all pairs"
BEST, SHUFFLED, LAST = "best", "shuffled network", "last layer"  # what the layer chosen is, or is held against
CHOSEN = -1  # the layer that a seed chose


class Sizes(NamedTuple):
    documents: int  # to choose the ridge on, and to read; twice as many to fit on
    ridges: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2)


PRESETS = presets(KINDS, quick=Sizes(128), small=Sizes(512), paper=Sizes(100))


class Documents(NamedTuple):
    """Documents in three parts, to fit, to choose the ridge and to read, with the posterior at P places of each."""

    tokens: Int[np.ndarray, "B L"]
    places: Int[np.ndarray, " P"]
    ends: list[int]  # of the first two parts
    posterior: list[Float[np.ndarray, "_ P C"]]


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: reader, kind (trained, shuffled, tokens), layer, of (all, early, late positions; all of the documents that
    layers are chosen on).

    Value: the fraction of the constant guess's divergence that the probe explains, at most 1. At layer -1, that each
    seed chose: kind best, that fraction, and the other kinds, by how much it is above what it is held against.
    """
    table = Table("reader", "kind", "layer", "of")
    documents = draw_documents(any_run(models), sizes.documents)
    tokens: dict[str, Float[np.ndarray, " N"]] = {}
    for reader in (PAIR, PAIRS):
        features = pairs(documents, any_run(models).config.data.vocab_size, all_so_far=reader == PAIRS)
        shares = explained(features, documents, sizes.ridges)
        tokens[reader] = shares["all"]
        for of, values in shares.items():
            table.add(reader, "tokens", 0, of, values=values)
    runs = [(name, run) for name, several in models.items() for run in several]
    for name, run in tqdm(runs, desc="probes", unit="model"):
        layers = {}
        for kind, model in (("trained", run.model), ("shuffled", shuffled(run.model, run.seed))):
            stages = activations(model, documents.tokens, documents.places)
            layers[kind] = [explained(features, documents, sizes.ridges) for features in stages]
            for layer, shares in enumerate(layers[kind]):
                for of, values in shares.items():
                    table.add(name, kind, layer, of, seed=run.seed, values=values)
        best, chance = (chosen(layers[kind]) for kind in KINDS_OF_WEIGHTS)
        table.add(name, BEST, CHOSEN, "all", seed=run.seed, values=best)
        for other, values in (tokens | {SHUFFLED: chance, LAST: layers["trained"][-1]["all"]}).items():
            table.add(name, other, CHOSEN, "all", seed=run.seed, values=best - values)
    return table.rows()


def chosen(layers: list[dict[str, Float[np.ndarray, " _"]]]) -> Float[np.ndarray, " N"]:
    """The shares of the layer that is best on the documents on which layers are chosen."""
    return max(layers, key=lambda shares: shares[CHOICE].mean())["all"]


def draw_documents(run: Run, number: int) -> Documents:
    hmm, _ = run.config.data.build()
    length = run.config.data.length - 1
    places = np.array([place for place in POSITIONS if place < length])
    parts = 2 * number, number, number
    tokens, _ = sample_documents(hmm, jax.random.key(DOCUMENT_SEED), sum(parts), length)
    posterior = np.asarray(bayes.concept_posterior(hmm, tokens))[:, places]
    ends = np.cumsum(parts)[:-1].tolist()
    return Documents(np.asarray(tokens), places, ends, np.split(posterior, ends))


def shuffled(model: checkpoints.Model, seed: int) -> checkpoints.Model:
    """The model with the numbers inside every matrix in a random order: as large, and knowing nothing."""
    graph, weights = checkpoints.split(model)
    stream = np.random.default_rng(seed)
    return checkpoints.merge(
        graph,
        {
            name: jnp.asarray(stream.permuted(np.asarray(w).ravel()).reshape(w.shape)) if w.ndim > 1 else w
            for name, w in weights.items()
        },
    )


def activations(
    model: checkpoints.Model, tokens: Int[np.ndarray, "B L"], places: Int[np.ndarray, " P"]
) -> list[Float[np.ndarray, "B P D"]]:
    """The stream after the embedding and after every layer, at P places of each document."""
    graph, weights = checkpoints.split(model)
    return map_rows(_at_places, graph, weights, (tokens, np.tile(places, (len(tokens), 1))))


def _at_places(model, rows):
    tokens, places = rows
    stages = [jnp.take_along_axis(x, places[..., None], 1) for x in probe.stages(model, tokens)]
    if isinstance(model.config, LSTMConfig):
        return stages
    return [x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True)) for x in stages]


def pairs(documents: Documents, vocab_size: int, all_so_far: bool) -> Float[np.ndarray, "B P VV"]:
    """How often each pair of neighbours has come by each place, or which one ends there."""
    tokens, places = documents.tokens, documents.places
    coded = tokens[:, :-1] * vocab_size + tokens[:, 1:]
    counts = np.zeros((len(tokens), len(places), vocab_size**2), np.float32)
    every = np.arange(len(tokens))[:, None]
    for index, place in enumerate(places):
        np.add.at(counts[:, index], (every, coded[:, 0 if all_so_far else place - 1 : place]), 1)
    return counts


def explained(
    features: Float[np.ndarray, "B P D"], documents: Documents, ridges: tuple[float, ...]
) -> dict[str, Float[np.ndarray, " N"]]:
    """The fraction that a probe explains on all, early and late places of the documents read, and where it is chosen:
    values of documents whose mean it is."""
    posterior = documents.posterior
    parts = np.split(features, documents.ends)
    flat, targets = ([x.reshape(-1, x.shape[-1]) for x in several] for several in (parts, posterior))
    probes = [probe.fit(flat[0], targets[0], ridge) for ridge in ridges]
    best = min(probes, key=lambda fitted: divergence(targets[1], fitted.log_probs(flat[1])).mean())
    guess = np.log(posterior[0].mean(0))  # the best constant of each place

    def fraction(part: int, here: np.ndarray) -> np.ndarray:
        left = divergence(targets[part], best.log_probs(flat[part])).reshape(posterior[part].shape[:2])
        constant = divergence(posterior[part], np.broadcast_to(guess, posterior[part].shape))
        return 1 - ratio_of_means(left[:, here].mean(1), constant[:, here].mean(1))

    early = documents.places < EARLY
    spans = {"all": np.ones_like(early), "early": early, "late": ~early}
    return {name: fraction(2, here) for name, here in spans.items() if here.any()} | {CHOICE: fraction(1, spans["all"])}


def divergence(exact: Float[np.ndarray, "*B C"], log_probs: Float[np.ndarray, "*B C"]) -> Float[np.ndarray, "*B"]:
    """KL(exact || probe) of probabilities and log-probabilities, in nats."""
    safe = np.where(exact > 0, exact, 1.0)
    return (exact * (np.log(safe) - log_probs)).sum(-1)


def plot(rows: pd.DataFrame) -> Figure:
    """The share explained at all positions by layer, trained and shuffled, beside the probes of tokens."""
    here = pick(rows[rows.layer != CHOSEN], of="all")
    figure, panel = plt.subplots(figsize=(WIDTH, 3.8))
    names = one_of_each(readers(here))
    most, right = here.layer.max(), here.layer.max() + 0.2
    panel.set(ylim=(min(-0.1, here.value.min()), 1.05), xlim=(-0.2, right))
    ends = [("weights shuffled", right, 0.0, GREY)]
    for name in names:
        line = pick(here, reader=name, kind="trained")
        draw_mean(panel, line, "layer", color=MODELS[name])
        draw_mean(panel, pick(here, reader=name, kind="shuffled"), "layer", color=MODELS[name], ls=":", lw=1, ms=2.5)
        last = over_seeds(line).sort_values("layer").iloc[-1]
        ends.append((name, right if last.layer == most else last.layer, last.value, MODELS[name]))
    for name, dashes in ((PAIR, ":"), (PAIRS, "-.")):
        value = over_seeds(pick(here, reader=name)).value.iloc[0]
        panel.axhline(value, color=GREY, ls=dashes, lw=1.2)
        ends.append((name, right, value, GREY))
    for inside in (True, False):
        name_ends(panel, [end for end in ends if (end[1] < right) == inside])
    panel.set(xlabel="layers read (0: embedding)", ylabel="share of the posterior explained (1: exact)")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(finding(over_seeds(rows), names[0]), size=11)
    return figure


def finding(rows: pd.DataFrame, name: str) -> str:
    """What a probe reads off a model's best layer, and off its last one."""
    best, less = (only(rows, reader=name, kind=kind, of="all") for kind in (BEST, LAST))
    fades = "clearly fades" if positive(less).verdict == "holds" else "does not clearly fade"
    return (
        f"The posterior {fades} towards the output: a probe of the {in_short(name)}'s\n"
        f"best layer tells {100 * best.mean:.0f} % of it, of the last layer {100 * (best.mean - less.mean):.0f} %"
    )


def readers(rows: pd.DataFrame) -> list[str]:
    """The trained models."""
    return list(pick(rows, kind="trained").reader.unique())


def claims(rows: pd.DataFrame) -> list[Claim]:
    """The posterior is in the activations, more than chance and the last pair put there, and where."""
    rows = over_seeds(rows)
    return [claim for name in readers(rows) for claim in claims_of(pick(rows, reader=name, of="all"), name)]


def claims_of(here: pd.DataFrame, name: str) -> list[Claim]:
    best = only(here, kind=BEST)
    better = f"{name}: a linear probe of one layer tells the posterior better than one of"
    table = []
    for other, claim, paper, judge in (
        (SHUFFLED, f"{better} a network of the same weights, shuffled", THEORY, positive),
        (PAIR, f"{better} the {PAIR} of tokens", THEORY, positive),
        (PAIRS, f"{name}: the probe tells at least as much as one of the {PAIRS}, which are nearly sufficient",
         THEORY, at_least_zero),
        (LAST, f"{name}: the posterior fades towards the output", "no claim of a paper's", positive),
    ):  # fmt: skip
        more = only(here, kind=other)
        ours = f"the best layer explains {show(best, 3)}, {show(more, 3)} more than the {other}"
        headline = other == SHUFFLED and name == "transformer"
        table.append(Claim(claim, paper, ours, [judge(more)], own=True, headline=headline))
    return table


def at_least_zero(value: Estimate) -> Finding:
    return at_least(value, 0.0)
