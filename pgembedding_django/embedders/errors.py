"""Why a text has no vector."""

from __future__ import annotations

__all__ = ["EmbedderUnavailable", "EmbeddingError", "MalformedReply", "RefusedByServer", "TextRejected"]


class EmbeddingError(ValueError):
    """A text could not be embedded, or an embedder's answer cannot be used; the same call would fail again."""

    #: Whether the failure says itself that it is about no text, so that fewer texts would fail as well.
    is_about_no_text = False


class TextRejected(EmbeddingError):
    """This text cannot be embedded, or its vector cannot be used; the other texts of the call may have been."""


class RefusedByServer(TextRejected):
    """A server refuses what it was sent, by words of its own, which may be about the text or about anything else."""


class EmbedderUnavailable(EmbeddingError):
    """
    The embedder cannot be reached or is overloaded; the same call may succeed later.

    retry_after: seconds that its server asks to wait; None where it asks nothing.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.is_about_no_text: bool = retry_after is not None


class MalformedReply(EmbedderUnavailable):
    """The answer is not one vector for each text, so that no vector of it can be trusted; it may have been paid for."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.is_about_no_text = True
