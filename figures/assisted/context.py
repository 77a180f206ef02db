"""Does learning in context make the draft better? Acceptance by example of a prompt, and by temperature."""

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from decoding.drafts import PromptLookup
from decoding.readers import BayesReader, as_reader
from figures import decoding
from figures.claims import Claim, judged, no_more
from figures.decoding import COLOURS, PAPER, acceptance, log_probs, ngrams, pair, published
from figures.recipes import Recipe, Wanted, trained
from icl_synth.evaluate import Estimate, estimate
from icl_synth.prompts import sample_prompts

TITLE = "Acceptance as a prompt reveals its concept, and by temperature"
DIFFERS = (
    "No claim of a paper's: a draft that learns in context should guess the target better with every example; a table "
    "of n-grams, which knows no concept, is the control. Prompts hold examples of ten tokens (k = 10); a point is the "
    "mean over an example's tokens and over prompts, the delimiter left out, at temperature 1, where acceptance is "
    "exactly the sum of min(p, q). Exact Bayes reads prompts as documents, with smoothing .001, since spliced "
    "examples are impossible otherwise. The target is the largest transformer. *Holds* where acceptance in the last "
    "example is above the first's by more than the interval of their paired difference, *partly* where only the mean "
    "is; of the control it is claimed that it does not grow: its whole interval must lie at zero or below. The right "
    "panel reads held-back documents; the paper's "
    "models are T5 on text, where temperature 0 accepts more than temperature 1."
)
PUBLISHED = decoding.PUBLISHED
PROMPT_SEED, EXAMPLE, SMOOTHING = 53, 10, 1e-3
CONTROL = "trigrams"
TEMPERATURES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def wanted(recipe: Recipe) -> Wanted:
    return decoding.wanted(recipe)


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: quantity, draft, place, value, half_width (95 % over prompts or documents).

    Quantities: by_example (acceptance, place = examples before), gain (last example's minus first's, paired),
    by_temperature (place = temperature).
    """
    models = trained(wanted(recipe))
    found = pair(models, recipe)
    vocabulary = found.hmm.vocab_size
    drafts = {one.name: as_reader(one.model) for one in models[:-1]}
    drafts |= {
        "exact Bayes": BayesReader(found.hmm, SMOOTHING),
        CONTROL: ngrams(found, 3),
        "prompt lookup": PromptLookup(found.target.model.config.vocab_size),
    }
    target = as_reader(found.target.model)
    examples = (found.target.config.model.context - EXAMPLE + 1) // (EXAMPLE + 1)
    number = max(2, recipe.prompts // 5)
    prompts = np.asarray(sample_prompts(found.hmm, jax.random.key(PROMPT_SEED), number, examples, EXAMPLE).tokens)
    inside = log_probs(target, prompts)[..., :vocabulary]
    outside = log_probs(target, found.documents)[..., :vocabulary]
    rows: list[tuple[str, str, float, float, float]] = []
    for name, draft in drafts.items():
        alpha = acceptance(inside, log_probs(draft, prompts)[..., :vocabulary])
        # position t predicts token t + 1: within an example the first token's prediction to its last but one's
        whole = alpha[:, : examples * (EXAMPLE + 1)].reshape(number, examples, EXAMPLE + 1)[:, :, : EXAMPLE - 1].mean(2)
        for before in range(examples):
            rows.append(("by_example", name, before, *estimate(whole[:, before])))
        rows.append(("gain", name, 0, *estimate(whole[:, -1] - whole[:, 0])))
        q = log_probs(draft, found.documents)[..., :vocabulary]
        for temperature in TEMPERATURES:
            rows.append(("by_temperature", name, temperature, *estimate(acceptance(outside, q, temperature).mean(1))))
    table = pd.DataFrame(rows, columns=["quantity", "draft", "place", "value", "half_width"])
    table.attrs["models"] = [one.record() for one in models]
    return table


def plot(rows: pd.DataFrame) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8))
    for panel, quantity in ((left, "by_example"), (right, "by_temperature")):
        lines = rows[rows.quantity == quantity].groupby("draft", sort=False)
        for (name, line), colour, marker in zip(lines, (*COLOURS, "#777777"), "osD^vP*X", strict=False):
            panel.plot(line.place, line.value, color=colour, marker=marker, ms=4, label=name)
            low, high = line.value - line.half_width, line.value + line.half_width
            panel.fill_between(line.place, low, high, color=colour, alpha=0.2, lw=0)
        panel.set_ylabel("acceptance")
    table = published()
    table = table[(table.what == "speedup") & table.setting.str.contains("temperature")]
    for task, line in table.groupby(table.setting.str.split(",").str[0]):
        where = line.setting.str[-1].astype(float)
        right.plot(where, line.alpha, **(PAPER | {"ls": "--", "marker": "s" if task == "translation" else "o"}),
                   label=f"paper, T5 {task}")  # fmt: skip
    left.set(xlabel="examples before, k = 10", title="inside a prompt, temperature 1")
    right.set(xlabel="temperature", title="documents")
    figure.legend(*right.get_legend_handles_labels(), title="drafts for the largest transformer",
                  loc="outside right center")  # fmt: skip
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """What examples add to each draft, and what temperature takes."""
    table = []
    for line in rows[rows.quantity == "gain"].to_dict("records"):
        control = line["draft"] == CONTROL
        curve = rows[(rows.quantity == "by_example") & (rows.draft == line["draft"])].set_index("place").value
        table.append(
            Claim(
                f"{line['draft']}: acceptance {'does not grow (control)' if control else 'grows'} as a prompt reveals "
                "its concept",
                "no claim of a paper's",
                f"{curve.iloc[0]:.3f} → {curve.iloc[-1]:.3f} over {len(curve)} examples, "
                f"by {line['value']:.3f} ± {line['half_width']:.3f}",
                no_more(Estimate(line["value"], line["half_width"]), 0.0)
                if control
                else judged(line["value"] - line["half_width"] > 0, line["value"] > 0),
            )
        )
    name = rows.draft.iloc[0]
    curve = rows[(rows.quantity == "by_temperature") & (rows.draft == name)].set_index("place")
    cold, warm = curve.loc[0.0], curve.loc[1.0]
    table.append(
        Claim(
            f"{name}: temperature 0 accepts more than temperature 1",
            ".75 against .62 (translation), .65 against .53 (summarisation; Leviathan et al., Table 2)",
            f"{cold.value:.3f} ± {cold.half_width:.3f} against {warm.value:.3f} ± {warm.half_width:.3f}",
            judged(cold.value - cold.half_width > warm.value + warm.half_width, cold.value > warm.value),
        )
    )
    return table
