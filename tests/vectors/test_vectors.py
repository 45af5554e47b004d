"""What to_vector accepts and refuses."""

import array
import pickle
import struct
from collections import deque
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pgvector
import pytest

from pgembedding_django import vectors
from pgembedding_django.vectors import InvalidVector, Vector, to_vector

FLOATS = np.array([1.5, -2.0, 0.25], dtype=np.float32)

ACCEPTED = {
    "list": [1.5, -2.0, 0.25],
    "list of int and float": [1.5, -2, 0.25],
    "tuple": (1.5, -2.0, 0.25),
    "deque": deque([1.5, -2.0, 0.25]),
    "dict values": {"a": 1.5, "b": -2.0, "c": 0.25}.values(),
    "array of float": array.array("f", [1.5, -2.0, 0.25]),
    "array of double": array.array("d", [1.5, -2.0, 0.25]),
    "memoryview of float": memoryview(array.array("f", [1.5, -2.0, 0.25])),
    "memoryview of double": memoryview(array.array("d", [1.5, -2.0, 0.25])),
    "strided memoryview": memoryview(array.array("f", [1.5, 9.0, -2.0, 9.0, 0.25]))[::2],
    "float16": FLOATS.astype(np.float16),
    "float32": FLOATS,
    "big-endian float32": FLOATS.astype(">f4"),
    "float64": FLOATS.astype(np.float64),
    "longdouble": FLOATS.astype(np.longdouble),
    "object array": np.array([1.5, -2, Fraction(1, 4)], dtype=object),
    "strided array": np.array([1.5, 9.0, -2.0, 9.0, 0.25], dtype=np.float32)[::2],
    "read-only array": np.frombuffer(struct.pack("<3f", 1.5, -2.0, 0.25), np.float32),
    "masked array without masked elements": np.ma.array([1.5, -2.0, 0.25], mask=[False, False, False]),
    "bytes": struct.pack("<3f", 1.5, -2.0, 0.25),
    "bytearray": bytearray(struct.pack("<3f", 1.5, -2.0, 0.25)),
    "memoryview of bytes": memoryview(struct.pack("<3f", 1.5, -2.0, 0.25)),
    "text": "[1.5,-2,0.25]",
    "text with white space": " [ 1.5,\r\n -2.0 , 2.5e-1 ]\n",
    "fractions": [Fraction(3, 2), Fraction(-2), Fraction(1, 4)],
    "decimals": [Decimal("1.5"), Decimal(-2), Decimal("0.25")],
    "a vector": Vector([1.5, -2.0, 0.25]),
    "a vector of pgvector": pgvector.Vector([1.5, -2.0, 0.25]),
    "a halfvec of pgvector": pgvector.HalfVector([1.5, -2.0, 0.25]),
    "str() of numpy": str(FLOATS),
    "repr() of numpy": repr(FLOATS),
    "repr() of numpy with exponents": "array([ 1.5e+00, -2.0e+00,\n        2.5e-01])",
    "str() of a vector": str(Vector([1.5, -2.0, 0.25])),
    "repr() of a vector": repr(Vector([1.5, -2.0, 0.25])),
    "str() of a vector of pgvector": str(pgvector.Vector([1.5, -2.0, 0.25])),
    "text of pgvector": pgvector.Vector([1.5, -2.0, 0.25]).to_text(),
    "numpy scalars": [np.float16(1.5), np.int64(-2), np.float64(0.25)],
}


@pytest.mark.parametrize("value", ACCEPTED.values(), ids=ACCEPTED)
def test_to_vector_accepted_kind_gives_contiguous_float32(value):
    vector = to_vector(value, dimensions=3)
    assert type(vector) is Vector
    assert vector.dtype == np.float32
    assert vector.shape == (3,)
    assert vector.flags.c_contiguous
    assert vector.tobytes() == struct.pack("<3f", 1.5, -2.0, 0.25)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">i4", ">f8"])
def test_to_vector_numeric_dtype_keeps_the_numbers(dtype):
    assert to_vector(np.array([0, 1, 127], dtype=dtype)).tolist() == [0.0, 1.0, 127.0]


def test_to_vector_range_gives_its_numbers():
    assert to_vector(range(4)).tolist() == [0.0, 1.0, 2.0, 3.0]


def test_to_vector_array_of_bytes_typecode_gives_its_numbers():
    assert to_vector(array.array("B", [1, 2, 255])).tolist() == [1.0, 2.0, 255.0]


def test_to_vector_float64_rounds_to_the_nearest_float32():
    assert to_vector([0.1]).tobytes() == struct.pack("<f", 0.1)


def test_to_vector_vector_that_suits_is_returned_itself():
    vector = Vector(FLOATS)
    assert to_vector(vector, dimensions=3) is vector


def test_to_vector_float32_that_suits_is_not_copied():
    assert np.shares_memory(to_vector(FLOATS, dimensions=3), FLOATS)


@pytest.mark.parametrize("spell", [str, repr])
def test_to_vector_text_that_numpy_shortened_is_refused(spell):
    with pytest.raises(InvalidVector) as caught:
        to_vector(spell(np.zeros(2000, np.float32)))
    assert str(caught.value) == 'vector must have every number, got a text that leaves some out with "...".'


