"""The paper's data protocol at our size: blocks of 1,024 tokens cut from long documents, seen five times."""

from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.lab.claims import Claim, Finding, at_least, difference, positive, show
from figures.lab.measure import held_back
from figures.lab.presets import SEEDS, Suite, presets
from figures.lab.runs import Models, Run
from figures.lab.style import GREEN, PINK, WIDTH, legend_below, places
from figures.lab.tables import Table, as_estimate, only, over_seeds, pick
from figures.learning.common import (
    Right,
    add_difference,
    add_growth,
    add_longer,
    answers_by_cell,
    any_run,
    beside_lstm,
    by_key,
    cells_that_fit,
    draw_mean,
    draw_published,
    few_lengths,
    growth_claim,
    lengths_of,
    longer_claim,
    lstm_claim,
    mark_examples,
    nested_prompts,
    published_model,
    quoted_estimate,
)
from icl_synth.estimates import Estimate
from icl_synth.evaluate import EXAMPLE_LENGTHS, EXAMPLES, compare_with_bayes

TITLE = "The paper's data protocol: blocks cut from long documents (Xie et al. 2022, Fig. 3 and appendix F)"
DIFFERS = (
    "The paper trains on 1,000 documents of 10,240 tokens, cut into blocks of 1,024 and seen five times. One block in "
    "ten begins where its document begins; the other nine begin in mid-document, while every prompt begins afresh. "
    "Ours are the transformer and the LSTM of `small`, with their optimizers, trained by that protocol with context "
    "1,024, so that prompts of 64 examples fit. `starts` sees as many tokens, also five times: 10,000 documents of "
    "1,024 tokens, each a block. All models answer the same prompts, seed i is paired with seed i, and prompts of one "
    "length ask the same test inputs at every n. Held-back documents are read from their first token. The `paper` "
    "preset has the 4-layer transformer alone; `quick` trains tiny models on blocks of 256. The paper's claims are "
    "asked of the models trained on cut blocks, as `learning/accuracy` asks them: at every k for growth with n, in "
    "every cell for growth with k and for the LSTM's lead. Our own questions ask, without examples and at every k, "
    "that accuracy with `starts` minus that with cut blocks be above zero; that this difference be at least half of "
    "the distance from `starts` to the "
    "paper's mean, which has its own interval, and that this distance itself be above zero, both as one finding at "
    "each k; and that KL(Bayes || model) at tokens 2 to 8 be larger with cut blocks than with `starts`."
)
PUBLISHED = ("xie2022*.csv",)
PROMPT_SEED = 1128
CUT, STARTS = "cut", "starts"
LOWER = "starts less cut"
HALF_WAY = "half of starts less cut"
LEAD = "LSTM less"  # its accuracy less that of the transformer of the row
NAMED = {CUT: "cut from long documents", STARTS: "each begins a document"}
EARLY = 7  # predictions, of tokens 2 to 8
COLOURS = {CUT: GREEN, STARTS: PINK}


class Sizes(NamedTuple):
    prompts: int  # at each number and length of examples
    documents: int
    lengths: tuple[int, ...] = EXAMPLE_LENGTHS
    numbers: tuple[int, ...] = EXAMPLES


