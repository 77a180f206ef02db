"""Other worlds, numbers of concepts, vocabularies, lengths of training and of sequences; the paper's data protocol."""

import dataclasses

from icl_synth.config import DataConfig, TrainConfig
from icl_synth.presets.recipes import FAMILY, PAPER, SEEDS, SHORT, SHORT_LSTM, TINY, of_length, on

# other worlds; each seed has a cold world of its own
WORLDS = {
    f"{scale}-{name}": config
    for scale, like in SHORT.items()
    for name, config in (
        ("single", on(like, world="single")),
        ("uniform", on(like, world="uniform")),
        ("moving", on(like, entity_persistence=0.0)),
        *(
            (f"cold-{n}", on(like, world="cold", concepts=12, vocab_size=100, world_seed=n))
            for n in range(SEEDS[scale])
        ),
    )
}

# the official ones of these with larger vocabularies
WORLDS |= {
    f"{scale}-{name}-v{size}": on(WORLDS[f"{scale}-{name}"], vocab_size=size)
    for scale in SHORT
    for name in ("single", "uniform", "moving")
    for size in (100, 150)
}

# random worlds of few to many concepts, another world for each seed; with the most concepts, hardly two documents of
# `small` share one
CONCEPTS = {"quick": (1, 16, 256), "small": (1, 4, 16, 64, 256, 1024, 16_384), "paper": (1, 4, 16, 64, 256, 1024)}
CONCEPT_SWEEP = {
    f"{scale}-concepts-{concepts}-{n}": dataclasses.replace(
        on(SHORT[scale], world="random", concepts=concepts, world_seed=n),
        evaluation_documents=128 if concepts <= 1024 else 16,  # exact Bayes asks every concept about each of them
    )
    for scale, numbers in CONCEPTS.items()
    for concepts in numbers
    for n in range(SEEDS[scale])
}

VOCABULARIES = {
    f"{name}-v{size}": on(like, vocab_size=size)
    for name, like in (
        *SHORT.items(),
        *((f"{scale}-lstm", like) for scale, like in SHORT_LSTM.items()),
        *((name, PAPER[name]) for name in ("paper-12l", "paper-16l", "paper-lstm")),
    )
    for size in (50, 100, 150)
}

# runs of fewer and more steps, each with its own decay of the rates, by size
LENGTHS = {
    "quick-draft": (100, 400),
    "small-w32": (250, 500, 1000, 2000, 4000),
    "small": (250, 500, 1000, 2000),
    "small-w128": (250, 500, 1000, 2000),
    "paper-4l": (1500, 3000),
}
SHORTER = {
    f"{name}-{steps}": dataclasses.replace((TINY | FAMILY | PAPER)[name], steps=steps)
    for name, numbers in LENGTHS.items()
    for steps in numbers
}


def _protocol(like: TrainConfig, documents: int, document_length: int) -> TrainConfig:
    """A model of `small` by the data protocol of Xie et al. 2022: five epochs over ten million tokens in blocks of
    1,024. The optimizer stays that of `small`."""
    return dataclasses.replace(
        like,
        steps=6250,
        batch=8,
        evaluate_every=625,
        data=DataConfig(length=1024, documents=documents, document_length=document_length),
        model=dataclasses.replace(like.model, context=1024),
    )


# blocks cut from long documents, of which one in ten begins with its document, and blocks that all do
PROTOCOL = {
    f"protocol{ending}{kind}": _protocol(like, documents, length)
    for kind, like in (("", FAMILY["small"]), ("-lstm", TINY["small-lstm"]))
    for ending, documents, length in (("", 1000, 10_240), ("-starts", 10_000, 1024))
}
PROTOCOL["paper-4l-starts"] = on(PAPER["paper-4l"], documents=10_000, document_length=1024)
PROTOCOL |= {  # the same in a minute: five epochs over 0.6 million tokens in blocks of 256
    f"quick-protocol{ending}": dataclasses.replace(
        TINY["quick-draft"], data=DataConfig(length=256, documents=documents, document_length=length)
    )
    for ending, documents, length in (("", 240, 2560), ("-starts", 2400, 256))
}


# the shorter the sequences, the more of the tokens are beginnings of documents
SEQUENCES = {
    f"{scale}-length-{length}": of_length(like, length)
    for scale, like in (("quick", TINY["quick-draft"]), ("small", FAMILY["small"]))
    for length in (33, 65, 1025)
}

# four times as many steps, and a smaller model on as many tokens as that and 500 steps more (pruning/retraining)
LONGER = {
    "small-w128-long": dataclasses.replace(FAMILY["small-w128"], steps=18_000, evaluate_every=1000),
    "small-w96-long": dataclasses.replace(FAMILY["small-w96"], steps=18_500, evaluate_every=1000),
}
