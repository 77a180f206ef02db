"""Which tokens are easy: acceptance drawn on a text, and against how uncertain exact Bayes is."""

import itertools

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.stats
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decoding.assisted import assisted_generate
from decoding.readers import as_reader
from figures import decoding
from figures.claims import Claim, judged
from figures.decoding import COLOURS, acceptance, log_probs, ngrams, pair
from figures.recipes import Recipe, Wanted, trained
from icl_synth import bayes
from icl_synth.evaluate import estimate

TITLE = "Easy tokens are fast: acceptance along a text, and by the uncertainty of exact Bayes"
DIFFERS = (
    "A post on assisted generation guesses that its latency follows how difficult a text is, without a measurement. "
    "Here difficulty is known: the entropy of the exact Bayes predictor before each token. Acceptance is exact, the "
    "sum of min(p, q) over the vocabulary at temperature 1, or whether both find the same token likeliest (greedy, "
    "which is what the post times), on held-back documents; the correlation is Spearman's over the tokens of a "
    "document, averaged over documents. It is also computed where it counts, in texts that the target generated at "
    "temperature 1: entropy before a round's first proposal against how many proposals were accepted in it. A "
    "token that exact Bayes rules out, which a model may still say, ends a text's part in that. *Holds* where the "
    "correlation is at most -.3 with its interval, *partly* where it is below zero with its interval."
)
PUBLISHED = decoding.PUBLISHED
GAMMA, ROWS = 5, 64
SHOWN = 96  # tokens of the text that is drawn
BINS = np.linspace(0, 3, 13)


def wanted(recipe: Recipe) -> Wanted:
    return decoding.wanted(recipe)


