"""Every index of vectors of a database: whose it is, what is wrong with it, and what to do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar, cast

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model, QuerySet

from pgembedding_django.engines import distance_of_opclass, get_engine
from pgembedding_django.fields import EmbeddingField, measured_fields
from pgembedding_django.indexes import VectorIndex
from pgembedding_django.maintenance.indexes.declared import (
    Declaration,
    advise_missing,
    creation_times,
    declarations,
    load_migrations,
    model_tables,
)
from pgembedding_django.maintenance.indexes.diagnosis import State, diagnose, find_parent, is_unread
from pgembedding_django.maintenance.indexes.lookup import can_read, counted_statuses, root_of, statuses
from pgembedding_django.maintenance.indexes.progress import read_progress
from pgembedding_django.models import HnswIndexStatus, IndexRun, RecallMeasurement

__all__ = ["IndexReport", "counted_since", "list_indexes", "report_indexes"]

Record = TypeVar("Record", IndexRun, RecallMeasurement)

#: What makes an index new; its name may be that of another one, dropped before.
BUILDS = (IndexRun.Action.REBUILD, IndexRun.Action.CREATE)


@dataclass(frozen=True)
class IndexReport:
    """
    What is said of one HNSW or IVFFlat index: of a model where one declares it or has its table, else of some other
    program.

    Not the index in the database itself, which is `status`: a report is also of one that is declared and missing.
    status: None where it is missing. declared: the index of the model, None for an index that
        no model declares. distance: None for an operator class of no engine.
    leftover_of: the index whose interrupted rebuild left this one behind, else "".
    advice: what is wrong and what to do, "" for a healthy index. repairable: whether repair does it.
    """

    schema: str
    name: str
    table: str
    engine: str
    state: State
    advice: str
    repairable: bool
    status: HnswIndexStatus | None = None
    model: type[Model] | None = None
    field: EmbeddingField | None = None
    declared: VectorIndex | None = None
    distance: str | None = None
    leftover_of: str = ""
    last_rebuild: IndexRun | None = None
    last_recall: RecallMeasurement | None = None

    @property
    def method(self) -> str:
        """What the server calls its kind."""
        return self.status.method if self.status else self.declared.suffix if self.declared else ""

    @property
    def label(self) -> str:
        """The name that the commands and find_index() take."""
        return f"{self.schema}.{self.name}" if self.schema else self.name


def list_indexes(using: str = DEFAULT_DB_ALIAS) -> list[IndexReport]:
    """
    Return a report of each HNSW and IVFFlat index of a database, and of each that is declared and missing there.

    Worst first, then by table and name. Writes nothing and locks nothing.
    Raises ProgrammingError if the app's migrations have not been run there.
    """
    found = counted_statuses(using)
    tables = model_tables(using, unmanaged=True)
    declared = declarations(tables)
    present = {(status.table_oid, status.name) for status in found}
    reports = _report(found, using, found, tables, declared)
    missing = [each for key, each in declared.items() if key not in present and each.model._meta.managed]
    return _worst_first(reports + _report_missing(using, missing))


def report_indexes(chosen: Collection[HnswIndexStatus], using: str = DEFAULT_DB_ALIAS) -> list[IndexReport]:
    """Return a report of each of some indexes, as list_indexes() does of all, for the price of those alone."""
    tables = model_tables(using, unmanaged=True)
    return _worst_first(_report(chosen, using, list(statuses(using)), tables, declarations(tables)))


def _worst_first(reports: list[IndexReport]) -> list[IndexReport]:
    states = list(State)
    return sorted(reports, key=lambda report: (states.index(report.state), report.table, report.name))


def _report(
    chosen: Collection[HnswIndexStatus],
    using: str,
    found: list[HnswIndexStatus],
    tables: dict[int, type[Model]],
    declared: dict[tuple[int, str], Declaration],
) -> list[IndexReport]:
    """found: all that the database has, among which are the indexes of partitioned tables, and what left one behind."""
    engine = get_engine(connections[using])
    roots = {root_of(status, found).table_oid for status in chosen}
    unsound = engine.unsound_tables(connections[using], roots)
    # nearest() searches tables of models only.
    unguarded = engine.unguarded_tables(connections[using], roots & tables.keys())
    succeeded = IndexRun.objects.using(using).filter(status=IndexRun.Status.SUCCEEDED)
    rebuilds = _latest(succeeded.filter(action__in=BUILDS))
    recalls = _latest(RecallMeasurement.objects.using(using).filter(ef_search=None))
    started = _server_start(using)
    keys = [(status.table_oid, status.name) for status in chosen if is_unread(status)]
    migrated = creation_times([declared[key] for key in keys if key in declared], using)
    reports = []
    for status in chosen:
        root = root_of(status, found)
        leftover_of = find_parent(status, found)
        progress = read_progress(connections[using], status.building_pid) if status.building_pid else None
        sound = root.table_oid not in unsound
        built = rebuilds.get((status.schema, status.name))
        state, advice = diagnose(
            status,
            engine=engine,
            since=counted_since(status, started, built, migrated.get((status.table_oid, status.name))),
            sound=sound,
            guarded=root.table_oid not in unguarded,
            leftover_of=leftover_of,
            progress=progress,
        )
        declaration = declared.get((root.table_oid, root.name))
        model = tables.get(root.table_oid)
        reports.append(
            IndexReport(
                schema=status.schema,
                name=status.name,
                table=status.table,
                engine=engine.name,
                state=state,
                advice=advice,
                repairable=state in (State.INVALID, State.CRASHED, State.UNGUARDED),
                status=status,
                model=model,
                field=declaration.field if declaration else _field_of(model, status.column),
                declared=declaration.index if declaration else None,
                distance=declaration.index.distance if declaration else distance_of_opclass(status.opclass),
                leftover_of=leftover_of,
                last_rebuild=built,
                last_recall=recalls.get((status.schema, status.name)),
            )
        )
    return reports


def counted_since(
    status: HnswIndexStatus, started: datetime, built: IndexRun | None, migrated: datetime | None
) -> datetime | None:
    """
    Return from when on the scans of an index are known to be counted; None where nothing tells its age.

    The server does not record when an index was made: the migration that adds it does, and our own builds.
    """
    made = [each for each in (built and built.created, migrated) if each]
    # Statistics that were never reset count since the server's start at the latest.
    return max(status.stats_reset or started, *made) if made else None


def _server_start(using: str) -> datetime:
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT pg_postmaster_start_time()")
        start: datetime = cursor.fetchone()[0]
    return start


def _report_missing(using: str, missing: list[Declaration]) -> list[IndexReport]:
    if not missing:
        return []
    loader = load_migrations(using)
    reports = []
    for declaration in missing:
        advice, repairable = advise_missing(loader, declaration.model, declaration.index.name, using)
        reports.append(
            IndexReport(
                schema="",
                name=declaration.index.name,
                table=declaration.model._meta.db_table,
                engine=get_engine(connections[using]).name,
                state=State.MISSING,
                advice=advice,
                repairable=repairable,
                model=declaration.model,
                field=declaration.field,
                declared=declaration.index,
                distance=declaration.index.distance,
            )
        )
    return reports


def _field_of(model: type[Model] | None, column: str) -> EmbeddingField | None:
    fields = measured_fields(model, local=True) if model else []
    # Of a field, a report asks no more than each kind of column has.
    return cast("EmbeddingField | None", next((field for field in fields if field.column == column), None))


def _latest(records: QuerySet[Record]) -> dict[tuple[str, str], Record]:
    """Return the last record of each index; none where the role cannot read the table."""
    if not can_read(records.model, records.db):
        return {}
    latest = records.order_by("schema", "index", "-created", "-pk").distinct("schema", "index")
    return {(record.schema, record.index): record for record in latest}
