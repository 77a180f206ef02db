"""Calibration documents, damping and mask blocks (Frantar & Alistarh 2023, ablations)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.apply import Pruning
from figures import pruning
from figures.claims import Claim, judged
from figures.pruning import PAPER, draw_line, excess, held_back, only, pick, pruned, show
from figures.recipes import Recipe, Wanted, trained
from icl_synth.evaluate import estimate

TITLE = "Calibration documents, damping and mask blocks at 50 % (Frantar & Alistarh 2023, ablations)"
DIFFERS = (
    "The paper's ablations are OPT-2.7B with 2,560 to 10,240 inputs a layer; our layers have 64 and 256, so a mask "
    "block of 256 columns is the whole of the widest. Calibration sequences here have 256 tokens, the paper's 2,048. "
    "Both are drawn as loss above the dense model's in nats a token (the paper's from digitised perplexities and the "
    "dense 12.47). Intervals of ours are over training seeds and documents; that of the calibration seeds is over "
    "five draws of the 128 documents."
)
SOURCES = pruning.SOURCES
SETTINGS: dict[str, tuple[float, ...]] = {
    "calibration documents": (1, 2, 8, 32, 64, 128, 256),
    "damping": (0.0001, 0.001, 0.01, 0.1, 1.0),
    "mask block": (1, 4, 16, 64, 256),
}
HALF = Pruning()
CALIBRATION_SEEDS = 5
PAPER_DENSE = 12.47


def wanted(recipe: Recipe) -> Wanted:
    return recipe.kinds


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: model, quantity, x, value, half_width (95 %): loss above the dense model's in nats a token, paired.

    Quantities: those of SETTINGS, and calibration seed (x is the seed).
    """
    models = trained(wanted(recipe))
    documents = held_back(models[0], recipe)
    rows = []
    for name in tqdm(recipe.models, desc="ablations", unit="model"):
        seeds = [one for one in models if one.name == name]
        dense = [excess(one.model, documents) for one in seeds]

        def cost(how=HALF, number=pruning.CALIBRATION, seed=0, seeds=seeds, dense=dense):
            return pruning.gain([excess(pruned(one, how, number, seed), documents) for one in seeds], dense)

        for number in SETTINGS["calibration documents"]:
            rows.append((name, "calibration documents", number, *cost(number=int(number))))
        for damping in SETTINGS["damping"]:
            rows.append((name, "damping", damping, *cost(Pruning(damping=damping))))
        for block in SETTINGS["mask block"]:
            rows.append((name, "mask block", block, *cost(Pruning(mask_block_size=int(block)))))
        for seed in range(CALIBRATION_SEEDS):
            rows.append((name, "calibration seed", seed, *cost(seed=seed)))
    table = pd.DataFrame(rows, columns=["model", "quantity", "x", "value", "half_width"])
    table.attrs["models"] = [one.record() for one in models]
    return table


def plot(rows: pd.DataFrame) -> Figure:
    figure, panels = plt.subplots(1, len(SETTINGS), figsize=(12.5, 4.2), sharey=True)
    axes = ("calibration documents", "damping, share of the mean diagonal", "columns in a mask block")
    for panel, quantity, label in zip(panels, SETTINGS, axes, strict=True):
        for name, colour, marker in zip(rows.model.unique(), ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), "os^D",
                                        strict=False):  # fmt: skip
            draw_line(panel, pick(rows, model=name, quantity=quantity), "x", color=colour, marker=marker,
                      label=f"ours: {name}")  # fmt: skip
        theirs = pruning.published("other", quantity)
        panel.plot(
            theirs.x, theirs.nats - np.log(PAPER_DENSE), **PAPER, label="Frantar & Alistarh: OPT-2.7B (digitised)"
        )
        panel.set(xscale="log", xlabel=label)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("loss above the dense model's, nats a token")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """More documents help and then no more; small dampings are alike; blocks between one column and all are best."""
    table = []
    for name in rows.model.unique():

        def at(quantity, x, name=name):
            return only(rows, model=name, quantity=quantity, x=x)

        few, many, most = (at("calibration documents", n) for n in (2, 64, 256))
        table.append(
            Claim(
                f"{name}: more calibration documents help, and beyond 64 hardly",
                "19 → 13.5 with 2 → 64, flat after (perplexity, OPT-2.7B, digitised)",
                f"{show(few)} → {show(many)} → {show(most)} nats with 2 → 64 → 256",
                judged(few.mean - many.mean > 4 * abs(many.mean - most.mean), few.mean > many.mean),
            )
        )
        small, large = at("damping", 0.001), at("damping", 1.0)
        usual = at("damping", 0.01)
        table.append(
            Claim(
                f"{name}: dampings of .001 and .01 are alike, 1 is worse",
                "13.5, 13.5 and 14.5 (perplexity, OPT-2.7B, digitised)",
                f"{show(small)}, {show(usual)} and {show(large)} nats",
                judged(abs(small.mean - usual.mean) < (large.mean - usual.mean) / 2, large.mean > usual.mean),
            )
        )
        one, middle, whole = (at("mask block", n) for n in (1, 16, 256))
        table.append(
            Claim(
                f"{name}: mask blocks between one column and all columns lose least",
                "17.5, 13.8 and 14.5 at 1, 4 to 1024 and 4096 columns (perplexity, OPT-2.7B, digitised)",
                f"{show(one)}, {show(middle)} and {show(whole)} nats at 1, 16 and 256",
                judged(middle.mean < min(one.mean, whole.mean), middle.mean < max(one.mean, whole.mean)),
            )
        )
        draws = pick(rows, model=name, quantity="calibration seed").value
        spread = estimate(draws.to_numpy())
        table.append(
            Claim(
                f"{name}: the draw of calibration documents hardly matters",
                "13.52 ± .075 over five seeds (perplexity, OPT-2.7B): .006 nats",
                f"standard deviation {draws.std():.4f} nats over {len(draws)} draws of {spread.mean:.3f}",
                judged(draws.std() < 0.1 * spread.mean, draws.std() < 0.3 * spread.mean),
            )
        )
    return table
