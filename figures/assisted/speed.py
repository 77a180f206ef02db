"""How much faster: speed-up by gamma, measured and predicted, beside Leviathan et al. 2023 and the post."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from tqdm import tqdm

from decoding.compare import Measured, compare
from decoding.readers import as_reader
from decoding.speedup import expected_tokens, predicted_operations, predicted_speedup
from decoding.variants import in_bfloat16, in_int8
from figures.assisted import common
from figures.assisted.common import SUITES, Large, Pair, pair
from figures.lab.claims import Claim, judged
from figures.lab.presets import presets
from figures.lab.programs import forget_if_many
from figures.lab.runs import Models
from figures.lab.style import CYCLE, GREY, PUBLISHED_POINT
from figures.lab.tables import pick, published
from icl_synth import checkpoints

TITLE = "Speed-up of assisted generation by tokens drafted: measured, predicted, published (Leviathan et al. 2023)"
DIFFERS = (
    "Batch 1 on this machine's CPU, in one compiled program; the papers' are accelerators. Verifying is not free here: "
    "the more tokens are read at once, the longer it takes (v in the rows). So the prediction uses measured costs: c "
    "of a draft's token, v of verifying by the number of tokens, o of the rest of a round. c and v are timed alone; o "
    "is what is left of a round at gamma = 2 on another prompt. The dotted line, verifying free, is the papers' "
    "formula with v = 1 and o = 0. The large pair computes the functions of the shipped models at 8 layers of 512 and "
    "2 of 128 (channels are repeated, so that its cost is that of such a model and its text is the small one's). "
    "bfloat16 and int8 round the target, so their text may differ from float32's; speed-ups are over plain generation "
    "of the same model. Texts are two prompts of 32 tokens, one after another, and the 96 tokens that follow; the "
    "first of them, which the prefill gives, is left out of all times. Acceptance is that of these texts. Greedy text "
    "of this world soon repeats itself, which any draft guesses; sampled text does not. So greedy speed-ups are those "
    "of repetitive text, and sampled ones those of ordinary text. A prediction *holds* where the speed-up at every "
    "gamma is within 10 % of it, *partly* where half of them are. Speed-ups have no interval: one *holds* from the "
    "least that Leviathan et al. report for T5 on, 2x, at the best gamma, and *partly* from 1.05x, since less is not "
    "told from none in one run."
)
PUBLISHED = common.PUBLISHED
ALONE = True
WITHIN, LEAST, TOLD_APART = 0.1, 2.0, 1.05
MODES = {"greedy": "o", "sampled": "D"}  # markers
HOW: dict[str, dict[str, Any]] = {"greedy": {}, "sampled": {"temperature": 1.0}}
SAMPLING_SEED = 5
PAIR_COLOURS = CYCLE[2:]


class Sizes(NamedTuple):
    documents: int  # of which the first begin the texts
    large: Large | None = Large()  # takes some ten minutes
    gammas: tuple[int, ...] = (1, 3, 5, 8)  # tokens drafted in a round
    texts: int = 2
    prompt: int = 32  # tokens
    new: int = 96
    repeats: int = 5


PRESETS = presets(SUITES, quick=Sizes(128, large=None), small=Sizes(512), paper=Sizes(100))
Row = tuple[str, str, int, str, float]


class Timed(NamedTuple):
    """A target and a draft, with a name for the two and one for all pairs whose times are compared."""

    name: str
    group: str
    target: checkpoints.Model
    draft: checkpoints.Model


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: pair, mode, gamma, quantity, value. gamma 0 holds what is not of a gamma.

    Quantities: speedup, predicted, predicted_from_rounds, simple (v = 1, o = 0), acceptance, c, v and o (in plain
    tokens), tokens_a_round, operations (arithmetic over plain decoding's), all beside the same model's plain
    generation; plain_ms (per token), more (plain speed over float32's).
    """
    chosen = pair(models, sizes.documents)
    rows: list[Row] = []
    fastest: dict[tuple[str, str], float] = {}  # seconds of a plain token by group and mode
    for timed in tqdm(pairs(chosen, sizes.large), desc="pairs", unit="pair"):
        for mode in MODES:
            forget_if_many()
            lines = measure(timed, mode, chosen, sizes)
            token = min(line.token for line in lines)
            float32 = fastest.setdefault((timed.group, mode), token)  # which comes first
            rows += mode_rows(timed, mode, lines, token, float32)
    return pd.DataFrame(rows, columns=["pair", "mode", "gamma", "quantity", "value"])


