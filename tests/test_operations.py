import threading

import pytest
from django.core.management import call_command
from django.db import NotSupportedError, OperationalError, ProgrammingError, connections
from django.db.migrations.operations.base import OperationCategory
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import OperationWriter
from django.db.utils import DatabaseError
from django.test.utils import CaptureQueriesContext

from pgembedding_django import CreateEmbeddingExtension, locks
from pgembedding_django.apps import PgembeddingConfig
from pgembedding_django.engines import ENGINES
from pgembedding_django.migrating import prepare_database
from pgembedding_django.operations import CreateView, ReplaceView, create_extension, sqlstate
from tests.support.waiting import ADVISORY_LOCKS, wait_for

STATE = ProjectState()


class OnlyDefault:
    """A router that keeps every migration on the default database."""

    def allow_migrate(self, db, app_label, **hints):
        return db == "default"


def forwards(connection, **options):
    with connection.schema_editor(**options) as editor:
        CreateEmbeddingExtension().database_forwards("pgembedding_django", editor, STATE, STATE)
    return editor


def backwards(connection, **options):
    with connection.schema_editor(**options) as editor:
        CreateEmbeddingExtension().database_backwards("pgembedding_django", editor, STATE, STATE)
    return editor


def statements(context):
    return [query["sql"] for query in context.captured_queries]


def other_than(engine):
    return next(other for other in ENGINES.values() if other is not engine)


# The operation


def test_operation_forwards_twice_creates_the_extension_once(fresh_database, engine):
    forwards(fresh_database.connection)
    version = engine.version(fresh_database.connection)
    with CaptureQueriesContext(fresh_database.connection) as context:
        forwards(fresh_database.connection)
    assert version >= engine.minimum_version
    assert not any("CREATE EXTENSION" in sql for sql in statements(context))


def test_operation_backwards_twice_drops_the_extension(ready_database, engine):
    backwards(ready_database.connection)
    assert engine.version(ready_database.connection) == ()
    backwards(ready_database.connection)
    assert engine.version(ready_database.connection) == ()


def test_operation_collecting_sql_forwards_asks_and_creates_nothing(fresh_database, engine):
    editor = forwards(fresh_database.connection, collect_sql=True)
    assert editor.collected_sql == [f"CREATE EXTENSION IF NOT EXISTS {engine.extension};"]
    assert engine.version(fresh_database.connection) == ()


def test_operation_collecting_sql_backwards_drops_nothing(ready_database, engine):
    editor = backwards(ready_database.connection, collect_sql=True)
    assert editor.collected_sql == [f"DROP EXTENSION IF EXISTS {engine.extension};"]
    assert engine.version(ready_database.connection) >= engine.minimum_version


@pytest.mark.parametrize("run", [forwards, backwards])
def test_operation_on_another_vendor_does_nothing(sqlite, run):
    assert run(sqlite, collect_sql=True).collected_sql == []


@pytest.mark.parametrize("run", [forwards, backwards])
def test_operation_kept_off_by_a_router_does_nothing(fresh_database, settings, run):
    settings.DATABASE_ROUTERS = [OnlyDefault()]
    assert run(fresh_database.connection, collect_sql=True).collected_sql == []


def test_operation_describes_itself():
    operation = CreateEmbeddingExtension()
    assert operation.describe() == "Creates the extension of the embedding engine"
    assert operation.formatted_description() == "+ Creates the extension of the embedding engine"
    assert operation.migration_name_fragment == "create_embedding_extension"
    assert operation.category is OperationCategory.ADDITION
    assert operation.reversible


def test_operation_in_a_migration_writer_takes_no_arguments():
    assert OperationWriter(CreateEmbeddingExtension(), indentation=0).serialize() == (
        "pgembedding_django.operations.CreateEmbeddingExtension(\n),",
        {"import pgembedding_django.operations"},
    )


def test_operation_leaves_the_state_alone():
    state = ProjectState()
    CreateEmbeddingExtension().state_forwards("tests", state)
    assert state == ProjectState()


# S1 to S3: roles and databases that may not


def test_missing_extension_without_the_right_names_the_command(fresh_database, role, engine):
    with pytest.raises(ProgrammingError) as caught:
        fresh_database.migrate()
    assert str(caught.value) == (
        f'Role "{role}" may not create extension "{engine.extension}" in database "fresh". Let a superuser run once: '
        f'psql -d {fresh_database.name} -c "CREATE EXTENSION {engine.extension}"'
    )
    assert sqlstate(caught.value.__cause__) == "42501"
    assert fresh_database.tables() == []


