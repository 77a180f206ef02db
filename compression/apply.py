"""Prune a trained model: python -m compression.apply --model DIR --out DIR --sparsity 0.5"""

import sys
from pathlib import Path

import tyro

from compression.pruning.apply import Pruning, prune_model, size_on_disk
from compression.pruning.calibrate import calibration_documents
from compression.pruning.folder import LayerReport
from icl_synth import checkpoints
from icl_synth.concept_hmm import official_ginc

DEFAULT = Pruning()


def main(arguments: list[str] | None = None) -> None:
    """Run the command; by default its arguments are those of the process."""
    try:
        tyro.cli(prune_folder, args=arguments, prog="python -m compression.apply")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def prune_folder(
    model: Path,
    out: Path,
    documents: int = 128,
    seed: int = 0,
    vocab_size: int = 50,
    how: tyro.conf.OmitArgPrefixes[Pruning] = DEFAULT,
) -> None:
    """Prune a model of the official world, calibrated on fresh documents of that world.

    Args:
        model: Folder that `icl_synth.checkpoints.export` wrote.
        out: Folder for the pruned model, its masks and the report.
        documents: Calibration documents, each as long as the model's context (at most 1,024 tokens).
        seed: Seed of the documents.
        vocab_size: Tokens of the official world that the model learnt: 50, 100 or 150.
        how: How to prune each layer.
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