def entropies(log_p: np.ndarray) -> np.ndarray:
    """Nats; NaN where nothing is possible any more."""
    possible = np.isfinite(log_p)
    terms = np.where(possible, -np.exp(np.where(possible, log_p, 0.0)) * np.where(possible, log_p, 0.0), 0.0)
    return np.where(possible.any(-1), terms.sum(-1), np.nan)


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: quantity, draft, place, value, half_width (95 % over documents), extra.

    Quantities: by_entropy (acceptance, place = middle of the bin in nats), by_position (place = tokens read),
    correlation (of acceptance and entropy), run_correlation (of accepted proposals and entropy), and of one
    generated text: token (place = position, value = token, extra = 1 if drafted), round and entropy likewise.
    """
    models = trained(wanted(recipe))
    found = pair(models, recipe)
    drafts = {found.draft.name: as_reader(found.draft.model), "trigrams": ngrams(found, 3)}
    target = as_reader(found.target.model)
    exact = np.asarray(bayes.next_token_log_probs(found.hmm, found.documents))[:, 1:]
    entropy = entropies(exact)
    p = log_probs(target, found.documents[:, :-1])[..., : exact.shape[-1]]
    rows: list[tuple] = []
    for name, draft in drafts.items():
        q = log_probs(draft, found.documents[:, :-1])[..., : exact.shape[-1]]
        for label, temperature in ((name, 1.0), (f"{name}, greedy", 0.0)):
            rows += measure(label, acceptance(p, q, temperature), entropy)
    length = found.documents.shape[1] // 8
    prompt = found.documents[:ROWS, :length]
    new = found.target.config.model.context - length
    run = assisted_generate(
        target, drafts[found.draft.name], prompt, new, num_draft=GAMMA, temperature=1.0, key=jax.random.key(3)
    )
    tokens, turn, drafted = np.asarray(run.tokens), np.asarray(run.round), np.asarray(run.drafted)
    uncertain = entropies(np.asarray(bayes.next_token_log_probs(found.hmm, tokens)))
    each = []
    for row in range(len(tokens)):
        starts = np.array([np.argmax(turn[row] == r) for r in range(1, turn[row].max() + 1)])
        kept = np.array([(drafted[row] & (turn[row] == r)).sum() for r in range(1, turn[row].max() + 1)])
        known = np.isfinite(uncertain[row, starts])
        each.append(
            scipy.stats.spearmanr(uncertain[row, starts][known], kept[known]).statistic if known.sum() > 2 else np.nan
        )
    defined = np.array(each)[np.isfinite(each)]  # a text of few rounds, or all alike, has none
    rows.append(("run_correlation", found.draft.name, 0, *estimate(defined if len(defined) else np.zeros(1)), 0.0))
    for place in range(min(SHOWN, tokens.shape[1] - length)):
        at = length + place
        rows.append(("token", found.draft.name, place, tokens[0, at], 0.0, float(drafted[0, at])))
        rows.append(("round", found.draft.name, place, turn[0, at], 0.0, 0.0))
        rows.append(("entropy", found.draft.name, place, np.nan_to_num(uncertain[0, at], nan=-1.0), 0.0, 0.0))
    table = pd.DataFrame(rows, columns=["quantity", "draft", "place", "value", "half_width", "extra"])
    table.attrs["models"] = [one.record() for one in models]
    return table


def measure(label: str, alpha: np.ndarray, entropy: np.ndarray) -> list[tuple]:
    """Rows of one draft: acceptance of every token of the documents against its difficulty and its position."""
    rows: list[tuple] = []
    for low, high in itertools.pairwise(BINS):
        inside = (entropy >= low) & (entropy < high)
        seen = inside.any(1)
        if seen.sum() > 1:
            means = np.where(inside, alpha, 0).sum(1)[seen] / inside.sum(1)[seen]
            rows.append(("by_entropy", label, (low + high) / 2, *estimate(means), inside.mean()))
    for position in range(alpha.shape[1]):
        rows.append(("by_position", label, position + 1, *estimate(alpha[:, position]), 0.0))
    each = [scipy.stats.spearmanr(a, e).statistic for a, e in zip(alpha, entropy, strict=True)]
    return [*rows, ("correlation", label, 0, *estimate(np.nan_to_num(each)), 0.0)]


def plot(rows: pd.DataFrame) -> Figure:
    figure = plt.figure(figsize=(12, 7.6))
    grid = figure.add_gridspec(2, 2, height_ratios=(1.15, 1))
    draw_text(figure.add_subplot(grid[0, :]), rows)
    by_entropy, by_position = figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[1, 1])
    for quantity, panel in (("by_entropy", by_entropy), ("by_position", by_position)):
        for (name, line), colour in zip(
            rows[rows.quantity == quantity].groupby("draft", sort=False), COLOURS, strict=False
        ):
            panel.plot(line.place, line.value, "o-" if quantity == "by_entropy" else "-", color=colour, label=name)
            low, high = line.value - line.half_width, line.value + line.half_width
            panel.fill_between(line.place, low, high, color=colour, alpha=0.2, lw=0)
        panel.set(ylabel="acceptance", ylim=(0, 1))
    share = rows[(rows.quantity == "by_entropy") & (rows.draft == rows.draft.iloc[0])]
    by_entropy.bar(share.place, share.extra, 0.22, color="#dddddd", zorder=0, label="share of tokens")
    by_entropy.set_xlabel("entropy of exact Bayes before the token, nats")
    by_position.set(xlabel="tokens read", xscale="log")
    by_entropy.legend(fontsize=8)
    by_position.legend(fontsize=8)
    return figure


def draw_text(panel: Axes, rows: pd.DataFrame, columns: int = 24) -> None:
    """Tokens in reading order: blue ones were drafted, orange ones are the target's own; bars are the entropy."""
    text = rows[rows.quantity == "token"]
    entropy = rows[rows.quantity == "entropy"].set_index("place").value
    turn = rows[rows.quantity == "round"].set_index("place").value
    for line in text.to_dict("records"):
        place = int(line["place"])
        x, y = place % columns, -(place // columns)
        colour = COLOURS[0] if line["extra"] else COLOURS[4]
        panel.add_patch(plt.Rectangle((x, y), 0.96, 0.52, color=colour, alpha=0.35, lw=0))
        panel.text(x + 0.48, y + 0.26, "/" if line["value"] == 0 else str(int(line["value"])), ha="center", va="center")
        if entropy[place] > 0:
            height = min(0.44, 0.176 * entropy[place])
            panel.add_patch(plt.Rectangle((x + 0.3, y + 0.54), 0.36, height, color="#444444", lw=0))
        if place and turn[place] != turn[place - 1]:
            panel.plot([x - 0.02] * 2, [y, y + 0.52], color="black", lw=1.4)
    handles: list[Artist] = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[c], alpha=0.35) for c in (0, 4)]
    handles += [plt.Rectangle((0, 0), 1, 1, color="#444444"), plt.Line2D([], [], color="black", lw=1.4)]
    labels = [
        "drafted and accepted",
        "the target's own",
        "entropy of exact Bayes (to the next row: 2.5 nats)",
        "a new round",
    ]
    rows_shown = -(-len(text) // columns)
    panel.set(xlim=(0, columns), ylim=(1 - rows_shown, 1))
    panel.axis("off")
    panel.set_title("a text that the target generated at temperature 1, five tokens drafted a round")
    panel.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=4, frameon=False)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Correlations of acceptance with difficulty."""
    table = []
    for quantity, what in (("correlation", "tokens of documents"), ("run_correlation", "rounds of generated texts")):
        for line in rows[rows.quantity == quantity].to_dict("records"):
            table.append(
                Claim(
                    f"easy tokens are fast: acceptance falls with the entropy of exact Bayes ({what}, {line['draft']})",
                    "a guess of the post, without a number",
                    f"rank correlation {line['value']:.2f} ± {line['half_width']:.2f}",
                    judged(line["value"] + line["half_width"] <= -0.3, line["value"] + line["half_width"] < 0),
                )
            )
    return table