def test_present_extension_without_the_right_lets_migrate_pass(fresh_database, role, engine):
    fresh_database.execute(f"CREATE EXTENSION {engine.extension}", superuser=True)
    fresh_database.execute(f"GRANT ALL ON SCHEMA public TO {role}", superuser=True)
    with CaptureQueriesContext(fresh_database.connection) as context:
        fresh_database.migrate("pgembedding_django")
        fresh_database.migrate("tests")
    assert not any("CREATE EXTENSION" in sql for sql in statements(context))
    assert fresh_database.indexes()["article_embedding_hnsw"]


def test_drop_without_the_right_passes_the_servers_error_on(ready_database, role, engine):
    with pytest.raises(ProgrammingError, match=f"must be owner of extension {engine.extension}"):
        backwards(ready_database.connection)


def test_read_only_connection_with_the_extension_passes(ready_database):
    ready_database.migrate("pgembedding_django")
    ready_database.become(OPTIONS={"options": "-c default_transaction_read_only=on"})
    create_extension(ready_database.connection)
    ready_database.migrate("pgembedding_django")


def test_read_only_connection_without_the_extension_names_the_command(fresh_database, engine):
    fresh_database.become(OPTIONS={"options": "-c default_transaction_read_only=on"})
    with pytest.raises(DatabaseError) as caught:
        create_extension(fresh_database.connection)
    assert str(caught.value) == (
        f'Extension "{engine.extension}" cannot be created in database "fresh", which is read-only here. Let a '
        f'superuser run once: psql -d {fresh_database.name} -c "CREATE EXTENSION {engine.extension}"'
    )


def test_migrate_of_a_database_kept_off_by_a_router_creates_no_extension(fresh_database, settings, engine):
    settings.DATABASE_ROUTERS = [OnlyDefault()]
    fresh_database.migrate()
    assert engine.version(fresh_database.connection) == ()


def test_migrate_of_a_database_without_our_plan_and_models_creates_no_extension(fresh_database, settings, engine):
    settings.DATABASE_ROUTERS = [OnlyDefault()]
    prepare_database(PgembeddingConfig, using="fresh", plan=None)
    assert engine.version(fresh_database.connection) == ()


def test_migrate_of_another_vendor_kept_off_by_a_router_passes(sqlite, settings):
    settings.DATABASE_ROUTERS = [OnlyDefault()]
    call_command("migrate", database="lite", verbosity=0)
    prepare_database(PgembeddingConfig, using="lite", plan=[])


# S4, S5, S7: what the server has


@pytest.mark.pgvector
def test_extension_that_the_server_lacks_names_package_and_setting(fresh_database, settings, offered_extensions):
    if "embedding" in offered_extensions:
        pytest.skip('this server offers the extension "embedding"')
    settings.PGEMBEDDING = {"ENGINE": "pg_embedding"}
    with pytest.raises(NotSupportedError) as caught:
        create_extension(fresh_database.connection)
    assert str(caught.value) == (
        'Extension "embedding" is not available in database "fresh". Install pg_embedding 0.3 or newer on the server, '
        'or set PGEMBEDDING["ENGINE"].'
    )


def test_extension_beside_the_other_engine_says_how_to_move(ready_database, settings, engine):
    wanted = other_than(engine)
    settings.PGEMBEDDING = {"ENGINE": {"fresh": wanted.name}}
    with pytest.raises(ProgrammingError) as caught:
        create_extension(ready_database.connection)
    assert str(caught.value) == (
        f'Database "fresh" has extension "{engine.extension}", and "{wanted.extension}" cannot be created beside it: '
        'both bring an access method named hnsw. Use one engine per database: set PGEMBEDDING["ENGINE"] to '
        f'"{engine.name}", or move by dropping the indexes and the old extension first.'
    )


@pytest.mark.pg_embedding
def test_engines_of_one_server_serve_a_database_each(fresh_database, settings, offered_extensions):
    if "vector" not in offered_extensions:
        pytest.skip('this server does not offer the extension "vector"')
    settings.PGEMBEDDING = {"ENGINE": {"default": "pg_embedding", "fresh": "pgvector"}}
    create_extension(fresh_database.connection)
    assert ENGINES["pgvector"].version(fresh_database.connection)


def test_access_method_of_someone_else_passes_the_servers_error_on(fresh_database):
    fresh_database.execute("CREATE ACCESS METHOD hnsw TYPE INDEX HANDLER bthandler")
    with pytest.raises(ProgrammingError, match='access method "hnsw" already exists'):
        create_extension(fresh_database.connection)


