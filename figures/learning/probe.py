"""Is the exact posterior over concepts in the residual stream? Linear probes, layer by layer. Beyond Xie et al."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.claims import Claim, above, judged
from figures.colours import MODELS
from figures.pruning import draw_line, only, pick, show
from figures.recipes import Recipe, Wanted, trained
from icl_synth import bayes, checkpoints, probe
from icl_synth.documents import sample_documents
from icl_synth.evaluate import Estimate, estimate, map_rows
from icl_synth.lstm import LSTMConfig

TITLE = "Reading the posterior over concepts off the activations, layer by layer (beyond Xie et al. 2022)"
DIFFERS = (
    "The paper's theory says that a model infers the concept; it does not look for it inside. Here a linear probe "
    "(softmax regression, convex) predicts the exact posterior over the five concepts from the residual stream after "
    "each layer, divided by its root mean square as those that read it see it (of an LSTM: its hidden states as they "
    "are), fitted on documents that no model was trained on and read on others. Shown is the share of the divergence "
    "that is left by the best constant guess for each place which the probe explains: 1 is the exact posterior; a "
    "probe, which is not told the place, can fall below 0. Positions are early ones for the most part, since the "
    "concept is all but known after a dozen tokens. The ridge and the best layer are chosen on a third set of "
    "documents. Controls: each model with the numbers inside every matrix in a random order (a fresh transformer "
    "would be none: its layers begin by adding zero to the stream); the last pair of neighbours; and the counts of "
    "all pairs so far. Which concept a document has shows in pairs alone, all concepts having nearly the same "
    "frequencies of single tokens, so an embedding tells nothing. The counts are nearly sufficient, linear and not "
    "learnt: a mark for how much can be read off, more than a control. A probe shows that the posterior can be read "
    "off, not that the model uses it. *Holds* where intervals are apart, *partly* where only means are."
)
PUBLISHED = ()
THEORY = "no claim of a paper's (its theory says that the concept is inferred)"
DOCUMENT_SEED, SHARE = 1123, 2  # documents to fit on, as many as the recipe's times this
POSITIONS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 255)
EARLY = 16  # positions before this are early
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2)
CHOICE = "documents the layer is chosen on"
KINDS = {"trained": "trained", "shuffled": "weights shuffled"}
PAIR, PAIRS = "last pair", "counts of all pairs"


def wanted(recipe: Recipe) -> Wanted:
    return recipe.kinds


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: reader, kind (trained, shuffled, tokens), layer, of (all, early, late positions; all of the documents that
    layers are chosen on), value, half_width.

    Value: the fraction of the constant guess's divergence that the probe explains, at most 1; 95 % over training seeds
    and documents.
    """
    models = trained(wanted(recipe))
    hmm, _ = models[0].config.data.build()
    length = models[0].config.data.length - 1
    places = np.array([place for place in POSITIONS if place < length])
    sizes = SHARE * recipe.documents, recipe.documents, recipe.documents  # to fit, to choose the ridge, to read
    tokens, _ = sample_documents(hmm, jax.random.key(DOCUMENT_SEED), sum(sizes), length)
    posterior = np.asarray(bayes.concept_posterior(hmm, tokens))[:, places]
    ends = np.cumsum(sizes)[:-1]
    tokens, parts = np.asarray(tokens), np.split(posterior, ends)

    def explained(features: np.ndarray) -> dict[str, np.ndarray]:
        return read(np.split(features, ends), parts, places)

    found: dict[tuple, list[np.ndarray]] = {}

    def add(who: tuple, features: np.ndarray) -> None:
        for of, values in explained(features).items():
            found.setdefault((*who, of), []).append(values)

    for one in tqdm(models, desc="probes", unit="model"):
        for kind, model in (("trained", one.model), ("shuffled", shuffled(one.model, one.seed))):
            for layer, features in enumerate(activations(model, tokens, places)):
                add((one.name, kind, layer), features)
    add((PAIR, "tokens", 0), pairs(tokens, places, hmm.vocab_size, all_so_far=False))
    add((PAIRS, "tokens", 0), pairs(tokens, places, hmm.vocab_size, all_so_far=True))
    rows = [(*who, *estimate(np.stack(values))) for who, values in found.items()]
    table = pd.DataFrame(rows, columns=["reader", "kind", "layer", "of", "value", "half_width"])
    table.attrs["models"] = [one.record() for one in models]
    return table


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


def activations(model: checkpoints.Model, tokens: np.ndarray, places: np.ndarray) -> list[np.ndarray]:
    """[B P D] after the embedding and after every layer, at P places of each document."""
    graph, weights = checkpoints.split(model)
    return map_rows(_at_places, graph, weights, (tokens, np.tile(places, (len(tokens), 1))))


def _at_places(model, rows):
    tokens, places = rows
    found = [jnp.take_along_axis(x, places[..., None], 1) for x in probe.stages(model, tokens)]
    if isinstance(model.config, LSTMConfig):
        return found
    return [x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True)) for x in found]


