"""A real standby: all that only reads works there, and what writes says so."""

import os
import shutil
import subprocess
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from pgembedding_django.maintenance.catalogue import list_indexes
from pgembedding_django.maintenance.diagnosis import State
from tests.conftest import Throwaway, wait_for
from tests.many import QUERY, RANKED, VECTORS, ids, ranked
from tests.models import Article

pytestmark = pytest.mark.pgvector


@pytest.fixture(scope="module")
def primary(server, django_db_setup, django_db_blocker):
    """A database with the alias "fresh" and N articles, on a server that may have a standby."""
    database = Throwaway("fresh")
    with django_db_blocker.unblock():
        connections.settings["fresh"] = {**connections.settings["default"], **server}
        database.execute(f"CREATE DATABASE {database.name} TEMPLATE template0")
        database.become(NAME=database.name)
        database.migrate()
        Article.objects.using("fresh").bulk_load(
            Article(title=str(i), published=i % 2 == 0, embedding=vector) for i, vector in enumerate(VECTORS)
        )
        database.execute("ANALYZE tests_article")
        yield database
        database.connection.close()
        del connections["fresh"]
        del connections.settings["fresh"]


@pytest.fixture(scope="module")
def standby(primary, tmp_path_factory):
    """A standby that has replayed all of it; its alias is "standby"."""
    [[programs]] = primary.execute("SELECT setting FROM pg_config() WHERE name = 'BINDIR'")
    [[source]] = primary.execute("SHOW data_directory")
    folder = tmp_path_factory.mktemp("standby")
    shutil.chown(folder, os.stat(source).st_uid, os.stat(source).st_gid)
    run = program_runner(programs, folder)
    entry, data = primary.connection.settings_dict, folder / "data"
    run("pg_basebackup", "-D", data, "-R", "-c", "fast", "-h", entry["HOST"], "-U", entry["USER"])
    run("pg_ctl", "-D", data, "-w", "-o", f"-h '' -k {folder}", "-l", folder / "log", "start")
    connections.settings["standby"] = {**connections.settings["fresh"], "HOST": str(folder)}
    database = Throwaway("standby")
    yield database
    database.connection.close()
    del connections["standby"]
    del connections.settings["standby"]
    run("pg_ctl", "-D", data, "-w", "-m", "fast", "stop")


def program_runner(programs, folder):
    """Return a function that runs a program of Postgres as the owner of the folder."""
    owner = os.stat(folder)
    identity = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}

    def run(program, *args):
        subprocess.run(
            [f"{programs}/{program}", *args],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **identity,
        )

    return run


@pytest.fixture(autouse=True)
def _allowed(django_db_blocker, standby):
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def rows(standby):
    return Article.objects.using("standby")


def run(*args, **options):
    """Run a command there and return what it prints to its two streams."""
    out, err = StringIO(), StringIO()
    call_command(*args, database="standby", stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def test_standby_is_one(standby):
    assert standby.execute("SELECT pg_is_in_recovery()") == [(True,)]


def test_nearest_goes_through_the_index(rows):
    nearest = rows.nearest(QUERY, 10)
    assert nearest.explain_nearest().startswith("Index scan on article_embedding_hnsw")
    assert ids(nearest) == RANKED[:10]


def test_nearest_behind_a_filter_is_complete(rows):
    assert ids(rows.filter(published=True).nearest(QUERY, 1000)) == ranked(lambda i: i % 2 == 0)[:1000]
    assert ids(rows.filter(title__in=["1", "2", "3"]).nearest(QUERY, 10)) == ranked(lambda i: i in (1, 2, 3))


def test_indexes_are_listed_and_healthy(standby):
    assert {index.state for index in list_indexes("standby")} == {State.HEALTHY}


def test_checks_find_nothing(standby):
    call_command("check", databases=["standby"], fail_level="WARNING")


def test_recall_is_measured_and_not_stored(standby):
    out, err = run("measure_recall", "tests.Article", "--sample=5", "--min=0.9")
    assert "reaches a recall of 0.9" in out
    assert err == "Not stored: this connection may not write the history.\n"


def test_stale_rows_are_found_and_embed_names_the_primary(primary, standby, rows):
    primary.execute("INSERT INTO tests_article (title, published) VALUES ('new', true)")
    wait_for(standby, "SELECT 1 FROM tests_article WHERE title = 'new'")
    assert rows.stale().count() == 1
    with pytest.raises(CommandError) as caught:
        run("embed", "tests.Article", "--noinput")
    assert str(caught.value) == (
        "cannot execute SELECT FOR UPDATE in a read-only transaction. "
        'Database "standby" is read-only here, a standby perhaps: use the primary.'
    )
    primary.execute("DELETE FROM tests_article WHERE title = 'new'")
    wait_for(standby, "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM tests_article WHERE title = 'new')")


def test_rebuild_names_the_primary(standby):
    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError, match="1 of 1 failed"):
        call_command("rebuild_hnsw_indexes", "tests.Article", "--noinput", database="standby", stdout=out, stderr=err)
    assert 'Database "standby" is read-only here, a standby perhaps: use the primary.' in err.getvalue()


def test_tuning_asks_for_the_primary(standby):
    with pytest.raises(CommandError, match="Use a primary server"):
        run("tune_hnsw", "tests.Article", "--recall=0.9", "--noinput")
