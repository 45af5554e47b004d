from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import ProgrammingError, connections
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.formats import date_format

from pgembedding_django.maintenance.indexes.catalogue import counted_since, list_indexes
from pgembedding_django.maintenance.indexes.diagnosis import State
from pgembedding_django.maintenance.indexes.lookup import find_index
from pgembedding_django.maintenance.rebuilding.rebuild import rebuild
from pgembedding_django.models import HnswIndexStatus, IndexRun, RecallMeasurement
from tests.models import Article, Pair
from tests.support.maintenance import BUILDING, INDEX, cancel_builds, fill, interrupt_rebuild, writer
from tests.support.waiting import wait_for


def report(name=INDEX):
    return next(each for each in list_indexes("fresh") if each.name == name)


# What is known


def test_catalogue_knows_model_field_and_declaration(migrated_database, engine):
    found = report("pair_two_l1")
    assert (found.model, found.field.name, found.declared.name) == (Pair, "two", "pair_two_l1")
    assert (found.engine, found.distance, found.schema, found.table) == (engine.name, "l1", "public", "tests_pair")
    assert (found.label, str(found.status)) == ("public.pair_two_l1", "public.pair_two_l1")
    assert found.status.options["m"] == "8"
    assert (found.status.dimensions, found.status.opclass) == (2, engine.opclasses["single"]["l1"])
    assert found.status.definition.startswith("CREATE INDEX pair_two_l1 ON public.tests_pair USING hnsw (two ")


def test_catalogue_of_healthy_indexes_lists_each_by_table_and_name(migrated_database):
    reports = list_indexes("fresh")
    assert [each.name for each in reports] == [INDEX, "pair_one_cosine", "pair_two_l1"]
    assert {(each.state, each.advice, each.repairable) for each in reports} == {(State.HEALTHY, "", False)}


def test_catalogue_counts_rows_size_dead_rows_and_reads(migrated_database, engine):
    fill(migrated_database, engine, 200)
    migrated_database.execute("DELETE FROM tests_article WHERE embedding IS NOT NULL AND id % 4 = 0")
    before = report().status
    assert (before.rows, before.entries_read) == (None, 0)
    migrated_database.execute("SET enable_seqscan = off")
    list(Article.objects.using("fresh").nearest([0, 0, 0], 3, exact=False))
    migrated_database.execute("SELECT pg_stat_force_next_flush()")
    migrated_database.execute("ANALYZE tests_article")
    found = report().status
    assert (found.rows, found.dead_share) == (150, 0.25)
    assert found.size == migrated_database.execute(f"SELECT pg_relation_size('{INDEX}')")[0][0]
    assert found.entries_read > 0


def test_catalogue_gives_the_last_rebuild_and_the_last_recall(migrated_database):
    rebuild(INDEX, using="fresh")
    last = rebuild(INDEX, using="fresh")
    IndexRun.objects.using("fresh").create(schema="public", index=INDEX, table="tests_article", status="failed")
    measured = {"run": "0" * 32, "k": 10, "sample": 5, "rows": 9, "low": 0, "high": 1, "p50_ms": 1, "p95_ms": 2}
    for recall, ef_search in ((0.5, None), (0.9, None), (0.7, 40)):
        RecallMeasurement.objects.using("fresh").create(
            schema="public", index=INDEX, recall=recall, ef_search=ef_search, **measured
        )
    found = report()
    assert (found.last_rebuild, found.last_recall.recall) == (last, 0.9)
    assert report("pair_two_l1").last_rebuild is None


@pytest.mark.parametrize(("action", "counts"), [("create", True), ("drop", False)])
def test_catalogue_takes_only_a_build_for_a_rebuild(migrated_database, action, counts):
    """An index may have the name of one that was dropped before, as the `_ccnew` of each rebuild does."""
    values = {"schema": "public", "index": INDEX, "table": "tests_article", "status": "succeeded"}
    run = IndexRun.objects.using("fresh").create(action=action, **values)
    assert report().last_rebuild == (run if counts else None)


def test_records_say_what_they_are():
    run = IndexRun(schema="s", index="i", action="drop", status="queued")
    assert (str(run), run.duration) == ("drop s.i: queued", None)
    assert str(RecallMeasurement(schema="s", index="i", recall=0.5)) == "s.i: 0.500"


def test_catalogue_knows_the_field_of_an_index_that_no_model_declares(migrated_database, engine):
    options = " WITH (dims = 3)" if engine.name == "pg_embedding" else ""
    opclass = engine.opclasses["single"]["cosine"]
    migrated_database.execute(f"CREATE INDEX mine ON tests_article USING hnsw (embedding {opclass}){options}")
    migrated_database.execute("CREATE TABLE elsewhere AS SELECT embedding FROM tests_article WITH NO DATA")
    migrated_database.execute(f"CREATE INDEX other ON elsewhere USING hnsw (embedding {opclass}){options}")
    mine, other = report("mine"), report("other")
    assert (mine.model, mine.field.name, mine.declared, mine.distance) == (Article, "embedding", None, "cosine")
    assert (other.model, other.field, other.declared) == (None, None, None)


