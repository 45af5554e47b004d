"""
One run of embed(): keeps the embedder busy from several threads, and the database in this one.

Longer than other modules: what a failure must leave behind is seen only where the whole run is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseFailure
from django.db import connections
from django.db.models import QuerySet

from pgembedding_django.bounds import is_integer
from pgembedding_django.embedders import Embedder, EmbeddingError, get_embedder
from pgembedding_django.embedding.claims import BEAT, Claims
from pgembedding_django.embedding.estimate import Estimate, estimate
from pgembedding_django.embedding.handing import enqueue_rows
from pgembedding_django.embedding.rows import Row, stale_pks
from pgembedding_django.embedding.settlement import EmbedReport, Settlement
from pgembedding_django.embedding.writing import Writer
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.loading.primary import on_primary
from pgembedding_django.loading.progress import Progress
from pgembedding_django.vectors import Vector

__all__ = ["EmbedRun", "check_dimensions"]

#: Calls under way, ready or answered for each thread, so that no thread waits for the database.
AHEAD = 2

logger = logging.getLogger("pgembedding_django")

#: What embed_each() answered, about how many tokens were sent, and how many seconds it took.
Answer = tuple["list[Vector | EmbeddingError]", int, float]


class EmbedRun:
    """
    Embed the stale rows of a queryset.

    report: what was done so far, whole also after an error or a stop. stopped: whether `stop` was called.
    total: how many rows there are, where somebody has counted them.
    """

    #: What is counted, and what is done with it, for people.
    noun, work = "row", "to embed"

    queryset: QuerySet[Any, Any]
    all: bool
    progress: Progress | None
    report: EmbedReport
    stopped: bool

    def __init__(
        self,
        queryset: QuerySet[Any],
        field: EmbeddingField,
        *,
        batch_size: int | None = None,
        concurrency: int | None = None,
        limit: int | None = None,
        all: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.embedder: Embedder = get_embedder(field.embedder)
        check_dimensions(field, self.embedder.dimensions)
        self.field: EmbeddingField = field
        self.queryset, self.all = queryset, all
        self.batch_size: int = checked_size("batch_size", batch_size) or self.embedder.batch_size
        self.concurrency: int = checked_size("concurrency", concurrency) or self.embedder.concurrency
        self.limit: int | None = checked_size("limit", limit)
        self.progress, self.report = progress, EmbedReport()
        self.stopped = False
        self.total: int | None = None
        #: The calls under way or ready, each with the digests of its texts; and the rows that wait for a digest.
        self._calls: dict[Future[Answer], list[str]] = {}
        self._waiting: dict[str, list[Row]] = {}
        #: The sentences of errors that were raised or logged.
        self._told: set[str] = set()

    def run(self) -> EmbedReport:
        """
        Embed until nothing is left.

        Raises EmbedderUnavailable, EmbeddingError or ImproperlyConfigured where the embedder fails for other reasons
        than a text: what it answered by then is written.
        """
        started = time.perf_counter()
        using = self.queryset.db
        with (
            on_primary(f"embed() of {self.field.label}", using),
            Claims(self.field, using) as claims,
            Writer(self.field, using) as writer,
            ThreadPoolExecutor(self.concurrency) as pool,
        ):
            self.settlement: Settlement = Settlement(claims, writer, self.report, self.progress)
            try:
                self._work(pool, claims)
            except DatabaseFailure:
                raise
            except BaseException:
                # Also after an error: the calls under way are paid for.
                self._finish()
                raise
            finally:
                pool.shutdown(cancel_futures=True)
                self.report.seconds = time.perf_counter() - started
                self._log()
        return self.report

    def estimate(self, limit: int | None = None) -> Estimate:
        """Return what the run will send, at most."""
        return estimate(self.queryset, self.field, fresh_too=self.all, limit=limit)

    def enqueue(self, limit: int | None = None) -> int:
        """Hand the stale rows to Django's tasks instead, and return how many."""
        return enqueue_rows(self.queryset, self.field, limit=limit)

    def stop(self) -> None:
        """Start no more calls; run() returns once the answers under way are written. Safe in a signal handler."""
        self.stopped = True

    def _work(self, pool: ThreadPoolExecutor, claims: Claims) -> None:
        batches = self._batches(claims)
        more = True
        while more or self._calls:
            while more and self._has_room and not self.stopped:
                texts = next(batches, None)
                more = texts is not None
                if texts:
                    self._calls[pool.submit(self._call, list(texts.values()))] = list(texts)
            # While the database was slow, several calls may have ended: they are written together.
            errors = self._settle(wait(self._calls, timeout=BEAT, return_when=FIRST_COMPLETED).done)
            claims.renew()
            if errors:
                self._told.add(str(errors[0]))
                self._warn(errors[1:])
                raise errors[0]
            if self.stopped:
                self._finish()
                return

    @property
    def _has_room(self) -> bool:
        """Whether more rows may be claimed. Rows of the same text need one call, but each takes memory."""
        calls = AHEAD * self.concurrency
        return len(self._calls) < calls and sum(map(len, self._waiting.values())) < calls * self.batch_size

    def _batches(self, claims: Claims) -> Iterator[dict[str, str]]:
        """
        Claim rows and yield digest: text of those that no other row waits for, as many as one call takes.

        Yields after each claim, also when there is nothing to send.
        """
        size, left = self.batch_size * self.concurrency, self.limit
        pks = stale_pks(claims.free(self.queryset), self.field, fresh_too=self.all, page=size)
        while True:
            wanted = size if left is None else min(left, size)
            rows, without_text = self._take(claims, pks, wanted)
            if not rows and not without_text:
                return
            left = None if left is None else left - len(rows) - without_text
            self.settlement.skip(without_text)
            yield from self._enqueue(self.settlement.settle_known(rows))

    def _take(self, claims: Claims, pks: Iterator[Any], wanted: int) -> tuple[list[Row], int]:
        """Claim so many rows, beyond those that others claim meanwhile, so that calls are full; fewer at the end."""
        taken: list[Row] = []
        without_text = 0
        while page := list(islice(pks, wanted - len(taken) - without_text)):
            rows, empty = claims.take(page, fresh_too=self.all)
            taken += rows
            without_text += empty
        return taken, without_text

    def _enqueue(self, rows: list[Row]) -> Iterator[dict[str, str]]:
        texts: dict[str, str] = {}
        for row in rows:
            if row.digest not in self._waiting:
                texts[row.digest] = row.text
            # The text itself is with the call.
            self._waiting.setdefault(row.digest, []).append(row._replace(text=""))
        items = iter(texts.items())
        for _ in range(0, len(texts) or 1, self.batch_size):
            yield dict(islice(items, self.batch_size))

    def _call(self, texts: list[str]) -> Answer:
        started = time.perf_counter()
        try:
            outcomes = self.embedder.embed_each(texts)
        finally:
            # An embedder may have used the database, as a cache; connections belong to their thread.
            connections.close_all()
        return outcomes, sum(map(self.embedder.estimate_tokens, texts)), time.perf_counter() - started

    def _settle(self, calls: Iterable[Future[Answer]]) -> list[BaseException]:
        """Write the answers of calls, and return the errors that are not about a text."""
        groups: list[list[Row]] = []
        answers: list[Vector | EmbeddingError] = []
        errors: list[BaseException] = []
        for call in list(calls):
            rows = [self._waiting.pop(digest) for digest in self._calls.pop(call)]
            self.report.requests += 1
            error = call.exception()
            if error is not None:
                errors.append(error)
                continue
            outcomes, tokens, seconds = call.result()
            if len(outcomes) != len(rows):
                errors.append(EmbeddingError(f"{self._name} answered {len(outcomes)} outcomes for {len(rows)} texts."))
                continue
            self._count(len(outcomes), tokens, seconds)
            groups += rows
            answers += outcomes
        return errors + self.settlement.settle(groups, answers)

    @property
    def _name(self) -> str:
        return type(self.embedder).__name__

    def _count(self, texts: int, tokens: int, seconds: float) -> None:
        self.report.texts += texts
        self.report.tokens += tokens
        logger.debug("%s: %d texts, about %d tokens, embedded in %.3f s.", self.field.label, texts, tokens, seconds)

    def _finish(self) -> None:
        """Cancel the calls that have not begun, and write the answers of the others."""
        for call in [call for call in self._calls if call.cancel()]:
            del self._calls[call]
        self._warn(self._settle(wait(self._calls).done))

    def _warn(self, errors: Iterable[BaseException]) -> None:
        """Log what is not raised, each sentence once: another error was, or the user asked to stop."""
        for sentence in dict.fromkeys(map(str, errors)):
            if sentence not in self._told:
                self._told.add(sentence)
                logger.warning("%s: %s", self.field.label, sentence)

    def _log(self) -> None:
        report = self.report
        logger.info(
            "%s: %d rows embedded, %d skipped, %d changed, %d failed; %d texts and about %d tokens in %d requests, "
            "%.1f s.",
            *(self.field.label, report.embedded, report.skipped, report.changed, report.failed),
            *(report.texts, report.tokens, report.requests, report.seconds),
        )


def check_dimensions(field: EmbeddingField, made: int | None) -> None:
    """Refuse an embedder whose vectors the field cannot hold, before anything is paid for."""
    if None not in (field.dimensions, made) and field.dimensions != made:
        raise ImproperlyConfigured(
            f'{field.label} has {field.dimensions} dimensions, but its embedder "{field.embedder}" makes {made}. Give '
            "both the same number."
        )


def checked_size(name: str, value: Any) -> int | None:
    """Return a number of texts, calls or rows; None leaves it to the embedder or unlimited."""
    if value is not None and not is_integer(value, 1):
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    return value
