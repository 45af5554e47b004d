import io
import os

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import NotSupportedError, connections
from django.db.migrations.recorder import MigrationRecorder
from django.db.utils import DatabaseError, DataError, IntegrityError
from django.test.utils import CaptureQueriesContext, isolate_apps

from pgembedding_django.checks import check_indexes
from pgembedding_django.maintenance.indexes.catalogue import list_indexes
from pgembedding_django.migrating import finish_database
from tests.support.notes import make_note

CREATE_NOTE = """migrations.CreateModel("Note", [
    ("id", models.BigAutoField(primary_key=True)),
    ("embedding", EmbeddingField(dimensions=3, null=True)),
])"""
CREATE_LOOSE = CREATE_NOTE.replace("dimensions=3, ", "")
FOUR_DIMENSIONS = 'migrations.AlterField("Note", "embedding", EmbeddingField(dimensions=4, null=True))'
THREE_DIMENSIONS = FOUR_DIMENSIONS.replace("4", "3")
ANY_DIMENSIONS = FOUR_DIMENSIONS.replace("dimensions=4, ", "")
EMPTY = 'migrations.RunPython(lambda apps, _: apps.get_model("tests", "Note").objects.using("fresh").all().delete())'
ADD_INDEX = 'migrations.AddIndex("Note", HnswIndex(fields=["embedding"], name="note_hnsw"))'

SETTINGS = """
from tests.settings import *

INSTALLED_APPS = ["aardvark", *INSTALLED_APPS]
MIGRATION_MODULES = {migration_modules}
"""
MODELS = """
from django.db import models
from pgembedding_django import EmbeddingField, HnswIndex


class Note(models.Model):
    embedding = EmbeddingField(dimensions=3)

    class Meta:
        indexes = [HnswIndex(fields=["embedding"], name="note_hnsw")]
"""


def fill(database, dimensions, engine):
    numbers = ", ".join("1" * dimensions)
    database.execute(f"INSERT INTO tests_note (embedding) VALUES (ARRAY[{numbers}]::real[]::{engine.cast('single')})")


def column(database):
    """Return the type and the CHECK of the column, as the server writes them."""
    return database.execute(
        "SELECT format_type(a.atttypid, a.atttypmod), "
        "(SELECT pg_get_constraintdef(c.oid) FROM pg_constraint c WHERE c.conrelid = a.attrelid AND c.contype = 'c') "
        "FROM pg_attribute a WHERE a.attrelid = 'tests_note'::regclass AND a.attname = 'embedding'"
    )[0]


def assert_dimensions(database, engine, dimensions):
    kind, check = column(database)
    if engine.name == "pgvector":
        assert (kind, check) == (f"vector({dimensions})", None)
    else:
        assert kind == "real[]"
        assert f"cardinality(embedding) = {dimensions}" in check


# What finds the extension


@pytest.fixture
def aardvark(tmp_path):
    """An app of a user, which sorts and is installed before ours; returns the variables that a process needs."""
    app = tmp_path / "aardvark"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "models.py").write_text(MODELS)

    def variables(**migration_modules):
        (tmp_path / "aardvark_settings.py").write_text(SETTINGS.format(migration_modules=migration_modules))
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        return {"DJANGO_SETTINGS_MODULE": "aardvark_settings", "PYTHONPATH": path}

    return variables


def finish(process):
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def test_migrate_of_an_app_before_ours_finds_the_extension(fresh_database, aardvark):
    variables = aardvark()
    code, _, errors = finish(fresh_database.start("makemigrations", "aardvark", **variables))
    assert code == 0, errors
    code, output, errors = finish(fresh_database.start("migrate", **variables))
    assert code == 0, errors
    assert output.index("aardvark.0001") < output.index("pgembedding_django.0001")
    assert fresh_database.indexes()["note_hnsw"]


def test_migrate_of_an_app_without_migrations_finds_the_extension(fresh_database, aardvark):
    code, _, errors = finish(fresh_database.start("migrate", "--run-syncdb", **aardvark(aardvark=None)))
    assert code == 0, errors
    assert fresh_database.indexes()["note_hnsw"]