@pytest.mark.pgvector
def test_catalogue_knows_the_model_of_a_partition_through_its_parent(migrated_database):
    migrated_database.execute("DROP TABLE tests_pair")
    migrated_database.execute("CREATE TABLE tests_pair (id int, one vector(2)) PARTITION BY LIST (id)")
    migrated_database.execute("CREATE TABLE pair_1 PARTITION OF tests_pair FOR VALUES IN (1)")
    migrated_database.execute("CREATE INDEX pair_one_cosine ON tests_pair USING hnsw (one vector_cosine_ops)")
    child = report("pair_1_one_idx")
    assert (child.model, child.declared.name, child.field.name) == (Pair, "pair_one_cosine", "one")
    assert child.status.parent_oid == report("pair_one_cosine").status.oid


@pytest.mark.pgvector
def test_catalogue_reads_type_and_column_of_an_index_of_half_precision(migrated_database):
    migrated_database.execute('CREATE SCHEMA "a WHERE b"')
    migrated_database.execute('CREATE TABLE "a WHERE b"."T "" WHERE" (id int, e vector(3))')
    migrated_database.execute(
        'CREATE INDEX "i WHERE j" ON "a WHERE b"."T "" WHERE" USING hnsw ((e::halfvec(3)) halfvec_l2_ops) WHERE id > 3'
    )
    found = report("i WHERE j").status
    assert (found.type, found.dimensions, found.column, found.partial) == ("halfvec", 3, "e", True)
    assert found.definition.endswith("USING hnsw (((e)::halfvec(3)) halfvec_l2_ops) WHERE (id > 3)")


@pytest.mark.pgvector
def test_catalogue_leaves_out_temporary_tables(migrated_database):
    migrated_database.execute("CREATE TEMPORARY TABLE t (e vector(3))")
    migrated_database.execute("CREATE INDEX t_hnsw ON t USING hnsw (e vector_l2_ops)")
    with pytest.raises(HnswIndexStatus.DoesNotExist):
        find_index("t_hnsw", "fresh")


# Who may read it, and what it costs


def test_catalogue_of_a_role_without_any_right_is_complete(migrated_database, role):
    assert [each.name for each in list_indexes("fresh")] == [INDEX, "pair_one_cosine", "pair_two_l1"]
    assert report().model is Article


def test_catalogue_in_a_read_only_transaction_is_complete(migrated_database):
    migrated_database.execute("SET default_transaction_read_only = on")
    assert len(list_indexes("fresh")) == 3


def test_catalogue_only_selects_and_waits_for_no_lock(migrated_database):
    holder = migrated_database.open()
    holder.set_autocommit(False)
    with holder.cursor() as cursor:
        cursor.execute("LOCK TABLE tests_article IN ACCESS EXCLUSIVE MODE")
        cursor.execute(f"REINDEX INDEX {INDEX}")
        migrated_database.execute("SET statement_timeout = '10s'")
        with CaptureQueriesContext(migrated_database.connection) as context:
            reports = list_indexes("fresh")
    holder.rollback()
    holder.close()
    assert len(reports) == 3
    assert {query["sql"].split()[0] for query in context} == {"SELECT"}


def test_catalogue_without_the_migrations_names_the_command(ready_database):
    with pytest.raises(ProgrammingError) as caught:
        list_indexes("fresh")
    assert str(caught.value) == (
        'Database "fresh" lacks the view pgembedding_hnsw_index of this version. '
        "Run: manage.py migrate pgembedding_django --database fresh"
    )


def test_migrations_on_another_vendor_create_no_view(sqlite):
    call_command("migrate", "pgembedding_django", database="lite", verbosity=0)
    tables = sqlite.introspection.table_names(include_views=True)
    assert "pgembedding_django_indexrun" in tables
    assert "pgembedding_hnsw_index" not in tables
    call_command("migrate", "pgembedding_django", "zero", database="lite", verbosity=0)


# Builds under way and interrupted ones


def test_index_being_rebuilt_is_building_and_so_is_the_new_one(migrated_database, engine, background):
    with writer(migrated_database, engine):
        first = background(migrated_database.execute, f"REINDEX INDEX CONCURRENTLY {INDEX}")
        wait_for(migrated_database, BUILDING)
        found = report(), report(f"{INDEX}_ccnew")
    first.result()
    assert {(each.state, each.repairable) for each in found} == {(State.BUILDING, False)}
    assert "waiting for writers before build, 0%. It waits for backend " in found[0].advice


