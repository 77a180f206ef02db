"""Our models in block floating point: loss over Bayes and in-context accuracy by format, before and after tuning."""

import dataclasses
from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.block_float.block_model import fine_tune, in_format
from figures.block_float import common
from figures.block_float.common import FAMILIES, LAST_DIGIT, MIXED, UNVERIFIED, bits_of, published
from figures.lab.claims import Claim, listed, near_zero, no_more, positive, show
from figures.lab.measure import Documents, excess, held_back
from figures.lab.presets import KINDS, presets
from figures.lab.runs import Models, Run
from figures.lab.style import BLACK, GREY, PUBLISHED_POINT, RANGE, WIDTH, draw_seeds, name_points
from figures.lab.tables import Table, as_estimate, only, over_seeds, pick
from icl_synth import checkpoints
from icl_synth.estimates import Estimate, ratio_of_means
from icl_synth.evaluate import answers
from icl_synth.prompts import Prompts, sample_prompts

TITLE = "Our models in block floating point (Rouhani et al. 2020, 2023; OCP Microscaling)"
DIFFERS = (
    "Weights and inputs of every linear layer but the last are in the format; products inside attention stay in "
    "float32. The papers' models are image and language models of a hundred and more times the size, and MSFP's "
    f"accuracies are {UNVERIFIED}. MSFP's paper truncates, ours rounds to nearest unless a name says truncate. A "
    "direct cast is a trained model put in a format as it is. Fine-tuning is short, at a tenth of the rates of "
    "training, forwards and backwards in the format, with fresh documents. Its control is float32 tuned as long on the "
    "same documents, in blocks of 16-bit numbers, so that more training does not count as the format's. All "
    "differences are paired by seed and document or prompt. The paper's claim is MXINT8's: OCP gives perplexities per "
    "word, and a token is a word of our world; the direct cast may cost the transformer no more nats than a word costs "
    "LLaMA-7B. Our own questions: do MSFP's formats lose less than 1 % of in-context accuracy (k = 10, n = 16 or the "
    f"most that fit); do MX formats of 6 to 9 bits (but MXINT8) stay within {LAST_DIGIT:g} nats of float32 as a direct "
    "cast, the last digit of OCP's training losses; do MXFP4 weights with MXFP6 inputs, and do they cost less than "
    "MXFP4 in both; does fine-tuning leave less than half of what a format costs; and are MX6 and MXFP6 (E2M3) within "
    "that digit of the control afterwards?"
)
PUBLISHED = common.PUBLISHED
TUNED = ("msfp12", "msfp11", "mxfp4", "mx6", "mxfp6_e2m3")
ALL_FORMATS = (
    "msfp16", "msfp12", "msfp11", "mx9", "mx6", "mxint8", "mxfp4", "mxfp6_e3m2", "mxfp6_e2m3", MIXED, "msfp15",
    "msfp14", "msfp13", "msfp16:truncate", "msfp12:truncate", "mx4", "mxfp8_e4m3", "mxfp8_e5m2", "nvfp4", "int8",
    "int4", "fp8_e4m3",
)  # fmt: skip
SIX_TO_NINE = ("mx9", "mx6", "mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2")  # bits
MATCHED = ("mx6", "mxfp6_e2m3")  # by fine-tuning, as the papers have it
FLOAT32, CONTROL = "float32", "bfp16_16"
PROMPT_SEED = 2302
EXAMPLES, EXAMPLE_LENGTH = 16, 10


class Sizes(NamedTuple):
    documents: int  # that losses are measured on
    prompts: int
    formats: tuple[str, ...]
    tuned: tuple[str, ...] = TUNED  # of these formats
    tuning_steps: int = 200

    @property
    def settings(self) -> list[tuple[str, bool]]:
        """Each format, and whether the model is fine-tuned in it; what others are compared with comes first."""
        casts = [(name, False) for name in (FLOAT32, *self.formats)]
        return [*casts, *((name, True) for name in (CONTROL, *self.tuned))]


