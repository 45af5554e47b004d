"""What a store needs of Django: a database, its tables, and a thread in which queries may run."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

import django
from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import ENVIRONMENT_VARIABLE, settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.models import QuerySet

from pgembedding_django import locks
from pgembedding_django.compat.database_urls import entry_of
from pgembedding_django.engines import ENGINES
from pgembedding_django.operations import create_extension

if TYPE_CHECKING:
    from pgembedding_django.documents.models import Collection

__all__ = ["APP_LABEL", "Database", "collections_of", "find_database"]

P = ParamSpec("P")
R = TypeVar("R")

APPS = ["pgembedding_django", "pgembedding_django.documents"]

#: The label of the app that has the tables.
APP_LABEL = "pgembedding_documents"

#: alias: engine, of the databases that a process without a project's settings has connected to.
_engines: dict[str, str] = {}

_setup_lock = threading.Lock()


@dataclass(frozen=True)
class Database:
    """A database alias of Django, and how a store's queries run in it."""

    alias: str

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """This thread's connection."""
        return connections[self.alias]

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """
        Call a function that uses the database.

        Under a running event loop, as in a notebook's cell, where Django refuses queries, it runs in another thread
        while this one waits. Outside of the main thread, a connection that the call opened is closed after it, so that
        no thread that ends leaves one behind.
        """
        if _loop_is_running():
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(lambda: self.run(function, *args, **kwargs)).result()
        keep = self.connection.connection is not None or threading.current_thread() is threading.main_thread()
        try:
            return function(*args, **kwargs)
        finally:
            if not keep:
                self.connection.close()

    async def arun(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function that uses the database, in the thread where Django's own async methods run theirs."""
        return await sync_to_async(self.run)(function, *args, **kwargs)

    def create_extension(self) -> None:
        create_extension(self.connection)

    def create_tables(self) -> None:
        """Migrate the documents app where it is not; two processes take turns."""
        executor = MigrationExecutor(self.connection)
        if not executor.migration_plan(executor.loader.graph.leaf_nodes(APP_LABEL)):
            return
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [locks.TABLES])
            try:
                self._migrate()
            finally:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [locks.TABLES])

    def drop_tables(self) -> None:
        self._migrate("zero")

    def _migrate(self, *target: str) -> None:
        call_command("migrate", APP_LABEL, *target, database=self.alias, verbosity=0, interactive=False)


def find_database(connection_string: str | None, using: str | None) -> Database:
    """
    Return the database of a connection string, or of an alias; the project's default where neither is given.

    Sets Django up where no project has. Raises ImproperlyConfigured if there is no Postgres under the alias, or if the
    project has not installed the apps; ValueError if the string is no URL.
    """
    with _setup_lock:
        _set_up_django()
        if connection_string is None:
            return _check_vendor(Database(using or DEFAULT_DB_ALIAS))
        database = Database(_alias_of(connection_string))
        if database.alias not in _engines:
            connections.settings[database.alias] = entry_of(connection_string)
            _engines[database.alias] = database.run(find_engine, database)
        return database


def collections_of(database: Database) -> QuerySet[Collection]:
    """Return the collections of a database; their model can be imported only after Django is set up."""
    model = cast("type[Collection]", apps.get_model(APP_LABEL, "Collection"))
    return model._default_manager.using(database.alias)


def _set_up_django() -> None:
    if not settings.configured and ENVIRONMENT_VARIABLE not in os.environ:
        # No logging of Django's own, and no time zone that changes the process's.
        settings.configure(
            INSTALLED_APPS=APPS, PGEMBEDDING={"ENGINE": _engines}, LOGGING_CONFIG=None, TIME_ZONE="UTC", USE_TZ=True
        )
    if not apps.ready:  # pragma: no cover - in a process without Django, as tests start one
        django.setup()
    missing = [name for name in APPS if not apps.is_installed(name)]
    if missing:
        raise ImproperlyConfigured(f"PGEmbedding needs {' and '.join(map(repr, missing))} in INSTALLED_APPS.")


def _check_vendor(database: Database) -> Database:
    if database.connection.vendor == "unknown":  # What Django calls a database that DATABASES does not have.
        raise ImproperlyConfigured(
            'PGEmbedding needs connection_string, such as "postgresql://user:password@host:5432/database", or the '
            "environment variable POSTGRES_CONNECTION_STRING; in a Django project, a Postgres in DATABASES."
        )
    if database.connection.vendor != "postgresql":
        raise ImproperlyConfigured(
            f'PGEmbedding needs a Postgres, but database "{database.alias}" is none. Pass connection_string, set '
            "POSTGRES_CONNECTION_STRING, or pass the alias of another as using."
        )
    return database


def _alias_of(connection_string: str) -> str:
    # Aliases are logged and shown, so it must not have the password.
    return f"pgembedding_{sha256(connection_string.encode()).hexdigest()[:12]}"


def find_engine(database: Database) -> str:
    """Return the engine whose extension the database has, or else the first whose extension the server offers."""
    with database.connection.cursor() as cursor:
        cursor.execute("SELECT name, installed_version IS NOT NULL FROM pg_available_extensions")
        offered = dict(cursor.fetchall())
    engines = [engine.name for engine in ENGINES.values() if engine.extension in offered]
    return max(engines or ENGINES, key=lambda name: offered.get(ENGINES[name].extension, False))


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
