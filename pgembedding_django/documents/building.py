"""Builds, keeps and drops the index of one collection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from django.db import NotSupportedError, OperationalError, ProgrammingError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from pgembedding_django.documents.scope import INDEX_NAME, CollectionIndex
from pgembedding_django.engines import Engine, get_engine
from pgembedding_django.loading.statistics import analyze
from pgembedding_django.operations import sqlstate

if TYPE_CHECKING:
    # Not at run time: a script imports this before Django is set up.
    from pgembedding_django.documents.rows import CollectionRow
    from pgembedding_django.models import HnswIndexStatus

__all__ = [
    "build_index",
    "build_missing_indexes",
    "check_index",
    "drop_index",
    "drop_with_collection",
    "find_built",
    "rebuild_index",
]

#: SQLSTATE of a name that is taken.
DUPLICATE = "42P07"


def build_index(collection: CollectionRow, using: str, options: dict[str, Any], *, concurrently: bool) -> None:
    """Build a collection's index with some options of HnswIndex, unless it stands as it should."""
    connection = connections[using]
    _check_transaction(connection, concurrently, "built")
    engine = get_engine(connection)
    collection.refresh_from_db(fields=["dimensions"])  # Another process may have set or replaced them.
    index = CollectionIndex(collection, **_fit(collection, collection.dimensions, engine, options))
    status = find_built(collection, using)
    if status is not None and status.building_pid is not None:
        raise OperationalError(f"{index.name} is being built by another connection. Wait until that one has finished.")
    if status is None or not status.valid or not _is_as_declared(status, index, engine, using):
        if status is not None:
            _remove(connection, index, concurrently)
        _add(connection, index, concurrently)
        # Without statistics of the collection's share, Postgres may take its index for the dearer way.
        analyze(connection.ops.quote_name(collection.document_model._meta.db_table), connection)
    _remember(collection, using, {**index.options, "precision": index.precision})


def check_index(collection: CollectionRow, using: str, options: dict[str, Any], dimensions: int) -> None:
    """Raise ValueError if no index of these options could hold a collection's vectors, were they of some dimensions."""
    _fit(collection, dimensions, get_engine(connections[using]), options)


def rebuild_index(collection: CollectionRow, using: str, options: dict[str, Any]) -> None:
    """Build a collection's index after a transaction, or in one that a test keeps open."""
    build_index(collection, using, options, concurrently=not connections[using].in_atomic_block)


def build_missing_indexes(model: type[CollectionRow], using: str) -> Iterator[str]:
    """Build the index of each collection that says it has one and has none, as after a move, and yield its name."""
    for collection in model._base_manager.using(using).filter(hnsw__isnull=False).order_by("pk"):
        if find_built(collection, using) is None:
            rebuild_index(collection, using, collection.hnsw or {})
            yield collection.name


def drop_index(collection: CollectionRow, using: str, *, concurrently: bool) -> None:
    """Drop a collection's index, where there is one."""
    connection = connections[using]
    _check_transaction(connection, concurrently, "dropped")
    _remember(collection, using, None)
    _remove(connection, CollectionIndex(collection), concurrently)


def drop_with_collection(sender: object, *, instance: CollectionRow, using: str, **kwargs: Any) -> None:
    """After a collection was deleted: drop its index in the same transaction."""
    if find_built(instance, using) is not None:
        _remove(connections[using], CollectionIndex(instance), concurrently=False)


#: Not the view of HnswIndexStatus, which is missing where LangChain's store has made the tables of documents alone.
BUILT = """
SELECT c.relname AS name, i.indisvalid AS valid, o.opcname AS opclass, format_type(a.atttypid, NULL) AS type,
    coalesce(nullif(a.atttypmod, -1), (r.options ->> 'dims')::integer) AS dimensions, r.options::text AS options,
    (SELECT max(p.pid) FROM pg_stat_progress_create_index p
        WHERE p.index_relid = c.oid AND p.datname = current_database()) AS building_pid
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_opclass o ON o.oid = i.indclass[0]
JOIN pg_attribute a ON a.attrelid = c.oid
CROSS JOIN LATERAL (SELECT coalesce(jsonb_object_agg(option_name, option_value), '{}') AS options
    FROM pg_options_to_table(c.reloptions)) r
WHERE i.indrelid = to_regclass(%s) AND c.relname = %s
"""