def test_migrate_of_one_app_alone_finds_the_extension(fresh_database, engine):
    fresh_database.migrate("tests")
    assert engine.version(fresh_database.connection)
    applied = MigrationRecorder(fresh_database.connection).applied_migrations()
    assert "pgembedding_django" not in {app for app, _ in applied}


def test_migrate_with_run_syncdb_finds_the_extension(fresh_database, settings):
    settings.MIGRATION_MODULES = {"tests": None, "pgembedding_django": None}
    fresh_database.migrate(run_syncdb=True)
    assert fresh_database.indexes()["article_embedding_hnsw"]


def test_migrate_after_the_extension_was_dropped_by_hand_creates_it_again(fresh_database, engine):
    fresh_database.migrate("pgembedding_django")
    fresh_database.execute(f"DROP EXTENSION {engine.extension}")
    fresh_database.migrate("tests")
    assert fresh_database.indexes()["article_embedding_hnsw"]


def test_migrate_with_checks_and_without_the_right_reports_e020(fresh_database, role):
    with pytest.raises(SystemCheckError, match=r"pgembedding\.E020"):
        fresh_database.migrate(skip_checks=False)
    assert fresh_database.tables() == []


@pytest.mark.parametrize("before", ["zero", "0001"])
def test_migrate_with_checks_passes_where_the_view_of_indexes_is_yet_to_come(fresh_database, before):
    fresh_database.migrate("pgembedding_django", before)
    fresh_database.migrate(skip_checks=False)
    assert check_indexes(databases=["fresh"]) == []
    assert "pgembedding_hnsw_index" in fresh_database.connection.introspection.table_names(include_views=True)


def test_migrate_with_checks_passes_where_the_view_of_indexes_is_an_older_one(fresh_database):
    fresh_database.migrate()
    fresh_database.execute("DROP VIEW pgembedding_hnsw_index")
    fresh_database.execute("CREATE VIEW pgembedding_hnsw_index AS SELECT oid, relname AS name FROM pg_class")
    fresh_database.migrate(skip_checks=False)
    assert check_indexes(databases=["fresh"]) == []


def test_migrate_with_checks_passes_where_the_history_has_yet_to_get_a_column(fresh_database):
    fresh_database.migrate()
    fresh_database.execute("ALTER TABLE pgembedding_django_indexrun DROP COLUMN notice")
    fresh_database.migrate(skip_checks=False)
    assert {report.last_rebuild for report in list_indexes("fresh")} == {None}


def test_check_of_indexes_is_silent_for_a_role_that_may_not_read_the_view(fresh_database, role):
    owner = connections["default"].settings_dict["USER"]
    fresh_database.become(USER=owner)
    fresh_database.migrate()
    fresh_database.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'article_embedding_hnsw'::regclass"
    )
    fresh_database.become(USER=role)
    assert [message.id for message in check_indexes(databases=["fresh"])] == ["pgembedding.W027"]
    fresh_database.execute("REVOKE ALL ON pgembedding_hnsw_index FROM PUBLIC", superuser=True)
    assert check_indexes(databases=["fresh"]) == []


# Back and forth


def test_migrate_twice_changes_nothing(fresh_database):
    fresh_database.migrate()
    before = fresh_database.tables(), fresh_database.indexes()
    fresh_database.migrate()
    assert (fresh_database.tables(), fresh_database.indexes()) == before


def test_migrate_back_and_forth_leaves_the_same(fresh_database, engine):
    fresh_database.migrate("tests")
    fresh_database.migrate("pgembedding_django")
    before = fresh_database.tables(), fresh_database.indexes(), fresh_database.triggers()
    fresh_database.migrate("tests", "zero")
    fresh_database.migrate("pgembedding_django", "zero")
    assert (fresh_database.indexes(), engine.version(fresh_database.connection)) == ({}, ())
    fresh_database.migrate("pgembedding_django")
    fresh_database.migrate("tests")
    assert (fresh_database.tables(), fresh_database.indexes(), fresh_database.triggers()) == before


