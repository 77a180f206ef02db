"""Which tokens are easy: acceptance drawn on a text, and against how uncertain exact Bayes is."""

import itertools
from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.stats
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decoding.along import acceptance
from decoding.assisted import Assisted, assisted_generate
from decoding.readers import as_reader
from figures.assisted.common import SUITES, TRIGRAMS, Draft, Pair, colours, log_probs, ngrams, pair
from figures.lab.claims import Claim, positive, show
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import BLUE, GREY, RANGE, WIDTH, YELLOW, draw_line, name_ends
from figures.lab.tables import Table, only, over_seeds, pick
from icl_synth import bayes
from icl_synth.estimates import Estimate

TITLE = "Easy tokens are fast: acceptance along a text, and by the uncertainty of exact Bayes"
DIFFERS = (
    "A post on assisted generation guesses that its latency follows how difficult a text is, without a measurement. "
    "Here difficulty is known: it is the entropy of the exact Bayes predictor before each token. Acceptance is exact: "
    "the sum of min(p, q) over the vocabulary at temperature 1, or whether both find the same token likeliest (greedy, "
    "which is what the post times). It is measured on held-back documents; the correlation is Spearman's over the "
    "tokens of a document, averaged over documents and over the draft's seeds. A second correlation is of texts that "
    "the target generated at temperature 1: the entropy before a round's first proposal against how many of the "
    "round's proposals were accepted. A text leaves that correlation at the first token that exact Bayes rules out, "
    "which a model may still say. The claim asks whether a correlation is below zero: that of tokens at temperature 1 "
    "and greedy, and that of rounds, for each draft."
)
PUBLISHED = ()
BINS = np.linspace(0, 3, 13)  # of entropy, nats
SAMPLING_SEED = 3
DRAFTED, OWN, ENTROPY = BLUE, YELLOW, "#444444"  # colours of the text
LEAST_SHARE = 0.01  # of the tokens, in a bin that is drawn


class Sizes(NamedTuple):
    documents: int
    texts: int = 64  # that are generated
    gamma: int = 5  # tokens drafted in a round
    shown: int = 96  # tokens of the text that is drawn


PRESETS = presets(SUITES, quick=Sizes(128), small=Sizes(512), paper=Sizes(100))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity, draft, place; value.

    Quantities: by_entropy (acceptance, place = middle of the bin in nats), share (of tokens in the bin), by_position
    (acceptance, place = tokens read), correlation (of acceptance and entropy), run_correlation (of accepted proposals
    and entropy), and of one generated text by place: token, drafted (1 or 0), round and entropy (-1 where undefined).
    """
    table = Table("quantity", "draft", "place")
    chosen = pair(models, sizes.documents)
    add_documents(table, chosen)
    for run in chosen.drafts[0]:
        add_texts(table, chosen, Draft(run.name, run.seed, as_reader(run.model)), sizes)
    return table.rows()


def entropies(log_p: Float[np.ndarray, "*B V"]) -> Float[np.ndarray, "*B"]:
    """Nats; NaN where nothing is possible any more."""
    possible = np.isfinite(log_p)
    terms = np.where(possible, -np.exp(np.where(possible, log_p, 0.0)) * np.where(possible, log_p, 0.0), 0.0)
    return np.where(possible.any(-1), terms.sum(-1), np.nan)


def add_documents(table: Table, models: Pair) -> None:
    """Acceptance of every token of the documents, of the smallest draft and of trigrams, sampled and greedy."""
    entropy = entropies(np.asarray(bayes.next_token_log_probs(models.hmm, models.documents))[:, 1:])
    p = models.of_target()[:, :-1]
    smallest = [Draft(run.name, run.seed, as_reader(run.model)) for run in models.drafts[0]]
    for name, seed, draft in (*smallest, Draft(TRIGRAMS, None, ngrams(models, 3))):
        q = log_probs(draft, models.documents)[:, :-1]
        for label, temperature in ((name, 1.0), (f"{name}, greedy", 0.0)):
            add_acceptance(table, label, seed, acceptance(p, q, temperature), entropy)


def add_acceptance(
    table: Table, label: str, seed: int | None, alpha: Float[np.ndarray, "B L"], entropy: Float[np.ndarray, "B L"]
) -> None:
    """Acceptance by the token's difficulty and by its position."""
    for low, high in itertools.pairwise(BINS):
        inside = (entropy >= low) & (entropy < high)
        seen = inside.any(1)
        if seen.sum() > 1:
            means = np.where(inside, alpha, 0).sum(1)[seen] / inside.sum(1)[seen]
            table.add("by_entropy", label, (low + high) / 2, seed=seed, values=means)
            table.add("share", label, (low + high) / 2, seed=seed, values=inside.mean(1))
    for position in range(alpha.shape[1]):
        table.add("by_position", label, position + 1.0, seed=seed, values=alpha[:, position])
    each = [scipy.stats.spearmanr(a, e).statistic for a, e in zip(alpha, entropy, strict=True)]
    table.add("correlation", label, 0.0, seed=seed, values=np.nan_to_num(each))


