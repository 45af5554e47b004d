"""Bit strings: text of zeros and ones, as the server and Django have them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from struct import Struct
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pgembedding_django.vectors.conversion import InvalidVector

#: What a BitField takes for a value.
BitsLike: TypeAlias = "str | bytes | Sequence[bool] | Sequence[int] | NDArray[Any]"

ZEROS_AND_ONES = re.compile("[01]+")

_LENGTH = Struct(">i")


def to_bits(value: BitsLike | Any, *, name: str = "bits", dimensions: int | None = None) -> str:
    """
    Return a value as a text such as "101", or tell what is wrong with it.

    value: such a text; a sequence or an array of booleans, or of 0 and 1; bytes of eight bits each; pgvector's Bit.
    name: what the message calls the value. dimensions: how many bits it must have.
    Raises InvalidVector.
    """
    text = _to_text(value)
    if not ZEROS_AND_ONES.fullmatch(text):
        raise InvalidVector(
            '%(name)s must be bits, as "101", booleans or bytes, got %(got)s.',
            "type",
            {"name": name, "got": type(value).__name__},
        )
    if dimensions is not None and len(text) != dimensions:
        raise InvalidVector(
            "%(name)s must have %(dimensions)d bits, got %(got)d.",
            "dimensions",
            {"name": name, "dimensions": dimensions, "got": len(text)},
        )
    return text


def pack_bits(text: str) -> bytes:
    """Write what `bit_recv` reads: int32 length, then the bits, eight in a byte."""
    return _LENGTH.pack(len(text)) + np.packbits(np.frombuffer(text.encode(), np.uint8) == ord("1")).tobytes()


def _to_text(value: Any) -> str:
    """Return the value as text; "" for what is none."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return _join(np.unpackbits(np.frombuffer(value, np.uint8)))
    if type(value).__name__ == "Bit" and hasattr(value, "to_text"):
        return str(value.to_text())
    if isinstance(value, Sequence | np.ndarray):
        array = np.asarray(value)
        if array.ndim == 1 and (array.dtype == np.bool_ or (array.dtype.kind in "iu" and np.isin(array, (0, 1)).all())):
            return _join(array)
    return ""


def _join(bits: NDArray[Any]) -> str:
    return (bits.astype(np.uint8) + ord("0")).tobytes().decode()
