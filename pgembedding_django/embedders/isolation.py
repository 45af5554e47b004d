"""Finds the texts of a call that cannot be embedded, so that the others are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from pgembedding_django.embedders.errors import EmbedderUnavailable, EmbeddingError, MalformedReply, TextRejected
from pgembedding_django.embedders.outcomes import caused_by

__all__ = ["PROBE", "Isolation"]

logger = logging.getLogger("pgembedding_django.embedders")

#: Asked for where a batch fails, to tell a bad text from an embedder that answers nothing.
PROBE = "text"

#: Failures in a row while PROBE succeeds: more than a few bad texts would cause.
MOST_FUTILE = 32


class Unanswered(TextRejected):
    """The embedder fails for what was sent, again and again, while it answers other texts."""


class Isolation:
    """
    One call of an embedder.

    compute: returns one vector for each text, or raises EmbeddingError. name: of the embedder.
    A batch that fails is halved, if PROBE is answered, until the text is found that it fails for.
    failure: what ended the call; nothing is asked after it.
    """

    def __init__(self, compute: Callable[[list[str]], Any], name: str) -> None:
        self._compute, self._name = compute, name
        self.failure: EmbeddingError | None = None
        self._answered = False
        self._futile = 0

    def ask(self, texts: list[str], *, patient: bool = True) -> list[Any]:
        """Return a vector for each text; patient: whether a failure that may pass is waited for, where one can be."""
        computed = list(self._compute(texts))
        if len(computed) != len(texts):
            return [EmbeddingError(f"{self._name} gave {len(computed)} vectors for {len(texts)} texts.")] * len(texts)
        return computed

    def each(self, texts: list[str], *, patient: bool = True) -> list[Any]:
        """Return a vector or an error for each text."""
        if self.failure is not None:
            return [self.failure] * len(texts)
        try:
            answers = self._ask(texts, patient=patient)
        except MalformedReply as error:
            return [error] * len(texts)
        except EmbeddingError as error:
            if error.is_about_no_text or isinstance(error, EmbedderUnavailable):
                return self._end(error, texts)
            return self._halve(texts, error, patient=patient and not isinstance(error, Unanswered))
        self._answered, self._futile = True, 0
        return answers

    def refused(self, error: EmbeddingError, refusal: EmbeddingError) -> EmbeddingError:
        """Return what it means that a batch is refused, and PROBE too."""
        return error

    def _ask(self, texts: list[str], *, patient: bool) -> list[Any]:
        """Ask as `ask` does; raises Unanswered, too, if the embedder fails for these texts and answers others."""
        try:
            return self.ask(texts, patient=patient)
        except EmbedderUnavailable as error:
            if error.is_about_no_text:
                raise
            unavailable = error
        try:
            self.ask([PROBE])
        except EmbeddingError:
            raise unavailable from unavailable.__cause__
        # Once more: it may have come back just now.
        try:
            return self.ask(texts, patient=False)
        except EmbedderUnavailable as error:
            self._futile += 1
            if error.is_about_no_text or self._futile == MOST_FUTILE:
                raise
            logger.warning("%s It answers other requests than this one of %d texts.", error, len(texts))
            raise Unanswered(f"{error} It answers other texts.") from error

    def _halve(self, texts: list[str], error: EmbeddingError, *, patient: bool) -> list[Any]:
        if not (self._answered or isinstance(error, Unanswered)):
            try:
                self.ask([PROBE])
            except EmbeddingError as refusal:
                return self._end(self.refused(error, refusal), texts)
            self._answered = True
        if len(texts) == 1:
            return [error if isinstance(error, TextRejected) else caused_by(error, TextRejected(str(error)))]
        middle = len(texts) // 2
        return self.each(texts[:middle], patient=patient) + self.each(texts[middle:], patient=patient)

    def _end(self, error: EmbeddingError, texts: list[str]) -> list[Any]:
        self.failure = self.failure or error
        return [self.failure] * len(texts)
