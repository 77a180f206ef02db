"""What the learning experiments share: who answers which prompts, published accuracies, and how both are drawn."""

import functools
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd
import scipy.stats
from jaxtyping import Array, Float, Int, Key
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation

from figures.lab.claims import VERDICTS, Claim, Finding, difference, positive, show
from figures.lab.runs import Models, Run
from figures.lab.style import BAYES, PUBLISHED_LINE, PUBLISHED_MODELS, places
from figures.lab.tables import Table, as_estimate, only, over_seeds, pick, published
from icl_synth import bayes, checkpoints
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.estimates import Estimate, Z
from icl_synth.evaluate import EXAMPLE_LENGTHS, EXAMPLES, answers, examples_that_fit, pad_to_bucket
from icl_synth.prompt_layout import prompt_length
from icl_synth.prompts import Prompts, sample_prompts

Cell = tuple[int, int]  # length k and number n of examples
Right = dict[Cell, Float[np.ndarray, " N"]]  # by cell, 100 for each prompt that is answered rightly, 0 for each other
LENGTH_COLOURS = {3: "#df8cc0", 5: "#b55bad", 8: "#7f3a99", 10: "#481484"}  # by k, the longer the darker
PAPER_SEEDS = 5
SMOOTHING = 1e-6
TOLD, SMOOTHED = "exact Bayes, told the format", "exact Bayes for documents, smoothed 1e-6"
PAPER_MOST = EXAMPLES[-1]  # examples in the paper's longest prompts


def any_run(models: Models) -> Run:
    """A run of an experiment whose models all have one world and one context."""
    return next(iter(models.values()))[0]


def cells_that_fit(context: int, lengths: tuple[int, ...], numbers: tuple[int, ...] = EXAMPLES) -> list[Cell]:
    """Every length with every number of examples whose prompt fits the context."""
    return [(k, n) for k in lengths for n in examples_that_fit(context, k, numbers)]


def extreme_cells(context: int, lengths: tuple[int, ...], numbers: tuple[int, ...] = EXAMPLES) -> list[Cell]:
    """Every length with the fewest and with the most examples that fit."""
    fitting = {k: examples_that_fit(context, k, numbers) for k in lengths}
    return [(k, n) for k in lengths for n in (fitting[k][0], fitting[k][-1])]


def most_by_length(cells: list[Cell]) -> dict[int, int]:
    """The most examples of each length."""
    return {k: max(n for length, n in cells if length == k) for k, _ in cells}


def draw_prompts(hmm: ConceptHMM, key: Key[Array, ""], number: int, cells: list[Cell]) -> dict[Cell, Prompts]:
    """As many prompts for each cell; those of a cell do not depend on the others."""
    return {(k, n): sample_prompts(hmm, jax.random.fold_in(key, 100 * k + n), number, n, k) for k, n in cells}


def nested_prompts(hmm: ConceptHMM, key: Key[Array, ""], number: int, cells: list[Cell]) -> dict[Cell, Prompts]:
    """As many prompts for each length; those of fewer examples have lost their first ones and ask the same."""
    full = {
        k: sample_prompts(hmm, jax.random.fold_in(key, k), number, most, k) for k, most in most_by_length(cells).items()
    }
    return {(k, n): full[k]._replace(tokens=full[k].tokens[:, -prompt_length(n, k) :]) for k, n in cells}


def percent_right(model: checkpoints.Model, prompts: Prompts) -> Float[np.ndarray, " N"]:
    """100 for each prompt that a model answers rightly, 0 for each other."""
    return 100.0 * (answers(model, prompts) == np.asarray(prompts.labels))


def add_accuracy(table: Table, *cell: object, values: Float[np.ndarray, " N"], seed: int | None = None) -> None:
    """Add accuracy in percent. Rule of three: no error in N prompts is still compatible with a rate of 3 / N."""
    table.add(*cell, values=values, seed=seed, least=300 / len(values))


def answers_by_cell(model: checkpoints.Model, prompts: dict[Cell, Prompts]) -> Right:
    """What a model answers rightly in every cell."""
    return {cell: percent_right(model, asked) for cell, asked in prompts.items()}


def told_by_cell(hmm: ConceptHMM, prompts: dict[Cell, Prompts]) -> Right:
    """What exact Bayes answers rightly that is told how prompts are made."""
    return {
        (k, n): 100.0
        * (np.asarray(bayes.prompt_log_probs(hmm, asked.tokens, k)).argmax(-1) == np.asarray(asked.labels))
        for (k, n), asked in prompts.items()
    }


