"""What is known of the HNSW indexes of a database, and what was done and measured."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.db import connections, models
from django.db.models.expressions import Combinable
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

__all__ = ["HnswIndexStatus", "IndexRun", "RecallMeasurement"]


class HnswIndexStatus(models.Model):
    """
    An HNSW or IVFFlat index as the server's catalogues have it now.

    Reading it takes no lock and needs no right beyond connecting. Indexes of temporary tables are left out.
    label: "schema.name", which a rebuild leaves as it is, while it gives the index another oid.
    column: the one indexed, as it is or in an expression. signature: equal for equal columns and conditions.
    size: in bytes, by the last VACUUM, ANALYZE or build. options: as the server stores them, text to text.
    rows: of the table, by the last ANALYZE; None before the first. dead_share: of the table's rows, 0 to 1; None on a
        standby, which does not count them.
    scans, entries_read: since stats_reset; None there means since the statistics began. pg_embedding counts no scans.
    building_pid: the backend that is building or rebuilding the index. method: "hnsw" or "ivfflat".
    Of an index of a partitioned table, size, rows, dead_share, scans and entries_read are those of all its parts.
    """

    label: models.TextField[str, str] = models.TextField(primary_key=True)
    oid: models.BigIntegerField[int, int] = models.BigIntegerField()
    schema: models.TextField[str, str] = models.TextField()
    name: models.TextField[str, str] = models.TextField(_("index"))
    table: models.TextField[str, str] = models.TextField()
    table_oid: models.BigIntegerField[int, int] = models.BigIntegerField()
    column: models.TextField[str, str] = models.TextField()
    partial: models.BooleanField[bool, bool] = models.BooleanField()
    signature: models.TextField[str, str] = models.TextField()
    type: models.TextField[str, str] = models.TextField()
    dimensions: models.IntegerField[int | None, int | None] = models.IntegerField(null=True)
    opclass: models.TextField[str, str] = models.TextField()
    options: models.JSONField[Any, Any] = models.JSONField()
    valid: models.BooleanField[bool, bool] = models.BooleanField()
    ready: models.BooleanField[bool, bool] = models.BooleanField()
    live: models.BooleanField[bool, bool] = models.BooleanField()
    partitioned: models.BooleanField[bool, bool] = models.BooleanField()
    parent_oid: models.BigIntegerField[int | None, int | None] = models.BigIntegerField(null=True)
    size: models.BigIntegerField[int, int] = models.BigIntegerField()
    rows: models.BigIntegerField[int | None, int | None] = models.BigIntegerField(null=True)
    dead_share: models.FloatField[float | None, float | None] = models.FloatField(null=True)
    scans: models.BigIntegerField[int, int] = models.BigIntegerField()
    entries_read: models.BigIntegerField[int, int] = models.BigIntegerField()
    stats_reset: models.DateTimeField[datetime | None, datetime | None] = models.DateTimeField(null=True)
    building_pid: models.IntegerField[int | None, int | None] = models.IntegerField(null=True)
    method: models.TextField[str, str] = models.TextField(default="hnsw")

    class Meta:
        managed = False
        db_table = "pgembedding_hnsw_index"
        default_permissions: ClassVar[tuple[str, ...]] = ("view",)
        permissions: ClassVar[list[tuple[str, _StrOrPromise]]] = [
            ("rebuild_hnswindexstatus", "Can rebuild HNSW indexes"),
            ("repair_hnswindexstatus", "Can repair HNSW indexes"),
        ]
        verbose_name: ClassVar[_StrOrPromise] = _("HNSW index")
        verbose_name_plural: ClassVar[_StrOrPromise] = _("HNSW indexes")

    def __str__(self) -> str:
        return self.label

    @property
    def definition(self) -> str:
        """
        The statement that creates the index, "" where it has gone.

        Unlike all else, reading it waits where the table is locked.
        """
        with connections[str(self._state.db)].cursor() as cursor:
            cursor.execute("SELECT pg_get_indexdef(%s)", [self.oid])
            return cursor.fetchone()[0] or ""


class IndexRun(models.Model):
    """
    One rebuild or repair of an index: who, when and how it ended.

    It outlives the index, so it names it by text. pid and backend_start tell whether its backend is still there.
    user: primary key, as text, of the user who asked for it in the admin, "" for anybody else.
    part: of how many parts, the partitions of a partitioned index, one is being built. Sizes are in bytes.
    """

    class Action(models.TextChoices):
        REBUILD = "rebuild", _("rebuild")
        CREATE = "create", _("create")
        DROP = "drop", _("drop")

    class Status(models.TextChoices):
        QUEUED = "queued", _("queued")
        RUNNING = "running", _("running")
        SUCCEEDED = "succeeded", _("succeeded")
        FAILED = "failed", _("failed")
        INTERRUPTED = "interrupted", _("interrupted")

    schema: models.TextField[str, str] = models.TextField()
    index: models.TextField[str, str] = models.TextField()
    table: models.TextField[str, str] = models.TextField()
    action: models.CharField[str, str] = models.CharField(max_length=10, choices=Action.choices, default=Action.REBUILD)
    status: models.CharField[str, str] = models.CharField(max_length=12, choices=Status.choices, default=Status.QUEUED)
    person: models.CharField[str, str] = models.CharField(max_length=150, blank=True)
    user: models.TextField[str, str] = models.TextField(blank=True, default="", db_default="")
    parameters: models.JSONField[Any, Any] = models.JSONField(default=dict, blank=True)
    pid: models.IntegerField[int | None, int | None] = models.IntegerField(null=True)
    backend_start: models.DateTimeField[datetime | None, datetime | None] = models.DateTimeField(null=True)
    part: models.PositiveIntegerField[int, int] = models.PositiveIntegerField(default=1)
    parts: models.PositiveIntegerField[int, int] = models.PositiveIntegerField(default=1)
    created: models.DateTimeField[datetime, datetime] = models.DateTimeField(auto_now_add=True)
    started: models.DateTimeField[datetime | None, datetime | None] = models.DateTimeField(null=True)
    finished: models.DateTimeField[datetime | None, datetime | None] = models.DateTimeField(null=True)
    size_before: models.BigIntegerField[int | None, int | None] = models.BigIntegerField(null=True)
    size_after: models.BigIntegerField[int | None, int | None] = models.BigIntegerField(null=True)
    notice: models.TextField[str, str] = models.TextField(blank=True)
    error: models.TextField[str, str] = models.TextField(blank=True)

    class Meta:
        default_permissions: ClassVar[tuple[str, ...]] = ("view",)
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["schema", "index", "-created"], name="pgembedding_run_of_index")
        ]
        ordering: ClassVar[list[str | Combinable]] = ["-created", "-pk"]
        verbose_name: ClassVar[_StrOrPromise] = _("index run")
        verbose_name_plural: ClassVar[_StrOrPromise] = _("index runs")

    def __str__(self) -> str:
        return f"{self.action} {self.schema}.{self.index}: {self.status}"

    @property
    def duration(self) -> timedelta | None:
        """The time from start to end, None before the end."""
        return self.finished - self.started if self.started and self.finished else None


class RecallMeasurement(models.Model):
    """
    The recall that one index gave at one ef_search, or, where that is None, to nearest() as it is.

    run: shared by the rows of one measurement. low, high: of the confidence interval. rows: of the table.
    """

    run: models.UUIDField[UUID, UUID] = models.UUIDField(db_index=True)
    schema: models.TextField[str, str] = models.TextField()
    index: models.TextField[str, str] = models.TextField()
    model: models.TextField[str, str] = models.TextField()
    field: models.TextField[str, str] = models.TextField()
    filter: models.TextField[str, str] = models.TextField(blank=True)
    k: models.PositiveIntegerField[int, int] = models.PositiveIntegerField()
    sample: models.PositiveIntegerField[int, int] = models.PositiveIntegerField()
    rows: models.BigIntegerField[int, int] = models.BigIntegerField()
    ef_search: models.PositiveIntegerField[int | None, int | None] = models.PositiveIntegerField(null=True)
    recall: models.FloatField[float, float] = models.FloatField()
    low: models.FloatField[float, float] = models.FloatField()
    high: models.FloatField[float, float] = models.FloatField()
    p50_ms: models.FloatField[float, float] = models.FloatField()
    p95_ms: models.FloatField[float, float] = models.FloatField()
    created: models.DateTimeField[datetime, datetime] = models.DateTimeField(auto_now_add=True)

    class Meta:
        default_permissions: ClassVar[tuple[str, ...]] = ("view",)
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["schema", "index", "-created"], name="pgembedding_recall_of_index")
        ]
        ordering: ClassVar[list[str | Combinable]] = ["-created", "run", models.F("ef_search").asc(nulls_last=True)]
        verbose_name: ClassVar[_StrOrPromise] = _("recall measurement")
        verbose_name_plural: ClassVar[_StrOrPromise] = _("recall measurements")

    def __str__(self) -> str:
        return f"{self.schema}.{self.index}: {self.recall:.3f}"


class EmbedClaim(models.Model):
    """
    The rows that one run of embed() is about to embed, so that no other run pays for them too.

    field: table and column of the vectors. keys: primary keys as JSON. pid: backend that renewed the claim last.
    A claim ends with that backend, or at `until` where a pooler keeps the backend after its client is gone.
    """

    field: models.TextField[str, str] = models.TextField()
    keys: models.JSONField[Any, Any] = models.JSONField(default=list)
    pid: models.IntegerField[int, int] = models.IntegerField()
    until: models.DateTimeField[datetime, datetime] = models.DateTimeField()

    class Meta:
        default_permissions: ClassVar[tuple[str, ...]] = ()

    def __str__(self) -> str:
        return f"{len(self.keys)} rows of {self.field}"
