"""The types that pgvector brings, and how a value of each travels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from pgembedding_django.engines.base import Converter
from pgembedding_django.vectors import SparseVector, to_vector, wire
from pgembedding_django.vectors.bits import pack_bits

__all__ = ["TYPES", "ServerType"]


@dataclass(frozen=True)
class ServerType:
    """
    A type of the server for vectors.

    cast: what a parameter is cast to. opclasses: of an HNSW index, by distance. ivfflat: the distances that an IVFFlat
    index knows. max_dimensions: that a column holds. indexed_dimensions: that fit a page of an HNSW index.
    send: the function that gives a value in binary, "" where text is as good. pack: writes a field of a binary COPY.
    convert: makes a value of what the driver delivers.
    """

    name: str
    cast: str
    opclasses: Mapping[str, str]
    ivfflat: tuple[str, ...]
    max_dimensions: int
    indexed_dimensions: int
    send: str
    pack: Callable[[Any], bytes]
    convert: Converter


def _opclasses(prefix: str) -> dict[str, str]:
    words = {"l2": "l2", "cosine": "cosine", "l1": "l1", "inner_product": "ip"}
    return {distance: f"{prefix}_{word}_ops" for distance, word in words.items()}


def _converter(
    decode: Callable[[bytes | memoryview], Any], parse: Callable[[str], Any], convert: Callable[[Any], Any]
) -> Converter:
    """Return what reads a value by its form; nearly every one is binary."""

    def read(value: Any, expression: object, connection: BaseDatabaseWrapper) -> Any:
        if isinstance(value, memoryview | bytes):
            return decode(value)
        if isinstance(value, str):
            return parse(value)
        # A project may have told the driver to read vectors, as pgvector's register_vector() does.
        return None if value is None else convert(value)

    return read


def _as_it_is(value: Any, expression: object, connection: BaseDatabaseWrapper) -> Any:
    return value


def _dense(
    name: str, indexed_dimensions: int, pack: Callable[[Any], bytes], decode: Callable[[bytes | memoryview], Any]
) -> ServerType:
    return ServerType(
        name=name,
        cast=name,
        opclasses=_opclasses(name),
        ivfflat=("l2", "cosine", "inner_product"),
        max_dimensions=16_000,
        indexed_dimensions=indexed_dimensions,
        send=f"{name}_send",
        pack=pack,
        convert=_converter(decode, wire.decode_text, to_vector),
    )


# Bounds: pgvector 0.8 README, "Reference" and "HNSW"; of bits, Postgres' own.
TYPES = {
    "single": _dense("vector", 2_000, wire.pack_vector, wire.decode_vector),
    "half": _dense("halfvec", 4_000, wire.pack_halfvec, wire.decode_halfvec),
    "sparse": ServerType(
        name="sparsevec",
        cast="sparsevec",
        opclasses=_opclasses("sparsevec"),
        ivfflat=(),
        max_dimensions=1_000_000_000,
        indexed_dimensions=1_000_000_000,
        send="sparsevec_send",
        pack=SparseVector.to_binary,
        convert=_converter(SparseVector.from_binary, SparseVector, SparseVector),
    ),
    "bit": ServerType(
        name="bit",
        # A cast to bit without a length would cut off all bits but the first.
        cast="varbit",
        opclasses={"hamming": "bit_hamming_ops", "jaccard": "bit_jaccard_ops"},
        ivfflat=("hamming",),
        max_dimensions=83_886_080,
        indexed_dimensions=64_000,
        send="",
        pack=pack_bits,
        convert=_as_it_is,
    ),
}
