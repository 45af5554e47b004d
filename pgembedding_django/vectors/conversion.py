"""From what people hold to float32: checks and converts values; knows numpy and orjson, but no Django."""

from __future__ import annotations

import numbers
import re
from collections.abc import Collection, Mapping, Sequence, Set
from decimal import Decimal
from typing import Any, Protocol, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class SupportsArray(Protocol):
    """An array of another library, such as a torch tensor."""

    def __array__(self) -> NDArray[Any]: ...


#: What a field takes for a vector.
VectorLike: TypeAlias = (
    Sequence[float] | Sequence[Decimal] | NDArray[Any] | SupportsArray | bytes | bytearray | memoryview | str
)

FLOAT32_MAX = float(np.finfo(np.float32).max)

#: The first magnitude that halfvec refuses: it rounds to infinity (IEEE 754 binary16).
HALF_LIMIT = 65520.0

#: Both servers sum squares in float32, and two vectors of norm n lie at most 2n apart, so beyond
#: sqrt(FLOAT32_MAX) / 2 a distance can overflow to infinity and the row can never be found.
MAX_NORM = FLOAT32_MAX**0.5 / 2

_PLAIN_NUMBERS = frozenset({float, int})
_REAL_NUMBERS = (numbers.Real, Decimal)

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
#: How str() and repr() of an array, of pgvector's values and of ours write numbers, where it is no JSON: "[1. 2.]",
#: "array([1., 2.], dtype=float32)", "Vector([1.0, 2.0])", shortened with "..." where they are many.
SPELLING = re.compile(
    rf"\s*(?:\w+\(\s*)?\[\s*(?P<numbers>(?:{_NUMBER}|\.\.\.|…)(?:[\s,]+(?:{_NUMBER}|\.\.\.|…))*)[\s,]*\]"
    r"(?:,[^\[\]]*)?\)?\s*"
)


class InvalidVector(ValueError):
    """
    Tells which rule a value breaks.

    Carries `message` (a %-template), `code` and `params`, as django.core.exceptions.ValidationError does.
    """

    message: str
    code: str
    params: dict[str, Any]

    def __init__(self, message: str, code: str, params: dict[str, Any]) -> None:
        super().__init__(message % params)
        self.message, self.code, self.params = message, code, params

    def __reduce__(self) -> tuple[type[InvalidVector], tuple[str, str, dict[str, Any]]]:
        return type(self), (self.message, self.code, self.params)


def to_floats(value: object, *, name: str, dimensions: int | None, half: bool) -> Floats:
    """Return what `to_vector` does, as a plain array."""
    array = _to_array(value, name)
    if array.ndim != 1:
        raise InvalidVector(
            "%(name)s must be one-dimensional, got shape %(shape)s.", "shape", {"name": name, "shape": array.shape}
        )
    if not array.size:
        raise InvalidVector("%(name)s must have at least 1 dimension, got 0.", "empty", {"name": name})
    if dimensions is not None and array.size != dimensions:
        raise InvalidVector(
            "%(name)s must have %(dimensions)d dimensions, got %(got)d.",
            "dimensions",
            {"name": name, "dimensions": dimensions, "got": array.size},
        )
    floats = _to_float32(array, name)
    if half:
        _check_elements(np.abs(floats) < HALF_LIMIT, floats, name, "must be below 65520 in size for half precision")
    return floats


def _to_array(value: object, name: str) -> NDArray[Any]:
    if isinstance(value, np.ndarray):
        return _checked_dtype(value, name)
    if isinstance(value, str):
        return _parse(value, name)
    if isinstance(value, bytes | bytearray) or (isinstance(value, memoryview) and value.format == "B"):
        return _from_bytes(bytes(value), name)
    if isinstance(value, memoryview) or hasattr(value, "__array__") or hasattr(value, "typecode"):
        return _checked_dtype(_read_array(value, name), name)
    if hasattr(value, "to_numpy"):
        return _checked_dtype(value.to_numpy(), name)
    if isinstance(value, Collection) and not isinstance(value, Mapping | Set):
        return _from_numbers(list(value), name)
    raise InvalidVector(
        "%(name)s must be a sequence of numbers, got %(type)s.", "type", {"name": name, "type": type(value).__name__}
    )


def _read_array(value: object, name: str) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        # PyTorch raises these for a tensor that is on a GPU, that keeps gradients, or that has bfloat16.
        raise InvalidVector(
            "%(name)s must be an array that numpy can read, got a %(type)s that it cannot (%(reason)s).",
            "array",
            {"name": name, "type": type(value).__name__, "reason": str(error).partition("\n")[0].rstrip(".")},
        ) from error


