"""Witten-Bell n-grams (Witten & Bell 1991), the peers of a model of characters: counts, interpolated down to nothing.

After the history h, p(c | h) = (count(h c) + kinds(h) p(c | h')) / (count(h) + kinds(h)). Here kinds(h) counts the
different tokens that followed h, h' is h without its first token, and below order 0 all tokens are equally likely.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from icl_synth import checks
from icl_synth.text import Works


class Table(NamedTuple):
    """What followed the histories of one length. A history is a number with a digit for each of its tokens."""

    histories: Int[ndarray, " H"]
    """Those that were seen, sorted."""
    counts: Int[ndarray, " H"]
    kinds: Int[ndarray, " H"]
    moves: Int[ndarray, " M"]
    """Histories with the token that followed as a further digit, sorted."""
    move_counts: Int[ndarray, " M"]


class NGrams(NamedTuple):
    """Tables of histories of 0, 1, ... tokens."""

    vocab_size: int
    tables: tuple[Table, ...]

    def probabilities(self, tokens: Int[ndarray, " N"]) -> Float[ndarray, " N"]:
        """The probability of each token after all that stand before it, of which the nearest count."""
        found = np.full(len(tokens), 1 / self.vocab_size)
        for length, table in enumerate(self.tables[: len(tokens)]):
            history, move = _digits(tokens, length, self.vocab_size)
            found[length:] = _interpolate(table, history, move, found[length:])
        return found

    def after(self, history: Int[ndarray, " N"]) -> Float[ndarray, " V"]:
        """The distribution of the token after a history."""
        found, every = np.full(self.vocab_size, 1 / self.vocab_size), np.arange(self.vocab_size)
        for length, table in enumerate(self.tables[: len(history) + 1]):
            number = _number(history[len(history) - length :], self.vocab_size)
            found = _interpolate(table, np.full(self.vocab_size, number), number * self.vocab_size + every, found)
        return found


def fit(works: Works, vocab_size: int, order: int) -> NGrams:
    """Count the works: histories of up to `order` tokens, none across the border of two works.

    Raises ValueError for orders whose histories do not fit 63 bits.
    """
    checks.at_least(0, order=order)
    if vocab_size ** (order + 1) >= 1 << 63:
        raise ValueError(f"order {order} is too much for {vocab_size} tokens: histories are numbers of 63 bits")
    tables = []
    for length in range(order + 1):
        pairs = [_digits(work, length, vocab_size) for work in works.values() if len(work) > length]
        moves, move_counts = np.unique(np.concatenate([move for _, move in pairs]), return_counts=True)
        histories, first, kinds = np.unique(moves // vocab_size, return_index=True, return_counts=True)
        tables.append(Table(histories, np.add.reduceat(move_counts, first), kinds, moves, move_counts))
    return NGrams(vocab_size, tuple(tables))


def _digits(tokens: Int[ndarray, " N"], length: int, vocab_size: int) -> tuple[Int[ndarray, " M"], Int[ndarray, " M"]]:
    """The history of each token that has one of this length, and that history with the token."""
    wide = tokens.astype(np.int64)
    history = np.zeros(len(wide) - length, np.int64)
    for digit in range(length):
        history = history * vocab_size + wide[digit : digit + len(history)]
    return history, history * vocab_size + wide[length:]


def _number(history: Int[ndarray, " N"], vocab_size: int) -> int:
    number = 0
    for token in history.tolist():
        number = number * vocab_size + token
    return number


def _interpolate(
    table: Table, history: Int[ndarray, " N"], move: Int[ndarray, " N"], shorter: Float[ndarray, " N"]
) -> Float[ndarray, " N"]:
    """Probabilities with histories of this length, from those with histories one token shorter."""
    counts, kinds = (_look_up(table.histories, of, history) for of in (table.counts, table.kinds))
    moved = _look_up(table.moves, table.move_counts, move)
    return np.where(counts > 0, (moved + kinds * shorter) / np.maximum(counts + kinds, 1), shorter)


def _look_up(keys: Int[ndarray, " K"], values: Int[ndarray, " K"], wanted: Int[ndarray, " N"]) -> Int[ndarray, " N"]:
    """The value of each wanted key, 0 where there is none."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