def test_extension_off_the_search_path_names_the_schema_and_the_remedy(fresh_database, engine):
    fresh_database.execute("CREATE SCHEMA elsewhere")
    fresh_database.execute(f"CREATE EXTENSION {engine.extension} SCHEMA elsewhere")
    with pytest.raises(ProgrammingError) as caught:
        fresh_database.migrate()
    assert str(caught.value) == (
        f'Extension "{engine.extension}" of database "fresh" lies in schema "elsewhere", which is not on the search '
        f"path. Run: ALTER EXTENSION {engine.extension} SET SCHEMA public, or add the schema to the role's "
        "search_path."
    )


def test_extension_in_another_schema_on_the_search_path_serves(fresh_database, engine):
    fresh_database.execute("CREATE SCHEMA elsewhere")
    fresh_database.execute(f"CREATE EXTENSION {engine.extension} SCHEMA elsewhere")
    fresh_database.become(OPTIONS={"options": "-c search_path=public,elsewhere"})
    fresh_database.migrate("tests")
    assert fresh_database.indexes()["article_embedding_hnsw"]


# Two at once, and reverse


def test_extension_created_while_waiting_for_the_turn_is_taken_as_it_is(fresh_database, engine):
    first = fresh_database.open()
    with first.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [locks.EXTENSION])
        second = threading.Thread(target=in_thread, args=(fresh_database, failures := []))
        second.start()
        wait_for(fresh_database, f"{ADVISORY_LOCKS} AND NOT granted")
        cursor.execute(f"CREATE EXTENSION {engine.extension}")
    first.close()
    second.join()
    assert failures == []


def in_thread(database, failures):
    connection = connections["fresh"]
    try:
        create_extension(connection)
    except DatabaseError as error:
        failures.append(error)
    finally:
        connection.close()


def test_drop_while_columns_depend_on_it_is_refused_and_keeps_them(ready_database, engine):
    ready_database.migrate("tests")
    ready_database.migrate("pgembedding_django")
    with pytest.raises(DatabaseError) as caught:
        ready_database.migrate("pgembedding_django", "zero")
    assert str(caught.value) == (
        f'Extension "{engine.extension}" cannot be dropped from database "fresh" while columns or indexes depend on '
        "it. Reverse the migrations of the apps that use it first."
    )
    assert ready_database.indexes()["article_embedding_hnsw"]


def test_sqlstate_of_an_error_without_cause_is_empty():
    assert sqlstate(OperationalError("gone")) == ""


# CreateView


def test_create_view_says_what_it_does():
    operation = CreateView("a_view", "SELECT 1")
    assert (operation.describe(), operation.migration_name_fragment) == ("Creates the view a_view", "a_view")


def test_create_view_forwards_and_backwards_twice_leaves_nothing(fresh_database):
    view = "SELECT 1 FROM pg_views WHERE viewname = 'pgembedding_hnsw_index'"
    for _ in range(2):
        fresh_database.migrate("pgembedding_django")
        assert fresh_database.execute(view) == [(1,)]
        fresh_database.migrate("pgembedding_django", "0001")
        assert fresh_database.execute(view) == []


# ReplaceView


def test_replace_view_says_what_it_does():
    operation = ReplaceView("a_view", "SELECT 1, 2", "SELECT 1")
    assert (operation.describe(), operation.migration_name_fragment) == ("Replaces the view a_view", "a_view")


def test_replace_view_forwards_and_backwards_twice_has_the_column_or_not(fresh_database):
    column = "SELECT 1 FROM pg_attribute WHERE attrelid = 'pgembedding_hnsw_index'::regclass AND attname = 'label'"
    for _ in range(2):
        fresh_database.migrate("pgembedding_django", "0003")
        assert fresh_database.execute(column) == [(1,)]
        fresh_database.migrate("pgembedding_django", "0002")
        assert fresh_database.execute(column) == []


def test_replaced_view_may_be_read_by_everybody_forwards_and_backwards(fresh_database):
    grants = "SELECT has_table_privilege('pg_read_all_settings', 'pgembedding_hnsw_index', 'SELECT')"
    fresh_database.migrate("pgembedding_django", "0003")
    assert fresh_database.execute(grants) == [(True,)]
    fresh_database.migrate("pgembedding_django", "0002")
    assert fresh_database.execute(grants) == [(True,)]


@pytest.mark.parametrize(("path", "schema"), [("one, public", "public"), ("one", "one"), ("public, one", "public")])
def test_extension_is_created_where_every_search_path_finds_it(fresh_database, engine, path, schema):
    fresh_database.execute("CREATE SCHEMA one")
    fresh_database.execute(f"SET search_path = {path}")
    create_extension(fresh_database.connection)
    [(found,)] = fresh_database.execute(
        "SELECT nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = %s",
        [engine.extension],
    )
    assert found == schema
