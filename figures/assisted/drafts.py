"""Which draft: acceptance against cost for small models, compressed copies of the target, tables and exact Bayes."""

import functools
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from tqdm import tqdm

from compression.block_float.block_model import in_format
from compression.block_float.formats import FORMATS
from compression.pruning.apply import Pruning
from decoding import speedup
from decoding.assisted import Schedule, assisted_generate
from decoding.compare import in_turns
from decoding.drafts import PromptLookup, first_layers
from decoding.generate import generate
from decoding.readers import BayesReader, Reader, as_reader
from figures import decoding, pruning
from figures.claims import Claim, judged
from figures.decoding import COLOURS, Pair, acceptance, log_probs, ngrams, pair
from figures.programs import forget_if_many
from figures.recipes import Recipe, Wanted, trained
from icl_synth.evaluate import estimate

TITLE = "Which draft: acceptance against cost, and the schedules of drafting"
DIFFERS = (
    "The target is the largest transformer, at batch 1. Acceptance is exact, the sum of min(p, q) at temperature 1 "
    "over held-back documents; costs are seconds of a draft's single step over those of a plain token, measured here. "
    "A pruned copy or one in a block floating point format costs here what the target costs or more, since this CPU "
    "multiplies zeros and emulates formats; the hollow points put such drafts where their bytes would, which is where "
    "hardware that skips zeros or multiplies short mantissas would have them at best: weights kept or bits an element "
    "over 32. Lines are the greatest speed-up over gamma by Leviathan et al.'s formula, verifying free; the measured "
    "speed-ups beside them pay for verifying. They are of generating with each draft at its optimal schedule, and with "
    "the first draft at every schedule, greedily. Greedy text of this world soon repeats itself, which any draft "
    "guesses, prompt lookup best of all: of 64 such texts (held-back documents' first 32 tokens and the target's next "
    "192) 62 had a period of 16 tokens or fewer in their last 48; of as many sampled texts none. So the measured "
    "speed-ups are those of repetitive text, the acceptance at temperature 1 is that of ordinary text. The paper's "
    "bigram draft accepts about a fifth. *Holds* for compressed copies: acceptance above the smallest trained draft's, "
    "intervals apart. A draft pays from 1.1x on, *partly* from 1.05x: less is not told from none in one run."
)
PUBLISHED = decoding.PUBLISHED
PRUNINGS = {"target, 50 % pruned": Pruning(sparsity=0.5), "target, 2:4": Pruning(pattern=(2, 4)),
            "target, 75 % pruned": Pruning(sparsity=0.75)}  # fmt: skip
KEPT = {"target, 50 % pruned": 0.5, "target, 2:4": 0.5, "target, 75 % pruned": 0.25}
DRAFT_FORMATS = ("msfp12", "msfp11", "mxfp4", "mx4")
CONSTANTS = (1, 2, 3, 8)  # tokens a round, beside the constant schedule's usual 5
SCHEDULES: tuple[Schedule, ...] = ("constant", "heuristic", "confidence", "optimal")
PROMPT, NEW, ROWS, REPEATS = 32, 192, 4, 3
OUTLINE = withStroke(linewidth=2, foreground="white")
LABEL: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "path_effects": [OUTLINE]}


def wanted(recipe: Recipe) -> Wanted:
    return decoding.wanted(recipe)


