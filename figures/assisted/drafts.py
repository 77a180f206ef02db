"""Which draft: acceptance against cost for small models, compressed copies of the target, tables and exact Bayes."""

import functools
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from tqdm import tqdm

from compression.block_float.block_model import in_format
from compression.block_float.formats import FORMATS
from compression.pruning.apply import Pruning
from decoding import speedup
from decoding.assisted import assisted_generate
from decoding.compare import in_turns
from decoding.drafts import PromptLookup, first_layers
from decoding.generate import generate
from decoding.readers import BayesReader, Reader, as_reader
from decoding.schedules import Schedule
from figures.assisted import common
from figures.assisted.common import SUITES, Pair, acceptance, log_probs, ngrams, pair
from figures.lab.claims import Claim, above, judged, show
from figures.lab.presets import presets
from figures.lab.programs import forget_if_many
from figures.lab.runs import Models
from figures.lab.style import BLUE, GREEN, GREY, ORANGE, PINK, PUBLISHED_POINT, YELLOW
from figures.lab.tables import Table, only, over_seeds, pick, published
from figures.pruning.common import pruned

TITLE = "Which draft: acceptance against cost, and the schedules of drafting"
DIFFERS = (
    "The target is the largest transformer, at batch 1. Acceptance is exact, the sum of min(p, q) at temperature 1 "
    "over held-back documents. A cost is the time of a draft's single step over that of a plain token, measured here. "
    "A pruned copy, or one in a block floating point format, costs here what the target costs or more, since this CPU "
    "multiplies zeros and emulates formats. The hollow points put such drafts where their bytes would (the share of "
    "weights kept, or bits per element over 32), which is where hardware that skips zeros or multiplies short "
    "mantissas would have them at best. Lines are the greatest speed-up over gamma by Leviathan et al.'s formula, "
    "which takes verifying as free; the measured speed-ups beside them pay for verifying. They are greedy, of each "
    "draft at its optimal schedule and of the first draft at every schedule. Greedy text of this world soon repeats "
    "itself, which any draft guesses, prompt lookup best of all; sampled text does not. So the measured speed-ups are "
    "those of repetitive text, and the acceptance at temperature 1 is that of ordinary text. The paper's bigram draft "
    "accepts about a fifth. Verdicts: a compressed copy is accepted more often where the intervals do not overlap "
    "(*holds*) or where only the mean is higher (*partly*). Measured speed-ups have no interval, and less than 5 % is "
    "not told from none in one run. A draft pays from 1.1x on, *partly* from 1.05x. A middle size drafts fastest "
    "where it is at least 5 % faster than both ends (*holds*) or by less (*partly*); with fewer than three sizes "
    "there is nothing to compare. The optimal schedule is the fastest where no other is faster, *partly* where it is "
    "within 5 % of the fastest."
)
PUBLISHED = common.PUBLISHED
ALONE = True
PRUNINGS = {  # with the share of the weights that they keep
    "50 % pruned": (Pruning(sparsity=0.5), 0.5),
    "2:4": (Pruning(pattern=(2, 4)), 0.5),
    "75 % pruned": (Pruning(sparsity=0.75), 0.25),
}
BY_TABLE = ("trigrams", "bigrams", "prompt lookup", "exact Bayes")
TOLD_APART = 1.05  # speed-ups nearer to one are not told from none in one run
OUTLINE = withStroke(linewidth=2, foreground="white")
LABEL: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "path_effects": [OUTLINE]}


class Sizes(NamedTuple):
    documents: int
    prunings: tuple[str, ...] = tuple(PRUNINGS)  # of the target as its own draft
    formats: tuple[str, ...] = ("msfp12", "msfp11", "mxfp4", "mx4")
    schedules: tuple[Schedule, ...] = ("constant", "heuristic", "confidence", "optimal")
    constants: tuple[int, ...] = (1, 2, 3, 8)  # tokens per round, beside the constant schedule's usual 5
    texts: int = 4
    prompt: int = 32  # tokens
    new: int = 192
    repeats: int = 3


