"""From one concept to about one a document: where does learning in context begin? Beyond Xie et al. 2022."""

from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int, Key
from matplotlib.figure import Figure
from tqdm import tqdm

from figures.claims import Claim, above, judged
from figures.pruning import draw_line, pick
from figures.recipes import Recipe, Trained, Wanted, trained
from icl_synth import bayes, checkpoints
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.documents import sample_documents
from icl_synth.evaluate import Estimate, answers, estimate, examples_that_fit, token_losses
from icl_synth.prompts import Prompts, sample_prompts

TITLE = (
    "In-context learning by the number of concepts in training, on concepts seen and unseen (beyond Xie et al. 2022)"
)
DIFFERS = (
    "The paper has five concepts. Here the same transformer (in `small` 0.3 M parameters, four million tokens, 16,000 "
    "documents) is trained on random worlds of one to 16,384 concepts, three worlds of each; of the most, a concept "
    "has one training document on average and 38 % of them none, so that its own concepts are hardly more seen than "
    "others. Tokens and entity moves of a world are the same for all numbers and its concepts are nested, the smaller "
    "world's being the first of the larger's; all models of a world are asked the same documents and prompts of "
    "concepts that none has seen: 1,024 held back from the largest. The reference on documents is exact Bayes told "
    "the list of concepts that the documents come from. Of unseen concepts no model can know that list, so even an "
    "ideal learner, which has to infer a new matrix of moves from one document, stays above this reference; by how "
    "much is not computed. Exact Bayes over 16,384 concepts is asked of 32 documents a world, over 1,024 of 128, over "
    "fewer of 512. "
    "Intervals are over worlds (with their training seeds) and documents or prompts. No claim here is a paper's. Of "
    "gains, *holds* where intervals are apart, *partly* where only means are; the two losses are called equal where "
    "their difference, paired over worlds, is below .02 nats with its interval (*holds*) or without (*partly*)."
)
PUBLISHED = ()
DOCUMENT_SEED, PROMPT_SEED, SHARE_OF_PROMPTS = 1119, 1120, 0.2
LENGTHS = (5, 10)  # of examples
UNSEEN, BUDGET, FEWEST = 1024, 2**17, 32  # held-out concepts; documents times concepts that exact Bayes is asked about
COLOURS = {"own": "#0072B2", "unseen": "#D55E00"}
NAMES = {"own": "concepts of the training world", "unseen": "concepts that no training had"}
EQUAL = 0.02  # nats a token


