"""
What an engine is: mostly tables of operators, operator classes and options.

Longer than other modules: it lists all that the rest of the package asks of a server.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import NotSupportedError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from pgembedding_django.engines.extension import Extension
from pgembedding_django.engines.scan import Scan
from pgembedding_django.vectors import SparseVector, Vector
from pgembedding_django.vectors.matrices import Form

if TYPE_CHECKING:
    from django.db.models import Model

#: What both engines build with where an index says nothing (pgvector 0.8 README, "Index Options").
GRAPH = {"m": 16, "ef_construction": 64}

#: The bound of ef_search: pgvector's of hnsw.ef_search (pgvector 0.8, src/hnsw.h).
MAX_EF_SEARCH = 1000

#: A value of a column: numbers, most of them or all, or bits.
Value = Vector | SparseVector | str

Converter = Callable[[Any, Any, BaseDatabaseWrapper], Any]

#: The distance names that a user writes, and the class that pgembedding_django.functions has for each.
DISTANCES = {
    "l2": "L2Distance",
    "cosine": "CosineDistance",
    "l1": "L1Distance",
    "inner_product": "MaxInnerProduct",
    "hamming": "HammingDistance",
    "jaccard": "JaccardDistance",
}


@dataclass(frozen=True)
class IndexOption:
    """An integer option of an HNSW index: its name in the server's WITH clause and the values that it accepts."""

    server_name: str
    minimum: int
    maximum: int
    default: int | None = None


