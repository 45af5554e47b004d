"""
The extension `vector` (pgvector), the default.

Longer than other modules: it fills in each method of Engine, and half of them have two kinds of index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from django.db import NotSupportedError
from django.db.backends.base.base import BaseDatabaseWrapper

from pgembedding_django.engines.base import (
    GRAPH,
    MAX_EF_SEARCH,
    Converter,
    Engine,
    IndexOption,
    Value,
    pages_size,
)
from pgembedding_django.engines.pgvector_types import TYPES
from pgembedding_django.engines.scan import EF_SEARCH, EF_SEARCH_OF_ROWS, Scan, fitting_ef_search
from pgembedding_django.engines.servers import Parts
from pgembedding_django.vectors import wire
from pgembedding_django.vectors.matrices import Form, VectorForm

#: Rows of an index of reduced precision that are ranked again for each row wanted. Of 100,000 rows of 384 dimensions,
#: 20 of binary precision found 0.980 of the ten nearest, 28 found 0.991, 32 found 0.995 in 1.2 times the time of 20,
#: 40 found 0.996 in 1.4 times; half precision lost nothing to its order: 1, 2 and 4 found the same (benchmarks/).
CANDIDATES = {"half": 2, "binary": 32}

#: The server's own default of hnsw.max_scan_tuples.
DEFAULT_MAX_SCAN_TUPLES = 20_000

#: The bound of hnsw.max_scan_tuples (pgvector 0.8, src/hnsw.c).
MAX_SCAN_TUPLES = 2**31 - 1

#: hnsw.iterative_scan came with pgvector 0.8.0.
ITERATIVE_SCAN_VERSION = (0, 8)

#: The bound of lists, and of ivfflat.probes (pgvector 0.8, src/ivfflat.h).
MAX_LISTS = 32_768

#: The server's own number of lists (pgvector 0.8, src/ivfflat.h), and rows of which it makes them (src/ivfbuild.c).
DEFAULT_LISTS, ROWS_PER_LIST, SMALLEST_SAMPLE = 100, 50, 10_000

#: Bytes of a row in the graph while it is built, beside its vector and 32 for each m. Measured through the server's
#: notice that the graph no longer fits, at 32 and 384 dimensions and m of 8, 16 and 48: within 0.5% (pgvector 0.8.5).
GRAPH_ROW = 196

#: Of a number, by the first word of the operator class.
BITS = {"vector": 32, "halfvec": 16, "bit": 1}

_FORMS = {"single": VectorForm(">f4"), "half": VectorForm(">f2")}
#: Dimensions that fit a page of an index of signs (pgvector 0.8 README, "HNSW").
BINARY_DIMENSIONS = 64_000


#: ef_search for the rows of a table, as the last ANALYZE, VACUUM or build counted them. Parameters: the least that it
#: may be, the quoted name of the table.
FITTING = (
    "(SELECT greatest(%s, coalesce(max(CASE "
    + " ".join(f"WHEN reltuples BETWEEN 1 AND {most} THEN {kept}" for most, kept in EF_SEARCH_OF_ROWS.items())
    + f" END), {EF_SEARCH}))::text FROM pg_class WHERE oid = to_regclass(%s))"
)


class PgvectorEngine(Engine):
    name = "pgvector"
    extension = "vector"
    package = "pgvector"
    minimum_version: ClassVar[tuple[int, ...]] = (0, 7)
    advised_version: ClassVar[tuple[int, ...]] = (0, 8, 4)
    loading_type: ClassVar[str] = "vector"
    prefixes: ClassVar[tuple[str, ...]] = ("hnsw", "ivfflat")

    # The last one's percent sign is doubled, as in every statement with parameters.
    operators: ClassVar[Mapping[str, str]] = {
        "l2": "<->",
        "cosine": "<=>",
        "l1": "<+>",
        "inner_product": "<#>",
        "hamming": "<~>",
        "jaccard": "<%%>",
    }
    opclasses: ClassVar[Mapping[str, Mapping[str, str]]] = {storage: each.opclasses for storage, each in TYPES.items()}
    # Bounds: pgvector 0.8, src/hnsw.h. ef_search is a setting of the query here, not of the index.
    index_options: ClassVar[Mapping[str, IndexOption]] = {
        "m": IndexOption("m", 2, 100),
        "ef_construction": IndexOption("ef_construction", 4, 1000),
        "ef_search": IndexOption("", 1, MAX_EF_SEARCH),
        "max_elements": IndexOption("", 1, 2**31 - 1),
    }
    ivfflat_options: ClassVar[Mapping[str, IndexOption]] = {
        "lists": IndexOption("lists", 1, MAX_LISTS, DEFAULT_LISTS),
        "probes": IndexOption("", 1, MAX_LISTS),
    }
    length_function = "vector_dims"
    precisions: ClassVar[tuple[str, ...]] = ("half", "binary")
    types_with_arrays: ClassVar[tuple[str, ...]] = tuple(each.name for each in TYPES.values() if each.send)

    def check_method(self, method: str, storage: str, distance: str) -> None:
        known = TYPES[storage].ivfflat
        if method == "ivfflat" and distance not in known:
            use = f"Use {' or '.join(known)}, or an HnswIndex" if known else "Use an HnswIndex"
            raise NotSupportedError(f'An IvfflatIndex of {TYPES[storage].name} has no distance "{distance}". {use}.')

    def column_type(self, dimensions: int | None, storage: str) -> str:
        name = TYPES[storage].name
        return name if dimensions is None else f"{name}({dimensions})"

    def max_dimensions(self, storage: str) -> int:
        return TYPES[storage].max_dimensions

    def encode(self, value: Value) -> str:
        return wire.encode_text(value) if isinstance(value, np.ndarray) else str(value)

    def cast(self, storage: str) -> str:
        return TYPES[storage].cast

    def sent(self, sql: str, storage: str) -> str:
        return super().sent(sql, storage) if TYPES[storage].send else sql

    def send_function(self, storage: str) -> str:
        return TYPES[storage].send

    def binary_encoder(self, storage: str) -> Callable[[Any], bytes]:
        return TYPES[storage].pack

    def binary_form(self, storage: str) -> Form:
        return _FORMS[storage]

    def converter(self, storage: str) -> Converter:
        return TYPES[storage].convert

    def max_indexed_dimensions(self, storage: str, precision: str | None, options: Mapping[str, int]) -> int:
        return BINARY_DIMENSIONS if precision == "binary" else TYPES[precision or storage].indexed_dimensions

    def fit_hint(self, storage: str, dimensions: int) -> str:
        if storage == "single" and dimensions <= TYPES["half"].indexed_dimensions:
            return 'Give the index precision="half", which holds up to 4000 dimensions, or ask for fewer dimensions.'
        return "Ask the embedder for fewer dimensions."

    def check_options(self, options: Mapping[str, int]) -> str | None:
        m, ef_construction = (options.get(name, default) for name, default in GRAPH.items())
        if ef_construction < 2 * m:
            return f"ef_construction must be at least 2 * m = {2 * m}, got {ef_construction}"
        return None

    def with_options(
        self, options: Mapping[str, int | None], dimensions: int, connection: BaseDatabaseWrapper
    ) -> list[str]:
        return [
            f"{option.server_name} = {options[name]:d}"
            for name, option in {**self.index_options, **self.ivfflat_options}.items()
            if option.server_name and options.get(name) is not None
        ]

    def graph_size(self, opclass: str, rows: int, dimensions: int, options: Mapping[str, str]) -> int:
        if not _has_known_size(opclass):
            return 0
        m = int(options.get("m", GRAPH["m"]))
        return rows * (_value_size(opclass, dimensions) + 32 * m + GRAPH_ROW)

    def index_size(self, opclass: str, rows: int, dimensions: int, options: Mapping[str, str]) -> int:
        if not _has_known_size(opclass):
            return 0
        # An element, the tuple of its links, and their two line pointers (pgvector 0.8, src/hnsw.h).
        m = int(options.get("m", GRAPH["m"]))
        return pages_size(rows, 72 + _value_size(opclass, dimensions) + _aligned(4 + 12 * m) + 8)

    def lists_memory(self, opclass: str, dimensions: int, options: Mapping[str, str]) -> int:
        # What k-means holds (pgvector 0.8, src/ivfkmeans.c): the rows of its sample, the centres of the lists twice and
        # once in single precision, and bounds of distances from rows to centres and between centres.
        lists, item = int(options.get("lists", DEFAULT_LISTS)), _value_size(opclass, dimensions)
        sample = max(ROWS_PER_LIST * lists, SMALLEST_SAMPLE)
        rows, centres = sample * (item + 4 * lists + 8), lists * (2 * item + 4 * dimensions + 12)
        return rows + centres + 4 * lists**2

    def lists_size(self, opclass: str, rows: int, dimensions: int, options: Mapping[str, str]) -> int:
        # An entry, its header and line pointer; the last page of each list is half full, as the lists differ in length.
        lists = int(options.get("lists", DEFAULT_LISTS))
        entry = 8 + _value_size(opclass, dimensions) + 4
        return pages_size(rows, entry) + 8192 * (lists // 2) + pages_size(lists, entry + 8)

    def candidates(self, k: int, precision: str | None) -> int:
        return CANDIDATES[precision] * k if precision else 0

    def scan_gate(self, connection: BaseDatabaseWrapper, quoted_table: str, scan: Scan) -> tuple[str, list[Any]]:
        settings = self._settings(connection, scan)
        if not settings or not self._sets_in_statement(connection, scan):
            return "true", []  # There are none, or scanning() makes them.
        # A sub-select that depends on no row runs before the scan that it gates, and the setting ends with the
        # statement in autocommit, behind a transaction pooler too; SET LOCAL does nothing there.
        params: list[Any] = [text for setting in settings.items() for text in setting]
        calls = ["set_config(%s, %s, true)"] * len(settings)
        if scan.fits_table and "hnsw.ef_search" in settings:
            calls[0] = f"set_config(%s, {FITTING}, true)"
            params[1:2] = [scan.ef_search, quoted_table]
        return f"(SELECT {' || '.join(calls)}) IS NOT NULL", params

    def scanning(self, connection: BaseDatabaseWrapper, quoted_table: str, scan: Scan) -> AbstractContextManager[None]:
        if not scan.index or self._sets_in_statement(connection, scan):
            return super().scanning(connection, quoted_table, scan)
        fitted = replace(scan, ef_search=self.fitted_ef_search(connection, quoted_table, scan))
        return self.server(connection).setting(connection, self._settings(connection, fitted))

    def fitted_ef_search(self, connection: BaseDatabaseWrapper, quoted_table: str, scan: Scan) -> int:
        if parts := self.server(connection).parts(connection, quoted_table):
            return _of_part(scan, parts)
        if not scan.fits_table:
            return scan.ef_search
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {FITTING}", [scan.ef_search, quoted_table])
            return int(cursor.fetchone()[0])

    def _sets_in_statement(self, connection: BaseDatabaseWrapper, scan: Scan) -> bool:
        return scan.parts == 1 or self.server(connection).settings_in_statement

    def _settings(self, connection: BaseDatabaseWrapper, scan: Scan) -> dict[str, str]:
        """Return the settings that a scan needs, the number of candidates first, without those that are not known."""
        iterative = self.version(connection) >= ITERATIVE_SCAN_VERSION
        settings = _lists_settings(scan, iterative) if scan.probes else _graph_settings(scan, iterative)
        return {name: value for name, value in settings.items() if self.knows_setting(connection, name)}

    def indexed_expression(
        self, storage: str, distance: str, precision: str | None, dimensions: int
    ) -> tuple[str, str]:
        if precision is None or storage not in ("single", "half") or distance not in self.opclasses["half"]:
            return super().indexed_expression(storage, distance, precision, dimensions)
        column, _, _ = self.reduced_operands(distance, precision, dimensions)
        opclass = self.opclasses["half"][distance] if precision == "half" else "bit_hamming_ops"
        return f"({column})", opclass

    def reduced_operands(self, distance: str, precision: str, dimensions: int) -> tuple[str, str, str]:
        if precision == "half":
            return f"(%s::halfvec({dimensions}))", "%s::halfvec", self.operator(distance)
        # Signs alone: the Hamming distance stands for each of the others.
        quantized = f"binary_quantize(%s)::bit({dimensions})"
        return f"({quantized})", quantized, "<~>"


def _of_part(scan: Scan, parts: Parts) -> int:
    """
    Return how many candidates each part of a table keeps, where the search does not say.

    Its share twice, since the nearest may lie together, and no fewer than half of what a table of its size needs. Of
    50,000 rows of 128 dimensions in 8 shards, 40 for each found 0.996 of the ten nearest and 60 found all, as 200 did
    of the same rows on one server; where the ten lay in one shard, 50 found 0.998 (pgvector 0.8.5).
    """
    if scan.is_fixed:
        return scan.ef_search
    whole = max(scan.ef_search, fitting_ef_search(parts.number * parts.rows) if scan.fits_table else 0)
    return min(whole, max(fitting_ef_search(parts.rows) // 2, 2 * whole // (scan.parts or parts.number)))


def _graph_settings(scan: Scan, iterative: bool) -> dict[str, str]:
    settings = {"hnsw.ef_search": str(scan.ef_search)}
    if iterative:
        settings["hnsw.iterative_scan"] = "strict_order" if scan.max_scan_tuples else "off"
        settings["hnsw.max_scan_tuples"] = str(min(scan.max_scan_tuples, MAX_SCAN_TUPLES) or DEFAULT_MAX_SCAN_TUPLES)
    return settings


def _lists_settings(scan: Scan, iterative: bool) -> dict[str, str]:
    settings = {"ivfflat.probes": str(scan.probes)}
    # Going on, the scan would give rows out of order.
    return {**settings, "ivfflat.iterative_scan": "off"} if iterative else settings


def _has_known_size(opclass: str) -> bool:
    """Tell whether each vector of an index takes the same space; a sparsevec takes what it holds."""
    return opclass.split("_")[0] in BITS


def _value_size(opclass: str, dimensions: int) -> int:
    return _aligned(8 + -(-dimensions * BITS[opclass.split("_")[0]] // 8))


def _aligned(size: int) -> int:
    return -(-size // 8) * 8
