"""SQLite, for tests and small tables: vectors as blobs, distances as functions of the connection, no index."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import numpy as np
from django.db.backends.base.base import BaseDatabaseWrapper

from pgembedding_django.engines.base import MAX_EF_SEARCH, Converter, Engine, IndexOption, Value
from pgembedding_django.engines.servers import PLAIN, Server
from pgembedding_django.vectors import Vector, to_vector

__all__ = ["SqliteEngine", "add_functions"]

#: The prefix of the functions that a connection gets.
PREFIX = "pgembedding_"


class SqliteEngine(Engine):
    name = "sqlite"
    extension = package = ""
    minimum_version: ClassVar[tuple[int, ...]] = ()
    advised_version: ClassVar[tuple[int, ...]] = ()

    operators: ClassVar[Mapping[str, str]] = dict.fromkeys(("l2", "cosine", "l1", "inner_product"), "")
    # The names are those of pgvector, so that a declaration serves on both; none is ever written.
    opclasses: ClassVar[Mapping[str, Mapping[str, str]]] = {"single": {}, "half": {}}
    index_options: ClassVar[Mapping[str, IndexOption]] = {
        "m": IndexOption("", 2, 100),
        "ef_construction": IndexOption("", 4, 1000),
        "ef_search": IndexOption("", 1, MAX_EF_SEARCH),
        "max_elements": IndexOption("", 1, 2**31 - 1),
    }
    length_function = f"{PREFIX}dimensions"
    averages = False
    # SQLite has no NaN.
    undefined_is_nan = False
    direction = f"{PREFIX}has_direction(%s)"
    indexes = False
    copies = False
    shares_rows = False
    searches_words = False

    def server(self, connection: BaseDatabaseWrapper) -> Server:
        return PLAIN

    def max_dimensions(self, storage: str) -> int:
        return 16_000

    def column_type(self, dimensions: int | None, storage: str) -> str:
        self.check_storage(storage)
        return "BLOB"

    def encode(self, value: Value) -> bytes:
        return cast(Vector, value).astype("<f4").tobytes()

    def parameter(self, storage: str) -> str:
        return "%s"

    def sent(self, sql: str, storage: str) -> str:
        return sql

    def distance_sql(self, distance: str, left: str, right: str) -> str:
        return f"{PREFIX}{distance}({left}, {right})"

    def sized(self, column: str, storage: str, dimensions: int) -> str:
        return f"CASE WHEN {self.length_function}({column}) = {dimensions:d} THEN {column} END"

    def exact(self, sql: str) -> str:
        return sql

    def ungated(self, sql: str) -> str:
        return sql

    def converter(self, storage: str) -> Converter:
        def convert(value: Any, expression: object, connection: BaseDatabaseWrapper) -> Vector | None:
            return None if value is None else to_vector(bytes(value) if isinstance(value, memoryview) else value)

        return convert


def add_functions(connection: BaseDatabaseWrapper, **kwargs: object) -> None:
    """Give a new connection to SQLite the distances, and what makes the text and the digest of a row."""
    if connection.vendor != "sqlite":
        return
    for distance, measure in _MEASURES.items():
        _add(connection, distance, 2, _measured(measure))
    _add(connection, "dimensions", 1, lambda data: None if data is None else len(data) // 4)
    _add(connection, "has_direction", 1, lambda data: data is not None and bool(np.frombuffer(data, "<f4").any()))
    _add(connection, "strip", 2, lambda text, blanks: None if text is None else str(text).strip(blanks) or None)
    _add(connection, "join", -1, lambda joint, *texts: joint.join(text for text in texts if text is not None))
    _add(connection, "sha256", 1, lambda text: hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())


def _add(connection: BaseDatabaseWrapper, name: str, arguments: int, function: Callable[..., object]) -> None:
    connection.connection.create_function(f"{PREFIX}{name}", arguments, function, deterministic=True)


def _measured(measure: Callable[[Any, Any], Any]) -> Callable[[bytes | None, bytes | None], float | None]:
    def distance(left: bytes | None, right: bytes | None) -> float | None:
        if left is None or right is None:
            return None
        return float(measure(np.frombuffer(left, "<f4"), np.frombuffer(right, "<f4")))

    return distance


def _cosine(left: Any, right: Any) -> Any:
    norms = np.sqrt(np.dot(left, left) * np.dot(right, right))
    # SQLite has no NaN: it becomes NULL, as of a row without a vector.
    return 1 - np.clip(np.dot(left, right) / norms, -1, 1) if norms else np.nan


_MEASURES: dict[str, Callable[[Any, Any], Any]] = {
    "l2": lambda left, right: np.linalg.norm(left - right),
    "cosine": _cosine,
    "l1": lambda left, right: np.abs(left - right).sum(),
    "inner_product": lambda left, right: -np.dot(left, right),
}
