"""Tokens saved by synthetic documents, and the context gain at equal loss: the registered primary outcomes."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import stdtrit
from tqdm import tqdm

from figures.lab.claims import Claim, Finding, Registered, at_least, near_zero, positive, scaled, show
from figures.lab.presets import presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLACK, GREY, PUBLISHED_POINT, WIDTH, name_ends
from figures.lab.tables import Table, only, over_seeds, pick, published
from figures.transfer import common
from figures.transfer.common import (
    ARMS,
    MANY,
    MORE,
    ONE,
    RANDOM,
    REGISTERED,
    Windows,
    context_gain,
    curve,
    enough,
    gain,
    kept,
    losses,
    saved,
    windows,
)
from icl_synth.estimates import Estimate

TITLE = "Synthetic documents first, real text after: tokens saved, and the use of context"
DIFFERS = (
    f"{REGISTERED}The studies beside it train models of 8 M to 1.6 B parameters on web text and code; ours has 0.3 M "
    "and reads characters of Shakespeare. Three outcomes are primary and corrected together: what `many` saves of the "
    "characters that `random` needs to reach its final loss on the validation works; that saving minus the saving of "
    "`one`; and "
    "what a work's own earlier text saves `many` at the loss that `random` ends with, less what it saves `random`. "
    "Each is also asked for no effect: the 90 % interval within 5 % of the characters, or within 0.01 nats. A run "
    "that never falls to that loss is scored at its end; the others are counted. `many` is then read before its rate "
    "has decayed, `random` after: what the same reading of `more` says, which differs from `random` in its schedule "
    "and in more text alone, stands beside. An arm that never reaches a loss is extended as registered, at most to "
    "twice its tokens. Hu et al. count the formal tokens in their saving of a "
    "third; so does the claim about brackets, and the "
    "saving over `more`. With fewer than four seeds nothing follows."
)
PUBLISHED = ("transfer.csv",)
lacks = common.lacks
ALIKE_TOKENS, ALIKE_NATS = 0.05, 0.01
SAVED, GAIN = "saved", "gain at equal loss"
PRIMARY, SECONDARY, NONE_SUCH = "primary", "secondary", "no number at this size"


class Sizes(NamedTuple):
    windows: int  # of the test works
    seeds: int  # without which nothing is computed: no look before


PRESETS = presets(common.SUITES, quick=Sizes(64, 1), small=Sizes(512, 6))


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: arm, quantity, tokens; a value for each seed.

    Quantities: validation loss (by tokens, nats per character), saved (share of random's characters), saved more
    (by many than by the arm; by many than by more with the first stage counted), test loss (nats per character), test
    loss above random, context gain (at the end, nats per character), gain at equal loss (of many and more, above
    random's) and fell so low (1 where that loss was reached). Raises ValueError for fewer seeds than registered.
    """
    table = Table("arm", "quantity", "tokens")
    seeds = common.all_seeds(models, sizes.seeds)
    chosen = windows(seeds[0][RANDOM], sizes.windows)
    for runs in tqdm(seeds, desc="seeds", unit="seed"):
        add_savings(table, runs)
        add_losses(table, runs, chosen)
    return table.rows()


def add_savings(table: Table, runs: dict[str, Run]) -> None:
    """Learning curves of one seed, and the shares that arms save."""
    seed, curves = runs[RANDOM].seed, {arm: curve(run) for arm, run in runs.items()}
    for arm, line in curves.items():
        for tokens, loss in zip(line.tokens, line.loss, strict=True):
            table.add(arm, "validation loss", tokens, seed=seed, values=np.array([loss]))
    shares = {arm: saved(curves[arm], curves[RANDOM]) for arm in ARMS if arm not in (RANDOM, MORE)}
    for arm, share in shares.items():
        table.add(arm, SAVED, 0.0, seed=seed, values=np.array([share]))
        if arm != MANY:
            table.add(arm, "saved more", 0.0, seed=seed, values=np.array([shares[MANY] - share]))
    first = float(curves[MORE].tokens[-1] - curves[RANDOM].tokens[-1])  # what the others read before
    over_more = saved(curves[MANY], curves[MORE], before=first)
    table.add(MORE, "saved more", 0.0, seed=seed, values=np.array([over_more]))
    in_all = saved(curves["dyck"], curves[RANDOM], before=first)
    table.add("dyck", "saved in all", 0.0, seed=seed, values=np.array([in_all]))


