"""Throw-away databases: empty, with the extension, with all tables; and migrations for them."""

import os
import subprocess
import sys
from contextlib import contextmanager
from uuid import uuid4

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import connections

from pgembedding_django.operations import create_extension

#: manage.py, which hears SIGINT also where the tests run in the background of a shell and children ignore it.
MANAGE = """
import signal, sys
from django.core.management import execute_from_command_line
signal.signal(signal.SIGINT, signal.default_int_handler)
execute_from_command_line(["manage.py", *sys.argv[1:]])
"""


MIGRATION = """
from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models
from pgembedding_django import (
    AddPartition, CreateEmbeddingExtension, EmbeddingField, HnswIndex, PartitionTable
)


class Migration(migrations.Migration):
    atomic = {atomic}
    dependencies = {dependencies}
    operations = [{operations}]
"""


class Throwaway:
    """A database or role of this run, and how to reach it."""

    def __init__(self, alias):
        self.alias = alias
        self.name = f"pgembedding_{os.getpid()}_{uuid4().hex[:8]}"

    @property
    def connection(self):
        return connections[self.alias]

    def execute(self, sql, params=None, *, superuser=False):
        """Run one statement and return its rows, as the alias's role or as a superuser."""
        connection = self.open(USER=connections["default"].settings_dict["USER"]) if superuser else self.connection
        with connection.cursor() as cursor:
            cursor.execute(sql, params)
            rows = cursor.fetchall() if cursor.description else []
        if superuser:
            connection.close()
        return rows

    def open(self, **settings):
        """Return one more connection, which the caller closes."""
        connection = self.connection.copy(self.alias)
        connection.settings_dict = {**connection.settings_dict, **settings}
        return connection

    def become(self, **settings):
        """Connect with other settings from now on."""
        self.connection.close()
        connections.settings[self.alias] = {**connections.settings[self.alias], **settings}
        del connections[self.alias]

    def migrate(self, *args, **options):
        call_command("migrate", *args, database=self.alias, verbosity=0, **options)

    def tables(self):
        return self.connection.introspection.table_names()

    def indexes(self):
        """Return name: whether it is valid, of the HNSW indexes."""
        return dict(
            self.execute(
                "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
                "JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'hnsw'"
            )
        )

    def triggers(self):
        """Return the tables that carry the guard of pg_embedding."""
        rows = self.execute("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'pgembedding_guard'")
        return [table for (table,) in rows]

    def environment(self, **variables):
        """Return the environment of a process that has this database as its default."""
        entry = self.connection.settings_dict
        host = entry["HOST"]
        place = f"@/{host}/" if host.startswith("/") else f":{entry['PASSWORD']}@{host}/"
        return {
            **os.environ,
            "DATABASE_URL": f"postgres://{entry['USER']}{place}{self.name}",
            "PGPORT": str(entry["PORT"] or 5432),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            **variables,
        }

    def start(self, *args, **variables):
        """Start a management command on this database and return the process."""
        return subprocess.Popen(
            [sys.executable, "-c", MANAGE, *args],
            cwd=django_settings.ROOT,
            env=self.environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def as_superuser(sql):
    """Run one statement outside of every transaction, in the server's own database."""
    with connections["default"]._nodb_cursor() as cursor:
        cursor.execute(sql)


@contextmanager
def throwaway(alias, template="template0"):
    """Make a database that has an alias until the end."""
    database = Throwaway(alias)
    as_superuser(f"CREATE DATABASE {database.name} TEMPLATE {template}")
    connections.settings[alias] = {**connections.settings["default"], "NAME": database.name}
    yield database
    database.connection.close()
    del connections[alias]
    del connections.settings[alias]
    as_superuser(f"DROP DATABASE {database.name} WITH (FORCE)")


@pytest.fixture(scope="session")
def template(django_db_setup, django_db_blocker):
    """The name of a database with all tables of the tests, to which nobody is connected."""
    with django_db_blocker.unblock(), throwaway("template") as database:
        database.migrate()
        database.connection.close()
        yield database.name


@pytest.fixture
def fresh_database(request, django_db_setup, django_db_blocker):
    """An empty database with the alias "fresh", without any extension; of a test that wants tables, a copy of those."""
    migrated = "migrated_database" in request.fixturenames
    template = request.getfixturevalue("template") if migrated else "template0"
    with django_db_blocker.unblock(), throwaway("fresh", template) as database:
        yield database


@pytest.fixture
def ready_database(fresh_database):
    """A database with the alias "fresh" that has the extension of the session's engine."""
    create_extension(fresh_database.connection)
    return fresh_database


@pytest.fixture
def migrated_database(template, fresh_database):
    """A database with the alias "fresh" and all tables of the tests."""
    return fresh_database


@pytest.fixture
def sqlite(django_db_blocker, tmp_path):
    """A database of another vendor, with the alias "lite"."""
    with django_db_blocker.unblock():
        connections.settings["lite"] = {
            **connections.settings["default"],
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(tmp_path / "lite.sqlite3"),  # Django never closes one in memory
        }
        yield connections["lite"]
        connections["lite"].close()
        del connections["lite"]
        del connections.settings["lite"]


@pytest.fixture
def write_migrations(tmp_path, monkeypatch, settings):
    """Give the app "tests" other migrations, 0001_m and so on: each argument is the source of one's operations."""
    package = f"migrations_{uuid4().hex}"
    settings.MIGRATION_MODULES = {"tests": package}

    def write(*migrations, atomic=True):
        folder = tmp_path / package
        folder.mkdir()
        (folder / "__init__.py").touch()
        for number, operations in enumerate(migrations, 1):
            source = MIGRATION.format(
                atomic=atomic,
                dependencies=[("tests", f"{number - 1:04}_m")] if number > 1 else [],
                operations=operations,
            )
            (folder / f"{number:04}_m.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)

    return write
