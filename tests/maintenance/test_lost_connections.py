"""Commands whose connection to the server ends, or never begins: one sentence and exit status 1."""

import io
import re
from contextlib import closing, contextmanager

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections

from pgembedding_django.management.base import DatabaseCommand
from tests.support.maintenance import INDEX, fill
from tests.support.waiting import wait_for

#: The backends that wait for a table that somebody else has locked.
WAITING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

#: What the driver says of it, as it reads the server's last words or not.
ENDED = "(terminating connection due to administrator command|server closed the connection unexpectedly)"

KEPT = "What was embedded is kept. Run the same command again to go on."
REPAIR = (
    "What was rebuilt stays. To clear away what the last one left behind, run: manage.py rebuild_hnsw_indexes --repair"
)


@contextmanager
def locked(database, table):
    """Let everybody wait who reads a table."""
    with closing(database.open()) as connection:
        connection.set_autocommit(False)
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


@pytest.mark.parametrize(
    ("command", "table", "left"),
    [
        (["hnsw_indexes"], "pgembedding_django_indexrun", "Nothing was changed."),
        (["rebuild_hnsw_indexes", "--noinput"], "pgembedding_django_indexrun", REPAIR),
        (["measure_recall", "tests.Article"], "tests_article", "Nothing was changed."),
        (["tune_hnsw", "tests.Article", "--recall=0.9", "--noinput"], "tests_article", "Nothing stays behind."),
        (["compare_embeddings", "tests.Pair", "one", "two"], "tests_pair", "Nothing was changed."),
        (["embed", "tests.Article", "--noinput"], "tests_article", KEPT),
    ],
)
def test_command_whose_connection_is_killed_ends_in_a_sentence(
    migrated_database, engine, background, command, table, left
):
    fill(migrated_database, engine, 20)
    with locked(migrated_database, table):
        future = background(call_command, *command, database="fresh", stdout=io.StringIO(), stderr=io.StringIO())
        wait_for(migrated_database, WAITING)
        migrated_database.execute(f"SELECT pg_terminate_backend(pid) FROM ({WAITING}) w")
        error = future.exception()
    assert isinstance(error, CommandError)
    assert error.returncode == 1
    assert re.fullmatch(rf'The connection to database "fresh" failed: {ENDED}\. {re.escape(left)}', str(error))


def test_rebuild_goes_on_with_the_next_index_after_its_connection_was_killed(migrated_database, engine, background):
    errors = io.StringIO()
    with locked(migrated_database, "tests_article"):
        arguments = ["rebuild_hnsw_indexes", INDEX, "pair_two_l1"]
        future = background(
            call_command, *arguments, database="fresh", interactive=False, stdout=io.StringIO(), stderr=errors
        )
        wait_for(migrated_database, WAITING)
        migrated_database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle in transaction'"
        )
        assert str(future.exception()) == "1 of 2 failed."
    assert re.fullmatch(
        rf"Index {INDEX} of table tests_article failed: {ENDED}\. The old index still serves\.\n", errors.getvalue()
    )


def test_command_without_a_server_says_where_it_was_looked_for(migrated_database):
    migrated_database.become(HOST="127.0.0.1", PORT="1")
    with pytest.raises(CommandError) as caught:
        call_command("hnsw_indexes", database="fresh")
    assert str(caught.value).startswith('The connection to database "fresh" failed: connection')
    assert "Connection refused" in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_command_that_waits_too_long_says_so(migrated_database):
    class Slow(DatabaseCommand):
        def handle(self, *args, **options):
            with connections["fresh"].cursor() as cursor:
                cursor.execute("SET statement_timeout = 10; SELECT pg_sleep(10)")

    with pytest.raises(CommandError) as caught:
        call_command(Slow(), database="fresh")
    assert str(caught.value) == "canceling statement due to statement timeout. Nothing was changed."


def test_command_repeats_what_our_own_errors_say(migrated_database):
    class Busy(DatabaseCommand):
        def handle(self, *args, **options):
            raise OperationalError("Index a is busy.") from OperationalError("inner")

    with pytest.raises(CommandError) as caught:
        call_command(Busy(), database="fresh")
    assert str(caught.value) == "Index a is busy. Nothing was changed."
