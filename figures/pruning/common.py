"""What the pruning experiments share: names and colours of the methods, pruned models, estimators, published values."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from tqdm import tqdm

from compression.pruning.apply import Method, Pruning, check_model, prune_block, prune_model, with_block
from compression.pruning.calibrate import calibration_documents, embed
from compression.pruning.calibrate import run as run_block
from compression.pruning.folder import Pruned, PrunedBlock
from figures.lab import tables
from figures.lab.presets import Suite
from figures.lab.runs import Run
from figures.lab.style import BLUE, GREEN, MODELS, ORANGE, PINK, SKY, YELLOW
from icl_synth import checkpoints

PUBLISHED = ("frantar2023*.csv",)
CALIBRATION = 128  # documents, as many as the paper's sequences
NAMES: dict[Method, str] = {"magnitude": "magnitude", "wanda": "Wanda", "sparsegpt": "SparseGPT", "alps": "ALPS"}
COLOURS = {"magnitude": ORANGE, "wanda": YELLOW, "sparsegpt": BLUE, "alps": GREEN}
MARKERS = {"magnitude": "s", "wanda": "^", "sparsegpt": "o", "alps": "D"}
KINDS_OF_LAYER = {  # how they are drawn: attention and feed-forward, the first of each light
    "qkv": (SKY, "o"),
    "out": ("#1f5f8b", "D"),
    "up": (PINK, "s"),
    "down": ("#8a3a68", "^"),
}
OTHER_WIDTHS = {"width 32": (SKY, "v"), "width 256": ("#003a5c", "^")}  # how transformers of other widths are drawn
PARTS = {"attention": ("qkv", "out"), "FC1": ("up",), "FC2": ("down",)}  # of a transformer's block
THIRDS = ("front third", "middle third", "back third")  # of the blocks


def pruned(run: Run, how: Pruning, documents: int = CALIBRATION, seed: int = 0) -> checkpoints.Model:
    """A model pruned with fresh calibration documents of its world."""
    hmm, _ = run.config.data.build()
    return prune_model(run.model, calibration_documents(hmm, run.model, documents, seed), how).model


def partly_pruned(run: Run, how: Pruning, chosen: Callable[[str], bool]) -> checkpoints.Model:
    """As `pruned`, but only those layers whose name is chosen; the others stay dense."""
    hmm, _ = run.config.data.build()
    return prune_chosen(run.model, calibration_documents(hmm, run.model, CALIBRATION), how, chosen)


def prune_chosen(
    model: checkpoints.Model, tokens: Int[np.ndarray, "B T"], how: Pruning, chosen: Callable[[str], bool]
) -> checkpoints.Model:
    """A model whose layers of chosen names are pruned, calibrated on these documents."""
    check_model(model, how)
    hidden, now, bar = embed(model, tokens), Pruned(model, {}, []), tqdm(disable=True)
    for index in range(model.config.depth):
        block = prune_block(now.model, index, hidden, how, bar)
        weights, masks = (
            {name: array for name, array in arrays.items() if chosen(name.removesuffix(".kernel"))}
            for arrays in (block.weights, block.masks)
        )
        now = with_block(now, PrunedBlock(weights, masks, []))
        hidden = run_block(now.model, index, hidden)
    return now.model


def all_but(left: str, parts: dict[str, tuple[str, ...]], depth: int) -> Callable[[str], bool]:
    """Whether a layer, by its name, is pruned where those of one of the parts or one third of the blocks are not."""

    def chosen(layer: str) -> bool:
        _, block, kind = layer.split(".")
        return kind not in parts[left] if left in parts else 3 * int(block) // depth != THIRDS.index(left)

    return chosen


def largest(rows: pd.DataFrame) -> str:
    """The largest of a family of transformers in rows with the loss of dense models: the one that loses least."""
    losses = rows[rows.model != "LSTM"].groupby("model", sort=False).value.mean()
    return str(losses.idxmin())


def looks(rows: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Colour and marker of each model in the rows."""
    names = zip(rows.model.unique(), "osDP", strict=False)
    return {name: OTHER_WIDTHS.get(name, (MODELS.get(name, BLUE), marker)) for name, marker in names}


def transformers(suite: Suite) -> Suite:
    """A suite without its LSTM."""
    return suite._replace(models={name: training for name, training in suite.models.items() if name != "LSTM"})


def share_of(part: Float[np.ndarray, " N"], whole: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """N values whose mean is part.mean() / whole.mean() and whose spread gives its interval (delta method)."""
    share = part.mean() / whole.mean()
    return share + (part - share * whole) / whole.mean()


def difference_of_means(high: Float[np.ndarray, " M"], low: Float[np.ndarray, " N"]) -> Float[np.ndarray, " K"]:
    """K = M + N values whose mean is high.mean() - low.mean(), of independent samples, with its standard error."""
    number = len(high) + len(low)
    parts = number / len(high) * (high - high.mean()), -number / len(low) * (low - low.mean())
    return high.mean() - low.mean() + np.concatenate(parts)


def between_losses(
    weights: float, smaller: tuple[int, Float[np.ndarray, " N"]], larger: tuple[int, Float[np.ndarray, " N"]]
) -> Float[np.ndarray, " N"]:
    """Losses of N documents of a model with so many weights, between two models of known weights and losses.

    The mean is interpolated linearly in logarithms of weights and of loss; the spread is that of the delta method.
    """
    (few, first), (many, second) = smaller, larger
    way = np.log(weights / few) / np.log(many / few)
    mean = first.mean() ** (1 - way) * second.mean() ** way
    return mean * (1 + (1 - way) * (first / first.mean() - 1) + way * (second / second.mean() - 1))


def published(table: str, **where: object) -> pd.DataFrame:
    """Rows of a CSV of the paper's values, with `nats`, the logarithm of the perplexity."""
    values = tables.published(f"frantar2023_{table}", **where)
    return values.assign(nats=np.log(values.perplexity))
