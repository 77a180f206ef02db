"""Prune a whole model, block after block: python -m compression.apply --model DIR --out DIR --sparsity 0.5

As in the paper, a block is run twice: once to collect the Hessians of its layers, on what the already pruned blocks
before it make of the documents, and once more, pruned, to make the inputs of the next. Embedding and head stay.
"""

import dataclasses
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Bool, Float, Int
from safetensors import safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from compression.pruning import packing, selection
from compression.pruning.alps import alps
from compression.pruning.baselines import magnitude, ria, wanda
from compression.pruning.calibrate import BLOCKS, calibrate, calibration_documents, embed, run
from compression.pruning.grids import check_bits
from compression.pruning.problem import check, check_damping, check_fits, check_target, check_weight, output_error
from compression.pruning.sparsegpt import factorise, prune
from icl_synth import checkpoints, checks
from icl_synth.concept_hmm import official_ginc

Method = Literal["sparsegpt", "magnitude", "wanda", "ria", "alps"]
BASELINES = {"wanda": wanda, "ria": ria}


@dataclasses.dataclass(frozen=True)
class Pruning:
    """What to do with each layer."""

    method: Method = "sparsegpt"
    """How weights are chosen and refitted."""
    sparsity: float = 0.5
    """Share of each layer's weights to drop."""
    pattern: tuple[int, int] | None = None
    """n m: keep n of every m inputs instead."""
    bits: int | None = None
    """Also quantise what stays (sparsegpt only), 2 to 8."""
    damping: float = 0.01
    """Added to the diagonal of H, in units of its mean (sparsegpt, alps)."""
    mask_block_size: int | None = None
    """Columns whose mask is chosen at once (sparsegpt)."""
    first_blocks: int | None = None
    """Prune only so many blocks from the input on."""

    def __post_init__(self):
        checks.choices(self, "")
        for name in ("bits", "mask_block_size"):
            if getattr(self, name) is not None and self.method != "sparsegpt":
                raise ValueError(f"{name} belongs to method sparsegpt, not {self.method}")
        if self.damping != 0.01 and self.method not in ("sparsegpt", "alps"):
            raise ValueError(f"damping belongs to methods sparsegpt and alps, not {self.method}")
        for name in ("first_blocks", "mask_block_size"):
            if getattr(self, name) is not None:
                checks.at_least(1, **{name: getattr(self, name)})
        if self.bits is not None:
            check_bits(self.bits)
        if self.method == "alps":
            checks.positive(damping=self.damping)
        check_damping(self.damping)
        check_target(self.sparsity, self.pattern)


class LayerReport(NamedTuple):
    """One layer: share of its output lost, |(W - pruned) X|^2 / |W X|^2, share of weights dropped, damping, seconds."""

    name: str
    outputs: int
    inputs: int
    error: float
    sparsity: float
    damping: float | None
    seconds: float


class Pruned(NamedTuple):
    """The pruned model; by the name of each pruned weight [I O], where it was kept; a report a layer."""

    model: checkpoints.Model
    masks: checkpoints.Masks
    report: list[LayerReport]


def prune_layer(
    weight: Float[Array, "O I"], hessian: Float[Array, "I I"], how: Pruning
) -> tuple[Float[Array, "O I"], Bool[Array, "O I"], float | None]:
    """The pruned weight, its mask, and the damping used (None for methods that report none).

    Raises ValueError for wrong shapes, NaN or Inf, a pattern that does not divide, and a Hessian that is not symmetric
    or, for methods that solve with it, not positive definite.
    """
    if how.method == "sparsegpt":
        check_fits(weight, hessian)
        factor = factorise(hessian, how.damping)
        result = prune(
            weight,
            factor,
            sparsity=how.sparsity,
            pattern=how.pattern,
            mask_block_size=how.mask_block_size,
            bits=how.bits,
        )
        return result.weight, result.mask, factor.damping
    weight, hessian = check(weight, hessian, sparsity=how.sparsity, pattern=how.pattern)
    if how.method == "magnitude":
        pruned = magnitude(weight, sparsity=how.sparsity, pattern=how.pattern)
    elif how.method == "alps":
        pruned = alps(weight, hessian, sparsity=how.sparsity, pattern=how.pattern, damping=how.damping)
    else:
        pruned = BASELINES[how.method](weight, hessian, sparsity=how.sparsity, pattern=how.pattern)
    # a weight that is kept may be 0: n of every m stay all the same
    mask = ~selection.in_groups(jnp.abs(pruned).T, how.pattern).T if how.pattern else pruned != 0
    return pruned, mask, None


