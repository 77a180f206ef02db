"""Documents sampled on the device, and `python -m icl_synth.documents --out FILE` to write them to disk.

One scan over positions moves all documents at once. Each document draws from its own generator, seeded by the key and
the index of the document, so that documents do not depend on chunks or on the number of devices.

Three choices make it fast: the matrices stay factorised, so a move is two rows of nine comparisons; xoshiro128++ inside
the scan costs less than threefry's bits; 1,024 documents a device keep the state in L2. Alias tables were as fast as
comparisons at ten outcomes and take more code. benchmarks/RESULTS.md holds measured speeds.
"""

import dataclasses
import functools
import itertools
import json
import pathlib
import string
import zipfile
from collections.abc import Callable, Iterator
from typing import BinaryIO, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.sharding import AxisType
from jaxtyping import Array, Float, Int, Key, UInt32
from numpy import ndarray
from tqdm import tqdm

from icl_synth import checks, files
from icl_synth.concept_hmm import ConceptHMM, official_ginc
from icl_synth.devices import cores

CERTAIN = 1 << 30  # probabilities are integers out of 2^30, so that a zero is never drawn
DOCUMENTS_PER_DEVICE = 1024
TOKENS_PER_DEVICE = 1 << 24


@functools.partial(jax.jit, static_argnames=("num_documents", "length"))
def sample_documents(
    hmm: ConceptHMM, key: Key[Array, ""], num_documents: int, length: int
) -> tuple[Int[Array, "B L"], Int[Array, "B"]]:
    """(tokens, concepts) of B = num_documents documents of L = length tokens, each of a uniformly drawn concept.

    Probabilities are exact to 2^-30 and impossible moves never happen. The function works inside jit and vmap.
    Raises ValueError for fewer than one document or token.
    """
    checks.at_least(1, num_documents=num_documents, length=length)
    return _documents(hmm, key, jnp.arange(num_documents, dtype=jnp.int32), length)


