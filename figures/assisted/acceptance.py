"""Acceptance exactly: why close drafts accept less at temperature 0, exact Bayes in both roles, an oracle gamma."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from decoding.along import Rounds, acceptance, autocorrelation, proposed, rounds, softmax
from decoding.schedules import check_plan, with_costs
from decoding.speedup import MOST, Costs
from figures.assisted import common
from figures.assisted.common import (
    BAYES,
    SUITES,
    TRIGRAMS,
    Draft,
    Own,
    Pair,
    colours,
    log_probs,
    own_texts,
    pair,
    trained,
    untrained,
)
from figures.lab.claims import Claim, no_more, positive
from figures.lab.presets import presets
from figures.lab.programs import forget_if_many
from figures.lab.runs import Models
from figures.lab.style import BLACK, BLUE, GREY, PUBLISHED_POINT, WIDTH, draw_line, name_ends
from figures.lab.tables import Table, as_estimate, over_seeds, pick, published
from icl_synth import bayes
from icl_synth.estimates import ratio_of_means

TITLE = "Acceptance exactly: near ties, exact Bayes in both roles, and what an oracle gamma would gain"
DIFFERS = (
    "These questions can be asked only in a world whose right answer is known; no paper makes the claims, except that "
    "about the oracle. "
    "Documents of the world are texts of exact Bayes at temperature 1. A margin is the probability of the likeliest "
    "token less that of the second, of exact Bayes or of the largest transformer; tokens fall into eighths of equal "
    "number by their margin. The first claim asks of every draft whether temperature 0 accepts less than temperature 1 "
    "in the eighth nearest to a tie, and more in the clearest eighth. The next ask, at temperatures 0 and 1, whether "
    "the transformer accepts exact Bayes more than each other draft, and whether exact Bayes as the target accepts "
    "each draft more than the transformer does, on the same documents. The correlation of a token's acceptance with "
    "the next one's is asked to be above zero where exact Bayes is the target; that some documents are easier than "
    "others counts in it. The oracle knows which proposals of a round will stand and drafts these and no more; "
    "verifying is free, and a draft's token costs 0.02, 0.05 or 0.1 plain tokens, as in Leviathan et al.'s optimal "
    "gammas. It is held against the constant gamma that is best on the other half of the texts. Texts are the "
    "transformer's own; one draw of acceptances serves all schedules. The paper bounds what an oracle can gain by up "
    "to about 60 %, in theory, without saying for which of the costs and acceptances that it calls typical: ours are "
    "set beside it and judge nothing. Our own questions on the same cells: whether it gains more than with the same "
    "acceptances in random order over all texts, as if they were independent and all texts alike, and whether the "
    "heuristic and the optimal schedule are faster than the best constant. The confidence schedule is left out: what "
    "it drafts after a refused token is not in the text."
)
PUBLISHED = common.PUBLISHED
EIGHTHS = 8
TEMPERATURES = (0.0, 1.0)
ACCEPTANCE_SEED, ORDER_SEED = 19, 23
TARGET = "transformer"
SCHEDULES = ("heuristic", "optimal")


class Sizes(NamedTuple):
    documents: int
    texts: int = 256  # that the target continues
    costs: tuple[float, ...] = (0.02, 0.05, 0.1)  # of a draft's token
    lags: tuple[int, ...] = (1, 2, 4, 8)


PRESETS = presets(SUITES, quick=Sizes(128, texts=64), small=Sizes(512), paper=Sizes(100, texts=100))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity, target, draft, temperature, place.

    On documents: alpha, gap (acceptance at temperature 0 less that at 1; place = eighth of `target`'s margins),
    bayes_over (of exact Bayes as draft less this draft), by_bayes (of exact Bayes as target less the transformer),
    correlation (place = lag). On the transformer's own texts, place = cost: oracle_gain (over the best constant gamma),
    runs_worth (its gain less that with acceptances in random order), heuristic_gain, optimal_gain, and factors of
    walltime: best, oracle.
    """
    table = Table("quantity", "target", "draft", "temperature", "place")
    chosen = pair(models, sizes.documents)
    exact = bayes_log_probs(chosen)
    of_target = {TARGET: chosen.of_target()[:, :-1], BAYES: exact}
    texts = [own_texts(chosen, temperature, sizes.texts) for temperature in TEMPERATURES]
    tables = [draft for draft in untrained(chosen) if draft.name in (TRIGRAMS, BAYES)]
    for draft in tqdm([*trained(chosen), *tables], desc="drafts"):
        forget_if_many()
        q = exact if draft.name == BAYES else log_probs(draft.reader, chosen.documents)[:, :-1]
        add_documents(table, draft, of_target, q, chosen.documents[:, 1:], sizes)
        for text in texts:
            add_oracle(table, draft, text, sizes)
    return table.rows()