SUITES = {
    "quick": Suite(
        {"transformer, cut": "quick-protocol", "transformer, starts": "quick-protocol-starts"}, SEEDS["quick"]
    ),
    "small": Suite(
        {
            "transformer, cut": "protocol",
            "transformer, starts": "protocol-starts",
            "LSTM, cut": "protocol-lstm",
            "LSTM, starts": "protocol-starts-lstm",
        },
        SEEDS["small"],
    ),
    "paper": Suite(
        {"transformer, 4 layers, cut": "paper-4l", "transformer, 4 layers, starts": "paper-4l-starts"}, SEEDS["paper"]
    ),
}
PRESETS = presets(
    SUITES, quick=Sizes(200, 64, lengths=(3, 10), numbers=(0, 1, 4, 16)), small=Sizes(1000, 128), paper=Sizes(2500, 100)
)


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, blocks (cut, starts), quantity, example_length, num_examples.

    Quantities of either: accuracy (%), gain and longer (points, `add_growth`, `add_longer`); early and late,
    KL(Bayes || model) in nats per token at tokens 2 to 8 of held-back documents and after them. Of cut beside starts:
    starts less cut (points, in every cell), half of starts less cut (points), early above starts (nats). Of the LSTM
    beside the model: LSTM less (points).
    """
    table = Table("model", "blocks", "quantity", "example_length", "num_examples")
    first = any_run(models).config
    hmm, _ = first.data.build()
    cells = cells_that_fit(first.model.context, sizes.lengths, sizes.numbers)
    prompts = nested_prompts(hmm, jax.random.key(PROMPT_SEED), sizes.prompts, cells)
    right: dict[tuple[str, str], dict[int, Right]] = {}
    early: dict[tuple[str, str], dict[int, Float[np.ndarray, " B"]]] = {}
    for name, runs in models.items():
        model, blocks = name.rsplit(", ", 1)
        who = (model, blocks)
        for run in tqdm(runs, desc=name, unit="seed"):
            answered = right.setdefault(who, {})[run.seed] = answers_by_cell(run.model, prompts)
            add_growth(table, model, blocks, right=answered, seed=run.seed)
            add_longer(table, model, blocks, right=answered, seed=run.seed)
            early.setdefault(who, {})[run.seed] = add_divergence(table, *who, run=run, documents=sizes.documents)
    names = [model for model, blocks in right if blocks == CUT]
    for model in (model for model in names if (model, STARTS) in right):
        add_effect(table, model, right[model, CUT], right[model, STARTS])
        for seed, values in early[model, CUT].items():
            table.add(model, CUT, "early above starts", 0, 0, values=values - early[model, STARTS][seed], seed=seed)
    for model in beside_lstm(names):
        add_difference(table, model, CUT, LEAD, high=right["LSTM", CUT], low=right[model, CUT])
    return table.rows()


def add_divergence(table: Table, *who: object, run: Run, documents: int) -> Float[np.ndarray, " B"]:
    """Add how far a model is from exact Bayes at the first tokens and at later ones; returns the first."""
    hmm, _ = run.config.data.build()
    kl = compare_with_bayes(run.model, hmm, held_back(run, documents).tokens).kl
    early, late = kl[:, :EARLY].mean(1), kl[:, EARLY:].mean(1)
    for quantity, values in (("early", early), ("late", late)):
        table.add(*who, quantity, 0, 0, values=values, seed=run.seed)
    return early


def add_effect(table: Table, model: str, cut: dict[int, Right], starts: dict[int, Right]) -> None:
    """Add how much less accurate a model is that has seen cut blocks, and half the other's accuracy less its own."""
    add_difference(table, model, CUT, LOWER, high=starts, low=cut)
    halved = {seed: {cell: values / 2 for cell, values in right.items()} for seed, right in starts.items()}
    add_difference(table, model, CUT, HALF_WAY, high=halved, low=cut)


def plot(rows: pd.DataFrame) -> Figure:
    """Fig. 3's axis, for the first kind of model and at most three lengths."""
    name, lengths = rows.model.unique()[0], few_lengths(rows, 3)
    figure, grid = plt.subplots(1, len(lengths), figsize=(WIDTH, 3.5), squeeze=False, sharey=True)
    for panel, k in zip(grid[0], lengths, strict=True):
        draw_length(panel, pick(rows, model=name, quantity="accuracy", example_length=k), published_model(name), k)
        panel.set_title(f"k = {k}")
    grid[0, 0].set_ylabel(f"{name}: accuracy, %")
    lower = pick(over_seeds(rows), model=name, quantity=LOWER, num_examples=0)
    clear = sum(positive(as_estimate(row)).verdict == "holds" for _, row in lower.iterrows())
    figure.suptitle(
        f"Without examples, cut blocks clearly cost the {name} accuracy\nat {clear} of {len(lower)} lengths: "
        f"{round(lower.value.min())} to {round(lower.value.max())} points", size=11
    )  # fmt: skip
    legend_below(figure, grid[0, 0], 3)
    return figure


