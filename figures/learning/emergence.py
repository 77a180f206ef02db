"""Loss over Bayes and accuracy in context by tokens of training, one curve for each size. Beyond Xie et al. 2022."""

import itertools

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.claims import Claim, above, judged
from figures.pruning import draw_line, excess, held_back, pick
from figures.recipes import Recipe, Wanted, trained
from icl_synth.evaluate import Estimate, answers, estimate, examples_that_fit
from icl_synth.prompts import sample_prompts

TITLE = "When in-context learning emerges: loss over Bayes and accuracy by tokens of training (beyond Xie et al. 2022)"
DIFFERS = (
    "The paper shows models at the end of training only. Each point here is a run of its own, whose rates decay to "
    "zero over its own length, so that short runs are not half-trained long ones (the warm-up is 50 steps in all). "
    "Transformers of width 32 (4 layers), 64 and 128 (6 layers); three training seeds, one of width 128, whose "
    "intervals are over documents and prompts alone. Runs of one seed begin with the same documents, which in `quick` "
    "and `small` never repeat. The gain is accuracy with the most examples that fit minus accuracy with none. No "
    "claim here is a paper's. That excess falls as a power of tokens *holds* where of five or more points log excess "
    "against log tokens is straight to R² = .98 and no two neighbours' slopes differ by more than a factor of two, "
    "*partly* where it is straight to .95; tokens that an excess of .1 nats takes are read between two points on the "
    "logarithms, from means. Of gains: *holds* where intervals are apart, *partly* where only means are."
)
PUBLISHED = ()
PROMPT_SEED, SHARE_OF_PROMPTS = 1122, 0.4
LENGTHS = (5, 10)
ENOUGH = 0.1  # nats a token
COLOURS = ("#E69F00", "#0072B2", "#009E73", "#CC79A7")


