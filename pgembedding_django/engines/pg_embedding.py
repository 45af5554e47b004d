"""The extension `embedding` (pg_embedding 0.3), archived, served inside a guard."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from pgembedding_django.engines import guard
from pgembedding_django.engines.base import GRAPH, Converter, Engine, IndexOption, Value, pages_size
from pgembedding_django.engines.scan import Scan
from pgembedding_django.vectors import Vector, wire
from pgembedding_django.vectors.matrices import ArrayForm, Form

if TYPE_CHECKING:
    from django.db.models import Model

#: An element of the index must fit the page that holds it: 4 * (2m + 1) bytes of links, 4 * dims of vector and
#: 8 of label in 8,152 (pg_embedding 0.3.6, hnsw.c).
PAGE_BUDGET = 2035

#: What pgvector uses by default; pg_embedding's own m fits no page from 1,838 dimensions on.
SERVER_M = 100
DEFAULTS = {**GRAPH, "ef_search": 64}


class PgEmbeddingEngine(Engine):
    name = "pg_embedding"
    extension = "embedding"
    package = "pg_embedding"
    minimum_version: ClassVar[tuple[int, ...]] = (0, 3)
    advised_version: ClassVar[tuple[int, ...]] = (0, 3)
    caution = (
        "pg_embedding is archived, and its index is not safe by itself: a crash loses rows of it, and a reader beside "
        "a writer can hang the server. nearest() and the trigger made with each HnswIndex keep readers and writers of "
        "an index apart, and after a crash searches are exact and writes are refused until the index is rebuilt; "
        "SQL that skips both is not protected."
    )

    operators: ClassVar[Mapping[str, str]] = {"l2": "<->", "cosine": "<=>", "l1": "<~>"}
    opclasses: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "single": {"l2": "ann_l2_ops", "cosine": "ann_cos_ops", "l1": "ann_manhattan_ops"},
    }
    index_options: ClassVar[Mapping[str, IndexOption]] = {
        "m": IndexOption("m", 2, 1000, DEFAULTS["m"]),
        "ef_construction": IndexOption("efconstruction", 4, 1000, DEFAULTS["ef_construction"]),
        "ef_search": IndexOption("efsearch", 1, 1000, DEFAULTS["ef_search"]),
        "max_elements": IndexOption("maxelements", 1, 2**31 - 1),
    }
    queries_set_ef_search = False
    # It is built with -Ofast, for which there is no NaN.
    undefined_is_nan = False
    direction = "0 <> ANY (%s)"
    averages = False
    length_function = "cardinality"

    def column_type(self, dimensions: int | None, storage: str) -> str:
        self.check_storage(storage)
        return "real[]"

    def column_check(self, quoted_column: str, dimensions: int | None) -> str | None:
        # The server reads past the end of an array with a NULL in it and stores NaN and infinity as they come.
        unwanted = " AND ".join(
            f"array_position({quoted_column}, {value}::real) IS NULL"
            for value in ("NULL", "'NaN'", "'Infinity'", "'-Infinity'")
        )
        length = f"= {dimensions:d}" if dimensions is not None else ">= 1"
        # Of an empty array only the cardinality is no NULL, and a CHECK lets NULL pass.
        return f"array_ndims({quoted_column}) = 1 AND cardinality({quoted_column}) {length} AND {unwanted}"

    def max_dimensions(self, storage: str) -> int:
        return 16_000

    def encode(self, value: Value) -> str:
        return wire.encode_array_text(cast(Vector, value))

    def cast(self, storage: str) -> str:
        return "real[]"

    def send_function(self, storage: str) -> str:
        return "array_send"

    def binary_encoder(self, storage: str) -> Callable[[Vector], bytes]:
        return wire.pack_array

    def binary_form(self, storage: str) -> Form:
        return ArrayForm()

    def converter(self, storage: str) -> Converter:
        def convert(value: Any, expression: object, connection: BaseDatabaseWrapper) -> Vector | None:
            if value is None:
                return None
            if isinstance(value, list):
                return np.array(value, dtype=np.float32).view(Vector)
            return wire.decode_text(value) if isinstance(value, str) else wire.decode_array(value)

        return convert

    def max_indexed_dimensions(self, storage: str, precision: str | None, options: Mapping[str, int]) -> int:
        return PAGE_BUDGET - 2 * options.get("m", DEFAULTS["m"])

    def fit_hint(self, storage: str, dimensions: int) -> str:
        largest = (PAGE_BUDGET - dimensions) // 2
        if largest >= self.index_options["m"].minimum:
            return f"Use an m of at most {largest}."
        return "Ask the embedder for fewer dimensions."

    def with_options(
        self, options: Mapping[str, int | None], dimensions: int, connection: BaseDatabaseWrapper
    ) -> list[str]:
        entries = [f"dims = {dimensions:d}"]
        for name, option in self.index_options.items():
            value = options[name] if options[name] is not None else option.default
            if value is not None and (name != "max_elements" or self._knows_max_elements(connection)):
                entries.append(f"{option.server_name} = {value:d}")
        return entries

    def _knows_max_elements(self, connection: BaseDatabaseWrapper) -> bool:
        return (0,) < self.version(connection) < (0, 3)

    def before_create_index(self, model: type[Model], schema_editor: BaseDatabaseSchemaEditor) -> None:
        """Guard the table: writers lock it and are refused after a crash, and its index is marked as sound."""
        table = schema_editor.quote_name(model._meta.db_table)
        for statement in guard.create(table, schema_editor.quote_value(table)):
            schema_editor.execute(statement, params=None)

    def after_remove_index(self, model: type[Model], schema_editor: BaseDatabaseSchemaEditor) -> None:
        """Drop the trigger and the mark once the table has no HNSW index any more."""
        table = schema_editor.quote_name(model._meta.db_table)
        schema_editor.deferred_sql.append(guard.drop(table, schema_editor.quote_value(table)))

    def scan_obstacle(self, connection: BaseDatabaseWrapper, table: int | None = None) -> str:
        if not self._has_functions(connection) or (table and self.unguarded_tables(connection, {table})):
            return "no guard keeps its readers and writers apart. Run: manage.py rebuild_hnsw_indexes --repair"
        if table and self.unsound_tables(connection, {table}):
            return "the server has crashed since the index was built, or is a standby"
        return ""

    def _has_functions(self, connection: BaseDatabaseWrapper) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(guard.HAS_FUNCTIONS)
            return bool(cursor.fetchone()[0])

    def unguarded_tables(self, connection: BaseDatabaseWrapper, tables: Collection[int]) -> set[int]:
        if not self._has_functions(connection):
            return set(tables)
        return set(tables) - _fetch_oids(connection, guard.GUARDED, tables)

    def unsound_tables(self, connection: BaseDatabaseWrapper, tables: Collection[int]) -> set[int]:
        # The function that knows, since a standby cannot read the unlogged marks.
        return _fetch_oids(connection, guard.UNSOUND, tables) if self._has_functions(connection) else set()

    def guard_table(self, connection: BaseDatabaseWrapper, quoted_table: str) -> None:
        ops: Any = connection.ops
        literal = ops.compose_sql("%s", [quoted_table])
        with connection.cursor() as cursor:
            # Sent together, they are one transaction: a table that is guarded and not marked takes no writes.
            cursor.execute("; ".join([*guard.create(quoted_table, literal), guard.mark(literal)]))

    def mark_sound(self, connection: BaseDatabaseWrapper, table: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s)", [guard.MARKS])
            if cursor.fetchone()[0] is not None:
                cursor.execute(f"INSERT INTO {guard.MARKS} VALUES (%s) ON CONFLICT DO NOTHING", [table])

    def index_size(self, opclass: str, rows: int, dimensions: int, options: Mapping[str, str]) -> int:
        m = int(options.get("m", SERVER_M))
        return pages_size(rows, 4 * (2 * m + 1) + 4 * dimensions + 8)

    def candidates(self, k: int, precision: str | None) -> int:
        # Its scan repeats rows, loses order past efsearch and counts deleted rows: take more, and rank again.
        return 2 * k + 20

    def scan_gate(self, connection: BaseDatabaseWrapper, quoted_table: str, scan: Scan) -> tuple[str, list[Any]]:
        # False beside a long write, after a crash and on a standby: no row comes, and an exact scan completes it.
        return guard.GATE, [quoted_table]

    @contextmanager
    def scanning(self, connection: BaseDatabaseWrapper, quoted_table: str, scan: Scan) -> Iterator[None]:
        if connection.get_autocommit():
            yield  # The lock ends with the statement.
            return
        with transaction.atomic(connection.alias):
            yield
            # The server gives up what a savepoint locked when it is rolled back.
            transaction.set_rollback(True, connection.alias)

    def ungated(self, sql: str) -> str:
        # No lock was taken, so the index must not be read.
        return self.exact(sql)


def _fetch_oids(connection: BaseDatabaseWrapper, sql: str, tables: Collection[int]) -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute(sql, [list(tables)])
        return {oid for (oid,) in cursor.fetchall()}