def draw_length(panel: Axes, rows: pd.DataFrame, theirs: str, k: int) -> None:
    """Accuracy by number of examples at one length: ours with either kind of blocks, and the paper's."""
    rows = rows.assign(place=rows.num_examples.map(places(EXAMPLES)))
    draw_published(panel, theirs, k, label="Xie et al. 2022, cut")
    for blocks, colour in COLOURS.items():
        draw_mean(panel, pick(rows, blocks=blocks), "place", color=colour, label=f"ours, {NAMED[blocks]}")
    mark_examples(panel)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Fig. 3 over its whole axis by the paper's protocol; and whether cut blocks explain the paper's start."""
    rows = over_seeds(rows)
    cut, table = pick(rows, blocks=CUT), []
    names = list(cut.model.unique())
    for name in names:
        of_model, theirs = pick(cut, model=name), published_model(name)
        table += [
            growth_claim(of_model, f"{name}: accuracy grows with the number of examples", theirs, "Fig. 3"),
            longer_claim(of_model, f"{name}: accuracy grows with the length of examples", theirs, "Fig. 3"),
        ]
    for name in beside_lstm(names):
        of_pair, claim = pick(cut, model=name, quantity=LEAD), f"the LSTM is more accurate than the {name}"
        table.append(lstm_claim(of_pair, claim, published_model(name), "Fig. 3 and 6"))
    for name in pick(cut, quantity=LOWER).model.unique():
        table += own_claims(pick(rows, model=name), name)
    return table


def own_claims(rows: pd.DataFrame, name: str) -> list[Claim]:
    """What cut blocks do to a model without examples, and at the first tokens of documents."""
    theirs, lengths = published_model(name), lengths_of(rows)

    def at(quantity: str, k: int, blocks: str = CUT) -> Estimate:
        return only(rows, blocks=blocks, quantity=quantity, example_length=k, num_examples=0)

    lower = {k: at(LOWER, k) for k in lengths}
    paper = {k: quoted_estimate(theirs, k, 0) for k in lengths}
    beyond = {k: difference(at(HALF_WAY, k), halved(paper[k])) for k in lengths}
    distance = {k: difference(at("accuracy", k, STARTS), paper[k]) for k in lengths}
    share = {k: lower[k].mean / distance[k].mean for k in lengths}
    early, later = ({blocks: at(quantity, 0, blocks) for blocks in COLOURS} for quantity in ("early", "late"))
    above = at("early above starts", 0)
    return [
        Claim(
            f"{name}: blocks cut from mid-document lower accuracy without examples",
            "trained on such blocks (appendix F)",
            f"{by_key(lower)} points",
            [positive(value) for value in lower.values()],
            own=True,
        ),
        Claim(
            f"{name}: cut blocks explain at least half of the distance to the paper's accuracy without examples",
            f"{by_key({k: show(value) for k, value in paper.items()})} % ({theirs}; Fig. 3)",
            f"{by_key({k: f'{100 * value:.0f}' for k, value in share.items()})} % of the distance",
            [both(positive(distance[k]), at_least(beyond[k], 0)) for k in lengths],
            own=True,
        ),
        Claim(
            f"{name}: cut blocks leave the model further from exact Bayes at tokens 2 to 8",
            "no number",
            f"KL {show(early[CUT], 3)} against {show(early[STARTS], 3)} nats, at later tokens {show(later[CUT], 3)} "
            f"against {show(later[STARTS], 3)}",
            [positive(above)],
            own=True,
        ),
    ]


def both(there: Finding, explained: Finding) -> Finding:
    """That there is something to explain and that it is explained: fails where either does."""
    failed = [finding for finding in (there, explained) if finding.verdict == "fails"]
    return min(failed, key=lambda finding: finding.p) if failed else max(there, explained, key=lambda each: each.p)


def halved(value: Estimate) -> Estimate:
    """Minus one half of a value, to be taken off."""
    return Estimate(-value.mean / 2, value.half_width / 2, value.df)
