"""What the experiments with assisted generation share: pairs of models, exact acceptance on texts, drafts by table."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from decoding.drafts import fit_ngram
from decoding.readers import Reader, as_reader
from decoding.variants import widened
from figures.lab.presets import PAPER_TRANSFORMERS, Suite
from figures.lab.runs import Models, Run
from icl_synth import checkpoints, pretrained
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.documents import sample_documents
from icl_synth.transformer import Transformer

PUBLISHED = ("assisted.csv",)
DOCUMENT_SEED = 31  # of the documents that acceptance is measured on
COUNTED = (37, 500, 1000)  # seed, documents and length of what n-grams are counted in
ROWS_AT_ONCE = 32

# drafts, the smallest first, and last the target that they draft for, with one seed
SUITES = {
    "quick": Suite({"2 blocks of 32": "quick-draft", "LSTM": "quick-lstm", "6 blocks of 64": "quick"}),
    "small": Suite(
        {
            "2 blocks of 32": "quick-draft",
            "4 blocks of 32": "small-w32",
            "6 blocks of 64": "small",
            "LSTM": "small-lstm",
            "6 blocks of 256": "small-w256",
        }
    ),
    "paper": Suite(PAPER_TRANSFORMERS),
}


class Pair(NamedTuple):
    """A target and its drafts, the world that they were trained on, and documents of it that none has seen."""

    target: Run
    drafts: list[Run]
    hmm: ConceptHMM
    documents: Int[np.ndarray, "B L"]

    @property
    def draft(self) -> Run:
        """The smallest."""
        return self.drafts[0]


def pair(models: Models, documents: int) -> Pair:
    """The models of a suite above, and so many documents as long as the target's context."""
    *drafts, target = (run for (run,) in models.values())
    hmm, _ = target.config.data.build()
    tokens, _ = sample_documents(hmm, jax.random.key(DOCUMENT_SEED), documents, target.config.model.context)
    return Pair(target, drafts, hmm, np.asarray(tokens))


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
    return fit_ngram(counted, models.target.model.config.vocab_size, order)


def log_probs(model: checkpoints.Model | Reader, tokens: Int[np.ndarray, "B L"]) -> Float[np.ndarray, "B L V"]:
    """log p(next | x_<=t) after every token, read in one go."""
    reader, padded = as_reader(model), np.concatenate([tokens, np.repeat(tokens[:1], -len(tokens) % ROWS_AT_ONCE, 0)])
    parts = [_log_probs(reader, jnp.asarray(part)) for part in np.split(padded, len(padded) // ROWS_AT_ONCE)]
    return np.concatenate([np.asarray(part) for part in parts])[: len(tokens)]


@jax.jit
def _log_probs(reader: Reader, tokens: Array) -> Array:
    batch, length = tokens.shape
    return jax.nn.log_softmax(reader.read(tokens, reader.start(batch, length, length))[0])


def acceptance(
    p: Float[np.ndarray, "*B V"], q: Float[np.ndarray, "*B V"], temperature: float = 1.0
) -> Float[np.ndarray, "*B"]:
    """Probability that a draft's token stands, exactly: the sum of min(p, q); at temperature 0 whether both agree.

    p, q: log-probabilities of the target and of the draft.
    """
    if temperature == 0:
        return (p.argmax(-1) == q.argmax(-1)).astype(float)
    return np.minimum(_softmax(p / temperature), _softmax(q / temperature)).sum(-1)


def _softmax(x: np.ndarray) -> np.ndarray:
    shifted = np.exp(x - x.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)
