"""Remembering concepts or inferring them: which of two readers is a model nearer to? Beyond Xie et al. 2022."""

from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, no_more, positive, show
from figures.lab.presets import presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLACK, GREEN, WIDTH, YELLOW, legend_below, plain_log
from figures.lab.tables import Table, only, over_seeds, pick
from figures.learning.common import draw_mean
from figures.learning.concepts import SUITES, concepts
from icl_synth import checkpoints
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.documents import sample_documents
from icl_synth.evaluate import kl_to_bayes, log_probs, map_rows
from icl_synth.learners import counted_log_probs, remembered_log_probs

TITLE = "Remembering concepts or inferring them, beside two readers that do (beyond Xie et al. 2022)"
DIFFERS = (
    "No paper makes these claims. The models are those of the sweep over numbers of concepts: one transformer, random "
    "worlds, three of each number. Two readers stand beside each model. The first remembers: it is exact Bayes with "
    "exactly the concepts of the training world. On documents of other concepts it is told that a share of moves "
    "leads anywhere, since otherwise most would be "
    "impossible: the share, of six from a half to one in a hundred, with which it "
    "loses least on other documents of those concepts. The second infers: it knows the tokens and how entities move, "
    "which all concepts of a world share, and counts the moves of properties within the document. The ideal of "
    "inferring would be exact Bayes with the prior of concepts. It cannot be computed, and a mixture of thousands of "
    "sampled concepts comes nowhere near it, for none of them is close to a new one; the reader that counts loses far "
    "less and so bounds that ideal from above. Its prior weighs one move a row, chosen once on other documents. A "
    "model is nearer to the reader with the smaller KL(reader || model), averaged over the tokens after the first of "
    "a document. Documents are of the training world's concepts, or of concepts that no training had, the same for "
    "all models of a seed. Exact Bayes over many concepts is asked fewer documents. That a model with so many "
    "concepts infers requires that it be nearer to the second reader on both kinds of documents; every number of "
    "concepts is asked. That it infers as well as the reader that counts requires that its loss on concepts that no "
    "training had be higher by at most 0.01 nats per token, to which the paper gives losses."
)
PUBLISHED = ()
DOCUMENT_SEED, CHOICE_SEED = 1128, 1129
NEW = 256  # concepts that no training had
BUDGET, FEWEST = 2**17, 16  # exact Bayes is asked about at most so many documents times concepts; documents at least
# shares of moves that lead anywhere, for the reader that remembers, on concepts it does not know
ELSEWHERE = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
EQUAL = 0.01  # nats per token
READERS = {"remembering": YELLOW, "inferring": GREEN}
WORDS = {"own": "concepts of the training world", "new": "concepts that no training had"}


class Sizes(NamedTuple):
    documents: int  # of each world, at most


PRESETS = presets(SUITES, quick=Sizes(64), small=Sizes(128), paper=Sizes(100))


