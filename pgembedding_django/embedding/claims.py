"""Which rows a worker embeds, so that several share a table, nobody pays twice and no transaction stays open."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Self

from django.db import connections, transaction
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL

from pgembedding_django.embedding.rows import Row, base_rows, read_rows
from pgembedding_django.fields import EmbeddingField

__all__ = ["Claims"]

#: The first half of the advisory locks' key, "pgem" in ASCII; the other half is the worker's own.
LOCK_SPACE = 0x7067656D

#: The claims whose workers are alive: a session's advisory locks end with it, however it ends.
ALIVE = (
    f"SELECT 'claim:' || objid FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCK_SPACE} AND objsubid = 2 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class Claims:
    """
    The rows that one worker has claimed, each by a mark in place of its digest.

    A claim lasts as long as the session of its worker: the mark of a worker that was killed counts no more. Marked rows
    are stale, and leaving the context gives back those that got no vector.
    """

    def __init__(self, field: EmbeddingField, using: str) -> None:
        self.field, self.source = field, field.text_source
        self.using, self.connection = using, connections[using]
        #: Primary key: the digest that the mark stands in place of.
        self._held: dict[Any, str | None] = {}

    def __enter__(self) -> Self:
        self.number = secrets.randbelow(2**31 - 1) + 1
        while not self._ask("SELECT pg_try_advisory_lock(%s, %s)"):
            self.number = secrets.randbelow(2**31 - 1) + 1
        return self

    def __exit__(self, *exc_info: object) -> None:
        # Where the server or an outer transaction is gone, so is every claim.
        if not self.connection.needs_rollback and self.connection.is_usable():
            self.release(list(self._held))
            self._ask("SELECT pg_advisory_unlock(%s, %s)")

    @property
    def mark(self) -> str:
        return f"claim:{self.number}"

    def free(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Leave out the rows that a living worker has claimed."""
        return rows.exclude(**{f"{self.source.digest_name}__in": RawSQL(ALIVE, [])})  # noqa: S611 - a constant

    def take(self, pks: list[Any], *, fresh_too: bool) -> tuple[list[Row], int]:
        """
        Claim rows, and take the vector from those without a text.

        Returns what was claimed, and how many rows had no text; leaves out what others have claimed or are writing.
        """
        with transaction.atomic(using=self.using):
            locked = self._rows(pks).select_for_update(skip_locked=True).values_list("pk", flat=True)
            # Asked again once the rows are locked: somebody may have claimed or embedded them in between.
            rows = list(read_rows(self.free(self._rows(list(locked))).order_by("pk"), self.source))
            claimed = [row for row in rows if row.text and (fresh_too or row.is_stale)]
            emptied = [row.pk for row in rows if not row.text and not row.missing and (fresh_too or row.is_stale)]
            self._rows([row.pk for row in claimed]).update(**{self.source.digest_name: self.mark})
            if self.field.null:
                self._rows(emptied).update(**{self.source.name: None, self.source.digest_name: None})
        self._held |= {row.pk: row.known for row in claimed}
        return claimed, len(emptied)

    def release(self, pks: Iterable[Any]) -> None:
        """Give rows back with the digests that they had, so that whoever comes next finds them as they were."""
        groups: dict[str | None, list[Any]] = defaultdict(list)
        for pk in pks:
            groups[self._held.pop(pk)].append(pk)
        with transaction.atomic(using=self.using):
            for digest, group in groups.items():
                marked = self._rows(group).filter(**{self.source.digest_name: self.mark})
                marked.update(**{self.source.digest_name: digest})

    def settle(self, pks: Iterable[Any]) -> None:
        """Forget rows that have got their vectors."""
        for pk in pks:
            del self._held[pk]

    def _rows(self, pks: list[Any]) -> QuerySet[Any]:
        return base_rows(self.field, self.using).filter(pk__in=pks)

    def _ask(self, sql: str) -> Any:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, [LOCK_SPACE, self.number])
            return cursor.fetchone()[0]
