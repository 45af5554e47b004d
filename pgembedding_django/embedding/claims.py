"""Which rows a worker embeds: several share a table, no text is paid for twice, no transaction stays open."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from django.apps import apps
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import DateTimeField, Func, IntegerField, Q, QuerySet
from django.db.models.expressions import Combinable, RawSQL
from django.db.models.lookups import In

from pgembedding_django import locks
from pgembedding_django.embedding.rows import Key, Row, base_rows, read_rows
from pgembedding_django.engines import get_engine
from pgembedding_django.fields import EmbeddingField
from pgembedding_django.fields.source import Source

if TYPE_CHECKING:
    from pgembedding_django.models import EmbedClaim

__all__ = ["BEAT", "Claims"]

#: Seconds after which a claim ends that nobody renews, and after which its worker renews it.
LEASE, BEAT = 600, 60

#: The keys of the rows that living workers have claimed.
CLAIMED = (
    "SELECT jsonb_array_elements_text(keys) FROM pgembedding_django_embedclaim WHERE field = %s "
    "AND until > clock_timestamp() AND pid IN (SELECT pid FROM pg_stat_activity)"
)


class ClockTime(Func):
    """The current time, also late in a transaction."""

    function: str = "clock_timestamp"
    output_field = DateTimeField()


class BackendPid(Func):
    """The server's process of this session."""

    function: str = "pg_backend_pid"
    output_field = IntegerField()


class Claims:
    """
    The rows that one worker has claimed, in a table of their own: the rows themselves are written only once.

    A claim lasts as long as the session of its worker, and at most LEASE seconds unless it is renewed. Leaving the
    context ends it.
    """

    source: Source
    using: str
    connection: BaseDatabaseWrapper

    def __init__(self, field: EmbeddingField, using: str) -> None:
        self.field: EmbeddingField = field
        self.source = field.text_source
        self.using, self.connection = using, connections[using]
        #: Whether there are others to share with.
        self.shared: bool = get_engine(self.connection).shares_rows
        self.name: str = f"{field.model._meta.db_table}.{field.column}"
        #: Primary key: how the claim names it.
        self._held: dict[Any, str] = {}
        self._claim: int | None = None
        self._renewed = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        # Where the server or an outer transaction is gone, so is every claim.
        if self._claim is not None and not self.connection.needs_rollback and self.connection.is_usable():
            self._claims.filter(pk=self._claim).delete()

    def free(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Leave out the rows that a living worker has claimed."""
        if not self.shared:
            return rows
        return rows.filter(~Q(In(Key.of(rows.model), RawSQL(CLAIMED, [self.name]))))  # noqa: S611 - a constant

    def take(self, pks: list[Any], *, fresh_too: bool) -> tuple[list[Row], int]:
        """
        Claim rows, and take the vector from those without a text.

        Returns the claimed rows, and how many had no text; leaves out rows that others have claimed or are writing.
        """
        if self.shared and self.connection.in_atomic_block:
            self._forget_statistics()
        with transaction.atomic(using=self.using):
            # Asked again once the rows are locked: somebody may have claimed or embedded them in between.
            rows = list(read_rows(self.free(self._rows(self._lock(pks))).order_by("pk"), self.source))
            claimed = [row for row in rows if row.text and (fresh_too or row.is_stale)]
            emptied = [row.pk for row in rows if not row.text and not row.missing and (fresh_too or row.is_stale)]
            if self.field.null and emptied:
                self._rows(emptied).update(**{self.source.name: None, self.source.digest_name: None})
            self._held |= {row.pk: row.key for row in claimed}
            if claimed and self.shared:
                self._store()
        return claimed, len(emptied)

    def _lock(self, pks: list[Any]) -> list[Any]:
        """Lock rows that nobody else has locked; where the server locks none, wait for the turn to claim instead."""
        if get_engine(self.connection).server(self.connection).locks_rows:
            locked = self._rows(pks).select_for_update(skip_locked=True, no_key=True)
            return list(locked.values_list("pk", flat=True))
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, %s))", [self.name, locks.CLAIMS])
        return pks

    def renew(self) -> None:
        """Renew the claim before it ends by itself; to be called at least every BEAT seconds."""
        if self._claim is not None and time.monotonic() - self._renewed >= BEAT:
            self._store()

    def drop(self, pks: Iterable[Any]) -> None:
        """Forget rows that the worker is done with; others may claim them from its next claim on."""
        for pk in pks:
            del self._held[pk]

    @property
    def _claims(self) -> QuerySet[EmbedClaim]:
        # This module is imported with the app, before its models may be.
        return apps.get_model("pgembedding_django", "EmbedClaim")._base_manager.using(self.using)

    def _store(self) -> None:
        lease: Combinable = ClockTime() + timedelta(seconds=LEASE)
        values: dict[str, Any] = {"keys": list(self._held.values()), "pid": BackendPid(), "until": lease}
        if self._claim is None or not self._claims.filter(pk=self._claim).update(**values):
            self._claims.filter(until__lt=ClockTime()).delete()
            self._claim = self._claims.create(field=self.name, **values).pk
        self._renewed = time.monotonic()

    def _rows(self, pks: list[Any]) -> QuerySet[Any]:
        return base_rows(self.field, self.using).filter(pk__in=pks)

    def _forget_statistics(self) -> None:
        # Within a transaction, the first look at pg_stat_activity is remembered.
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_clear_snapshot()")