PRESETS = presets(SUITES, quick=Sizes(128), small=Sizes(512), paper=Sizes(100))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: draft, quantity; value.

    Quantities: acceptance (with its interval over documents), cost (of a step, in plain tokens), share (of the
    target's bytes), measured (speed-up at the optimal schedule, greedy), run_acceptance (in that run); for the first
    draft schedule_NAME (speed-up).
    """
    table = Table("draft", "quantity")
    chosen = pair(models, sizes.documents)
    vocabulary, seed = chosen.hmm.vocab_size, chosen.target.seed
    p = log_probs(chosen.target.model, chosen.documents)[..., :vocabulary]
    timing = Timing.of(chosen, sizes)
    for name, (draft, share) in tqdm(candidates(chosen, sizes).items(), desc="drafts"):
        forget_if_many()
        q = log_probs(draft, chosen.documents)[..., :vocabulary]
        table.add(name, "acceptance", seed=seed, values=acceptance(p, q).mean(1))
        costs, token = timing.costs_of(draft)
        measured, alpha = timing.run(draft, costs, "optimal")
        numbers = {"cost": costs.draft / token, "share": share, "measured": measured, "run_acceptance": alpha}
        if name == chosen.draft.name:
            numbers |= {f"schedule_{how}": timing.run(draft, costs, how)[0] for how in sizes.schedules}
            numbers |= {f"schedule_constant {g}": timing.run(draft, costs, "constant", g)[0] for g in sizes.constants}
        for quantity, value in numbers.items():
            if value is not None:
                table.add(name, quantity, seed=seed, values=np.array([value]))
    return table.rows()


def candidates(models: Pair, sizes: Sizes) -> dict[str, tuple[Reader, float | None]]:
    """Drafts by name, each with the share of the target's bytes that it reads (None where it is no copy)."""
    target, hmm = models.target.model, models.hmm
    drafts: dict[str, tuple[Reader, float | None]] = {run.name: (as_reader(run.model), None) for run in models.drafts}
    for name in sizes.prunings:
        how, kept = PRUNINGS[name]
        drafts[f"target, {name}"] = as_reader(pruned(models.target, how)), kept
    for format in sizes.formats:
        share = FORMATS[format].average_bits / 32
        drafts[f"target in {format.upper()}"] = as_reader(in_format(target, format)), share
    depth = max(1, target.config.depth // 2)
    drafts[f"target's first {depth} blocks"] = as_reader(first_layers(target, depth)), depth / target.config.depth
    tables: tuple[Reader, ...] = (
        ngrams(models, 3),
        ngrams(models, 2),
        PromptLookup(target.config.vocab_size),
        BayesReader(hmm, 1e-3, target.config.vocab_size - hmm.vocab_size),
    )
    drafts |= {name: (reader, None) for name, reader in zip(BY_TABLE, tables, strict=True)}
    return drafts


class Timing(NamedTuple):
    """What drafts are timed with: a target, texts to continue one at a time, tokens that are added, and repeats."""

    target: Reader
    prompts: Int[np.ndarray, "B L"]
    new: int
    repeats: int

    @classmethod
    def of(cls, models: Pair, sizes: Sizes) -> "Timing":
        context = models.target.config.model.context
        length = min(sizes.prompt, context // 4)
        new = min(sizes.new, context - length)
        return cls(as_reader(models.target.model), models.documents[: sizes.texts, :length], new, sizes.repeats)

    def costs_of(self, draft: Reader) -> tuple[speedup.Costs, float]:
        """Costs of drafting and verifying, measured in turns with the seconds of a plain token."""
        room = self.prompts.shape[1] + self.new
        widths = speedup.windows(min(speedup.MOST, self.new))
        reads = [(draft, 1), (self.target, 1), *((self.target, width) for width in widths)]
        works = [functools.partial(speedup.read_often, reader, 1, room, width) for reader, width in reads]
        step, token, *verify = (seconds / speedup.READS for seconds in in_turns(works, self.repeats))
        return speedup.Costs(step, dict(zip(widths, verify, strict=True))), token

    def run(self, draft: Reader, costs: speedup.Costs, schedule: Schedule, gamma: int = 5) -> tuple[float, float]:
        """Speed-up and acceptance; plain and assisted runs of a text take turns, since a machine's speed drifts."""
        plain, assisted, accepted, examined = 0.0, 0.0, 0, 0
        for row in self.prompts:
            alone = functools.partial(generate, self.target, row[None], self.new)
            helped = functools.partial(
                assisted_generate,
                self.target,
                draft,
                row[None],
                self.new,
                num_draft=gamma,
                schedule=schedule,
                costs=costs,
            )
            result = helped()
            slow, fast = in_turns([alone, helped], self.repeats)
            plain, assisted = plain + slow, assisted + fast
            accepted, examined = accepted + int(result.accepted.sum()), examined + int(result.examined.sum())
        return plain / assisted, accepted / max(1, examined)


def colour(name: str) -> str:
    """Of a draft: trained, pruned, in a format, first layers, without a model."""
    if name.startswith("target"):
        return ORANGE if "pruned" in name or "2:4" in name else PINK if "first" in name else GREEN
    return YELLOW if name in BY_TABLE else BLUE


def by_draft(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each draft, a column for each quantity; `interval` is that of the acceptance."""
    table = rows.pivot_table(index="draft", columns="quantity", values="value", sort=False)
    return table.assign(interval=pick(rows, quantity="acceptance").set_index("draft").half_width)


def schedules(rows: pd.DataFrame) -> dict[str, float]:
    """Speed-up of the first draft by schedule; constant is five tokens per round unless a number follows."""
    chosen = rows[rows.quantity.str.startswith("schedule_")]
    return {q.removeprefix("schedule_"): v for q, v in zip(chosen.quantity, chosen.value, strict=True)}


def tokens_per_round(schedule: str) -> int:
    """Of a constant schedule: five unless a number follows."""
    return int(schedule.removeprefix("constant") or 5)


def plot(rows: pd.DataFrame) -> Figure:
    rows = over_seeds(rows)
    table, speeds = by_draft(rows), schedules(rows)
    paper = published("assisted", setting="bigram draft").iloc[0]
    heights = (len(table), len(speeds))
    figure, panels = plt.subplot_mosaic("AB;AC", figsize=(14, 7), width_ratios=(1.35, 1), height_ratios=heights)
    draw_map(panels["A"], table, paper)
    draw_speeds(panels["B"], table, paper)
    draw_schedules(panels["C"], speeds)
    panels["C"].set_title(f"{table.index[0]} by schedule")
    for panel in (panels["B"], panels["C"]):
        panel.axvline(1, color="black", lw=0.8)
        panel.set_xlim(0, 1.05 * max(table.measured.max(), paper.value, *speeds.values()))
        panel.tick_params(axis="y", labelsize=8)
    return figure


def draw_map(panel: Axes, table: pd.DataFrame, paper: pd.Series) -> None:
    """Acceptance (log odds, which spreads what lies near 1) against cost, and the greatest speed-up of the formula."""
    table = table.assign(acceptance=table.acceptance.clip(0.001, 0.999))  # the axis has no 0 and no 1
    low, high = min(0.1, table.acceptance.min()), max(0.993, table.acceptance.max())
    panel.set(xscale="log", yscale="logit", xlim=(0.004, 13), ylim=(low, high))
    draw_greatest(panel)
    for name, line in table.iterrows():
        panel.errorbar(line.cost, line.acceptance, line.interval, marker="o", color=colour(str(name)), capsize=2)
        if "share" in table and np.isfinite(line.share):
            panel.plot(line.share, line.acceptance, "o", mfc="white", color=colour(str(name)))
            panel.plot([line.share, line.cost], [line.acceptance] * 2, ":", lw=0.8, color=colour(str(name)), zorder=0)
    name_drafts(panel, table)
    panel.plot(0.004, paper.alpha, **PUBLISHED_POINT, clip_on=False, zorder=5)
    said = f"bigrams of Leviathan et al., cost near 0:\n{paper.value:g}x at $\\gamma$ = {paper.gamma:g}"
    panel.annotate(said, (0.004, paper.alpha), (8, -22), **LABEL)
    panel.plot([], [], "ko", label="cost measured here")
    panel.plot([], [], "ko", mfc="white", label="cost if set by its bytes")
    panel.plot([], [], color="#bbbbbb", lw=0.9, label="greatest speed-up, verifying free")
    ticks = (0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
    panel.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.set(xlabel="cost of a draft's token, in plain tokens of the target", ylabel="acceptance, temperature 1",
              title="acceptance and cost")  # fmt: skip
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3)


def draw_greatest(panel: Axes) -> None:
    """Lines of the greatest speed-up over gamma by the formula, verifying free."""
    costs, alphas = np.geomspace(0.004, 3, 300), 1 / (1 + np.exp(-np.linspace(-4, 7, 300)))
    gammas = np.arange(41)[:, None, None]
    best = (speedup.expected_tokens(alphas[:, None], gammas) / (gammas * costs + 1)).max(0)
    levels = (1.01, 1.25, 1.5, 2, 3, 5, 8)
    lines = panel.contour(costs, alphas, best, levels=levels, colors="#bbbbbb", linewidths=0.9)
    column, row = np.searchsorted(costs, 0.009), np.searchsorted(alphas, 0.14)  # labels are left of and below drafts
    places = [(costs[column], np.interp(level, best[:, column], alphas)) for level in levels[1:]]
    places.append((np.interp(-levels[0], -best[row], costs), alphas[row]))
    panel.clabel(lines, fmt="%gx", fontsize=7, colors="#777777", manual=places)


def name_drafts(panel: Axes, table: pd.DataFrame) -> None:
    """Names at the points; those of dear drafts, all in one corner, in a list beside it."""
    dear = table[table.cost > 0.8].sort_values("acceptance", ascending=False)
    for name, line in table.drop(dear.index).iterrows():
        below = name in ("bigrams", "6 blocks of 64")  # others lie just above
        panel.annotate(str(name), (line.cost, line.acceptance), (6, -9 if below else 3), **LABEL)
    odds = np.inf
    for name, line in dear.iterrows():
        odds = min(np.log(line.acceptance / (1 - line.acceptance)), odds - 0.2)  # below the name before
        panel.annotate(str(name), (line.cost, line.acceptance), xytext=(2.6, 1 / (1 + np.exp(-odds))), fontsize=8,
                       va="center", arrowprops={"arrowstyle": "-", "lw": 0.5, "color": "#999999",
                                                "relpos": (0, 0.5), "shrinkB": 4})  # fmt: skip


def draw_speeds(panel: Axes, table: pd.DataFrame, paper: pd.Series) -> None:
    """Measured speed-ups, and the published one beside ours of the same kind."""
    names = [str(name) for name in table.index[::-1]]
    panel.barh(names, table.measured[names], color=[colour(name) for name in names])
    panel.plot([paper.value], ["bigrams"], **PUBLISHED_POINT)
    panel.annotate(f"Leviathan et al., $\\gamma$ = {paper.gamma:g}", (paper.value, "bigrams"), (6, -3), **LABEL)
    panel.set_title("each draft at its optimal schedule")


def draw_schedules(panel: Axes, speeds: dict[str, float]) -> None:
    """Measured speed-ups of the first draft, constant schedules first."""
    constant = sorted((name for name in speeds if name.startswith("constant")), key=tokens_per_round)
    named = {f"constant, $\\gamma$ = {tokens_per_round(name)}": speeds[name] for name in constant}
    named |= {name: value for name, value in speeds.items() if name not in constant}
    panel.barh(list(named)[::-1], list(named.values())[::-1], color=GREY)
    panel.set_xlabel("measured speed-up, greedy")


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Compressed copies as drafts, the bigram table, the sizes, and the schedules."""
    rows = over_seeds(rows)
    table = by_draft(rows)
    copies = [str(name) for name in table.index if str(name).startswith("target")]
    return [
        *(copy_claim(rows, name) for name in copies),
        bigram_claim(table),
        size_claim(table),
        schedule_claim(str(table.index[0]), schedules(rows)),
    ]


def copy_claim(rows: pd.DataFrame, name: str) -> Claim:
    copy, smallest = (only(rows, draft=draft, quantity="acceptance") for draft in (name, rows.draft.iloc[0]))
    return Claim(
        f"{name}: a compressed copy is accepted more often than the smallest trained draft",
        "no claim of a paper's",
        f"{show(copy, 3)} against {show(smallest, 3)}; "
        f"{pick(rows, draft=name, quantity='measured').value.iloc[0]:.2f}x here",
        above(copy, smallest),
    )


def bigram_claim(table: pd.DataFrame) -> Claim:
    speed = table.measured["bigrams"]
    return Claim(
        "a bigram table is a draft that pays",
        "1.25x at gamma = 3, alpha about 0.2 (Leviathan et al.)",
        f"{speed:.2f}x, alpha {table.acceptance['bigrams']:.2f} at temperature 1",
        judged(speed >= 1.1, speed >= TOLD_APART),
    )


def size_claim(table: pd.DataFrame) -> Claim:
    names = [str(name) for name in table.index if colour(str(name)) == BLUE and name != "LSTM"]
    speed = table.measured[names]
    fastest, ends = str(speed.idxmax()), max(speed.iloc[0], speed.iloc[-1])
    return Claim(
        "among transformers of several sizes neither the smallest nor the largest drafts fastest",
        "smaller drafts cost less, larger ones are accepted more (Leviathan et al., section 3); no number for an "
        "optimum",
        f"{fastest}; "
        + ", ".join(
            f"{name} {speed[name]:.2f}x (alpha {table.acceptance[name]:.2f}, c {table.cost[name]:.2f})"
            for name in names
        ),
        judged(speed.max() >= TOLD_APART * ends, speed.max() > ends) if len(names) > 2 else "not found",
    )


def schedule_claim(first: str, speeds: dict[str, float]) -> Claim:
    fastest = max(speeds.values())
    return Claim(
        f"{first}: gamma chosen from measured costs and acceptance is the fastest schedule",
        "no claim of a paper's; the post offers constant and heuristic",
        ", ".join(f"{name} {value:.2f}x" for name, value in speeds.items()),
        judged(speeds["optimal"] >= fastest, speeds["optimal"] >= 0.95 * fastest),
    )
