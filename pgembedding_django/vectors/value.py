"""The value of a field: an array that Django and the packages around it can treat as one value."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from pgembedding_django.vectors.conversion import InvalidVector, to_floats
from pgembedding_django.vectors.sparse import SparseVector

#: How many numbers repr() shows.
SHOWN = 6


class Vector(np.ndarray[tuple[int], np.dtype[np.float32]]):
    """
    Hold an embedding: an ndarray of float32, shape (d,), that counts as one value.

    value: whatever an EmbeddingField takes: a sequence of numbers, an array, text such as "[1,2,3]", bytes.
    `==` and `!=` give one truth value for an array, a sequence, text and None: whether the field would hold the same
        vector after it was assigned. Compared with a number, they go element by element, as arrays do.
    `bool()` is True. `str()` is JSON with every number, and `repr()` is short. Iteration gives Python's floats.
    Arithmetic, slices and numpy's functions give plain arrays. Like every array it can be changed, and has no hash.
    Raises InvalidVector, a ValueError, for what is no vector.
    """

    __slots__ = ()
    # What a pickle names, wherever the module moves.
    __module__ = "pgembedding_django"
    __hash__ = None

    def __new__(cls, value: object) -> Self:
        return to_floats(value, name="Vector", dimensions=None, half=False).copy().view(cls)

    def __eq__(self, other: object) -> Any:
        if other is None or isinstance(other, str | bytes | bytearray | Mapping | Set):
            return np.False_
        if isinstance(other, numbers.Number | np.generic) or (isinstance(other, np.ndarray) and not other.ndim):
            return np.asarray(self) == other
        if not _is_sequence(other):
            return NotImplemented
        return np.bool_(self._equals(other))

    def __ne__(self, other: object) -> Any:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else ~equal

    def _equals(self, other: Any) -> bool:
        if not isinstance(other, np.ndarray) or other.dtype != np.float32:
            try:
                other = to_floats(other, name="Vector", dimensions=None, half=False)
            except InvalidVector:
                return False
        return np.array_equal(np.asarray(self), np.asarray(other))

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[float]:  # type: ignore[override]
        return iter(self.tolist())

    def __getitem__(self, key: Any, /) -> Any:
        return np.asarray(self)[key]

    def __str__(self) -> str:
        """Return "[0.1,2.0]": the shortest decimal text that reads back as the same float32."""
        return orjson.dumps(np.ascontiguousarray(self), option=orjson.OPT_SERIALIZE_NUMPY).decode()

    def __format__(self, format_spec: str, /) -> str:
        return format(str(self), format_spec)

    def __repr__(self) -> str:
        shown = ", ".join(map(str, np.asarray(self)[:SHOWN]))
        return f"Vector([{shown}])" if self.size <= SHOWN else f"Vector([{shown}, ...], dimensions={self.size})"

    def deconstruct(self) -> tuple[str, list[list[float]], dict[str, Any]]:
        """Return how a migration writes the vector."""
        return "pgembedding_django.Vector", [orjson.loads(str(self))], {}

    # Arithmetic and numpy's functions give plain arrays.

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False, /) -> Any:
        # In `vector += 1` the result is the vector itself.
        return array if isinstance(array, Vector) or array.ndim else array[()]

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _plain(super().__array_function__(func, types, args, kwargs))


def to_vector(
    value: object,
    *,
    name: str = "vector",
    dimensions: int | None = None,
    half: bool = False,
) -> Vector:
    """
    Return a value as a vector, or tell what is wrong with it.

    value: a sequence of real numbers, an ndarray, array.array or memoryview of shape (d,), anything with `__array__`
        or `to_numpy`, the text "[1,2,3]" as JSON or as numpy writes it, or the bytes of little-endian float32 as
        `ndarray.tobytes()` gives them.
    name: what the message calls the value, such as "Article.embedding".
    dimensions: the length that the value must have.
    half: whether every element must also fit a halfvec.
    Returns the value itself where it is a Vector, and shares its memory where it is a contiguous array of float32.
    Raises InvalidVector for another length, another shape, and elements that are no finite float32 numbers.
    """
    floats = to_floats(value, name=name, dimensions=dimensions, half=half)
    return value if type(value) is Vector else floats.view(Vector)


def is_zero(vector: NDArray[np.float32] | SparseVector) -> bool:
    """Tell whether a vector has no direction, so that no cosine distance to it is defined."""
    return not vector.any()


def _is_sequence(value: object) -> bool:
    """Tell whether a value may be read as numbers; one that keeps numpy out compares in its own way."""
    if getattr(value, "__array_ufunc__", value) is None:
        return False
    return isinstance(value, Sequence | memoryview) or hasattr(value, "__array__") or hasattr(value, "to_numpy")


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, Vector) else value


def _of_plain(name: str) -> Callable[..., Any]:
    method = getattr(np.ndarray, name)

    def call(self: Vector, *args: Any, **kwargs: Any) -> Any:
        return method(np.asarray(self), *args, **kwargs)

    call.__name__, call.__doc__ = name, method.__doc__
    return call


# numpy gives its subclasses back from these, whatever their new shape and type.
for _name in ("argpartition", "argsort", "astype", "byteswap", "compress", "conj", "conjugate", "dot", "flatten"):
    setattr(Vector, _name, _of_plain(_name))
for _name in ("ravel", "repeat", "reshape", "squeeze", "swapaxes", "take", "transpose"):
    setattr(Vector, _name, _of_plain(_name))
