"""The extension `vector` (pgvector), the default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from pgembedding_django import vectors
from pgembedding_django.engines.base import Converter, Engine, IndexOption
from pgembedding_django.vectors import Vector

#: The server's own default and bounds of hnsw.ef_search (pgvector 0.8, src/hnsw.h).
DEFAULT_EF_SEARCH = 40
MAX_EF_SEARCH = 1000

#: hnsw.iterative_scan came with pgvector 0.8.0.
ITERATIVE_SCAN_VERSION = (0, 8)

_TYPES = {"single": "vector", "half": "halfvec"}
_INDEXED = {"single": 2000, "half": 4000}  # dimensions that fit an index page (pgvector 0.8 README, "HNSW")
_DECODERS = {"single": vectors.decode_vector, "half": vectors.decode_halfvec}


class PgvectorEngine(Engine):
    name = "pgvector"
    extension = "vector"
    package = "pgvector"
    minimum_version = (0, 7)
    advised_version = (0, 8, 4)

    operators = {"l2": "<->", "cosine": "<=>", "l1": "<+>", "inner_product": "<#>"}
    opclasses = {
        "single": {
            "l2": "vector_l2_ops",
            "cosine": "vector_cosine_ops",
            "l1": "vector_l1_ops",
            "inner_product": "vector_ip_ops",
        },
        "half": {
            "l2": "halfvec_l2_ops",
            "cosine": "halfvec_cosine_ops",
            "l1": "halfvec_l1_ops",
            "inner_product": "halfvec_ip_ops",
        },
    }
    # Bounds: pgvector 0.8, src/hnsw.h. ef_search is a setting of the query here, not of the index.
    index_options = {
        "m": IndexOption("m", 2, 100),
        "ef_construction": IndexOption("ef_construction", 4, 1000),
        "ef_search": IndexOption("", 1, MAX_EF_SEARCH),
        "max_elements": IndexOption("", 1, 2**31 - 1),
    }
    max_dimensions = 16000
    length_function = "vector_dims"

    def column_type(self, dimensions: int | None, storage: str) -> str:
        return _TYPES[storage] if dimensions is None else f"{_TYPES[storage]}({dimensions})"

    def encode(self, vector: Vector) -> str:
        return vectors.encode_text(vector)

    def cast(self, storage: str) -> str:
        return _TYPES[storage]

    def binary_select(self, storage: str) -> str:
        return f"{_TYPES[storage]}_send(%s)"

    def converter(self, storage: str) -> Converter:
        decode = _DECODERS[storage]

        def convert(value: Any, expression: object, connection: BaseDatabaseWrapper) -> Vector | None:
            if value is None:
                return None
            return vectors.decode_text(value) if isinstance(value, str) else decode(value)

        return convert

    def max_indexed_dimensions(self, storage: str, options: Mapping[str, int]) -> int:
        return _INDEXED[storage]

    def fit_hint(self, storage: str, dimensions: int) -> str:
        if storage == "single" and dimensions <= _INDEXED["half"]:
            return 'Use storage="half", which can be indexed up to 4000 dimensions, or fewer dimensions.'
        return "Ask the embedder for fewer dimensions."

    def check_options(self, options: Mapping[str, int]) -> str | None:
        m, ef_construction = options.get("m", 16), options.get("ef_construction", 64)
        if ef_construction < 2 * m:
            return f"ef_construction must be at least 2 * m = {2 * m}, got {ef_construction}"
        return None

    def with_options(
        self, options: Mapping[str, int | None], dimensions: int, connection: BaseDatabaseWrapper
    ) -> list[str]:
        return [
            f"{option.server_name} = {options[name]:d}"
            for name, option in self.index_options.items()
            if option.server_name and options[name] is not None
        ]

    def scan_gate(
        self, connection: BaseDatabaseWrapper, quoted_table: str, k: int, ef_search: int | None
    ) -> tuple[str, list[Any]] | None:
        # A sub-select that depends on no row runs before the scan that it gates, and the setting ends with the
        # statement in autocommit, behind a transaction pooler too; SET LOCAL does nothing there.
        candidates = ef_search or min(max(k, DEFAULT_EF_SEARCH), MAX_EF_SEARCH)
        gate = "(SELECT set_config('hnsw.ef_search', %s, true)) IS NOT NULL"
        if self.version(connection) >= ITERATIVE_SCAN_VERSION:
            gate += " AND (SELECT set_config('hnsw.iterative_scan', 'strict_order', true)) IS NOT NULL"
        return gate, [str(candidates)]
