"""The search of a store by meaning and by words, sync and async."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from langchain_core.documents import Document

from pgembedding_django.langchain.search import Filter, Scored, SearchMethods
from pgembedding_django.rerankers import Reranker

__all__ = ["HybridMethods"]


class HybridMethods(SearchMethods):
    """Search by meaning and by words, and let a reranker read what was found."""

    @abstractmethod
    def _hybrid(
        self, query: str, embedding: Sequence[float], k: int, fetch_k: int, filter: Filter | None, options: Any
    ) -> Scored:
        """Return the k documents that match best by meaning and by words, of fetch_k that a reranker has read."""

    def hybrid_search(self, query: str, k: int = 4, filter: Filter | None = None, **options: Any) -> list[Document]:
        """
        Return the documents that match a question best by its meaning and by its words.

        weights, config: as EmbeddingQuerySet.hybrid() has them. rerank: a reranker, or its alias in
            PGEMBEDDING["RERANKERS"], that orders the fetch_k best of both (20 unless given) anew.
        """
        return [document for document, _ in self.hybrid_search_with_score(query, k, filter, **options)]

    def hybrid_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: Filter | None = None,
        *,
        weights: Sequence[float] = (1, 1),
        config: str | None = None,
        rerank: str | Reranker | None = None,
        fetch_k: int = 20,
    ) -> Scored:
        """As hybrid_search(), each with its score: the greater, the better."""
        embedding = self.embeddings.embed_query(query)
        options = (weights, config, rerank)
        return self.database.run(self._hybrid, query, embedding, k, fetch_k, filter, options)

    async def ahybrid_search(
        self, query: str, k: int = 4, filter: Filter | None = None, **options: Any
    ) -> list[Document]:
        return [document for document, _ in await self.ahybrid_search_with_score(query, k, filter, **options)]

    async def ahybrid_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: Filter | None = None,
        *,
        weights: Sequence[float] = (1, 1),
        config: str | None = None,
        rerank: str | Reranker | None = None,
        fetch_k: int = 20,
    ) -> Scored:
        embedding = await self.embeddings.aembed_query(query)
        options = (weights, config, rerank)
        return await self.database.arun(self._hybrid, query, embedding, k, fetch_k, filter, options)
