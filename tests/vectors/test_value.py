"""A Vector is an array that counts as one value."""

import copy
import json
import operator
import pickle
from array import array
from collections import deque
from decimal import Decimal
from unittest import mock

import numpy as np
import pgvector
import pytest
from django.core.serializers.json import DjangoJSONEncoder
from django.db.migrations.writer import MigrationWriter

from pgembedding_django import EmbeddingField, Vector
from pgembedding_django.vectors import InvalidVector, to_vector

NUMBERS = [0.1, -2.0, 3.0]
SAME = [
    NUMBERS,
    tuple(NUMBERS),
    deque(NUMBERS),
    array("f", NUMBERS),
    memoryview(array("f", NUMBERS)),
    [Decimal("0.1"), -2, 3],
    np.array(NUMBERS),
    np.array(NUMBERS, np.float32),
    Vector(NUMBERS),
    pgvector.Vector(NUMBERS),
]
OTHER = [
    [0.1, -2.0],
    [0.1, -2.0, 4.0],
    [],
    (),
    {},
    "",
    "[0.1,-2,3]",
    b"",
    None,
    set(),
    [None, None, None],
    ["0.1", "-2", "3"],
    np.zeros((3, 3)),
    np.zeros(2, np.float32),
    np.array(["a", "b", "c"]),
    object(),
]


@pytest.fixture
def vector():
    return Vector(NUMBERS)


# Comparison


@pytest.mark.parametrize("same", SAME, ids=lambda value: type(value).__name__)
def test_vector_equals_what_it_would_be_assigned_from(vector, same):
    assert (vector == same) is np.True_
    assert (vector != same) is np.False_
    assert same == vector
    assert not operator.ne(same, vector)


@pytest.mark.parametrize("other", OTHER)
def test_vector_differs_from_anything_else_with_one_truth_value(vector, other):
    assert not operator.eq(vector, other)
    assert vector != other
    assert not operator.eq(other, vector)
    assert other != vector


@pytest.mark.parametrize("number", [3, 3.0, np.float32(3), np.array(3.0), Decimal(3)])
def test_vector_is_compared_with_a_number_element_by_element(vector, number):
    assert (vector == number).tolist() == [False, False, True]
    assert (vector != number).tolist() == [True, True, False]


def test_vector_leaves_the_answer_to_what_compares_in_its_own_way(vector):
    assert vector == mock.ANY
    assert vector == pytest.approx(NUMBERS)
    assert vector != pytest.approx([1, 2, 3])


def test_vector_beyond_what_a_field_takes_equals_its_copy():
    vector = np.full(2, 3e38, np.float32).view(Vector)
    assert vector == vector.copy()
    assert vector == np.asarray(vector)


def test_vector_is_among_others_or_not(vector):
    assert vector in [None, "", [], (), {}, NUMBERS]
    assert vector not in [None, "", [], (), {}]
    assert np.float32(0.1) in vector


def test_vector_is_ordered_element_by_element(vector):
    assert (vector < [1, 1, 1]).tolist() == [True, True, False]
    with pytest.raises(ValueError, match="truth value of an array"):
        sorted([vector, Vector([1, 2, 3])])


def test_vector_has_no_hash(vector):
    with pytest.raises(TypeError, match="unhashable"):
        hash(vector)


@pytest.mark.parametrize("numbers", [[0.0], [0.0, 0.0], [1.0]])
def test_vector_is_true(numbers):
    assert bool(Vector(numbers)) is True


# Text


@pytest.mark.parametrize("dimensions", [1, 3, 1536, 16000])
def test_str_has_every_number_and_reads_back(dimensions):
    vector = Vector(np.random.default_rng(dimensions).normal(size=dimensions))
    assert json.loads(str(vector)) == json.loads(f"{vector}") == [float(str(x)) for x in np.asarray(vector)]
    assert to_vector(str(vector)).tobytes() == vector.tobytes()


def test_format_pads_the_text():
    assert f"{Vector([1, 2]):>12}" == "   [1.0,2.0]"


def test_repr_of_a_long_vector_is_short():
    assert repr(Vector([0.1, 2, 3])) == "Vector([0.1, 2.0, 3.0])"
    assert repr(Vector(range(7))) == "Vector([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, ...], dimensions=7)"
    with pytest.raises(InvalidVector, match="leaves some out"):
        Vector(repr(Vector(range(7))))


