"""Is the exact posterior over concepts in the residual stream? Linear probes, layer by layer. Beyond Xie et al."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.claims import Claim, judged
from figures.pruning import draw_line, only, pick
from figures.recipes import Recipe, Wanted, trained
from icl_synth import bayes, checkpoints, probe
from icl_synth.documents import sample_documents
from icl_synth.evaluate import Estimate, estimate, map_rows

TITLE = "Reading the posterior over concepts off the activations, layer by layer (beyond Xie et al. 2022)"
DIFFERS = (
    "The paper's theory says that a model infers the concept; it does not look for it inside. Here a linear probe "
    "(softmax regression, convex) predicts the exact posterior over the five concepts from the residual stream after "
    "each layer (of an LSTM: its states), fitted on documents that no model was trained on and read on others. What "
    "is shown is how much of the divergence of the best constant guess the probe explains: 1 is the exact posterior, "
    "0 no better than the constant. Positions are early ones for the most part, since the concept is all but known "
    "after a dozen tokens. Controls: the same probe on networks that know nothing, namely each model with the numbers"
    " inside every matrix in a random order (a fresh transformer would be none: its layers begin by adding zero to "
    "the stream), on the last three tokens, and on counts of all pairs of neighbours so far, a statistic that is "
    "nearly sufficient, linear and not learnt, so that it is a ceiling for probes more than a control. The ridge is "
    "chosen on a third set of documents. A probe shows that the posterior can be read off, not that the model uses "
    "it. *Holds* where intervals are apart, *partly* where only means are."
)
PUBLISHED = ()
DOCUMENT_SEED, SHARE = 1123, 2  # documents to fit on, as many as the recipe's times this
POSITIONS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 255)
EARLY = 16  # positions before this are early
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2)
KINDS = {"trained": "trained", "shuffled": "weights shuffled"}
TOKENS, PAIRS = "last three tokens", "counts of pairs"
COLOURS = {
    "transformer": "#0072B2",
    "LSTM": "#D55E00",
    "transformer, 4 layers": "#009E73",
    "transformer, 12 layers": "#0072B2",
    "transformer, 16 layers": "#CC79A7",
}


def wanted(recipe: Recipe) -> Wanted:
    return recipe.kinds


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: reader, kind (trained, shuffled, tokens), layer, of (all, early, late positions), value, half_width.

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
    add((TOKENS, "tokens", 0), last_tokens(tokens, places, hmm.vocab_size))
    add((PAIRS, "tokens", 0), pair_counts(tokens, places, hmm.vocab_size))
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
    return [jnp.take_along_axis(x, places[..., None], 1) for x in probe.stages(model, tokens)]


def last_tokens(tokens: np.ndarray, places: np.ndarray, vocab_size: int) -> np.ndarray:
    """One-hot codes of the token at a place and of the two before it; zeros before the beginning."""
    padded = np.pad(tokens, ((0, 0), (2, 0)), constant_values=-1)
    codes = np.eye(vocab_size + 1, dtype=np.float32)[:, :vocab_size]  # -1 takes the last row, of zeros
    return np.concatenate([codes[padded[:, places + 2 - back]] for back in range(3)], -1)


def pair_counts(tokens: np.ndarray, places: np.ndarray, vocab_size: int) -> np.ndarray:
    """How often each pair of neighbours has come by each place: [B P V²]."""
    pairs = tokens[:, :-1] * vocab_size + tokens[:, 1:]
    found = np.zeros((len(tokens), len(places), vocab_size**2), np.float32)
    documents = np.arange(len(tokens))[:, None]
    for index, place in enumerate(places):
        np.add.at(found[:, index], (documents, pairs[:, :place]), 1)
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
    return {
        name: 1 - left[:, here].mean(1) / constant[:, here].mean()
        for name, here in (("all", places > 0), ("early", early), ("late", ~early))
        if here.any()
    }


def divergence(exact: np.ndarray, log_probs: np.ndarray) -> np.ndarray:
    """KL(exact || probe), nats."""
    safe = np.where(exact > 0, exact, 1.0)
    return (exact * (np.log(safe) - log_probs)).sum(-1)


def plot(rows: pd.DataFrame) -> Figure:
    spans = list(rows.of.unique())
    figure, panels = plt.subplots(1, len(spans), figsize=(4 * len(spans), 4.3), sharey=True, squeeze=False)
    titles = {"all": "all positions", "early": f"the first {EARLY} tokens", "late": "later tokens"}
    for panel, of in zip(panels[0], spans, strict=True):
        here = pick(rows, of=of)
        for name in (name for name in here.reader.unique() if name in COLOURS):
            for kind, style in (("trained", {"ls": "-"}), ("shuffled", {"ls": ":", "mfc": "white"})):
                line = pick(here, reader=name, kind=kind)
                draw_line(
                    panel, line, "layer", color=COLOURS[name], marker="o", label=f"{name}, {KINDS[kind]}", **style
                )
        for name, colour, dashes in ((TOKENS, "#777777", "--"), (PAIRS, "black", "-.")):
            panel.axhline(only(here, reader=name).mean, color=colour, ls=dashes, lw=1.2, label=name)
        panel.set(title=titles[of], xlabel="layers read (0: embedding)", ylim=(min(-0.1, here.value.min()), 1.02))
        panel.xaxis.get_major_locator().set_params(integer=True)
    panels[0][0].set_ylabel("divergence explained, 1 is exact")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def show(value: Estimate) -> str:
    return f"{value.mean:.3f} ± {value.half_width:.3f}"


def claims(rows: pd.DataFrame) -> list[Claim]:
    """The posterior is in the activations, more than in untrained networks and than in the tokens."""
    table, here = [], pick(rows, of="all")
    for name in (name for name in here.reader.unique() if name in COLOURS):
        line = pick(here, reader=name, kind="trained")
        best = line.iloc[int(line.value.argmax())]
        other = pick(here, reader=name, kind="shuffled")
        controls = {
            "a network's of the same weights, shuffled": other.iloc[int(other.value.argmax())],
            f"the {TOKENS}'": pick(here, reader=TOKENS).iloc[0],
            f"the {PAIRS}'": pick(here, reader=PAIRS).iloc[0],
        }
        for control, row in controls.items():
            table.append(
                Claim(
                    f"{name}: a linear probe of the best layer tells the posterior better than {control}",
                    "said by the theory (Xie et al. 2022), not looked for inside a model",
                    f"{show(Estimate(best.value, best.half_width))} after layer {best.layer} against "
                    f"{show(Estimate(row.value, row.half_width))}",
                    judged(best.value - best.half_width > row.value + row.half_width, best.value > row.value),
                )
            )
        first = line.iloc[0]
        table.append(
            Claim(
                f"{name}: the posterior is built up over the layers",
                "no claim of a paper's",
                f"{', '.join(f'{value:.2f}' for value in line.value)} from the embedding on",
                judged(
                    bool((np.diff(line.value) > 0).all()), best.value - best.half_width > first.value + first.half_width
                ),
            )
        )
    return table