@pytest.mark.django_db
def test_makemigrations_check_finds_no_change():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.parametrize(("app", "name"), [("pgembedding_django", "0001"), ("tests", "0001")])
@pytest.mark.parametrize("backwards", [False, True])
def test_sqlmigrate_equals_what_runs(fresh_database, app, name, backwards):
    fresh_database.migrate()
    fresh_database.migrate("pgembedding_documents", "zero")
    fresh_database.migrate(app if app == "tests" else "tests", "zero")
    fresh_database.migrate(app, name if backwards else "zero")
    shown = io.StringIO()
    call_command("sqlmigrate", app, name, backwards=backwards, database="fresh", stdout=shown, no_color=True)
    with CaptureQueriesContext(fresh_database.connection) as context:
        fresh_database.migrate(app, "zero" if backwards else name)
    assert ddl(query["sql"] for query in context) == ddl(shown.getvalue().splitlines())


def ddl(statements):
    """Return what changes the schema; Django's own records and what only asks are left out."""
    ours = [statement.rstrip(";") for statement in statements if "django_" not in statement.split("(")[0]]
    return [statement for statement in ours if statement.startswith(("CREATE", "ALTER", "DROP", "DO"))]


# S8: other dimensions


def test_new_dimensions_over_rows_are_refused_before_any_sql(fresh_database, write_migrations, engine):
    write_migrations(CREATE_NOTE, FOUR_DIMENSIONS)
    fresh_database.migrate("tests", "0001")
    fill(fresh_database, 3, engine)
    with pytest.raises(NotSupportedError) as caught, CaptureQueriesContext(fresh_database.connection) as context:
        fresh_database.migrate("tests")
    assert str(caught.value) == (
        "Note.embedding cannot change to 4 dimensions while rows hold vectors of another length. Let the field be "
        "null, set it to None in a migration before this one, and embed the rows again after it."
    )
    assert not any(query["sql"].startswith("ALTER") for query in context)
    assert_dimensions(fresh_database, engine, 3)


def test_new_dimensions_of_rows_without_vectors_are_taken(fresh_database, write_migrations, engine):
    write_migrations(CREATE_NOTE, FOUR_DIMENSIONS)
    fresh_database.migrate("tests", "0001")
    fresh_database.execute("INSERT INTO tests_note (embedding) VALUES (NULL)")
    fresh_database.migrate("tests")
    assert_dimensions(fresh_database, engine, 4)


def test_new_dimensions_after_a_step_that_empties_the_table_are_taken(fresh_database, write_migrations, engine):
    write_migrations(CREATE_NOTE, EMPTY, FOUR_DIMENSIONS)
    fresh_database.migrate("tests", "0001")
    fill(fresh_database, 3, engine)
    fresh_database.migrate("tests")
    assert_dimensions(fresh_database, engine, 4)


def test_new_dimensions_of_a_model_made_in_the_same_run_are_taken(fresh_database, write_migrations, engine):
    write_migrations(CREATE_NOTE, FOUR_DIMENSIONS)
    fresh_database.migrate("tests")
    assert_dimensions(fresh_database, engine, 4)


def test_new_dimensions_of_a_field_made_in_the_same_run_are_taken(fresh_database, write_migrations, engine):
    add = 'migrations.AddField("Note", "embedding", EmbeddingField(dimensions=3, null=True))'
    plain = 'migrations.CreateModel("Note", [("id", models.BigAutoField(primary_key=True))])'
    write_migrations(plain, f"{add}, {FOUR_DIMENSIONS}")
    fresh_database.migrate("tests", "0001")
    fresh_database.migrate("tests")
    assert_dimensions(fresh_database, engine, 4)


