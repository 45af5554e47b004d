"""What a LangChain store does with the documents of its collection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.documents import Document

from pgembedding_django.langchain.rows import Ids, Metadatas, RowMethods, Vectors, check_counts
from pgembedding_django.langchain.search import Filter

__all__ = ["DocumentMethods"]


class DocumentMethods(RowMethods):
    """
    Add, replace, delete and get documents, sync and async.

    What one call adds is embedded in one call of the embedder, and stored all or none.
    """

    def add_texts(  # type: ignore[override]
        self,
        texts: Iterable[str],
        metadatas: Metadatas | None = None,
        ids: Ids | None = None,
        *,
        batch_size: int | None = None,
    ) -> list[str]:
        """
        Embed and store texts.

        ids: one that the collection has, or that came before, replaces that document. batch_size: how many texts one
            call of the embedder takes, all unless given.
        Returns the ids, new ones where none were given.
        """
        columns = check_counts(texts, metadatas, ids)
        embeddings = [
            embedding for part in _parts(columns[0], batch_size) for embedding in self.embeddings.embed_documents(part)
        ]
        return self.database.run(self._write, embeddings, columns)

    def add_embeddings(
        self,
        texts: Iterable[str],
        embeddings: Vectors,
        metadatas: Metadatas | None = None,
        ids: Ids | None = None,
    ) -> list[str]:
        """Store texts whose embeddings are at hand."""
        return self.database.run(self._write, embeddings, check_counts(texts, metadatas, ids))

    def add_documents(  # type: ignore[override]
        self, documents: Iterable[Document], *, ids: Ids | None = None, batch_size: int | None = None
    ) -> list[str]:
        """As add_texts(); the documents' own ids count where no others are given."""
        return self.add_texts(*_columns(documents, ids), batch_size=batch_size)

    def delete(  # type: ignore[override]
        self, ids: Iterable[str] | None = None, *, filter: Filter | None = None, delete_all: bool = False
    ) -> bool:
        """
        Delete the documents of some ids, or that a filter matches; where both are given, those that both say.

        delete_all: True empties the collection.
        Returns True, also where nothing has such an id. Without ids, filter and delete_all=True it deletes nothing,
        warns and returns False; an empty filter counts as none.
        Raises TypeError for delete_all=True beside ids or a filter.
        """
        return self.database.run(self._delete, ids, filter, delete_all)

    def get(
        self,
        ids: Iterable[str] | None = None,
        where: Filter | None = None,
        limit: int | None = None,
        offset: int | None = None,
        *,
        include: Iterable[str] = ("metadatas", "documents"),
    ) -> dict[str, list[Any]]:
        """
        Return documents without a search: {"ids": [...], "metadatas": [...], "documents": [...]}, the oldest first.

        where: a filter, as a search takes it. include: of "metadatas", "documents" and "embeddings".
        """
        return self.database.run(self._get, ids, where, limit, offset, tuple(include))

    def get_by_ids(self, ids: Iterable[str], /) -> list[Document]:
        """Return the documents of some ids, in their order; unknown ones are left out."""
        return self.database.run(self._get_by_ids, ids)

    async def aadd_texts(  # type: ignore[override]
        self,
        texts: Iterable[str],
        metadatas: Metadatas | None = None,
        ids: Ids | None = None,
        *,
        batch_size: int | None = None,
    ) -> list[str]:
        columns = check_counts(texts, metadatas, ids)
        embeddings = [
            embedding
            for part in _parts(columns[0], batch_size)
            for embedding in await self.embeddings.aembed_documents(part)
        ]
        return await self.database.arun(self._write, embeddings, columns)

    async def aadd_embeddings(
        self,
        texts: Iterable[str],
        embeddings: Vectors,
        metadatas: Metadatas | None = None,
        ids: Ids | None = None,
    ) -> list[str]:
        return await self.database.arun(self._write, embeddings, check_counts(texts, metadatas, ids))

    async def aadd_documents(  # type: ignore[override]
        self, documents: Iterable[Document], *, ids: Ids | None = None, batch_size: int | None = None
    ) -> list[str]:
        return await self.aadd_texts(*_columns(documents, ids), batch_size=batch_size)

    async def adelete(  # type: ignore[override]
        self, ids: Iterable[str] | None = None, *, filter: Filter | None = None, delete_all: bool = False
    ) -> bool:
        return await self.database.arun(self._delete, ids, filter, delete_all)

    async def aget(
        self,
        ids: Iterable[str] | None = None,
        where: Filter | None = None,
        limit: int | None = None,
        offset: int | None = None,
        *,
        include: Iterable[str] = ("metadatas", "documents"),
    ) -> dict[str, list[Any]]:
        return await self.database.arun(self._get, ids, where, limit, offset, tuple(include))

    async def aget_by_ids(self, ids: Iterable[str], /) -> list[Document]:
        return await self.database.arun(self._get_by_ids, ids)


def _columns(documents: Iterable[Document], ids: Ids | None) -> tuple[list[str], list[dict[str, Any]], Ids]:
    """Return the texts, metadatas and ids of documents."""
    documents = list(documents)
    own = [document.id for document in documents]
    return (
        [document.page_content for document in documents],
        [document.metadata for document in documents],
        own if ids is None else ids,
    )


def _parts(texts: list[str], size: int | None) -> list[list[str]]:
    size = size or len(texts) or 1
    return [texts[start : start + size] for start in range(0, len(texts), size)]
