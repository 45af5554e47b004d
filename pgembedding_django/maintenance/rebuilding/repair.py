"""Clears away what interrupted builds left behind, and finishes or creates what should be there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Unpack

from django.db import DEFAULT_DB_ALIAS
from django.utils.translation import gettext as _

from pgembedding_django.engines.building import give_memory
from pgembedding_django.engines.partitions import completing_steps
from pgembedding_django.maintenance.indexes.catalogue import IndexReport, list_indexes
from pgembedding_django.maintenance.indexes.declared import declarations, model_tables
from pgembedding_django.maintenance.indexes.diagnosis import State, find_parent
from pgembedding_django.maintenance.indexes.lookup import find_index, statuses
from pgembedding_django.maintenance.indexes.progress import Watch
from pgembedding_django.maintenance.rebuilding.errors import explained
from pgembedding_django.maintenance.rebuilding.estimate import estimate_memory
from pgembedding_django.maintenance.rebuilding.rebuild import RebuildOptions, queue_rebuild
from pgembedding_django.maintenance.rebuilding.runs import queue_run, recorded
from pgembedding_django.maintenance.rebuilding.session import IndexBusy, Session, check_build, quote
from pgembedding_django.models import IndexRun

__all__ = ["Step", "perform_create", "perform_drop", "plan_repair", "queue_step"]


@dataclass(frozen=True)
class Step:
    """
    One thing that repair will do.

    words: the step for people. schema: "" for an index to create.
    """

    action: str
    schema: str
    index: str
    table: str
    words: str

    @property
    def label(self) -> str:
        """The index with its schema."""
        return f"{self.schema}.{self.index}" if self.schema else self.index


def plan_repair(using: str = DEFAULT_DB_ALIAS, reports: Iterable[IndexReport] | None = None) -> list[Step]:
    """
    Return what repair would do, and change nothing: drop first, then rebuild, then create.

    reports: of the indexes to look at, None for all. What is being built right now is left alone.
    """
    looked_at = list_indexes(using) if reports is None else reports
    steps: dict[tuple[str, ...], Step] = {}
    for report in looked_at:
        if report.repairable:
            # Rebuilding one index of such a table rebuilds all of them.
            all_of_table = report.state in (State.CRASHED, State.UNGUARDED)
            steps.setdefault((report.table, "" if all_of_table else report.label), _step(report))
    order = [IndexRun.Action.DROP, IndexRun.Action.REBUILD, IndexRun.Action.CREATE]
    return sorted(steps.values(), key=lambda step: order.index(IndexRun.Action(step.action)))


def queue_step(
    step: Step, *, using: str = DEFAULT_DB_ALIAS, person: str = "", **options: Unpack[RebuildOptions]
) -> IndexRun:
    """
    Record that a step shall be done.

    Raises HnswIndexStatus.DoesNotExist if the index has gone, and as queue_rebuild() does.
    """
    if step.action == IndexRun.Action.REBUILD:
        return queue_rebuild(find_index(step.label, using), using=using, person=person, **options)
    check_build(**options)
    return queue_run(
        IndexRun(
            action=step.action,
            schema=step.schema,
            index=step.index,
            table=step.table,
            person=person,
            parameters=options,
        ),
        using,
    )


def perform_drop(run: IndexRun, session: Session, progress: Watch | None = None) -> None:
    """
    Drop an index that an interrupted rebuild or drop left behind, without holding anybody up.

    Raises IndexBusy if it is anything else by now.
    """
    with recorded(run, session):
        status = find_index(f"{run.schema}.{run.index}", session.using)
        with session.table_locked(status.table_oid):
            status = find_index(status, session.using)
            if status.valid or (status.live and not find_parent(status, list(statuses(session.using)))):
                raise IndexBusy(f"Index {status.name} is no leftover any more, and stays.")
            with explained(status, session):
                session.run(f"DROP INDEX {session.concurrently}{quote(status.schema)}.{quote(status.name)}", progress)


def perform_create(run: IndexRun, session: Session, progress: Watch | None = None) -> None:
    """
    Create an index that a model declares and the database lacks, without holding up writes.

    Of an index that some partitions of its table lack, create it on those.
    Raises LookupError if no model declares it.
    """
    with recorded(run, session):
        if run.schema:
            _complete(run, session, progress)
            return
        for declaration in declarations(model_tables(session.using)).values():
            if (declaration.model._meta.db_table, declaration.index.name) == (run.table, run.index):
                break
        else:
            raise LookupError(f"No model declares an index {run.index} of table {run.table}.")
        with session.table_locked(declaration.table_oid), session.connection.schema_editor(atomic=False) as editor:
            sql = declaration.index.create_sql(declaration.model, editor, concurrently=True)
            session.run(str(sql), progress)
        created = statuses(session.using).filter(table_oid=declaration.table_oid, name=run.index)
        run.schema = created.values_list("schema", flat=True)[0]


def _complete(run: IndexRun, session: Session, progress: Watch | None) -> None:
    """Build an index on each partition that lacks it."""
    status = find_index(f"{run.schema}.{run.index}", session.using)
    with session.table_locked(status.table_oid), explained(status, session):
        give_memory(session.connection, estimate_memory(status, session.using) or 0)
        steps = completing_steps(session.connection, status.oid)
        run.parts = max(1, sum(map(_builds, steps)))
        run.part = 0
        for step in steps:
            run.part += _builds(step)
            run.save()
            session.run(step, progress)


def _builds(step: str) -> bool:
    return step.startswith("CREATE INDEX CONCURRENTLY")


def _step(report: IndexReport) -> Step:
    if report.status is not None and report.status.partitioned:
        action, words = IndexRun.Action.CREATE, _("Build %(index)s on the partitions of %(table)s that lack it.")
    elif report.status is None:
        action, words = IndexRun.Action.CREATE, _("Create %(index)s on %(table)s, which a model declares.")
    elif report.leftover_of or not report.status.live:
        action, words = IndexRun.Action.DROP, _("Drop %(index)s of %(table)s, which is left over.")
    elif report.state is State.CRASHED:
        action, words = IndexRun.Action.REBUILD, _("Rebuild %(index)s of %(table)s, which a crash left incomplete.")
    elif report.state is State.UNGUARDED:
        action, words = IndexRun.Action.REBUILD, _("Rebuild %(index)s of %(table)s, and guard the table.")
    else:
        action, words = IndexRun.Action.REBUILD, _("Rebuild %(index)s of %(table)s, which was not built to the end.")
    said = words % {"index": report.name, "table": report.table}
    return Step(action, report.schema, report.name, report.table, said)
