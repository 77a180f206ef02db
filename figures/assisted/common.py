"""What the experiments with assisted generation share: pairs of models, exact acceptance on texts, drafts by table."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int

from decoding.drafts import PromptLookup, fit_ngram
from decoding.generate import generate
from decoding.readers import BayesReader, Reader, as_reader
from decoding.variants import widened
from figures.lab.presets import PAPER_TRANSFORMERS, SEEDS, Suite
from figures.lab.runs import Models, Run
from figures.lab.style import BLACK, BLUE, GREEN, ORANGE, PINK, SKY, YELLOW
from figures.lab.tables import published
from icl_synth import checkpoints, pretrained
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.documents import sample_documents
from icl_synth.estimates import Estimate
from icl_synth.transformer import Transformer

PUBLISHED = ("assisted.csv",)
DOCUMENT_SEED = 31  # of the documents that acceptance is measured on
TRIGRAMS, BIGRAMS, LOOKUP, BAYES = TABLES = ("trigrams", "bigrams", "prompt lookup", "exact Bayes")
COLOURS = {TRIGRAMS: GREEN, BIGRAMS: YELLOW, LOOKUP: PINK, BAYES: BLACK, "LSTM": ORANGE}  # transformers are blue
BLUES = (SKY, BLUE, "#003a5c", "#7a8fd6")  # the smallest first
SMOOTHING = 1e-3  # of exact Bayes
SAMPLING_SEED = 13  # of the target's own texts
COUNTED = (37, 500, 1000)  # seed, documents and length of what n-grams are counted in
ROWS_AT_ONCE = 32

# drafts, the smallest first, and last the target that they draft for
NAMES = {
    "quick": {"2 blocks of 32": "quick-draft", "LSTM": "quick-lstm", "6 blocks of 64": "quick"},
    "small": {
        "2 blocks of 32": "quick-draft",
        "4 blocks of 32": "small-w32",
        "6 blocks of 64": "small",
        "LSTM": "small-lstm",
        "6 blocks of 256": "small-w256",
    },
    "paper": PAPER_TRANSFORMERS,
}
TIMED = {name: Suite(models) for name, models in NAMES.items()}  # time hardly depends on the seed
SUITES = TIMED | {"small": Suite(NAMES["small"], SEEDS["small"], {"6 blocks of 256": (0,)})}


class Pair(NamedTuple):
    """A target and its drafts, the world that they were trained on, and documents of it that none has seen."""

    target: Run
    drafts: list[list[Run]]  # a run for each seed
    hmm: ConceptHMM
    documents: Int[np.ndarray, "B L"]

    @property
    def draft(self) -> Run:
        """The smallest, of the first seed."""
        return self.drafts[0][0]

    @property
    def vocab_size(self) -> int:
        return self.target.config.model.vocab_size

    @property
    def unused(self) -> int:
        """Tokens that models have beyond the world's."""
        return self.vocab_size - self.hmm.vocab_size

    def of_target(self) -> Float[np.ndarray, "B L V"]:
        """The target's log-probabilities along the documents."""
        return log_probs(self.target.model, self.documents)


class Draft(NamedTuple):
    """A draft by name; what was not trained has no seed."""

    name: str
    seed: int | None
    reader: Reader


def pair(models: Models, documents: int) -> Pair:
    """The models of a suite above, and so many documents as long as the target's context."""
    *drafts, (target,) = models.values()
    hmm, _ = target.config.data.build()
    tokens, _ = sample_documents(hmm, jax.random.key(DOCUMENT_SEED), documents, target.config.model.context)
    return Pair(target, drafts, hmm, np.asarray(tokens))


def trained(models: Pair) -> list[Draft]:
    """Every draft of the suite with every seed, the smallest first."""
    return [Draft(run.name, run.seed, as_reader(run.model)) for runs in models.drafts for run in runs]


def sizes_of(names: Iterable[str]) -> list[str]:
    """Those of trained transformers, the smallest first: they differ in size only."""
    return [name for name in names if name not in (*TABLES, "LSTM") and not name.startswith("target")]


def colours(names: Iterable[str]) -> dict[str, str]:
    """Of drafts by name: the same in every picture."""
    names = list(names)
    return dict(zip(sizes_of(names), BLUES, strict=False)) | {name: COLOURS[name] for name in names if name in COLOURS}


