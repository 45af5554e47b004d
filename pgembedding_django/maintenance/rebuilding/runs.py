"""The record of what is done to an index: by whom, since when, how far, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import TypedDict

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from pgembedding_django import locks
from pgembedding_django.compat import background
from pgembedding_django.loading.primary import on_primary
from pgembedding_django.maintenance.indexes.lookup import counted_statuses
from pgembedding_django.maintenance.indexes.progress import read_progress
from pgembedding_django.maintenance.rebuilding.log import log_outcome
from pgembedding_django.maintenance.rebuilding.session import IndexBusy, Session
from pgembedding_django.models import IndexRun

__all__ = [
    "RunProgress",
    "claim",
    "current_status",
    "give_up_late",
    "open_session",
    "progress_of",
    "queue_run",
    "recorded",
    "unfinished_runs",
]

UNFINISHED = (IndexRun.Status.QUEUED, IndexRun.Status.RUNNING)

#: How long a run may wait for its connection, by whether a worker takes it up: one may have builds of hours before it,
#: while a thread or a command connects at once, or is refused within 127 s (tcp_syn_retries of Linux).
PATIENCE = {True: timedelta(days=1), False: timedelta(minutes=5)}


class RunProgress(TypedDict):
    """
    Where a run is.

    label: the status in words. percent: of the whole, None where nobody knows. blocked_by: the backends it waits for.
    part: which one is being built, of how many parts. seconds: since it began.
    """

    id: int
    index: str
    action: str
    status: str
    label: str
    done: bool
    phase: str
    percent: float | None
    blocked_by: list[int]
    part: int
    parts: int
    seconds: float
    notice: str
    error: str


def queue_run(run: IndexRun, using: str) -> IndexRun:
    """
    Record that something shall be done to an index.

    Raises IndexBusy if something is being done to it already.
    """
    action = IndexRun.Action(run.action).value
    with (
        on_primary(f"{action.capitalize()} of index {run.index}", using),
        transaction.atomic(using=using),
        connections[using].cursor() as cursor,
    ):
        # Of two that ask at once, such as by a double click, the second sees what the first has queued.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [locks.REBUILD])
        for other in unfinished_runs(using, schema=run.schema, index=run.index):
            raise IndexBusy(
                f"Index {run.index} is busy: {other.action} {other.status} since {other.created:%Y-%m-%d %H:%M} UTC. "
                "Wait until that has ended."
            )
        # A worker that comes late leaves what this one replaces.
        replaced = IndexRun.objects.using(using).filter(schema=run.schema, index=run.index, status__in=UNFINISHED)
        replaced.update(status=IndexRun.Status.INTERRUPTED)
        run.save(using=using)
    return run


@contextmanager
def open_session(run: IndexRun) -> Iterator[Session]:
    """Open the session of a run; if that fails, the run is recorded as failed."""
    names = ("maintenance_work_mem", "parallel_workers", "give_up")
    session = Session(str(run._state.db), **{name: run.parameters.get(name) for name in names})
    with ExitStack() as stack:
        try:
            stack.enter_context(session)
        except Error as error:
            run.status, run.error, run.finished = IndexRun.Status.FAILED, str(error), timezone.now()
            log_outcome(run)
            with suppress(Error):  # The server may be gone.
                run.save()
            raise
        yield session


def give_up_late(queued: QuerySet[IndexRun]) -> None:
    """Record as interrupted those queued runs that already show as such: their worker comes too late."""
    queued.filter(created__lte=timezone.now() - PATIENCE[True]).update(status=IndexRun.Status.INTERRUPTED)


def claim(queued: QuerySet[IndexRun], session: Session) -> list[IndexRun]:
    """
    Take queued runs into a session, with which they end, and return them.

    Of two workers that are given the same ones, as queues do that deliver twice, the second gets none.
    """
    ids = list(queued.values_list("pk", flat=True))
    backend = {"pid": session.pid, "backend_start": session.backend_start}
    queued.update(**backend)
    return list(IndexRun.objects.using(session.using).filter(pk__in=ids, **backend).order_by("pk"))


def unfinished_runs(using: str, **filters: str) -> list[IndexRun]:
    """Return the runs that are queued or running, without interrupted ones."""
    runs = IndexRun.objects.using(using).filter(status__in=UNFINISHED, **filters)
    return [run for run in runs if current_status(run) in UNFINISHED]


def current_status(run: IndexRun) -> str:
    """Return the status of a run, which is interrupted where its backend is gone, or never came."""
    if not _is_lost(run):
        return run.status
    run.refresh_from_db()  # It may have ended, or begun, since it was read.
    return IndexRun.Status.INTERRUPTED if _is_lost(run) else run.status


def progress_of(run: IndexRun) -> RunProgress:
    """
    Return where a run is, as JSON holds it.
    """
    status = IndexRun.Status(current_status(run))
    build_progress = read_progress(_connection(run), run.pid) if status == IndexRun.Status.RUNNING and run.pid else None
    percent = 100.0 if status == IndexRun.Status.SUCCEEDED else None
    if build_progress:
        percent = (100 * (run.part - 1) + build_progress.percent) / run.parts
    end = run.finished or timezone.now()
    return {
        "id": run.pk,
        "index": f"{run.schema}.{run.index}",
        "action": run.action,
        "status": status.value,
        "label": str(status.label),
        "done": status not in UNFINISHED,
        "phase": build_progress.phase if build_progress else "",
        "percent": percent,
        "blocked_by": list(build_progress.blocked_by) if build_progress else [],
        "part": run.part,
        "parts": run.parts,
        "seconds": (end - run.started).total_seconds() if run.started else 0.0,
        "notice": run.notice,
        "error": run.error or (_explain_interruption(run) if status == IndexRun.Status.INTERRUPTED else ""),
    }


def _explain_interruption(run: IndexRun) -> str:
    if run.pid is None:
        return _("Nothing has begun it: its process ended, or no worker takes it up. Start it again.")
    return _("Its connection ended before it did. The server may have completed it: see the state of the index.")


@contextmanager
def recorded(run: IndexRun, session: Session) -> Iterator[None]:
    """Record beginning and end of a run around what is done."""
    run.status, run.started = IndexRun.Status.RUNNING, timezone.now()
    run.pid, run.backend_start = session.pid, session.backend_start
    run.size_before = _size(run)
    run.save()
    try:
        yield
    except BaseException as error:
        run.status = IndexRun.Status.FAILED if isinstance(error, Exception) else IndexRun.Status.INTERRUPTED
        run.error = str(error) or type(error).__name__
        # Where the server is gone, so is the backend, and the run shows as interrupted.
        with suppress(Error):
            _finish(run, session)
        raise
    run.status, run.size_after = IndexRun.Status.SUCCEEDED, _size(run)
    _finish(run, session)


def _finish(run: IndexRun, session: Session) -> None:
    connection = _connection(run)
    if not connection.in_atomic_block and not connection.is_usable():
        connection.close()  # Idle during the build, it may have been cut.
    run.finished = timezone.now()
    run.notice = "\n".join(filter(None, [run.notice, *(notice.strip() for notice in session.notices)]))
    session.notices.clear()
    log_outcome(run)
    run.save()


def _size(run: IndexRun) -> int | None:
    found = counted_statuses(str(run._state.db))
    return next((each.size for each in found if (each.schema, each.name) == (run.schema, run.index)), None)


def _is_lost(run: IndexRun) -> bool:
    return run.status in UNFINISHED and not (_has_backend(run) if run.pid else _may_begin(run))


def _may_begin(run: IndexRun) -> bool:
    return timezone.now() - run.created < PATIENCE[background.has_workers()]


def _has_backend(run: IndexRun) -> bool:
    with _connection(run).cursor() as cursor:
        # A role that may not read all statistics sees the process, but not since when.
        cursor.execute(
            "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND coalesce(backend_start, %s) = %s",
            [run.pid, run.backend_start, run.backend_start],
        )
        return cursor.fetchone() is not None


def _connection(run: IndexRun) -> BaseDatabaseWrapper:
    return connections[str(run._state.db)]