def bayes_log_probs(models: Pair) -> Float[np.ndarray, "B N V"]:
    """Of exact Bayes along the documents, over the models' vocabulary."""
    exact = np.asarray(bayes.next_token_log_probs(models.hmm, models.documents))[:, 1:]
    return np.pad(exact, ((0, 0), (0, 0), (0, models.unused)), constant_values=-np.inf)


def add_documents(
    table: Table,
    draft: Draft,
    of_target: dict[str, Float[np.ndarray, "B N V"]],
    q: Float[np.ndarray, "B N V"],
    tokens: Int[np.ndarray, "B N"],
    sizes: Sizes,
) -> None:
    """Acceptance by the transformer and by exact Bayes, by margin, and along the documents."""
    name, seed = draft.name, draft.seed
    alphas = {(who, t): acceptance(p, q, t) for who, p in of_target.items() for t in TEMPERATURES}
    for (who, temperature), alpha in alphas.items():
        table.add("alpha", who, name, temperature, 0.0, seed=seed, values=alpha.mean(1))
    gap = alphas[TARGET, 0.0] - alphas[TARGET, 1.0]
    for who, p in of_target.items():
        for eighth, inside in enumerate(eighths(margins(p)), 1):
            seen = inside.any(1)
            values = np.where(inside, gap, 0).sum(1)[seen] / inside.sum(1)[seen]
            table.add("gap", who, name, 0.0, float(eighth), seed=seed, values=values)
    for temperature in TEMPERATURES:
        if name != BAYES:
            by_bayes = alphas[BAYES, temperature] - alphas[TARGET, temperature]
            table.add("by_bayes", BAYES, name, temperature, 0.0, seed=seed, values=by_bayes.mean(1))
            of_bayes = acceptance(of_target[TARGET], of_target[BAYES], temperature) - alphas[TARGET, temperature]
            table.add("bayes_over", TARGET, name, temperature, 0.0, seed=seed, values=of_bayes.mean(1))
    if name != BAYES:
        chances = proposed(of_target[BAYES], q, tokens)
        for lag in (lag for lag in sizes.lags if 2 * lag < chances.shape[1]):
            values = autocorrelation(chances, lag)
            table.add("correlation", BAYES, name, 1.0, float(lag), seed=seed, values=values)


def margins(log_p: Float[np.ndarray, "*B V"]) -> Float[np.ndarray, "*B"]:
    """Probability of the likeliest token less that of the second."""
    top = np.partition(softmax(log_p), -2, axis=-1)
    return top[..., -1] - top[..., -2]


