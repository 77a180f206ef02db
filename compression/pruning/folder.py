"""The folder of a pruning: what it was asked for, each finished block while it lasts, and the pruned model.

`settings.json` is written first. A killed run goes on after the blocks that `block-N.safetensors` hold. At the end
come `masks.safetensors`, the model and, last of all, `report.json`; then the files of blocks go.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array

from icl_synth import checkpoints, files, resume


class LayerReport(NamedTuple):
    """What became of one layer.

    error: the share of its output that is lost, |(W - pruned) X|^2 / |W X|^2. sparsity: the share of its weights that
    were dropped. damping: the one used; None for a method that has none. seconds: how long it took.
    """

    name: str
    outputs: int
    inputs: int
    error: float
    sparsity: float
    damping: float | None
    seconds: float


class Pruned(NamedTuple):
    """The pruned model; the mask of each pruned weight [I O] by its name, True where it was kept; a report a layer."""

    model: checkpoints.Model
    masks: checkpoints.Masks
    report: list[LayerReport]


class PrunedBlock(NamedTuple):
    """One block: pruned weights [I O] and their masks by name, and a report a layer."""

    weights: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]
    report: list[LayerReport]


SETTINGS, REPORT = "settings.json", "report.json"
EXPECTED = "a file of `python -m compression.apply`; delete the folder, or choose another, to prune anew"


def describe(settings: dict[str, Any], model: checkpoints.Model, tokens: Array | np.ndarray) -> dict[str, Any]:
    """Return the settings as JSON keeps them, with a hash of the model's weights and of the documents."""
    arrays = {"documents": np.asarray(tokens, np.int32), **checkpoints.split(model)[1]}
    digest = hashlib.sha256(f"{dataclasses.asdict(model.config)} {model.dtype}".encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.shape}".encode() + np.asarray(array).tobytes())
    return {**json.loads(json.dumps(settings)), "model_and_documents": digest.hexdigest()}


class Folder:
    """The folder of one pruning.

    Opening it writes `settings.json` where the folder is new. Raises ValueError where it holds another pruning, or
    something else, or a file of ours that cannot be read.
    """

    def __init__(self, out: Path, settings: dict[str, Any], dtype: str):
        self.out, self.settings, self.dtype = out, settings, dtype
        resume.check_same(out, "pruning", resume.claim(out / SETTINGS, "pruning", lambda: settings), settings)

    def _block(self, index: int) -> Path:
        return self.out / f"block-{index}.safetensors"

    def write_block(self, index: int, block: PrunedBlock) -> None:
        """Keep a finished block."""
        arrays = {f"weight:{name}": weight for name, weight in block.weights.items()}
        arrays |= {f"mask:{name}": mask for name, mask in block.masks.items()}
        files.write_safetensors(self._block(index), arrays, {"report": json.dumps(block.report)})

    def read_block(self, index: int) -> PrunedBlock | None:
        """Return a block that an earlier run finished, or None. Raises ValueError for a file that cannot be read."""
        path = self._block(index)
        if not path.exists():
            return None
        arrays, metadata = files.read_safetensors(path, EXPECTED)
        if "report" not in metadata:
            raise ValueError(f"{path} holds no report: expected {EXPECTED}")
        report = [LayerReport(*line) for line in json.loads(metadata["report"])]
        weights, masks = (
            {name.removeprefix(kind): array for name, array in arrays.items() if name.startswith(kind)}
            for kind in ("weight:", "mask:")
        )
        return PrunedBlock(weights, masks, report)

    def finish(self, pruned: Pruned, card: dict[str, Any]) -> None:
        """Write the model with its card, its masks and the report.

        The files of blocks are removed last, so that a kill loses nothing.
        """
        checkpoints.save_masks(pruned.masks, self.out)
        checkpoints.export(pruned.model, self.out, pruning=self.settings, **card)
        report = [layer._asdict() for layer in pruned.report]
        files.write_text(self.out / REPORT, json.dumps(report, indent=2) + "\n")
        self._remove_blocks()

    def read_finished(self) -> Pruned | None:
        """Return what a finished run left here, or None. Raises ValueError for a file that cannot be read."""
        if not (self.out / REPORT).exists() or not (self.out / checkpoints.WEIGHTS).exists():
            return None
        model = checkpoints.load(self.out, self.dtype)
        masks = checkpoints.load_masks(self.out, checkpoints.split(model)[1])
        try:
            report = [LayerReport(**layer) for layer in files.read_json(self.out / REPORT, EXPECTED)]
        except TypeError as error:
            raise ValueError(f"{self.out / REPORT} is no report of layers ({error}): expected {EXPECTED}") from error
        self._remove_blocks()
        return Pruned(model, masks, report)

    def _remove_blocks(self) -> None:
        for file in self.out.glob("block-*.safetensors"):
            file.unlink()
