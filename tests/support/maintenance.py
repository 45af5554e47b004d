"""What the tests of maintenance share: a table with an index, and what holds a build up or cancels it."""

from contextlib import contextmanager

from tests.support.waiting import wait_for

INDEX = "article_embedding_hnsw"

#: A build that waits is at a known place: there is one.
BUILDING = (
    "SELECT 1 FROM pg_stat_progress_create_index WHERE datname = current_database() AND phase LIKE 'waiting for%'"
)


def fill(database, engine, rows=100, table="tests_article"):
    """Insert rows with random vectors of three dimensions."""
    extra = {"tests_article": ("title, published, ", "'t', true, ")}.get(table, ("", ""))
    database.execute(
        f"INSERT INTO {table} ({extra[0]}embedding) SELECT {extra[1]}"
        f"ARRAY[random(), random(), g]::real[]::{engine.cast('single')} FROM generate_series(1, {rows}) g"
    )


@contextmanager
def writer(database, engine):
    """Hold a transaction open that has written: a concurrent build waits for it before it begins."""
    connection = database.open()
    connection.set_autocommit(False)
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE tests_article IN ROW EXCLUSIVE MODE")
        yield connection
    connection.rollback()
    connection.close()


@contextmanager
def snapshot(database):
    """Hold a snapshot open: a concurrent build is complete and waits for it before it is used."""
    connection = database.open()
    connection.set_autocommit(False)
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT 1")
        yield connection
    connection.rollback()
    connection.close()


def cancel_builds(database):
    database.execute(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_progress_create_index WHERE datname = current_database()"
    )


def interrupt(database, background, sql, hold):
    """Cancel a concurrent statement while it waits for what `hold` holds."""
    with hold:
        future = background(database.execute, sql)
        wait_for(database, BUILDING)
        cancel_builds(database)
        assert future.exception() is not None


def interrupt_rebuild(database, engine, background, name=INDEX):
    interrupt(database, background, f'REINDEX INDEX CONCURRENTLY "{name}"', writer(database, engine))
