"""One run that brings passages in step: splits what changed, embeds what is new, and replaces what is gone."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from math import ceil
from typing import Any

from django.db import connections
from django.db.models import Count, QuerySet, Sum
from django.db.models.functions import Length

from pgembedding_django.compat.background import enqueue
from pgembedding_django.embedders import EmbeddingError, TextRejected, get_embedder
from pgembedding_django.embedding import EmbedReport, Estimate
from pgembedding_django.embedding.run import check_dimensions, checked_size
from pgembedding_django.embedding.settlement import MAX_FAILURES, checked
from pgembedding_django.loading.progress import Progress
from pgembedding_django.passages.changes import Change, read_changes, write_changes
from pgembedding_django.passages.parents import Parents
from pgembedding_django.vectors import Vector

__all__ = ["PassageReport", "SplitRun"]

#: Texts that are read and compared at once, and that are written in one transaction at most.
PAGE, MOST = 100, 500

logger = logging.getLogger("pgembedding_django")

Outcome = Vector | EmbeddingError


@dataclass
class PassageReport(EmbedReport):
    """
    What a run did, in passages.

    parents: rows whose text was split. kept: passages whose text was still there, and their vector with it. deleted:
        passages whose text was gone. failures: of passages that were not stored, the key and reason of their row.
    """

    parents: int = 0
    kept: int = 0
    deleted: int = 0

    def add(self, other: EmbedReport) -> None:
        """Count what another run did too."""
        for field in fields(other):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class SplitRun:
    """
    Split the texts of some rows that changed, and embed what is new in them.

    rows: parents, of which those are done whose text has changed.
    report: what was done so far, whole also after an error or a stop. stopped: whether `stop` was called.
    """

    #: Whether rows that are not stale are embedded, as of an EmbedRun.
    all = False
    work = "to split and embed"

    def __init__(
        self,
        parents: Parents,
        rows: QuerySet[Any],
        *,
        batch_size: int | None = None,
        concurrency: int | None = None,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.parents, self.field, self.rows = parents, parents.field, rows
        self.embedder = get_embedder(self.field.embedder)
        check_dimensions(self.field, self.embedder.dimensions)
        self.batch_size = checked_size("batch_size", batch_size) or self.embedder.batch_size
        self.concurrency = checked_size("concurrency", concurrency) or self.embedder.concurrency
        self.limit = checked_size("limit", limit)
        self.progress, self.report = progress, PassageReport()
        self.stopped = False
        self.total: int | None = None

    @property
    def noun(self) -> str:
        return f"{self.parents.model.__name__} text"

    def run(self) -> PassageReport:
        """
        Work until nothing is left.

        Raises EmbedderUnavailable, EmbeddingError or ImproperlyConfigured where the embedder fails for other reasons
        than a text: what it answered by then is written.
        """
        started = time.perf_counter()
        try:
            with ThreadPoolExecutor(self.concurrency) as pool:
                for changes in self._batches():
                    self._settle(changes, pool)
                    if self.stopped or (self.limit is not None and self.report.rows >= self.limit):
                        break
        finally:
            self.report.seconds = time.perf_counter() - started
            logger.info(
                "%s: %d texts of %s split, %d passages embedded, %d kept, %d deleted, %d failed, %.1f s.",
                *(self.field.label, self.report.parents, self.parents.model.__name__, self.report.embedded),
                *(self.report.kept, self.report.deleted, self.report.failed, self.report.seconds),
            )
        return self.report

    def stop(self) -> None:
        """Begin nothing more, and let run() return once what is under way is written; may be called by a signal."""
        self.stopped = True

    def estimate(self, limit: int | None = None) -> Estimate:
        """Return how many texts are to be split, and what embedding all of their passages would take."""
        column = self.parents.column
        stale = self.parents.stale(self.rows)
        found = Estimate(**stale.order_by().aggregate(rows=Count("*"), characters=Sum(Length(column), default=0)))
        sample = [text or "" for text in stale.order_by("pk").values_list(column, flat=True)[:PAGE]]
        splits, drawn = self.parents.splits, sum(map(len, sample))
        repeated = 1.0 if splits.splitter else splits.size / (splits.size - splits.overlap)
        tokens = sum(self.embedder.estimate_tokens(text) for text in sample)
        found.tokens = ceil(tokens * repeated * found.characters / drawn) if drawn else 0
        found.set_price(self.embedder)
        return found

    def enqueue(self, limit: int | None = None) -> int:
        """Hand the rows whose text has changed to Django's tasks, in parts, and return how many."""
        from pgembedding_django.embedding.tasks import write_pk
        from pgembedding_django.passages.tasks import split_rows

        count, model = 0, self.parents.model
        for pks in self._pages():
            keys = [write_pk(model, pk) for pk in pks]
            enqueue(split_rows, self.parents.passages._meta.label, keys, self.rows.db)
            count += len(pks)
        return count

    def _pages(self) -> Iterator[list[Any]]:
        """Yield the primary keys of the rows that are stale, in order."""
        stale = self.parents.stale(self.rows).order_by("pk").values_list("pk", flat=True)
        page = list(stale[:PAGE])
        while page:
            yield page
            # A page that is not full is the last: finding stale rows reads every text.
            page = list(stale.filter(pk__gt=page[-1])[:PAGE]) if len(page) == PAGE else []

    def _batches(self) -> Iterator[list[Change]]:
        """Yield changes with as many new texts together as keep the embedder busy."""
        pending: list[Change] = []
        for pks in self._pages():
            for change in read_changes(self.parents, self.rows.db, pks, self.embedder.estimate_tokens):
                pending.append(change)
                texts = sum(len(each.texts) for each in pending)
                if texts >= self.batch_size * self.concurrency or len(pending) >= MOST:
                    yield pending
                    pending = []
        if pending:
            yield pending

    def _settle(self, changes: list[Change], pool: ThreadPoolExecutor) -> None:
        """Embed what is new, write the texts that were answered, and only then raise what is no fault of a text."""
        texts = list(dict.fromkeys(text for change in changes for text in change.texts if text))
        outcomes: dict[str, Outcome] = {}
        errors: list[EmbeddingError] = []
        batches = [texts[start : start + self.batch_size] for start in range(0, len(texts), self.batch_size)]
        for batch, call in [(batch, pool.submit(self._call, batch)) for batch in batches]:
            try:
                answers = call.result()
            except EmbeddingError as error:
                errors.append(error)
                continue
            self._count(batch)
            outcomes.update((text, checked(self.field, each)) for text, each in zip(batch, answers, strict=True))
        failed = {
            text: each
            for text, each in outcomes.items()
            if isinstance(each, EmbeddingError) and not isinstance(each, TextRejected)
        }
        errors += failed.values()
        settled = outcomes.keys() - failed
        answered = [change for change in changes if settled.issuperset(filter(None, change.texts))]
        self._write([change for change in answered if not self._fails(change, outcomes)], outcomes)
        if errors:
            raise errors[0]

    def _call(self, texts: list[str]) -> Sequence[Outcome]:
        try:
            return self.embedder.embed_each(texts)
        finally:
            # An embedder may have used the database, as a cache; connections belong to their thread.
            connections.close_all()

    def _count(self, texts: list[str]) -> None:
        self.report.requests += 1
        self.report.texts += len(texts)
        self.report.tokens += sum(map(self.embedder.estimate_tokens, texts))

    def _fails(self, change: Change, outcomes: dict[str, Outcome]) -> bool:
        """Note the texts that were rejected, and tell whether the row keeps its old passages for that."""
        rejected = [each for text in change.texts if isinstance(each := outcomes.get(text), TextRejected)]
        room = MAX_FAILURES - len(self.report.failures)
        self.report.failed += len(rejected)
        self.report.failures += [(change.pk, str(error)) for error in rejected[:room]]
        return bool(rejected) and not self.field.null

    def _write(self, changes: list[Change], outcomes: dict[str, Outcome]) -> None:
        vectors = {text: each for text, each in outcomes.items() if not isinstance(each, EmbeddingError)}
        written = write_changes(self.parents, self.rows.db, changes, vectors)
        for change in changes:
            count = sum(text in vectors for text in change.texts)
            if change.pk not in written:
                self.report.changed += count
                continue
            self.report.parents += 1
            self.report.embedded += count
            self.report.kept += len(change.kept)
            self.report.deleted += len(change.gone)
        if self.progress is not None:
            self.progress(self.report.rows)
