"""The guard of pg_embedding: readers and writers of an index never meet, and hardly ever wait."""

import threading
import time

import numpy as np
import pytest
from django.core.checks import Warning
from django.core.management import call_command
from django.db import OperationalError, connections, transaction

from pgembedding_django.checks import check_indexes
from pgembedding_django.engines import ENGINES, guard
from pgembedding_django.engines.scan import Scan
from tests.models import Article
from tests.support.maintenance import INDEX, fill
from tests.support.waiting import ADVISORY_LOCKS

ENTER = "SELECT pgembedding_enter('item')"
INSERT = "INSERT INTO item VALUES (1)"
HELD = "SELECT mode, count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() GROUP BY mode"


@pytest.fixture
def session(fresh_database):
    """Return a function that opens one more connection to a database with the guarded table `item`."""
    fresh_database.execute("CREATE TABLE item (id integer)")
    for statement in guard.create("item", "'item'"):
        fresh_database.execute(statement)
    opened = []

    def session():
        connection = fresh_database.open()
        connection.inc_thread_sharing()
        opened.append(connection)
        connection.set_autocommit(False)
        return connection

    yield session
    for connection in opened:
        connection.close()


def ask(connection, sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else None


def test_search_holds_one_key_for_itself_and_a_write_all_keys_shared(session):
    reader, writer = session(), session()
    assert ask(reader, ENTER) == [(True,)]
    assert ask(reader, HELD) == [("ExclusiveLock", 1)]
    reader.rollback()
    ask(writer, INSERT)
    assert ask(writer, HELD) == [("ShareLock", guard.SLOTS)]


def test_searches_run_beside_searches(session):
    readers = [session() for _ in range(4)]
    assert [ask(reader, ENTER) for reader in readers] == [[(True,)]] * 4


def test_writes_run_beside_writes(session):
    one, two = session(), session()
    ask(one, INSERT)
    ask(two, INSERT)  # in the same thread: it would wait for ever


def test_search_beside_an_open_write_may_not_read_the_index(session):
    reader, writer = session(), session()
    ask(writer, INSERT)
    assert ask(reader, ENTER) == [(False,)]
    writer.commit()
    assert ask(reader, ENTER) == [(True,)]


def test_search_after_a_write_of_its_own_transaction_may_read_the_index(session):
    writer = session()
    ask(writer, INSERT)
    assert ask(writer, ENTER) == [(True,)]


def test_two_that_wrote_and_search_do_not_deadlock(session):
    one, two = session(), session()
    ask(one, INSERT)
    ask(two, INSERT)
    assert ask(one, ENTER) == ask(two, ENTER) == [(False,)]


def test_write_waits_for_the_search_and_no_longer(session, background):
    reader, writer = session(), session()
    ask(reader, "SAVEPOINT s")
    ask(reader, ENTER)
    waiting = background(ask, writer, INSERT)
    while not ask(reader, f"{ADVISORY_LOCKS} AND NOT granted"):
        assert not waiting.done()
    ask(reader, "ROLLBACK TO SAVEPOINT s")
    assert waiting.result(60) is None


def test_search_that_finds_each_key_taken_waits_for_one(session, background):
    readers, late = [session() for _ in range(guard.SLOTS)], session()
    assert {ask(reader, ENTER)[0][0] for reader in readers} == {True}
    assert ask(late, ENTER) == [(False,)]
    for reader in readers:
        reader.rollback()
    assert ask(late, ENTER) == [(True,)]


@pytest.mark.parametrize(
    "sql",
    ["ALTER TABLE item DISABLE TRIGGER pgembedding_guard", "DROP TRIGGER pgembedding_guard ON item"],
    ids=["disabled", "dropped"],
)
def test_search_of_a_table_whose_writers_take_no_lock_may_not_read_the_index(session, sql):
    reader = session()
    ask(reader, sql)
    assert ask(reader, ENTER) == [(False,)]


def test_search_of_a_table_that_lost_its_mark_may_not_read_the_index(session):
    reader = session()
    ask(reader, "DELETE FROM pgembedding_sound")
    assert ask(reader, ENTER) == [(False,)]


def test_search_keeps_the_lock_timeout_of_its_session(session):
    reader = session()
    ask(reader, "SET lock_timeout = '7s'")
    ask(reader, ENTER)
    assert ask(reader, "SHOW lock_timeout") == [("7s",)]


def test_role_that_may_read_the_table_may_search(session, role, fresh_database):
    fresh_database.execute(f"GRANT SELECT ON item TO {role}", superuser=True)
    assert fresh_database.execute(ENTER) == [(True,)]


def test_scanning_leaves_no_lock_in_the_transaction(session, fresh_database):
    engine, connection = ENGINES["pg_embedding"], fresh_database.connection
    with transaction.atomic("fresh"):
        with engine.scanning(connection, '"item"', Scan()):
            assert ask(connection, ENTER) == [(True,)]
        assert ask(connection, HELD) == []


def test_scanning_outside_of_a_transaction_sends_nothing(fresh_database, django_assert_num_queries):
    connection = fresh_database.connection
    with (
        django_assert_num_queries(0, connection=connection),
        ENGINES["pg_embedding"].scanning(connection, '"item"', Scan()),
    ):
        pass


def test_scan_obstacle_without_the_guard_s_functions_is_that(fresh_database):
    engine = ENGINES["pg_embedding"]
    assert engine.scan_obstacle(fresh_database.connection) == (
        "no guard keeps its readers and writers apart. Run: manage.py rebuild_hnsw_indexes --repair"
    )
    assert engine.unguarded_tables(fresh_database.connection, {1}) == {1}


def test_scan_obstacle_of_a_table_is_its_missing_trigger_or_mark(session, fresh_database):
    engine, connection = ENGINES["pg_embedding"], fresh_database.connection
    [(table,)] = fresh_database.execute("SELECT 'item'::regclass::oid::bigint")
    assert engine.scan_obstacle(connection) == engine.scan_obstacle(connection, table) == ""
    fresh_database.execute("DELETE FROM pgembedding_sound")
    assert engine.scan_obstacle(connection, table).startswith("the server has crashed")
    fresh_database.execute("DROP TRIGGER pgembedding_guard ON item")
    assert engine.scan_obstacle(connection, table).startswith("no guard")


def test_guard_table_lets_a_table_be_searched(fresh_database):
    fresh_database.execute('CREATE TABLE "it%em" (id integer)')
    ENGINES["pg_embedding"].guard_table(fresh_database.connection, '"it%em"')
    assert fresh_database.execute("""SELECT pgembedding_enter('"it%em"')""") == [(True,)]


# The real extension


@pytest.fixture
def articles(migrated_database, engine):
    """The rows of an indexed table, in connections that read no table in order without its index."""
    migrated_database.become(OPTIONS={"options": "-c enable_seqscan=off -c enable_sort=off"})
    fill(migrated_database, engine, 500)
    return Article.objects.using("fresh")


@pytest.mark.pg_embedding
def test_two_transactions_that_search_and_then_save_both_succeed(articles, background):
    both_have_searched = threading.Barrier(2)

    def view(title):
        with transaction.atomic("fresh"):
            assert len(articles.nearest([1, 2, 3], 1, exact=False)) == 1
            both_have_searched.wait(60)
            articles.create(title=title, embedding=[1, 2, 3])

    for client in [background(view, "one"), background(view, "two")]:
        client.result(60)
    assert articles.filter(title__in=["one", "two"]).count() == 2


@pytest.mark.pg_embedding
def test_transaction_that_only_searched_blocks_no_writer(articles, background):
    with transaction.atomic("fresh"):
        assert len(articles.nearest([1, 2, 3], 5, exact=False)) == 5
        background(articles.create, title="one", embedding=[1, 2, 3]).result(60)


@pytest.mark.pg_embedding
def test_search_beside_an_open_write_finds_what_is_committed(articles, background):
    with transaction.atomic("fresh"):
        articles.create(title="mine", embedding=[5000, 0, 0])
        found = background(lambda: list(articles.nearest([5000, 0, 0], 5, exact=False))).result(60)
    assert len(found) == 5
    assert "mine" not in {row.title for row in found}
    assert articles.nearest([5000, 0, 0], 1, exact=False)[0].title == "mine"


@pytest.mark.pg_embedding
def test_readers_and_writers_at_once_lose_and_repeat_nothing(articles, background):
    until, kept = time.monotonic() + 3, []

    def write(seed):
        rng = np.random.default_rng(seed)
        while time.monotonic() < until:
            with transaction.atomic("fresh"):
                list(articles.nearest(rng.random(3), 1, exact=False))
                kept.append(articles.create(title="kept", embedding=rng.random(3) + 5000))

    def search(seed):
        rng = np.random.default_rng(seed)
        while time.monotonic() < until:
            found = [row.pk for row in articles.nearest(rng.random(3) * 500, 10, exact=False)]
            assert len(found) == len(set(found)) == 10

    for client in [background(work, seed) for work in (write, search) for seed in (1, 2)]:
        client.result(60)
    assert kept
    for row in kept[:: max(1, len(kept) // 20)]:
        assert articles.nearest(row.embedding, 1, exact=False)[0].pk == row.pk


@pytest.fixture
def foreign(ready_database, engine):
    """A table whose index no migration has made, of a model whose table is unmanaged."""
    ready_database.migrate()
    ready_database.execute("DROP TABLE tests_article CASCADE")
    ready_database.execute("CREATE TABLE tests_article AS SELECT 't'::text title, true published, NULL::int section_id")
    ready_database.execute("ALTER TABLE tests_article ADD id bigserial PRIMARY KEY, ADD embedding_digest text")
    ready_database.execute(
        "ALTER TABLE tests_article ADD embedding real[] DEFAULT '{1,2,3}', ALTER title SET DEFAULT 't', "
        "ALTER published SET DEFAULT true"
    )
    ready_database.execute(f"CREATE INDEX {INDEX} ON tests_article USING hnsw (embedding) WITH (dims = 3)")
    return ready_database


@pytest.mark.pg_embedding
def test_index_that_no_migration_made_is_named_and_searched_exactly(foreign, monkeypatch):
    monkeypatch.setattr(Article._meta, "managed", False)
    rows = Article.objects.using("fresh").nearest([1, 2, 3], 1, exact=False)
    assert [row.distance for row in rows] == [0]
    assert rows.explain_nearest().startswith(
        f"Exact scan: nearest() chose {INDEX} (no filter stands before it), but Postgres reads every row: no guard"
    )
    [message] = check_indexes(databases=["fresh"])
    assert message == Warning(
        f'Index public.{INDEX} of table tests_article in database "fresh" is not guarded.',
        hint=message.hint,
        obj=message.obj,
        id="pgembedding.W036",
    )


@pytest.mark.pg_embedding
def test_repair_adopts_an_index_that_no_migration_made(foreign, monkeypatch):
    monkeypatch.setattr(Article._meta, "managed", False)
    call_command("rebuild_hnsw_indexes", "--repair", "--noinput", database="fresh", verbosity=0)
    rows = Article.objects.using("fresh").nearest([1, 2, 3], 1, exact=False)
    assert check_indexes(databases=["fresh"]) == []
    assert sorted(foreign.triggers()) == ["tests_article", "tests_pair"]
    foreign.execute("INSERT INTO tests_article DEFAULT VALUES")
    assert [row.distance for row in rows] == [0]
    foreign.execute("DELETE FROM pgembedding_sound")
    with pytest.raises(OperationalError, match="lost rows when the server crashed"):
        foreign.execute("INSERT INTO tests_article DEFAULT VALUES")
    connections["fresh"].close()
