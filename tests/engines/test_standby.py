"""A real standby: all that only reads works there, and what writes says so."""

import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import mkdtemp

import pytest
from django.core.management import CommandError, call_command
from django.db import InternalError, OperationalError, connections

from pgembedding_django.maintenance import replica_lag
from pgembedding_django.maintenance.indexes.catalogue import list_indexes
from pgembedding_django.maintenance.indexes.diagnosis import State
from tests.models import Article
from tests.support.databases import Throwaway, throwaway
from tests.support.many import QUERY, RANKED, VECTORS, ids, ranked
from tests.support.tables import load_articles
from tests.support.waiting import wait_for, wait_until

REMEDY = (
    'writes, and database "standby" is read-only here: use a primary server, by its alias or by the db_for_write() of '
    "a router, and a role that may write."
)
UNKNOWN = "This server is a standby, which counts no dead rows and only its own scans. Ask the primary."


@pytest.fixture(scope="module")
def primary(template, django_db_blocker):
    """A database with the alias "fresh" and N articles."""
    with django_db_blocker.unblock(), throwaway("fresh", template) as database:
        load_articles(VECTORS, "fresh")
        yield database


@contextmanager
def standby_of(primary, alias):
    """Start a standby that has replayed all of it, with an alias; gives it and what runs pg_ctl on it."""
    [[programs]] = primary.execute("SELECT setting FROM pg_config() WHERE name = 'BINDIR'")
    [[source]] = primary.execute("SHOW data_directory")
    if not os.path.isdir(source):
        pytest.skip("the server runs on another machine")
    if os.geteuid() not in (0, os.stat(source).st_uid):
        pytest.skip("the server is another user's")
    # Not among the folders of the tests, into which the owner of the server cannot look.
    folder = Path(mkdtemp(prefix="standby-"))
    shutil.chown(folder, os.stat(source).st_uid, os.stat(source).st_gid)
    entry, data, run = primary.connection.settings_dict, folder / "data", program_runner(programs, folder)
    run("pg_basebackup", "-D", data, "-R", "-c", "fast", "-h", entry["HOST"], "-U", entry["USER"])
    run("pg_ctl", "-D", data, "-w", "-o", f"-h '' -k {folder}", "-l", folder / "log", "start")
    connections.settings[alias] = {**connections.settings["fresh"], "HOST": str(folder)}
    yield Throwaway(alias), partial(run, "pg_ctl", "-D", data, "-w")
    connections[alias].close()
    del connections[alias]
    del connections.settings[alias]
    run("pg_ctl", "-D", data, "-w", "-m", "fast", "stop")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shared_standby(primary, django_db_blocker):
    with django_db_blocker.unblock(), standby_of(primary, "standby") as (database, _):
        yield database


@pytest.fixture
def standby(shared_standby, django_db_blocker):
    with django_db_blocker.unblock():
        yield shared_standby


def program_runner(programs, folder):
    """Return a function that runs a program of Postgres as the owner of the folder, which only root may become."""
    owner = os.stat(folder)
    identity = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}

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


@pytest.fixture
def rows(standby):
    standby.execute("SET enable_sort = off")  # The table is so small that a server may rather sort it.
    return Article.objects.using("standby")