def document_answers(hmm: ConceptHMM, tokens: Int[np.ndarray, "B L"]) -> Int[np.ndarray, "B L+1"]:
    """The likeliest token at each position and after the last, for a filter that takes a prompt for one document.

    Its transitions are smoothed by `SMOOTHING`: prompts splice examples, which few documents could do.
    """
    # position t holds log p(x_t | x_<t): one place more for the answer
    padded = pad_to_bucket(np.pad(tokens, ((0, 0), (0, 1))), most=1 << 20)
    return np.asarray(_likeliest(hmm, padded))[:, : tokens.shape[1] + 1]


@jax.jit
def _likeliest(hmm, tokens):
    def likeliest(row):
        return bayes.next_token_log_probs(hmm, row[None], smoothing=SMOOTHING)[0].argmax(-1)

    return jax.lax.map(likeliest, tokens, batch_size=64)


def add_answers(table: Table, *who: object, run: Run, prompts: dict[Cell, Prompts]) -> None:
    """Add what a run answers, as `add_growth`."""
    add_growth(table, *who, right=answers_by_cell(run.model, prompts), seed=run.seed)


def add_points(table: Table, *cell: object, values: Float[np.ndarray, " N"], seed: int | None) -> None:
    """Add a difference of two accuracies on the same prompts, in points, by the same rule of three."""
    table.add(*cell, values=values, seed=seed, least=300 / len(values))


def add_growth(table: Table, *who: object, right: Right, seed: int | None) -> None:
    """Add `accuracy` (%) in every cell, and for each length `gain`: accuracy with the most examples less that with the
    fewest (points)."""
    for cell, values in right.items():
        add_accuracy(table, *who, "accuracy", *cell, values=values, seed=seed)
    for k, most in most_by_length(list(right)).items():
        fewest = min(n for length, n in right if length == k)
        add_points(table, *who, "gain", k, most, values=right[k, most] - right[k, fewest], seed=seed)


def add_longer(table: Table, *who: object, right: Right, seed: int | None) -> None:
    """Add `longer`: accuracy of each length less that of the next shorter one, with equally many examples (points)."""
    lengths = list(most_by_length(list(right)))
    for short, long in itertools.pairwise(lengths):
        for n in (n for k, n in right if k == long and (short, n) in right):
            add_points(table, *who, "longer", long, n, values=right[long, n] - right[short, n], seed=seed)


def add_difference(table: Table, *what: object, high: dict[int, Right], low: dict[int, Right]) -> None:
    """Add in every cell what one model answers rightly less what another does (points), of the seeds that both have."""
    for seed in sorted(high.keys() & low.keys()):
        for cell, values in high[seed].items():
            add_points(table, *what, *cell, values=values - low[seed][cell], seed=seed)


def lengths_of(rows: pd.DataFrame) -> list[int]:
    """The lengths of examples that prompts of the rows have."""
    return sorted(pick(rows, quantity="accuracy").example_length.unique())


def learned(rows: pd.DataFrame, *others: str) -> list[str]:
    """The trained models of the rows in order: all but these others, such as exact Bayes."""
    return [name for name in rows.model.unique() if name not in others]


def beside_lstm(names: list[str]) -> list[str]:
    """The transformers among trained models that an LSTM stands beside; none where there is no LSTM."""
    return [name for name in names if name != "LSTM"] if "LSTM" in names else []


def in_short(name: str) -> str:
    """A model without its layers."""
    return name.split(",")[0]


def published_model(name: str, otherwise: str = "transformer, 12 layers") -> str:
    """The paper's model of this name, or the one that stands beside ours."""
    return name if name in PUBLISHED_MODELS else otherwise


def quoted(model: str, k: int, n: int, vocab_size: int = 50) -> float:
    """Xie et al.'s accuracy in percent, to the decimal that they print."""
    return round(quoted_estimate(model, k, n, vocab_size).mean, 1)


def quoted_estimate(model: str, k: int, n: int, vocab_size: int = 50) -> Estimate:
    """Xie et al.'s accuracy in percent. Its interval over their seeds is Student's, as ours are; they print 1.96
    standard errors."""
    percent, interval = _accuracies()[model, vocab_size, k, n]
    widened = scipy.stats.t.ppf(0.975, PAPER_SEEDS - 1) / Z
    return Estimate(percent, widened * interval, PAPER_SEEDS - 1)


