"""Which law predicts a larger budget? Fits to all budgets but the last, held against it (Hoffmann et al. 2022)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.claims import Claim, positive, show
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import BLACK, WIDTH
from figures.lab.tables import Table, only, over_seeds, pick, published
from figures.scaling.common import (
    ADDITIVE,
    COLOURS,
    GRID,
    OUTER,
    PLAIN,
    RESAMPLED,
    Sizes,
    add_sampled,
    as_runs,
    budgets_of,
    exact_of,
    name_sizes,
    points,
    resampled,
    up_to,
    with_attention,
)
from icl_synth.scaling import Form, Law, fit, refit

TITLE = "The largest budget, predicted by the others (Hoffmann et al. 2022)"
DIFFERS = (
    PLAIN + "Forms are fitted to all budgets but the largest and predict the losses of its runs; the paper trains one "
    "model at the budget that it predicts. Forms are additive, additive with the entropy known, and with an "
    "exponent on the sum of the two terms. The error is the mean over the held-out sizes of the absolute "
    "logarithm of predicted over measured loss above exact Bayes, where a predicted loss below Bayes counts as a "
    "thousandth of a nat above it. "
    + RESAMPLED
    + "Held-out runs are resampled with the others. Our own question: that the additive form predicts worse than "
    "the one with an outer exponent requires the first error less the second, above zero. The exponent with which "
    "the lowest loss above Bayes falls with compute, of the law with the entropy known, stands beside text's and "
    "is not judged."
)
PUBLISHED = ("scaling.csv",)
FORMS = ("parametric", "entropy known", "parametric, outer exponent")
PRESETS = presets(GRID, quick=Sizes(100), small=Sizes())


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity (measured, predicted: nats per token above Bayes; error, worse: in log; falls: exponent), form,
    parameters (with attention)."""
    table = Table("quantity", "form", "parameters")
    ends = points(models)
    *before, last = budgets_of(ends)
    fitted, held_out = up_to(ends, before[-1]), [point for point in ends if point.budget == last]
    runs, target, exact = as_runs(fitted), as_runs(held_out), exact_of(held_out)
    losses, unseen = resampled(ends, sizes.draws), np.array([point.budget == last for point in ends])
    known, errors = float(exact_of(fitted).mean()), {}
    for name, form in zip(FORMS, (ADDITIVE, Form(known), OUTER), strict=True):
        law, laws = fit(runs, form), refit(runs, losses[:, ~unseen], form)
        drawn = Law(*(part[:, None] for part in laws)).loss(target.parameters, target.tokens)
        predicted = law.loss(target.parameters, target.tokens)
        for size, place in zip(
            *np.unique(target.parameters, return_index=True), strict=True
        ):  # seeds are predicted alike
            add_sampled(table, "predicted", name, int(size), value=predicted[place] - exact[place],
                        drawn=drawn[:, place] - exact[place])  # fmt: skip
        errors[name] = error(predicted, target.loss, exact), error(drawn, losses[:, unseen], exact)
        add_sampled(table, "error", name, 0, value=float(errors[name][0]), drawn=errors[name][1])
        add_sampled(table, "falls", name, 0, value=float(falls(law)), drawn=falls(laws))
    for point in held_out:
        table.add("measured", "", with_attention(point.counts), values=np.array([point.excess]), seed=point.seed)
    (additive, of_additive), (outer, of_outer) = errors[FORMS[0]], errors[FORMS[2]]
    add_sampled(table, "worse", FORMS[0], 0, value=float(additive - outer), drawn=of_additive - of_outer)
    return table.rows()


def error(predicted: np.ndarray, measured: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Mean over sizes of |log(predicted above Bayes / measured above Bayes)|; a predicted loss below Bayes counts as a
    thousandth of a nat above it."""
    return np.abs(np.log(np.maximum(predicted - exact, 1e-3) / (measured - exact))).mean(-1)


def falls(law: Law) -> np.ndarray:
    """The exponent with which the lowest loss above E falls with compute."""
    return law.outer * law.alpha * law.beta / (law.alpha + law.beta)


def of_text(fit: str) -> float:
    """The same exponent by a published fit of text."""
    alpha, beta = (published("scaling", quantity=name, approach=fit).value.iloc[0] for name in ("alpha", "beta"))
    return float(alpha * beta / (alpha + beta))


def plot(rows: pd.DataFrame) -> Figure:
    """Measured and predicted losses of the held-out budget by size."""
    figure, panel = plt.subplots(figsize=(WIDTH, 3.8))
    summary = over_seeds(rows)
    measured = pick(summary, quantity="measured").sort_values("parameters")
    panel.plot(measured.parameters, measured.value, "o", color=BLACK, label="measured")
    colours = dict(zip(FORMS, (COLOURS[FORMS[0]], "#E69F00", COLOURS[FORMS[2]]), strict=True))
    for place, name in enumerate(FORMS):
        line = pick(summary, quantity="predicted", form=name).sort_values("parameters")
        label = {"parametric": "additive", FORMS[2]: "outer exponent"}.get(name, name)
        panel.errorbar(line.parameters * 1.02 ** (place - 1), line.value, line.half_width, fmt="s--", ms=4, capsize=2,
                       color=colours[name], label=f"predicted, {label}")  # fmt: skip
    name_sizes(panel)
    panel.set(ylabel="loss above exact Bayes, nats per token")
    panel.legend()
    misses = (
        f"{name} {missed(summary, form)}" for name, form in (("additive", FORMS[0]), ("outer exponent", FORMS[2]))
    )
    panel.set_title(f"The largest budget, predicted by the others:\n{'; '.join(misses)}", size=11)
    return figure


def missed(summary: pd.DataFrame, form: str) -> str:
    """By how much a form misses; a predicted loss below exact Bayes is no matter of per cent."""
    below = (pick(summary, quantity="predicted", form=form).value < 0).mean()
    if below:
        return f"below exact Bayes at {100 * below:.0f} % of sizes"
    return f"off by {100 * np.expm1(only(summary, quantity='error', form=form).mean):.0f} %"


def claims(rows: pd.DataFrame) -> list[Claim]:
    """An outer exponent predicts better."""
    rows = over_seeds(rows)
    worse, slope = only(rows, quantity="worse"), only(rows, quantity="falls", form=FORMS[1])
    errors = "; ".join(f"{name}: {show(only(rows, quantity='error', form=name), 2)}" for name in FORMS)
    return [
        Claim(
            "the additive form predicts the largest budget worse than one with an outer exponent",
            "only the additive form is fitted (Hoffmann et al. 2022)",
            f"error in log of the loss above Bayes {errors}; the first less the last {show(worse, 2)}",
            [positive(worse)],
            own=True,
        ),
        Claim(
            "the lowest loss above Bayes falls with compute as fast as text's",
            f"C^-{of_text('published'):.3f} by the published fit, C^-{of_text('refit'):.3f} by the refit",
            f"C^-({show(slope, 2)})",
            [],
        ),
    ]
