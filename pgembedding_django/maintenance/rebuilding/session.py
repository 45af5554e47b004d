"""A connection of its own, on which a build can take its time and be watched."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from django.db import Error, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from pgembedding_django import locks
from pgembedding_django.compat.notices import hear_notices
from pgembedding_django.engines import get_engine
from pgembedding_django.engines.building import check_memory
from pgembedding_django.maintenance.indexes.progress import BuildProgress, Watch, read_progress
from pgembedding_django.models import HnswIndexStatus

__all__ = ["MAX_WORKERS", "IndexBusy", "Session", "check_build", "quote"]

#: Seconds between two looks at a build.
POLL = 0.25

#: Timeouts that would end a long build; the role's own values are meant for queries.
TIMEOUTS = ["statement_timeout", "lock_timeout", "transaction_timeout", "idle_session_timeout"]

#: What max_parallel_maintenance_workers takes (same page).
MAX_WORKERS = 1024

#: Seconds that statement_timeout takes, which counts milliseconds in 32 bits; 0 would mean no limit.
SHORTEST, LONGEST = 0.001, 2_147_483


class IndexBusy(OperationalError):
    """An index, or another one of its table, is being built or rebuilt already."""


class Session:
    """
    An autocommit connection beside the caller's, without the role's timeouts.

    maintenance_work_mem: text such as "2GB". parallel_workers: at most, beside the backend itself.
    give_up: seconds that one statement may take, None for as long as it needs.
    Raises ValueError if maintenance_work_mem is no size.
    Needs a direct connection: a transaction pooler would give its settings and locks to others.
    """

    using: str
    give_up: float | None
    gave_up: bool
    pid: int
    backend_start: datetime

    def __init__(
        self,
        using: str,
        *,
        maintenance_work_mem: str | None = None,
        parallel_workers: int | None = None,
        give_up: float | None = None,
    ) -> None:
        check_memory(maintenance_work_mem)
        self.using, self.give_up = using, give_up
        self.settings: dict[str, str | int] = dict.fromkeys(TIMEOUTS, 0)
        if maintenance_work_mem is not None:
            self.settings["maintenance_work_mem"] = maintenance_work_mem
        if parallel_workers is not None:
            self.settings["max_parallel_maintenance_workers"] = parallel_workers
        self.notices: list[str] = []
        self.last_progress: BuildProgress | None = None
        self.gave_up = False

    def __enter__(self) -> Self:
        self.connection: BaseDatabaseWrapper = _copy(self.using)
        self.connection.inc_thread_sharing()
        with ExitStack() as on_failure:
            on_failure.callback(self.connection.close)
            self.connection.connect()
            for name, value in self.settings.items():
                # Not each server has each setting.
                self.fetch("SELECT set_config(name, %s, false) FROM pg_settings WHERE name = %s", [str(value), name])
            self.pid, self.backend_start = self._identity()
            hear_notices(self.connection, self._note)
            on_failure.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.connection.close()

    @property
    def concurrently(self) -> str:
        """What stands in a statement that works on an index beside writes; nothing where the server has no such one."""
        return get_engine(self.connection).server(self.connection).concurrently

    def fetch(self, sql: str, params: Sequence[int | str] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            return list(cursor.fetchall()) if cursor.description else []

    @contextmanager
    def table_locked(self, oid: int) -> Iterator[None]:
        """
        Keep others from rebuilding indexes of a table meanwhile.

        Raises IndexBusy if one is being built or rebuilt already.
        """
        # Never wait in a statement: its snapshot would be waited for by the rebuild that holds the lock.
        key = locks.REBUILD | oid
        if not self.fetch("SELECT pg_try_advisory_lock(%s)", [key])[0][0]:
            table = self.fetch("SELECT %s::regclass::text", [oid])[0][0]
            raise IndexBusy(f"An index of table {table} is being rebuilt already. Wait until that has ended.")
        try:
            builders = HnswIndexStatus.objects.using(self.using).filter(table_oid=oid)
            for busy in builders.exclude(building_pid=None):
                raise IndexBusy(
                    f"Index {busy.name} is being built by backend {busy.building_pid}. Wait until that has ended."
                )
            yield
        finally:
            with suppress(Error):  # The server is gone, and its locks with it.
                self.fetch("SELECT pg_advisory_unlock(%s)", [key])

    def run(self, sql: str, progress: Watch | None = None) -> None:
        """
        Run a long statement, calling `progress` while it runs.

        Whatever ends the wait, such as Ctrl-C, cancels the statement too.
        """
        self.last_progress, began = None, time.monotonic()
        # The limit is of this statement alone: what follows a build is short and must not fail for it.
        self.fetch("SELECT set_config('statement_timeout', %s, false)", [str(round(1000 * (self.give_up or 0)))])
        with ThreadPoolExecutor(max_workers=1) as pool, closing(_copy(self.using)) as watcher:
            statement = pool.submit(self.fetch, sql)
            try:
                while not wait([statement], POLL).done:
                    self.last_progress = read_progress(watcher, self.pid) or self.last_progress
                    if progress is not None and self.last_progress is not None:
                        progress(self.last_progress)
            finally:
                if not statement.done():
                    with watcher.cursor() as cursor:
                        cursor.execute("SELECT pg_cancel_backend(%s)", [self.pid])
        try:
            statement.result()
        finally:
            self.gave_up = self.give_up is not None and time.monotonic() - began >= self.give_up
            with suppress(Error):  # The backend is gone; the statement raises its own error.
                self.fetch("SELECT set_config('statement_timeout', '0', false)")

    def _identity(self) -> tuple[int, datetime]:
        pid, start = self.fetch("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")[0]
        return pid, start

    def _note(self, text: str) -> None:
        self.notices.append(text.strip())


def check_build(
    *,
    maintenance_work_mem: str | None = None,
    parallel_workers: int | None = None,
    give_up: float | None = None,
    **others: object,
) -> None:
    """Raise ValueError if a session could not be opened with the options of a build."""
    check_memory(maintenance_work_mem)
    if parallel_workers is not None and not 0 <= parallel_workers <= MAX_WORKERS:
        raise ValueError(f"parallel_workers must be from 0 to {MAX_WORKERS}, got {parallel_workers!r}.")
    if give_up is not None and not SHORTEST <= give_up <= LONGEST:
        raise ValueError(f"give_up must be from {SHORTEST:g} to {LONGEST:,} seconds, got {give_up!r}.")


def quote(name: str) -> str:
    """Quote a name, whatever is in it; Django's quote_name() leaves double quotes as they are."""
    return '"' + name.replace('"', '""') + '"'


def _copy(using: str) -> BaseDatabaseWrapper:
    """Return a connection that is in no pool, as the settings made for a build must not stay behind."""
    connection = connections[using].copy(using)
    connection.settings_dict.get("OPTIONS", {}).pop("pool", None)
    return connection
