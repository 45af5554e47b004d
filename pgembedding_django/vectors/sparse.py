"""SparseVector: the numbers of a long vector that are not zero, and their places."""

from __future__ import annotations

import re
from collections.abc import Mapping
from struct import Struct
from typing import Any, TypeAlias, cast

import numpy as np
import orjson
from numpy.typing import NDArray

from pgembedding_django.vectors.conversion import InvalidVector, VectorLike, to_floats

#: What a SparseVectorField takes for a vector; scipy's arrays and pgvector's SparseVector too.
SparseLike: TypeAlias = "SparseVector | Mapping[int, float] | VectorLike | Any"

#: The most numbers besides zeros, and the most dimensions, that the server stores (pgvector 0.8, src/sparsevec.h).
MAX_NUMBERS = 16_000
MAX_DIMENSIONS = 1_000_000_000

#: "{1:1.5,3:2}/5": places counted from 1, and the dimensions.
TEXT = re.compile(r"\s*\{(?P<numbers>[^{}]*)\}\s*/\s*(?P<dimensions>\d+)\s*")

_HEADER = Struct(">iii")
_INT4, _FLOAT4 = np.dtype(">i4"), np.dtype(">f4")


class SparseVector:
    """
    Hold a vector of which most numbers are zero. It cannot be changed.

    value: {place: number}, places from 0, with `dimensions`; or every number, as a list or an array; or scipy's sparse
        array of one row; or pgvector's SparseVector; or the server's text, "{1:1.5,3:2}/5".
    `==` is true for an equal vector, pgvector's too. `str()` is the server's text, with every number.
    Raises InvalidVector, a ValueError, for what is no vector.
    """

    __slots__ = ("_dimensions", "_indices", "_values")
    __module__ = "pgembedding_django"

    def __init__(self, value: SparseLike, dimensions: int | None = None, /) -> None:
        indices, values, length = _parts(value, dimensions)
        order = np.argsort(indices, kind="stable")
        order = order[values[order] != 0]
        self._indices, self._values, self._dimensions = indices[order].astype(np.int32), values[order], length
        self._check()

    def _check(self) -> None:
        indices = self._indices
        if not 1 <= self._dimensions <= MAX_DIMENSIONS:
            raise _invalid(f"must have from 1 to {MAX_DIMENSIONS:,} dimensions, got {self._dimensions}")
        if indices.size and not 0 <= indices[0] <= indices[-1] < self._dimensions:
            raise _invalid(f"must have places from 0 to {self._dimensions - 1}, got {indices[0]} to {indices[-1]}")
        if (indices[1:] == indices[:-1]).any():
            raise _invalid("must name each place once")
        if indices.size > MAX_NUMBERS:
            raise _invalid(f"must have at most {MAX_NUMBERS:,} numbers that are not zero, got {indices.size:,}")

    def dimensions(self) -> int:
        """Return the length of the vector, zeros counted."""
        return self._dimensions

    def indices(self) -> list[int]:
        """Return the places of the numbers that are not zero, from 0, ascending."""
        return cast(list[int], self._indices.tolist())

    def values(self) -> list[float]:
        """Return the numbers that are not zero, in the order of their places."""
        return cast(list[float], self._values.tolist())

    def to_list(self) -> list[float]:
        """Return every number, zeros too."""
        return cast(list[float], self.to_numpy().tolist())

    def to_numpy(self) -> NDArray[np.float32]:
        """Return every number, zeros too, as an array of shape (dimensions,)."""
        dense = np.zeros(self._dimensions, np.float32)
        dense[self._indices] = self._values
        return dense

    def to_coo(self) -> Any:
        """Return scipy's sparse array of one row."""
        from scipy.sparse import coo_array

        places = (np.zeros(self._indices.size, np.int32), self._indices)
        return coo_array((self._values, places), shape=(1, self._dimensions))

    def to_text(self) -> str:
        """Return the server's text: "{1:1.5,3:2.0}/5", places from 1."""
        numbers = orjson.dumps(self._values, option=orjson.OPT_SERIALIZE_NUMPY).decode()[1:-1].split(",")
        pairs = ",".join(f"{place + 1}:{number}" for place, number in zip(self.indices(), numbers, strict=False))
        return f"{{{pairs}}}/{self._dimensions}"

    def to_binary(self) -> bytes:
        """Return what the server reads in a binary COPY."""
        header = _HEADER.pack(self._dimensions, self._indices.size, 0)
        return b"".join((header, self._indices.astype(_INT4).tobytes(), self._values.astype(_FLOAT4).tobytes()))

    @classmethod
    def from_binary(cls, data: bytes | memoryview) -> SparseVector:
        """Return what the server wrote in binary: dimensions, how many numbers, zero, their places, the numbers."""
        vector = cls.__new__(cls)
        vector._dimensions, count, _ = _HEADER.unpack_from(data)
        vector._indices = np.frombuffer(data, _INT4, count, _HEADER.size).astype(np.int32)
        vector._values = np.frombuffer(data, _FLOAT4, count, _HEADER.size + 4 * count).astype(np.float32)
        return vector

    def deconstruct(self) -> tuple[str, list[str], dict[str, Any]]:
        """Return how a migration writes the vector."""
        return "pgembedding_django.SparseVector", [str(self)], {}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SparseVector):
            if not _is_pgvector(other):
                return NotImplemented
            other = SparseVector(other)
        return (
            self._dimensions == other._dimensions
            and np.array_equal(self._indices, other._indices)
            and np.array_equal(self._values, other._values)
        )

    def any(self) -> bool:
        """Tell whether the vector has a direction, as an array's method of this name does."""
        return bool(self._indices.size)

    def __copy__(self) -> SparseVector:
        return self

    def __deepcopy__(self, memo: object) -> SparseVector:
        return self

    def __hash__(self) -> int:
        return hash((self._dimensions, self._indices.tobytes(), self._values.tobytes()))

    def __reduce__(self) -> tuple[type[SparseVector], tuple[str]]:
        return type(self), (str(self),)

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return f"SparseVector({self._indices.size} of {self._dimensions:,} numbers)"


