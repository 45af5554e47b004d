"""Builds whose client or server dies half-way, and what is known and repaired afterwards."""

import os
import signal
import subprocess
from contextlib import closing, suppress

import pytest
from django.core.management import call_command
from django.db import Error, connections

from pgembedding_django.maintenance.indexes.catalogue import list_indexes
from pgembedding_django.maintenance.indexes.lookup import find_index
from pgembedding_django.maintenance.rebuilding.errors import explained
from pgembedding_django.maintenance.rebuilding.jobs import repair
from pgembedding_django.maintenance.rebuilding.rebuild import rebuild
from pgembedding_django.maintenance.rebuilding.runs import current_status
from pgembedding_django.maintenance.rebuilding.session import Session
from pgembedding_django.models import IndexRun
from tests.models import Article
from tests.support.databases import Throwaway
from tests.support.maintenance import BUILDING, INDEX, cancel_builds, fill, snapshot, writer
from tests.support.waiting import once_it_is_back, wait_for

pytestmark = pytest.mark.pgvector

OTHERS = [INDEX, "pair_one_cosine", "pair_two_l1"]


@pytest.fixture
def empty(server, django_db_blocker):
    """A database of that server, with the alias "fresh"."""
    database = Throwaway("fresh")
    with django_db_blocker.unblock():
        connections.settings["fresh"] = {**connections.settings["default"], **server}
        database.execute(f"CREATE DATABASE {database.name} TEMPLATE template0")
        database.become(NAME=database.name)
        yield database
        database.connection.close()
        del connections["fresh"]
        del connections.settings["fresh"]


@pytest.fixture
def database(empty):
    """The same with all tables of the tests."""
    empty.migrate()
    return empty


def crash(database, backends="SELECT pid FROM pg_stat_progress_create_index"):
    """Kill a backend: the server stops all others as in an immediate stop, and recovers."""
    os.kill(database.execute(backends)[0][0], signal.SIGKILL)
    with pytest.raises(Error):
        database.execute("SELECT pg_sleep(60)")
    database.connection.close()
    once_it_is_back(database.connection, lambda: database.execute("SELECT 1"))


def states():
    return {report.name: report.state.value for report in list_indexes("fresh")}