def add_losses(table: Table, runs: dict[str, Run], chosen: Windows) -> None:
    """Loss on the test works and context gain of one seed, at the end; and many's gain where its loss is random's."""
    seed = runs[RANDOM].seed
    read = {arm: [losses(run.model, sequences) for sequences in chosen] for arm, run in runs.items()}
    gains, of_random = {arm: gain(*both) for arm, both in read.items()}, read[RANDOM][0].mean(-1)
    for arm, (own, _) in read.items():
        table.add(arm, "test loss", 0.0, seed=seed, values=own.mean(-1))
        table.add(arm, "context gain", 0.0, seed=seed, values=gains[arm])
        if arm != RANDOM:
            above = np.array([(own.mean(-1) - of_random).mean()])
            table.add(arm, "test loss above random", 0.0, seed=seed, values=above)
    reached = float(curve(runs[RANDOM]).loss[-1])
    for arm in (MANY, MORE):
        equal, fell = gain_at_equal_loss(runs[arm], reached, chosen, gains[arm])
        table.add(arm, GAIN, 0.0, seed=seed, values=np.array([(equal - gains[RANDOM]).mean()]))
        table.add(arm, "fell so low", 0.0, seed=seed, values=np.array([float(fell)]))


def gain_at_equal_loss(
    run: Run, reached: float, chosen: Windows, at_end: Float[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, " N"], bool]:
    """The context gain where a run's validation loss falls to `reached`, linear between the first two models that
    stayed and enclose it; at the end of a run that never falls so low. And whether it does."""
    losses_at = {line["step"]: line["loss"] for line in run.metrics}
    stayed = [(losses_at[step], read) for step, read in kept(run)]
    later = next((place for place, (loss, _) in enumerate(stayed) if loss <= reached), None)
    if later is None:
        return at_end, False
    low, second = stayed[later]
    if later == 0:
        return context_gain(second(), chosen), True
    high, first = stayed[later - 1]
    share = (high - reached) / (high - low)
    return (1 - share) * context_gain(first(), chosen) + share * context_gain(second(), chosen), True


def plot(rows: pd.DataFrame) -> Figure:
    means = over_seeds(rows)
    figure, (curves, savings) = plt.subplots(1, 2, figsize=(WIDTH, 4.4), width_ratios=(1.2, 1))
    draw_curves(curves, means)
    draw_savings(savings, rows, means)
    share, more = (only(means, arm=MANY, quantity=quantity) for quantity in (SAVED, GAIN))
    figure.suptitle(f"Many concepts first: {100 * share.mean:.0f} ± {100 * share.half_width:.0f} % of the characters "
                    f"saved;\nat equal loss the context gains {more.mean:+.3f} ± {more.half_width:.3f} nats per "
                    "character more", size=11)  # fmt: skip
    return figure


def draw_curves(panel: Axes, means: pd.DataFrame) -> None:
    """Validation loss of each arm above random's at the same tokens."""
    lines = pick(means, quantity="validation loss")
    reference = pick(lines, arm=RANDOM).set_index("tokens").value
    panel.axhline(0, color=BLACK, lw=0.8)
    ends = []
    for arm, (colour, name) in ARMS.items():
        line = pick(lines, arm=arm).set_index("tokens")
        line = line[line.index.isin(reference.index)]
        if arm not in (RANDOM, MORE):
            above = line.value - reference[line.index]
            panel.plot(above.index / 1e6, above, color=colour, lw=1.2)
            ends.append((name, above.index[-1] / 1e6, above.iloc[-1], colour))
    panel.set(
        xlabel="million characters read", ylabel="loss above that without synthetic documents,\nnats per character"
    )
    panel.set_xlim(0, 1.02 * reference.index[-1] / 1e6)
    low = min(end[2] for end in ends)
    panel.set_ylim(min(2 * low, -0.02), max(0.06, 3 * abs(low)))
    name_ends(panel, ends)


def draw_savings(panel: Axes, rows: pd.DataFrame, means: pd.DataFrame) -> None:
    """What each arm saves, seeds as dots, beside the literature's numbers."""
    shares, seeds = pick(means, quantity=SAVED), pick(rows, quantity=SAVED)
    theirs = published("transfer", what=SAVED)
    names = [*shares.arm, *theirs.index]
    panel.axvline(0, color=BLACK, lw=0.8)
    for place, row in enumerate(shares.to_dict("records")):
        colour, _ = ARMS[row["arm"]]
        dots = 100 * pick(seeds, arm=row["arm"]).value
        panel.plot(dots, np.full(len(dots), -place - 0.2), ".", ms=4, color=colour, alpha=0.5)
        panel.errorbar(100 * row["value"], -place, xerr=100 * row["half_width"], color=colour, marker="o", capsize=2)
    for place, row in enumerate(theirs.to_dict("records"), len(shares)):
        panel.plot(100 * row["value"], -place, **PUBLISHED_POINT)
    labels = [ARMS[arm][1] for arm in shares.arm]
    labels += [
        f"{row['study'].split(' et')[0]} et al.: {row['setting'].split(', ')[-1]}" for row in theirs.to_dict("records")
    ]
    panel.set_yticks([-place for place in range(len(names))], labels, size=7)
    for label in panel.get_yticklabels()[len(shares) :]:
        label.set_color(GREY)
    panel.set_xlabel("tokens saved to the same loss, %")