def find_built(collection: CollectionRow, using: str) -> HnswIndexStatus | None:
    """Return the index of a collection as the database has it, in the fields that tell how it was built, or None."""
    # Not at the top: a script imports this before Django is set up.
    from pgembedding_django.models import HnswIndexStatus

    connection = connections[using]
    table = connection.ops.quote_name(collection.document_model._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(BUILT, [table, INDEX_NAME.format(collection.pk)])
        row = cursor.fetchone()
        names = [column[0] for column in cursor.description]
    if row is None:
        return None
    status = HnswIndexStatus(**dict(zip(names, row, strict=True)))
    status.options = json.loads(status.options)
    return status


def _is_as_declared(status: HnswIndexStatus, index: CollectionIndex, engine: Engine, using: str) -> bool:
    """Tell whether a search through an index finds what it would through one that is built now."""
    field = index.get_field(index.collection.document_model)
    dimensions = cast(int, field.dimensions)
    entries = engine.with_options(index.options, dimensions, connections[using])
    return (status.opclass, status.type, status.dimensions, status.options) == (
        index.get_expression(field, engine)[1],
        engine.column_type(None, index.precision or field.storage),
        dimensions,
        dict(entry.split(" = ") for entry in entries),
    )


def _fit(collection: CollectionRow, dimensions: int | None, engine: Engine, options: dict[str, Any]) -> dict[str, Any]:
    """Add the precision in which the collection's dimensions fit an index, or tell why they do not."""
    if dimensions is None:
        raise ValueError(
            f'Collection "{collection.name}" has no dimensions yet, so it cannot be indexed. Add documents first, or '
            "create it with dimensions."
        )
    CollectionIndex(collection, **options).check_options(engine)
    for precision in (None, *(name for name in engine.precisions if name == "half")):
        if dimensions <= engine.max_indexed_dimensions("single", precision, options):
            return {**options, "precision": precision}
    limit = engine.max_indexed_dimensions("single", precision, options)
    raise ValueError(
        f'Collection "{collection.name}" has {dimensions} dimensions, but its index can hold at most '
        f"{limit} on {engine.name}. {engine.fit_hint('half', dimensions)}"
    )


def _check_transaction(connection: BaseDatabaseWrapper, concurrently: bool, done: str) -> None:
    if concurrently and connection.in_atomic_block:
        raise NotSupportedError(
            f"The index of a collection cannot be {done} concurrently inside a transaction. Leave the transaction, or "
            "pass concurrently=False, which locks out writes to all documents meanwhile."
        )
    if connection.in_atomic_block:
        # Postgres alters no index while checks of foreign keys are pending.
        connection.check_constraints()


def _add(connection: BaseDatabaseWrapper, index: CollectionIndex, concurrently: bool) -> None:
    try:
        with connection.schema_editor(atomic=not concurrently) as editor:
            editor.add_index(index.collection.document_model, index, **({"concurrently": True} if concurrently else {}))
    except ProgrammingError as error:
        if sqlstate(error) != DUPLICATE:
            raise
        raise OperationalError(
            f"{index.name} was made by another connection meanwhile. Call create_hnsw_index() again."
        ) from error


def _remove(connection: BaseDatabaseWrapper, index: CollectionIndex, concurrently: bool) -> None:
    if connection.in_atomic_block:
        connection.check_constraints()
    with connection.schema_editor(atomic=not concurrently) as editor:
        editor.remove_index(index.collection.document_model, index, **({"concurrently": True} if concurrently else {}))


def _remember(collection: CollectionRow, using: str, options: dict[str, Any] | None) -> None:
    """Let searches know the index, or that there is none; of dimensions that are replaced meanwhile, none."""
    rows = type(collection)._base_manager.using(using).filter(pk=collection.pk)
    if options is not None:
        rows = rows.filter(dimensions=collection.dimensions)
    collection.hnsw = options if rows.update(hnsw=options) else None
