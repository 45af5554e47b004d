"""from_texts() and its like: stores made with their documents; each signature is written out, as editors show it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from inspect import signature
from typing import Any, Self

from asgiref.sync import sync_to_async
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from pgembedding_django.langchain.contents import DocumentMethods
from pgembedding_django.langchain.rows import Columns, Ids, Metadatas, Vectors, check_counts

__all__ = ["DEFAULT_COLLECTION_NAME", "MakingMethods"]

DEFAULT_COLLECTION_NAME = "langchain"


class MakingMethods(DocumentMethods):
    """
    Make a store and, in one transaction, its documents.

    kwargs: the constructor's, such as connection_string; any other is a TypeError before anything is embedded.
    pre_delete_collection: let these documents be the whole content; the collection and its index stay.
    """

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings,
        metadatas: Metadatas | None = None,
        collection_name: str = DEFAULT_COLLECTION_NAME,
        ids: Ids | None = None,
        pre_delete_collection: bool = False,
        **kwargs: Any,
    ) -> Self:
        options = cls._check_options(collection_name=collection_name, **kwargs)
        columns = check_counts(texts, metadatas, ids)
        embeddings = embedding.embed_documents(columns[0]) if columns[0] else []
        return cls._from_embeddings(columns, embeddings, embedding, pre_delete_collection, options)

    @classmethod
    def from_embeddings(
        cls,
        text_embeddings: Iterable[tuple[str, Sequence[float]]],
        embedding: Embeddings,
        metadatas: Metadatas | None = None,
        collection_name: str = DEFAULT_COLLECTION_NAME,
        ids: Ids | None = None,
        pre_delete_collection: bool = False,
        **kwargs: Any,
    ) -> Self:
        options = cls._check_options(collection_name=collection_name, **kwargs)
        columns, embeddings = _unzip(text_embeddings, metadatas, ids)
        return cls._from_embeddings(columns, embeddings, embedding, pre_delete_collection, options)

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings,
        collection_name: str = DEFAULT_COLLECTION_NAME,
        ids: Ids | None = None,
        pre_delete_collection: bool = False,
        **kwargs: Any,
    ) -> Self:
        options: dict[str, Any] = {"collection_name": collection_name, "pre_delete_collection": pre_delete_collection}
        if ids is not None:
            options["ids"] = ids
        return super().from_documents(list(documents), embedding, **options, **kwargs)

    @classmethod
    def from_existing_index(
        cls,
        embedding: Embeddings,
        collection_name: str = DEFAULT_COLLECTION_NAME,
        pre_delete_collection: bool = False,
        **kwargs: Any,
    ) -> Self:
        options = {"collection_name": collection_name, "pre_delete_collection": pre_delete_collection, **kwargs}
        return cls._make(embedding, options)

    @classmethod
    async def afrom_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings,
        metadatas: Metadatas | None = None,
        collection_name: str = DEFAULT_COLLECTION_NAME,
        ids: Ids | None = None,
        pre_delete_collection: bool = False,
        **kwargs: Any,
    ) -> Self:
        options = cls._check_options(collection_name=collection_name, **kwargs)
        columns = check_counts(texts, metadatas, ids)
        embeddings = await embedding.aembed_documents(columns[0]) if columns[0] else []
        make = sync_to_async(cls._from_embeddings)
        return await make(columns, embeddings, embedding, pre_delete_collection, options)

    @classmethod
    async def afrom_embeddings(
        cls,
        text_embeddings: Iterable[tuple[str, Sequence[float]]],
        embedding: Embeddings,
        metadatas: Metadatas | None = None,
        collection_name: str = DEFAULT_COLLECTION_NAME,
        ids: Ids | None = None,
        pre_delete_collection: bool = False,
        **kwargs: Any,
    ) -> Self:
        options = cls._check_options(collection_name=collection_name, **kwargs)
        columns, embeddings = _unzip(text_embeddings, metadatas, ids)
        make = sync_to_async(cls._from_embeddings)
        return await make(columns, embeddings, embedding, pre_delete_collection, options)

    @classmethod
    async def afrom_documents(cls, documents: Iterable[Document], embedding: Embeddings, **kwargs: Any) -> Self:
        return await super().afrom_documents(list(documents), embedding, **kwargs)

    @classmethod
    def _check_options(cls, **options: Any) -> dict[str, Any]:
        """Return what the constructor takes; raises TypeError, before anything is paid for, for what it does not."""
        try:
            signature(cls).bind(embedding_function=None, **options)
        except TypeError as error:
            raise TypeError(f"{cls.__name__}() {error}.") from error
        return options

    @classmethod
    def _make(cls, embedding: Embeddings, options: dict[str, Any]) -> Self:
        make: Callable[..., Self] = cls
        return make(embedding_function=embedding, **options)

    @classmethod
    def _from_embeddings(
        cls, columns: Columns, embeddings: Vectors, embedding: Embeddings, replace: bool, options: dict[str, Any]
    ) -> Self:
        store = cls._make(embedding, options)
        store.database.run(store._write, embeddings, columns, replace)
        return store


def _unzip(
    pairs: Iterable[tuple[str, Sequence[float]]], metadatas: Metadatas | None, ids: Ids | None
) -> tuple[Columns, Vectors]:
    pairs = list(pairs)
    return check_counts([text for text, _ in pairs], metadatas, ids), [vector for _, vector in pairs]