def untrained(models: Pair) -> list[Draft]:
    """Tables counted in documents, the text itself, and exact Bayes, smoothed since a model may say the impossible."""
    readers = {
        TRIGRAMS: ngrams(models, 3),
        BIGRAMS: ngrams(models, 2),
        LOOKUP: PromptLookup(models.vocab_size),
        BAYES: BayesReader(models.hmm, SMOOTHING, models.unused),
    }
    return [Draft(name, None, reader) for name, reader in readers.items()]


class Own(NamedTuple):
    """Texts that the target continued at a temperature, from the first token that could be drafted on."""

    temperature: float
    texts: Int[np.ndarray, "B L"]
    start: int  # where the first token that could be drafted stands
    p: Float[np.ndarray, "B N V"]  # of the target, log-probabilities

    @property
    def tokens(self) -> Int[np.ndarray, "B N"]:
        return self.texts[:, self.start :]

    def log_probs(self, draft: Draft) -> Float[np.ndarray, "B N V"]:
        return log_probs(draft.reader, self.texts)[:, self.start - 1 : -1]


def own_texts(models: Pair, temperature: float, number: int) -> Own:
    """Documents begun, and continued to the end of the target's context."""
    context = models.target.config.model.context
    length, new = lengths(context, context // 8, context)
    how: dict[str, Any] = {"temperature": temperature, "key": jax.random.key(SAMPLING_SEED)}
    reader = as_reader(models.target.model)
    texts = np.asarray(generate(reader, models.documents[:number, :length], new, **how))
    return Own(temperature, texts, length + 1, log_probs(reader, texts)[:, length:-1])


class Large(NamedTuple):
    """A target and a draft that ship with the library, and the shapes that they are widened to."""

    target: str = "transformer"
    width: int = 512
    depth: int = 8
    draft: str = "draft"
    draft_width: int = 128

    def models(self) -> tuple[Transformer, Transformer]:
        """The same functions at the cost of larger models."""
        target, draft = pretrained.load(self.target), pretrained.load(self.draft)
        return (
            widened(target, self.width // target.config.width, self.depth),
            widened(draft, self.draft_width // draft.config.width, draft.config.depth),
        )


def ngrams(models: Pair, order: int) -> Reader:
    """A table counted in documents of the pair's world."""
    seed, number, length = COUNTED
    counted = sample_documents(models.hmm, jax.random.key(seed), number, length)[0]
    return fit_ngram(counted, models.vocab_size, order)


def log_probs(model: checkpoints.Model | Reader, tokens: Int[np.ndarray, "B L"]) -> Float[np.ndarray, "B L V"]:
    """log p(next | x_<=t) after every token, read in one go."""
    reader, padded = as_reader(model), np.concatenate([tokens, np.repeat(tokens[:1], -len(tokens) % ROWS_AT_ONCE, 0)])
    parts = [_log_probs(reader, jnp.asarray(part)) for part in np.split(padded, len(padded) // ROWS_AT_ONCE)]
    return np.concatenate([np.asarray(part) for part in parts])[: len(tokens)]


@jax.jit
def _log_probs(reader: Reader, tokens: Array) -> Array:
    batch, length = tokens.shape
    return jax.nn.log_softmax(reader.read(tokens, reader.start(batch, length, length))[0])


def lengths(context: int, prompt: int, new: int) -> tuple[int, int]:
    """Tokens of a prompt and of its continuation, cut to a context."""
    length = min(prompt, context // 4)
    return length, min(new, context - length)


def shifted(value: Estimate, by: float) -> Estimate:
    return value._replace(mean=value.mean + by)


def paper_miss() -> float:
    """The most that Leviathan et al. expected of a speed-up more, or less, than they measured, as a share (Table 4)."""
    return float((paper_misses() - 1).abs().max())


def paper_misses() -> pd.Series:
    """Expected over measured speed-up in the twelve cells of their Table 4."""
    expected, measured = (
        published("assisted", what=what).set_index(["setting", "draft"]).value for what in ("expected", "speedup")
    )
    return expected / measured[expected.index]