def pairs(models: Pair, large: Large | None) -> list[Timed]:
    """The trained pair, and the large one in three kinds of weights, float32 first."""
    name = f"trained: {models.target.name}, drafted by {models.draft.name}"
    timed = [Timed(name, "trained", models.target.model, models.draft.model)]
    if large:
        target, draft = large.models()
        shape = f"large: {target.config.depth} x {target.config.width}"
        kinds = {"float32": target, "bfloat16": in_bfloat16(target), "int8": in_int8(target)}
        timed += [Timed(f"{shape}, {kind}", "large", model, draft) for kind, model in kinds.items()]
    return timed


def measure(timed: Timed, mode: str, models: Pair, sizes: Sizes) -> list[Measured]:
    """One pair, greedy or sampled, at every gamma."""
    context = timed.target.config.context
    length = min(sizes.prompt, context // 4)
    new = min(sizes.new, context - length)
    probe, *prompts = models.documents[: 1 + sizes.texts, None, :length]
    how = HOW[mode] | ({"key": jax.random.key(SAMPLING_SEED)} if mode == "sampled" else {})
    target, draft = as_reader(timed.target), as_reader(timed.draft)
    return compare(target, draft, prompts, probe, new, sizes.gammas, sizes.repeats, **how)


def mode_rows(timed: Timed, mode: str, lines: list[Measured], token: float, float32: float) -> Iterator[Row]:
    """What was measured of one pair in one mode; `token` and `float32` are seconds of plain tokens."""
    work = weight_count(timed.draft) / weight_count(timed.target)  # of a draft's token, in the target's
    yield timed.name, mode, 0, "plain_ms", 1e3 * token
    yield timed.name, mode, 0, "more", float32 / token
    yield timed.name, mode, 0, "o", lines[0].costs.overhead / token
    for line in lines:
        c, v = line.costs.draft / line.token, line.costs.verify[line.gamma + 1] / line.token
        quantities = {
            "speedup": line.speedup,
            "predicted": line.predicted,
            "predicted_from_rounds": line.predicted_from_rounds,
            "simple": predicted_speedup(line.acceptance, line.gamma, c),
            "acceptance": line.acceptance,
            "tokens_a_round": line.tokens_a_round,
            "operations": predicted_operations(line.acceptance, line.gamma, work),
            "c": c,
            "v": v,
        }
        for quantity, value in quantities.items():
            yield timed.name, mode, line.gamma, quantity, value


def weight_count(model: checkpoints.Model) -> int:
    """Weights that a token is multiplied by."""
    return sum(w.size for name, w in checkpoints.split(model)[1].items() if name.endswith("kernel"))


def by_gamma(rows: pd.DataFrame, name: str, mode: str, quantity: str) -> pd.Series:
    return pick(rows, pair=name, mode=mode, quantity=quantity).set_index("gamma").value


def best_gamma(rows: pd.DataFrame, name: str, mode: str) -> int:
    """Of the greatest measured speed-up."""
    speed = by_gamma(rows, name, mode, "speedup")
    return int(speed.index[int(speed.argmax())])


def plot(rows: pd.DataFrame) -> Figure:
    names = list(rows.pair.unique())
    figure, grid = plt.subplots(2, 4, figsize=(16.5, 9))
    own = [grid[0, 0], grid[0, 1], grid[1, 0], grid[1, 1]]
    for panel in own[len(names) :]:
        panel.axis("off")
    for panel, name in zip(own, names, strict=False):
        draw_pair(panel, rows, name)
    for panel in grid[:, 0]:
        panel.set_ylabel("speed-up over plain generation")
    draw_published(grid[0, 2], rows)
    draw_post(grid[1, 2], rows)
    draw_rounds(grid[0, 3], rows)
    draw_operations(grid[1, 3], rows)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower left", ncols=2,
                  title="the four on the left")  # fmt: skip
    shown = [
        Line2D([], [], color=colour, lw=5, label=name.split(", drafted")[0])
        for name, colour in zip(names, PAIR_COLOURS, strict=False)
    ]
    shown += [Line2D([], [], color="black", marker=mark, ls="", label=f"ours, {mode}") for mode, mark in MODES.items()]
    figure.legend(handles=shown, loc="outside lower right", ncols=2, title="the four on the right")
    return figure


