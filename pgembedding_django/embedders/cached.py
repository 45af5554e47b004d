"""Remembers the vectors of questions, which people ask again and again."""

from __future__ import annotations

import hashlib
from operator import attrgetter
from typing import Any

from django.core.cache import BaseCache, InvalidCacheBackendError, caches
from django.core.exceptions import ImproperlyConfigured

from pgembedding_django import vectors
from pgembedding_django.embedders import get_embedder, outcomes
from pgembedding_django.embedders.base import Embedder
from pgembedding_django.vectors import InvalidVector, Vector

__all__ = ["CachedEmbedder"]


class CachedEmbedder(Embedder):
    """
    Embed through another embedder, and keep the vectors of questions in Django's cache.

    embedder, cache: aliases in PGEMBEDDING["EMBEDDERS"] and CACHES. timeout: seconds; None keeps a vector until the
        cache drops it, which does no harm: the key changes with the model.
    Documents pass through: a pipeline reads each once. An entry that is no vector of the right length counts as none.
    """

    #: What the embedder inside says.
    dimensions: Any = property(attrgetter("inner.dimensions"))
    price: Any = property(attrgetter("inner.price"))
    query_prefix: Any = property(attrgetter("inner.query_prefix"))
    document_prefix: Any = property(attrgetter("inner.document_prefix"))
    batch_size: Any = property(attrgetter("inner.batch_size"))
    concurrency: Any = property(attrgetter("inner.concurrency"))
    sends_to: Any = property(attrgetter("inner.sends_to"))
    identity: Any = property(attrgetter("inner.identity"))
    _name: Any = property(attrgetter("inner._name"))

    def __init__(self, *, embedder: str, cache: str = "default", timeout: float | None = None) -> None:
        super().__init__()
        self._embedder, self._cache, self._timeout = embedder, cache, timeout

    @property
    def inner(self) -> Embedder:
        found = get_embedder(self._embedder)
        if isinstance(found, CachedEmbedder):
            raise ImproperlyConfigured(
                f'CachedEmbedder.embedder must name an embedder of another kind, got "{self._embedder}".'
            )
        return found

    def compute_each(self, texts: list[str]) -> list[Any]:
        return self.inner.compute_each(texts)

    async def acompute_each(self, texts: list[str]) -> list[Any]:
        return await self.inner.acompute_each(texts)

    def compute_query(self, text: str) -> Vector:
        key, cache = self._key(text), self._get_cache()
        kept = self._read(cache.get(key))
        if kept is not None:
            return kept
        vector = self._check(self.inner.compute_query(text))
        cache.set(key, _write(vector), self._timeout)
        return vector

    async def acompute_query(self, text: str) -> Vector:
        key, cache = self._key(text), self._get_cache()
        kept = self._read(await cache.aget(key))
        if kept is not None:
            return kept
        vector = self._check(await self.inner.acompute_query(text))
        await cache.aset(key, _write(vector), self._timeout)
        return vector

    def estimate_tokens(self, text: str) -> int:
        return self.inner.estimate_tokens(text)

    def close(self) -> None:
        self.inner.close()

    def _get_cache(self) -> BaseCache:
        try:
            return caches[self._cache]
        except InvalidCacheBackendError as error:
            raise ImproperlyConfigured(
                f'CachedEmbedder.cache must be an alias in CACHES, got "{self._cache}".'
            ) from error

    def _key(self, text: str) -> str:
        return "pgembedding:" + hashlib.sha256(f"{self.identity}\0{text}".encode()).hexdigest()

    def _check(self, answer: object) -> Vector:
        return outcomes.check(answer, self._name, "the query", self.dimensions)

    def _read(self, entry: object) -> Vector | None:
        """Return what an entry holds, or None: another program may have written it."""
        try:
            return vectors.to_vector(entry, dimensions=self.dimensions) if isinstance(entry, bytes) else None
        except InvalidVector:
            return None


def _write(vector: Vector) -> bytes:
    return vector.astype("<f4").tobytes()
