"""From one concept to one for every document: where does learning in context begin? Beyond Xie et al. 2022."""

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.claims import Claim, judged
from figures.pruning import draw_line, pick
from figures.recipes import Recipe, Trained, Wanted, trained
from icl_synth import bayes, checkpoints
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.documents import sample_documents
from icl_synth.evaluate import answers, estimate, examples_that_fit, token_losses
from icl_synth.prompts import sample_prompts

TITLE = (
    "In-context learning by the number of concepts in training, on concepts seen and unseen (beyond Xie et al. 2022)"
)
DIFFERS = (
    "The paper has five concepts. Here the same transformer (in `small` 0.3 M parameters, four million tokens) is "
    "trained on random worlds of one to 16,384 concepts, three worlds of each; of the most, hardly two of its 16,000 "
    "training documents share a concept. Tokens and entity moves of a world are the same for all numbers, only the "
    "concepts differ, so that all are asked the same documents and prompts of concepts that none has seen: 1,024 held "
    "back from the largest world. The reference on documents is exact Bayes over the concepts that the documents come "
    "from: the model's own on seen ones, those 1,024 on unseen ones. A thousand concepts can cost a predictor log C / "
    "256 = .03 nats a token to tell apart. Intervals are over worlds (with their training seeds) and documents or "
    "prompts. No claim here is a paper's: *holds* where intervals are apart, *partly* where only means are."
)
PUBLISHED = ()
DOCUMENT_SEED, PROMPT_SEED, SHARE_OF_PROMPTS = 1119, 1120, 0.2
LENGTHS = (5, 10)  # of examples
UNSEEN, BUDGET = 1024, 2**19  # held-out concepts; documents times concepts that exact Bayes is asked about
COLOURS = {"seen": "#0072B2", "unseen": "#D55E00"}