def add_texts(table: Table, models: Pair, draft: Draft, sizes: Sizes) -> None:
    """Texts that the target generates with a draft: accepted proposals by difficulty, and one of them to draw."""
    length = models.documents.shape[1] // 8
    new = models.target.config.model.context - length
    run = assisted_generate(as_reader(models.target.model), draft.reader, models.documents[: sizes.texts, :length], new,
                            num_draft=sizes.gamma, temperature=1.0, key=jax.random.key(SAMPLING_SEED))  # fmt: skip
    entropy = entropies(np.asarray(bayes.next_token_log_probs(models.hmm, np.asarray(run.tokens))))
    name, seed = draft.name, draft.seed
    table.add("run_correlation", name, 0.0, seed=seed, values=round_correlations(run, entropy))
    if seed != models.draft.seed:
        return
    shown = slice(length, length + min(sizes.shown, new))
    history = {
        "token": run.tokens,
        "drafted": run.drafted,
        "round": run.round,
        "entropy": np.nan_to_num(entropy, nan=-1),
    }
    for quantity, values in history.items():
        for place, value in enumerate(np.asarray(values)[0, shown].astype(float)):
            table.add(quantity, name, float(place), seed=seed, values=np.array([value]))


def round_correlations(run: Assisted, entropy: Float[np.ndarray, "B M"]) -> Float[np.ndarray, " B"]:
    """Spearman's of accepted proposals and the entropy before the first, over the rounds of each text.

    0 for a text of few rounds or of rounds that are all alike, which shows none.
    """
    turns, drafted, each = np.asarray(run.round), np.asarray(run.drafted), []
    for turn, kept, uncertain in zip(turns, drafted, entropy, strict=True):
        rounds = range(1, turn.max() + 1)
        starts = np.array([np.argmax(turn == number) for number in rounds])
        accepted = np.array([(kept & (turn == number)).sum() for number in rounds])
        known = np.isfinite(uncertain[starts])
        varied = known.sum() > 2 and np.ptp(accepted[known]) > 0 and np.ptp(uncertain[starts][known]) > 0
        each.append(scipy.stats.spearmanr(uncertain[starts][known], accepted[known]).statistic if varied else 0.0)
    return np.array(each)


def plot(rows: pd.DataFrame) -> Figure:
    means = over_seeds(rows)
    figure, (text, panel) = plt.subplots(2, 1, figsize=(WIDTH, 6.6), height_ratios=(1, 1))
    draw_text(text, means)
    draw_acceptance(panel, means)
    name = str(means.draft.iloc[0])
    sampled, greedy = (only(means, quantity="correlation", draft=name + how).mean for how in ("", ", greedy"))
    figure.suptitle("The rank correlation of acceptance and the uncertainty of exact Bayes is\n"
                    f"{greedy:+.2f} for the likeliest token, {sampled:+.2f} at temperature 1", size=11)  # fmt: skip
    return figure


