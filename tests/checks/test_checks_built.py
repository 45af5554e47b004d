"""Whether an index stands in the database as its model declares it."""

import pytest
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Q

from pgembedding_django import HnswIndex
from pgembedding_django.checks import check_indexes
from pgembedding_django.checks.built import find_differences
from pgembedding_django.maintenance.indexes.catalogue import list_indexes
from tests.models import Article, Pair
from tests.support.maintenance import INDEX

HINT = (
    "Run makemigrations and migrate. Where no migration is left to run, drop the index. "
    "Run: manage.py rebuild_hnsw_indexes --repair"
)


def put(model, **options):
    """Put an index in the place of the one of its name."""
    index = HnswIndex(**{"fields": ["embedding"], "name": INDEX, **options})
    with connections["fresh"].schema_editor() as editor:
        editor.execute(f"DROP INDEX {index.name}")
        editor.add_index(model, index)


def told():
    return [(message.msg, message.hint, message.obj, message.id) for message in check_indexes(databases=["fresh"])]


def warning(built, declared, index=INDEX, model=Article):
    where = f'Index public.{index} of table {model._meta.db_table} in database "fresh"'
    return (f"{where} was built with {built}, and the model declares {declared}.", HINT, model, "pgembedding.W029")


def test_indexes_as_declared_give_no_message(migrated_database):
    assert told() == []


def test_index_that_was_dropped_by_hand_is_w032(migrated_database):
    migrated_database.execute(f"DROP INDEX {INDEX}")
    assert told() == [
        (
            f'Index {INDEX} of table tests_article in database "fresh" is missing.',
            "It was dropped after migration tests.0001_initial had created it. Repair creates it again. "
            "Run: manage.py rebuild_hnsw_indexes --repair",
            Article,
            "pgembedding.W032",
        )
    ]


def test_index_that_is_missing_before_the_last_migration_has_run_gives_no_message(migrated_database):
    migrated_database.execute(f"DROP INDEX {INDEX}")
    MigrationRecorder(connections["fresh"]).record_unapplied("tests", "0003_texts")
    assert told() == []


def test_index_of_another_distance_is_w029(migrated_database, engine):
    put(Article, distance="cosine")
    names = engine.opclasses["single"]
    assert told() == [warning(names["cosine"], names["l2"])]


def test_index_of_other_options_and_column_is_w029_that_names_each(migrated_database):
    put(Pair, name="pair_two_l1", fields=["one"], distance="l1", m=4)
    # What is not said is built with ef_construction = 64, by both servers or by us.
    built, declared = "column one, m=4, ef_construction=64", "column two, m=8, ef_construction=32"
    (message,) = told()
    assert (
        message[0].replace(", ef_search=64", "").replace(", ef_search=50", "")
        == (warning(built, declared, "pair_two_l1", Pair)[0])
    )


@pytest.mark.pg_embedding
def test_index_of_another_ef_search_is_w029_where_the_index_fixes_it(migrated_database):
    put(Pair, name="pair_two_l1", fields=["two"], distance="l1", m=8, ef_construction=32, ef_search=60)
    assert told() == [warning("ef_search=60", "ef_search=50", "pair_two_l1", Pair)]


def test_index_of_options_that_the_model_leaves_to_the_engine_gives_no_message(migrated_database):
    put(Article, m=8, ef_construction=40, ef_search=90)
    assert told() == []


@pytest.mark.pgvector
def test_index_that_leaves_to_the_server_what_the_model_declares_as_the_default_gives_no_message(
    migrated_database, monkeypatch
):
    monkeypatch.setattr(Article._meta.indexes[0], "m", 16)
    assert told() == []


def test_index_of_some_rows_that_is_declared_for_all_is_w029(migrated_database):
    put(Article, condition=Q(published=True))
    assert told() == [warning("a condition", "no condition")]


def test_index_of_all_rows_that_is_declared_for_some_is_w029(migrated_database, monkeypatch):
    monkeypatch.setattr(Article._meta.indexes[0], "condition", Q(published=True))
    assert told() == [warning("no condition", "a condition")]


@pytest.mark.pgvector
def test_index_of_another_precision_is_w029(migrated_database):
    put(Article, precision="half")
    assert told() == [warning("halfvec_l2_ops", "vector_l2_ops")]


@pytest.mark.pgvector
def test_index_of_another_length_is_w029(migrated_database):
    migrated_database.execute("ALTER TABLE tests_article ALTER embedding TYPE vector(4)")
    assert told() == [warning("4 dimensions", "3 dimensions")]


def test_index_that_the_engine_lacks_is_left_to_the_other_check(migrated_database, monkeypatch, settings):
    report = next(each for each in list_indexes("fresh") if each.name == INDEX)
    settings.PGEMBEDDING = {"ENGINE": "pg_embedding"}
    monkeypatch.setattr(report.declared, "distance", "inner_product")
    assert find_differences(report, "fresh") == []


@pytest.mark.pgvector
def test_index_of_a_partition_is_left_to_that_of_its_table(migrated_database):
    migrated_database.execute("DROP TABLE tests_pair")
    migrated_database.execute("CREATE TABLE tests_pair (id int, one vector(2), two vector(2)) PARTITION BY LIST (id)")
    migrated_database.execute("CREATE TABLE pair_1 PARTITION OF tests_pair FOR VALUES IN (1)")
    migrated_database.execute("CREATE INDEX pair_one_cosine ON tests_pair USING hnsw (one vector_l2_ops)")
    l1 = "CREATE INDEX pair_two_l1 ON tests_pair USING hnsw (two vector_l1_ops) WITH (m = 8, ef_construction = 32)"
    migrated_database.execute(l1)
    assert told() == [warning("vector_l2_ops", "vector_cosine_ops", "pair_one_cosine", Pair)]


def test_index_that_differs_before_the_last_migration_has_run_gives_no_message(migrated_database):
    put(Article, distance="cosine")
    MigrationRecorder(connections["fresh"]).record_unapplied("tests", "0001_initial")
    assert told() == []


def test_index_that_differs_is_not_told_to_a_role_that_may_not_read_the_migrations(migrated_database, role):
    owner = connections["default"].settings_dict["USER"]
    migrated_database.become(USER=owner)
    put(Article, distance="cosine")
    migrated_database.become(USER=role)
    assert told() == []