def draw_pair(panel: Axes, rows: pd.DataFrame, name: str) -> None:
    """Speed-up of one pair by gamma, measured and predicted."""
    for (mode, marker), colour, height in zip(MODES.items(), CYCLE, (0.97, 0.9), strict=False):
        for quantity, how, label in (
            ("speedup", {"marker": marker, "ls": ""}, "measured"),
            ("predicted", {"ls": "-", "lw": 1.2}, "predicted"),
            ("simple", {"ls": ":", "lw": 1.0}, "verifying free"),
        ):
            panel.plot(by_gamma(rows, name, mode, quantity), color=colour, label=f"{mode}, {label}", **how)
        mean = by_gamma(rows, name, mode, "acceptance").mean()
        panel.text(0.03, height, f"{mode}: $\\alpha$ = {mean:.2f}", transform=panel.transAxes, va="top", color=colour)
    panel.axhline(1, color="black", lw=0.8)
    panel.set(title=name.replace(", drafted", "\ndrafted"), xlabel="tokens drafted, $\\gamma$")
    panel.set_ylim(0, 1.15 * panel.get_ylim()[1])  # room for the acceptances


def draw_rounds(panel: Axes, rows: pd.DataFrame) -> None:
    """Tokens per round, counted and by the formula from the acceptance at each gamma."""
    for mode, marker in MODES.items():
        for name, colour in zip(rows.pair.unique(), PAIR_COLOURS, strict=False):
            counted, alpha = (by_gamma(rows, name, mode, q) for q in ("tokens_a_round", "acceptance"))
            panel.plot(counted, marker, color=colour, ms=5)
            formula = expected_tokens(alpha.to_numpy(), counted.index.to_numpy())
            panel.plot(counted.index, formula, "-", lw=0.8, color=colour)
        place = max(0, len(counted) - 2)
        at = counted.index[place], counted.iloc[place]
        panel.annotate(mode, at, (-6, 8), textcoords="offset points", ha="right")
    panel.plot([], [], "ko", ms=5, label="counted")
    panel.plot([], [], "k-", lw=0.8, label="by the formula, from acceptance")
    panel.set(xlabel="tokens drafted, $\\gamma$", ylabel="tokens per round", title="tokens per round")
    panel.legend(fontsize=8, loc="upper left")


def draw_operations(panel: Axes, rows: pd.DataFrame) -> None:
    """Arithmetic over plain decoding's, by gamma: what assistance pays with."""
    theory = published("assisted", what="operations")
    dash = PUBLISHED_POINT | {"marker": "_", "ms": 9}
    panel.plot(theory.gamma, theory.value, **dash, label="paper, Table 1; number: $\\alpha$")
    for row in theory.to_dict("records"):
        panel.annotate(f"{row['alpha']:g}", (row["gamma"], row["value"]), (6, -3), size=7, color="#555555",
                       textcoords="offset points")  # fmt: skip
    for mode, marker in MODES.items():
        for name, colour in zip(rows.pair.unique(), PAIR_COLOURS, strict=False):
            work = by_gamma(rows, name, mode, "operations")
            panel.plot(work, marker, color=colour, ms=5)
        panel.annotate(mode, (work.index[-1], work.iloc[-1]), (9, -3), textcoords="offset points")
    panel.set(xlabel="tokens drafted, $\\gamma$", ylabel="operations over plain decoding's")
    panel.set_title("arithmetic, beside Leviathan et al.")
    panel.legend(fontsize=8, loc="upper left")
    panel.set_xlim(0.4, 1.1 * max(theory.gamma.max(), rows.gamma.max()))


def draw_published(panel: Axes, rows: pd.DataFrame) -> None:
    """Speed-up by acceptance, best gamma of each of our pairs beside the paper's."""
    table = published("assisted", what="speedup")
    theory, measured = table[table.setting == "theory"], table[table.setting != "theory"]
    dash = PUBLISHED_POINT | {"marker": "_", "ms": 12}
    panel.plot(theory.alpha, theory.value, **dash, label="paper, Table 1; number: $\\gamma$")
    for row in theory.to_dict("records"):
        panel.annotate(f"{row['gamma']:g}", (row["alpha"], row["value"]), (0, 2), size=7, color="#555555",
                       textcoords="offset points", ha="center")  # fmt: skip
    panel.plot(measured.alpha, measured.value, **PUBLISHED_POINT, label="paper, measured (T5)")
    for name, colour in zip(rows.pair.unique(), PAIR_COLOURS, strict=False):
        for mode, marker in MODES.items():
            best = best_gamma(rows, name, mode)
            alpha, speed = (by_gamma(rows, name, mode, quantity)[best] for quantity in ("acceptance", "speedup"))
            panel.plot(alpha, speed, marker, color=colour)
    panel.axhline(1, color="black", lw=0.8)
    panel.set(xlabel="acceptance $\\alpha$", ylabel="speed-up at its best $\\gamma$")
    panel.set_title("beside Leviathan et al. (grey)")
    panel.legend(fontsize=8, loc="upper left")