def eighths(values: Float[np.ndarray, "B N"]) -> list[Bool[np.ndarray, "B N"]]:
    """The smallest eighth of all values, the next, and so on; equal values by their place."""
    order = np.argsort(values, axis=None, kind="stable")
    rank = np.empty(order.size, int)
    rank[order] = np.arange(order.size)
    return [(rank * EIGHTHS // order.size == eighth).reshape(values.shape) for eighth in range(EIGHTHS)]


def add_oracle(table: Table, draft: Draft, text: Own, sizes: Sizes) -> None:
    """What constant, adaptive and all-knowing schedules cost on the transformer's own texts."""
    chances = proposed(text.p, text.log_probs(draft), text.tokens, text.temperature)
    stands = np.random.default_rng(ACCEPTANCE_SEED).random(chances.shape) < chances
    shuffled = np.random.default_rng(ORDER_SEED).permuted(stands.ravel()).reshape(stands.shape)
    number = stands.shape[1]
    kinds = {kind: (constants(drawn), rounds(drawn, None)) for kind, drawn in (("own", stands), ("any", shuffled))}
    for cost in sizes.costs:
        best = {kind: best_constant([one.cost(cost) for one in constant]) for kind, (constant, _) in kinds.items()}
        gain = {kind: ratio_of_means(best[kind], oracle.cost(cost)) - 1 for kind, (_, oracle) in kinds.items()}
        quantities = {
            "oracle_gain": gain["own"],
            "runs_worth": gain["own"] - gain["any"],
            "best": ratio_of_means(np.full(len(stands), float(number)), best["own"]),
            "oracle": ratio_of_means(np.full(len(stands), float(number)), kinds["own"][1].cost(cost)),
        }
        for schedule in SCHEDULES:
            plan = check_plan(schedule, 5, 0.0, number)
            plan = with_costs(plan, Costs(cost, {plan.most + 1: 1.0}))
            quantities[f"{schedule}_gain"] = ratio_of_means(best["own"], rounds(stands, plan).cost(cost)) - 1
        for quantity, values in quantities.items():
            table.add(quantity, TARGET, draft.name, text.temperature, cost, seed=draft.seed, values=values)


def constants(stands: Bool[np.ndarray, "B N"]) -> list[Rounds]:
    """The rounds of every constant gamma, from none on."""
    none = Rounds(np.zeros(stands.shape, int), np.zeros(stands.shape, int))  # plain generation
    total = stands.shape[1]
    return [none, *(rounds(stands, check_plan("constant", g, 0.0, total)) for g in range(1, min(MOST, total) + 1))]


def best_constant(costs: list[Float[np.ndarray, " B"]]) -> Float[np.ndarray, " B"]:
    """Cost of each text at the gamma that costs the other half of the texts least."""
    table, best = np.array(costs), np.empty(len(costs[0]))
    for half in (0, 1):
        best[half::2] = table[table[:, 1 - half :: 2].sum(1).argmin(), half::2]
    return best


def plot(rows: pd.DataFrame) -> Figure:
    means = over_seeds(rows)
    figure, panels = plt.subplot_mosaic("AB;AC", figsize=(WIDTH, 6.2), width_ratios=(1, 1.15))
    draw_ties(panels["A"], means)
    draw_roles(panels["B"], rows, means)
    draw_oracle(panels["C"], means)
    near = pick(means, quantity="gap", target=BAYES, place=1.0)
    less = int((near.value + near.half_width < 0).sum())
    figure.suptitle(f"Near ties, {less} of {len(near)} drafts are accepted less at temperature 0 than at 1", size=11)
    return figure


def draw_ties(panel: Axes, means: pd.DataFrame) -> None:
    """What temperature 0 adds to the acceptance of each draft, by the margin of exact Bayes."""
    known, ends = colours(means.draft.unique()), []
    for name, line in pick(means, quantity="gap", target=BAYES).groupby("draft", sort=False):
        draw_line(panel, line, "place", color=known[str(name)], marker="o", ms=3, lw=1.2)
        ends.append((str(name), line.place.iloc[-1], line.value.iloc[-1], known[str(name)]))
    panel.axhline(0, color=BLACK, lw=0.8)
    panel.set(xlabel="margin of exact Bayes, by eighths\n(1: nearest to a tie)", title="by margin")
    panel.set_ylabel("acceptance at temperature 0 less that at 1")
    panel.set_xticks(range(1, EIGHTHS + 1))
    name_ends(panel, ends)


def draw_roles(panel: Axes, rows: pd.DataFrame, means: pd.DataFrame) -> None:
    """Acceptance of each draft by the transformer and by exact Bayes, at temperature 1."""
    names = [name for name in means.draft.unique() if name != BAYES]
    places = {name: place for place, name in enumerate(names[::-1])}
    for who, colour, shift in ((TARGET, BLUE, 0.13), (BAYES, BLACK, -0.13)):
        line, each = (pick(table, quantity="alpha", target=who, temperature=1.0) for table in (means, rows))
        line, each = (table[table.draft != BAYES] for table in (line, each))
        panel.plot(each.value, each.draft.map(places) + shift, ".", ms=4, color=colour, alpha=0.5)
        panel.errorbar(line.value, line.draft.map(places) + shift, xerr=line.half_width, fmt="o", color=colour, ms=4)
        top = line.iloc[0]
        panel.annotate(f"by {who}", (top.value, places[top.draft] + shift), (0, 60 * shift), textcoords="offset points",
                       size=8, color=colour, ha="center", va="center")  # fmt: skip
    panel.set_yticks([*places.values()], labels=[*places], size=8)
    panel.set(xlabel="acceptance, temperature 1", title="by target", xlim=(0, 1.02), ylim=(-0.5, len(places) - 0.2))


def draw_oracle(panel: Axes, means: pd.DataFrame) -> None:
    """What the oracle gains by draft at temperature 1, each cost a point, and the paper's number."""
    line = pick(means, quantity="oracle_gain", temperature=1.0)
    places = {name: place for place, name in enumerate(means.draft.unique()[::-1])}
    heights = line.draft.map(places) + 3 * (line.place - 0.05)
    colours_of = line.draft.map(colours(means.draft.unique()))
    for x, y, width, colour in zip(100 * line.value, heights, 100 * line.half_width, colours_of, strict=True):
        panel.errorbar(x, y, xerr=width, fmt="o", color=colour, ms=3, capsize=2)
    paper = 100 * published("assisted", what="oracle gain").value.iloc[0]
    panel.plot(paper, len(places) - 0.3, **PUBLISHED_POINT)
    panel.annotate("Leviathan et al.: up to", (paper, len(places) - 0.3), (-6, 0), textcoords="offset points", size=8,
                   color=GREY, ha="right", va="center")  # fmt: skip
    panel.set_yticks([*places.values()], labels=[*places], size=8)
    panel.set(xlabel="gain, %\n(costs of a draft's token rise upwards)", title="what an oracle $\\gamma$ gains")
    panel.set(xlim=(min(0.0, 110 * line.value.min()), None), ylim=(-0.5, len(places)))


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Near ties, exact Bayes as draft and as target, runs of acceptance, and the oracle."""
    rows = over_seeds(rows)
    return [
        *(tie_claim(rows, who) for who in (BAYES, TARGET)),
        own_claim("the transformer accepts exact Bayes more than any other draft", pick(rows, quantity="bayes_over")),
        own_claim("exact Bayes accepts drafts more than the transformer does", pick(rows, quantity="by_bayes")),
        own_claim(
            "acceptance comes in runs where exact Bayes is the target: a token's goes with the next one's",
            pick(rows, quantity="correlation", place=1.0),
        ),
        oracle_claim(pick(rows, quantity="oracle_gain")),
        own_claim("runs leave an oracle more room than independent acceptances", pick(rows, quantity="runs_worth")),
        *(
            own_claim(f"the {name} schedule is faster than the best constant", pick(rows, quantity=f"{name}_gain"))
            for name in SCHEDULES
        ),
    ]


def oracle_claim(gains: pd.DataFrame) -> Claim:
    most = published("assisted", what="oracle gain").value.iloc[0]
    return Claim(
        "what an oracle gamma gains over the best constant gamma",
        f"up to about {100 * most:.0f} % for typical costs and acceptances, in theory (Leviathan et al., section 3.5)",
        spread(gains),
        [],
    )


def spread(cells: pd.DataFrame) -> str:
    """The least and the greatest cell of each draft, and its widest interval."""
    return "; ".join(
        f"{name} {line.value.min():+.3f} to {line.value.max():+.3f} (± {line.half_width.max():.3f})"
        for name, line in cells.groupby("draft", sort=False)
    )


def own_claim(claim: str, cells: pd.DataFrame) -> Claim:
    """That every cell is above zero."""
    findings = [positive(as_estimate(row)) for _, row in cells.iterrows()]
    return Claim(claim, "no claim of a paper's", spread(cells), findings, own=True)


def tie_claim(rows: pd.DataFrame, who: str) -> Claim:
    near, clear = (pick(rows, quantity="gap", target=who, place=place) for place in (1.0, float(EIGHTHS)))
    return Claim(
        f"near ties of {who} temperature 0 accepts less than temperature 1, at clear margins more",
        "no claim of a paper's",
        f"near: {spread(near)}. Clear: {spread(clear)}",
        [no_more(as_estimate(row), 0.0) for _, row in near.iterrows()]
        + [positive(as_estimate(row)) for _, row in clear.iterrows()],
        own=True,
    )