def test_to_vector_long_text_that_is_almost_a_spelling_is_refused_at_once():
    with pytest.raises(InvalidVector, match="no JSON"):
        to_vector("[" + "11.5 " * 100_000 + "x]")


class Tensor:
    """An array of another library, as PyTorch has it: on a GPU, with gradients, or of a type that numpy lacks."""

    def __init__(self, error):
        self.error = error

    def __array__(self, dtype=None, copy=None):
        raise self.error


@pytest.mark.parametrize("error", [TypeError, ValueError, RuntimeError])
def test_to_vector_array_that_numpy_cannot_read_is_refused(error):
    with pytest.raises(InvalidVector) as caught:
        to_vector(Tensor(error("Use tensor.detach().\nSee the docs.")), name="Article.embedding")
    assert str(caught.value) == (
        "Article.embedding must be an array that numpy can read, got a Tensor that it cannot (Use tensor.detach())."
    )
    assert isinstance(caught.value.__cause__, error)


def test_to_vector_bytes_gives_a_vector_of_its_own():
    data = bytearray(struct.pack("<2f", 1.0, 2.0))
    vector = to_vector(data)
    data[:] = bytes(8)
    assert vector.tolist() == [1.0, 2.0]


def test_to_vector_underflow_gives_zero():
    assert to_vector([1e-50, Fraction(1, 10**400)]).tolist() == [0.0, 0.0]


def test_to_vector_greatest_norm_is_accepted():
    assert to_vector([9.2e18]).tolist() == [float(np.float32(9.2e18))]


def test_to_vector_half_below_its_limit_is_accepted():
    below = np.nextafter(np.float32(65520), np.float32(0))
    assert to_vector([below, -below], half=True).astype(np.float16).tolist() == [65504.0, -65504.0]


NUMBERS = "vector must be a sequence of numbers, got "
JSON = "vector must be a list of numbers such as [0.1, 0.2], got "
HELD = "vector must hold numbers only, got "
NOT_JSON = JSON + "text that is no JSON"
LARGER = "vector must fit float32 (at most 3.4e+38 in size), got a larger number at position "
NORM = "vector must have a norm of at most 9.2e+18 so that distances fit float32, got "