PRESETS = presets(
    KINDS,
    quick=Sizes(128, 200, ("msfp12", "msfp11", "mx6", "mxint8", "mxfp4", MIXED), ("mx6",)),
    small=Sizes(512, 1000, ALL_FORMATS),
    paper=Sizes(100, 1000, ALL_FORMATS),
)


def compute(models: Models, sizes: Sizes) -> pd.DataFrame:
    """Rows: model, format, tuned, quantity; value in nats per token or a share.

    Quantities: loss, excess (over exact Bayes), cost (loss above float32's; of what is tuned, above the control's),
    accuracy (k = 10, n = 16), lost_accuracy (share of float32's that is gone), saved (by MXFP4 with MXFP6, of MXFP4's
    loss) and made_good (half the cost of the direct cast less the cost after tuning); differences are paired.
    """
    table = Table("model", "format", "tuned", "quantity")
    first = next(iter(models.values()))[0]
    documents, prompts = held_back(first, sizes.documents), ask(first, sizes.prompts)
    total = len(sizes.settings) * sum(map(len, models.values()))
    with tqdm(total=total, desc="models in a format", unit="model") as bar:
        for name, runs in models.items():
            for run in runs:
                add_formats(table, name, run, sizes, documents, prompts, bar)
    return table.rows()


