"""What becomes of each text of a call: refused before it, answered by a vector, or failed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mode
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pgembedding_django import vectors
from pgembedding_django.embedders.errors import EmbeddingError, TextRejected
from pgembedding_django.vectors import InvalidVector, Vector

E = TypeVar("E", bound=EmbeddingError)


def refusal(text: object, name: str, what: str) -> TextRejected | None:
    """
    Return why no embedder can embed a value, or None.

    name: the embedder, for the message. what: the value, such as "text 3".
    """
    if not isinstance(text, str):
        return TextRejected(f"{name} embeds str, but {what} is {type(text).__name__}.")
    if not text.strip():
        return TextRejected(f"{name} needs text to embed, but {what} is blank.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        sentence = f"{name} needs Unicode, but {what} has a lone surrogate at character {error.start}."
        return caused_by(error, TextRejected(sentence))
    return None


def refusals(texts: Sequence[object], name: str) -> list[TextRejected | None]:
    return [refusal(text, name, f"text {position}") for position, text in enumerate(texts)]


def merge(
    refused: list[TextRejected | None], computed: list[Any], name: str, dimensions: int | None
) -> list[Vector | EmbeddingError]:
    """
    Return the outcome of every text.

    computed: a vector as the embedder gave it, or an error, for each text that was not refused.
    Raises the first failure that is no fault of a text if there is no vector at all, and EmbeddingError if every
    vector has another length than the embedder should give.
    """
    answers = iter(computed)
    outcomes = [refused_ or _outcome(next(answers), name, f"text {i}") for i, refused_ in enumerate(refused)]
    sizes = {i: outcome.size for i, outcome in enumerate(outcomes) if not isinstance(outcome, EmbeddingError)}
    if not sizes:
        raise_first(outcome for outcome in outcomes if not isinstance(outcome, TextRejected))
        return outcomes
    # Where nobody said how long a vector is, most of them show it.
    dimensions = dimensions or mode(sizes.values())
    for position in (i for i, size in sizes.items() if size != dimensions):
        outcomes[position] = _checked(outcomes[position], name, f"text {position}", dimensions)
    if dimensions not in sizes.values():
        first = min(sizes)
        raise EmbeddingError(str(outcomes[first]))
    return outcomes


def check(answer: object, name: str, what: str, dimensions: int | None) -> Vector:
    """Return an answer as a vector; raises TextRejected if it is none, or has another length."""
    try:
        return vectors.to_vector(answer, name=f"{name}'s vector of {what}", dimensions=dimensions)
    except InvalidVector as error:
        raise TextRejected(str(error)) from error


def stack(outcomes: list[Vector | EmbeddingError], dimensions: int | None) -> NDArray[np.float32]:
    """Return the vectors as an array of shape (n, d), or raise the first error."""
    arrays = raise_first(outcomes)
    return np.stack(arrays) if arrays else np.empty((0, dimensions or 0), dtype=np.float32)


def raise_first(outcomes: Iterable[Any]) -> list[Any]:
    """Raise the first error of all; without one, return what came."""
    answers = list(outcomes)
    for outcome in answers:
        if isinstance(outcome, EmbeddingError):
            raise outcome
    return answers


def caused_by(cause: BaseException, error: E) -> E:
    """Return an error that is not raised yet as `raise ... from` would make it."""
    error.__cause__ = cause
    return error


def _outcome(answer: object, name: str, what: str) -> Vector | EmbeddingError:
    if isinstance(answer, TextRejected):
        return caused_by(answer, TextRejected(f"{name} cannot embed {what}: {answer}"))
    return answer if isinstance(answer, EmbeddingError) else _checked(answer, name, what, None)


def _checked(answer: object, name: str, what: str, dimensions: int | None) -> Vector | EmbeddingError:
    try:
        return check(answer, name, what, dimensions)
    except TextRejected as error:
        return error