class Losses(NamedTuple):
    """Of B documents, in nats per token."""

    loss: dict[str, Float[np.ndarray, " B"]]  # of each reader and the model
    distance: dict[str, Float[np.ndarray, " B"]]  # KL(reader || model)


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: concepts, of (own, new), quantity; the seed is that of the world.

    Quantities, in nats per token: loss of each reader and of the model, KL from each reader, nearer (how much nearer
    the model is to the reader that infers) and more_loss (than that reader's).
    """
    table = Table("concepts", "of", "quantity")
    runs = sorted((run for several in models.values() for run in several), key=lambda run: run.config.data.concepts)
    largest = {run.config.data.world_seed: run for run in runs}
    new = {seed: run.config.data.build()[1] for seed, run in largest.items()}
    for run in tqdm(runs, desc="two readers", unit="model"):
        hmm, _ = run.config.data.build()
        number = min(sizes.documents, max(FEWEST, BUDGET // hmm.num_concepts))
        others = new[run.config.data.world_seed]
        others = others.select(slice(min(NEW, others.num_concepts)))
        free = elsewhere(hmm, draw(others, run, FEWEST, CHOICE_SEED))
        for of, drawn_from, smoothing in (("own", hmm, 0.0), ("new", others, free)):
            add_losses(table, run, of, read(run, hmm, draw(drawn_from, run, number, DOCUMENT_SEED), smoothing))
    return table.rows()


def draw(hmm: ConceptHMM, run: Run, number: int, seed: int) -> Int[np.ndarray, "B L"]:
    key = jax.random.fold_in(jax.random.key(seed), run.config.data.world_seed)
    return np.asarray(sample_documents(hmm, key, number, run.config.data.length)[0])


def elsewhere(hmm: ConceptHMM, tokens: Int[np.ndarray, "B L"]) -> float:
    """The share of free moves with which the reader that remembers loses least on documents."""
    losses = {share: loss_of(after_first(remembered_log_probs(hmm, tokens, share)), tokens) for share in ELSEWHERE}
    return min(losses, key=lambda share: losses[share].mean())


def after_first(log_probs: Array) -> Float[np.ndarray, "B L V"]:
    return np.asarray(log_probs)[:, 1:]


def loss_of(log_probs: Float[np.ndarray, "B M V"], tokens: Int[np.ndarray, "B L"]) -> Float[np.ndarray, " B"]:
    """Nats per token of each document, from what is said of its M = L - 1 tokens after the first."""
    return -np.take_along_axis(log_probs, tokens[:, 1:, None], -1)[..., 0].mean(1)


def read(run: Run, hmm: ConceptHMM, tokens: Int[np.ndarray, "B L"], smoothing: float) -> Losses:
    """What a model and both readers make of documents; the readers know the model's training world."""
    graph, weights = checkpoints.split(run.model)
    learned = map_rows(log_probs, graph, weights, tokens[:, :-1])[..., : hmm.vocab_size]
    ideal = {"remembering": remembered_log_probs(hmm, tokens, smoothing), "inferring": counted_log_probs(hmm, tokens)}
    readers = {name: after_first(predicted) for name, predicted in ideal.items()}
    loss = {name: loss_of(predicted, tokens) for name, predicted in (readers | {"model": learned}).items()}
    return Losses(loss, {name: kl_to_bayes(predicted, learned).mean(1) for name, predicted in readers.items()})


def add_losses(table: Table, run: Run, of: str, losses: Losses) -> None:
    number = run.config.data.concepts
    quantities = {f"loss, {name}": values for name, values in losses.loss.items()}
    quantities |= {f"KL, {name}": values for name, values in losses.distance.items()}
    quantities["nearer"] = losses.distance["remembering"] - losses.distance["inferring"]
    quantities["more_loss"] = losses.loss["model"] - losses.loss["inferring"]
    for quantity, values in quantities.items():
        table.add(number, of, quantity, seed=run.seed, values=values)


def plot(rows: pd.DataFrame) -> Figure:
    summary = over_seeds(rows)
    figure, panels = plt.subplots(1, 2, figsize=(WIDTH, 3.6), sharey=True)
    for panel, of in zip(panels, WORDS, strict=True):
        for reader, colour in READERS.items():
            line = pick(rows, of=of, quantity=f"KL, {reader}")
            draw_mean(panel, line, "concepts", color=colour, label=f"from the {reader} reader")
        draw_crossing(panel, pick(summary, of=of, quantity="nearer"))
        panel.set(xscale="log", yscale="log", xlabel="concepts in training", title=WORDS[of])
        plain_log(panel.xaxis, form="{x:,.0f}")
    plain_log(panels[0].yaxis, 2, 5)
    panels[0].set_ylabel("distance from the reader, nats")
    legend_below(figure, panels[0], 2)
    figure.suptitle(finding(summary), size=11)
    return figure


def draw_crossing(panel: Axes, nearer: pd.DataFrame) -> None:
    """A line where the model first stays nearer to the reader that infers."""
    start = first_inferring(nearer)
    if start is not None and start > nearer.concepts.min():
        panel.axvline(start, color=BLACK, ls=":", lw=1)


def first_inferring(nearer: pd.DataFrame) -> int | None:
    """The number of concepts from which on a model is nearer to the reader that infers, by the means."""
    line = nearer.sort_values("concepts")
    remembering = line[line.value <= 0].concepts.max()
    after = line[line.concepts > remembering] if remembering == remembering else line
    return int(after.concepts.min()) if len(after) else None


def finding(rows: pd.DataFrame) -> str:
    """From how many concepts on a model infers."""
    start = first_inferring(pick(rows, quantity="nearer", of="new"))
    if start is None:
        return "On concepts it never saw, the model stays nearer to the reader that remembers"
    return f"On concepts it never saw, the model is nearer to the reader that infers\nfrom {concepts(start)} on"


def claims(rows: pd.DataFrame) -> list[Claim]:
    """With how many concepts a model infers, and whether it does so as well as the reader that counts."""
    rows = over_seeds(rows)
    table = []
    for number in sorted(rows.concepts.unique()):
        nearer = {of: only(rows, concepts=number, of=of, quantity="nearer") for of in WORDS}
        table.append(
            Claim(
                f"with {concepts(number)} in training, a model is nearer to the reader that infers",
                "no claim of a paper's",
                ", ".join(f"{WORDS[of]}: {show(value, 3)}" for of, value in nearer.items()) + " nats per token nearer",
                [positive(value) for value in nearer.values()],
                own=True,
            )
        )
    most = rows.concepts.max()
    more = only(rows, concepts=most, of="new", quantity="more_loss")
    table.append(
        Claim(
            f"with {concepts(most)} in training, a model infers a new concept as well as the reader that counts",
            "no claim of a paper's",
            f"{show(more, 3)} nats per token more",
            [no_more(more, EQUAL)],
            own=True,
        )
    )
    return table
