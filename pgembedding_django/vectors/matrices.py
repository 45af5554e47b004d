"""Many vectors of one length at once, as the servers write and read them in binary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pgembedding_django.vectors.conversion import HALF_LIMIT, MAX_NORM, Floats
from pgembedding_django.vectors.wire import without_subnormals

__all__ = ["ArrayForm", "Form", "VectorForm", "is_matrix_of_vectors"]

#: An array of records: one for each vector.
Records = NDArray[np.void]

_FLOAT4_OID = 700


class Form:
    """How a server holds vectors of some length: the type of a record, and what writes and reads many of them."""

    def dtype(self, dimensions: int) -> np.dtype[Any]:
        raise NotImplementedError

    def write(self, records: Records, matrix: Floats) -> None:
        """Fill records with the rows of a matrix."""
        raise NotImplementedError

    def read(self, records: Records) -> Floats:
        """Return the vectors of records as a matrix."""
        raise NotImplementedError


@dataclass(frozen=True)
class VectorForm(Form):
    """As `vector_send` and `halfvec_send` write: int16 dimensions, int16 zero, then big-endian floats."""

    element: str

    def dtype(self, dimensions: int) -> np.dtype[Any]:
        return np.dtype([("dimensions", ">i2"), ("unused", ">i2"), ("values", self.element, (dimensions,))])

    def write(self, records: Records, matrix: Floats) -> None:
        records["dimensions"], records["unused"], records["values"] = matrix.shape[1], 0, matrix

    def read(self, records: Records) -> Floats:
        return np.ascontiguousarray(records["values"], np.float32)


@dataclass(frozen=True)
class ArrayForm(Form):
    """As `array_send` writes a real[]: five int32 of header, then (int32 length, float32) for each element."""

    ELEMENT: ClassVar = [("length", ">i4"), ("value", ">f4")]

    def dtype(self, dimensions: int) -> np.dtype[Any]:
        return np.dtype([("header", ">i4", (5,)), ("elements", self.ELEMENT, (dimensions,))])

    def write(self, records: Records, matrix: Floats) -> None:
        # Dimensions, whether NULLs are in it, element type, length, lower bound.
        records["header"] = (1, 0, _FLOAT4_OID, matrix.shape[1], 1)
        records["elements"]["length"] = 4
        records["elements"]["value"] = without_subnormals(matrix)

    def read(self, records: Records) -> Floats:
        return np.ascontiguousarray(records["elements"]["value"], np.float32)


def is_matrix_of_vectors(matrix: Floats, *, half: bool, zeros: bool) -> bool:
    """
    Tell whether each row is a vector that a field takes: finite, of a norm whose distances fit float32.

    half: each number must fit a halfvec. zeros: whether a row may have no direction.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.einsum("ij,ij->i", matrix, matrix)
    if not (norms <= MAX_NORM**2).all() or (half and not (np.abs(matrix) < HALF_LIMIT).all()):
        return False
    return zeros or bool(norms.all() or matrix.any(axis=1).all())
