"""The migration operations that create the extension and the app's view."""

from __future__ import annotations

from django.db import DatabaseError, NotSupportedError, ProgrammingError, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation, OperationCategory
from django.db.migrations.state import ProjectState

from pgembedding_django import locks
from pgembedding_django.engines import ENGINES, Engine, get_engine
from pgembedding_django.engines.arrays import read_new_arrays

__all__ = ["CreateEmbeddingExtension", "CreateView", "ReplaceView", "create_extension", "find_other_engine", "sqlstate"]

#: SQLSTATE: why the server refused to create the extension.
CREATE_REFUSED = {
    "42501": 'Role "{role}" may not create extension "{extension}" in database "{alias}".',
    "25006": 'Extension "{extension}" cannot be created in database "{alias}", which is read-only here.',
}


#: Whether the search path begins with another schema, such as that of a tenant: another tenant would not find what
#: stands there.
PUBLIC_IS_BEHIND = """
SELECT 'public' = ANY (current_schemas(false)) AND current_schema() <> 'public'
    AND has_schema_privilege(to_regnamespace('public'), 'CREATE')
"""


class _CreateForApp(Operation):
    """Create something, or drop it again, in the PostgreSQL databases that the router gives this app."""

    reversible = True
    category = OperationCategory.ADDITION

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        pass

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        if _is_ours(schema_editor.connection, app_label):
            self.create(schema_editor)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        if _is_ours(schema_editor.connection, app_label):
            self.drop(schema_editor)

    def create(self, schema_editor: BaseDatabaseSchemaEditor) -> None:
        raise NotImplementedError

    def drop(self, schema_editor: BaseDatabaseSchemaEditor) -> None:
        raise NotImplementedError


class CreateEmbeddingExtension(_CreateForApp):
    """
    Create the extension of the connection's engine, where it is missing.

    Other vendors and databases that the router keeps this app's migrations off are left alone.
    Raises ProgrammingError if the role may not create it, NotSupportedError if the server does not have it; both say
        what to run.
    Reversing drops the extension; the server refuses that while any column depends on it.
    """

    def create(self, schema_editor: BaseDatabaseSchemaEditor) -> None:
        connection = schema_editor.connection
        if schema_editor.collect_sql:
            schema_editor.execute(_create_statement(get_engine(connection)))
        else:
            create_extension(connection)

    def drop(self, schema_editor: BaseDatabaseSchemaEditor) -> None:
        connection = schema_editor.connection
        engine = get_engine(connection)
        try:
            schema_editor.execute(f"DROP EXTENSION IF EXISTS {engine.extension}", params=None)
        except DatabaseError as error:
            if sqlstate(error) != "2BP01":
                raise
            raise type(error)(
                f'Extension "{engine.extension}" cannot be dropped from database "{connection.alias}" while columns '
                "or indexes depend on it. Reverse the migrations of the apps that use it first."
            ) from error
        engine.forget_version(connection)

    def describe(self) -> str:
        return "Creates the extension of the embedding engine"

    @property
    def migration_name_fragment(self) -> str:
        return "create_embedding_extension"


class CreateView(_CreateForApp):
    """
    Create a view that everybody may read, on PostgreSQL alone.

    query: of catalogues that everybody may read.
    """

    name: str
    query: str

    def __init__(self, name: str, query: str) -> None:
        self.name, self.query = name, query

    def create(self, schema_editor: BaseDatabaseSchemaEditor) -> None:
        name = schema_editor.quote_name(self.name)
        schema_editor.execute(f"CREATE VIEW {name} AS {self.query}", params=None)
        schema_editor.execute(f"GRANT SELECT ON {name} TO PUBLIC", params=None)

    def drop(self, schema_editor: BaseDatabaseSchemaEditor) -> None:
        schema_editor.execute(f"DROP VIEW {schema_editor.quote_name(self.name)}", params=None)

    def describe(self) -> str:
        return f"Creates the view {self.name}"

    @property
    def migration_name_fragment(self) -> str:
        return self.name


