import io
import json
import re
import signal
from datetime import UTC, datetime
from unittest.mock import ANY
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import Error, ProgrammingError, connection, connections, transaction
from django.db.migrations.recorder import MigrationRecorder

from pgembedding_django.maintenance.rebuilding.errors import explain_refusal
from pgembedding_django.maintenance.rebuilding.rebuild import rebuild
from pgembedding_django.management.base import DatabaseCommand
from pgembedding_django.models import IndexRun, RecallMeasurement
from tests.support.maintenance import BUILDING, INDEX, fill, interrupt_rebuild, writer
from tests.support.waiting import wait_for, wait_until


def call(name, *args, **options):
    """Return what a command prints, on stdout and on stderr."""
    output, errors = io.StringIO(), io.StringIO()
    call_command(name, *args, database="fresh", stdout=output, stderr=errors, no_color=True, **options)
    return output.getvalue() + errors.getvalue()


# hnsw_indexes


@pytest.fixture
def terminal(monkeypatch):
    """Return what sets the columns of the terminal, which are those of a pipe else."""
    monkeypatch.delenv("COLUMNS", raising=False)
    return lambda columns: monkeypatch.setenv("COLUMNS", str(columns))


def measured(recall, index=INDEX):
    """Store that nearest() by itself had a recall."""
    values = dict.fromkeys(("low", "high", "p50_ms", "p95_ms"), 1.0) | dict.fromkeys(("k", "sample", "rows"), 1)
    RecallMeasurement.objects.using("fresh").create(
        run=uuid4(), schema="public", index=index, model="tests.Article", field="embedding", recall=recall, **values
    )


def test_list_is_a_table_with_the_last_rebuild_and_recall(migrated_database, engine, terminal):
    terminal(120)
    fill(migrated_database, engine, 5)
    migrated_database.execute("ANALYZE tests_article")
    migrated_database.execute("DROP INDEX pair_one_cosine")
    rebuild(INDEX, using="fresh")
    IndexRun.objects.using("fresh").update(finished=datetime(2026, 3, 4, 12, tzinfo=UTC))
    measured(0.9876)
    lines = call("hnsw_indexes").splitlines()
    names = ["state", "index", "table", "distance", "size", "rows", "dead", "scans", "rebuilt", "recall"]
    assert lines[0].split() == names
    healthy = next(line for line in lines if INDEX in line).split()
    assert healthy[:4] == ["healthy", INDEX, "tests_article", "l2"]
    assert healthy[5:] == ["KB", "5", "0%", "0", "2026-03-04", "0.988"]
    other = next(line for line in lines if "pair_two_l1" in line).split()
    assert other[-2:] == ["-", "-"]
    assert "missing  pair_one_cosine" in lines[1]
    assert "pair_one_cosine: It was dropped after migration tests.0001_initial had created it. Repair creates it" in (
        "\n".join(lines)
    )


@pytest.mark.parametrize(("columns", "left_out"), [(80, ["table", "distance"]), (100, ["distance"]), (120, [])])
def test_list_leaves_out_what_a_narrow_terminal_has_no_room_for(migrated_database, terminal, columns, left_out):
    terminal(columns)
    rebuild(INDEX, using="fresh")
    lines = call("hnsw_indexes").splitlines()
    assert max(map(len, lines)) <= columns
    names = ["state", "index", "table", "distance", "size", "rows", "dead", "scans", "rebuilt", "recall"]
    assert lines[0].split() == [name for name in names if name not in left_out]


def test_list_of_an_empty_database_says_so(ready_database):
    ready_database.migrate("pgembedding_django")
    assert call("hnsw_indexes") == 'Database "fresh" has no HNSW index.\n'


def test_list_without_time_zones_has_the_day_of_the_rebuild(migrated_database, settings, terminal):
    settings.USE_TZ = False
    rebuild(INDEX, using="fresh")
    IndexRun.objects.using("fresh").update(finished=datetime(2026, 3, 4, 12))
    assert "2026-03-04" in call("hnsw_indexes")


def test_list_cuts_the_name_of_an_index_that_fills_the_line(migrated_database, terminal):
    migrated_database.execute(f"ALTER TABLE tests_pair RENAME TO {'t' * 63}")
    migrated_database.execute(f"ALTER INDEX pair_two_l1 RENAME TO {'p' * 63}")
    lines = call("hnsw_indexes").splitlines()
    assert max(map(len, lines)) <= 100
    assert any("ppp…  " in line for line in lines)