def assert_all_found(database, rows):
    database.execute("SET enable_seqscan = off")
    articles = Article.objects.using("fresh")
    for number in (1, rows // 2, rows):
        assert round(float(articles.nearest([0.5, 0.5, number], 1, exact=False)[0].embedding[2])) == number


@pytest.fixture
def command(database):
    """Start `manage.py rebuild_hnsw_indexes` in a process of its own; whatever still runs at the end is killed."""
    started = []

    def start(*args):
        process = database.start("rebuild_hnsw_indexes", "--noinput", *args)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_rows_written_before_a_crash_are_found_through_the_index(database, engine):
    fill(database, engine, 300)
    other = database.open()
    other.ensure_connection()
    crash(database, "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
    other.close()
    assert_all_found(database, 300)
    assert Article.objects.using("fresh").count() == 300


# The client


def test_client_killed_is_shown_truthfully_and_the_server_completes_the_build(database, engine, command):
    fill(database, engine, 100)
    with snapshot(database):
        process = command(INDEX)
        wait_for(database, BUILDING)
        run = IndexRun.objects.using("fresh").get()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (current_status(run), states()[INDEX]) == ("running", "building")
    wait_for(database, "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_progress_create_index)")
    wait_for(database, f"SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {run.pid})")
    assert current_status(run) == "interrupted"
    assert set(states().values()) == {"healthy"}
    assert_all_found(database, 100)
    assert rebuild(INDEX, using="fresh").status == "succeeded"


def test_client_interrupted_by_ctrl_c_cancels_the_build_and_says_how_to_repair(database, engine, command):
    with writer(database, engine):
        process = command(INDEX)
        wait_for(database, BUILDING)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) != 0
        wait_for(database, "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_progress_create_index)")
    assert IndexRun.objects.using("fresh").get().status == "interrupted"
    assert states()[f"{INDEX}_ccnew"] == "invalid"
    repair(using="fresh")
    assert set(states().values()) == {"healthy"}


# The server


@pytest.mark.parametrize("hold", ["writer", "snapshot"])
def test_server_crash_in_a_rebuild_leaves_the_old_index_serving(database, engine, background, hold):
    fill(database, engine, 100)
    held = writer(database, engine) if hold == "writer" else snapshot(database)
    with pytest.raises(Error), held:
        future = background(rebuild, INDEX, using="fresh")
        wait_for(database, BUILDING)
        crash(database)
    assert isinstance(future.exception(), Error)
    run = IndexRun.objects.using("fresh").get()
    assert current_status(run) in ("interrupted", "failed")
    assert states()[INDEX] == "healthy"
    assert states()[f"{INDEX}_ccnew"] == "invalid"
    assert_all_found(database, 100)
    assert [(run.action, run.status) for run in repair(using="fresh")] == [("drop", "succeeded")]
    assert set(states().values()) == {"healthy"}


def test_server_stopped_at_once_in_a_rebuild_and_started_again_is_repaired(database, engine, background, server):
    fill(database, engine, 100)
    with pytest.raises(Error), writer(database, engine):
        future = background(rebuild, INDEX, using="fresh")
        wait_for(database, BUILDING)
        restart(database)
    assert isinstance(future.exception(), Error)
    assert states()[f"{INDEX}_ccnew"] == "invalid"
    repair(using="fresh")
    assert set(states().values()) == {"healthy"}
    assert_all_found(database, 100)


def restart(database, *prefix):
    """Stop the server with `immediate` and start it again, as pg_ctl does; prefix: a command that limits it."""
    folder = database.execute("SHOW data_directory")[0][0]
    programs = database.execute("SELECT setting FROM pg_config() WHERE name = 'BINDIR'")[0][0]
    database.connection.close()
    pg_ctl = [os.path.join(programs, "pg_ctl"), "-D", folder, "-w"]
    owner = os.stat(folder)
    as_owner = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    with open(os.path.join(folder, "postmaster.opts")) as file:
        arguments = file.read().split(" ", 1)[1].strip()
    subprocess.run([*pg_ctl, "-m", "immediate", "stop"], check=True, capture_output=True, **as_owner)
    subprocess.run(
        [*prefix, *pg_ctl, "-o", arguments, "-l", os.path.join(folder, "restart.log"), "start"],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **as_owner,
    )


# S14: AddIndexConcurrently, interrupted in ways other than a timeout

CREATE = """migrations.CreateModel("Note", [
    ("id", models.BigAutoField(primary_key=True)),
    ("embedding", EmbeddingField(dimensions=3, null=True)),
])"""
ADD = 'AddIndexConcurrently("Note", HnswIndex(fields=["embedding"], name="note_hnsw"))'


@pytest.mark.parametrize("fault", [cancel_builds, crash])
def test_migration_interrupted_by_cancel_or_crash_ends_green_when_run_again(
    empty, engine, background, write_migrations, fault
):
    database = empty
    write_migrations(CREATE, ADD, atomic=False)
    database.migrate("pgembedding_django")
    database.migrate("tests", "0001")
    fill(database, engine, 100, table="tests_note")
    holder = database.open()
    holder.set_autocommit(False)
    with suppress(Error), closing(holder):
        with holder.cursor() as cursor:
            cursor.execute("LOCK TABLE tests_note IN ROW EXCLUSIVE MODE")
        future = background(call_command, "migrate", "tests", database="fresh", verbosity=0)
        wait_for(database, BUILDING)
        fault(database)
        assert isinstance(future.exception(), Error)
    assert database.indexes()["note_hnsw"] is False
    assert states()["note_hnsw"] == "invalid"
    database.migrate("tests")
    assert database.indexes()["note_hnsw"] is True
    assert states()["note_hnsw"] == "healthy"


# Disk full


def test_disk_full_leaves_the_old_index_serving_and_names_the_leftover(database):
    # A limit on the size of a file stands for a full disk: above what a segment of WAL has, which must be written.
    limit = 17 * 1024**2
    database.execute("CREATE TABLE big (id int, e vector(384))")
    database.execute(
        "INSERT INTO big SELECT g, (SELECT array_agg(random()) FROM generate_series(1, 384) WHERE g > 0)::vector "
        "FROM generate_series(1, 9500) g"
    )
    database.execute("CREATE INDEX big_hnsw ON big USING hnsw (e vector_l2_ops) WITH (m = 4, ef_construction = 8)")
    assert database.execute("SELECT pg_relation_size('big_hnsw')")[0][0] > limit
    database.execute("CHECKPOINT")  # so that recovery need not write what is above the limit
    restart(database, "prlimit", f"--fsize={limit}")
    with pytest.raises(Error) as caught:
        rebuild("big_hnsw", using="fresh", parallel_workers=0)
    error = caught.value
    restart(database)
    assert str(error).startswith("Index big_hnsw of table big failed: could not extend file ")
    assert str(error).endswith(
        " The old index still serves. Left behind: big_hnsw_ccnew. Run: manage.py rebuild_hnsw_indexes --repair"
    )
    assert database.indexes() == {"big_hnsw": True, "big_hnsw_ccnew": False, **dict.fromkeys(OTHERS, True)}
    assert IndexRun.objects.using("fresh").get().status == "failed"
    repair(using="fresh")
    assert "big_hnsw_ccnew" not in database.indexes()


def test_shared_memory_that_is_full_names_its_remedies(database):
    status = find_index(INDEX, "fresh")
    raised = "DO $$ BEGIN RAISE EXCEPTION 'could not resize shared memory segment' USING ERRCODE = '53100'; END $$"
    with Session("fresh") as session, pytest.raises(Error) as caught, explained(status, session):
        session.run(raised)
    assert str(caught.value).endswith(
        "failed: could not resize shared memory segment. Give it less memory, or a larger /dev/shm, or build without "
        "help (parallel_workers=0). The old index still serves."
    )
