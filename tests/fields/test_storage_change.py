"""A field that gets another storage: makemigrations takes its indexes away before and makes them again after."""

import pytest
from django.db import NotSupportedError, models
from django.db.migrations import AddIndex, AlterField, RemoveIndex
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.state import ModelState, ProjectState
from django.test.utils import CaptureQueriesContext, isolate_apps

from pgembedding_django import EmbeddingField, HnswIndex
from tests.support.notes import make_note

CREATE_NOTE = """migrations.CreateModel("Note", [
    ("id", models.BigAutoField(primary_key=True)),
    ("embedding", EmbeddingField(dimensions=3, null=True)),
], options={"indexes": [HnswIndex(fields=["embedding"], name="note_hnsw")]})"""
WITHOUT_INDEX = f"{CREATE_NOTE.partition(', options')[0]})"
TO_HALF = 'migrations.AlterField("Note", "embedding", EmbeddingField(dimensions=3, null=True, storage="half"))'
REMOVE = 'migrations.RemoveIndex("Note", "note_hnsw")'
RENAME = 'migrations.RenameIndex("Note", new_name="other", old_name="note_hnsw")'
REMOVE_OTHER = REMOVE.replace("note_hnsw", "other")

all_ways = pytest.mark.parametrize(
    "declared",
    [{}, {"distance": "cosine"}, {"opclasses": ["vector_ip_ops"]}, {"opclasses": ("halfvec_l1_ops",)}],
    ids=["default", "distance", "single class", "half class"],
)


def stored(storage, **declared):
    with isolate_apps("tests"):
        return make_note(HnswIndex(fields=["embedding"], name="note_hnsw", **declared), storage=storage)


def plan(*found):
    """Return the migration that makemigrations would write between two states, and the first of them."""
    states = ProjectState(), ProjectState()
    for state, model in zip(states, found, strict=True):
        if model is not None:
            state.add_model(ModelState.from_model(model))
    ((migration, *_),) = MigrationAutodetector(*states)._detect_changes().values() or [[None]]
    return migration, states[0]


def migrate(database, *found, collect_sql=False):
    migration, before = plan(*found)
    with database.connection.schema_editor(collect_sql=collect_sql) as editor:
        migration.apply(before, editor)
    return editor.collected_sql if collect_sql else [type(operation) for operation in migration.operations]


def column(database):
    """Return the column's type, and the index's operator class."""
    return database.execute(
        "SELECT format_type(a.atttypid, a.atttypmod), o.opcname FROM pg_attribute a, pg_index i "
        "JOIN pg_opclass o ON o.oid = i.indclass[0] WHERE a.attrelid = 'tests_note'::regclass "
        "AND a.attname = 'embedding' AND i.indexrelid = 'note_hnsw'::regclass"
    )[0]


@pytest.mark.pgvector
@all_ways
def test_index_is_made_again_in_both_directions(ready_database, declared):
    single, half = stored("single", **declared), stored("half", **declared)
    migrate(ready_database, None, single)
    single.objects.using("fresh").create(embedding=[1.5, -2, 0.25])
    before, opclass = column(ready_database), column(ready_database)[1]
    assert migrate(ready_database, single, half) == [RemoveIndex, AlterField, AddIndex]
    assert column(ready_database) == ("halfvec(3)", opclass.replace("vector", "halfvec"))
    assert half.objects.using("fresh").get().embedding.tolist() == [1.5, -2, 0.25]
    assert migrate(ready_database, half, single) == [RemoveIndex, AlterField, AddIndex]
    assert column(ready_database) == before == ("vector(3)", opclass)


@pytest.mark.pgvector
def test_migration_of_it_reversed_leaves_the_first_index(ready_database):
    single, half = stored("single"), stored("half")
    migrate(ready_database, None, single)
    migration, before = plan(single, half)
    with ready_database.connection.schema_editor() as editor:
        migration.apply(before.clone(), editor)
    with ready_database.connection.schema_editor() as editor:
        migration.unapply(before, editor)
    assert column(ready_database) == ("vector(3)", "vector_l2_ops")


@pytest.mark.pgvector
def test_sql_of_it_shows_all_three_statements(ready_database):
    single, half = stored("single"), stored("half")
    shown = [line for line in migrate(ready_database, single, half, collect_sql=True) if not line.startswith("--")]
    assert shown == [
        'DROP INDEX IF EXISTS "note_hnsw";',
        'ALTER TABLE "tests_note" ALTER COLUMN "embedding" TYPE halfvec(3) USING "embedding"::halfvec(3);',
        'CREATE INDEX "note_hnsw" ON "tests_note" USING hnsw ("embedding" halfvec_l2_ops);',
    ]