def pairs(tokens: np.ndarray, places: np.ndarray, vocab_size: int, all_so_far: bool) -> np.ndarray:
    """How often each pair of neighbours has come by each place, or which one ends there: [B P V²]."""
    coded = tokens[:, :-1] * vocab_size + tokens[:, 1:]
    found = np.zeros((len(tokens), len(places), vocab_size**2), np.float32)
    documents = np.arange(len(tokens))[:, None]
    for index, place in enumerate(places):
        np.add.at(found[:, index], (documents, coded[:, 0 if all_so_far else place - 1 : place]), 1)
    return found


def read(features: list[np.ndarray], posterior: list[np.ndarray], places: np.ndarray) -> dict[str, np.ndarray]:
    """The fraction explained of each document read, [B], over all, early and late places; parts: fit, choose, read."""
    flat = [x.reshape(-1, x.shape[-1]) for x in features]
    targets = [x.reshape(-1, x.shape[-1]) for x in posterior]
    probes = [probe.fit(flat[0], targets[0], ridge) for ridge in RIDGES]
    best = min(probes, key=lambda one: divergence(targets[1], one.log_probs(flat[1])).mean())
    left = divergence(targets[2], best.log_probs(flat[2])).reshape(posterior[2].shape[:2])
    guess = np.log(posterior[0].mean(0))  # the best constant of each place
    constant = divergence(posterior[2], np.broadcast_to(guess, posterior[2].shape))
    early = places < EARLY
    spans = {"all": places > 0, "early": early, "late": ~early}
    found = {name: 1 - left[:, here].mean(1) / constant[:, here].mean() for name, here in spans.items() if here.any()}
    chosen_on = divergence(targets[1], best.log_probs(flat[1])).reshape(posterior[1].shape[:2])
    base = divergence(posterior[1], np.broadcast_to(guess, posterior[1].shape))
    return found | {CHOICE: 1 - chosen_on.mean(1) / base.mean()}


def divergence(exact: np.ndarray, log_probs: np.ndarray) -> np.ndarray:
    """KL(exact || probe), nats."""
    safe = np.where(exact > 0, exact, 1.0)
    return (exact * (np.log(safe) - log_probs)).sum(-1)


def plot(rows: pd.DataFrame) -> Figure:
    spans = [of for of in rows.of.unique() if of != CHOICE]
    figure, panels = plt.subplots(1, len(spans), figsize=(4 * len(spans), 4.3), sharey=True, squeeze=False)
    titles = {"all": "all positions", "early": f"the first {EARLY} tokens", "late": "later tokens"}
    for panel, of in zip(panels[0], spans, strict=True):
        here = pick(rows, of=of)
        for name in (name for name in here.reader.unique() if name in MODELS):
            for kind, style in (("trained", {"ls": "-"}), ("shuffled", {"ls": ":", "mfc": "white"})):
                line = pick(here, reader=name, kind=kind)
                draw_line(panel, line, "layer", color=MODELS[name], marker="o", label=f"{name}, {KINDS[kind]}", **style)
        for name, colour, dashes in ((PAIR, "#777777", "--"), (PAIRS, "black", "-.")):
            panel.axhline(only(here, reader=name).mean, color=colour, ls=dashes, lw=1.2, label=name)
        panel.set(title=titles[of], xlabel="layers read (0: embedding)", ylim=(min(-0.1, here.value.min()), 1.1))
        panel.xaxis.get_major_locator().set_params(integer=True)
    panels[0][0].set_ylabel("share of the posterior explained (1: exact)")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """The posterior is in the activations, more than chance and the last pair put there, and where."""
    table, here = [], pick(rows, of="all")
    for name in (name for name in here.reader.unique() if name in MODELS):
        line = pick(here, reader=name, kind="trained").set_index("layer")
        choice = pick(rows, of=CHOICE, reader=name, kind="trained").set_index("layer")
        best, last = int(choice.index.to_numpy()[choice.value.argmax()]), int(line.index[-1])
        shuffled = pick(here, reader=name, kind="shuffled")

        def at(layer: int, line: pd.DataFrame = line) -> Estimate:
            return Estimate(line.value[layer], line.half_width[layer])

        controls = {
            "a network of the same weights, shuffled": shuffled.iloc[int(shuffled.value.argmax())],
            f"the {PAIR} of tokens": pick(here, reader=PAIR).iloc[0],
        }
        for control, row in controls.items():
            other = Estimate(row.value, row.half_width)
            table.append(
                Claim(
                    f"{name}: a linear probe of one layer tells the posterior better than one of {control}",
                    THEORY,
                    f"{show(at(best))} after layer {best} against {show(other)}",
                    above(at(best), other),
                )
            )
        counted = only(here, reader=PAIRS)
        table.append(
            Claim(
                f"{name}: the probe tells as much as one of the {PAIRS}, which are nearly sufficient",
                THEORY,
                f"{show(at(best))} after layer {best} against {show(counted)}",
                judged(above(counted, at(best)) == "fails", above(counted, at(best)) == "partly"),
            )
        )
        table.append(
            Claim(
                f"{name}: the posterior fades towards the output",
                "no claim of a paper's",
                f"{', '.join(f'{value:.2f}' for value in line.value)} from the embedding on; {show(at(best))} after "
                f"layer {best}, {show(at(last))} after the last",
                above(at(best), at(last)),
            )
        )
    return table