def test_new_dimensions_of_a_table_kept_off_by_a_router_are_taken(fresh_database, write_migrations, settings):
    class NotHere:
        def allow_migrate(self, db, app_label, **hints):
            return db != "fresh" or app_label != "tests"

    settings.DATABASE_ROUTERS = [NotHere()]
    write_migrations(CREATE_NOTE, FOUR_DIMENSIONS)
    fresh_database.migrate("tests", "0001")
    fresh_database.migrate("tests")
    assert "tests_note" not in fresh_database.tables()


def test_same_dimensions_over_rows_are_taken(fresh_database, write_migrations, engine):
    write_migrations(CREATE_NOTE, THREE_DIMENSIONS.replace("null=True", 'null=True, source="id"'))
    fresh_database.migrate("tests", "0001")
    fill(fresh_database, 3, engine)
    fresh_database.migrate("tests")
    assert_dimensions(fresh_database, engine, 3)


def test_dimensions_given_up_over_rows_are_taken(fresh_database, write_migrations, engine):
    write_migrations(CREATE_NOTE, ANY_DIMENSIONS)
    fresh_database.migrate("tests", "0001")
    fill(fresh_database, 3, engine)
    fresh_database.migrate("tests")
    fill(fresh_database, 4, engine)
    assert fresh_database.execute("SELECT count(*) FROM tests_note") == [(2,)]


def test_dimensions_set_over_rows_that_fit_are_taken(fresh_database, write_migrations, engine):
    write_migrations(CREATE_LOOSE, THREE_DIMENSIONS)
    fresh_database.migrate("tests", "0001")
    fill(fresh_database, 3, engine)
    fresh_database.migrate("tests")
    assert_dimensions(fresh_database, engine, 3)


def test_dimensions_set_over_rows_of_another_length_are_refused(fresh_database, write_migrations, engine):
    write_migrations(CREATE_LOOSE, THREE_DIMENSIONS)
    fresh_database.migrate("tests", "0001")
    fill(fresh_database, 4, engine)
    with pytest.raises(NotSupportedError, match="cannot change to 3 dimensions"):
        fresh_database.migrate("tests")


def test_step_that_may_empty_and_does_not_leaves_the_refusal_to_the_server(fresh_database, write_migrations, engine):
    write_migrations(CREATE_NOTE, "migrations.RunPython(migrations.RunPython.noop)", FOUR_DIMENSIONS)
    fresh_database.migrate("tests", "0001")
    fill(fresh_database, 3, engine)
    with pytest.raises((DataError, IntegrityError)):
        fresh_database.migrate("tests")
    assert fresh_database.execute("SELECT count(*) FROM tests_note") == [(1,)]
    assert_dimensions(fresh_database, engine, 3)


def test_field_that_becomes_an_embedding_is_none_of_our_business(fresh_database, write_migrations, engine):
    plain = CREATE_NOTE.replace("EmbeddingField(dimensions=3, null=True)", "models.TextField(null=True)")
    write_migrations(plain, FOUR_DIMENSIONS)
    fresh_database.migrate("tests", "0001")
    fresh_database.migrate("tests")
    assert_dimensions(fresh_database, engine, 4)


def test_new_dimensions_with_the_index_removed_before_and_added_after_serve(fresh_database, write_migrations, engine):
    remove = 'migrations.RemoveIndex("Note", "note_hnsw")'
    write_migrations(f"{CREATE_NOTE}, {ADD_INDEX}", f"{remove}, {FOUR_DIMENSIONS}, {ADD_INDEX}")
    fresh_database.migrate("tests", "0001")
    fresh_database.migrate("tests")
    fill(fresh_database, 4, engine)
    assert fresh_database.indexes() == {"note_hnsw": True}


@pytest.mark.pg_embedding
def test_check_that_a_user_made_stays_beside_the_renewed_one(fresh_database, write_migrations, engine):
    write_migrations(CREATE_NOTE, FOUR_DIMENSIONS)
    fresh_database.migrate("tests", "0001")
    fresh_database.execute("ALTER TABLE tests_note ADD CONSTRAINT mine CHECK (cardinality(embedding) < 9)")
    fresh_database.migrate("tests")
    names = fresh_database.execute(
        "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid = 'tests_note'::regclass ORDER BY conname"
    )
    assert ("mine",) in names
    fill(fresh_database, 4, engine)