def to_sparse(value: SparseLike, *, name: str = "vector", dimensions: int | None = None) -> SparseVector:
    """
    Return a value as a SparseVector, or tell what is wrong with it.

    name: what the message calls the value. dimensions: the length that the value must have.
    Raises InvalidVector.
    """
    try:
        vector = value if isinstance(value, SparseVector) else SparseVector(value, *_of_mapping(value, dimensions))
    except InvalidVector as error:
        raise InvalidVector(error.message, error.code, {**error.params, "name": name}) from error
    if dimensions is not None and vector.dimensions() != dimensions:
        raise InvalidVector(
            "%(name)s must have %(dimensions)d dimensions, got %(got)d.",
            "dimensions",
            {"name": name, "dimensions": dimensions, "got": vector.dimensions()},
        )
    return vector


def _of_mapping(value: object, dimensions: int | None) -> tuple[int, ...]:
    return (dimensions,) if isinstance(value, Mapping) and dimensions is not None else ()


def _parts(value: Any, dimensions: int | None) -> tuple[NDArray[Any], NDArray[np.float32], int]:
    """Return places, numbers and dimensions, as they came."""
    if isinstance(value, Mapping):
        if dimensions is None:
            raise _invalid("must be given with its dimensions, as SparseVector({0: 1.5}, 5)")
        return _places(list(value)), _numbers(list(value.values())), dimensions
    if dimensions is not None:
        raise _invalid("takes dimensions with {place: number} alone")
    if isinstance(value, str) and (match := TEXT.fullmatch(value)):
        return _parse(match)
    if _is_pgvector(value):
        return _places(value.indices()), _numbers(value.values()), value.dimensions()
    if hasattr(value, "tocoo"):
        coo = value.tocoo()
        if coo.ndim == 2 and coo.shape[0] != 1:
            raise _invalid(f"must be one row, got shape {coo.shape}")
        return np.asarray(coo.coords[-1]), _numbers(coo.data), coo.shape[-1]
    dense = to_floats(value, name="SparseVector", dimensions=None, half=False)
    places = np.flatnonzero(dense)
    return places, dense[places], dense.size


def _parse(match: re.Match[str]) -> tuple[NDArray[Any], NDArray[np.float32], int]:
    pairs = [pair.split(":") for pair in match["numbers"].split(",") if pair.strip()]
    try:
        places, numbers = [int(place) - 1 for place, _ in pairs], [float(number) for _, number in pairs]
    except ValueError:
        raise _invalid('must be a text such as "{1:1.5,3:2}/5"') from None
    return _places(places), _numbers(numbers), int(match["dimensions"])


def _places(places: list[Any]) -> NDArray[Any]:
    array = np.asarray(places) if len(places) else np.empty(0, np.int64)
    if array.dtype.kind not in "iu":
        raise _invalid("must have integers for places")
    return array


def _numbers(numbers: Any) -> NDArray[np.float32]:
    if not len(numbers):
        return np.empty(0, np.float32)
    return np.asarray(to_floats(numbers, name="SparseVector", dimensions=None, half=False))


def _is_pgvector(value: object) -> bool:
    """Tell whether a value is a SparseVector of pgvector's Python package, which need not be installed."""
    return type(value).__name__ == "SparseVector" and all(
        hasattr(value, name) for name in ("indices", "values", "dimensions")
    )


def _invalid(rule: str) -> InvalidVector:
    return InvalidVector(f"%(name)s {rule}.", "sparse", {"name": "SparseVector"})
