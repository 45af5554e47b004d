"""Copies one collection of a LangChain store, batch by batch."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from django.core.exceptions import ValidationError

from pgembedding_django.documents.importing.source import Row, Source
from pgembedding_django.documents.importing.tables import StoreTable
from pgembedding_django.documents.models import Collection, Document
from pgembedding_django.documents.scope import CollectionField
from pgembedding_django.vectors import InvalidVector, Vector
from pgembedding_django.vectors.wire import decode_array

__all__ = ["ImportReport", "ImportRun"]

#: Failures that are kept with their reasons; all are counted.
MAX_FAILURES = 20


@dataclass
class ImportReport:
    """
    How many documents were new, changed and unchanged here, and how many could not be stored.

    there, here: how many the source had and the collection has. failures: id and reason of the first that failed.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    failed: int = 0
    there: int = 0
    here: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)

    @property
    def is_short(self) -> bool:
        """Whether a document that was stored is not here, as where two have one id."""
        return self.here < self.there - self.failed

    def fail(self, key: str, reason: str) -> None:
        self.failed += 1
        if len(self.failures) < MAX_FAILURES:
            self.failures.append((key, reason))


class ImportRun:
    """
    Brings the documents of one collection of the source into a collection here.

    What is here as it is there is left alone, so that an interrupted run is gone on with by running it again. Documents
    that the source does not have stay. Each batch is stored in a transaction of its own.
    """

    source: Source
    table: StoreTable
    collection: Collection

    def __init__(self, source: Source, table: StoreTable, collection: Collection) -> None:
        self.source, self.table, self.collection = source, table, collection
        self.report: ImportReport = ImportReport(there=source.count(table))

    def run(self, progress: Callable[[int], object]) -> ImportReport:
        """Copy; progress is called with the number of documents of each batch."""
        for rows in self.source.rows(self.table):
            self._store(rows)
            progress(len(rows))
        self.report.here = self.collection.documents.count()
        return self.report

    def _store(self, rows: Sequence[Row]) -> None:
        documents = {}
        for row in rows:
            try:
                document = self._read(row)
            except InvalidVector as error:
                self.report.fail(row[0], str(error))
            except ValidationError as error:
                self.report.fail(row[0], error.messages[0])
            else:
                documents[document.key] = document
        stored = {each.key: each for each in self.collection.documents.filter(key__in=documents)}
        self.report.new += len(documents.keys() - stored.keys())
        changed = {key: each for key, each in documents.items() if key not in stored or _differ(each, stored[key])}
        self.report.changed += len(changed.keys() & stored.keys())
        self.report.unchanged += len(documents) - len(changed)
        self.collection.store(list(changed.values()))

    def _read(self, row: Row) -> Document:
        """Return a row as a document; raises InvalidVector or ValidationError for what a collection cannot hold."""
        key, text, metadata, others, vector = row
        document = Document(collection=self.collection, key=key, content=text or "", metadata=_merge(metadata, others))
        document.check_storable()
        if vector is not None:
            document.embedding = self._read_vector(bytes(vector))
        return document

    def _read_vector(self, data: bytes) -> Vector:
        dimensions, has_nulls = struct.unpack_from(">ii", data)
        if dimensions != 1 or has_nulls:
            raise InvalidVector("The embedding is no list of numbers.", "invalid", {})
        vector = decode_array(data)
        if self.collection.dimensions is None:
            self.collection.claim_dimensions(vector.size)
        return CollectionField(self.collection, Document).to_vector(vector)


def _merge(metadata: str | None, others: str | None) -> object:
    """Return the metadata with the values of other columns in it."""
    merged = json.loads(metadata or "{}")
    return {**(merged or {}), **json.loads(others)} if others else merged


def _differ(one: Document, other: Document) -> bool:
    def identity(document: Document) -> tuple[str, str, bytes | None]:
        vector = document.embedding
        return (
            document.content,
            json.dumps(document.metadata, sort_keys=True),
            None if vector is None else vector.tobytes(),
        )

    return identity(one) != identity(other)