def test_list_names_the_schema_where_several_have_an_index_of_the_same_name(migrated_database, engine):
    migrated_database.execute(f"CREATE SCHEMA other; CREATE TABLE other.t (e {engine.column_type(3, 'single')})")
    options = "" if engine.name == "pgvector" else "WITH (dims = 3)"
    opclass = engine.opclasses["single"]["l2"]
    migrated_database.execute(f"CREATE INDEX pair_two_l1 ON other.t USING hnsw (e {opclass}) {options}")
    names = [line.split()[1] for line in call("hnsw_indexes").splitlines()[1:5]]
    assert sorted(names) == sorted([INDEX, "pair_one_cosine", "public.pair_two_l1", "other.pair_two_l1"])


def test_list_as_json_has_everything(migrated_database, engine):
    rebuild(INDEX, using="fresh")
    found = json.loads(call("hnsw_indexes", "--json"))
    assert found[0] == {
        "schema": "public",
        "index": INDEX,
        "method": "hnsw",
        "table": "tests_article",
        "model": "tests.Article",
        "field": "embedding",
        "declared": True,
        "engine": engine.name,
        "distance": "l2",
        "state": "healthy",
        "advice": "",
        "leftover_of": "",
        "oid": ANY,
        "type": "vector" if engine.name == "pgvector" else "real[]",
        "dimensions": 3,
        "options": ANY,
        "partial": False,
        "valid": True,
        "ready": True,
        "size": ANY,
        "rows": ANY,
        "dead_share": 0.0,
        "scans": 0,
        "entries_read": 0,
        "stats_reset": None,
        "building_pid": None,
        "last_rebuild": ANY,
        "last_recall": None,
        "collection": None,
    }
    assert found[0]["last_rebuild"].endswith("Z")
    assert found[1]["last_rebuild"] is None


@pytest.mark.parametrize("states", ["missing", "invalid,missing"])
def test_list_fails_on_the_states_given(migrated_database, states):
    migrated_database.execute(f"DROP INDEX {INDEX}")
    with pytest.raises(SystemExit) as caught:
        call("hnsw_indexes", fail_on=states)
    assert caught.value.code == 1


@pytest.mark.parametrize("states", ["invalid,unused", ""])
def test_list_does_not_fail_on_other_states(migrated_database, states):
    migrated_database.execute(f"DROP INDEX {INDEX}")
    assert INDEX in call("hnsw_indexes", fail_on=states)


def test_list_that_fails_on_an_unknown_state_is_refused(migrated_database):
    with pytest.raises(CommandError) as caught:
        call("hnsw_indexes", fail_on="invalid,sick")
    assert str(caught.value) == (
        "--fail-on takes crashed, unguarded, invalid, missing, building, bloated, unused, unknown, healthy, got sick."
    )


@pytest.mark.pgvector
def test_list_advises_once_on_one_build(migrated_database, engine, background):
    with writer(migrated_database, engine):
        future = background(migrated_database.execute, f"REINDEX INDEX CONCURRENTLY {INDEX}")
        wait_for(migrated_database, BUILDING)
        output = call("hnsw_indexes")
    future.result()
    assert output.count("building  article_embedding_hnsw") == 2
    assert output.count("is building it") == 1


# rebuild_hnsw_indexes


@pytest.mark.parametrize(
    ("targets", "rebuilt"),
    [
        ([], [INDEX, "pair_one_cosine", "pair_two_l1"]),
        (["tests.Pair"], ["pair_one_cosine", "pair_two_l1"]),
        (["tests.Pair.two"], ["pair_two_l1"]),
        (["pair_two_l1"], ["pair_two_l1"]),
        ([f"public.{INDEX}", "tests.Pair"], [INDEX, "pair_one_cosine", "pair_two_l1"]),
        (["tests.Section"], []),
    ],
)
def test_rebuild_takes_models_and_indexes(migrated_database, targets, rebuilt):
    output = call("rebuild_hnsw_indexes", *targets, interactive=False)
    runs = IndexRun.objects.using("fresh").filter(status="succeeded").order_by("pk")
    assert [run.index for run in runs] == rebuilt
    assert [line.split()[1] for line in output.splitlines() if line.startswith("Rebuilt ")] == rebuilt
    reason = "tests.Section has no HNSW index, neither declared nor built.\nNothing to do.\n"
    assert output.endswith("KB.\n") if rebuilt else output == reason


