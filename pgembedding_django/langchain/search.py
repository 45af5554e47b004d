"""The searches that LangChain knows, sync and async, in terms of two that a store has."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from pgembedding_django.langchain.setup import Database

__all__ = ["SearchMethods"]

Filter = dict[str, Any]
Found = list[tuple[Document, float]]

#: distance: LangChain's relevance of it, which for vectors of length 1 is 1 where they are equal.
RELEVANCE: dict[str, Callable[[float], float]] = {
    "l2": VectorStore._euclidean_relevance_score_fn,
    "cosine": VectorStore._cosine_relevance_score_fn,
    "inner_product": VectorStore._max_inner_product_relevance_score_fn,
    "l1": lambda distance: 1 / (1 + distance),
}


class SearchMethods(VectorStore):
    """
    Every way to search a LangChain store.

    filter: as `pgembedding_django.documents.filters.parse_filter` takes it. Scores are distances, the least first.
    """

    database: Database
    embedding_function: Embeddings

    @property
    def embeddings(self) -> Embeddings:
        return self.embedding_function

    @abstractmethod
    def _nearest(self, embedding: Sequence[float], k: int, filter: Filter | None) -> Found:
        """Return the k nearest documents."""

    @abstractmethod
    def _diverse(
        self, embedding: Sequence[float], k: int, fetch_k: int, lambda_mult: float, filter: Filter | None
    ) -> Found:
        """Return k of the fetch_k nearest documents, each unlike those before it."""

    @abstractmethod
    def _distance(self) -> str:
        """Return the name of the distance that scores are."""

    # By nearness

    def similarity_search(self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any) -> list[Document]:
        return _documents(self.similarity_search_with_score(query, k, filter))

    def similarity_search_with_score(self, query: str, k: int = 4, filter: Filter | None = None) -> Found:
        return self.similarity_search_with_score_by_vector(self.embeddings.embed_query(query), k, filter)

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        return _documents(self.similarity_search_with_score_by_vector(embedding, k, filter))

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None
    ) -> Found:
        return self.database.run(self._nearest, embedding, k, filter)

    async def asimilarity_search(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        return _documents(await self.asimilarity_search_with_score(query, k, filter))

    async def asimilarity_search_with_score(self, query: str, k: int = 4, filter: Filter | None = None) -> Found:
        embedding = await self.embeddings.aembed_query(query)
        return await self.asimilarity_search_with_score_by_vector(embedding, k, filter)

    async def asimilarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        return _documents(await self.asimilarity_search_with_score_by_vector(embedding, k, filter))

    async def asimilarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None
    ) -> Found:
        return await self.database.arun(self._nearest, embedding, k, filter)

    # By nearness, unlike each other

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        return _documents(self.max_marginal_relevance_search_with_score(query, k, fetch_k, lambda_mult, filter))

    def max_marginal_relevance_search_with_score(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, filter: Filter | None = None
    ) -> Found:
        embedding = self.embeddings.embed_query(query)
        return self.max_marginal_relevance_search_with_score_by_vector(embedding, k, fetch_k, lambda_mult, filter)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        found = self.max_marginal_relevance_search_with_score_by_vector(embedding, k, fetch_k, lambda_mult, filter)
        return _documents(found)

    def max_marginal_relevance_search_with_score_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
    ) -> Found:
        return self.database.run(self._diverse, embedding, k, fetch_k, lambda_mult, filter)

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        found = await self.amax_marginal_relevance_search_with_score(query, k, fetch_k, lambda_mult, filter)
        return _documents(found)

    async def amax_marginal_relevance_search_with_score(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, filter: Filter | None = None
    ) -> Found:
        embedding = await self.embeddings.aembed_query(query)
        return await self.amax_marginal_relevance_search_with_score_by_vector(
            embedding, k, fetch_k, lambda_mult, filter
        )

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        return _documents(
            await self.amax_marginal_relevance_search_with_score_by_vector(embedding, k, fetch_k, lambda_mult, filter)
        )

    async def amax_marginal_relevance_search_with_score_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
    ) -> Found:
        return await self.database.arun(self._diverse, embedding, k, fetch_k, lambda_mult, filter)

    # By relevance, which similarity_search_with_relevance_scores() and score-threshold retrievers use

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        relevance = RELEVANCE[self.database.run(self._distance)]
        return lambda distance: min(1.0, max(0.0, relevance(distance)))

    async def _asimilarity_search_with_relevance_scores(self, query: str, k: int = 4, **kwargs: Any) -> Found:
        relevance = await self.database.arun(self._select_relevance_score_fn)
        found = await self.asimilarity_search_with_score(query, k, **kwargs)
        return [(document, relevance(score)) for document, score in found]


def _documents(found: Found) -> list[Document]:
    return [document for document, _ in found]