def wanted(recipe: Recipe) -> Wanted:
    return recipe.lengths


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: width, tokens, seeds, quantity, example_length, num_examples, value, half_width (95 %).

    Quantities: excess (nats a token over exact Bayes), accuracy (%), gain (points, the most examples against none).
    """
    models, number = trained(wanted(recipe)), max(2, round(SHARE_OF_PROMPTS * recipe.prompts))
    hmm, _ = models[0].config.data.build()
    documents, context = held_back(models[0], recipe), min(one.config.model.context for one in models)
    asked = {}
    for k in LENGTHS:
        ends = examples_that_fit(context, k)
        for n in (ends[0], ends[-1]):
            asked[k, n] = sample_prompts(
                hmm, jax.random.fold_in(jax.random.key(PROMPT_SEED), 100 * k + n), number, n, k
            )
    found: dict[tuple, list[np.ndarray]] = {}
    for one in tqdm(models, desc="lengths of training", unit="run"):
        who = (one.config.model.width, int(one.metrics[-1]["tokens"]))
        found.setdefault((*who, "excess", 0, 0), []).append(excess(one.model, documents))
        for k in LENGTHS:
            cells = [cell for cell in asked if cell[0] == k]
            right = [100.0 * (answers(one.model, asked[cell]) == np.asarray(asked[cell].labels)) for cell in cells]
            for (_, n), values in zip(cells, right, strict=True):
                found.setdefault((*who, "accuracy", k, n), []).append(values)
            found.setdefault((*who, "gain", k, cells[-1][1]), []).append(right[-1] - right[0])
    rows = [
        (width, tokens, len(values), *rest, *estimate(np.stack(values)))
        for (width, tokens, *rest), values in found.items()
    ]
    columns = ["width", "tokens", "seeds", "quantity", "example_length", "num_examples", "value", "half_width"]
    table = pd.DataFrame(rows, columns=columns).sort_values(["width", "tokens"], kind="stable")
    table.attrs["models"] = [one.record() for one in models]
    return table


def plot(rows: pd.DataFrame) -> Figure:
    figure, (left, *panels) = plt.subplots(1, 1 + len(LENGTHS), figsize=(12, 4.2))
    for width, colour in zip(sorted(rows.width.unique()), COLOURS, strict=False):
        line = pick(rows, width=width, quantity="excess")
        draw_line(left, line, "tokens", color=colour, marker="o", label=f"width {width}")
        for panel, k in zip(panels, LENGTHS, strict=True):
            several = pick(rows, width=width, quantity="accuracy", example_length=k)
            most = several.num_examples.max()
            for n, style in ((0, {"ls": ":", "mfc": "white"}), (most, {"ls": "-"})):
                draw_line(panel, pick(several, num_examples=n), "tokens", color=colour, marker="o", **style)
            panel.set(title=f"k = {k}: {most} examples (full), none (open)", ylim=(0, 102), ylabel="accuracy, %")
    left.set(title="held-back documents", ylabel="loss above exact Bayes, nats a token", yscale="log")
    for panel in (left, *panels):
        panel.set(xscale="log", xlabel="tokens of training")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(COLOURS))
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """A power law for each size, the larger learns from fewer tokens, and what examples add grows with training."""
    table, needed = [], {}
    for width in sorted(rows.width.unique()):
        line = pick(rows, width=width, quantity="excess")
        x, y = np.log(line.tokens.to_numpy()), np.log(np.maximum(line.value.to_numpy(), 1e-6))
        slopes = np.diff(y) / np.diff(x)
        straight = float(np.corrcoef(x, y)[0, 1] ** 2) if y.std() > 0 else 0.0
        even = bool((slopes < 0).all()) and slopes.min() >= 2 * slopes.max()
        needed[width] = first_below(x, y, np.log(ENOUGH))
        table.append(
            Claim(
                f"width {width}: excess over Bayes falls as a power of the tokens of training",
                "no claim of a paper's",
                f"{line.value.iloc[0]:.3f} → {line.value.iloc[-1]:.3f} nats from {line.tokens.iloc[0] / 1e6:.1f} to "
                f"{line.tokens.iloc[-1] / 1e6:.1f} M tokens, exponent {np.polyfit(x, y, 1)[0]:.2f} (between neighbours "
                f"{slopes.max():.2f} to {slopes.min():.2f}), R² {straight:.3f}",
                judged(len(x) >= 5 and even and straight >= 0.98, len(x) >= 5 and straight >= 0.95),
            )
        )
        for k in LENGTHS:
            gain = pick(rows, width=width, quantity="gain", example_length=k)
            first, last, most = gain.iloc[0], gain.iloc[-1], gain.iloc[int(gain.value.argmax())]
            table.append(
                Claim(
                    f"width {width}, k = {k}: what examples add grows with training",
                    "no claim of a paper's",
                    f"{first.value:+.1f} ± {first.half_width:.1f} → {last.value:+.1f} ± {last.half_width:.1f} points, "
                    f"largest {most.value:+.1f} at {most.tokens / 1e6:.1f} M tokens",
                    above(Estimate(last.value, last.half_width), Estimate(first.value, first.half_width)),
                )
            )
    if len(needed) > 1:
        order = [tokens if tokens else np.inf for tokens in needed.values()]
        table.append(
            Claim(
                f"the larger the model, the fewer tokens it needs to come within {ENOUGH} nats of exact Bayes",
                "no claim of a paper's",
                ", ".join(
                    f"width {width}: {f'{tokens / 1e6:.1f} M' if tokens else 'not reached'}"
                    for width, tokens in needed.items()
                ),
                judged(all(a > b for a, b in itertools.pairwise(order)), order[-1] < order[0]),
            )
        )
    return table


def first_below(x: np.ndarray, y: np.ndarray, level: float) -> float | None:
    """exp(x) where the line through the points first comes down to a level; None where it does not."""
    below = np.flatnonzero(y <= level)
    if not below.size:
        return None
    end = max(1, int(below[0]))
    return float(np.exp(x[end - 1] + (x[end] - x[end - 1]) * (level - y[end - 1]) / (y[end] - y[end - 1])))
