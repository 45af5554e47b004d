"""Builds an index anew, while the old one serves."""

from __future__ import annotations

from typing import TypedDict, Unpack

from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.transaction import TransactionManagementError

from pgembedding_django.engines import get_engine
from pgembedding_django.engines.building import give_memory
from pgembedding_django.loading.statistics import analyze
from pgembedding_django.maintenance.indexes.declared import model_tables
from pgembedding_django.maintenance.indexes.diagnosis import find_parent
from pgembedding_django.maintenance.indexes.lookup import find_index, root_of, statuses
from pgembedding_django.maintenance.indexes.progress import Watch
from pgembedding_django.maintenance.rebuilding.errors import end_sentence, explained
from pgembedding_django.maintenance.rebuilding.estimate import estimate_memory, warn_of_memory
from pgembedding_django.maintenance.rebuilding.runs import open_session, queue_run, recorded
from pgembedding_django.maintenance.rebuilding.session import Session, check_build, quote
from pgembedding_django.models import HnswIndexStatus, IndexRun

__all__ = ["RebuildOptions", "perform_rebuild", "queue_rebuild", "rebuild", "refuse_own_transaction"]


class RebuildOptions(TypedDict, total=False):
    """
    How to build.

    concurrently: True unless given; without it the build is faster, and searches and writes of the table wait for it.
    maintenance_work_mem: such as "2GB"; what the graph needs unless given, within PGEMBEDDING["BUILD_MEMORY"].
    parallel_workers: at most, beside the one that builds anyway. 0 builds without help: slower, but a full disk then
    ends the build, where a parallel one hangs for good.
    give_up: seconds after which to leave it.
    """

    concurrently: bool
    maintenance_work_mem: str | None
    parallel_workers: int | None
    give_up: float | None


def rebuild(
    index: str | int | HnswIndexStatus,
    *,
    using: str = DEFAULT_DB_ALIAS,
    person: str = "",
    progress: Watch | None = None,
    **options: Unpack[RebuildOptions],
) -> IndexRun:
    """
    Build an HNSW index anew, and return the record of it.

    index: its name, "schema.name" or oid. person: who asked. progress: called with a BuildProgress while it runs.
    An index of a partitioned table is rebuilt partition by partition. After a crash of pg_embedding's server so are
    all indexes of the table, and writes are let through again.
    Raises HnswIndexStatus.DoesNotExist if there is no such HNSW index, IndexBusy if one of its table is being built,
        TransactionManagementError in a transaction that it would wait for, ValueError for options that no
        server takes, DatabaseError as the server does.
    It runs on a connection of its own, where the role's statement_timeout does not count, and waits for older
    transactions. If it fails the old index still serves. What interrupted rebuilds of the index left behind is dropped.
    """
    status = find_index(index, using)
    refuse_own_transaction(status, using)
    run = queue_rebuild(status, using=using, person=person, **options)
    with open_session(run) as session:
        perform_rebuild(run, session, progress)
    return run


def queue_rebuild(
    status: HnswIndexStatus, *, using: str = DEFAULT_DB_ALIAS, person: str = "", **options: Unpack[RebuildOptions]
) -> IndexRun:
    """
    Record that an index shall be rebuilt.

    Raises ValueError for options that no server takes, IndexBusy if something is being done to the index already.
    """
    check_build(**options)
    notice = warn_of_memory(status, options.get("maintenance_work_mem"), using)
    return queue_run(
        IndexRun(
            action=IndexRun.Action.REBUILD,
            schema=status.schema,
            index=status.name,
            table=status.table,
            person=person,
            parameters=options,
            notice=notice,
        ),
        using,
    )


