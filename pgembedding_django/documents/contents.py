"""What is made ready before a collection stores it: documents with unlike keys and a vector each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.core.exceptions import ValidationError
from django.db.models import QuerySet

from pgembedding_django.documents.scope import DocumentSource
from pgembedding_django.embedders import EmbeddingError, TextRejected, get_embedder, outcomes

if TYPE_CHECKING:
    from pgembedding_django.documents.models import Collection, Document

__all__ = [
    "as_result",
    "check_document",
    "embed_all",
    "embed_missing",
    "gather",
    "listed",
    "make_documents",
    "reuse_vectors",
]

#: A NUL as JSON writes it: an even number of backslashes before it are characters of the text.
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
T = TypeVar("T")


def make_documents(
    collection: Collection,
    texts: Iterable[str],
    metadatas: Iterable[Mapping[str, Any] | None] | None,
    keys: Iterable[str | None] | None,
) -> list[Document]:
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
        _model(collection)(
            collection=collection, content=text, metadata=dict(metadata or {}), **({} if key is None else {"key": key})
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


def gather(collection: Collection, documents: Iterable[Document]) -> list[Document]:
    """
    Return the documents with unlike keys, the last of each.

    Raises ValueError for a document of another collection, and ValidationError for one that Postgres would refuse.
    """
    found: dict[str, Document] = {}
    for document in documents:
        if document.collection_id is None:
            document.collection = collection
        elif document.collection_id != collection.pk:
            raise ValueError(f'Document "{document.key}" is of another collection than "{collection.name}".')
        check_document(document)
        found[document.key] = document
    return list(found.values())


def embed_all(collection: Collection, documents: Sequence[Document]) -> None:
    """
    Give a vector to each document that has none: the stored one of the same key and text, or a new one.

    Raises EmbeddingError naming the document whose text cannot be embedded; a blank one before anything is paid for.
    """
    missing = [document for document in documents if document.embedding is None]
    refusals = outcomes.refusals([document.content for document in missing], "The embedder")
    _raise_first({document.key: why for document, why in zip(missing, refusals, strict=True) if why is not None})
    if missing:
        stored = _model(collection).objects.using(collection.alias).filter(collection=collection)
        reuse_vectors(collection, missing, stored.filter(key__in=[document.key for document in missing]))
        _raise_first(embed_missing(collection, missing))


def reuse_vectors(collection: Collection, documents: Sequence[Document], stored: QuerySet[Document]) -> None:
    """Give documents their digests, and the vectors of those stored rows that have the same."""
    source = DocumentSource(_model(collection), collection.embedder)
    for document in documents:
        document.digest = source.digest(source.text(document))
    same = stored.filter(digest__in={document.digest for document in documents}, embedding__isnull=False)
    known = dict(same.values_list("digest", "embedding"))
    for document in documents:
        document.embedding = known.get(document.digest)


def embed_missing(collection: Collection, documents: Sequence[Document]) -> dict[str, EmbeddingError]:
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


def check_document(document: Document) -> None:
    """Raise ValidationError, by the document's key, for what Postgres would refuse."""
    key = str(document.key)
    named, longest = json.dumps(key, ensure_ascii=False), cast(int, document._meta.get_field("key").max_length)
    if len(key) > longest:
        raise ValidationError(
            f'Document.key must have at most {longest} characters, got {len(key)} ("{key[:40]}...").', code="max_length"
        )
    for name, value in (("key", key), ("content", str(document.content)), ("metadata", document.metadata)):
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False)
            text.encode()
        except (TypeError, ValueError) as error:
            raise ValidationError(f"Document {named}: {name} cannot be stored: {error}.", code="invalid") from error
        if NUL.search(text):
            raise ValidationError(
                f"Document {named}: {name} must have no NUL character, which Postgres stores in no text.", code="nul"
            )


def _raise_first(failures: Mapping[str, EmbeddingError]) -> None:
    for key, error in failures.items():
        if isinstance(error, TextRejected):
            raise TextRejected(f'Document "{key}": {error}') from error
        raise error


def _model(collection: Collection) -> Any:
    return collection._meta.get_field("documents").related_model
