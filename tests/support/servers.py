"""A Postgres server that a test may kill, and processes that use it."""

import atexit
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp

import pytest
from django.conf import settings as django_settings
from django.db import connections

from pgembedding_django.testing import embedded
from tests.settings import VERSION
from tests.support.waiting import wait_until


def prepare(cursor):
    """Let a server make no statistics and clean no index but where a test asks for it, and not wait for the disk."""
    cursor.execute("ALTER SYSTEM SET autovacuum = off")
    cursor.execute("ALTER SYSTEM SET fsync = off")  # What Postgres wrote outlives its own crash without it.
    cursor.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """Leave the server of the tests alone with what they do; one that DATABASE_URL names stays as it is."""
    if django_settings.EMBEDDED:
        with django_db_blocker.unblock(), connections["default"]._nodb_cursor() as cursor:
            prepare(cursor)


def make_folder():
    """
    Make a folder for a server, which is gone when the process ends, behind the server.

    Not one of pytest's: where root runs the tests, the server is another user's, and pytest closes its folders to
    others whenever a second run begins.
    """
    folder = Path(mkdtemp(prefix="pgembedding-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@pytest.fixture(scope="module")
def server(django_db_blocker):
    """A server of its own, which may be killed or started again."""
    folder = make_folder() / "data"
    entry = embedded.database(folder, version=VERSION)
    running = folder / "postmaster.pid"
    started = process_id(running)
    connection = connections["default"].copy("own")
    connection.settings_dict = {**connection.settings_dict, **entry}
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        prepare(cursor)
    connection.close()
    yield entry
    # Its package stops the process that it started, and restart() put another in its place.
    if (pid := process_id(running)) == started:
        return
    os.kill(pid, signal.SIGINT)
    wait_until(lambda: not running.exists(), what="the server did not stop")


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
