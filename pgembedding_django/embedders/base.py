"""What an embedder is, and what every embedder's answer must be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgembedding_django.bounds import is_integer, is_number
from pgembedding_django.embedders import outcomes, tokens
from pgembedding_django.embedders.errors import EmbeddingError, TextRejected
from pgembedding_django.embedders.isolation import Isolation
from pgembedding_django.vectors import Vector

__all__ = ["Embedder"]


class Embedder:
    """
    Turn texts into vectors.

    dimensions: how many numbers each vector has; None until the embedder tells.
    max_tokens: the most that a text may have, as `estimate_tokens` counts; None where nobody knows.
    price: of a million tokens, in any currency; None where nobody gave one.
    query_prefix, document_prefix: what the model wants to read before a question and before a document.
    A subclass implements `compute`, and raises EmbedderUnavailable there for what may pass and EmbeddingError for what
    is wrong with a text. Its `__init__` loads no model and calls no server. It is used by several threads at once.
    """

    dimensions: int | None = None
    max_tokens: int | None = None
    price: float | None = None
    query_prefix: str = ""
    document_prefix: str = ""
    #: Texts that one call of `embed_each` had best get.
    batch_size = 256
    #: Calls that had best run at once.
    concurrency = 1

    def __init__(
        self,
        *,
        dimensions: int | None = None,
        price: float | None = None,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
    ) -> None:
        if dimensions is not None:
            self._check_integer("dimensions", dimensions)
            self.dimensions = dimensions
        if price is not None:
            self._check_number("price", price, least=0)
            self.price = price
        if query_prefix is not None:
            self.query_prefix = query_prefix
        if document_prefix is not None:
            self.document_prefix = document_prefix

    @property
    def _name(self) -> str:
        return type(self).__name__

    @property
    def identity(self) -> str:
        """What makes two documents' vectors comparable; a stored vector is stale once this has changed."""
        return self._identify(f"{type(self).__module__}.{type(self).__qualname__}")

    @property
    def sends_to(self) -> str:
        """Where texts go, such as "https://api.openai.com/v1"; empty if they stay in this process."""
        return ""

    def compute(self, texts: list[str]) -> Any:
        """Return one vector for each text, in their order, as anything that numpy reads."""
        raise NotImplementedError(f"{self._name} must implement compute().")

    def compute_each(self, texts: list[str]) -> list[Any]:
        """
        Return one vector for each text, in their order, or the EmbeddingError that stands in its place.

        Halves a batch that `compute` fails for until the bad text is found, if it answers another text.
        """
        return Isolation(self.compute, self._name).each(texts)

    def compute_query(self, text: str) -> Any:
        """Return the vector of a question; a model that tells questions from documents overrides this."""
        computed = list(self.compute([text]))
        if len(computed) != 1:
            raise self._miscount(computed, [text])
        return computed[0]

    async def acompute_each(self, texts: list[str]) -> list[Any]:
        return await asyncio.to_thread(self.compute_each, texts)

    async def acompute_query(self, text: str) -> Any:
        return await asyncio.to_thread(self.compute_query, text)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """
        Embed documents.

        Returns float32 of shape (n, d), in the order of the texts.
        Raises EmbeddingError if a text is blank or no Unicode, or if the answer has another count, another length, or
        an element that is no finite number. May cost money, as the backend says.
        """
        texts = self._list(texts, "embed")
        outcomes.raise_first(outcomes.refusals(texts, self._name))
        return outcomes.stack(self.embed_each(texts), self.dimensions)

    async def aembed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed documents as `embed` does."""
        texts = self._list(texts, "aembed")
        outcomes.raise_first(outcomes.refusals(texts, self._name))
        return outcomes.stack(await self.aembed_each(texts), self.dimensions)

    def embed_each(self, texts: Sequence[str]) -> list[Vector | EmbeddingError]:
        """
        Embed documents, of which some may be bad.

        Returns for each text, in their order, its vector (float32 of shape (d,)), a TextRejected if it cannot be
        embedded, or another EmbeddingError if the call failed before its turn: what was paid for is never lost.
        Raises EmbedderUnavailable or EmbeddingError if the call failed before any text was embedded.
        """
        texts = self._list(texts, "embed_each")
        refused = outcomes.refusals(texts, self._name)
        good = self._prefixed(texts, refused)
        return outcomes.merge(refused, self.compute_each(good) if good else [], self._name, self.dimensions)

    async def aembed_each(self, texts: Sequence[str]) -> list[Vector | EmbeddingError]:
        """Embed documents as `embed_each` does."""
        texts = self._list(texts, "aembed_each")
        refused = outcomes.refusals(texts, self._name)
        good = self._prefixed(texts, refused)
        return outcomes.merge(refused, await self.acompute_each(good) if good else [], self._name, self.dimensions)

    def embed_query(self, text: str) -> Vector:
        """
        Embed a question.

        Returns float32 of shape (d,). Raises EmbeddingError as `embed` does.
        """
        computed = self.compute_query(self._prefixed_query(text))
        return outcomes.check(computed, self._name, "the query", self.dimensions)

    async def aembed_query(self, text: str) -> Vector:
        """Embed a question as `embed_query` does."""
        computed = await self.acompute_query(self._prefixed_query(text))
        return outcomes.check(computed, self._name, "the query", self.dimensions)

    def estimate_tokens(self, text: str) -> int:
        """
        Return about how many tokens a document costs, without any request.

        Rather too many than too few: one for 3 letters of ASCII (a token of English has about 4 characters), for each
        symbol and for 3 digits, and two for 3 bytes of UTF-8 beyond ASCII.
        Source: OpenAI help, "What are tokens and how to count them?"; OpenAI, "Hello GPT-4o".
        """
        return tokens.estimate_tokens(self.document_prefix + text)

    def close(self) -> None:
        """Close connections, where the embedder has any; the next call opens them again."""

    def _identify(self, model: str) -> str:
        prefix = [repr(self.document_prefix)] if self.document_prefix else []
        return ":".join([model, *([str(self.dimensions)] if self.dimensions else []), *prefix])

    def _miscount(self, computed: list[Any], texts: list[str]) -> EmbeddingError:
        return EmbeddingError(f"{self._name} gave {len(computed)} vectors for {len(texts)} texts.")

    def _list(self, texts: Iterable[str], method: str) -> list[str]:
        if isinstance(texts, str):
            raise TypeError(f"{self._name}.{method}() takes a list of texts, got one str.")
        return list(texts)

    def _prefixed(self, texts: list[str], refused: list[TextRejected | None]) -> list[str]:
        return [self.document_prefix + text for text, refusal in zip(texts, refused, strict=True) if refusal is None]

    def _prefixed_query(self, text: str) -> str:
        outcomes.raise_first([outcomes.refusal(text, self._name, "the query")])
        return self.query_prefix + text

    def _check_number(self, name: str, value: object, *, least: float) -> None:
        if not is_number(value, least):
            raise ValueError(f"{self._name}.{name} must be a number of at least {least:g}, got {value!r}.")

    def _check_integer(self, name: str, value: object, *, most: int | None = None) -> None:
        if not is_integer(value, 1):
            raise ValueError(f"{self._name}.{name} must be a positive integer, got {value!r}.")
        if most is not None and value > most:
            raise ValueError(f"{self._name}.{name} must be at most {most}, got {value!r}.")