REFUSED = [
    # Another kind
    (None, "type", NUMBERS + "NoneType."),
    (3, "type", NUMBERS + "int."),
    (True, "type", NUMBERS + "bool."),
    (Decimal(1), "type", NUMBERS + "Decimal."),
    ({0: 1.0}, "type", NUMBERS + "dict."),
    ({1.0, 2.0}, "type", NUMBERS + "set."),
    (frozenset({1.0}), "type", NUMBERS + "frozenset."),
    ({1.0: 2.0}.keys(), "type", NUMBERS + "dict_keys."),
    ((x for x in [1.0]), "type", NUMBERS + "generator."),
    (iter([1.0]), "type", NUMBERS + "list_iterator."),
    (object(), "type", NUMBERS + "object."),
    (np.array([1j]), "type", "vector must be an array of real numbers, got dtype complex128."),
    (np.array([True]), "type", "vector must be an array of real numbers, got dtype bool."),
    (np.array(["a"]), "type", "vector must be an array of real numbers, got dtype <U1."),
    (np.array([1], dtype="M8[s]"), "type", "vector must be an array of real numbers, got dtype datetime64[s]."),
    (np.array([[None]], dtype=object), "type", "vector must be an array of real numbers, got dtype object."),
    (memoryview(b"ab").cast("?"), "type", "vector must be an array of real numbers, got dtype bool."),
    # Another shape
    (np.float32(3), "shape", "vector must be one-dimensional, got shape ()."),
    (np.array(3.0), "shape", "vector must be one-dimensional, got shape ()."),
    (np.zeros((1, 3)), "shape", "vector must be one-dimensional, got shape (1, 3)."),
    (np.zeros((0, 3)), "shape", "vector must be one-dimensional, got shape (0, 3)."),
    (memoryview(np.zeros((2, 2), np.float32)), "shape", "vector must be one-dimensional, got shape (2, 2)."),
    ([], "empty", "vector must have at least 1 dimension, got 0."),
    (b"", "empty", "vector must have at least 1 dimension, got 0."),
    ("[]", "empty", "vector must have at least 1 dimension, got 0."),
    (np.array([]), "empty", "vector must have at least 1 dimension, got 0."),
    (b"abc", "bytes", "vector must have 4 bytes a dimension (little-endian float32), got 3 bytes."),
    # Text
    ("", "text", NOT_JSON + " from character 1 on."),
    ("x", "text", NOT_JSON + " from character 1 on."),
    ("{1,2}", "text", NOT_JSON + " from character 2 on."),
    ("[NaN]", "text", NOT_JSON + " from character 2 on."),
    ("[1]; drop table x", "text", NOT_JSON + " from character 4 on."),
    ("\ud800", "text", NOT_JSON + " from character 1 on."),
    ("[" * 5000, "text", NOT_JSON + " from character 1026 on."),
    ('{"a": 1}', "text", JSON + "JSON of type dict."),
    ("1.5", "text", JSON + "JSON of type float."),
    ("null", "text", JSON + "JSON of type NoneType."),
    # Elements
    ([1.0, None], "element", HELD + "NoneType at position 1."),
    ([True, 1.0], "element", HELD + "bool at position 0."),
    ([np.True_, 1.0], "element", HELD + "bool at position 0."),
    (["1"], "element", HELD + "str at position 0."),
    ([1, 1j], "element", HELD + "complex at position 1."),
    ([1.0, Decimal("sNaN")], "element", "vector must be finite, got sNaN at position 1."),
    ([Decimal("NaN")], "element", "vector must be finite, got nan at position 0."),
    ("[1e999]", "element", "vector must be finite, got inf at position 0."),
    ("[1. nan]", "text", NOT_JSON + " from character 4 on."),
    ([[1.0, 2.0]], "element", HELD + "list at position 0."),
    ([[1.0], [2.0, 3.0]], "element", HELD + "list at position 0."),
    ([np.array([1.0])], "element", HELD + "ndarray at position 0."),
    (np.array([1.0, None], dtype=object), "element", HELD + "NoneType at position 1."),
    (np.ma.array([1.0, 2.0, 3.0], mask=[False, False, True]), "element", HELD + "NoneType at position 2."),
    ("[1,null]", "element", HELD + "NoneType at position 1."),
    ("[true]", "element", HELD + "bool at position 0."),
    ('["a"]', "element", HELD + "str at position 0."),
    ("[[1]]", "element", HELD + "list at position 0."),
    ([1.0, float("nan")], "element", "vector must be finite, got nan at position 1."),
    ([float("inf")], "element", "vector must be finite, got inf at position 0."),
    ([0, 0, float("-inf")], "element", "vector must be finite, got -inf at position 2."),
    (np.array([1, np.nan], dtype=np.float16), "element", "vector must be finite, got nan at position 1."),
    (struct.pack("<2f", 1.0, float("inf")), "element", "vector must be finite, got inf at position 1."),
    (np.array([1e300, np.nan]), "element", "vector must be finite, got nan at position 1."),
    # Magnitude
    ([0, 10**400], "range", LARGER + "1."),
    ([Fraction(10**400, 3)], "range", LARGER + "0."),
    (np.array([1, 10**400], dtype=object), "range", LARGER + "1."),
    (np.array([1, np.longdouble("-1e4000")]), "range", LARGER + "1."),
    ([0.0, 1e39, 0.0], "range", LARGER + "1."),
    ("[1e39]", "range", LARGER + "0."),
    (np.array([0, -1e39]), "range", LARGER + "1."),
    ([1e38, 1.0], "norm", NORM + "1.0e+38."),
    ([1e19], "norm", NORM + "1.0e+19."),
    (np.full(4, 6e18, np.float32), "norm", NORM + "1.2e+19."),
]


@pytest.mark.parametrize(
    ("value", "code", "sentence"), REFUSED, ids=[f"{c}-{i}" for i, (_, c, _) in enumerate(REFUSED)]
)
def test_to_vector_refused_value_says_why(value, code, sentence):
    with pytest.raises(InvalidVector) as caught:
        to_vector(value)
    assert str(caught.value) == sentence
    assert caught.value.code == code
    assert caught.value.message % caught.value.params == sentence


@pytest.mark.parametrize("value", [[1, 2], [1, 2, 3, 4], "[1]", b"\0\0\0\0", np.zeros(2)])
def test_to_vector_other_length_says_both_lengths(value):
    with pytest.raises(InvalidVector, match=r"^Article\.embedding must have 3 dimensions, got [124]\.$"):
        to_vector(value, name="Article.embedding", dimensions=3)


@pytest.mark.parametrize(("value", "got"), [([0, 65520], "65520.0"), ([0, -7e4], "-70000.0")])
def test_to_vector_half_at_its_limit_is_refused(value, got):
    with pytest.raises(InvalidVector) as caught:
        to_vector(value, half=True)
    assert str(caught.value) == f"vector must be below 65520 in size for half precision, got {got} at position 1."


def test_to_vector_longdouble_scalar_beyond_float64_is_refused():
    with pytest.raises(InvalidVector, match="must be finite, got inf at position 1"):
        to_vector([1.0, np.longdouble("1e4000")])


def test_invalid_vector_pickled_keeps_its_sentence():
    error = InvalidVector("%(name)s is bad.", "code", {"name": "x"})
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.code, again.params) == ("x is bad.", "code", {"name": "x"})


def test_refused_value_is_never_quoted_whole():
    with pytest.raises(InvalidVector) as caught:
        to_vector([0.5] * 5000 + ["secret"])
    assert str(caught.value) == "vector must hold numbers only, got str at position 5000."


@pytest.mark.parametrize(("vector", "zero"), [([0.0, -0.0], True), ([0.0, 1e-45], False)])
def test_is_zero_only_where_every_element_is(vector, zero):
    assert vectors.is_zero(np.array(vector, dtype=np.float32)) is zero
