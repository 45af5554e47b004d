"""What a LangChain store does with the documents of its collection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import apps
from django.db.models import QuerySet
from langchain_core.documents import Document

from pgembedding_django.diversity import diversify
from pgembedding_django.documents.contents import listed, make_documents
from pgembedding_django.documents.filters import parse_filter
from pgembedding_django.langchain.search import Filter, Found, SearchMethods
from pgembedding_django.langchain.setup import APP_LABEL
from pgembedding_django.vectors import to_vector

__all__ = ["DocumentMethods", "Ids", "Metadatas", "Vectors"]

Ids = Sequence[str | None]
Metadatas = Sequence[dict[str, Any]]
Vectors = Sequence[Sequence[float]]


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
        texts = listed(texts, "texts")
        embeddings = self.embeddings.embed_documents(texts) if texts else []
        return self.add_embeddings(texts, embeddings, metadatas, ids)

    def add_embeddings(
        self,
        texts: Iterable[str],
        embeddings: Vectors,
        metadatas: Metadatas | None = None,
        ids: Ids | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Store texts whose embeddings are at hand."""
        return self.database.run(self._write, listed(texts, "texts"), embeddings, metadatas, ids)

    def add_documents(self, documents: Iterable[Document], **kwargs: Any) -> list[str]:
        return super().add_documents(list(documents), **kwargs)

    def delete(self, ids: Sequence[str] | None = None, **kwargs: Any) -> bool:
        """Delete the documents of some ids, or all where ids is None; an unknown id is no error. Returns True."""
        return self.database.run(self._delete, ids)

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents of some ids, in their order; unknown ones are left out."""
        return self.database.run(self._get_by_ids, ids)

    async def aadd_texts(
        self, texts: Iterable[str], metadatas: Metadatas | None = None, ids: Ids | None = None, **kwargs: Any
    ) -> list[str]:
        texts = listed(texts, "texts")
        embeddings = await self.embeddings.aembed_documents(texts) if texts else []
        return await self.aadd_embeddings(texts, embeddings, metadatas, ids)

    async def aadd_embeddings(
        self,
        texts: Iterable[str],
        embeddings: Vectors,
        metadatas: Metadatas | None = None,
        ids: Ids | None = None,
        **kwargs: Any,
    ) -> list[str]:
        return await self.database.arun(self._write, listed(texts, "texts"), embeddings, metadatas, ids)

    async def aadd_documents(self, documents: Iterable[Document], **kwargs: Any) -> list[str]:
        return await super().aadd_documents(list(documents), **kwargs)

    async def adelete(self, ids: Sequence[str] | None = None, **kwargs: Any) -> bool:
        return await self.database.arun(self._delete, ids)

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
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
        rows = self._find_collection().documents.filter(parse_filter(filter or {})).nearest(embedding, max(k, fetch_k))
        return [(_as_document(row), row.distance) for row in diversify(rows, embedding, k, diversity=1 - lambda_mult)]

    def _write(
        self,
        texts: list[str],
        embeddings: Vectors,
        metadatas: Metadatas | None,
        ids: Ids | None,
        replace: bool = False,
    ) -> list[str]:
        given = {"embedding": embeddings, "metadata": metadatas or texts, "id": texts if ids is None else ids}
        for name, values in given.items():
            if len(values) != len(texts):
                raise ValueError(f"Each text must have one {name}, got {len(values)} for {len(texts)} texts.")
        collection = self._find_collection()
        keys = None if ids is None else [None if key is None else str(key) for key in listed(ids, "ids")]
        rows = make_documents(collection, texts, metadatas or None, keys)
        for position, row in enumerate(rows):
            row.embedding = to_vector(embeddings[position], name=f"The embedding of text {position}")
        (collection.replace if replace else collection.add)(rows)
        return [row.key for row in rows]

    def _delete(self, ids: Sequence[str] | None) -> bool:
        documents = self._find_collection().documents.all()
        (documents if ids is None else documents.filter(key__in=listed(ids, "ids"))).delete()
        return True

    def _get_by_ids(self, ids: Sequence[str]) -> list[Document]:
        rows = self._find_collection().documents.filter(key__in=listed(ids, "ids")).defer("embedding")
        found = {row.key: _as_document(row) for row in rows}
        return [found[key] for key in dict.fromkeys(ids) if key in found]


def _as_document(row: Any) -> Document:
    return Document(id=row.key, page_content=row.content, metadata=row.metadata)
