"""What a LangChain store asks of the database: the rows of its collection."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from django.db.models import QuerySet
from langchain_core.documents import Document

from pgembedding_django.documents.contents import listed, make_documents
from pgembedding_django.documents.filters import parse_filter
from pgembedding_django.documents.storable import is_storable
from pgembedding_django.langchain.hybrid import HybridMethods
from pgembedding_django.langchain.search import Filter, Scored
from pgembedding_django.langchain.setup import collections_of
from pgembedding_django.rerankers import Reranker
from pgembedding_django.search.diversity import diversify
from pgembedding_django.search.reranking import rerank
from pgembedding_django.vectors import to_vector

if TYPE_CHECKING:
    # Not at run time: Django is set up when the first store is made.
    from pgembedding_django.documents.models import Collection
    from pgembedding_django.documents.rows import DocumentRow

__all__ = ["Columns", "Ids", "Metadatas", "RowMethods", "Vectors", "check_counts"]

Ids = Iterable[str | None]
Metadatas = Iterable[dict[str, Any]]
Vectors = Iterable[Sequence[float]]

#: Texts, metadatas and ids of one call; None for what it does not give.
Columns = tuple[list[str], list[dict[str, Any]] | None, list[str | None] | None]

Rows = Iterable["DocumentRow"]

#: What get() can return: the field that it is.
FIELDS = {"metadatas": "metadata", "documents": "content", "embeddings": "embedding"}


class RowMethods(HybridMethods):
    """Reads and writes the documents of the store's collection; each method runs in `database.run()`."""

    collection_name: str
    logger: logging.Logger

    def _collections(self) -> QuerySet[Collection]:
        """Return the collection of the store, if it is there."""
        return collections_of(self.database).filter(name=self.collection_name)

    def _find_collection(self) -> Collection:
        collection = self._collections().first()
        if collection is None:
            raise ValueError(f'Collection "{self.collection_name}" was deleted. Call create_collection() first.')
        return collection

    def _distance(self) -> str:
        return str(self._find_collection().distance)

    def _nearest(self, embedding: Sequence[float], k: int, filter: Filter | None, threshold: float | None) -> Scored:
        collection = self._find_collection()
        rows = collection.documents.filter(parse_filter(filter or {})).defer("embedding").nearest(embedding, k)
        return [(_as_document(row), _distance_of(row)) for row in self._relevant(rows, collection, threshold)]

    def _diverse(
        self,
        embedding: Sequence[float],
        k: int,
        fetch_k: int,
        lambda_mult: float,
        filter: Filter | None,
        threshold: float | None,
    ) -> Scored:
        if not 0 <= lambda_mult <= 1:
            raise ValueError(f"lambda_mult must be a number from 0 to 1, got {lambda_mult}.")
        collection = self._find_collection()
        rows = collection.documents.filter(parse_filter(filter or {})).nearest(embedding, max(k, fetch_k))
        relevant = self._relevant(rows, collection, threshold)
        return [
            (_as_document(row), _distance_of(row))
            for row in diversify(relevant, embedding, k, diversity=1 - lambda_mult)
        ]

    def _hybrid(
        self,
        query: str,
        embedding: Sequence[float],
        k: int,
        fetch_k: int,
        filter: Filter | None,
        options: tuple[Sequence[float], str | None, str | Reranker | None],
    ) -> Scored:
        weights, config, reranker = options
        rows = self._find_collection().documents.filter(parse_filter(filter or {})).defer("embedding")
        wanted = k if reranker is None else max(k, fetch_k)
        found = rows.hybrid(query, wanted, fields=["content"], vector=embedding, weights=weights, config=config)
        best = found if reranker is None else rerank(found, query, k, by=reranker, of="content")
        return [(_as_document(row), row.__dict__["score"]) for row in best]

    def _relevant(self, rows: Rows, collection: Collection, threshold: float | None) -> Rows:
        if threshold is None:
            return rows
        relevance = self._relevance_of(collection.distance)
        return [row for row in rows if relevance(_distance_of(row)) >= threshold]

    def _write(self, embeddings: Vectors, columns: Columns, replace: bool = False) -> list[str]:
        texts, metadatas, ids = columns
        embeddings = list(embeddings)
        _check_count("embedding", embeddings, texts)
        collection = self._find_collection()
        rows = make_documents(collection.documents.model, collection, texts, metadatas, ids)
        for position, row in enumerate(rows):
            row.embedding = to_vector(embeddings[position], name=f"The embedding of text {position}")
        (collection.replace if replace else collection.add)(rows)
        return [row.key for row in rows]

    def _delete(self, ids: Iterable[str] | None, filter: Filter | None, delete_all: bool) -> bool:
        if delete_all and (ids is not None or filter):
            raise TypeError("delete() takes delete_all=True, or ids and filter, not both.")
        if ids is None and not filter and delete_all is not True:
            self.logger.warning(
                "Nothing was deleted: delete() got neither ids nor filter. To delete all documents of "
                "the collection, pass delete_all=True."
            )
            return False
        self._select(ids, filter).delete()
        return True

    def _get(
        self,
        ids: Iterable[str] | None,
        where: Filter | None,
        limit: int | None,
        offset: int | None,
        include: tuple[str, ...],
    ) -> dict[str, list[Any]]:
        unknown = set(include) - FIELDS.keys()
        if unknown:
            raise ValueError(f"include must be of {', '.join(FIELDS)}, got {', '.join(sorted(unknown))}.")
        start = offset or 0
        rows = self._select(ids, where).order_by("pk")[start : None if limit is None else start + limit]
        columns = {"ids": "key", **{name: FIELDS[name] for name in FIELDS if name in include}}
        values = list(rows.values_list(*columns.values()))
        return {name: [row[position] for row in values] for position, name in enumerate(columns)}

    def _select(self, ids: Iterable[str] | None, filter: Filter | None) -> QuerySet[DocumentRow]:
        """Return the documents that have one of some ids and match a filter; None for either is no condition."""
        rows: QuerySet[DocumentRow] = self._find_collection().documents.filter(parse_filter(filter or {}))
        return rows if ids is None else rows.filter(key__in=_keys(ids))

    def _get_by_ids(self, ids: Iterable[str]) -> list[Document]:
        keys = _keys(ids)
        rows = self._find_collection().documents.filter(key__in=keys).defer("embedding")
        documents = {row.key: _as_document(row) for row in rows}
        return [documents[key] for key in keys if key in documents]


