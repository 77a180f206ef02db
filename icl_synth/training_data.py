"""What a run reads, and what it is judged on: documents of a world, brackets, or works of text."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Int, Key

from icl_synth import bayes, dyck, text
from icl_synth.concept_hmm import ConceptHMM
from icl_synth.config import DataConfig, TrainConfig
from icl_synth.documents import sample_documents

VALIDATION_SEED = 2022


def make_data(config: TrainConfig) -> Callable[[Int[Array, ""]], Int[Array, "B L"]]:
    """A jittable function from a step's number to its batch: fresh documents, or epochs over a finite set of pieces.

    It is a pytree of the arrays that it reads. Raises ValueError for a text that cannot be read or is too short, or
    whose alphabet is larger than the configured vocabulary.
    """
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    if config.data.text:
        return _epochs(config, text.sequences(read_text(config).train, config.data.length), key)
    sample = sampler(config.data)
    if not config.data.documents:
        return Partial(functools.partial(_fresh, config.batch, config.data.length), sample, key)
    documents = sample(key, config.data.documents, config.data.document_length)
    return _epochs(config, np.asarray(documents).reshape(-1, config.data.length), key)


def sampler(data: DataConfig) -> Partial:
    """The function (key, number of documents, length) -> tokens of a world or of brackets."""
    if data.world == "dyck":
        sample = Partial(functools.partial(_brackets, data.vocab_size // 2))
    else:
        sample = Partial(_documents, data.build()[0])
    return Partial(_out_of_order, sample) if data.shuffled else sample


def _documents(hmm: ConceptHMM, key: Key[Array, ""], number: int, length: int) -> Int[Array, "B L"]:
    return sample_documents(hmm, key, number, length)[0]


def _brackets(kinds: int, key: Key[Array, ""], number: int, length: int) -> Int[Array, "B L"]:
    return dyck.sample_brackets(key, number, length, kinds)


def _out_of_order(sample: Partial, key: Key[Array, ""], number: int, length: int) -> Int[Array, "B L"]:
    """Documents each of whose tokens are in random order."""
    return jax.random.permutation(jax.random.fold_in(key, 4), sample(key, number, length), axis=1, independent=True)


def _fresh(batch: int, length: int, sample: Partial, key: Key[Array, ""], step: Int[Array, ""]) -> Int[Array, "B L"]:
    return sample(jax.random.fold_in(key, step), batch, length)


def _epochs(config: TrainConfig, pool: Int[np.ndarray, "N L"], key: Key[Array, ""]) -> Partial:
    """Batches of a pool in an order of each epoch's own. Raises ValueError for a pool smaller than a batch."""
    if len(pool) < config.batch:
        raise ValueError(f"{len(pool)} sequences of {pool.shape[1]} are fewer than a batch of {config.batch}: lower it")
    return Partial(functools.partial(_shuffled, config.batch), pool, key)  # on the host: jit lays it over the mesh


def _shuffled(
    batch: int, pool: Int[Array | np.ndarray, "N L"], key: Key[Array, ""], step: Int[Array, ""]
) -> Int[Array, "B L"]:
    per_epoch = len(pool) // batch
    order = jax.random.permutation(jax.random.fold_in(key, step // per_epoch), len(pool))
    return jnp.asarray(pool)[jax.lax.dynamic_slice_in_dim(order, step % per_epoch * batch, batch)]


def read_text(config: TrainConfig) -> text.Text:
    """The text of a configuration. Raises ValueError where it cannot be read or has more characters than configured."""
    found = text.read(config.data.text)
    if len(found.alphabet) > config.data.vocab_size:
        raise ValueError(
            f"{config.data.text} has {len(found.alphabet)} different characters: set data.vocab_size and "
            "model.vocab_size to at least as many"
        )
    return found


def validation_documents(config: TrainConfig) -> tuple[Int[np.ndarray, "B L"], float | None]:
    """Documents that no training seed sees, the same for all runs of a world, and their exact loss in nats per token.

    Of a text they are pieces of held-back works, spread evenly over them. Its exact loss is unknown, as is that of
    documents out of order: None.
    """
    if config.data.text:
        pieces = text.sequences(read_text(config).validation, config.data.length)
        return text.evenly(pieces, config.evaluation_documents), None
    key = jax.random.key(VALIDATION_SEED)
    tokens = sampler(config.data)(key, config.evaluation_documents, config.data.length)
    if config.data.shuffled:
        return np.asarray(tokens), None
    if config.data.world == "dyck":
        exact = dyck.token_log_likelihoods(tokens, config.data.vocab_size // 2)
    else:
        exact = bayes.token_log_likelihoods(config.data.build()[0], tokens)
    return np.asarray(tokens), -float(exact[:, 1:].mean())
