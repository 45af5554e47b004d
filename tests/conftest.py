"""Fixtures shared by the tests: which engine serves the session, and throw-away databases and roles."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from django.apps import apps
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import connection, connections
from django.test.utils import isolate_apps

from pgembedding_django.embedders.dummy import DummyEmbedder
from pgembedding_django.engines import ENGINES
from pgembedding_django.operations import create_extension
from pgembedding_django.testing import embedded
from tests.settings import VERSION
from tests.support.many import VECTORS
from tests.support.scripted import ScriptedEmbedder

#: Those have packages and settings of their own: `make neighbours`.
collect_ignore = ["neighbours"]

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
from pgembedding_django import CreateEmbeddingExtension, EmbeddingField, HnswIndex


class Migration(migrations.Migration):
    atomic = {atomic}
    dependencies = {dependencies}
    operations = [{operations}]
"""


@pytest.fixture(scope="session")
def offered_extensions(django_db_setup, django_db_blocker):
    """The extensions of engines that the session's server could create."""
    with django_db_blocker.unblock(), connections["default"].cursor() as cursor:
        cursor.execute("SELECT name FROM pg_available_extensions")
        return {name for (name,) in cursor.fetchall()} & {engine.extension for engine in ENGINES.values()}


@pytest.fixture(autouse=True)
def _only_on_its_engine(request):
    """Skip a test that is marked with an engine where the session runs on another one."""
    for engine in ENGINES.values():
        if request.node.get_closest_marker(engine.name) and not (
            django_settings.PGEMBEDDING["ENGINE"] == engine.name
            and engine.extension in request.getfixturevalue("offered_extensions")
        ):
            reasons = {
                "pg_embedding": 'this server does not offer the extension "embedding"',
                "pgvector": 'this session runs on the engine "pg_embedding"',
            }
            pytest.skip(reasons[engine.name])


@pytest.fixture
def engine():
    """The engine that the session runs on."""
    return ENGINES[django_settings.PGEMBEDDING["ENGINE"]]


@pytest.fixture
def isolated():
    """An app registry of its own for models that a test defines with the app label "tests"."""
    with isolate_apps("tests") as registry:
        yield registry


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


def wait_for(database, sql, seconds=60):
    """Ask until the answer has a row; a test that waits in vain fails."""
    until = time.monotonic() + seconds
    while not database.execute(sql):
        assert time.monotonic() < until, sql
        time.sleep(0.01)


@pytest.fixture
def fresh_database(django_db_setup, django_db_blocker):
    """An empty database with the alias "fresh", without any extension."""
    database = Throwaway("fresh")
    with django_db_blocker.unblock():
        as_superuser(f"CREATE DATABASE {database.name} TEMPLATE template0")
        connections.settings["fresh"] = {**connections.settings["default"], "NAME": database.name}
        yield database
        database.connection.close()
        del connections["fresh"]
        del connections.settings["fresh"]
        as_superuser(f"DROP DATABASE {database.name} WITH (FORCE)")


@pytest.fixture
def ready_database(fresh_database):
    """A database with the alias "fresh" that has the extension of the session's engine."""
    create_extension(fresh_database.connection)
    return fresh_database


@pytest.fixture
def role(fresh_database):
    """The name of a role without any right; the alias "fresh" connects as it."""
    name = f"role_{fresh_database.name}"
    as_superuser(f"CREATE ROLE {name} LOGIN")
    user = connections["default"].settings_dict["USER"]
    fresh_database.become(USER=name)
    yield name
    fresh_database.become(USER=user)
    fresh_database.execute(f"DROP OWNED BY {name} CASCADE")
    as_superuser(f"DROP ROLE {name}")


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


@pytest.fixture
def empty_index(db):
    """Begin with an index of its own: what other tests rolled back stays in the shared one, and hides rows in it."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE tests_article CASCADE")


@pytest.fixture
def many(empty_index):
    """N articles whose title is their place in VECTORS; every second is published; statistics are fresh."""
    Article = apps.get_model("tests", "Article")
    Article.objects.bulk_load(
        Article(title=str(i), published=i % 2 == 0, embedding=vector) for i, vector in enumerate(VECTORS)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tests_article")


@pytest.fixture
def force_index(db):
    """Forbid sequential scans and sorts, so that a plan without the index would show."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off")


@pytest.fixture
def scripted(settings):
    """The default embedder, which counts what it is sent and misbehaves on command; call it to set its OPTIONS."""

    def configure(**options):
        backend = {"BACKEND": "tests.support.scripted.ScriptedEmbedder", "OPTIONS": options}
        embedders = {**settings.PGEMBEDDING["EMBEDDERS"], "default": backend}
        settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": embedders}

    ScriptedEmbedder.reset()
    configure()
    ScriptedEmbedder.configure = staticmethod(configure)
    return ScriptedEmbedder


@pytest.fixture
def no_framework(monkeypatch):
    # None in sys.modules is how Python itself says that a module cannot be imported.
    monkeypatch.setitem(sys.modules, "django.tasks", None)
    monkeypatch.setitem(sys.modules, "django_tasks", None)


@pytest.fixture
def migrated_database(fresh_database):
    """A database with the alias "fresh" and all tables of the tests."""
    fresh_database.migrate()
    return fresh_database


@pytest.fixture
def background():
    """Return a function that calls another one in a thread, and gives its future."""
    with ThreadPoolExecutor() as pool:

        def start(function, *args, **kwargs):
            def run():
                try:
                    return function(*args, **kwargs)
                finally:
                    connections.close_all()

            return pool.submit(run)

        yield start


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of its own, which may be killed or started again."""
    folder = tmp_path_factory.mktemp("postgres") / "data"
    entry = embedded.database(folder, version=VERSION)
    running = folder / "postmaster.pid"
    started = process_id(running)
    yield entry
    # Its package stops the process that it started, and restart() put another in its place.
    if (pid := process_id(running)) == started:
        return
    os.kill(pid, signal.SIGINT)
    until = time.monotonic() + 60
    while running.exists():
        assert time.monotonic() < until, "the server did not stop"
        time.sleep(0.05)


def process_id(file):
    """Return the process that a server's own file names."""
    return int(file.read_text().split()[0])


@pytest.fixture
def own_database(server, django_db_blocker):
    """A connection to that server, which has the extension and no table `item`."""
    with django_db_blocker.unblock():
        connections.settings["own"] = {**connections.settings["default"], **server}
        with connections["own"].cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
            cursor.execute("DROP TABLE IF EXISTS item")
        yield connections["own"]
        connections["own"].close()
        del connections["own"]
        del connections.settings["own"]


@pytest.fixture
def run_script():
    """Start a Python script in a process of its own; whatever still runs at the end is killed."""
    started = []

    def run_script(script, *arguments):
        command = [sys.executable, "-c", script, *arguments]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=django_settings.ROOT
        )
        started.append(process)
        return process

    yield run_script
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(name="embedded")
def embedded_texts(monkeypatch):
    """The texts that were embedded as documents."""
    texts, compute = [], DummyEmbedder.compute

    def count(self, batch):
        texts.extend(batch)
        return compute(self, batch)

    monkeypatch.setattr(DummyEmbedder, "compute", count)
    return texts