def perform_rebuild(run: IndexRun, session: Session, progress: Watch | None = None) -> None:
    """Do what queue_rebuild() recorded."""
    with recorded(run, session):
        status = find_index(f"{run.schema}.{run.index}", session.using)
        found = list(statuses(session.using))
        table = root_of(status, found)
        with session.table_locked(table.table_oid):
            engine = get_engine(session.connection)
            known = model_tables(session.using, unmanaged=True).keys() & {table.table_oid}
            adopts = bool(engine.unguarded_tables(session.connection, known))
            sound = not adopts and not engine.unsound_tables(session.connection, [table.table_oid])
            parts = _parts(status if sound else table, found, same_table=not sound)
            _build(parts, found, run, session, progress)
            if adopts:
                engine.guard_table(session.connection, f"{quote(table.schema)}.{quote(table.table)}")
            elif not sound:
                engine.mark_sound(session.connection, table.table_oid)
            _drop_leftovers(parts, session)
            analyze(f"{quote(table.schema)}.{quote(table.table)}", session.connection)


def _build(
    parts: list[HnswIndexStatus],
    found: list[HnswIndexStatus],
    run: IndexRun,
    session: Session,
    progress: Watch | None,
) -> None:
    run.parts = len(parts)
    for run.part, part in enumerate(parts, 1):
        run.save()
        if run.parameters.get("maintenance_work_mem") is None:
            give_memory(session.connection, estimate_memory(part, session.using) or 0)
        with explained(part, session):
            session.run(_statement(part, found, run, session), progress)


def _drop_leftovers(parts: list[HnswIndexStatus], session: Session) -> None:
    """Drop what interrupted rebuilds of these indexes left behind, and note it; if that fails, the rebuild stands."""
    for leftover in _leftovers(parts, list(statuses(session.using))):
        try:
            session.run(f"DROP INDEX {session.concurrently}{quote(leftover.schema)}.{quote(leftover.name)}")
        except Error as error:
            outcome = f"could not be dropped: {end_sentence(error)}"
        else:
            outcome = "was dropped."
        session.notices.append(f"{leftover.name}, which an interrupted rebuild left behind, {outcome}")


def _leftovers(parts: list[HnswIndexStatus], found: list[HnswIndexStatus]) -> list[HnswIndexStatus]:
    indexes = {(part.table_oid, part.name) for part in parts}
    return [
        each
        for each in found
        if each.building_pid is None
        and (each.table_oid, each.name) not in indexes
        and (each.table_oid, find_parent(each, found)) in indexes
    ]


def refuse_own_transaction(status: HnswIndexStatus, using: str) -> None:
    """Raise TransactionManagementError if the caller holds what a rebuild on another connection waits for."""
    if not connections[using].in_atomic_block:
        return
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('transaction_isolation') <> 'read committed' OR EXISTS (SELECT FROM pg_locks "
            "WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation = %s)",
            [status.table_oid],
        )
        if cursor.fetchone()[0]:
            raise TransactionManagementError(
                f"Index {status.name} cannot be rebuilt inside a transaction that has used table {status.table}: the "
                "rebuild would wait for it. Rebuild outside of atomic(), or by start_rebuild()."
            )


def _parts(status: HnswIndexStatus, found: list[HnswIndexStatus], *, same_table: bool) -> list[HnswIndexStatus]:
    """Return the index itself or its partitions', or all indexes of the same table."""
    by_oid = {each.oid: each for each in found}

    def belongs(each: HnswIndexStatus | None) -> bool:
        if each is None or each.oid == status.oid or (same_table and each.table_oid == status.table_oid):
            return each is not None
        return belongs(by_oid.get(each.parent_oid or 0))

    return [each for each in found if belongs(each) and not each.partitioned]


def _statement(part: HnswIndexStatus, found: list[HnswIndexStatus], run: IndexRun, session: Session) -> str:
    name = f"{quote(part.schema)}.{quote(part.name)}"
    concurrently = session.concurrently if run.parameters.get("concurrently", True) else ""
    if run.index != part.name and find_parent(part, found):
        return f"DROP INDEX {concurrently}{name}"  # Left by an interrupted rebuild, and of no use.
    return f"REINDEX INDEX {concurrently}{name}"
