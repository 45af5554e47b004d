"""The error of a row that cannot be written."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ValidationError

from pgembedding_django.vectors import InvalidVector

__all__ = ["ROW_ERRORS", "RowError", "of_row", "place_of"]

#: Exceptions of a value that cannot be written.
ROW_ERRORS = (TypeError, ValueError, ArithmeticError, RecursionError, struct.error, ValidationError)


class RowError(ValidationError):
    """
    A row that cannot be written: position in the whole load, from 0, primary key, field and reason.

    field: its label, as "Article.embedding". reason: a sentence that begins with it. code: of a vector, which rule it
    breaks.
    """

    position: int
    pk: object
    field: str
    reason: str

    def __init__(self, position: int, pk: object, field: str, reason: str, code: str = "row") -> None:
        super().__init__(f"{place_of(position, pk)}: {reason}", code=code)
        self.position, self.pk, self.field, self.reason = position, pk, field, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.position, self.pk, self.field, self.reason, self.code)


def place_of(position: int, pk: object) -> str:
    """Return the name of a row in messages."""
    return f"Row {position} (pk {pk!r})"


@contextmanager
def of_row(position: int, pk: object, field: str) -> Iterator[None]:
    """Turn the exception of a value into the RowError of its row."""
    try:
        yield
    except ROW_ERRORS as error:
        reason = error.messages[0] if isinstance(error, ValidationError) else str(error)
        code = error.code if isinstance(error, InvalidVector) else "row"
        raise RowError(
            position, pk, field, reason if reason.startswith(field) else f"{field}: {reason}", code
        ) from error