def test_migrate_faked_leaves_missing_tables_alone(ready_database):
    ready_database.migrate("tests", fake=True)
    assert "tests_article" not in ready_database.tables()


# S17: two at once


def test_migrate_by_two_processes_at_once_leaves_one_valid_index(fresh_database):
    processes = [fresh_database.start("migrate") for _ in range(2)]
    results = [finish(process) for process in processes]
    assert 0 in [code for code, _, _ in results]
    for code, _, errors in results:
        assert code == 0 or "\ndjango.db." in errors, errors
    fresh_database.migrate()
    assert fresh_database.indexes()["article_embedding_hnsw"]


CREATE = """
from django.db import connection
from pgembedding_django.operations import create_extension
create_extension(connection)
"""


def test_create_extension_by_two_processes_at_once_succeeds_in_both(fresh_database, engine):
    processes = [fresh_database.start("shell", "--no-imports", "-c", CREATE) for _ in range(2)]
    results = [finish(process) for process in processes]
    assert [code for code, _, _ in results] == [0, 0], results
    assert engine.version(fresh_database.connection)


def test_error_of_a_migration_half_way_leaves_nothing_of_it(fresh_database, write_migrations):
    write_migrations(f'{CREATE_NOTE}, {ADD_INDEX}, migrations.RunSQL("SELECT 1 / 0")')
    with pytest.raises(DatabaseError, match="division by zero"):
        fresh_database.migrate("tests")
    assert "tests_note" not in fresh_database.tables()


# The CHECK that pg_embedding's columns carry; real[] needs no extension, so this runs on every server


@pytest.fixture
def note_table(fresh_database, settings):
    """Return a function that makes the table of a Note, and gives the registry in which it has other dimensions."""
    settings.PGEMBEDDING = {"ENGINE": "pg_embedding"}

    def make(before, after):
        with isolate_apps("tests"), fresh_database.connection.schema_editor() as editor:
            editor.create_model(make_note(dimensions=before))
        with isolate_apps("tests") as registry:
            make_note(dimensions=after)
        return registry

    return make


@pytest.mark.parametrize(
    ("before", "after", "length"), [(3, 4, "= 4"), (3, None, ">= 1"), (None, 3, "= 3"), (3, 3, "= 3")]
)
def test_finish_gives_the_column_the_check_of_its_field(fresh_database, note_table, before, after, length):
    registry = note_table(before, after)
    finish_database(None, using="fresh", apps=registry)
    assert f"cardinality(embedding) {length}" in column(fresh_database)[1]
    with CaptureQueriesContext(fresh_database.connection) as context:
        finish_database(None, using="fresh", apps=registry)
    assert not any(query["sql"].startswith("ALTER") for query in context)


def test_finish_without_a_registry_or_on_another_vendor_does_nothing(fresh_database, sqlite, note_table):
    registry = note_table(3, 4)
    finish_database(None, using="fresh")
    finish_database(None, using="lite", apps=registry)
    assert "cardinality(embedding) = 3" in column(fresh_database)[1]


def test_finish_without_the_table_does_nothing(fresh_database, note_table):
    registry = note_table(3, 4)
    fresh_database.execute("DROP TABLE tests_note")
    finish_database(None, using="fresh", apps=registry)
    assert fresh_database.tables() == []


def test_finish_keeps_the_check_of_a_user(fresh_database, note_table):
    registry = note_table(3, 4)
    fresh_database.execute("ALTER TABLE tests_note DROP CONSTRAINT tests_note_embedding_check")
    fresh_database.execute("ALTER TABLE tests_note ADD CONSTRAINT mine CHECK (cardinality(embedding) = 4)")
    finish_database(None, using="fresh", apps=registry)
    names = fresh_database.execute(
        "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid = 'tests_note'::regclass ORDER BY conname"
    )
    assert names == [("mine",), ("tests_note_embedding_check",)]