class Terminal(io.StringIO):
    """A stream on which progress is shown."""

    def isatty(self):
        return True


def test_rebuild_shows_progress_and_who_blocks(migrated_database, engine, background, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with writer(migrated_database, engine) as connection:
        future = background(call, "rebuild_hnsw_indexes", INDEX, interactive=False, parallel_workers=0)
        wait_for(migrated_database, BUILDING)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            blocker = cursor.fetchone()[0]
        shown = f"waiting for writers before build, waits for backend {blocker}"
        wait_until(lambda: shown in terminal.getvalue(), what=shown)
    assert f"Rebuilt {INDEX} in " in future.result()


def test_rebuild_dry_run_changes_nothing(migrated_database):
    plan = rf"Rebuild public\.{INDEX} of tests_article: about \d+\.\d KB of disk\.\n"
    assert re.fullmatch(plan, call("rebuild_hnsw_indexes", INDEX, dry_run=True))
    assert not IndexRun.objects.using("fresh").exists()


@pytest.mark.parametrize(("answer", "count"), [("n", 0), ("", 0), ("y", 1), ("YES", 1)])
def test_rebuild_asks_first(migrated_database, monkeypatch, answer, count):
    monkeypatch.setattr("builtins.input", lambda question: answer)
    call("rebuild_hnsw_indexes", INDEX)
    assert IndexRun.objects.using("fresh").count() == count


@pytest.mark.pgvector
def test_rebuild_warns_of_a_build_that_will_not_fit(migrated_database):
    # 3 dimensions and m=16 take 24 + 512 + 196 bytes a row.
    migrated_database.execute("UPDATE pg_class SET reltuples = 100000 WHERE relname = 'tests_article'")
    output = call("rebuild_hnsw_indexes", INDEX, dry_run=True, maintenance_work_mem="64MB")
    assert output.replace("\xa0", " ") == (
        f"Rebuild public.{INDEX} of tests_article: about 69.8 MB of memory and 30.1 MB of disk. The graph of {INDEX} "
        "needs about 69.8 MB of memory, and its build has 64.0 MB: once those are full it goes on, many times slower. "
        'Where the server has more, set PGEMBEDDING["BUILD_MEMORY"].\n'
    )
    assert "needs about" not in call("rebuild_hnsw_indexes", INDEX, dry_run=True, maintenance_work_mem="80MB")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tests.Article.title"], "field must name an EmbeddingField of Article (embedding), got 'title'."),
        (["no\0such"], 'Database "fresh" has no HNSW index no\0such. manage.py hnsw_indexes lists those that it has.'),
        (["nosuch"], 'Database "fresh" has no HNSW index nosuch. manage.py hnsw_indexes lists those that it has.'),
        (
            ["tests_article_pkey"],
            'Index tests_article_pkey of database "fresh" is no HNSW index but a btree index, which is left alone.',
        ),
        (
            [INDEX, "--give-up", "nan"],
            "give_up must be from 0.001 to 2,147,483 seconds, got nan.",
        ),
        (
            [INDEX, "--maintenance-work-mem", "lots"],
            "maintenance_work_mem must be a size from 64kB to 2047GB with its unit, such as \"512MB\", got 'lots'.",
        ),
    ],
)
def test_rebuild_with_a_wrong_argument_says_what_is_wrong(migrated_database, arguments, sentence):
    with pytest.raises(CommandError) as caught:
        call("rebuild_hnsw_indexes", *arguments, interactive=False)
    assert str(caught.value) == sentence


def test_rebuild_that_fails_goes_on_with_the_next_and_fails_at_the_end(migrated_database, engine):
    errors = io.StringIO()
    with writer(migrated_database, engine), pytest.raises(CommandError) as caught:
        call_command(
            "rebuild_hnsw_indexes",
            INDEX,
            "pair_two_l1",
            database="fresh",
            interactive=False,
            give_up=1.0,
            stderr=errors,
        )
    assert str(caught.value) == "1 of 2 failed."
    assert "was given up after 1 second of waiting for backend " in errors.getvalue()
    runs = IndexRun.objects.using("fresh").order_by("pk")
    assert [(run.index, run.status) for run in runs] == [(INDEX, "failed"), ("pair_two_l1", "succeeded")]