def test_index_being_built_is_building_for_a_role_that_may_not_see_statistics(
    migrated_database, engine, background, role
):
    user = connections["default"].settings_dict["USER"]
    owner = migrated_database.open(USER=user)
    with owner.cursor() as cursor:
        cursor.execute("ALTER TABLE tests_article OWNER TO CURRENT_USER")

    def reindex():
        with closing(migrated_database.open(USER=user)) as connection, connection.cursor() as cursor:
            cursor.execute(f"REINDEX INDEX CONCURRENTLY {INDEX}")

    owner.set_autocommit(False)
    with owner.cursor() as cursor:
        cursor.execute("LOCK TABLE tests_article IN ROW EXCLUSIVE MODE")
        first = background(reindex)
        wait_for(migrated_database, f"SELECT 1 FROM pgembedding_hnsw_index WHERE name = '{INDEX}_ccnew'")
        found = report(), report(f"{INDEX}_ccnew")
    owner.rollback()
    owner.close()
    first.result()
    assert {each.state for each in found} == {State.BUILDING}


def test_leftover_beside_a_running_rebuild_is_not_taken_for_the_one_being_built(migrated_database, engine, background):
    with writer(migrated_database, engine):
        first = background(migrated_database.execute, f"REINDEX INDEX CONCURRENTLY {INDEX}")
        wait_for(migrated_database, BUILDING)
        cancel_builds(migrated_database)
        assert first.exception() is not None
        second = background(migrated_database.execute, f"REINDEX INDEX CONCURRENTLY {INDEX}")
        wait_for(migrated_database, BUILDING)
        states = {each.name: each.state.value for each in list_indexes("fresh")}
    second.result()
    assert (states[INDEX], states[f"{INDEX}_ccnew"], states[f"{INDEX}_ccnew1"]) == ("building", "invalid", "building")


def test_leftover_after_the_swap_is_known_and_maintained_by_writes(migrated_database, engine, background):
    reader = migrated_database.open()
    reader.set_autocommit(False)
    with reader.cursor() as cursor:
        cursor.execute("LOCK TABLE tests_article IN ACCESS SHARE MODE")
        first = background(migrated_database.execute, f"REINDEX INDEX CONCURRENTLY {INDEX}")
        wait_for(
            migrated_database,
            f"{BUILDING} AND phase LIKE '%marking dead'",
        )
        cancel_builds(migrated_database)
        first.exception()
    reader.rollback()
    reader.close()
    found = report(f"{INDEX}_ccold")
    assert (found.state, found.leftover_of, found.status.ready) == (State.INVALID, INDEX, True)
    assert found.advice == (
        f"An interrupted rebuild of {INDEX} left it behind: no search uses it, but every write maintains it. "
        "Repair drops it."
    )
    assert report().state is State.HEALTHY


def test_leftover_of_a_name_of_63_characters_is_known(migrated_database, engine, background):
    name = "n" * 63
    migrated_database.execute(f"ALTER INDEX {INDEX} RENAME TO {name}")
    interrupt_rebuild(migrated_database, engine, background, name)
    assert report("n" * 57 + "_ccnew").leftover_of == name


# Missing


def test_index_dropped_by_hand_is_missing_and_names_its_migration(migrated_database):
    migrated_database.execute(f"DROP INDEX {INDEX}")
    found = report()
    assert (found.state, found.status, found.model, found.label) == (State.MISSING, None, Article, INDEX)
    assert found.advice == "It was dropped after migration tests.0001_initial had created it. Repair creates it again."
    assert found.repairable


def test_index_whose_migration_has_not_run_is_missing_and_not_repaired(fresh_database, write_migrations):
    write_migrations(
        'migrations.CreateModel("Article", [("id", models.BigAutoField(primary_key=True)), '
        '("embedding", EmbeddingField(dimensions=3, null=True))])',
        f'migrations.AddIndex("Article", HnswIndex(fields=["embedding"], name="{INDEX}"))',
    )
    fresh_database.migrate("pgembedding_django")
    fresh_database.migrate("tests", "0001")
    found = report()
    assert (found.advice, found.repairable) == ("Run: manage.py migrate tests --database fresh", False)


def test_index_that_no_migration_adds_is_missing(fresh_database, write_migrations):
    write_migrations('migrations.CreateModel("Article", [("id", models.BigAutoField(primary_key=True))])')
    fresh_database.migrate("pgembedding_django")
    fresh_database.migrate("tests")
    found = report()
    assert found.advice == "No migration adds it. Run makemigrations and migrate, or let repair create it."
    assert found.repairable


def test_index_dropped_while_the_catalogue_is_read_is_left_out(migrated_database, background):
    def churn():
        for _ in range(30):
            migrated_database.execute("CREATE TABLE churn (LIKE tests_pair INCLUDING INDEXES)")
            migrated_database.execute("DROP TABLE churn")

    future = background(churn)
    while not future.done():
        assert INDEX in {each.name for each in list_indexes("fresh")}
    future.result()