def _checked_dtype(array: NDArray[Any], name: str) -> NDArray[Any]:
    if (array.dtype.kind == "O" and array.ndim == 1) or np.ma.is_masked(array):
        return _from_numbers(array.tolist(), name)
    if array.dtype.kind not in "fiu":
        raise InvalidVector(
            "%(name)s must be an array of real numbers, got dtype %(dtype)s.",
            "type",
            {"name": name, "dtype": array.dtype},
        )
    return array


def _parse(text: str, name: str) -> NDArray[Any]:
    try:
        numbers_ = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        spelling = SPELLING.fullmatch(text)
        if spelling:
            return _from_spelling(spelling["numbers"], name)
        raise InvalidVector(
            "%(name)s must be a list of numbers such as [0.1, 0.2], "
            "got text that is no JSON from character %(place)d on.",
            "text",
            {"name": name, "place": error.pos + 1},
        ) from error
    if not isinstance(numbers_, list):
        raise InvalidVector(
            "%(name)s must be a list of numbers such as [0.1, 0.2], got JSON of type %(type)s.",
            "text",
            {"name": name, "type": type(numbers_).__name__},
        )
    return _from_numbers(numbers_, name)


def _from_spelling(listed: str, name: str) -> NDArray[np.float64]:
    if "..." in listed or "…" in listed:
        raise InvalidVector(
            '%(name)s must have every number, got a text that leaves some out with "...".', "text", {"name": name}
        )
    return np.array([float(number) for number in listed.replace(",", " ").split()])


def _from_bytes(data: bytes, name: str) -> NDArray[Any]:
    if len(data) % 4:
        raise InvalidVector(
            "%(name)s must have 4 bytes a dimension (little-endian float32), got %(size)d bytes.",
            "bytes",
            {"name": name, "size": len(data)},
        )
    return np.frombuffer(data, "<f4").astype(np.float32)


def _from_numbers(values: list[Any], name: str) -> NDArray[np.float64]:
    if not _PLAIN_NUMBERS.issuperset(map(type, values)):
        for position, element in enumerate(values):
            if isinstance(element, bool) or not isinstance(element, _REAL_NUMBERS):
                raise InvalidVector(
                    "%(name)s must hold numbers only, got %(type)s at position %(position)d.",
                    "element",
                    {"name": name, "type": type(element).__name__, "position": position},
                )
    try:
        with np.errstate(over="ignore"):
            return np.array(values, dtype=np.float64)
    except ValueError as error:
        # The Decimal that raises in any arithmetic, also in float().
        position = next(i for i, element in enumerate(values) if isinstance(element, Decimal) and element.is_snan())
        message = "%(name)s must be finite, got sNaN at position %(position)d."
        raise InvalidVector(message, "element", {"name": name, "position": position}) from error
    except OverflowError as error:
        position = next(i for i, element in enumerate(values) if abs(element) > FLOAT32_MAX)
        raise _out_of_range(name, position) from error


def _to_float32(array: NDArray[Any], name: str) -> Floats:
    """Cast, and prove with one dot product that every element is finite and every distance will be."""
    with np.errstate(over="ignore", invalid="ignore"):
        vector = np.ascontiguousarray(array, dtype=np.float32)
        norm_squared = float(np.dot(vector, vector))
    if not norm_squared <= MAX_NORM**2:
        _check_elements(np.isfinite(array), array, name, "must be finite")
        _raise_too_large(array, name)
    return vector


def _check_elements(good: NDArray[np.bool_], array: NDArray[Any], name: str, rule: str) -> None:
    if not good.all():
        position = int(np.argmin(good))
        raise InvalidVector(
            "%(name)s " + rule + ", got %(element)s at position %(position)d.",
            "element",
            {"name": name, "element": float(array[position]), "position": position},
        )


def _raise_too_large(array: NDArray[Any], name: str) -> None:
    with np.errstate(over="ignore"):
        wide = array.astype(np.float64)
    if np.abs(wide).max() > FLOAT32_MAX:
        raise _out_of_range(name, int(np.abs(wide).argmax()))
    raise InvalidVector(
        "%(name)s must have a norm of at most %(limit).1e so that distances fit float32, got %(norm).1e.",
        "norm",
        {"name": name, "limit": MAX_NORM, "norm": float(np.linalg.norm(wide))},
    )


def _out_of_range(name: str, position: int) -> InvalidVector:
    return InvalidVector(
        "%(name)s must fit float32 (at most 3.4e+38 in size), got a larger number at position %(position)d.",
        "range",
        {"name": name, "position": position},
    )