def test_repair_says_what_it_does_and_does_it(migrated_database, engine, background):
    interrupt_rebuild(migrated_database, engine, background)
    migrated_database.execute("DROP INDEX pair_two_l1")
    output = call("rebuild_hnsw_indexes", "--repair", interactive=False)
    assert output.splitlines()[:2] == [
        f"Drop {INDEX}_ccnew of tests_article, which is left over.",
        "Create pair_two_l1 on tests_pair, which a model declares.",
    ]
    assert output.splitlines()[2].startswith(f"Dropped {INDEX}_ccnew in ")
    assert output.splitlines()[3].startswith("Created pair_two_l1 in ")
    assert all(migrated_database.indexes().values())
    assert call("rebuild_hnsw_indexes", "--repair", interactive=False) == "Nothing to do.\n"


def test_rebuild_says_what_it_dropped_of_interrupted_ones(migrated_database, engine, background):
    interrupt_rebuild(migrated_database, engine, background)
    output = call("rebuild_hnsw_indexes", INDEX, interactive=False)
    assert output.splitlines()[-1] == f"{INDEX}_ccnew, which an interrupted rebuild left behind, was dropped."


def refused(*args):
    """Return the sentence in which a command ends, and what it prints before."""
    output = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command(*args, database="fresh", interactive=False, stdout=output, stderr=output, no_color=True)
    return str(caught.value), output.getvalue()


def test_rebuild_of_a_missing_index_fails_and_names_the_repair(migrated_database):
    migrated_database.execute(f"DROP INDEX {INDEX}")
    assert refused("rebuild_hnsw_indexes", "tests.Article") == (
        "1 missing, and so not rebuilt.",
        f"{INDEX} of tests_article is missing. It was dropped after migration tests.0001_initial had created it. "
        "Repair creates it again. Run: manage.py rebuild_hnsw_indexes --repair\n",
    )


def test_rebuild_of_a_model_with_a_missing_index_rebuilds_the_others(migrated_database):
    migrated_database.execute("DROP INDEX pair_two_l1")
    assert refused("rebuild_hnsw_indexes", "tests.Pair")[0] == "1 missing, and so not rebuilt."
    assert [run.index for run in IndexRun.objects.using("fresh")] == ["pair_one_cosine"]


def test_rebuild_from_the_command_line_is_marked_as_such(migrated_database, monkeypatch):
    monkeypatch.setenv("LOGNAME", "ann")
    call("rebuild_hnsw_indexes", INDEX, interactive=False)
    assert IndexRun.objects.using("fresh").get().person == "ann (command line)"


def test_rebuild_of_an_index_whose_migration_has_not_run_names_the_migration(migrated_database):
    migrated_database.execute(f"DROP INDEX {INDEX}")
    MigrationRecorder(connections["fresh"]).record_unapplied("tests", "0001_initial")
    assert refused("rebuild_hnsw_indexes", "tests.Article")[1] == (
        f"{INDEX} of tests_article is missing. Run: manage.py migrate tests --database fresh\n"
    )


@pytest.mark.pgvector
def test_rebuild_of_a_large_index_names_the_way_that_a_full_disk_ends(migrated_database):
    migrated_database.execute("UPDATE pg_class SET reltuples = 1000000 WHERE relname = 'tests_article'")
    hint = "Where the disk may become full, pass --parallel-workers 0: a parallel build then hangs for good"
    assert hint in call("rebuild_hnsw_indexes", INDEX, dry_run=True)
    assert hint not in call("rebuild_hnsw_indexes", INDEX, dry_run=True, parallel_workers=0)
    assert hint not in call("rebuild_hnsw_indexes", "pair_two_l1", dry_run=True)


# Every command