class Engine(Extension):
    """What one Postgres extension can do, and how a vector travels to it and back."""

    #: What PGEMBEDDING["ENGINE"] calls it.
    name: ClassVar[str]
    #: What a system check says of the engine itself, or "" where there is nothing to say.
    caution: ClassVar[str] = ""

    operators: ClassVar[Mapping[str, str]]
    #: storage: distance: operator class.
    opclasses: ClassVar[Mapping[str, Mapping[str, str]]]
    #: option of HnswIndex: option of the server.
    index_options: ClassVar[Mapping[str, IndexOption]]
    #: option of IvfflatIndex: option of the server; none where the extension has no such index.
    ivfflat_options: ClassVar[Mapping[str, IndexOption]] = {}
    #: The function that counts a column's dimensions.
    length_function: ClassVar[str]
    #: The extension's types whose arrays the driver does not know.
    types_with_arrays: ClassVar[tuple[str, ...]] = ()
    #: Whether the cosine distance of a vector of zeros is NaN, which every order puts last.
    undefined_is_nan: ClassVar[bool] = True
    #: The condition that a vector has a direction, of its distance where that is NaN otherwise, else of its column.
    direction: ClassVar[str] = "%s < 'Infinity'"
    #: Whether it has HNSW indexes; every search is exact elsewhere.
    indexes: ClassVar[bool] = True
    #: Whether rows are loaded by COPY.
    copies: ClassVar[bool] = True
    #: Whether several workers can embed the rows of a table at once.
    shares_rows: ClassVar[bool] = True
    #: Whether the server searches words, as hybrid() does.
    searches_words: ClassVar[bool] = True
    #: Whether avg() takes vectors.
    averages: ClassVar[bool] = True
    #: Whether a query chooses how many candidates its scan keeps; the index does elsewhere.
    queries_set_ef_search: ClassVar[bool] = True
    #: The reduced precisions that an index may have.
    precisions: ClassVar[tuple[str, ...]] = ()

    def operator(self, distance: str) -> str:
        """
        Return the operator of a distance.

        Raises NotSupportedError if the extension has none.
        """
        if distance not in self.operators:
            *names, last = (DISTANCES[other] for other in self.operators)
            raise NotSupportedError(
                f"{self.name} has no {distance.replace('_', ' ')} distance. Use {', '.join(names)} or {last}."
            )
        return self.operators[distance]

    def check_method(self, method: str, storage: str, distance: str) -> None:
        """Raise NotSupportedError if the extension has no such index of such vectors for a distance."""
        if method != "hnsw":
            raise NotSupportedError(f"{self.name} has no IvfflatIndex. Use an HnswIndex.")

    def check_storage(self, storage: str) -> None:
        """Raise NotSupportedError if the extension cannot store vectors this way."""
        if storage not in self.opclasses:
            what, remedy = {
                "half": ("half precision", 'Use storage="single"'),
                "sparse": ("sparse vectors", "Use an EmbeddingField"),
                "bit": ("bits to measure distances of", "Use an EmbeddingField"),
            }[storage]
            raise NotSupportedError(f"{self.name} cannot store {what}. {remedy}.")

    def check_words(self) -> None:
        """Raise NotSupportedError if the server searches no words."""
        if not self.searches_words:
            raise NotSupportedError(f"{self.name} has no search by words, which hybrid() needs. Use nearest().")

    def check_average(self) -> None:
        """Raise NotSupportedError if the extension cannot average vectors."""
        if not self.averages:
            raise NotSupportedError(f"{self.name} has no average of vectors. Average them in numpy.")

    # What each engine fills in.

    def column_type(self, dimensions: int | None, storage: str) -> str:
        raise NotImplementedError

    def column_check(self, quoted_column: str, dimensions: int | None) -> str | None:
        """Return the condition of the column's CHECK constraint where the type itself holds no length."""
        return None

    def max_dimensions(self, storage: str) -> int:
        """Return how many dimensions a column may have."""
        raise NotImplementedError

    def encode(self, value: Value) -> str | bytes:
        """Return a value as a query parameter; `parameter` gives it its type."""
        raise NotImplementedError

    def cast(self, storage: str) -> str:
        """Return the type that a parameter is cast to."""
        raise NotImplementedError

    def parameter(self, storage: str) -> str:
        """Return the placeholder of a vector, cast to its type."""
        return f"%s::{self.cast(storage)}"

    def distance_sql(self, distance: str, left: str, right: str) -> str:
        """
        Return the distance between two vectors.

        Raises NotSupportedError if the extension has none.
        """
        return f"{left} {self.operator(distance)} {right}"

    def sent(self, sql: str, storage: str) -> str:
        """Return a column in the server's binary form, which is made for the rows that are returned alone."""
        # Postgres computes what is volatile above a Sort and a Limit; what is not, for every row that it sorts.
        return f"CASE WHEN clock_timestamp() IS NOT NULL THEN {self.send_function(storage)}({sql}) END"

    def send_function(self, storage: str) -> str:
        """Return the name of the function that gives a column in the server's binary form."""
        raise NotImplementedError

    def binary_encoder(self, storage: str) -> Callable[[Any], bytes]:
        """Return what writes a vector as a field of a binary COPY."""
        raise NotImplementedError

    def binary_form(self, storage: str) -> Form:
        """Return what writes and reads many vectors of one length as fields of a binary COPY."""
        raise NotImplementedError

    def converter(self, storage: str) -> Converter:
        """Return what Django calls with (value, expression, connection) for each value read."""
        raise NotImplementedError

    def max_indexed_dimensions(self, storage: str, precision: str | None, options: Mapping[str, int]) -> int:
        """Return how many dimensions an index with these options can hold."""
        raise NotImplementedError

    def fit_hint(self, storage: str, dimensions: int) -> str:
        """Tell how to make a vector of so many dimensions fit an index."""
        raise NotImplementedError

    def check_options(self, options: Mapping[str, int]) -> str | None:
        """Tell what is wrong between options that are each in range, or None."""
        return None

    def with_options(
        self, options: Mapping[str, int | None], dimensions: int, connection: BaseDatabaseWrapper
    ) -> list[str]:
        """Return the entries of the index's WITH clause."""
        raise NotImplementedError

    def before_create_index(self, model: type[Model], schema_editor: BaseDatabaseSchemaEditor) -> None:
        """Run what must stand before the index does."""

    def after_remove_index(self, model: type[Model], schema_editor: BaseDatabaseSchemaEditor) -> None:
        """Arrange what goes when the index has gone."""

    def scan_obstacle(self, connection: BaseDatabaseWrapper, table: int | None = None) -> str:
        """
        Say why no search may read an index now, "" where it may.

        table: the oid of the index's table; without it, only what hinders all tables is asked for.
        """
        return ""

    def unguarded_tables(self, connection: BaseDatabaseWrapper, tables: Collection[int]) -> set[int]:
        """Return those of some tables, by oid, whose indexes lack what this engine needs to read them safely."""
        return set()

    def unsound_tables(self, connection: BaseDatabaseWrapper, tables: Collection[int]) -> set[int]:
        """Return those of some tables, by oid, whose indexes all need a rebuild before anything may use them."""
        return set()

    def guard_table(self, connection: BaseDatabaseWrapper, quoted_table: str) -> None:
        """Make what this engine needs to read and write indexes of a table that were all rebuilt just now."""

    def mark_sound(self, connection: BaseDatabaseWrapper, table: int) -> None:
        """Note that every index of a table has been rebuilt."""

    def graph_size(self, opclass: str, rows: int, dimensions: int, options: Mapping[str, str]) -> int:
        """Return the bytes of memory that a build without waiting for the disk needs; 0 where none is held or known."""
        return 0

    def lists_memory(self, opclass: str, dimensions: int, options: Mapping[str, str]) -> int:
        """Return the bytes of memory in which the build of an IVFFlat index makes its lists."""
        raise NotImplementedError

    def lists_size(self, opclass: str, rows: int, dimensions: int, options: Mapping[str, str]) -> int:
        """Return the bytes of an IVFFlat index over so many rows that was just built."""
        raise NotImplementedError

    def index_size(self, opclass: str, rows: int, dimensions: int, options: Mapping[str, str]) -> int:
        """Return about how many bytes a new index takes on disk; 0 for vectors of unknown size."""
        raise NotImplementedError

    def candidates(self, k: int, precision: str | None) -> int:
        """Return how many rows of an index to rank again for k; 0 where its order is exact."""
        return 0

    def scan_gate(self, connection: BaseDatabaseWrapper, quoted_table: str, scan: Scan) -> tuple[str, list[Any]]:
        """Return a WHERE condition of an index scan: computed once for the statement, it sets what the scan needs."""
        raise NotImplementedError

    def fitted_ef_search(self, connection: BaseDatabaseWrapper, quoted_table: str, scan: Scan) -> int:
        """Return the ef_search of a scan when it runs; 0 where the index fixes it."""
        return scan.ef_search

    def scanning(self, connection: BaseDatabaseWrapper, quoted_table: str, scan: Scan) -> AbstractContextManager[None]:
        """Return what an index scan runs inside: the locks and settings that it needs must not outlast it."""
        return nullcontext()

    def indexed_expression(
        self, storage: str, distance: str, precision: str | None, dimensions: int
    ) -> tuple[str, str]:
        """
        Return the template of what an index holds of a column, and its operator class.

        Raises NotSupportedError if the extension cannot store, order or reduce vectors this way.
        """
        self.check_storage(storage)
        self.operator(distance)
        if distance not in self.opclasses[storage]:
            *names, last = (f'"{other}"' for other in self.opclasses[storage])
            raise NotSupportedError(
                f'An index of {self.column_type(None, storage)} has no distance "{distance}". '
                f"Use {', '.join(names)} or {last}."
            )
        if precision is not None:
            raise NotSupportedError(f"{self.name} has no index of {precision} precision. Leave precision out.")
        return "%s", self.opclasses[storage][distance]

    def sized(self, column: str, storage: str, dimensions: int) -> str:
        """
        Return a column of vectors of any length as an index of those of one length holds it.

        Another length counts as NULL: while a row of it is being deleted, a build still reads it, and must not fail.
        """
        one_length = f"CASE WHEN {self.length_function}({column}) = {dimensions:d} THEN {column} END"
        return f"(({one_length})::{self.column_type(dimensions, storage)})"

    def reduced_operands(self, distance: str, precision: str, dimensions: int) -> tuple[str, str, str]:
        """Return the templates of column and parameter, and the operator, by which an index is searched."""
        raise NotImplementedError

    def exact(self, sql: str) -> str:
        """Return the distance so that no index serves its order: the answer is exact and every row is read."""
        return f"(({sql}) + 0)"

    def ungated(self, sql: str) -> str:
        """Return a distance for use outside nearest(), where no scan_gate() protects an index scan."""
        return f"({sql})"


def pages_size(rows: int, element: int) -> int:
    """Return the bytes of pages of 8 kB that hold rows of one element each; an element does not cross pages."""
    return 8192 * -(-rows // max(1, (8192 - 32) // element))
