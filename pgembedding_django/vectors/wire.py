"""How the servers write and read vectors, as text and in binary."""

from __future__ import annotations

from struct import Struct

import numpy as np
import orjson

from pgembedding_django.vectors.conversion import Floats
from pgembedding_django.vectors.value import Vector

#: Below it a float32 is subnormal, held with less than full precision (IEEE 754 binary32).
SMALLEST_NORMAL = float(np.finfo(np.float32).smallest_normal)

_DIMENSIONS = Struct(">hh")
#: Dimensions, whether NULLs are in it, element type, length, lower bound.
_ARRAY_HEADER = Struct(">iiiii")
_FLOAT4_OID = 700
_FLOAT32, _FLOAT4, _FLOAT2 = np.dtype(np.float32), np.dtype(">f4"), np.dtype(">f2")
_ARRAY_ELEMENT = np.dtype([("length", ">i4"), ("value", ">f4")])


def encode_text(vector: Floats) -> str:
    """Return "[0.1,2.0]": the shortest decimal text that reads back as the same float32."""
    # orjson writes contiguous arrays in the machine's byte order only.
    return orjson.dumps(np.ascontiguousarray(vector, np.float32), option=orjson.OPT_SERIALIZE_NUMPY).decode()


def encode_array_text(vector: Floats) -> str:
    """Return "{0.1,2.0}", as Postgres writes a real[]; a subnormal number becomes zero."""
    return "{" + encode_text(without_subnormals(vector))[1:-1] + "}"


def pack_vector(vector: Floats) -> bytes:
    """Write what `vector_recv` reads: int16 dimensions, int16 zero, then big-endian float32."""
    return _DIMENSIONS.pack(vector.size, 0) + vector.astype(">f4").tobytes()


def pack_halfvec(vector: Floats) -> bytes:
    """Write what `halfvec_recv` reads: int16 dimensions, int16 zero, then big-endian float16."""
    return _DIMENSIONS.pack(vector.size, 0) + vector.astype(">f2").tobytes()


def pack_array(vector: Floats) -> bytes:
    """Write what `array_recv` reads of a real[]: its header, then (int32 length, float32) for each element."""
    elements = np.empty(vector.size, _ARRAY_ELEMENT)
    elements["length"], elements["value"] = 4, without_subnormals(vector)
    return _ARRAY_HEADER.pack(1, 0, _FLOAT4_OID, vector.size, 1) + elements.tobytes()


def decode_vector(data: bytes | memoryview) -> Vector:
    """Read what `vector_send` wrote: int16 dimensions, int16 zero, then big-endian float32."""
    return np.frombuffer(data, _FLOAT4, -1, 4).astype(_FLOAT32).view(Vector)


def decode_halfvec(data: bytes | memoryview) -> Vector:
    """Read what `halfvec_send` wrote: int16 dimensions, int16 zero, then big-endian float16."""
    return np.frombuffer(data, _FLOAT2, -1, 4).astype(_FLOAT32).view(Vector)


def decode_array(data: bytes | memoryview) -> Vector:
    """Read what `array_send` wrote of a real[] without NULLs: 20 bytes of header, then (int32 length, float32)."""
    return np.frombuffer(data, _ARRAY_ELEMENT, -1, 20)["value"].astype(_FLOAT32).view(Vector)


def decode_text(text: str) -> Vector:
    """Read "[1,2]" or "{1,2}", which raw SQL and RETURNING deliver."""
    return np.array(orjson.loads("[" + text[1:-1] + "]"), _FLOAT32).view(Vector)


def without_subnormals(vector: Floats) -> Floats:
    """
    Return the vector with zero for each subnormal number.

    pg_embedding is built with -Ofast, so that a server that has loaded it holds a subnormal number for an underflow and
    refuses its text ("1e-45" is out of range for type real).
    """
    return np.where(np.abs(vector) < SMALLEST_NORMAL, np.copysign(np.float32(0), vector), vector)
