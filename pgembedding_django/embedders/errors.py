"""Why a text has no vector."""

from __future__ import annotations

__all__ = ["EmbedderUnavailable", "EmbeddingError", "TextRejected"]


class EmbeddingError(ValueError):
    """A text could not be embedded, or an embedder's answer cannot be used; the same call would fail again."""


class TextRejected(EmbeddingError):
    """This text cannot be embedded, or its vector cannot be used; the other texts of the call may have been."""


class EmbedderUnavailable(EmbeddingError):
    """
    The embedder cannot be reached or is overloaded; the same call may succeed later.

    retry_after: seconds that its server asks to wait; None where it asks nothing.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