COMMANDS = [
    ("hnsw_indexes",),
    ("rebuild_hnsw_indexes",),
    ("measure_recall", "tests.Article"),
    ("tune_hnsw", "tests.Article", "--recall=0.9", "--noinput"),
    ("embed", "tests.Article"),
    ("compare_embeddings", "tests.Pair", "one", "two"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_for_an_unknown_database_is_refused(command):
    with pytest.raises(CommandError, match="argument --database: invalid choice: 'nope'"):
        call_command(*command, "--database", "nope")


@pytest.mark.parametrize("command", COMMANDS)
def test_command_before_migrate_says_to_migrate(ready_database, command):
    with pytest.raises(CommandError, match=r"Run: manage\.py migrate .*--database fresh$"):
        call(*command)


@pytest.mark.parametrize("command", COMMANDS[2:])
def test_command_of_a_role_without_rights_says_what_to_grant(migrated_database, role, command):
    with pytest.raises(CommandError) as caught:
        call(*command)
    table = "tests_pair" if "tests.Pair" in command else "tests_article"
    assert str(caught.value).startswith(f"permission denied for table {table}. This needs SELECT ")
    assert " on the table of the model" in str(caught.value)
    assert str(caught.value).endswith(f": let the owner grant them to role {role}.")


def test_rebuild_by_a_role_without_rights_says_what_to_grant(migrated_database, role):
    errors = io.StringIO()
    with pytest.raises(CommandError, match=r"^1 of 1 failed\.$"):
        call_command("rebuild_hnsw_indexes", INDEX, database="fresh", interactive=False, stderr=errors, no_color=True)
    assert errors.getvalue() == (
        "permission denied for table pgembedding_django_indexrun. This needs SELECT on pgembedding_hnsw_index, "
        "SELECT, INSERT and UPDATE on pgembedding_django_indexrun, and ownership of the table: let the owner grant "
        "them to role "
        f"{role}.\n"
    )


def test_rebuild_where_nobody_may_write_says_where_to_ask(migrated_database):
    migrated_database.become(OPTIONS={"options": "-c default_transaction_read_only=on"})
    errors = io.StringIO()
    with pytest.raises(CommandError, match=r"^1 of 1 failed\.$"):
        call_command("rebuild_hnsw_indexes", INDEX, database="fresh", interactive=False, stderr=errors, no_color=True)
    assert errors.getvalue() == (
        f'Rebuild of index {INDEX} writes, and database "fresh" is read-only here: use a primary server, by its alias '
        "or by the db_for_write() of a router, and a role that may write.\n"
    )


def test_command_shows_other_errors_of_the_server_as_they_are(migrated_database):
    class Wrong(DatabaseCommand):
        def handle(self, *args, **options):
            migrated_database.execute("SELECT no_such_function()")

    with pytest.raises(ProgrammingError, match="no_such_function"):
        call_command(Wrong(), database="fresh")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_command_ended_by_a_signal_has_the_status_of_shells(number, capsys):
    class Ended(DatabaseCommand):
        def handle(self, *args, **options):
            signal.raise_signal(number)

    # Heard also where the tests run in the background of a shell, whose children ignore some.
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as caught:
            Ended().run_from_argv(["manage.py", "ended"])
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert caught.value.code == 128 + number
    assert "Interrupted. Nothing was changed." in capsys.readouterr().err


def test_command_leaves_a_signal_alone_that_its_process_ignores():
    class Heard(DatabaseCommand):
        def handle(self, *args, **options):
            signal.raise_signal(signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Heard().run_from_argv(["manage.py", "heard"])
    assert signal.signal(signal.SIGHUP, before) == signal.SIG_IGN


def test_command_that_nobody_answers_says_how_to_go_on(migrated_database, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(CommandError) as caught:
        call("rebuild_hnsw_indexes", INDEX)
    assert str(caught.value) == "Nobody is there to answer. Pass --noinput to go on without a question."


def test_command_interrupted_says_what_is_left_and_has_the_status_of_shells(migrated_database, monkeypatch):
    def interrupt(question):
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupt)
    with pytest.raises(CommandError) as caught:
        call("rebuild_hnsw_indexes", INDEX)
    assert caught.value.returncode == 130
    assert str(caught.value) == (
        "Interrupted. What was rebuilt stays. To clear away what the last one left behind, run: "
        "manage.py rebuild_hnsw_indexes --repair"
    )


def test_refusal_of_a_transaction_that_only_reads_names_the_remedy(db):
    with pytest.raises(Error) as caught, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL transaction_read_only = on")
        cursor.execute("CREATE TABLE copies ()")
    assert explain_refusal(caught.value, "default", "") == (
        'cannot execute CREATE TABLE in a read-only transaction. Database "default" is read-only here. '
        "Use a primary server and a role that may write."
    )