def wanted(recipe: Recipe) -> Wanted:
    return recipe.concepts


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: concepts, of (own, unseen), quantity, example_length, num_examples, value, half_width (95 %).

    Quantities: excess (nats a token over exact Bayes), accuracy (%, for no examples and the most that fit), gain,
    their difference (points), and gap: excess on unseen concepts minus that on its own, paired over worlds.
    """
    models = sorted(trained(wanted(recipe)), key=lambda one: one.config.data.concepts)
    largest = {one.config.data.world_seed: one for one in models}
    number = max(2, round(SHARE_OF_PROMPTS * recipe.prompts))
    new = {seed: asked(unseen(one), one, recipe.documents, number) for seed, one in largest.items()}
    found: dict[tuple, list[np.ndarray]] = {}
    for one in tqdm(models, desc="concepts", unit="model"):
        data = one.config.data
        own = asked(data.build()[0], one, recipe.documents, number)
        losses = {}
        for of, questions in (("own", own), ("unseen", new[data.world_seed])):
            losses[of] = token_losses(*checkpoints.split(one.model), questions.tokens).mean(-1) - questions.exact
            found.setdefault((data.concepts, of, "excess", 0, 0), []).append(losses[of])
            right = {
                cell: 100.0 * (answers(one.model, prompts) == np.asarray(prompts.labels))
                for cell, prompts in questions.prompts.items()
            }
            for cell, values in right.items():
                found.setdefault((data.concepts, of, "accuracy", *cell), []).append(values)
            for k in LENGTHS:
                most = max(n for length, n in right if length == k)
                found.setdefault((data.concepts, of, "gain", k, most), []).append(right[k, most] - right[k, 0])
        gap = losses["unseen"].mean() - losses["own"].mean()
        found.setdefault((data.concepts, "unseen", "gap", 0, 0), []).append(np.array([gap]))
    rows = [(*cell, *estimate(np.stack(values))) for cell, values in found.items()]
    columns = ["concepts", "of", "quantity", "example_length", "num_examples", "value", "half_width"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["models"] = [one.record() for one in models]
    return table


class Questions(NamedTuple):
    """Documents with the loss of exact Bayes on each, and prompts by length and number of examples."""

    tokens: Int[np.ndarray, "B L"]
    exact: Float[np.ndarray, " B"]
    prompts: dict[tuple[int, int], Prompts]


def asked(hmm: ConceptHMM, one: Trained, documents: int, number: int) -> Questions:
    """What models are asked about a world; the seeds are those of the world, not of the model."""
    data, context = one.config.data, one.config.model.context
    key = jax.random.fold_in(jax.random.key(DOCUMENT_SEED), data.world_seed)
    tokens, _ = sample_documents(hmm, key, min(documents, max(FEWEST, BUDGET // hmm.num_concepts)), data.length)
    exact = -np.asarray(bayes.token_log_likelihoods(hmm, tokens))[:, 1:].mean(-1)
    key = jax.random.fold_in(jax.random.key(PROMPT_SEED), data.world_seed)
    fitting = {k: examples_that_fit(context, k) for k in LENGTHS}
    ends = [(k, n) for k in LENGTHS for n in (fitting[k][0], fitting[k][-1])]
    prompts = {(k, n): many_prompts(hmm, jax.random.fold_in(key, 100 * k + n), number, n, k) for k, n in ends}
    return Questions(np.asarray(tokens), exact, prompts)


def many_prompts(hmm: ConceptHMM, key: Key[Array, ""], number: int, n: int, k: int) -> Prompts:
    """Prompts drawn a few at a time: the filter that labels them holds every concept of each."""
    at_once = min(number, max(FEWEST, BUDGET // hmm.num_concepts))
    parts = [
        sample_prompts(hmm, jax.random.fold_in(key, start), min(at_once, number - start), n, k)
        for start in range(0, number, at_once)
    ]
    return jax.tree.map(lambda *each: np.concatenate([np.asarray(one) for one in each]), *parts)


def unseen(one: Trained) -> ConceptHMM:
    """Concepts that the largest world of a seed holds back, and no smaller one has."""
    held_out = one.config.data.build()[1]
    return held_out.select(slice(min(UNSEEN, held_out.num_concepts)))


def plot(rows: pd.DataFrame) -> Figure:
    figure, (left, *panels) = plt.subplots(1, 1 + len(LENGTHS), figsize=(12, 4.2))
    for of, colour in COLOURS.items():
        line = pick(rows, of=of, quantity="excess")
        draw_line(left, line, "concepts", color=colour, marker="o", label=NAMES[of])
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
        first, last = (Estimate(gains.value[c], gains.half_width[c]) for c in (numbers[0], numbers[-1]))
        helped = last.mean > last.half_width
        table.append(
            Claim(
                f"k = {k}: with more concepts in training, examples come to help with a concept never trained on",
                "no claim of a paper's",
                f"gain {first.mean:+.1f} ± {first.half_width:.1f} → {last.mean:+.1f} ± {last.half_width:.1f} points, "
                f"accuracy {accuracy.value.iloc[0]:.1f} → {accuracy.value.iloc[-1]:.1f} %, from {numbers[0]} to "
                f"{numbers[-1]:,} concepts",
                above(last, first) if helped else "fails",
            )
        )
        begins = [c for c in numbers if gains.value[c] > gains.half_width[c]]
        later = bool(begins) and begins[0] > numbers[0]
        table.append(
            Claim(
                f"k = {k}: they help from some number of concepts on, and not before",
                "no claim of a paper's",
                f"gain above zero with {', '.join(f'{c:,}' for c in begins) or 'none'} of "
                f"{', '.join(f'{c:,}' for c in numbers)} concepts",
                judged(later and begins == [c for c in numbers if c >= begins[0]], later),
            )
        )
    gaps = pick(rows, quantity="gap").set_index("concepts")
    most = max((c for c in numbers if c <= UNSEEN), default=numbers[-1])  # of more, not all were seen
    gap = Estimate(gaps.value[most], gaps.half_width[most])
    table.append(
        Claim(
            f"with {most:,} concepts in training, the loss above Bayes is the same on concepts never trained on",
            "no claim of a paper's",
            f"{', '.join(f'{gaps.value[c]:+.3f} ± {gaps.half_width[c]:.3f}' for c in numbers)} nats a token more with "
            f"{', '.join(f'{c:,}' for c in numbers)} concepts",
            judged(abs(gap.mean) + gap.half_width < EQUAL, abs(gap.mean) < EQUAL) if gap.half_width else "not found",
        )
    )
    return table
