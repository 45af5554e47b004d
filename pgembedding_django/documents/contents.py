"""What is made ready before a collection stores it: documents with unlike keys and a vector each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.db.models import QuerySet

from pgembedding_django.documents.scope import DocumentSource
from pgembedding_django.embedders import EmbeddingError, TextRejected, get_embedder, outcomes

if TYPE_CHECKING:
    # Not at run time: a script imports this before Django is set up.
    from pgembedding_django.documents.rows import CollectionRow, DocumentRow

__all__ = [
    "as_result",
    "embed_all",
    "embed_missing",
    "gather",
    "listed",
    "make_documents",
    "reuse_vectors",
]

T = TypeVar("T")
D = TypeVar("D", bound="DocumentRow")


def make_documents(
    model: type[D],
    collection: CollectionRow,
    texts: Iterable[str],
    metadatas: Iterable[Mapping[str, Any] | None] | None,
    keys: Iterable[str | None] | None,
) -> list[D]:
    """
    Return a document for each text.

    Raises ValueError if there are not as many metadatas or keys as texts, TypeError for one text instead of a list, and
    for a metadata that is no dict.
    """
    texts = listed(texts, "texts")
    columns: dict[str, list[Any]] = {
        "metadatas": [None] * len(texts) if metadatas is None else list(metadatas),
        "keys": [None] * len(texts) if keys is None else listed(keys, "keys"),
    }
    for name, values in columns.items():
        if len(values) != len(texts):
            raise ValueError(f"{name} must be as many as the texts, {len(texts)}, got {len(values)}.")
    for position, metadata in enumerate(columns["metadatas"]):
        if not isinstance(metadata, Mapping | None):
            raise TypeError(f"The metadata of text {position} must be a dict, got {type(metadata).__name__}.")
    return [
        model(
            collection=cast(Any, collection),
            content=text,
            metadata=dict(metadata or {}),
            **({} if key is None else {"key": key}),
        )
        for text, metadata, key in zip(texts, columns["metadatas"], columns["keys"], strict=True)
    ]


def listed(values: Iterable[T], name: str) -> list[T]:
    """
    Return values as a list.

    Raises TypeError for a str, each of whose characters would count as a value.
    """
    if isinstance(values, str):
        raise TypeError(f"{name} must be a list of str, got a str. Put it in a list.")
    return list(values)


def gather(collection: CollectionRow, documents: Iterable[D]) -> list[D]:
    """
    Return the documents with unlike keys, the last of each.

    Raises ValueError for a document of another collection, and ValidationError for one that Postgres would refuse.
    """
    by_key: dict[str, D] = {}
    for document in documents:
        if document.collection_id is None:
            document.collection = cast(Any, collection)
        elif document.collection_id != collection.pk:
            raise ValueError(f'Document "{document.key}" is of another collection than "{collection.name}".')
        document.check_storable()
        by_key[document.key] = document
    return list(by_key.values())


def embed_all(collection: CollectionRow, documents: Sequence[DocumentRow]) -> None:
    """
    Give a vector to each document that has none: the stored one of the same key and text, or a new one.

    Raises EmbeddingError naming the document whose text cannot be embedded; a blank one before anything is paid for.
    """
    missing = [document for document in documents if document.embedding is None]
    refusals = outcomes.refusals([document.content for document in missing], "The embedder")
    _raise_first({document.key: why for document, why in zip(missing, refusals, strict=True) if why is not None})
    if missing:
        stored = collection.document_model._default_manager.using(collection.alias).filter(collection=collection.pk)
        reuse_vectors(collection, missing, stored.filter(key__in=[document.key for document in missing]))
        _raise_first(embed_missing(collection, missing))


def reuse_vectors(collection: CollectionRow, documents: Sequence[DocumentRow], stored: QuerySet[DocumentRow]) -> None:
    """Give documents their digests, and the vectors of those stored rows that have the same."""
    source = DocumentSource(collection.document_model, collection.embedder)
    for document in documents:
        document.digest = source.digest(source.text(document))
    same = stored.filter(digest__in={document.digest for document in documents}, embedding__isnull=False)
    vectors = dict(same.values_list("digest", "embedding"))
    for document in documents:
        document.embedding = vectors.get(document.digest)


def embed_missing(collection: CollectionRow, documents: Sequence[DocumentRow]) -> dict[str, EmbeddingError]:
    """
    Give a new vector to each document that has a digest and none; the same text is sent once.

    Returns key: error of those that got none. Raises EmbeddingError if the embedder answers nothing at all.
    """
    missing = [document for document in documents if document.embedding is None]
    texts = {document.digest: document.content.strip() for document in missing}
    answers = get_embedder(collection.embedder).embed_each(list(texts.values())) if texts else []
    outcome = dict(zip(texts, answers, strict=True))
    failures: dict[str, EmbeddingError] = {}
    for document in missing:
        answer = outcome[document.digest]
        if isinstance(answer, EmbeddingError):
            failures[document.key] = answer
        else:
            document.embedding = answer
    return failures


def as_result(document: Any) -> dict[str, Any]:
    """Return what a search answers of a document that nearest() found."""
    return {
        "key": document.key,
        "distance": document.distance,
        "content": document.content,
        "metadata": document.metadata,
    }


def _raise_first(failures: Mapping[str, EmbeddingError]) -> None:
    for key, error in failures.items():
        if isinstance(error, TextRejected):
            raise TextRejected(f'Document "{key}": {error}') from error
        raise error
