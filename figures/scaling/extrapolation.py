"""Which law predicts a larger budget? Fits to all budgets but the last, held against it (Hoffmann et al. 2022)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.lab.claims import Claim
from figures.lab.presets import presets
from figures.lab.runs import Models
from figures.lab.style import BLACK, WIDTH
from figures.lab.tables import Table, over_seeds, pick, published
from figures.scaling.common import (
    ADDITIVE,
    COLOURS,
    GRID,
    OUTER,
    PLAIN,
    RESAMPLED,
    SAMPLE_SEED,
    Sizes,
    add_sampled,
    as_runs,
    budgets_of,
    exact_of,
    name_sizes,
    points,
    sided,
    up_to,
    with_attention,
    within,
)
from icl_synth.scaling import Form, Law, bootstrap, draw_at_budgets, fit

TITLE = "The largest budget, predicted by the others (Hoffmann et al. 2022)"
DIFFERS = (
    PLAIN + "Forms are fitted to all budgets but the largest and predict the losses of its runs; the paper trains one "
    "model at the budget that it predicts. Forms are additive with E fitted, additive with the entropy known, and with "
    "an exponent on the sum of the two terms and E fitted. The error is the mean over the held-out runs of the "
    "absolute difference of the predicted from the measured loss, in nats per token. "
    + RESAMPLED
    + "Held-out runs are not resampled. Our own question: that the additive form with E fitted predicts worse than "
    "the one with an outer exponent requires the first error less the second to be above zero, over the same samples. "
    "The exponent with which the lowest loss above E falls with compute, by each form, stands beside text's and "
    "is not judged."
)
PUBLISHED = ("scaling.csv",)
FORMS = ("parametric", "entropy known", "parametric, outer exponent")
LABELS = dict(zip(FORMS, ("additive", "entropy known", "outer exponent"), strict=True))
PRESETS = presets(GRID, quick=Sizes(100), small=Sizes())


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: quantity (measured, predicted: nats per token above Bayes; error, worse: nats per token; falls: exponent;
    and ends of intervals), form, parameters (with attention)."""
    table = Table("quantity", "form", "parameters")
    ends = points(models)
    *before, last = budgets_of(ends)
    fitted, held_out = up_to(ends, before[-1]), [point for point in ends if point.budget == last]
    runs, target, exact = as_runs(fitted), as_runs(held_out), exact_of(held_out)
    drawn_runs, errors = draw_at_budgets(runs, sizes.draws, SAMPLE_SEED), {}
    known = Form(float(exact_of(fitted).mean()))
    for name, form in zip(FORMS, (ADDITIVE, known, OUTER), strict=True):
        law, laws = fit(runs, form), bootstrap(runs, drawn_runs, form)
        drawn = Law(*(part[:, None] for part in laws)).loss(target.parameters, target.tokens)
        predicted = law.loss(target.parameters, target.tokens)
        for size, place in zip(
            *np.unique(target.parameters, return_index=True), strict=True
        ):  # seeds are predicted alike
            add_sampled(table, "predicted", name, int(size), value=predicted[place] - exact[place],
                        drawn=drawn[:, place] - exact[place])  # fmt: skip
        errors[name] = [np.abs(losses - target.loss).mean(-1) for losses in (predicted, drawn)]
        add_sampled(table, "error", name, 0, value=float(errors[name][0]), drawn=errors[name][1])
        add_sampled(table, "falls", name, 0, value=float(falls(law)), drawn=falls(laws))
    for point in held_out:
        table.add("measured", "", with_attention(point.counts), values=np.array([point.excess]), seed=point.seed)
    (additive, of_additive), (outer, of_outer) = errors[FORMS[0]], errors[FORMS[2]]
    add_sampled(table, "worse", FORMS[0], 0, value=float(additive - outer), drawn=of_additive - of_outer)
    return table.rows()


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
        held_out = sorted({*pick(rows, quantity="predicted").parameters})
        line = [sided(summary, "predicted", form=name, parameters=size) for size in held_out]
        reach = np.concatenate([np.array(loss.reach) for loss in line], axis=1)
        panel.errorbar(np.array(held_out) * 1.02 ** (place - 1), [loss.value for loss in line], reach, fmt="s--", ms=4,
                       capsize=2, color=colours[name], label=f"predicted, {LABELS[name]}")  # fmt: skip
    name_sizes(panel)
    panel.set(ylabel="loss above exact Bayes, nats per token")
    panel.legend()
    said = ", ".join(f"{LABELS[name]} {sided(summary, 'error', form=name).value:.3f}" for name in FORMS)
    panel.set_title(f"Error at the largest budget, nats per token:\n{said}", size=11)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """An outer exponent predicts better."""
    rows = over_seeds(rows)
    worse = sided(rows, "worse", form=FORMS[0])
    errors, slopes = (
        "; ".join(f"{LABELS[name]} {sided(rows, quantity, form=name).show(digits)}" for name in FORMS)
        for quantity, digits in (("error", 4), ("falls", 2))
    )
    return [
        Claim(
            "the additive form, E fitted, predicts the largest budget worse than one with an outer exponent",
            "only the additive form is fitted (Hoffmann et al. 2022)",
            f"error in nats per token: {errors}; the first less the last {worse.show(4)}",
            [within(worse, 0, np.inf)],
            own=True,
        ),
        Claim(
            "the lowest loss above E falls with compute as fast as text's",
            f"C^-{of_text('published'):.3f} by the published fit, C^-{of_text('refit'):.3f} by the refit",
            f"the exponent, with its sign changed: {slopes}",
            [],
        ),
    ]