def prune_model(
    model: checkpoints.Model, tokens: Int[Array | np.ndarray, "B T"], how: Pruning, out: Path | None = None
) -> Pruned:
    """Prune every block of a model, calibrated on the documents `tokens`.

    With `out`, each finished block is kept there, and the same call goes on where a killed one stopped, to the same
    bits; at the end the folder holds model.safetensors, config.json, masks.safetensors and report.json.
    Raises ValueError for settings that do not fit the model, for what are not tokens of its vocabulary, and where
    `out` holds something else; TypeError for a model whose layers were replaced, by a number format or int8.
    """
    checkpoints.check_plain(model)
    depth = model.config.depth
    if how.first_blocks is not None and how.first_blocks > depth:
        raise ValueError(f"first_blocks is {how.first_blocks}, but the model has {depth} blocks")
    graph, weights = checkpoints.split(model)
    hidden = embed(model, tokens)
    for name, weight in weights.items():
        if how.pattern and name.startswith(BLOCKS) and name.endswith(".kernel"):
            check_weight(np.asarray(weight).T, pattern=how.pattern)
    kept = _Folder(out, how, model, tokens) if out else None
    if kept and (whole := kept.finished()):
        return whole
    masks: checkpoints.Masks = {}
    report: list[LayerReport] = []
    bar = tqdm(range(how.first_blocks or depth), desc=f"pruning ({how.method})", unit="block", leave=out is not None)
    for index in bar:
        done = kept.read(index) if kept else None
        if done is None:
            done = _prune_block(model, index, hidden, how, bar)
            if kept:
                kept.write(index, done)
        weights |= {name: jnp.asarray(weight) for name, weight in done.weights.items()}
        masks |= done.masks
        report += done.report
        model = checkpoints.merge(graph, weights)
        hidden = run(model, index, hidden)
    pruned = Pruned(model, masks, report)
    if kept:
        kept.finish(pruned)
    return pruned


class _Block(NamedTuple):
    weights: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]
    report: list[LayerReport]


def _prune_block(model: checkpoints.Model, index: int, hidden: Array, how: Pruning, bar: tqdm) -> _Block:
    weights, done = checkpoints.split(model)[1], _Block({}, {}, [])
    for layer, hessian in calibrate(model, index, hidden).items():
        bar.set_postfix_str(layer)
        start, name = time.perf_counter(), f"{layer}.kernel"
        weight = jnp.asarray(weights[name]).T
        outputs, inputs = weight.shape
        pruned, mask, damping = prune_layer(weight, hessian, how)
        error = float(output_error(weight, pruned, hessian))
        seconds = time.perf_counter() - start
        done.weights[name], done.masks[name] = np.asarray(pruned).T.copy(), np.asarray(mask).T.copy()
        sparsity = 1 - float(done.masks[name].mean())
        done.report.append(LayerReport(layer, outputs, inputs, error, sparsity, damping, seconds))
    return done