def candidates(found: Pair, models: list) -> dict[str, tuple[Reader, float]]:
    """Drafts by name, each with the share of the target's bytes that it reads (NaN where it is no copy)."""
    nothing = float("nan")
    target = found.target.model
    drafts: dict[str, tuple[Reader, float]] = {one.name: (as_reader(one.model), nothing) for one in models[:-1]}
    for name, how in PRUNINGS.items():
        drafts[name] = as_reader(pruning.pruned(found.target, how)), KEPT[name]
    for format in DRAFT_FORMATS:
        share = FORMATS[format].average_bits / 32
        drafts[f"target in {format.upper()}"] = as_reader(in_format(target, format)), share
    depth = max(1, target.config.depth // 2)
    drafts[f"target's first {depth} blocks"] = as_reader(first_layers(target, depth)), depth / target.config.depth
    drafts |= {
        "trigrams": (ngrams(found, 3), nothing),
        "bigrams": (ngrams(found, 2), nothing),
        "prompt lookup": (PromptLookup(target.config.vocab_size), nothing),
        "exact Bayes": (BayesReader(found.hmm, 1e-3, target.config.vocab_size - found.hmm.vocab_size), nothing),
    }
    return drafts


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: draft, quantity, value, half_width (95 % over documents, acceptance only).

    Quantities: acceptance, cost (of a step, in plain tokens), share (of the target's bytes), measured (speed-up at
    the optimal schedule, greedy), run_acceptance (in that run); for the first draft schedule_NAME (speed-up).
    """
    models = trained(wanted(recipe))
    found = pair(models, recipe)
    target, vocabulary = as_reader(found.target.model), found.hmm.vocab_size
    length = min(PROMPT, found.target.config.model.context // 4)
    new = min(NEW, found.target.config.model.context - length)
    room, prompts = length + new, found.documents[:ROWS, :length]
    p = log_probs(target, found.documents)[..., :vocabulary]

    def costs_of(draft: Reader) -> tuple[speedup.Costs, float]:
        """Costs of drafting and verifying, measured in turns with the seconds of a plain token."""
        widths = speedup.windows(min(speedup.MOST, new))
        reads = [(draft, 1), (target, 1), *((target, width) for width in widths)]
        works = [functools.partial(speedup.read_often, reader, 1, room, width) for reader, width in reads]
        step, token, *verify = (seconds / speedup.READS for seconds in in_turns(works, REPEATS))
        return speedup.Costs(step, dict(zip(widths, verify, strict=True))), token

    def run(draft: Reader, costs: speedup.Costs, schedule: Schedule, gamma: int = 5) -> tuple[float, float]:
        """Speed-up and acceptance; plain and assisted runs of a text take turns, since a machine's speed drifts."""
        plain, assisted, accepted, examined = 0.0, 0.0, 0, 0
        for row in prompts:
            alone = functools.partial(generate, target, row[None], new)
            helped = functools.partial(
                assisted_generate, target, draft, row[None], new, num_draft=gamma, schedule=schedule, costs=costs
            )
            result = helped()
            slow, fast = in_turns([alone, helped], REPEATS)
            plain, assisted = plain + slow, assisted + fast
            accepted, examined = accepted + int(result.accepted.sum()), examined + int(result.examined.sum())
        return plain / assisted, accepted / max(1, examined)

    rows = []
    for index, (name, (draft, share)) in enumerate(tqdm(candidates(found, models).items(), desc="drafts")):
        forget_if_many()
        q = log_probs(draft, found.documents)[..., :vocabulary]
        costs, token = costs_of(draft)
        rows.append((name, "acceptance", *estimate(acceptance(p, q).mean(1))))
        rows.append((name, "cost", costs.draft / token, 0.0))
        if np.isfinite(share):
            rows.append((name, "share", share, 0.0))
        measured, alpha = run(draft, costs, "optimal")
        rows += [(name, "measured", measured, 0.0), (name, "run_acceptance", alpha, 0.0)]
        if index == 0:
            rows += [(name, f"schedule_{schedule}", run(draft, costs, schedule)[0], 0.0) for schedule in SCHEDULES]
            rows += [(name, f"schedule_constant {g}", run(draft, costs, "constant", g)[0], 0.0) for g in CONSTANTS]
    table = pd.DataFrame(rows, columns=["draft", "quantity", "value", "half_width"])
    table.attrs["models"] = [one.record() for one in models]
    return table


def kind(name: str) -> int:
    """Colour of a draft: trained, pruned, in a format, first layers, without a model."""
    if name.startswith("target"):
        return 1 if "pruned" in name or "2:4" in name else 3 if "first" in name else 2
    return 4 if name in ("trigrams", "bigrams", "prompt lookup", "exact Bayes") else 0


def plot(rows: pd.DataFrame) -> Figure:
    table = rows.pivot_table(index="draft", columns="quantity", values="value", sort=False)
    error = rows[rows.quantity == "acceptance"].set_index("draft").half_width
    paper = decoding.published().query("setting == 'bigram draft'").iloc[0]
    figure, panels = plt.subplot_mosaic(
        "AB;AC", figsize=(14, 7), width_ratios=(1.35, 1), height_ratios=(len(table), len(schedules(rows)))
    )
    draw_map(panels["A"], table, error, paper)
    draw_speeds(panels["B"], table, paper)
    speeds = schedules(rows)
    constant = sorted((name for name in speeds if name.startswith("constant")), key=tokens_a_round)
    named = {f"constant, $\\gamma$ = {tokens_a_round(name)}": speeds[name] for name in constant}
    named |= {name: value for name, value in speeds.items() if name not in constant}
    panels["C"].barh(list(named)[::-1], list(named.values())[::-1], color="#777777")
    panels["C"].set(xlabel="measured speed-up, greedy", title=f"{table.index[0]} by schedule")
    for panel in (panels["B"], panels["C"]):
        panel.axvline(1, color="black", lw=0.8)
        panel.set_xlim(0, 1.05 * max(table.measured.max(), paper.value, *speeds.values()))
        panel.tick_params(axis="y", labelsize=8)
    return figure


def draw_map(panel: Axes, table: pd.DataFrame, error: pd.Series, paper: pd.Series) -> None:
    """Acceptance (log odds, which spreads what lies near 1) against cost, and the greatest speed-up of the formula."""
    table = table.assign(acceptance=table.acceptance.clip(0.001, 0.999))  # the axis has no 0 and no 1
    low, high = min(0.1, table.acceptance.min()), max(0.993, table.acceptance.max())
    panel.set(xscale="log", yscale="logit", xlim=(0.004, 13), ylim=(low, high))
    costs, alphas = np.geomspace(0.004, 3, 300), 1 / (1 + np.exp(-np.linspace(-4, 7, 300)))
    gammas = np.arange(41)[:, None, None]
    best = (speedup.expected_tokens(alphas[:, None], gammas) / (gammas * costs + 1)).max(0)
    levels = (1.01, 1.25, 1.5, 2, 3, 5, 8)
    lines = panel.contour(costs, alphas, best, levels=levels, colors="#bbbbbb", linewidths=0.9)
    column, row = np.searchsorted(costs, 0.009), np.searchsorted(alphas, 0.14)  # labels are left of and below drafts
    places = [(costs[column], np.interp(level, best[:, column], alphas)) for level in levels[1:]]
    places.append((np.interp(-levels[0], -best[row], costs), alphas[row]))
    panel.clabel(lines, fmt="%gx", fontsize=7, colors="#777777", manual=places)
    dear = table[table.cost > 0.8].sort_values("acceptance", ascending=False)  # all in one corner: named beside it
    for name, line in table.iterrows():
        colour = COLOURS[kind(str(name))]
        panel.errorbar(line.cost, line.acceptance, error[str(name)], marker="o", color=colour, capsize=2)
        if "share" in table and np.isfinite(line.share):
            panel.plot(line.share, line.acceptance, "o", mfc="white", color=colour)
            panel.plot([line.share, line.cost], [line.acceptance] * 2, ":", lw=0.8, color=colour, zorder=0)
        if name not in dear.index:
            below = name in ("bigrams", "6 blocks of 64")  # others lie just above
            panel.annotate(str(name), (line.cost, line.acceptance), (6, -9 if below else 3), **LABEL)
    odds = np.inf
    for name, line in dear.iterrows():
        odds = min(np.log(line.acceptance / (1 - line.acceptance)), odds - 0.2)  # below the name before
        panel.annotate(str(name), (line.cost, line.acceptance), xytext=(2.6, 1 / (1 + np.exp(-odds))), fontsize=8,
                       va="center", arrowprops={"arrowstyle": "-", "lw": 0.5, "color": "#999999",
                                                "relpos": (0, 0.5), "shrinkB": 4})  # fmt: skip
    panel.plot(0.004, paper.alpha, **decoding.PAPER, clip_on=False, zorder=5)
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


def draw_speeds(panel: Axes, table: pd.DataFrame, paper: pd.Series) -> None:
    """Measured speed-ups, and the published one beside ours of the same kind."""
    names = [str(name) for name in table.index[::-1]]
    panel.barh(names, table.measured[names], color=[COLOURS[kind(name)] for name in names])
    panel.plot([paper.value], ["bigrams"], **decoding.PAPER)
    panel.annotate(f"Leviathan et al., $\\gamma$ = {paper.gamma:g}", (paper.value, "bigrams"), (6, -3), **LABEL)
    panel.set_title("each draft at its optimal schedule")


def tokens_a_round(schedule: str) -> int:
    """Of a constant schedule: five unless a number follows."""
    return int(schedule.removeprefix("constant") or 5)


def schedules(rows: pd.DataFrame) -> dict[str, float]:
    """Speed-up of the first draft by schedule; constant is five tokens a round unless a number follows."""
    chosen = rows[rows.quantity.str.startswith("schedule_")]
    return {q.removeprefix("schedule_"): v for q, v in zip(chosen.quantity, chosen.value, strict=True)}


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Compressed copies as drafts, the bigram table, and the schedules."""
    found = rows.pivot_table(index="draft", columns="quantity", values="value", sort=False)
    error = rows[rows.quantity == "acceptance"].set_index("draft").half_width
    first, table = str(rows.draft.iloc[0]), []
    low = found.acceptance[first] + error[first]
    for name in (str(n) for n in found.index if str(n).startswith("target")):
        mean, half = found.acceptance[name], error[name]
        table.append(
            Claim(
                f"{name}: a compressed copy is accepted more often than the smallest trained draft",
                "no claim of a paper's",
                f"{mean:.3f} ± {half:.3f} against {found.acceptance[first]:.3f} ± {error[first]:.3f}; "
                f"{found.measured[name]:.2f}x here",
                judged(mean - half > low, mean > found.acceptance[first]),
            )
        )
    table.append(
        Claim(
            "a bigram table is a draft that pays",
            "1.25x at gamma = 3, alpha about .2 (Leviathan et al.)",
            f"{found.measured['bigrams']:.2f}x, alpha {found.acceptance['bigrams']:.2f} at temperature 1",
            judged(found.measured["bigrams"] >= 1.1, found.measured["bigrams"] >= 1.05),
        )
    )
    sizes = [str(n) for n in found.index if kind(str(n)) == 0 and n != "LSTM"]
    fastest = max(sizes, key=lambda n: found.measured[n])
    table.append(
        Claim(
            "among transformers of several sizes neither the smallest nor the largest drafts fastest",
            "smaller drafts cost less, larger ones are accepted more (Leviathan et al., section 3); no number for an "
            "optimum",
            f"{fastest}; "
            + ", ".join(
                f"{n} {found.measured[n]:.2f}x (alpha {found.acceptance[n]:.2f}, c {found.cost[n]:.2f})" for n in sizes
            ),
            judged(fastest not in (sizes[0], sizes[-1])),
        )
    )
    speeds = schedules(rows)
    others = max(value for name, value in speeds.items() if name != "optimal")
    table.append(
        Claim(
            f"{first}: gamma chosen from measured costs and acceptance is the fastest schedule",
            "no claim of a paper's; the post offers constant and heuristic",
            ", ".join(f"{name} {value:.2f}x" for name, value in speeds.items()),
            judged(speeds["optimal"] >= others, speeds["optimal"] >= 0.95 * others),
        )
    )
    return table
