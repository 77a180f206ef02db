"""Our models in block floating point: loss over Bayes and in-context accuracy by format, before and after tuning."""

import dataclasses

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from tqdm import tqdm

from compression.block_float.block_model import fine_tune, in_format
from compression.block_float.formats import find
from figures import blocks
from figures.blocks import FAMILIES
from figures.claims import Claim, judged
from figures.pruning import excess, held_back, only, pick, show
from figures.recipes import Recipe, Trained, Wanted, trained
from icl_synth import checkpoints
from icl_synth.evaluate import answers, estimate, ratio_of_means
from icl_synth.prompts import sample_prompts

TITLE = "Our models in block floating point (Rouhani et al. 2020, 2023; OCP Microscaling)"
DIFFERS = (
    "Weights and inputs of every linear layer but the last are in the format, as in the papers; products inside "
    "attention stay in float32. The papers' models are image and language models of a hundred and more times the size "
    "and their accuracies in MSFP could not be read here, so only what was quoted stands beside ours. MSFP's claim is "
    "judged on in-context accuracy at k = 10, n = 16: *holds* where it falls by less than 1 % of itself, interval "
    "included, *partly* where only the mean does. MSFP's paper truncates, ours rounds to nearest unless a name says "
    "truncate. Fine-tuning is 200 steps at a tenth of the rates of training, forwards and backwards in the format, "
    "with fresh documents; float32 is not trained on, so a part of what is made good may be more training. "
    "Areas are those of the MSFP paper's table; of formats that it does not have none are drawn."
)
PUBLISHED = blocks.PUBLISHED
TUNED = ("msfp12", "msfp11", "mxfp4")
TUNING_STEPS = 200
PROMPT_SEED = 2302
SHARE_OF_PROMPTS = 0.4


