"""What lessons share: exercises that check themselves, and a few rows of the claims."""

from typing import Any

import numpy as np


def check(answer: Any, right: Any, within: float = 1e-4) -> None:
    """Say whether an exercise is solved: whether a value, or what a function returns, equals the right one.

    Args:
        answer: A number, an array or a truth value; a function of nothing that gives one; or dots, not yet replaced.
        right: What it should be.
        within: How far numbers may be off, absolutely and relatively.
    """
    print(judged(answer, right, within))


def judged(answer: Any, right: Any, within: float) -> str:
    if callable(answer):
        try:
            answer = answer()
        except Exception as error:  # an exercise may go wrong in any way, and the lesson goes on
            return f"Not yet: {type(error).__name__}: {error}"
    if answer is ...:
        return "Not yet: write an expression in place of the dots."
    answer, right = np.asarray(answer), np.asarray(right)
    if right.dtype.kind == "f" and not np.isfinite(right).all():
        raise ValueError(f"the right answer must be finite, for anything infinite would equal it: {right}")
    if answer.shape != right.shape:
        return f"Not yet: the shape is {answer.shape}, the right one {right.shape}."
    equal = np.isclose(answer, right, within, within) if right.dtype.kind in "fiu" else answer == right
    return "Right." if np.all(equal) else f"Not yet: your answer is {answer}."