@pytest.mark.pg_embedding
def test_indexes_of_a_crashed_server_are_crashed_until_rebuilt(migrated_database):
    migrated_database.execute("DELETE FROM pgembedding_sound WHERE relid = 'tests_pair'::regclass")
    assert {each.name: each.state.value for each in list_indexes("fresh")} == {
        "pair_one_cosine": "crashed",
        "pair_two_l1": "crashed",
        INDEX: "healthy",
    }
    rebuild("pair_two_l1", using="fresh")
    assert {each.state for each in list_indexes("fresh")} == {State.HEALTHY}


@pytest.mark.pg_embedding
def test_index_that_nobody_guards_is_not_called_crashed(ready_database):
    ready_database.migrate("pgembedding_django")
    ready_database.execute("CREATE TABLE bare (e real[])")
    ready_database.execute("CREATE INDEX bare_hnsw ON bare USING hnsw (e) WITH (dims = 3)")
    assert report("bare_hnsw").state is State.HEALTHY
    rebuild("bare_hnsw", using="fresh")


# Since when scans are counted


def test_new_index_of_a_server_that_never_reset_its_statistics_is_not_unused(migrated_database):
    migrated_database.execute("UPDATE pg_class SET reltuples = 100000 WHERE relname = 'tests_article'")
    report = next(report for report in list_indexes("fresh") if report.name == INDEX)
    assert (report.status.stats_reset, report.status.rows) == (None, 100_000)
    assert report.state is State.HEALTHY


@pytest.fixture
def counting(migrated_database):
    """A large table whose server counts since a year ago; call it to set when its migration ran."""
    migrated_database.execute("UPDATE pg_class SET reltuples = 100000 WHERE relname = 'tests_article'")
    migrated_database.execute("SELECT pg_stat_reset()")
    view = migrated_database.execute("SELECT pg_get_viewdef('pgembedding_hnsw_index')")[0][0]
    year_ago = view.replace("pg_stat_get_db_stat_reset_time(b.oid)", "now() - interval '1 year'")
    migrated_database.execute(f"CREATE OR REPLACE VIEW pgembedding_hnsw_index AS {year_ago}")

    def migrated(**ago):
        applied = timezone.now() - timedelta(**ago)
        sql = "UPDATE django_migrations SET applied = %s WHERE app = 'tests'"
        migrated_database.execute(sql, [applied], superuser=True)

    return migrated


def test_index_that_nothing_read_since_its_migration_is_unused_after_a_week(counting):
    counting(days=6)
    assert report().state is State.HEALTHY
    counting(days=8)
    found = report()
    assert found.state is State.UNUSED
    assert date_format(timezone.now() - timedelta(days=8)) in found.advice


def test_index_of_an_age_that_nothing_tells_is_not_called_unused(migrated_database, counting):
    counting(days=100)
    migrated_database.execute(f"ALTER INDEX {INDEX} RENAME TO by_hand")
    assert report("by_hand").state is State.HEALTHY


def test_index_is_not_called_unused_to_a_role_that_may_not_read_the_migrations(migrated_database, counting, role):
    counting(days=100)
    assert report().state is State.HEALTHY


def test_index_that_is_missing_is_listed_for_a_role_that_may_not_read_the_migrations(migrated_database, role):
    migrated_database.execute(f"DROP INDEX {INDEX}", superuser=True)
    found = report()
    assert (found.state, found.repairable) == (State.MISSING, False)
    assert found.advice == "This role may not read which migrations have run. Ask one that may."


def test_index_that_no_migration_adds_is_not_called_unused(migrated_database, counting, settings):
    counting(days=100)
    settings.MIGRATION_MODULES = {"tests": None}
    assert report().state is State.HEALTHY


def test_index_whose_migration_counts_as_not_run_is_not_called_unused(migrated_database, counting):
    counting(days=100)
    MigrationRecorder(connections["fresh"]).record_unapplied("tests", "0001_initial")
    assert report().state is State.HEALTHY


@pytest.mark.parametrize(
    ("reset", "started", "built", "migrated", "since"),
    [
        (1, 2, None, None, None),
        (4, 5, None, 3, 4),
        (None, 5, None, 3, 5),
        (1, 2, 3, None, 3),
        (4, 2, 3, 1, 4),
        (None, 2, 3, 4, 4),
    ],
)
def test_scans_count_since_the_reset_or_the_start_and_the_last_build(reset, started, built, migrated, since):
    reset, started, built, migrated, since = (
        each and datetime(2026, 1, each, tzinfo=UTC) for each in (reset, started, built, migrated, since)
    )
    run = built and IndexRun(created=built)
    assert counted_since(HnswIndexStatus(stats_reset=reset), started, run, migrated) == since
