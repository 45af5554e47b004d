"""What a LangChain store does with the documents of its collection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import apps
from django.db.models import QuerySet
from langchain_core.documents import Document

from pgembedding_django.documents.contents import listed, make_documents
from pgembedding_django.documents.filters import is_storable, parse_filter
from pgembedding_django.langchain.search import Filter, Found, SearchMethods
from pgembedding_django.langchain.setup import APP_LABEL
from pgembedding_django.search.diversity import diversify
from pgembedding_django.vectors import to_vector

__all__ = ["DocumentMethods", "Ids", "Metadatas", "Vectors", "check_counts"]

Ids = Iterable[str | None]
Metadatas = Iterable[dict[str, Any]]
Vectors = Iterable[Sequence[float]]

#: Texts, metadatas and ids as one call gives them; None where it gives none.
Given = tuple[list[str], list[dict[str, Any]] | None, list[str | None] | None]


class DocumentMethods(SearchMethods):
    """
    Add, replace, delete and get documents, sync and async.

    What one call adds is embedded in one call of the embedder, and stored all or none.
    """

    collection_name: str

    def add_texts(
        self, texts: Iterable[str], metadatas: Metadatas | None = None, ids: Ids | None = None, **kwargs: Any
    ) -> list[str]:
        """
        Embed and store texts.

        ids: one that the collection has, or that came before, replaces that document. Returns the ids, new ones where
            none were given.
        """
        given = check_counts(texts, metadatas, ids)
        embeddings = self.embeddings.embed_documents(given[0]) if given[0] else []
        return self.database.run(self._write, embeddings, given)

    def add_embeddings(
        self,
        texts: Iterable[str],
        embeddings: Vectors,
        metadatas: Metadatas | None = None,
        ids: Ids | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Store texts whose embeddings are at hand."""
        return self.database.run(self._write, embeddings, check_counts(texts, metadatas, ids))

    def add_documents(self, documents: Iterable[Document], **kwargs: Any) -> list[str]:
        return super().add_documents(list(documents), **kwargs)

    def delete(self, ids: Iterable[str] | None = None, **kwargs: Any) -> bool:
        """Delete the documents of some ids, or all where ids is None; an unknown id is no error. Returns True."""
        return self.database.run(self._delete, ids)

    def get_by_ids(self, ids: Iterable[str], /) -> list[Document]:
        """Return the documents of some ids, in their order; unknown ones are left out."""
        return self.database.run(self._get_by_ids, ids)

    async def aadd_texts(
        self, texts: Iterable[str], metadatas: Metadatas | None = None, ids: Ids | None = None, **kwargs: Any
    ) -> list[str]:
        given = check_counts(texts, metadatas, ids)
        embeddings = await self.embeddings.aembed_documents(given[0]) if given[0] else []
        return await self.database.arun(self._write, embeddings, given)

    async def aadd_embeddings(
        self,
        texts: Iterable[str],
        embeddings: Vectors,
        metadatas: Metadatas | None = None,
        ids: Ids | None = None,
        **kwargs: Any,
    ) -> list[str]:
        return await self.database.arun(self._write, embeddings, check_counts(texts, metadatas, ids))

    async def aadd_documents(self, documents: Iterable[Document], **kwargs: Any) -> list[str]:
        return await super().aadd_documents(list(documents), **kwargs)

    async def adelete(self, ids: Iterable[str] | None = None, **kwargs: Any) -> bool:
        return await self.database.arun(self._delete, ids)

    async def aget_by_ids(self, ids: Iterable[str], /) -> list[Document]:
        return await self.database.arun(self._get_by_ids, ids)

    # In the database

    def _collections(self) -> QuerySet[Any]:
        """The queryset of the collection; its model is known only after Django is set up."""
        model: Any = apps.get_model(APP_LABEL, "Collection")
        rows: QuerySet[Any] = model._default_manager.using(self.database.alias)
        return rows.filter(name=self.collection_name)

    def _find_collection(self) -> Any:
        collection = self._collections().first()
        if collection is None:
            raise ValueError(f'Collection "{self.collection_name}" was deleted. Call create_collection() first.')
        return collection

    def _distance(self) -> str:
        return str(self._find_collection().distance)

    def _nearest(self, embedding: Sequence[float], k: int, filter: Filter | None) -> Found:
        rows = self._find_collection().documents.filter(parse_filter(filter or {})).defer("embedding")
        return [(_as_document(row), row.distance) for row in rows.nearest(embedding, k)]

    def _diverse(
        self, embedding: Sequence[float], k: int, fetch_k: int, lambda_mult: float, filter: Filter | None
    ) -> Found:
        if not 0 <= lambda_mult <= 1:
            raise ValueError(f"lambda_mult must be a number from 0 to 1, got {lambda_mult}.")
        rows = self._find_collection().documents.filter(parse_filter(filter or {})).nearest(embedding, max(k, fetch_k))
        return [(_as_document(row), row.distance) for row in diversify(rows, embedding, k, diversity=1 - lambda_mult)]

    def _write(self, embeddings: Vectors, given: Given, replace: bool = False) -> list[str]:
        texts, metadatas, ids = given
        embeddings = list(embeddings)
        _check_count("embedding", embeddings, texts)
        collection = self._find_collection()
        rows = make_documents(collection, texts, metadatas, ids)
        for position, row in enumerate(rows):
            row.embedding = to_vector(embeddings[position], name=f"The embedding of text {position}")
        (collection.replace if replace else collection.add)(rows)
        return [row.key for row in rows]

    def _delete(self, ids: Iterable[str] | None) -> bool:
        documents = self._find_collection().documents.all()
        (documents if ids is None else documents.filter(key__in=_keys(ids))).delete()
        return True

    def _get_by_ids(self, ids: Iterable[str]) -> list[Document]:
        keys = _keys(ids)
        rows = self._find_collection().documents.filter(key__in=keys).defer("embedding")
        found = {row.key: _as_document(row) for row in rows}
        return [found[key] for key in keys if key in found]


def check_counts(texts: Iterable[str], metadatas: Metadatas | None, ids: Ids | None) -> Given:
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


def _as_document(row: Any) -> Document:
    return Document(id=row.key, page_content=row.content, metadata=row.metadata)