def claims(rows: pd.DataFrame) -> list[Claim]:
    """The primary outcomes, for an effect and for none; the other arms' savings and losses; Hu et al.'s third."""
    number, means = rows.seed.nunique() if "seed" in rows else 0, over_seeds(rows)
    outcomes = {
        "many concepts first save characters": (only(means, arm=MANY, quantity=SAVED), ALIKE_TOKENS, 100.0, "%"),
        "many concepts save more than one": (
            only(means, arm=ONE, quantity="saved more"), ALIKE_TOKENS, 100.0, "points"
        ),
        "many concepts raise the context gain at equal loss": (
            only(means, arm=MANY, quantity=GAIN), ALIKE_NATS, 1.0, "nats per character"
        ),
    }  # fmt: skip
    table: list[Claim] = [third_claim(means, number)]
    for claim, (value, margin, scale, unit) in outcomes.items():
        ours = shown(value, scale, unit)
        table.append(Registered(f"{claim} (primary)", NONE_SUCH, ours, [enough(number, positive(value))],
                                family=PRIMARY))  # fmt: skip
        table.append(Registered(f"{claim}: no effect, within {scale * margin:g} {unit}", NONE_SUCH, ours,
                                [enough(number, no_effect(value, margin))]))  # fmt: skip
    table.append(schedule_claim(rows, means))
    table += [saving_claim(means, arm, number) for arm in ARMS if arm not in (RANDOM, MANY, ONE)]
    return [*table, *(loss_claim(means, arm, number) for arm in ARMS if arm != RANDOM)]


def shown(value: Estimate, scale: float, unit: str) -> str:
    return f"{show(scaled(value, scale), 1 if scale > 1 else 4)} {unit}"


def no_effect(value: Estimate, margin: float) -> Finding:
    """That a number's 90 % interval lies within the margin on either side of zero: two one-sided tests at 5 %."""
    narrower = stdtrit(value.df, 0.95) / stdtrit(value.df, 0.975)
    return near_zero(value._replace(half_width=narrower * value.half_width), margin)


def third_claim(means: pd.DataFrame, number: int) -> Claim:
    theirs = published("transfer", what=SAVED, study="Hu et al. 2025").iloc[0]
    share = only(means, arm="dyck", quantity="saved in all")
    return Claim(
        f"brackets first save {100 * theirs.value:.0f} % of all tokens, brackets counted",
        f"{100 * theirs.value:.0f} % ({theirs.setting}; Hu et al. 2025)",
        shown(share, 100.0, "%"),
        [enough(number, at_least(share, float(theirs.value)))],
    )


def schedule_claim(rows: pd.DataFrame, means: pd.DataFrame) -> Claim:
    """What the schedule alone does to the third outcome, and how many runs were asked at their end."""
    alone, seeds = only(means, arm=MORE, quantity=GAIN), rows.seed.nunique() if "seed" in rows else 0
    counts = (f"{arm} in {only(means, arm=arm, quantity='fell so low').mean * seeds:.0f}" for arm in (MANY, MORE))
    return Registered(
        "the context gain at equal loss of more text, which has no synthetic documents",
        NONE_SUCH,
        f"{show(alone, 4)} nats per character; of {seeds} seeds fell so low: {', '.join(counts)}",
        [],
    )


def saving_claim(means: pd.DataFrame, arm: str, number: int) -> Claim:
    more = only(means, arm=arm, quantity="saved more")
    counted = ", the first stage's tokens counted" if arm == MORE else ""
    return Registered(
        f"many concepts save more than: {ARMS[arm][1]}{counted} (secondary)",
        NONE_SUCH,
        shown(more, 100.0, "points"),
        [enough(number, positive(more))],
        family=SECONDARY,
    )


def loss_claim(means: pd.DataFrame, arm: str, number: int) -> Claim:
    above = only(means, arm=arm, quantity="test loss above random")
    return Registered(
        f"{ARMS[arm][1]}{'' if arm == MORE else ' first'}: a lower final loss on the test works (secondary)",
        "perplexity 14.66 → 13.82, 0.059 nats (automata first, Lee et al. 2026)" if arm == MANY else NONE_SUCH,
        f"{show(above, 4)} nats per character above random",
        [enough(number, positive(scaled(above, -1)))],
        family=SECONDARY,
    )