@all_ways
@pytest.mark.parametrize("storage", ["single", "half"])
def test_storage_kept_makes_no_migration(storage, declared):
    assert plan(stored(storage, **declared), stored(storage, **declared))[0] is None


def test_operator_class_that_is_unknown_stays_for_the_check_to_name():
    (index,) = stored("half", opclasses=["gin_trgm_ops"])._meta.indexes
    assert index.opclasses == ["gin_trgm_ops"]


def test_storage_of_an_abstract_model_is_what_its_heirs_have():
    with isolate_apps("tests"):

        class Base(models.Model):
            embedding = EmbeddingField(dimensions=3, storage="half")

            class Meta:
                app_label = "tests"
                abstract = True
                indexes = [HnswIndex(fields=["embedding"], name="%(class)s_hnsw")]

        class One(Base):
            pass

        class Two(Base):
            embedding = EmbeddingField(dimensions=3)

    assert [list(model._meta.indexes[0].opclasses) for model in (Base, One, Two)] == [[], ["halfvec_l2_ops"], []]


@pytest.mark.pgvector
@pytest.mark.parametrize("precision", ["half", "binary"])
def test_index_of_reduced_precision_is_made_again_too(ready_database, precision):
    single, half = stored("single", precision=precision), stored("half", precision=precision)
    migrate(ready_database, None, single)
    single.objects.using("fresh").create(embedding=[1.5, -2, 0.25])
    opclass = column(ready_database)[1]
    for states, kind in (((single, half), "halfvec(3)"), ((half, single), "vector(3)")):
        assert migrate(ready_database, *states) == [RemoveIndex, AlterField, AddIndex]
        assert column(ready_database) == (kind, opclass)


# What `migrate` refuses before any SQL


def refused(database):
    with pytest.raises(NotSupportedError) as caught, CaptureQueriesContext(database.connection) as context:
        database.migrate("tests")
    assert not any(query["sql"].startswith(("ALTER", "DROP")) for query in context)
    return str(caught.value)


@pytest.mark.pgvector
def test_alteration_under_an_index_is_refused(fresh_database, write_migrations):
    write_migrations(CREATE_NOTE, TO_HALF)
    fresh_database.migrate("tests", "0001")
    assert refused(fresh_database) == (
        'Note.embedding cannot change to storage="half" while index note_hnsw stands, which is for the other one. Put '
        "RemoveIndex before AlterField and AddIndex after it, as makemigrations does."
    )


@pytest.mark.pgvector
def test_alteration_of_numbers_beyond_half_precision_is_refused(fresh_database, write_migrations):
    write_migrations(CREATE_NOTE, f"{REMOVE}, {TO_HALF}")
    fresh_database.migrate("tests", "0001")
    fresh_database.execute("INSERT INTO tests_note (embedding) VALUES ('[1,2,3]'), (NULL), ('[0,-65520,0]')")
    assert refused(fresh_database) == (
        'Note.embedding cannot change to storage="half" while rows hold numbers of 65520 or more in size, which half '
        "precision cannot hold. Scale those vectors or set them to None in a migration before this one."
    )


@pytest.mark.pgvector
def test_alteration_of_the_largest_half_number_is_taken(fresh_database, write_migrations):
    write_migrations(CREATE_NOTE, f"{REMOVE}, {TO_HALF}")
    fresh_database.migrate("tests", "0001")
    fresh_database.execute("INSERT INTO tests_note (embedding) VALUES ('[0,-65519.99,0]')")
    fresh_database.migrate("tests")
    assert fresh_database.execute("SELECT embedding::text FROM tests_note") == [("[0,-65504,0]",)]
    fresh_database.migrate("tests", "0001")
    assert column(fresh_database) == ("vector(3)", "vector_l2_ops")


@pytest.mark.pgvector
@pytest.mark.parametrize("steps", [[WITHOUT_INDEX, TO_HALF], [CREATE_NOTE, f"{RENAME}, {REMOVE_OTHER}, {TO_HALF}"]])
def test_alteration_under_no_index_is_taken(fresh_database, write_migrations, steps):
    write_migrations(*steps)
    fresh_database.migrate("tests", "0001")
    fresh_database.migrate("tests")
    assert fresh_database.indexes() == {}


@pytest.mark.pg_embedding
def test_alteration_to_half_is_refused_by_an_engine_without_it(fresh_database, write_migrations):
    write_migrations(CREATE_NOTE, TO_HALF)
    fresh_database.migrate("tests", "0001")
    assert refused(fresh_database) == 'pg_embedding cannot store half precision. Use storage="single".'