class _Folder:
    """A run's folder: settings.json, a file for each finished block while it lasts, the model at the end."""

    def __init__(self, out: Path, how: Pruning, model: checkpoints.Model, tokens: Array | np.ndarray):
        self.out, self.dtype = out, model.dtype
        arrays = {"documents": np.asarray(tokens, np.int32), **checkpoints.split(model)[1]}
        digest = hashlib.sha256(f"{dataclasses.asdict(model.config)} {model.dtype}".encode())
        for name, array in sorted(arrays.items()):
            digest.update(f"{name} {array.shape}".encode() + np.asarray(array).tobytes())
        self.settings = {**json.loads(json.dumps(dataclasses.asdict(how))), "model_and_documents": digest.hexdigest()}
        path = out / "settings.json"
        if path.exists():
            there = json.loads(path.read_text())
            other = [n for n in self.settings if there.get(n) != self.settings[n]]
            if other:
                raise ValueError(
                    f"{out} holds another pruning (different: {', '.join(other)}). Nothing was changed: "
                    "choose another folder, or repeat the command that began it"
                )
        elif out.exists() and (not out.is_dir() or any(not f.name.endswith(".writing.json") for f in out.iterdir())):
            raise ValueError(f"{out} is not empty and holds no pruning of ours: choose another folder")
        else:
            checkpoints.write_text(path, json.dumps(self.settings, indent=2) + "\n")

    def _block(self, index: int) -> Path:
        return self.out / f"block-{index}.safetensors"

    def write(self, index: int, block: _Block) -> None:
        arrays = {f"weight:{n}": w for n, w in block.weights.items()} | {f"mask:{n}": m for n, m in block.masks.items()}
        report = {"report": json.dumps(block.report)}
        checkpoints.write_atomically(self._block(index), lambda path: save_file(arrays, path, metadata=report))

    def read(self, index: int) -> _Block | None:
        if not self._block(index).exists():
            return None
        with safe_open(self._block(index), framework="numpy") as file:
            report = [LayerReport(*line) for line in json.loads(file.metadata()["report"])]
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        parts = {
            kind: {n.removeprefix(kind): a for n, a in arrays.items() if n.startswith(kind)}
            for kind in ("weight:", "mask:")
        }
        return _Block(parts["weight:"], parts["mask:"], report)

    def finish(self, pruned: Pruned) -> None:
        """Write the model with its masks; the files of blocks go last, so that a kill here loses nothing."""
        checkpoints.save_masks(pruned.masks, self.out)
        report = [layer._asdict() for layer in pruned.report]
        checkpoints.write_text(self.out / "report.json", json.dumps(report, indent=2) + "\n")
        checkpoints.export(pruned.model, self.out, pruning=self.settings)
        self.forget_blocks()

    def forget_blocks(self) -> None:
        for file in self.out.glob("block-*.safetensors"):
            file.unlink()

    def finished(self) -> Pruned | None:
        """What a whole run left here; config.json is the last that it writes."""
        if not (self.out / "config.json").exists():
            return None
        model = checkpoints.load(self.out, self.dtype)
        masks = checkpoints.load_masks(self.out, checkpoints.split(model)[1])
        report = [LayerReport(**layer) for layer in json.loads((self.out / "report.json").read_text())]
        self.forget_blocks()
        return Pruned(model, masks, report)


def size_on_disk(pruned: Pruned, directory: Path) -> tuple[int, int]:
    """Bytes of the pruned layers of a 2:4 model, dense and packed; writes packed.safetensors into the directory.

    Raises ValueError where a layer is not 2:4.
    """
    weights = checkpoints.split(pruned.model)[1]
    dense = sum(np.asarray(weights[name]).nbytes for name in pruned.masks)
    layers = {name: packing.pack(np.asarray(weights[name]).T, mask.T) for name, mask in pruned.masks.items()}
    return dense, packing.save(directory / "packed.safetensors", layers)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""

    def run_it(
        model: Path,
        out: Path,
        documents: int = 128,
        seed: int = 0,
        vocab_size: int = 50,
        how: tyro.conf.OmitArgPrefixes[Pruning] = Pruning(),
    ) -> None:
        """Prune a model of the official world, calibrated on fresh documents of it.

        Args:
            model: Folder that `icl_synth.checkpoints.export` wrote.
            out: Folder for the pruned model, its masks and the report.
            documents: Calibration documents, of the model's context (at most 1,024 tokens) each.
            seed: Seed of the documents.
            vocab_size: Tokens of the official world that the model learnt: 50, 100 or 150.
            how: What to do with each layer.
        """
        loaded = checkpoints.load(model)
        if loaded.config.vocab_size - vocab_size not in (0, 1):  # the paper's models have one token to spare
            raise ValueError(
                f"the model has {loaded.config.vocab_size} tokens: give --vocab-size, that of the world it learnt"
            )
        hmm, _ = official_ginc(vocab_size)
        pruned = prune_model(loaded, calibration_documents(hmm, loaded, documents, seed), how, out)
        print(table(pruned.report))
        if how.pattern == (2, 4):
            dense, packed = size_on_disk(pruned, out)
            print(f"pruned layers on disk: {dense:,} bytes dense, {packed:,} packed ({packed / dense:.0%})")
        print(f"written to {out}")

    try:
        tyro.cli(run_it, args=arguments, prog="python -m compression.apply")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def table(report: list[LayerReport]) -> str:
    """The report as lines of text."""
    lines = [f"{'layer':<22}{'shape':>12}{'output lost':>13}{'sparsity':>10}{'damping':>9}{'seconds':>9}"]
    for layer in report:
        shape = f"{layer.outputs} x {layer.inputs}"
        damping = "" if layer.damping is None else f"{layer.damping:g}"
        numbers = f"{layer.error:>13.4f}{layer.sparsity:>10.3f}{damping:>9}{layer.seconds:>9.2f}"
        lines.append(f"{layer.name:<22}{shape:>12}{numbers}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