def draw_post(panel: Axes, rows: pd.DataFrame) -> None:
    """Milliseconds per token, plain to assisted, of the post and of ours."""
    table = published("assisted").pivot_table(index="setting", columns="what", values="value", sort=False)
    table = table[["plain ms", "assisted ms"]].dropna()
    lines = [(str(s), p, a, GREY) for s, p, a in zip(table.index, *(table[c] for c in table), strict=True)]
    for name, colour in zip(rows.pair.unique(), PAIR_COLOURS, strict=False):
        plain = by_gamma(rows, name, "greedy", "plain_ms")[0]
        label = "ours, " + (name.split(":")[0] if name.startswith("trained") else "large, " + name.split(", ")[-1])
        lines.append((label, plain, plain / by_gamma(rows, name, "greedy", "speedup").max(), colour))
    for place, (_, plain, assisted, colour) in enumerate(lines[::-1]):
        panel.annotate("", (assisted, place), (plain, place),
                       arrowprops={"arrowstyle": "->", "color": colour, "shrinkA": 0, "shrinkB": 0})  # fmt: skip
        panel.text(plain * 1.5, place, f"{plain / assisted:.1f}x", va="center", size=7, color=colour)
    panel.set(xscale="log", yticks=range(len(lines)), yticklabels=[line[0] for line in lines[::-1]])
    panel.set(xlabel="ms per token, plain → assisted, greedy", title="beside Hugging Face's post (grey)")
    values = np.array([line[1:3] for line in lines])
    panel.set_xlim(values.min() / 2, values.max() * 4)
    panel.set_ylim(-0.7, len(lines) - 0.3)
    panel.tick_params(axis="y", labelsize=7)


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Prediction against measurement, and how much faster each pair is."""
    cells = [(name, mode) for name in rows.pair.unique() for mode in MODES]
    return [judge(rows, *cell) for cell in cells for judge in (prediction_claim, speed_claim)]


def prediction_claim(rows: pd.DataFrame, name: str, mode: str) -> Claim:
    measured, from_rounds, from_alpha = (
        by_gamma(rows, name, mode, quantity) for quantity in ("speedup", "predicted_from_rounds", "predicted")
    )
    off_rounds, off = (np.abs(measured / predicted - 1) for predicted in (from_rounds, from_alpha))
    most = published("assisted", what="speedup", setting="theory", alpha=0.8, gamma=5).value.iloc[0]
    return Claim(
        f"{name}, {mode}: the speed-up is predicted by acceptance and costs",
        f"E / (gamma c + 1), {most} at alpha = 0.8, gamma = 5 and c → 0 (Table 1)",
        f"measured within {100 * off_rounds.max():.0f} % of the prediction from counted rounds, within "
        f"{100 * off.max():.0f} % of that from alpha, over {len(off)} values of gamma",
        judged(bool((off <= WITHIN).all()), bool((off <= WITHIN).mean() >= 0.5)),
    )


def speed_claim(rows: pd.DataFrame, name: str, mode: str) -> Claim:
    best = best_gamma(rows, name, mode)
    speed, alpha = (by_gamma(rows, name, mode, quantity)[best] for quantity in ("speedup", "acceptance"))
    return Claim(
        f"{name}, {mode}: assisted generation is faster",
        "2 to 3.4x (Leviathan et al., T5), up to 2x, 3x in int8 (post)",
        f"{speed:.2f}x at gamma = {best}, alpha = {alpha:.2f}; over plain float32 "
        f"{speed * by_gamma(rows, name, mode, 'more')[0]:.2f}x",
        judged(speed >= LEAST, speed >= TOLD_APART),
        headline=name.startswith("large") and name.endswith("float32") and mode == "sampled",
    )