def stream_documents(
    hmm: ConceptHMM, key: Key[Array, ""], num_documents: int, length: int, chunk: int | None = None
) -> Iterator[tuple[Int[ndarray, "b L"], Int[ndarray, "b"]]]:
    """The documents of `sample_documents`, in order, in pieces of at most `chunk` documents a device.

    Every device of this process samples; the next piece is sampled while the caller uses the current one, so that two
    are held. A CPU counts as one device a core only if `jax_num_cpu_devices` was set before JAX started. The default
    chunk is the fastest, 1,024, or fewer where 1,024 would exceed 64 MiB of tokens. Raises ValueError for numbers
    below one.
    """
    devices = jax.local_devices()
    if chunk is None:
        chunk = max(
            1, min(DOCUMENTS_PER_DEVICE, TOKENS_PER_DEVICE // max(1, length), -(-num_documents // len(devices)))
        )
    checks.at_least(1, num_documents=num_documents, length=length, chunk=chunk)
    sample = _sampler(tuple(devices), length)
    step = chunk * len(devices)
    starts = range(0, num_documents, step)
    pieces = _one_ahead(sample(hmm, key, (first + np.arange(step)).astype(np.int32)) for first in starts)
    return (
        (np.asarray(tokens)[: num_documents - first], np.asarray(concepts)[: num_documents - first])
        for first, (tokens, concepts) in zip(starts, pieces, strict=True)
    )


@functools.cache
def _sampler(devices: tuple[jax.Device, ...], length: int) -> Callable:
    """`_documents` with its index split over devices, compiled once for each chunk size."""
    whole, split = jax.P(), jax.P("document")
    return jax.jit(
        jax.shard_map(
            functools.partial(_documents, length=length),
            mesh=jax.make_mesh((len(devices),), ("document",), (AxisType.Auto,), devices=devices),
            in_specs=(whole, whole, split),
            out_specs=(split, split),
        )
    )


def _one_ahead(items: Iterator) -> Iterator:
    """Request the next item before yielding the current one, so that JAX computes it meanwhile."""
    item = next(items, None)
    while item is not None:
        following = next(items, None)
        yield item
        item = following


def _documents(
    hmm: ConceptHMM, key: Key[Array, ""], index: Int[Array, "B"], length: int
) -> tuple[Int[Array, "B L"], Int[Array, "B"]]:
    """The documents numbered `index` of the endless sequence that the key determines."""
    C, E, P = hmm.num_concepts, hmm.num_entities, hmm.num_properties
    words = jax.vmap(lambda i: jax.random.bits(jax.random.fold_in(key, i), (6,), jnp.uint32))(index)
    concepts = choose(upper_edges(jnp.ones(C, jnp.float32)), words[:, 4])
    state = choose(upper_edges(hmm.start.reshape(C, E * P))[concepts], words[:, 5])
    property_edges = upper_edges(hmm.property_transitions).reshape(C * P, P - 1)
    entity_edges = upper_edges(hmm.entity_transitions).reshape(E if hmm.entities_shared else C * E, E - 1)
    property_row = concepts * P
    entity_row = 0 if hmm.entities_shared else concepts * E

    def step(carry, _):
        generator, entity, property_ = carry
        token = hmm.memory[entity, property_]
        generator, word = _xoshiro(generator)
        property_ = choose(property_edges[property_row + property_], word)
        generator, word = _xoshiro(generator)
        entity = choose(entity_edges[entity_row + entity], word)
        return (generator, entity, property_), token

    carry = (tuple(words[:, :4].T), state // P, state % P)
    tokens = jax.lax.scan(step, carry, None, length)[1]
    return tokens.T.astype(jnp.int32), concepts


def upper_edges(weights: Float[Array, "*R N"]) -> Int[Array, "*R N-1"]:
    """The cumulative distribution out of 2^30, without its last column, for `choose`."""
    counts = jnp.round(weights / weights.sum(-1, keepdims=True) * CERTAIN).astype(jnp.int32)
    # the likeliest outcome absorbs the rounding of the integer sum, so that a zero stays a zero wherever it stands
    rest = CERTAIN - counts.sum(-1, keepdims=True, dtype=jnp.int32)
    counts += jnp.where(jnp.arange(counts.shape[-1]) == counts.argmax(-1, keepdims=True), rest, 0)
    return counts.cumsum(-1, dtype=jnp.int32)[..., :-1]


def choose(edges: Int[Array, "*#B N"], word: UInt32[Array, "*#B"]) -> Int[Array, "*B"]:
    """The outcome, 0..N, that a uniform 32-bit word selects: the number of edges at or below it."""
    return (jnp.asarray(word >> 2, jnp.int32)[..., None] >= edges).sum(-1, dtype=jnp.int32)


def _xoshiro(state):
    """One step of xoshiro128++ (Blackman and Vigna 2021, ACM TOMS 47:4): (state, 32 random bits)."""
    s0, s1, s2, s3 = state
    word = _rotate(s0 + s3, 7) + s0
    shifted = s1 << 9
    s2, s3 = s2 ^ s0, s3 ^ s1
    s1, s0 = s1 ^ s2, s0 ^ s3
    return (s0, s1, s2 ^ shifted, _rotate(s3, 11)), word


def _rotate(word: UInt32[Array, "B"], by: int) -> UInt32[Array, "B"]:
    return (word << by) | (word >> (32 - by))


def token_names(vocab_size: int) -> list[str]:
    """The public code's names: "/" for the delimiter, then a..z, then pairs of different letters: ab, ac, ..."""
    checks.at_least(1, vocab_size=vocab_size)
    letters = (itertools.permutations(string.ascii_lowercase, size) for size in range(1, 27))
    names = map("".join, itertools.chain.from_iterable(letters))
    return ["/", *itertools.islice(names, vocab_size - 1)]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Write documents of the official GINC world to FILE, and their description to FILE.json."""

    out: pathlib.Path
    """.npz holds tokens [documents, length] and concepts; .txt one document a line, by the official token names."""
    num_documents: int = 1000
    """Number of documents, each of one concept."""
    length: int = 10240
    """Tokens in a document."""
    vocab_size: int = 50
    """Tokens in the world; the paper uses 50, 100 and 150."""
    entity_persistence: float = 0.9
    """Weight of staying with the same entity from token to token, 0 to 1."""
    seed: int = 0
    """Seed of the documents, 0 to 2^32 - 1; the world itself is always the same."""
    split: Literal["in_distribution", "held_out"] = "in_distribution"
    """Which five of the world's ten concepts."""
    overwrite: bool = False
    """Replace FILE and FILE.json if they exist."""


def write_documents(arguments: Arguments) -> None:
    """Sample and write, with a progress bar and in bounded memory; Ctrl-C or an error leaves nothing behind.

    Raises ValueError for numbers out of range or an unknown extension, FileExistsError, NotADirectoryError and other
    OSErrors.
    """
    out, description = arguments.out, arguments.out.with_name(arguments.out.name + ".json")
    _check(arguments, out, description)
    worlds = official_ginc(arguments.vocab_size, arguments.entity_persistence)
    hmm = worlds[("in_distribution", "held_out").index(arguments.split)]
    pieces = stream_documents(hmm, jax.random.key(arguments.seed), arguments.num_documents, arguments.length)
    write = _write_npz if out.suffix == ".npz" else _write_text
    metadata = dataclasses.asdict(arguments) | {"token_names": token_names(hmm.vocab_size)}
    del metadata["out"], metadata["overwrite"]
    with files.replacing(description) as new_description, files.replacing(out) as new_out:
        with new_out.open("wb") as file:
            write(file, _with_progress(pieces, arguments.num_documents * arguments.length), arguments, hmm.vocab_size)
        new_description.write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
        # a process killed between the two replacements leaves no description rather than a wrong one
        description.unlink(missing_ok=True)


def _check(arguments: Arguments, out: pathlib.Path, description: pathlib.Path) -> None:
    checks.at_least(1, num_documents=arguments.num_documents, length=arguments.length)
    checks.seed(seed=arguments.seed)
    if out.suffix not in (".npz", ".txt"):
        raise ValueError(f"--out must end in .npz or .txt, got {out}")
    if not out.parent.is_dir():
        raise NotADirectoryError(f"{out.parent} is not a directory")
    for path in (out, description):
        if path.exists() and not arguments.overwrite:
            raise FileExistsError(f"{path} exists; --overwrite replaces it")
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a directory")


def _with_progress(pieces: Iterator, total_tokens: int) -> Iterator:
    with tqdm(total=total_tokens, unit="token", unit_scale=True) as bar:
        for tokens, concepts in pieces:
            yield tokens, concepts
            bar.update(tokens.size)


def _write_npz(file: BinaryIO, pieces: Iterator, arguments: Arguments, vocab_size: int) -> None:
    """As np.savez, but the tokens are written piece by piece after a header with their final shape."""
    dtype = np.min_scalar_type(vocab_size - 1)
    shape = (arguments.num_documents, arguments.length)
    concepts = []
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open("tokens.npy", "w", force_zip64=True) as member:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            for tokens, piece_concepts in pieces:
                member.write(tokens.astype(dtype).tobytes())
                concepts.append(piece_concepts)
        with archive.open("concepts.npy", "w") as member:
            np.lib.format.write_array(member, np.concatenate(concepts))


def _write_text(file: BinaryIO, pieces: Iterator, arguments: Arguments, vocab_size: int) -> None:
    names = token_names(vocab_size)
    for tokens, _ in pieces:
        file.writelines((" ".join([names[token] for token in row]) + "\n").encode() for row in tokens.tolist())


def main(argv: list[str] | None = None) -> None:
    """Run the command; an error that its caller can mend becomes one plain line."""
    try:
        write_documents(tyro.cli(Arguments, args=argv))
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", cores())
    main()