def check_counts(texts: Iterable[str], metadatas: Metadatas | None, ids: Ids | None) -> Columns:
    """Return as lists what a call gives; raises ValueError, before anything is paid for, if their lengths differ."""
    listed_texts = listed(texts, "texts")
    # LangChain's classes take an empty list of metadatas for none.
    listed_metadatas = listed(metadatas or (), "metadatas") or None
    listed_ids = None if ids is None else [None if key is None else str(key) for key in listed(ids, "ids")]
    _check_count("metadata", listed_metadatas, listed_texts)
    _check_count("id", listed_ids, listed_texts)
    return listed_texts, listed_metadatas, listed_ids


def _check_count(name: str, values: Sequence[Any] | None, texts: list[str]) -> None:
    if values is not None and len(values) != len(texts):
        raise ValueError(f"Each text must have one {name}, got {len(values)} for {len(texts)} texts.")


def _keys(ids: Iterable[str]) -> list[str]:
    """Return the ids that a document can have, each once."""
    return list(dict.fromkeys(key for key in map(str, listed(ids, "ids")) if is_storable(key)))


def _distance_of(row: DocumentRow) -> float:
    return float(row.__dict__["distance"])


def _as_document(row: DocumentRow) -> Document:
    return Document(id=row.key, page_content=row.content, metadata=row.metadata)