def wanted(recipe: Recipe) -> Wanted:
    return recipe.kinds


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: model, format, tuned, quantity, value, half_width (95 % over seeds, documents and prompts).

    Quantities: loss (nats a token), excess (over exact Bayes), cost (loss above float32's, paired), accuracy (k = 10,
    n = 16) and lost_accuracy (share of float32's that is gone, paired).
    """
    models = trained(wanted(recipe))
    hmm, _ = models[0].config.data.build()
    documents = held_back(models[0], recipe)
    number, context = max(2, round(SHARE_OF_PROMPTS * recipe.prompts)), models[0].config.model.context
    examples = min(16, (context - 9) // 11)
    prompts = sample_prompts(hmm, jax.random.key(PROMPT_SEED), number, examples, 10)
    labels = np.asarray(prompts.labels)
    rows = []
    settings = [("float32", False), *((name, False) for name in recipe.formats), *((name, True) for name in TUNED)]
    bar = tqdm(total=len(models) * len(settings), desc="models in a format", unit="model")
    for name in recipe.models:
        seeds = [one for one in models if one.name == name]
        losses: dict[tuple[str, bool], np.ndarray] = {}
        right: dict[tuple[str, bool], np.ndarray] = {}
        for format, tuned in settings:
            changed = [with_format(one, format, tuned) for one in seeds]
            losses[format, tuned] = np.stack([excess(model, documents) for model in changed])
            right[format, tuned] = np.stack([answers(model, prompts) == labels for model in changed])
            bar.update(len(seeds))
        whole_loss, whole_right = losses["float32", False], right["float32", False]
        for setting in settings:
            left = np.stack([ratio_of_means(*pair) for pair in zip(right[setting], whole_right, strict=True)])
            rows += [
                (name, *setting, "loss", *estimate(losses[setting] + documents.bayes_loss)),
                (name, *setting, "excess", *estimate(losses[setting])),
                (name, *setting, "cost", *estimate(losses[setting] - whole_loss)),
                (name, *setting, "accuracy", *estimate(right[setting])),
                (name, *setting, "lost_accuracy", *estimate(1 - left)),
            ]
    table = pd.DataFrame(rows, columns=["model", "format", "tuned", "quantity", "value", "half_width"])
    table.attrs["models"] = [one.record() for one in models]
    return table


def with_format(one: Trained, format: str, tuned: bool) -> checkpoints.Model:
    """A trained model in a format, fine-tuned in it if asked."""
    if format == "float32":
        return one.model
    model = in_format(one.model, format)
    if not tuned:
        return model
    optimizer = dataclasses.replace(
        one.config.optimizer,
        learning_rate=one.config.optimizer.learning_rate / 10,
        muon_learning_rate=one.config.optimizer.muon_learning_rate / 10,
        warmup_steps=TUNING_STEPS // 10,
    )
    return fine_tune(
        model, dataclasses.replace(one.config, seed=one.seed + 100, steps=TUNING_STEPS, optimizer=optimizer)
    )


def bits_of(format: str) -> float:
    return find(format).average_bits


def plot(rows: pd.DataFrame) -> Figure:
    names = list(rows.model.unique())
    figure, grid = plt.subplots(len(names), 3, figsize=(15, 5.4 * len(names)), squeeze=False)
    for panels, name in zip(grid, names, strict=True):
        draw_formats(panels[0], rows, name, "excess", 1)
        draw_formats(panels[1], rows, name, "accuracy", 100)
        panels[0].set(xscale="log", xlabel="loss above exact Bayes, nats a token", title=f"{name}: loss")
        panels[0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        panels[0].xaxis.set_major_formatter("{x:g}")
        panels[0].xaxis.minorticks_off()
        panels[1].set(xlabel="accuracy, k = 10, n = 16, %", title=f"{name}: accuracy")
        panels[0].set_ylabel("format and its bits an element, of weights and inputs")
        draw_density(panels[2], rows, name)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def draw_formats(panel: Axes, rows: pd.DataFrame, name: str, quantity: str, scale: float) -> None:
    """A line for each format, the widest at the top: as it is, truncated and fine-tuned."""
    found = pick(rows, model=name, quantity=quantity)
    formats = sorted(set(found.format.map(plain)) - {"float32"}, key=lambda format: (bits_of(format), format))
    places = {format: place for place, format in enumerate(formats)}
    dense = only(rows, model=name, format="float32", quantity=quantity)
    panel.axvline(scale * dense.mean, color="black", ls=":", lw=1.2, label="float32")
    for label, (colour, marker, members) in FAMILIES.items():
        for tuned in (False, True):
            line = found[found.format.isin(members) & (found.tuned == tuned)]
            if len(line):
                panel.errorbar(
                    scale * line.value, line.format.map(places), xerr=scale * line.half_width, color=colour,
                    marker=marker, mfc="white" if tuned else None, ls="", capsize=2, lw=1.2,
                    label=f"{label}, fine-tuned" if tuned else label,
                )  # fmt: skip
    cut = found[found.format.str.endswith(":truncate")]
    panel.errorbar(scale * cut.value, cut.format.map(plain).map(places), xerr=scale * cut.half_width, fmt="v",
                   mfc="white", color=FAMILIES["MSFP"][0], capsize=2, label="MSFP, truncated")  # fmt: skip
    panel.set_yticks(range(len(formats)), labels=[f"{format}   {bits_of(format):g}" for format in formats], size=8)


def plain(format: str) -> str:
    """The format without how it rounds."""
    return format.removesuffix(":truncate")


def draw_density(panel: Axes, rows: pd.DataFrame, name: str) -> None:
    """In-context accuracy of MSFP against the published density of its arithmetic."""
    area = blocks.published("mac density")
    colour = FAMILIES["MSFP"][0]
    for tuned in (False, True):
        line = pick(rows, model=name, quantity="accuracy", tuned=tuned)
        line = line[line.format.isin(area.index)].sort_values("format", key=lambda names: names.map(area))
        panel.errorbar(line.format.map(area), 100 * line.value, 100 * line.half_width, color=colour, marker="o",
                       ls="" if tuned else "-", mfc="white" if tuned else None, capsize=2, lw=1.2)  # fmt: skip
        for row in line.to_dict("records"):
            if not tuned:
                panel.annotate(row["format"], (area[row["format"]], 100 * row["value"]), (-4, -3), size=8,
                               textcoords="offset points", ha="right", va="top", rotation=45)  # fmt: skip
    dense = only(rows, model=name, format="float32", quantity="accuracy")
    panel.axhline(100 * dense.mean, color="black", ls=":", lw=1.2)
    panel.set(xscale="log", xlabel="multiply-accumulate units on an area, float32 = 1")
    panel.set(ylabel="accuracy, k = 10, n = 16, %", title=f"{name}: MSFP by area (Rouhani et al. 2020)")
    panel.margins(x=0.15)
    panel.set_xticks([10, 20, 50], labels=["10", "20", "50"])
    panel.minorticks_off()


def claims(rows: pd.DataFrame) -> list[Claim]:
    """MSFP within a percent, MX9, MXINT8 and MXFP6 as good as float32, and what tuning gives back."""
    table = []
    trained_in = {size: blocks.published(f"training loss {size}") for size in ("20M", "1.5B")}
    dearer = [f"{values['mxfp6_e3m2'] - values['float32']:.2f}" for values in trained_in.values()]
    gpt, llama = blocks.published("loss"), blocks.published("perplexity")
    area, memory = blocks.published("mac density"), blocks.published("memory density")
    for name in rows.model.unique():
        for format in ("msfp16", "msfp12"):
            lost = only(rows, model=name, format=format, tuned=False, quantity="lost_accuracy")
            table.append(
                Claim(
                    f"{name}: {format} costs less than 1 % of accuracy",
                    f"less than 1 % (MSFP), {area[format]:g} times the multiply-accumulate units on an area, "
                    f"{memory[format]:g} times the numbers in a memory",
                    f"{100 * lost.mean:.2f} ± {100 * lost.half_width:.2f} % of the in-context accuracy lost, "
                    f"{show(only(rows, model=name, format=format, tuned=False, quantity='cost'))} nats of loss",
                    judged(lost.mean + lost.half_width < 0.01, lost.mean < 0.01),
                )
            )
        for format, allowed, paper in (
            ("mx9", 0.005, f"loss {gpt['float32']} in float32, {gpt['mx9']} in MX9 (GPT-XL; Rouhani et al. 2023)"),
            (
                "mxint8",
                0.005,
                f"perplexity {llama['float32']} → {llama['mxint8']}, {np.log(llama['mxint8'] / llama['float32']):.4f} "
                "nats (LLaMA-7B on WikiText; OCP Microscaling)",
            ),
            (
                "mxfp6_e3m2",
                float(dearer[0]),
                f"{dearer[0]} nats more at 20 M parameters, {dearer[1]} at 1.5 B, trained in it (OCP Microscaling)",
            ),
        ):
            cost = only(rows, model=name, format=format, tuned=False, quantity="cost")
            table.append(
                Claim(
                    f"{name}: {format} is within {allowed:g} nats of float32 without tuning",
                    paper,
                    f"{cost.mean:.4f} ± {cost.half_width:.4f} nats more",
                    judged(cost.mean + cost.half_width < allowed, cost.mean < allowed),
                )
            )
        shown = [format for format in area.index if len(pick(rows, model=name, format=format))]
        accuracies = (only(rows, model=name, format=f, tuned=False, quantity="accuracy").mean for f in shown)
        table.append(
            Claim(
                f"{name}: accuracy by format, MSFP16 to 11",
                "not found: the paper's table of accuracies by model could not be read",
                ", ".join(f"{100 * a:.1f} % {f}" for f, a in zip(shown, accuracies, strict=True)),
                "not found",
            )
        )
        before, after = (only(rows, model=name, format="msfp11", tuned=t, quantity="cost") for t in (False, True))
        table.append(
            Claim(
                f"{name}: fine-tuning makes good what the narrowest format loses",
                "1 to 10 epochs of fine-tuning for the narrowest (MSFP)",
                f"MSFP11 costs {show(before)} nats, after {TUNING_STEPS} steps {show(after)}",
                judged(after.mean + after.half_width < before.mean / 2, after.mean < before.mean),
            )
        )
    return table
