"""Sizes and budgets for scaling laws (figures/scaling): one depth, each run with its own decay and a warm-up of 5 %.

A grid takes longer than one machine may be had: float32, which every processor has.
"""

import dataclasses

from icl_synth.config import OptimizerConfig, TrainConfig
from icl_synth.transformer import TransformerConfig

# by preset and budget in FLOPs: sizes from about a quarter of the best one to four times it
SCALING_WIDTHS: dict[str, dict[float, tuple[int, ...]]] = {
    "quick": {1e11: (8, 12, 16, 24, 32), 3e11: (12, 16, 24, 32, 48), 1e12: (16, 24, 32, 48, 64)},
    "small": {
        1e12: (16, 24, 32, 40, 48, 64, 80, 96),
        3e12: (24, 32, 40, 48, 64, 80, 96, 128),
        1e13: (24, 32, 40, 48, 64, 80, 96, 128, 160),
        3e13: (40, 48, 64, 80, 96, 128, 192),
        1e14: (48, 64, 96, 160, 256),
    },
}


def _scaled(flops: float, width: int, rate: float = 1.0, batch: int = 8) -> TrainConfig:
    """A transformer trained with a budget of FLOPs: six a token for each weight and for each product of attention."""
    model = TransformerConfig(depth=4, width=width, heads=max(1, width // 32))
    weights = model.depth * width * (12 * width + model.context) + 2 * model.vocab_size * width
    steps = round(flops / (6 * weights * batch * model.context))
    optimizer = OptimizerConfig()
    optimizer = dataclasses.replace(
        optimizer,
        learning_rate=rate * optimizer.learning_rate,
        muon_learning_rate=rate * optimizer.muon_learning_rate,
        warmup_steps=round(steps / 20),
    )
    return TrainConfig(
        steps=steps,
        batch=batch,
        evaluate_every=-(-steps // 16),
        evaluation_documents=256,
        precision="float32",
        model=model,
        optimizer=optimizer,
    )


SCALING = {
    f"{scale}-scaling-{flops:.0e}-w{width}": _scaled(flops, width)
    for scale, grid in SCALING_WIDTHS.items()
    for flops, widths in grid.items()
    for width in widths
}
# whether another rate or batch would have been better, and for which size
SCALING_CONTROLS = {
    f"{scale}-scaling-{flops:.0e}-w{width}-{name}": _scaled(flops, width, **changed)
    for scale, flops, widths in (("quick", 3e11, (24,)), ("small", 1e13, (48, 80, 128)))
    for name, changed in (("rate-half", {"rate": 0.5}), ("rate-double", {"rate": 2.0}),
                          ("batch-half", {"batch": 4}), ("batch-double", {"batch": 16}))
    for width in widths
}  # fmt: skip
