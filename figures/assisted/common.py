"""What the figures of assisted generation share: a pair of models, exact acceptance on texts, published values."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int

from decoding.drafts import fit_ngram
from decoding.readers import Reader, as_reader
from decoding.variants import widened
from figures.recipes import Recipe, Trained, Wanted
from figures.sources import PAPER_VALUES
from icl_synth import pretrained
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.documents import sample_documents
from icl_synth.transformer import Transformer

PUBLISHED = ("assisted.csv",)
DOCUMENT_SEED = 31  # of the documents that acceptance is measured on
LARGE = 512, 8, 128  # width and depth of the large target, width of its draft
COUNTED = (37, 500, 1000)  # seed, documents and length of what n-grams are counted in
ROWS_AT_ONCE = 32
PAPER: dict[str, Any] = {"color": "#777777", "ls": "none", "marker": "s", "mfc": "white"}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def wanted(recipe: Recipe) -> Wanted:
    """Drafts and their target, with one seed."""
    return recipe.pair


class Pair(NamedTuple):
    """A target and its smallest draft, the world they were trained on, and documents of it that neither has seen."""

    target: Trained
    draft: Trained
    hmm: ConceptHMM
    documents: Int[np.ndarray, "B L"]


def pair(models: list[Trained], recipe: Recipe) -> Pair:
    target = models[-1]
    hmm, _ = target.config.data.build()
    length = target.config.model.context
    documents = sample_documents(hmm, jax.random.key(DOCUMENT_SEED), recipe.documents, length)[0]
    return Pair(target, models[0], hmm, np.asarray(documents))


def large_pair() -> tuple[Transformer, Transformer]:
    """The shipped transformer and draft, widened: the same functions at the cost of larger models."""
    width, depth, draft_width = LARGE
    target, draft = pretrained.load("transformer"), pretrained.load("draft")
    return (
        widened(target, width // target.config.width, depth),
        widened(draft, draft_width // draft.config.width, draft.config.depth),
    )


def ngrams(found: Pair, order: int) -> Reader:
    """A table counted in documents of the pair's world."""
    seed, number, length = COUNTED
    counted = sample_documents(found.hmm, jax.random.key(seed), number, length)[0]
    return fit_ngram(counted, found.target.model.config.vocab_size, order)


def log_probs(reader: Reader, tokens: Int[np.ndarray, "B L"]) -> Float[np.ndarray, "B L V"]:
    """log p(next | x_<=t) after every token, read in one go."""
    reader, padded = as_reader(reader), np.concatenate([tokens, np.repeat(tokens[:1], -len(tokens) % ROWS_AT_ONCE, 0)])
    parts = [_log_probs(reader, jnp.asarray(part)) for part in np.split(padded, len(padded) // ROWS_AT_ONCE)]
    return np.concatenate([np.asarray(part) for part in parts])[: len(tokens)]


@jax.jit
def _log_probs(reader: Reader, tokens: Array) -> Array:
    batch, length = tokens.shape
    return jax.nn.log_softmax(reader.read(tokens, reader.start(batch, length, length))[0])


def acceptance(
    p: Float[np.ndarray, "*B V"], q: Float[np.ndarray, "*B V"], temperature: float = 1.0
) -> Float[np.ndarray, "*B"]:
    """Probability that a draft's token stands, exactly: the sum of min(p, q); at temperature 0 whether both agree."""
    if temperature == 0:
        return (p.argmax(-1) == q.argmax(-1)).astype(float)
    return np.minimum(_softmax(p / temperature), _softmax(q / temperature)).sum(-1)


def _softmax(x: np.ndarray) -> np.ndarray:
    shifted = np.exp(x - x.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


@functools.cache
def published() -> pd.DataFrame:
    return pd.read_csv(PAPER_VALUES / "assisted.csv")