class ReplaceView(CreateView):
    """
    Give a view another query, with the same columns and perhaps more after them.

    before: the query that it had, to which reversing goes back.
    """

    def __init__(self, name: str, query: str, before: str) -> None:
        super().__init__(name, query)
        self.before = before

    def create(self, schema_editor: BaseDatabaseSchemaEditor) -> None:
        name = schema_editor.quote_name(self.name)
        schema_editor.execute(f"CREATE OR REPLACE VIEW {name} AS {self.query}", params=None)

    def drop(self, schema_editor: BaseDatabaseSchemaEditor) -> None:
        super().drop(schema_editor)
        CreateView(self.name, self.before).create(schema_editor)

    def describe(self) -> str:
        return f"Replaces the view {self.name}"


def create_extension(connection: BaseDatabaseWrapper) -> None:
    """
    Create the extension of the connection's engine, unless it is there.

    Sends nothing but a question where it is there, so that a role without the right and a read-only database pass.
    Two processes at once take turns. Raises as CreateEmbeddingExtension does.
    """
    engine = get_engine(connection)
    if not _exists(connection, engine):
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [locks.EXTENSION])
            if not _exists(connection, engine):
                _check_available(connection, engine)
                _create(connection, engine)
                read_new_arrays(connection)
    _check_reachable(connection, engine)


def sqlstate(error: BaseException) -> str:
    """Return the five characters that Postgres gave an error, or "" where there are none."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or ""


def _is_ours(connection: BaseDatabaseWrapper, app_label: str) -> bool:
    return connection.vendor == "postgresql" and bool(router.allow_migrate(connection.alias, app_label))


def _create_statement(engine: Engine) -> str:
    return f"CREATE EXTENSION IF NOT EXISTS {engine.extension}"


def _exists(connection: BaseDatabaseWrapper, engine: Engine) -> bool:
    engine.forget_version(connection)
    return bool(engine.version(connection))


def find_other_engine(connection: BaseDatabaseWrapper, engine: Engine) -> Engine | None:
    """Return the engine whose extension already takes the place of this one's in the database."""
    return next((other for other in ENGINES.values() if other is not engine and other.version(connection)), None)


def _check_available(connection: BaseDatabaseWrapper, engine: Engine) -> None:
    other = find_other_engine(connection, engine)
    if other is not None:
        raise ProgrammingError(
            f'Database "{connection.alias}" has extension "{other.extension}", and "{engine.extension}" cannot be '
            "created beside it: both bring an access method named hnsw. Use one engine per database: set "
            f'PGEMBEDDING["ENGINE"] to "{other.name}", or move by dropping the indexes and the old extension first.'
        )
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = %s", [engine.extension])
        if cursor.fetchone() is None:
            raise NotSupportedError(
                f'Extension "{engine.extension}" is not available in database "{connection.alias}". Install '
                f"{engine.package} {'.'.join(map(str, engine.advised_version))} or newer on the server, or set "
                'PGEMBEDDING["ENGINE"].'
            )


def _create(connection: BaseDatabaseWrapper, engine: Engine) -> None:
    try:
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute(PUBLIC_IS_BEHIND)
            (behind,) = cursor.fetchone()
            cursor.execute(_create_statement(engine) + (" SCHEMA public" if behind else ""))
    except DatabaseError as error:
        reason = CREATE_REFUSED.get(sqlstate(error))
        if reason is None:
            raise
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_user, current_database()")
            role, database = cursor.fetchone()
        raise type(error)(
            reason.format(role=role, extension=engine.extension, alias=connection.alias)
            + f' Let a superuser run once: psql -d {database} -c "CREATE EXTENSION {engine.extension}"'
        ) from error


def _check_reachable(connection: BaseDatabaseWrapper, engine: Engine) -> None:
    """Refuse an extension whose schema the search path leaves out: its type and operators would not be found."""
    schema = engine.hidden_schema(connection)
    if schema is not None:
        raise ProgrammingError(
            f'Extension "{engine.extension}" of database "{connection.alias}" lies in schema "{schema}", which is not '
            f"on the search path. Run: ALTER EXTENSION {engine.extension} SET SCHEMA public, or add the schema to the "
            "role's search_path."
        )