@functools.cache
def _accuracies() -> dict[tuple[str, int, int, int], tuple[float, float]]:
    """Percent and half an interval by model, vocabulary, length of examples and number of examples."""
    table = published("xie2022_accuracy").set_index(["model", "vocab_size", "example_length", "num_examples"])
    percent, interval = table.accuracy_percent.tolist(), table.interval_percent.tolist()
    return dict(zip(table.index.tolist(), zip(percent, interval, strict=True), strict=True))


def as_printed(model: str, k: int, n: int, vocab_size: int = 50) -> str:
    """Xie et al.'s accuracy with the interval that they print."""
    value = quoted_estimate(model, k, n, vocab_size)
    return show(value._replace(half_width=value.half_width * Z / scipy.stats.t.ppf(0.975, value.df)))


def quoted_growth(model: str, k: int, vocab_size: int = 50) -> Estimate:
    """Xie et al.'s accuracy with the most examples less that without any, in points."""
    return difference(*(quoted_estimate(model, k, n, vocab_size) for n in (PAPER_MOST, 0)))


def quoted_flatness(model: str, vocab_size: int = 50) -> float:
    """The most by which Xie et al.'s accuracy moves, up or down, from no examples to the most, at any length."""
    return max(abs(quoted_growth(model, k, vocab_size).mean) for k in EXAMPLE_LENGTHS)


def verdict(findings: list[Finding]) -> str:
    return Claim("", "", "", findings).verdict


def tally(findings: Sequence[Finding]) -> str:
    """How many findings came out how."""
    counts = Counter(finding.verdict for finding in findings)
    return f"{len(findings)} cells: " + ", ".join(f"{counts[word]} {word}" for word in VERDICTS if counts[word])


def by_key(values: dict[int, str] | dict[int, Estimate], name: str = "k") -> str:
    """Values by length, or by whatever `name` says."""
    shown = {key: value if isinstance(value, str) else show(value) for key, value in values.items()}
    return ", ".join(f"{name} = {key}: {value}" for key, value in shown.items())


def growth_claim(rows: pd.DataFrame, claim: str, theirs: str, place: str, vocab_size: int = 50) -> Claim:
    """That accuracy grows with examples at every length, of the rows of one model (`add_growth`)."""
    gains = {row.example_length: as_estimate(row) for _, row in pick(rows, quantity="gain").iterrows()}
    accuracy, most = pick(rows, quantity="accuracy"), most_examples(rows)

    def grown(k: int) -> str:
        first, last = (only(accuracy, example_length=k, num_examples=n).mean for n in (0, most[k]))
        return f"{first:.1f} → {last:.1f} ({show(gains[k])}, n = {most[k]})"

    return Claim(
        claim,
        f"{quoted_ends(theirs, list(gains), vocab_size)} ({theirs}; {place}); by our rule "
        f"{verdict([positive(quoted_growth(theirs, k, vocab_size)) for k in gains])}",
        f"{by_key({k: grown(k) for k in gains})} %",
        [positive(gain) for gain in gains.values()],
    )


def quoted_ends(model: str, lengths: Sequence[int], vocab_size: int = 50) -> str:
    """Xie et al.'s accuracy without examples and with the most, at these lengths."""
    ends = {k: " → ".join(as_printed(model, k, n, vocab_size) for n in (0, PAPER_MOST)) for k in lengths}
    return f"{by_key(ends)} %, n = 0 → {PAPER_MOST}"


def longer_claim(rows: pd.DataFrame, claim: str, theirs: str, place: str) -> Claim:
    """That accuracy grows from each length to the next with equally many examples, of one model (`add_longer`)."""
    steps, lengths = pick(rows, quantity="longer"), list(most_examples(rows))
    before = dict(zip(lengths[1:], lengths[:-1], strict=True))
    of_paper = [
        positive(difference(*(quoted_estimate(theirs, length, n) for length in (k, before[k]))))
        for k in before
        for n in EXAMPLES
    ]
    last = {
        f"{before[k]} → {k}": show(only(steps, example_length=k, num_examples=n))
        for k, n in most_examples(rows, "longer").items()
    }
    findings = [positive(as_estimate(row)) for _, row in steps.iterrows()]
    return Claim(
        claim,
        f"{tally(of_paper)} ({theirs}; {place})",
        f"{tally(findings)}; with the most examples {', '.join(map(': '.join, last.items()))} points",
        findings,
    )