def ask(run: Run, number: int) -> Prompts:
    """Prompts of 16 examples of 10 tokens, or of as many as fit."""
    hmm, _ = run.config.data.build()
    examples = min(EXAMPLES, (run.config.model.context - EXAMPLE_LENGTH + 1) // (EXAMPLE_LENGTH + 1))
    return sample_prompts(hmm, jax.random.key(PROMPT_SEED), number, examples, EXAMPLE_LENGTH)


def add_formats(
    table: Table, name: str, run: Run, sizes: Sizes, documents: Documents, prompts: Prompts, bar: tqdm
) -> None:
    """Loss and accuracy of one model in every format, beside those in float32 or the control, which come first."""
    losses: dict[tuple[str, bool], np.ndarray] = {}
    rights: dict[tuple[str, bool], np.ndarray] = {}
    for format, tuned in sizes.settings:
        model = with_format(run, format, sizes.tuning_steps if tuned else 0)
        loss = losses[format, tuned] = excess(model, documents)
        right = rights[format, tuned] = answers(model, prompts) == np.asarray(prompts.labels)
        cost = loss - losses[(CONTROL, True) if tuned else (FLOAT32, False)]
        quantities = {
            "loss": loss + documents.bayes_loss,
            "excess": loss,
            "cost": cost,
            "accuracy": right,
            "lost_accuracy": 1 - ratio_of_means(right, rights[FLOAT32, False]),
        }
        if format == MIXED and ("mxfp4", False) in losses:
            quantities["saved"] = losses["mxfp4", False] - loss
        if tuned and format != CONTROL:
            quantities["made_good"] = (losses[format, False] - losses[FLOAT32, False]) / 2 - cost
        for quantity, values in quantities.items():
            table.add(name, format, tuned, quantity, seed=run.seed, values=values)
        bar.update()


def with_format(run: Run, format: str, tuning_steps: int) -> checkpoints.Model:
    """A trained model in a format, fine-tuned in it for so many steps."""
    if format == FLOAT32:
        return run.model
    if format == MIXED:  # MXFP6 holds every value of MXFP4, so that quantising again changes no weight
        weights, others = MIXED.split(" with ")
        return in_format(in_format(run.model, weights, activations=False), others)
    model = in_format(run.model, format)
    if not tuning_steps:
        return model
    optimizer = dataclasses.replace(
        run.config.optimizer,
        learning_rate=run.config.optimizer.learning_rate / 10,
        muon_learning_rate=run.config.optimizer.muon_learning_rate / 10,
        warmup_steps=tuning_steps // 10,
    )
    return fine_tune(
        model, dataclasses.replace(run.config, seed=run.seed + 100, steps=tuning_steps, optimizer=optimizer)
    )


def plot(rows: pd.DataFrame) -> Figure:
    means, name = over_seeds(rows), str(rows.model.iloc[0])
    figure, panel = plt.subplots(figsize=(WIDTH, 5.4))
    costs = pick(means, quantity="cost")
    panel.axhspan(-LAST_DIGIT, LAST_DIGIT, color=RANGE, alpha=0.4, lw=0)
    panel.axhline(0, color=BLACK, lw=0.8)
    panel.set_yscale("symlog", linthresh=LAST_DIGIT)
    panel.set_ylim(min(-0.004, 1.2 * costs.value.min()), 1)
    ticks = (0, 0.002, 0.004, 0.006, 0.008, 0.01, 0.03, 0.1, 0.3, 1)
    panel.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.set(xlabel="bits per number of the weights", ylabel=f"loss of the {name} above float32's, nats per token")
    draw_formats(panel, pick(rows, model=name, quantity="cost"), pick(costs, model=name))
    casts = costs[~costs.tuned & (costs.format != FLOAT32)]
    ends = dict.fromkeys((name, str(rows.model.iloc[-1])))
    near = {one: pick(casts, model=one).value <= LAST_DIGIT for one in ends}
    found = ", ".join(f"{few.sum()} of {len(few)} ({one})" for one, few in near.items())
    figure.suptitle(f"Formats that cost at most {LAST_DIGIT:g} nats as a direct cast:\n{found}", size=11)
    return figure


def draw_formats(panel: Axes, rows: pd.DataFrame, means: pd.DataFrame) -> None:
    """A point for each format by its bits, named; an arrow to the loss after fine-tuning."""
    points = []
    for place, (label, (colour, marker, members)) in enumerate(FAMILIES.items()):
        known = (*members, MIXED) if label == "OCP MX" else members
        line, each = (table[table.format.map(plain).isin(known)] for table in (means, rows))
        line, each = (table.assign(bits=table.format.map(bits_of)) for table in (line, each))
        draw_seeds(panel, each[~each.tuned], "bits", colour)
        for row in line[~line.tuned].to_dict("records"):
            cut = row["format"].endswith(":truncate")
            panel.errorbar(row["bits"], row["value"], row["half_width"], color=colour, capsize=2, lw=1,
                           marker="v" if cut else marker)  # fmt: skip
            points.append((shown(row["format"]), row["bits"], row["value"], colour))
        for row in line[line.tuned].to_dict("records"):
            before = only(line, format=row["format"], tuned=False).mean
            panel.annotate("", (row["bits"], row["value"]), (row["bits"], before),
                           arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.2})  # fmt: skip
        panel.annotate(label, (0.98, 0.95 - 0.045 * place), xycoords="axes fraction", size=10, color=colour, ha="right")
    llama = published("word perplexity")
    bits, nats = bits_of("mxint8"), float(np.log(llama["mxint8"] / llama[FLOAT32]))
    panel.plot(bits, nats, **PUBLISHED_POINT)
    points.append(("MXINT8, LLaMA-7B", bits, nats, GREY))
    panel.annotate("arrows: fine-tuned", (0.98, 0.7), xycoords="axes fraction", size=9, ha="right")
    name_points(panel, points)


def plain(format: str) -> str:
    """The format without how it rounds."""
    return format.removesuffix(":truncate")


def shown(format: str) -> str:
    """A format's name beside its point."""
    return "MXFP4, MXFP6" if format == MIXED else format.upper().replace(":TRUNCATE", ", truncated")


