"""
The searches that LangChain knows, in terms of two.

Longer than other modules: each signature is written out, as editors show it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever

from pgembedding_django.langchain.retriever import StoreRetriever
from pgembedding_django.langchain.setup import Database

__all__ = ["SearchMethods"]

Filter = dict[str, Any]
Scored = list[tuple[Document, float]]

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
    score_threshold: leave out documents of less relevance, as similarity_search_with_relevance_scores() counts it.
    Any other keyword is a TypeError, also in a retriever's search_kwargs.
    """

    database: Database
    embedding_function: Embeddings
    relevance_score_fn: Callable[[float], float] | None

    @property
    def embeddings(self) -> Embeddings:
        return self.embedding_function

    @abstractmethod
    def _nearest(self, embedding: Sequence[float], k: int, filter: Filter | None, threshold: float | None) -> Scored:
        """Return the k nearest documents, without those whose relevance is below a threshold."""

    @abstractmethod
    def _diverse(
        self,
        embedding: Sequence[float],
        k: int,
        fetch_k: int,
        lambda_mult: float,
        filter: Filter | None,
        threshold: float | None,
    ) -> Scored:
        """Return k of the fetch_k nearest documents, each unlike those before it."""

    @abstractmethod
    def _distance(self) -> str:
        """Return the name of the distance that scores are."""

    def similarity_search(  # type: ignore[override]
        self, query: str, k: int = 4, filter: Filter | None = None, *, score_threshold: float | None = None
    ) -> list[Document]:
        return _documents(self.similarity_search_with_score(query, k, filter, score_threshold=score_threshold))

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, *, score_threshold: float | None = None
    ) -> Scored:
        embedding = self.embeddings.embed_query(query)
        return self.similarity_search_with_score_by_vector(embedding, k, filter, score_threshold=score_threshold)

    def similarity_search_by_vector(  # type: ignore[override]
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, *, score_threshold: float | None = None
    ) -> list[Document]:
        scored = self.similarity_search_with_score_by_vector(embedding, k, filter, score_threshold=score_threshold)
        return _documents(scored)

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, *, score_threshold: float | None = None
    ) -> Scored:
        return self.database.run(self._nearest, embedding, k, filter, score_threshold)

    async def asimilarity_search(  # type: ignore[override]
        self, query: str, k: int = 4, filter: Filter | None = None, *, score_threshold: float | None = None
    ) -> list[Document]:
        return _documents(await self.asimilarity_search_with_score(query, k, filter, score_threshold=score_threshold))

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, *, score_threshold: float | None = None
    ) -> Scored:
        embedding = await self.embeddings.aembed_query(query)
        return await self.asimilarity_search_with_score_by_vector(embedding, k, filter, score_threshold=score_threshold)

    async def asimilarity_search_by_vector(  # type: ignore[override]
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, *, score_threshold: float | None = None
    ) -> list[Document]:
        scored = self.asimilarity_search_with_score_by_vector(embedding, k, filter, score_threshold=score_threshold)
        return _documents(await scored)

    async def asimilarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter | None = None, *, score_threshold: float | None = None
    ) -> Scored:
        return await self.database.arun(self._nearest, embedding, k, filter, score_threshold)

    # By nearness, unlike each other

    def max_marginal_relevance_search(  # type: ignore[override]
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        *,
        score_threshold: float | None = None,
    ) -> list[Document]:
        scored = self.max_marginal_relevance_search_with_score(
            query, k, fetch_k, lambda_mult, filter, score_threshold=score_threshold
        )
        return _documents(scored)

    def max_marginal_relevance_search_with_score(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        *,
        score_threshold: float | None = None,
    ) -> Scored:
        embedding = self.embeddings.embed_query(query)
        return self.max_marginal_relevance_search_with_score_by_vector(
            embedding, k, fetch_k, lambda_mult, filter, score_threshold=score_threshold
        )

    def max_marginal_relevance_search_by_vector(  # type: ignore[override]
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        *,
        score_threshold: float | None = None,
    ) -> list[Document]:
        scored = self.max_marginal_relevance_search_with_score_by_vector(
            embedding, k, fetch_k, lambda_mult, filter, score_threshold=score_threshold
        )
        return _documents(scored)

    def max_marginal_relevance_search_with_score_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        *,
        score_threshold: float | None = None,
    ) -> Scored:
        return self.database.run(self._diverse, embedding, k, fetch_k, lambda_mult, filter, score_threshold)

    async def amax_marginal_relevance_search(  # type: ignore[override]
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        *,
        score_threshold: float | None = None,
    ) -> list[Document]:
        scored = await self.amax_marginal_relevance_search_with_score(
            query, k, fetch_k, lambda_mult, filter, score_threshold=score_threshold
        )
        return _documents(scored)

    async def amax_marginal_relevance_search_with_score(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        *,
        score_threshold: float | None = None,
    ) -> Scored:
        embedding = await self.embeddings.aembed_query(query)
        return await self.amax_marginal_relevance_search_with_score_by_vector(
            embedding, k, fetch_k, lambda_mult, filter, score_threshold=score_threshold
        )

    async def amax_marginal_relevance_search_by_vector(  # type: ignore[override]
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        *,
        score_threshold: float | None = None,
    ) -> list[Document]:
        scored = await self.amax_marginal_relevance_search_with_score_by_vector(
            embedding, k, fetch_k, lambda_mult, filter, score_threshold=score_threshold
        )
        return _documents(scored)

    async def amax_marginal_relevance_search_with_score_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        *,
        score_threshold: float | None = None,
    ) -> Scored:
        return await self.database.arun(self._diverse, embedding, k, fetch_k, lambda_mult, filter, score_threshold)

    def as_retriever(self, **kwargs: Any) -> VectorStoreRetriever:
        """
        As LangChain's, with search_type="hybrid" too.

        Raises TypeError for what a retriever does not have, such as k outside of search_kwargs.
        """
        for name in kwargs.keys() - VectorStoreRetriever.model_fields.keys():
            raise TypeError(f"as_retriever() got an unexpected keyword argument {name!r}. Put it into search_kwargs.")
        tags = super().as_retriever(tags=kwargs.pop("tags", None)).tags
        return StoreRetriever(vectorstore=self, tags=tags, **kwargs)

    # By relevance, which similarity_search_with_relevance_scores() and score-threshold retrievers use

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return self._relevance_of(self.database.run(self._distance))

    def _relevance_of(self, distance: str) -> Callable[[float], float]:
        """Return the relevance of a distance: the store's own function, or else LangChain's own, from 0 to 1."""
        relevance = RELEVANCE[distance]
        return self.relevance_score_fn or (lambda score: min(1.0, max(0.0, relevance(score))))

    async def _asimilarity_search_with_relevance_scores(self, query: str, k: int = 4, **kwargs: Any) -> Scored:
        scored = await self.asimilarity_search_with_score(query, k, **kwargs)
        relevance = await self.database.arun(self._select_relevance_score_fn)
        return [(document, relevance(score)) for document, score in scored]


def _documents(scored: Scored) -> list[Document]:
    return [document for document, _ in scored]
