"""What becomes of the rows of a run: written, failed, left as they are; and the report of it."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pgembedding_django.embedders import EmbeddingError, TextRejected
from pgembedding_django.embedding.claims import Claims
from pgembedding_django.embedding.rows import Row, base_rows
from pgembedding_django.embedding.writing import Writer
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.loading.progress import Progress
from pgembedding_django.vectors import InvalidVector, Vector

__all__ = ["EmbedReport", "Settlement", "checked"]

#: Failures that a report names one by one, and texts whose rows a run remembers: what bounds its memory.
MAX_FAILURES = 1_000
MAX_KNOWN = 100_000

logger = logging.getLogger("pgembedding_django")


@dataclass
class EmbedReport:
    """
    What a run did, in rows.

    embedded: have the vector of their text now. skipped: had a vector and have no text, and no vector any more where
        the field may be null. changed: were edited or deleted while their text was under way, so they are stale as
        before.
    failed: could not be embedded. failures: primary key and reason of the first 1,000 of them.
    enqueued: were handed to Django's tasks instead.
    texts, tokens, requests: texts sent, their tokens as the embedder estimates them, and calls of `embed_each`.
    """

    embedded: int = 0
    skipped: int = 0
    changed: int = 0
    failed: int = 0
    failures: list[tuple[Any, str]] = field(default_factory=list)
    texts: int = 0
    tokens: int = 0
    requests: int = 0
    seconds: float = 0.0
    enqueued: int = 0

    @property
    def rows(self) -> int:
        """How many rows the run is done with."""
        return self.embedded + self.skipped + self.changed + self.failed


class Settlement:
    """Writes what embed_each() answered to all rows that have the text, and keeps the report."""

    claims: Claims
    writer: Writer
    report: EmbedReport
    progress: Progress | None

    def __init__(self, claims: Claims, writer: Writer, report: EmbedReport, progress: Progress | None) -> None:
        self.field: EmbeddingField = claims.field
        self.claims, self.writer = claims, writer
        self.report, self.progress = report, progress
        #: Digest: the primary key of a row that got the vector of this text in this run.
        self.known: OrderedDict[str, Any] = OrderedDict()

    def settle(self, groups: list[list[Row]], outcomes: list[Vector | EmbeddingError]) -> list[EmbeddingError]:
        """
        Write the vectors and note the failures; each group has the rows of one text.

        Returns the errors that are no fault of a text.
        """
        errors: list[EmbeddingError] = []
        embedded: list[tuple[Row, Vector]] = []
        for rows, outcome in zip(groups, outcomes, strict=True):
            outcome = checked(self.field, outcome)
            if isinstance(outcome, TextRejected):
                self._fail(rows, outcome)
            elif isinstance(outcome, EmbeddingError):
                errors.append(outcome)
            else:
                embedded += [(row, outcome) for row in rows]
        self._write(embedded)
        return errors

    def skip(self, count: int) -> None:
        """Count rows without a text."""
        self.report.skipped += count
        self._tell()

    def settle_known(self, rows: list[Row]) -> list[Row]:
        """Copy the vectors of texts that this run has embedded already, and return the rows of other texts."""
        donors = {row.digest: self.known[row.digest] for row in rows if row.digest in self.known}
        stored = base_rows(self.field, self.claims.using).filter(pk__in=list(donors.values()))
        vectors = dict(stored.values_list(self.field.digest_name, self.field.name)) if donors else {}
        self._write([(row, vectors[row.digest]) for row in rows if vectors.get(row.digest) is not None])
        return [row for row in rows if vectors.get(row.digest) is None]

    def _fail(self, rows: list[Row], error: TextRejected) -> None:
        self.claims.drop(row.pk for row in rows)
        self.report.failed += len(rows)
        room = MAX_FAILURES - len(self.report.failures)
        self.report.failures += [(row.pk, str(error)) for row in rows[:room]]
        self._tell()

    def _write(self, embedded: list[tuple[Row, Vector]]) -> None:
        if not embedded:
            return
        written = self.writer.write(embedded)
        self.claims.drop(row.pk for row, _ in embedded)
        self.report.embedded += len(written)
        self.report.changed += len(embedded) - len(written)
        self._remember(row for row, _ in embedded if row.pk in written)
        self._tell()

    def _remember(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.known[row.digest] = row.pk
        while len(self.known) > MAX_KNOWN:
            self.known.popitem(last=False)

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(self.report.rows)


def checked(field: EmbeddingField, outcome: Vector | EmbeddingError) -> Vector | EmbeddingError:
    """Return the vector if the field can hold it; a wrong length is no fault of the text."""
    if isinstance(outcome, EmbeddingError):
        return outcome
    try:
        return field.to_vector(outcome)
    except InvalidVector as error:
        refused = EmbeddingError(str(error)) if error.code == "dimensions" else TextRejected(str(error))
        refused.__cause__ = error
        return refused
