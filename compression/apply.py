"""Prune a trained model: python -m compression.apply --model DIR --out DIR --sparsity 0.5

A language model, of a GGUF file or of a run on text, is calibrated on text:
python -m compression.apply --model FILE.gguf --text FOLDER --out DIR --pattern 2 4
"""

import sys
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Int

from compression.pruning.apply import Pruning, prune_model, size_on_disk
from compression.pruning.calibrate import calibration_documents
from compression.pruning.folder import LayerReport
from icl_synth import checkpoints, language
from icl_synth.concept_hmm import official_ginc
from icl_synth.text import characters_of

DEFAULT = Pruning()


def main(arguments: list[str] | None = None) -> None:
    """Run the command; by default its arguments are those of the process."""
    try:
        tyro.cli(prune_folder, args=arguments, prog="python -m compression.apply")
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")


def prune_folder(
    model: Path,
    out: Path,
    documents: int = 128,
    seed: int = 0,
    vocab_size: int = 50,
    text: Path | None = None,
    how: tyro.conf.OmitArgPrefixes[Pruning] = DEFAULT,
) -> None:
    """Prune a model of the official world, calibrated on its documents, or a language model, calibrated on text.

    Args:
        model: Folder that `icl_synth.checkpoints.export` wrote, or a GGUF file of Llama architecture.
        out: Folder for the pruned model, its masks and the report.
        documents: Calibration documents, each as long as the model's context (at most 1,024 tokens, 512 of text).
        seed: Seed of the world's documents; those of a text are spread evenly over it.
        vocab_size: Tokens of the official world that the model learnt: 50, 100 or 150.
        text: Folder of works, of whose training part the documents of a language model are pieces.
        how: How to prune each layer.
    """
    if text:
        read = language.load(model)
        loaded, tokens = read.model, language.pieces(read, characters_of(text)["train"], documents)
        card = {"alphabet": read.alphabet} if read.alphabet else {}
    else:
        (loaded, tokens), card = of_the_world(model, vocab_size, documents, seed), {}
    pruned = prune_model(loaded, tokens, how, out, **card)
    print(table(pruned.report))
    if how.pattern == (2, 4):
        dense, packed = size_on_disk(pruned, out)
        print(f"pruned layers on disk: {dense:,} bytes dense, {packed:,} packed ({packed / dense:.0%})")
    print(f"written to {out}")


def of_the_world(
    model: Path, vocab_size: int, documents: int, seed: int
) -> tuple[checkpoints.Model, Int[np.ndarray, "B T"]]:
    """A model of the official world, and documents to calibrate it on. Raises ValueError for another vocabulary."""
    if model.suffix == ".gguf":
        raise ValueError("a language model is calibrated on text: give --text FOLDER, which make text can fetch")
    loaded = checkpoints.load(model)
    if loaded.config.vocab_size - vocab_size not in (0, 1):  # the paper's models have one token to spare
        raise ValueError(
            f"the model has {loaded.config.vocab_size} tokens: give --vocab-size, that of the world it learnt"
        )
    hmm, _ = official_ginc(vocab_size)
    return loaded, calibration_documents(hmm, loaded, documents, seed)


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
