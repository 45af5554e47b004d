"""What an embedder is, and what every embedder's answer must be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgembedding_django import vectors
from pgembedding_django.vectors import InvalidVector, Vector

__all__ = ["Embedder", "EmbeddingError"]


class EmbeddingError(ValueError):
    """A text could not be embedded, or an embedder's answer cannot be used."""


class Embedder(ABC):
    """
    Turn texts into vectors.

    dimensions: how many numbers each vector has; None until the embedder tells.
    A subclass implements `compute`; its `__init__` loads no model and calls no server.
    """

    dimensions: int | None = None

    def __init__(self, *, dimensions: int | None = None) -> None:
        if dimensions is None:
            return
        if not isinstance(dimensions, int) or isinstance(dimensions, bool) or dimensions < 1:
            raise ValueError(f"{type(self).__name__}.dimensions must be a positive integer, got {dimensions!r}.")
        self.dimensions = dimensions

    @abstractmethod
    def compute(self, texts: list[str]) -> Any:
        """Return one vector for each text, in their order, as anything that numpy reads."""

    def compute_query(self, text: str) -> Any:
        """Return the vector of a question; a model that tells questions from documents overrides this."""
        return self._compute([text])[0]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """
        Embed documents.

        Returns float32 of shape (n, d), in the order of the texts.
        Raises EmbeddingError if a text is blank or no Unicode, or if the answer has another count, another length, or
        an element that is no finite number. May cost money, as the backend says.
        """
        if isinstance(texts, str):
            raise TypeError(f"{type(self).__name__}.embed() takes a list of texts, got one str.")
        texts = list(texts)
        for position, text in enumerate(texts):
            self._check_text(text, f"text {position}")
        if not texts:
            return np.empty((0, self.dimensions or 0), dtype=np.float32)
        computed = self._compute(texts)
        first = self._check_vector(computed[0], "text 0", self.dimensions)
        rest = [self._check_vector(vector, f"text {i}", first.size) for i, vector in enumerate(computed[1:], start=1)]
        return np.stack([first, *rest])

    def embed_query(self, text: str) -> Vector:
        """
        Embed a question.

        Returns float32 of shape (d,). Raises EmbeddingError as `embed` does.
        """
        self._check_text(text, "the query")
        return self._check_vector(self.compute_query(text), "the query", self.dimensions)

    def _compute(self, texts: list[str]) -> list[Any]:
        computed = list(self.compute(texts))
        if len(computed) != len(texts):
            raise EmbeddingError(f"{type(self).__name__} gave {len(computed)} vectors for {len(texts)} texts.")
        return computed

    def _check_text(self, text: object, what: str) -> None:
        if not isinstance(text, str):
            raise EmbeddingError(f"{type(self).__name__} embeds str, but {what} is {type(text).__name__}.")
        if not text.strip():
            raise EmbeddingError(f"{type(self).__name__} needs text to embed, but {what} is blank.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise EmbeddingError(
                f"{type(self).__name__} needs Unicode, but {what} has a lone surrogate at character {error.start}."
            ) from error

    def _check_vector(self, vector: object, what: str, dimensions: int | None) -> Vector:
        name = f"{type(self).__name__}'s vector of {what}"
        try:
            return vectors.to_vector(vector, name=name, dimensions=dimensions)
        except InvalidVector as error:
            raise EmbeddingError(str(error)) from error
