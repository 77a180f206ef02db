"""Pruning and quantising together against quantising alone, by bits a weight (Frantar & Alistarh 2023, Fig. 6)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from compression.pruning.apply import Pruning
from figures import pruning
from figures.claims import Claim, judged
from figures.pruning import PAPER, draw_line, excess, held_back, only, pick, pruned, show
from figures.recipes import Recipe, Wanted, trained
from icl_synth.evaluate import estimate

TITLE = "Half the weights and few bits, against quantising alone (Frantar & Alistarh 2023, joint compression)"
DIFFERS = (
    "As in the paper, a weight of a half-pruned model costs half its bits and one bit for the mask, so 50 % at 4 bits "
    "is set against 3 bits alone. Quantising alone is our SparseGPT at sparsity 0, which is GPTQ; grids are one to a "
    "row, asymmetric, their 16-bit scales not counted, as in the paper. The paper's 2.5 bits alone are mixtures; ours "
    "are whole bits only, so 50 % at 3 bits (2.5 a weight) has no partner here. Ours are models of 0.05 to 4.7 M "
    "parameters, the paper's is OPT-175B. Verdicts from differences paired on documents and seeds."
)
PUBLISHED = pruning.PUBLISHED
JOINT, ALONE = (2, 3, 4, 6, 8), (2, 3, 4, 5)  # bits of what stays
STYLES = {"50 % and quantised": ("#0072B2", "o"), "quantised alone": ("#D55E00", "s")}


def wanted(recipe: Recipe) -> Wanted:
    return recipe.ends


def compute(recipe: Recipe) -> pd.DataFrame:
    """Rows: model, how, bits (average a weight), quantity, value, half_width (95 %), nats a token.

    Quantities: excess (over exact Bayes); alone_minus_joint (at equal average bits, paired).
    """
    models = trained(wanted(recipe))
    documents = held_back(models[0], recipe)
    rows = []
    settings = [("50 % and quantised", 0.5 * b + 1, Pruning(sparsity=0.5, bits=b)) for b in JOINT]
    settings += [("quantised alone", float(b), Pruning(sparsity=0.0, bits=b)) for b in ALONE]
    bar = tqdm(total=len(models) * len(settings), desc="compressions", unit="model")
    for name in wanted(recipe).presets:
        seeds = [one for one in models if one.name == name]
        rows.append(
            (name, "dense", 32.0, "excess", *estimate(np.stack([excess(one.model, documents) for one in seeds])))
        )
        losses: dict[tuple[str, float], list[np.ndarray]] = {}
        for label, bits, how in settings:
            losses[label, bits] = []
            for one in seeds:
                losses[label, bits].append(excess(pruned(one, how), documents))
                bar.update()
            rows.append((name, label, bits, "excess", *estimate(np.stack(losses[label, bits]))))
        for bits in sorted({b for _, b, _ in settings}):
            alone, joint = (losses.get((label, bits)) for label in ("quantised alone", "50 % and quantised"))
            if alone and joint:
                rows.append((name, "both", bits, "alone_minus_joint", *pruning.gain(alone, joint)))
    table = pd.DataFrame(rows, columns=["model", "how", "bits", "quantity", "value", "half_width"])
    table.attrs["models"] = [one.record() for one in models]
    return table


def plot(rows: pd.DataFrame) -> Figure:
    names = list(rows.model.unique())
    across = min(3, len(names) + 1)
    down = -(-(len(names) + 1) // across)
    figure, grid = plt.subplots(down, across, figsize=(4.2 * across, 3.9 * down), squeeze=False)
    panels = grid.flat[: len(names) + 1]
    for spare in grid.flat[len(names) + 1 :]:
        spare.remove()
    for panel, name in zip(panels, names, strict=False):
        panel.axhline(only(rows, model=name, how="dense").mean, color="black", ls=":", lw=1.2, label="dense, float32")
        for label, (colour, marker) in STYLES.items():
            line = pick(rows, model=name, how=label, quantity="excess")
            draw_line(panel, line, "bits", color=colour, marker=marker, label=label)
        panel.set(title=f"ours: {name}", yscale="log", xlabel="bits a weight, mask included")
        panel.set_ylabel("loss above exact Bayes, nats a token")
    for kind, (colour, marker) in zip(("joint", "quantised alone"), STYLES.values(), strict=True):
        line = pruning.published("other", f"bits {kind}")
        panels[-1].plot(line.x, line.perplexity, **PAPER | {"color": colour, "marker": marker})
    panels[-1].axhline(8.35, color="black", ls=":", lw=1.2)
    panels[-1].set(title="Frantar & Alistarh 2023: OPT-175B", xlabel="bits a weight, mask included")
    panels[-1].set(ylabel="WikiText2 perplexity", xlim=panels[0].get_xlim())
    panels[0].legend()
    return figure


def claims(rows: pd.DataFrame) -> list[Claim]:
    """Joint against alone, at 3 bits a weight and at 2."""
    table = []
    for name in rows.model.unique():
        for bits, paper in ((3.0, "8.29 against 8.68 (OPT-175B, 50 % + 4 bits against 3)"), (2.0, "not in the paper")):
            difference = only(rows, model=name, bits=bits, quantity="alone_minus_joint")
            table.append(
                Claim(
                    f"{name}: at {bits:.0f} bits a weight, half pruned and quantised loses less than quantised alone",
                    paper,
                    f"{show(difference)} nats less",
                    judged(difference.mean > difference.half_width, difference.mean > 0),
                )
            )
    return table
