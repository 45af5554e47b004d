"""Does what was queued: at once, or in the background."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Unpack

from django.core.exceptions import ObjectDoesNotExist
from django.db import DEFAULT_DB_ALIAS, Error, connections, transaction
from django.db.models import QuerySet
from django.utils import timezone

from pgembedding_django.compat import background
from pgembedding_django.maintenance.indexes.progress import Watch
from pgembedding_django.maintenance.rebuilding.log import log_outcome
from pgembedding_django.maintenance.rebuilding.rebuild import RebuildOptions, perform_rebuild, queue_rebuild
from pgembedding_django.maintenance.rebuilding.repair import Step, perform_create, perform_drop, plan_repair, queue_step
from pgembedding_django.maintenance.rebuilding.runs import claim, give_up_late, open_session
from pgembedding_django.models import HnswIndexStatus, IndexRun

__all__ = ["perform", "perform_in_background", "repair", "start_rebuild", "start_repair"]

logger = logging.getLogger("pgembedding_django")

PERFORMERS = {
    IndexRun.Action.REBUILD: perform_rebuild,
    IndexRun.Action.DROP: perform_drop,
    IndexRun.Action.CREATE: perform_create,
}


def repair(
    steps: Iterable[Step] | None = None,
    *,
    using: str = DEFAULT_DB_ALIAS,
    person: str = "",
    progress: Watch | None = None,
    **options: Unpack[RebuildOptions],
) -> list[IndexRun]:
    """
    Do the steps of plan_repair(), all of them unless given, and return the records.

    Raises as rebuild() does; the steps before stay done.
    """
    runs = []
    for step in plan_repair(using) if steps is None else steps:
        runs.append(queue_step(step, using=using, person=person, **options))
        perform(runs[-1], progress)
    return runs


def perform(run: IndexRun, progress: Watch | None = None) -> None:
    """Perform a queued run, and wait for its end."""
    with open_session(run) as session:
        PERFORMERS[IndexRun.Action(run.action)](run, session, progress)


def start_rebuild(
    indexes: Iterable[HnswIndexStatus],
    *,
    using: str = DEFAULT_DB_ALIAS,
    person: str = "",
    **options: Unpack[RebuildOptions],
) -> list[IndexRun]:
    """
    Rebuild indexes one after another in the background, from the end of the transaction on.

    Done by a worker of Django's tasks framework where one is configured, else by a thread, which ends with the process.
    Returns the records, for progress_of(). How each ends is recorded, not raised.
    Raises ValueError for options that no server takes, IndexBusy if one of them is busy; then none is rebuilt.
    """
    with transaction.atomic(using=using):
        return _start([queue_rebuild(index, using=using, person=person, **options) for index in indexes], using)


def start_repair(
    steps: Iterable[Step], *, using: str = DEFAULT_DB_ALIAS, person: str = "", **options: Unpack[RebuildOptions]
) -> list[IndexRun]:
    """Do steps of plan_repair() in the background, as start_rebuild() does."""
    with transaction.atomic(using=using):
        return _start([queue_step(step, using=using, person=person, **options) for step in steps], using)


@background.task
def perform_in_background(using: str, ids: Sequence[int]) -> None:
    """
    Perform queued runs one after another, also after one that failed.

    Runs that are given up by now, that another worker has begun, or that were replaced, are left alone.
    """
    give_up_late(_queued(using, ids))
    _perform_all(using, ids)


def _start(runs: list[IndexRun], using: str) -> list[IndexRun]:
    if runs:
        transaction.on_commit(partial(_launch, using, [run.pk for run in runs]), using=using)
    return runs


def _launch(using: str, ids: list[int]) -> None:
    if not background.has_workers():
        threading.Thread(target=_perform_in_thread, args=(using, ids), name="pgembedding_django", daemon=True).start()
        return
    try:
        background.enqueue(perform_in_background, using, ids)
    except background.NotEnqueued as error:
        logger.exception("Cannot enqueue runs %s", ids)
        _fail(_queued(using, ids), error)


def _perform_in_thread(using: str, ids: list[int]) -> None:
    try:
        _perform_all(using, ids)
    finally:
        connections.close_all()


def _perform_all(using: str, ids: Sequence[int]) -> None:
    queued = _queued(using, ids)
    first = queued.first()
    if first is None:
        return
    try:
        with open_session(first) as session:
            for run in claim(queued, session):
                try:
                    PERFORMERS[IndexRun.Action(run.action)](run, session, None)
                except (Error, LookupError, ObjectDoesNotExist):
                    logger.exception("%s", run)
    except Error as error:
        logger.exception("Cannot begin %s", first)
        _fail(queued, error)


def _queued(using: str, ids: Sequence[int]) -> QuerySet[IndexRun]:
    """Return those of some runs that nothing has begun."""
    return IndexRun.objects.using(using).filter(pk__in=ids, status=IndexRun.Status.QUEUED, pid=None).order_by("pk")


def _fail(runs: QuerySet[IndexRun], error: Exception) -> None:
    for run in runs:
        run.status, run.error, run.finished = IndexRun.Status.FAILED, str(error), timezone.now()
        log_outcome(run)
        run.save()