def lstm_claim(rows: pd.DataFrame, claim: str, theirs: str, place: str, vocab_size: int = 50) -> Claim:
    """That the LSTM answers more rightly than a transformer in every cell, of their paired differences."""
    cells = rows[["example_length", "num_examples"]].drop_duplicates()
    lengths = sorted(cells.example_length.unique())
    of_paper = [
        positive(difference(*(quoted_estimate(name, k, n, vocab_size) for name in ("LSTM", theirs))))
        for k in lengths
        for n in EXAMPLES
    ]
    most = cells.groupby("example_length").num_examples.max()
    last = {k: only(rows, example_length=k, num_examples=most[k]) for k in lengths}
    findings = [positive(as_estimate(row)) for _, row in rows.iterrows()]
    both = {
        k: " against ".join(as_printed(name, k, PAPER_MOST, vocab_size) for name in ("LSTM", theirs)) for k in lengths
    }
    return Claim(
        claim,
        f"{tally(of_paper)}; n = {PAPER_MOST}, {by_key(both)} % ({theirs}; {place})",
        f"{tally(findings)}; with the most examples {by_key(last)} points above",
        findings,
    )


def most_examples(rows: pd.DataFrame, quantity: str = "accuracy") -> dict[int, int]:
    """The most examples that were asked of each length."""
    most = pick(rows, quantity=quantity).groupby("example_length").num_examples.max()
    return {int(k): int(n) for k, n in most.items()}  # type: ignore[call-overload]


def few_lengths(rows: pd.DataFrame, most: int) -> list[int]:
    """At most so many lengths to draw: the longest and the shortest ones."""
    lengths = lengths_of(rows)
    return lengths if len(lengths) <= most else [*lengths[: most - 1], lengths[-1]]


def one_of_each(names: list[str]) -> list[str]:
    """Trained models to draw, a transformer and an LSTM: of the paper's transformers the one with 12 layers."""
    return [name for name in names if published_model(name) in ("transformer, 12 layers", "LSTM")] or names[:2]


def draw_published(panel: Axes, model: str, k: int, vocab_size: int = 50, **style: Any) -> None:
    """Xie et al.'s accuracy with the interval that they print, at every number of examples."""
    place, line = places(EXAMPLES), published("xie2022_accuracy", vocab_size=vocab_size, model=model, example_length=k)
    panel.errorbar(line.num_examples.map(place), line.accuracy_percent, line.interval_percent,
                   **(PUBLISHED_LINE | {"ms": 3, "elinewidth": 0.7} | style))  # fmt: skip


def draw_mean(panel: Axes, rows: pd.DataFrame, x: str, **style: Any) -> None:
    """The mean over seeds as a line with thin bars, its 95 % intervals, and each seed as a dot where there are several;
    of rows for each seed."""
    line, usual = over_seeds(rows).sort_values(x), dict[str, Any](marker="o", ms=4, elinewidth=0.8)
    panel.errorbar(line[x], line.value, line.half_width, **(usual | style))
    if "seed" in rows and rows.seed.nunique() > 1:
        beside = panel.transData + ScaledTranslation(4 / 72, 0, panel.figure.dpi_scale_trans)  # four points
        panel.plot(rows[x], rows.value, "o", ms=2.8, mec="none", alpha=0.5, color=style["color"], transform=beside)


def mark_examples(panel: Axes) -> None:
    """The paper's numbers of examples along the axis, and all of the percents."""
    panel.set(xlim=(-0.5, len(EXAMPLES) - 0.5), ylim=(0, 102), xlabel="examples, n")
    panel.set_xticks(range(len(EXAMPLES)), [str(n) for n in EXAMPLES], size=9)


def draw_growth(panel: Axes, rows: pd.DataFrame, theirs: str | None, vocab_size: int = 50) -> None:
    """Accuracy of a transformer by number of examples, a line for each length; exact Bayes and the paper's beside."""
    place = places(EXAMPLES)
    rows = rows.assign(place=rows.num_examples.map(place))
    for k in lengths_of(rows):
        colour, cells = LENGTH_COLOURS[k], pick(rows, quantity="accuracy", example_length=k)
        exact = over_seeds(pick(cells, reader=BAYES))
        if theirs is not None:
            draw_published(panel, theirs, k, vocab_size, color=colour)
        panel.plot(exact.place, exact.value, ":", lw=1.2, color=colour)
        draw_mean(panel, pick(cells, reader="transformer"), "place", color=colour, label=f"k = {k}")
    mark_examples(panel)


def quoted_range(setting: str) -> tuple[float, float]:
    """The ends of a range in Xie et al.'s ablations, in percent or points."""
    row = published("xie2022_ablations", setting=setting).iloc[0]
    return float(row.least_percent), float(row.most_percent)