def draw_acceptance(panel: Axes, means: pd.DataFrame) -> None:
    """Acceptance by entropy, in bins that hold enough tokens, and what share each bin holds."""
    share = pick(means, quantity="share", draft=means.draft.iloc[0])
    share, ends = share[share.value >= LEAST_SHARE], []
    by_entropy = pick(means, quantity="by_entropy")
    names = {label: label.removesuffix(", greedy") for label in by_entropy.draft.unique()}
    known = colours(dict.fromkeys(names.values()))
    for label, name in names.items():
        line = pick(by_entropy[by_entropy.place.isin(share.place)], draft=label)
        draw_line(panel, line, "place", color=known[name], marker="o", ls="-" if label == name else "--")
        ends.append((label, line.place.iloc[-1], line.value.iloc[-1], known[name]))
    panel.bar(share.place, share.value, 0.22, color=RANGE, zorder=0)
    most = share.sort_values("value").iloc[-1]
    panel.annotate("share of tokens", (most.place, most.value), (0, 3), textcoords="offset points", size=8, color=GREY,
                   ha="center")  # fmt: skip
    panel.set(xlabel="entropy of exact Bayes before the token, nats", ylabel="acceptance", ylim=(0, 1))
    name_ends(panel, ends)


def draw_text(panel: Axes, rows: pd.DataFrame, columns: int = 16, lines: int = 4) -> None:
    """Tokens in reading order: blue ones were drafted, yellow ones are the target's own; bars are the entropy."""
    text = pick(rows, quantity="token")
    text = text[text.place < columns * lines]
    entropy, turn, drafted = (
        pick(rows, quantity=quantity).set_index("place").value for quantity in ("entropy", "round", "drafted")
    )
    for line in text.to_dict("records"):
        place = int(line["place"])
        x, y = place % columns, -(place // columns)
        colour = DRAFTED if drafted[place] else OWN
        panel.add_patch(plt.Rectangle((x, y), 0.96, 0.52, color=colour, alpha=0.35, lw=0))
        panel.text(x + 0.48, y + 0.26, "/" if line["value"] == 0 else str(int(line["value"])), ha="center", va="center")
        if entropy[place] > 0:
            height = min(0.44, 0.176 * entropy[place])
            panel.add_patch(plt.Rectangle((x + 0.36, y + 0.54), 0.24, height, color=ENTROPY, lw=0))
        if place and turn[place] != turn[place - 1]:
            panel.plot([x - 0.02] * 2, [y, y + 0.52], color="black", lw=1.4)
    panel.set(xlim=(0, columns), ylim=(1 - -(-len(text) // columns), 1))
    panel.axis("off")
    panel.set_title("a text that the target generated at temperature 1, five tokens drafted in a round", size=10)
    legend: dict[str, Artist] = {
        "drafted and accepted": plt.Rectangle((0, 0), 1, 1, color=DRAFTED, alpha=0.35),
        "the target's own": plt.Rectangle((0, 0), 1, 1, color=OWN, alpha=0.35),
        "entropy of exact Bayes": plt.Rectangle((0, 0), 1, 1, color=ENTROPY),
        "a new round": plt.Line2D([], [], color="black", lw=1.4),
    }
    panel.legend(legend.values(), legend.keys(), loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=4, fontsize=8)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Correlations of acceptance with difficulty."""
    rows = over_seeds(rows)
    measured = {"correlation": "tokens of documents", "run_correlation": "rounds of generated texts"}
    return [
        correlation_claim(f"{what}, {draft}", only(rows, quantity=quantity, draft=draft))
        for quantity, what in measured.items()
        for draft in pick(rows, quantity=quantity).draft
    ]


def correlation_claim(where: str, correlation: Estimate) -> Claim:
    return Claim(
        f"easy tokens are fast: acceptance falls with the entropy of exact Bayes ({where})",
        "a guess of the post, without a number",
        f"rank correlation {show(correlation, 2)}",
        [positive(correlation._replace(mean=-correlation.mean))],
    )
