"""The extension `vector` (pgvector), the default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from pgembedding_django.engines.base import GRAPH, MAX_EF_SEARCH, Converter, Engine, IndexOption, Scan, pages_size
from pgembedding_django.vectors import Vector, to_vector, wire
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

#: Bytes of a row in the graph while it is built, beside its vector and 32 for each m. Measured through the server's
#: notice that the graph no longer fits, at 32 and 384 dimensions and m of 8, 16 and 48: within 0.5% (pgvector 0.8.5).
GRAPH_ROW = 196

_TYPES = {"single": "vector", "half": "halfvec"}
_INDEXED = {
    "single": 2000,
    "half": 4000,
    "binary": 64000,
}  # dimensions that fit an index page (pgvector 0.8 README, "HNSW")
#: Of a number, by the first word of the operator class.
BITS = {"vector": 32, "halfvec": 16, "bit": 1}

_FORMS = {"single": VectorForm(">f4"), "half": VectorForm(">f2")}
_DECODERS = {"single": wire.decode_vector, "half": wire.decode_halfvec}


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
    precisions = ("half", "binary")
    types_with_arrays = tuple(_TYPES.values())

    def column_type(self, dimensions: int | None, storage: str) -> str:
        return _TYPES[storage] if dimensions is None else f"{_TYPES[storage]}({dimensions})"

    def encode(self, vector: Vector) -> str:
        return wire.encode_text(vector)

    def cast(self, storage: str) -> str:
        return _TYPES[storage]

    def send_function(self, storage: str) -> str:
        return f"{_TYPES[storage]}_send"

    def binary_encoder(self, storage: str) -> Callable[[Vector], bytes]:
        return wire.pack_vector if storage == "single" else wire.pack_halfvec

    def binary_form(self, storage: str) -> Form:
        return _FORMS[storage]

    def converter(self, storage: str) -> Converter:
        decode = _DECODERS[storage]

        def convert(value: Any, expression: object, connection: BaseDatabaseWrapper) -> Vector | None:
            if isinstance(value, memoryview | bytes):
                return decode(value)
            if isinstance(value, str):
                return wire.decode_text(value)
            # A project may have told the driver to read vectors, as pgvector's register_vector() does.
            return None if value is None else to_vector(value)

        return convert

    def max_indexed_dimensions(self, storage: str, precision: str | None, options: Mapping[str, int]) -> int:
        return _INDEXED[precision or storage]

    def fit_hint(self, storage: str, dimensions: int) -> str:
        if storage == "single" and dimensions <= _INDEXED["half"]:
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
            for name, option in self.index_options.items()
            if option.server_name and options[name] is not None
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

    def candidates(self, k: int, precision: str | None) -> int:
        return CANDIDATES[precision] * k if precision else 0

    def scan_gate(self, connection: BaseDatabaseWrapper, quoted_table: str, scan: Scan) -> tuple[str, list[Any]]:
        # A sub-select that depends on no row runs before the scan that it gates, and the setting ends with the
        # statement in autocommit, behind a transaction pooler too; SET LOCAL does nothing there.
        settings = {"hnsw.ef_search": str(scan.ef_search)}
        if self.version(connection) >= ITERATIVE_SCAN_VERSION:
            settings["hnsw.iterative_scan"] = "strict_order" if scan.max_scan_tuples else "off"
            settings["hnsw.max_scan_tuples"] = str(
                min(scan.max_scan_tuples, MAX_SCAN_TUPLES) or DEFAULT_MAX_SCAN_TUPLES
            )
        gate = " || ".join("set_config(%s, %s, true)" for _ in settings)
        return f"(SELECT {gate}) IS NOT NULL", [text for setting in settings.items() for text in setting]

    def indexed_expression(
        self, storage: str, distance: str, precision: str | None, dimensions: int
    ) -> tuple[str, str]:
        if precision is None:
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


def _has_known_size(opclass: str) -> bool:
    """Tell whether each vector of an index takes the same space; a sparsevec takes what it holds."""
    return opclass.split("_")[0] in BITS


def _value_size(opclass: str, dimensions: int) -> int:
    return _aligned(8 + -(-dimensions * BITS[opclass.split("_")[0]] // 8))


def _aligned(size: int) -> int:
    return -(-size // 8) * 8