def run(*args, database="standby"):
    """Run a command and return what it prints to its two streams."""
    out, err = StringIO(), StringIO()
    call_command(*args, database=database, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_standby_is_one(standby):
    assert standby.execute("SELECT pg_is_in_recovery()") == [(True,)]


@pytest.mark.pgvector
def test_nearest_goes_through_the_index(rows):
    nearest = rows.nearest(QUERY, 10)
    assert nearest.explain_nearest().startswith("Index scan on article_embedding_hnsw")
    assert ids(nearest) == RANKED[:10]


def test_nearest_behind_a_filter_is_complete(rows):
    assert ids(rows.filter(published=True).nearest(QUERY, 1000)) == ranked(lambda i: i % 2 == 0)[:1000]
    assert ids(rows.filter(title__in=["1", "2", "3"]).nearest(QUERY, 10)) == ranked(lambda i: i in (1, 2, 3))


@pytest.mark.pgvector
def test_indexes_are_listed_and_not_called_healthy(standby):
    """It counts neither dead rows nor the scans of others."""
    found = list_indexes("standby")
    assert {(index.state, index.status.dead_share) for index in found} == {(State.UNKNOWN, None)}
    assert {index.advice for index in found} == {UNKNOWN}
    out, _ = run("hnsw_indexes")
    assert out.splitlines()[1].split()[:2] == ["unknown", "article_embedding_hnsw"]
    assert "4000     ?" in out
    assert re.search(rf"{UNKNOWN} It is \d+\.\d s behind\.$", " ".join(out.split()))
    assert out.count("This server is a standby") == 1


@pytest.mark.pgvector
def test_checks_find_nothing(standby):
    call_command("check", tags=["database"], databases=["standby"], fail_level="WARNING")


@pytest.mark.pgvector
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
    assert str(caught.value) == f"embed() of Article.embedding {REMEDY}"
    primary.execute("DELETE FROM tests_article WHERE title = 'new'")
    wait_for(standby, "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM tests_article WHERE title = 'new')")


def test_rebuild_names_the_primary(standby):
    out, err = StringIO(), StringIO()
    with pytest.raises(CommandError, match="1 of 1 failed"):
        call_command("rebuild_hnsw_indexes", "tests.Article", "--noinput", database="standby", stdout=out, stderr=err)
    assert err.getvalue() == f"Rebuild of index article_embedding_hnsw {REMEDY}\n"


def test_loads_name_the_primary(rows):
    for load in (
        lambda: rows.bulk_load([Article(title="new")]),
        lambda: rows.bulk_load([Article(title="new")], rebuild_indexes=True),
        lambda: rows.bulk_load([Article(title="new")], update_conflicts=True, unique_fields=["id"]),
        lambda: rows.bulk_load_arrays(VECTORS[:2], title=["a", "b"], published=[True, True]),
    ):
        with pytest.raises(InternalError) as caught:
            load()
        assert str(caught.value).removeprefix("bulk_load").removeprefix("_arrays") == f"() of Article {REMEDY}"


# A router


class Replicas:
    """Reads on the standby, writes on the primary; and both have the same rows, so that relations between them hold."""

    def db_for_read(self, model, **hints):
        return "standby"

    def db_for_write(self, model, **hints):
        return "fresh"

    def allow_relation(self, one, other, **hints):
        return True


@pytest.fixture
def routed(settings, primary, standby):
    settings.DATABASE_ROUTERS = [Replicas()]
    yield Article.objects
    primary.execute("DELETE FROM tests_article WHERE id > 4000")


def caught_up(primary, standby):
    """Wait until the standby has replayed what the primary has written so far."""
    [[position]] = primary.execute("SELECT pg_current_wal_lsn()")
    wait_for(standby, f"SELECT 1 WHERE pg_last_wal_replay_lsn() >= '{position}'")


@pytest.mark.pgvector
def test_router_searches_on_the_standby_and_writes_to_the_primary(routed, primary, standby):
    assert routed.nearest(QUERY, 3).db == "standby"
    article = routed.create(title="by save")
    assert article._state.db == "fresh"
    routed.bulk_load([Article(title="by load")])
    assert routed.filter(title__startswith="by").embed().embedded == 2
    caught_up(primary, standby)
    article.refresh_from_db()
    assert article._state.db == "standby"
    assert [row.title for row in routed.nearest(article, 2000) if row.title.startswith("by")] == ["by load"]


@pytest.mark.pgvector
def test_standby_that_lags_answers_as_of_what_it_has_replayed(routed, primary, standby):
    routed.create(title="replayed")  # A standby that has replayed nothing does not know how old its rows are.
    caught_up(primary, standby)
    standby.execute("SELECT pg_wal_replay_pause()")
    try:
        wait_for(standby, "SELECT 1 WHERE pg_get_wal_replay_pause_state() = 'paused'")
        routed.create(title="4000", embedding=QUERY)
        assert ids(routed.nearest(QUERY, 2)) == RANKED[:2]
        assert ids(routed.using("fresh").nearest(QUERY, 2)) == [4000, RANKED[0]]
        assert replica_lag("standby") > timedelta(0)
    finally:
        standby.execute("SELECT pg_wal_replay_resume()")
    caught_up(primary, standby)
    wait_until(lambda: replica_lag("standby") == timedelta(0))
    assert replica_lag("fresh") is None
    assert ids(routed.nearest(QUERY, 2)) == [4000, RANKED[0]]


def test_tuning_asks_for_the_primary(standby):
    with pytest.raises(CommandError, match="Use a primary server"):
        run("tune_hnsw", "tests.Article", "--recall=0.9", "--noinput")


@pytest.fixture
def promoted(primary, django_db_blocker):
    """A standby that has become a primary; its alias is "promoted"."""
    with django_db_blocker.unblock(), standby_of(primary, "promoted") as (_, control):
        control("promote")
        yield Article.objects.using("promoted")


@pytest.mark.pgvector
def test_promoted_standby_finds_all_through_the_index_and_may_be_written_to(promoted):
    promoted.create(title="4000", published=True, embedding=QUERY)
    assert ids(promoted.nearest(QUERY, 10)) == [4000, *RANKED[:9]]


@pytest.mark.pg_embedding
def test_promoted_standby_is_exact_and_refuses_writes_until_it_is_rebuilt(promoted):
    assert ids(promoted.nearest(QUERY, 10)) == RANKED[:10]
    with pytest.raises(OperationalError, match="lost rows when the server crashed"):
        promoted.create(title="4000", published=True, embedding=QUERY)
    run("rebuild_hnsw_indexes", "tests.Article", "--noinput", database="promoted")
    promoted.create(title="4000", published=True, embedding=QUERY)
    assert ids(promoted.nearest(QUERY, 10)) == [4000, *RANKED[:9]]