def claims(rows: pd.DataFrame) -> list[Claim]:
    """MXINT8 by OCP's perplexities; MSFP, six to nine bits, MXFP4 with MXFP6 and fine-tuning by our own margins."""
    rows = over_seeds(rows)
    table = []
    for name in rows.model.unique():
        casts = costs_of(rows, name, "cost")
        table += [mxint8_claim(name, casts["mxint8"]), accuracy_claim(rows, name)]
        table.append(cast_claim(name, {format: casts[format] for format in SIX_TO_NINE if format in casts}))
        if MIXED in casts:
            table.append(mixed_claim(name, casts[MIXED], costs_of(rows, name, "saved")[MIXED]))
        table += [tuning_claim(name, costs_of(rows, name, "made_good", tuned=True))]
        tuned = costs_of(rows, name, "cost", tuned=True)
        if matched := {format: tuned[format] for format in MATCHED if format in tuned}:
            table.append(matched_claim(name, matched))
    return table


def costs_of(rows: pd.DataFrame, name: str, quantity: str, *, tuned: bool = False) -> dict[str, Estimate]:
    """A quantity of a model in every format."""
    chosen = pick(rows, model=name, tuned=tuned, quantity=quantity)
    return {row["format"]: as_estimate(row) for _, row in chosen.iterrows()}


def mxint8_claim(name: str, cost: Estimate) -> Claim:
    llama = published("word perplexity")
    nats = float(np.log(llama["mxint8"] / llama[FLOAT32]))
    return Claim(
        f"{name}: MXINT8 as a direct cast costs no more than {nats:.4f} nats",
        f"perplexity per word {llama[FLOAT32]} → {llama['mxint8']}, {nats:.4f} nats a word (LLaMA-7B on WikiText; OCP "
        "Microscaling)",
        f"{show(cost, 4)} nats a token",
        [no_more(cost, nats)],
        own="LSTM" in name,  # the papers' language models are transformers
        headline=name == "transformer",
    )


def accuracy_claim(rows: pd.DataFrame, name: str) -> Claim:
    lost = {
        format: Estimate(100 * share.mean, 100 * share.half_width, share.df)
        for format, share in costs_of(rows, name, "lost_accuracy").items()
        if format in FAMILIES["MSFP"].formats
    }
    return Claim(
        f"{name}: MSFP loses less than 1 % of the in-context accuracy as a direct cast",
        f"less than 1 %, fine-tuned where it is narrow (MSFP; {UNVERIFIED})",
        f"{listed(lost, 1)} % lost",
        [no_more(share, 1.0) for share in lost.values()],
        own=True,
    )


def cast_claim(name: str, costs: dict[str, Estimate]) -> Claim:
    return Claim(
        f"{name}: MX formats of 6 to 9 bits stay within {LAST_DIGIT:g} nats of float32 as a direct cast",
        "no number",
        f"{listed(costs, 4)} nats more",
        [near_zero(cost, LAST_DIGIT) for cost in costs.values()],
        own=True,
    )


def mixed_claim(name: str, cost: Estimate, saved: Estimate) -> Claim:
    return Claim(
        f"{name}: MXFP4 weights with MXFP6 inputs stay within {LAST_DIGIT:g} nats of float32 as a direct cast, and "
        "cost less than MXFP4 in both",
        "no number for a direct cast",
        f"{show(cost, 4)} nats more than float32, {show(saved, 4)} less than MXFP4",
        [near_zero(cost, LAST_DIGIT), positive(saved)],
        own=True,
    )


def tuning_claim(name: str, made_good: dict[str, Estimate]) -> Claim:
    return Claim(
        f"{name}: fine-tuning leaves less than half of what a narrow format costs",
        f"1 to 10 epochs of fine-tuning for the narrowest (MSFP; {UNVERIFIED})",
        f"half the cost before less the cost after, nats: {listed(made_good, 4)}",
        [positive(value) for value in made_good.values()],
        own=True,
    )


def matched_claim(name: str, costs: dict[str, Estimate]) -> Claim:
    return Claim(
        f"{name}: after fine-tuning, 6 bits are within {LAST_DIGIT:g} nats of float32 tuned as long",
        "MXFP6 closely matches float32 after fine-tuning (OCP Microscaling); no number",
        f"{listed(costs, 4)} nats more",
        [near_zero(cost, LAST_DIGIT) for cost in costs.values()],
        own=True,
    )