def test_vector_in_json_is_its_list(vector):
    assert json.loads(json.dumps(list(vector))) == json.loads(json.dumps(vector.tolist())) == vector.tolist()
    for encoder in (json.JSONEncoder, DjangoJSONEncoder):
        with pytest.raises(TypeError, match="Vector is not JSON serializable"):
            json.dumps(vector, cls=encoder)


# Copies


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, Vector, operator.methodcaller("copy")]
    + [lambda v, protocol=protocol: pickle.loads(pickle.dumps(v, protocol)) for protocol in range(6)],
)
def test_copy_is_a_vector_of_its_own(vector, again):
    other = again(vector)
    assert type(other) is Vector
    assert other == vector
    other[0] = 9
    assert vector == NUMBERS


def test_pickle_names_the_public_class(vector):
    assert Vector.__module__ == "pgembedding_django"
    assert b"pgembedding_django\n" in pickle.dumps(vector, 0)


@pytest.mark.parametrize("value", [3, None, [], [[1]], [float("nan")], "x"])
def test_vector_of_what_is_none_is_refused(value):
    with pytest.raises(InvalidVector, match=r"^Vector must "):
        Vector(value)


# Arrays


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v + v,
        lambda v: 2 * v,
        lambda v: -v,
        lambda v: v @ np.eye(3, dtype=np.float32),
        lambda v: v < 1,
        lambda v: v[:],
        lambda v: v[[0, 1]],
        lambda v: v[None],
        lambda v: v.astype(float),
        lambda v: v.reshape(1, 3),
        lambda v: v.dot(np.eye(3)),
        lambda v: np.dot(v, np.eye(3, dtype=np.float32)),
        lambda v: np.roll(v, 1),
        lambda v: np.sort(v),
        lambda v: np.stack([v, v]),
        lambda v: np.asarray(v),
        lambda v: v.round(1),
        lambda v: v.argsort(),
        lambda v: v.flatten(),
    ],
)
def test_what_is_made_of_a_vector_is_a_plain_array(vector, change):
    made = change(vector)
    assert type(made) is np.ndarray
    np.testing.assert_array_equal(made, change(np.array(NUMBERS, np.float32)))


@pytest.mark.parametrize(
    "reduce", [np.sum, np.max, np.linalg.norm, lambda v: v.sum(), lambda v: v.mean(), lambda v: v[0]]
)
def test_what_is_one_number_is_a_numpy_scalar(vector, reduce):
    assert type(reduce(vector)) is np.float32
    assert reduce(vector) == reduce(np.array(NUMBERS, np.float32))


def test_change_in_place_keeps_the_vector(vector):
    same = vector
    vector += 1
    vector[1] = 5
    assert same is vector
    assert type(vector) is Vector
    assert vector == [1.1, 5, 4]


def test_iteration_gives_the_floats_of_python(vector):
    assert list(map(type, vector)) == [float] * 3
    assert [*vector] == vector.tolist()


def test_numpy_compares_vectors_as_arrays(vector):
    np.testing.assert_array_equal(vector, NUMBERS_32)
    np.testing.assert_allclose(vector, NUMBERS)
    assert np.array_equal(vector, NUMBERS_32)
    assert np.allclose(vector, vector)
    assert np.isclose(vector, NUMBERS_32).tolist() == [True] * 3
    assert np.equal(vector, vector).tolist() == [True] * 3
    for assertion in (np.testing.assert_array_equal, np.testing.assert_allclose):
        with pytest.raises(AssertionError):
            assertion(vector, Vector([0.1, -2, 4]))


NUMBERS_32 = np.array(NUMBERS, np.float32)


# Migrations


@pytest.mark.parametrize("default", [Vector(NUMBERS), np.array(NUMBERS), np.array(NUMBERS, np.float32)])
@pytest.mark.parametrize("option", ["default", "db_default"])
def test_default_is_written_in_a_migration(option, default):
    field = EmbeddingField(dimensions=3, **{option: default})
    written, imports = MigrationWriter.serialize(field)
    assert written == (
        f"pgembedding_django.EmbeddingField({option}=pgembedding_django.Vector([0.1, -2.0, 3.0]), dimensions=3)"
    )
    assert imports == {"import pgembedding_django"}


def test_default_of_one_row_is_not_that_of_another():
    field = EmbeddingField(dimensions=3, default=Vector(NUMBERS))
    field.get_default()[0] = 9
    assert field.get_default() == NUMBERS
