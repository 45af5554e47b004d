"""What is made ready before a collection stores it: documents with unlike keys and a vector each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pgembedding_django.embedders import get_embedder

if TYPE_CHECKING:
    from pgembedding_django.documents.models import Collection, Document

__all__ = ["as_result", "digest", "embed_missing", "gather", "make_documents"]


def digest(text: str, identity: str) -> str:
    """Return 64 characters that tell a text as one embedder sees it from any other."""
    return hashlib.sha256(f"{identity}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()


def make_documents(
    collection: Collection,
    texts: Iterable[str],
    metadatas: Iterable[Mapping[str, Any] | None] | None,
    keys: Iterable[str | None] | None,
) -> list[Document]:
    """
    Return a document for each text.

    Raises ValueError if there are not as many metadatas or keys as texts.
    """
    texts = list(texts)
    columns: dict[str, list[Any]] = {
        "metadatas": [None] * len(texts) if metadatas is None else list(metadatas),
        "keys": [None] * len(texts) if keys is None else list(keys),
    }
    for name, values in columns.items():
        if len(values) != len(texts):
            raise ValueError(f"{name} must be as many as the texts, {len(texts)}, got {len(values)}.")
    return [
        _model(collection)(
            collection=collection, content=text, metadata=dict(metadata or {}), **({} if key is None else {"key": key})
        )
        for text, metadata, key in zip(texts, columns["metadatas"], columns["keys"], strict=True)
    ]


def gather(collection: Collection, documents: Iterable[Document]) -> list[Document]:
    """
    Return the documents with unlike keys, the last of each.

    Raises ValueError for a document of another collection.
    """
    found: dict[str, Document] = {}
    for document in documents:
        if document.collection_id is None:
            document.collection = collection
        elif document.collection_id != collection.pk:
            raise ValueError(f'Document "{document.key}" is of another collection than "{collection.name}".')
        found[document.key] = document
    return list(found.values())


def embed_missing(collection: Collection, documents: Sequence[Document]) -> None:
    """Give a vector to each document that has none: the stored one of the same key and text, or a new one."""
    missing = [document for document in documents if document.embedding is None]
    if not missing:
        return
    embedder = get_embedder(collection.embedder)
    for document in missing:
        document.digest = digest(document.content, embedder.identity)
    stored = (
        _model(collection)
        .objects.using(collection.alias)
        .filter(collection=collection, key__in=[document.key for document in missing], embedding__isnull=False)
    )
    known = {(key, digest_): vector for key, digest_, vector in stored.values_list("key", "digest", "embedding")}
    for document in missing:
        document.embedding = known.get((document.key, document.digest))
    missing = [document for document in missing if document.embedding is None]
    vectors = embedder.embed([document.content for document in missing])
    for document, vector in zip(missing, vectors, strict=True):
        document.embedding = vector


def as_result(document: Any) -> dict[str, Any]:
    """Return what a search answers of a document that nearest() found."""
    return {
        "key": document.key,
        "distance": document.distance,
        "content": document.content,
        "metadata": document.metadata,
    }


def _model(collection: Collection) -> Any:
    return collection._meta.get_field("documents").related_model