def wanted(recipe: Recipe) -> Wanted:
    return recipe.concepts


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: concepts, of (seen, unseen), quantity, example_length, num_examples, value, half_width (95 %).

    Quantities: excess (nats a token over exact Bayes), accuracy (%, for no examples and the most that fit), and gain,
    their difference (points, paired over worlds).
    """
    models = trained(wanted(recipe))
    largest: dict[int, Trained] = {}
    for one in sorted(models, key=lambda one: one.config.data.concepts):
        largest[one.config.data.world_seed] = one
    found: dict[tuple, list[np.ndarray]] = {}
    number = max(2, round(SHARE_OF_PROMPTS * recipe.prompts))
    for one in tqdm(models, desc="concepts", unit="model"):
        data = one.config.data
        seed = data.world_seed
        worlds = {"seen": data.build()[0], "unseen": unseen(largest[seed])}
        for of, hmm in worlds.items():
            who = (data.concepts, of)
            key = jax.random.fold_in(jax.random.key(DOCUMENT_SEED), seed)
            count = max(2, min(recipe.documents, BUDGET // hmm.num_concepts))
            tokens, _ = sample_documents(hmm, key, count, data.length)
            found.setdefault((*who, "excess", 0, 0), []).append(excess(one, hmm, np.asarray(tokens)))
            for k in LENGTHS:
                ends = examples_that_fit(one.config.model.context, k)
                right = {}
                for n in (ends[0], ends[-1]):
                    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(PROMPT_SEED), seed), 100 * k + n)
                    prompts = sample_prompts(hmm, key, number, n, k)
                    right[n] = 100.0 * (answers(one.model, prompts) == np.asarray(prompts.labels))
                    found.setdefault((*who, "accuracy", k, n), []).append(right[n])
                found.setdefault((*who, "gain", k, ends[-1]), []).append(right[ends[-1]] - right[ends[0]])
    rows = [(*cell, *estimate(np.stack(values))) for cell, values in found.items()]
    columns = ["concepts", "of", "quantity", "example_length", "num_examples", "value", "half_width"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["models"] = [one.record() for one in models]
    return table


def unseen(one: Trained) -> ConceptHMM:
    """Concepts that the largest world of a seed holds back; the smaller worlds of that seed draw others."""
    held_out = one.config.data.build()[1]
    return held_out.select(slice(min(UNSEEN, held_out.num_concepts)))


def excess(one: Trained, hmm: ConceptHMM, tokens: np.ndarray) -> np.ndarray:
    exact = -np.asarray(bayes.token_log_likelihoods(hmm, tokens))[:, 1:]
    return (token_losses(*checkpoints.split(one.model), tokens) - exact).mean(-1)


def plot(rows: pd.DataFrame) -> Figure:
    figure, (left, *panels) = plt.subplots(1, 1 + len(LENGTHS), figsize=(12, 4.2))
    for of, colour in COLOURS.items():
        line = pick(rows, of=of, quantity="excess")
        draw_line(left, line, "concepts", color=colour, marker="o", label=f"concepts {of} in training")
        for panel, k in zip(panels, LENGTHS, strict=True):
            several = pick(rows, of=of, quantity="accuracy", example_length=k)
            most = several.num_examples.max()
            for n, style in ((0, {"ls": ":", "mfc": "white"}), (most, {"ls": "-"})):
                draw_line(panel, pick(several, num_examples=n), "concepts", color=colour, marker="o", **style)
            panel.set(title=f"k = {k}: {most} examples (full), none (open)", ylim=(0, 102), ylabel="accuracy, %")
    left.set(title="documents", ylabel="loss above exact Bayes, nats a token", yscale="log")
    for panel in (left, *panels):
        panel.set(xscale="log", xlabel="concepts in training")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """A single concept teaches nothing of others, many concepts teach to infer a new one, and from how many on."""
    numbers = sorted(rows.concepts.unique())
    table = []
    for k in LENGTHS:
        gains = pick(rows, of="unseen", quantity="gain", example_length=k).set_index("concepts")
        accuracy = pick(rows, of="unseen", quantity="accuracy", example_length=k, num_examples=gains.num_examples.max())
        first, last = gains.loc[numbers[0]], gains.loc[numbers[-1]]
        table.append(
            Claim(
                f"k = {k}: from {numbers[0]} to {numbers[-1]:,} concepts examples come to teach an unseen one",
                "no claim of a paper's; five concepts seen, unseen 9.0 to 12.5 % (Fig. 4)",
                f"gain {first.value:+.1f} ± {first.half_width:.1f} → {last.value:+.1f} ± {last.half_width:.1f} points, "
                f"accuracy {accuracy.value.iloc[0]:.1f} → {accuracy.value.iloc[-1]:.1f} %",
                judged(
                    last.value - last.half_width > first.value + first.half_width and last.value > last.half_width,
                    last.value > first.value,
                ),
            )
        )
        begins = [c for c in numbers if gains.loc[c].value > gains.loc[c].half_width]
        table.append(
            Claim(
                f"k = {k}: examples help with an unseen concept from a number of concepts on",
                "no claim of a paper's",
                f"gain above zero for {', '.join(f'{c:,}' for c in begins) or 'none'} of "
                f"{', '.join(f'{c:,}' for c in numbers)} concepts",
                judged(bool(begins) and begins == [c for c in numbers if c >= begins[0]], bool(begins)),
            )
        )
    seen, new = (pick(rows, of=of, quantity="excess").set_index("concepts") for of in COLOURS)
    gaps = new.value - seen.value
    apart = np.hypot(new.half_width, seen.half_width)
    close = [c for c in numbers if gaps[c] <= apart[c]]
    table.append(
        Claim(
            "the loss on documents of unseen concepts reaches that on seen ones",
            "no claim of a paper's",
            f"{gaps[numbers[0]]:+.3f} ± {apart[numbers[0]]:.3f} → {gaps[numbers[-1]]:+.3f} ± {apart[numbers[-1]]:.3f} "
            f"nats a token apart; within the interval for {', '.join(f'{c:,}' for c in close) or 'none'}",
            judged(bool(close), gaps[numbers[-1]] < gaps[numbers[0]]),
        )
    )
    return table
