"""What a Vector does is what a list does, or what an array does, as docs/values.md says."""

import copy
import json
import operator
import pickle
from unittest import TestCase

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pgembedding_django import Vector
from pgembedding_django.vectors import to_vector

#: No test asserts a time, and none depends on what an earlier run left behind.
settings.register_profile("vectors", deadline=None, database=None, max_examples=50)
settings.load_profile("vectors")

NUMBERS = st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=True)
ARRAYS = arrays.arrays(np.float32, st.integers(1, 9), elements=NUMBERS)
#: Few enough that two are often alike.
ALIKE = arrays.arrays(np.float32, st.integers(1, 2), elements=st.sampled_from([-1, -0.0, 0, 1]))
KINDS = st.sampled_from([Vector, np.ndarray.copy, np.ndarray.tolist, lambda a: tuple(a.tolist()), np.float64])
SLICES = st.builds(slice, *[st.none() | st.integers(-10, 10)] * 2, st.none() | st.sampled_from([-2, -1, 1, 3]))

ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv]
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge]


def raises(assertion, *values):
    try:
        assertion(*values)
    except AssertionError:
        return True
    return False


def same_bits(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


# Like a list


@given(ALIKE, ALIKE, KINDS)
def test_equal_and_unequal_are_those_of_lists(one, other, kind):
    vector, value, equal = Vector(one), kind(other), one.tolist() == other.tolist()
    assert (vector == value) is (np.True_ if equal else np.False_)
    assert (vector != value) is (np.False_ if equal else np.True_)
    assert bool(value == vector) is equal
    assert bool(operator.ne(value, vector)) is not equal


@given(ALIKE, st.lists(ALIKE | st.sampled_from([None, "", (), {}]), max_size=4))
def test_in_index_and_count_are_those_of_lists(array, others):
    vector = Vector(array)
    vectors = [Vector(other) if isinstance(other, np.ndarray) else other for other in others]
    lists = [other.tolist() if isinstance(other, np.ndarray) else other for other in others]
    assert (vector in vectors) is (array.tolist() in lists)
    assert vectors.count(vector) == lists.count(array.tolist())


@given(ARRAYS)
def test_bool_is_that_of_a_list_that_is_not_empty(array):
    assert bool(Vector(array)) is bool(array.tolist()) is True


@given(ARRAYS)
def test_iteration_is_that_of_a_list(array):
    assert list(Vector(array)) == array.tolist()
    assert {type(number) for number in Vector(array)} == {float}


@given(ALIKE, ALIKE)
def test_assert_equal_is_that_of_lists(one, other):
    for value in (Vector(other), other.tolist()):
        assert raises(TestCase().assertEqual, Vector(one), value) is (one.tolist() != other.tolist())


@given(st.lists(ALIKE, max_size=4))
def test_sorting_by_the_numbers_is_that_of_lists(some):
    assert [list(v) for v in sorted(map(Vector, some), key=list)] == sorted(array.tolist() for array in some)


@given(arrays.arrays(np.float32, 3, elements=NUMBERS))
def test_sorting_without_a_key_fails_as_for_arrays(array):
    for kind in (Vector, np.array):
        with pytest.raises(ValueError, match="truth value"):
            sorted([kind(array), kind(array)])


@given(ARRAYS)
def test_hash_is_missing_as_for_lists_and_arrays(array):
    for value in (Vector(array), array, array.tolist()):
        with pytest.raises(TypeError, match="unhashable"):
            hash(value)


# Text


@given(ARRAYS)
def test_str_and_format_are_json_that_reads_back(array):
    vector = Vector(array)
    assert same_bits(np.float32(json.loads(str(vector))), array)
    assert f"{vector}" == str(vector)
    assert same_bits(to_vector(str(vector)), vector)


@given(ARRAYS)
def test_numpy_s_spelling_reads_back(array):
    for spelling in (str(array.astype(float)), repr(array), np.array2string(array, separator=",")):
        np.testing.assert_allclose(to_vector(spelling), array, rtol=1e-6, atol=np.abs(array).max() * 1e-7)


@given(ARRAYS)
def test_repr_is_short_and_reads_back_where_it_is_whole(array):
    vector = Vector(array)
    assert len(repr(vector)) < 140
    assert array.size > 6 or same_bits(eval(repr(vector)), vector)


@given(ARRAYS)
def test_json_of_the_list_reads_back(array):
    for value in (list(Vector(array)), Vector(array).tolist()):
        assert json.loads(json.dumps(value)) == array.tolist()


# Like an array


@given(ARRAYS, NUMBERS)
def test_comparison_with_a_number_is_that_of_an_array(array, number):
    for compare in (operator.eq, operator.ne, *COMPARISONS):
        compared = compare(Vector(array), number)
        assert type(compared) is np.ndarray
        assert same_bits(compared, compare(array, number))


@given(ARRAYS, st.sampled_from([np.ndarray.copy, np.flip, lambda a: np.float32(2), lambda a: 2]))
def test_arithmetic_is_that_of_arrays(array, other):
    vector, value = Vector(array), other(array)
    with np.errstate(all="ignore"):
        for operate in (*ARITHMETIC, *COMPARISONS):
            for left, right, plain in [(vector, value, (array, value)), (value, vector, (value, array))]:
                assert type(operate(left, right)) is np.ndarray
                assert same_bits(operate(left, right), operate(*plain))


@given(ARRAYS)
def test_signs_and_sums_are_those_of_an_array(array):
    for change in (operator.neg, abs, np.sqrt, np.sort, np.cumsum, np.square):
        with np.errstate(all="ignore"):
            assert type(change(Vector(array))) is np.ndarray
            assert same_bits(change(Vector(array)), change(array))
    for total in (np.sum, np.mean, np.max, np.linalg.norm, np.std):
        assert type(total(Vector(array))) is np.float32
        assert total(Vector(array)) == total(array)


@given(ARRAYS, SLICES)
def test_slices_are_those_of_an_array(array, part):
    assert type(Vector(array)[part]) is np.ndarray
    assert same_bits(Vector(array)[part], array[part])


@given(ARRAYS, st.integers(-9, 8))
def test_items_are_those_of_an_array(array, position):
    position = position % array.size
    assert type(Vector(array)[position]) is np.float32
    assert same_bits(Vector(array)[position], array[position])


@given(ALIKE, ALIKE)
def test_numpy_s_assertions_are_those_of_arrays(one, other):
    for assertion in (np.testing.assert_array_equal, np.testing.assert_allclose, np.testing.assert_array_almost_equal):
        assert raises(assertion, Vector(one), Vector(other)) is raises(assertion, one, other)
    for compare in (np.array_equal, np.array_equiv):
        assert compare(Vector(one), Vector(other)) == compare(one, other)


# Copies


@given(ARRAYS)
def test_copies_are_vectors_with_numbers_of_their_own(array):
    vector = Vector(array)
    copies = [copy.copy(vector), copy.deepcopy(vector), vector.copy(), Vector(vector)]
    pickles = [pickle.loads(pickle.dumps(vector, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for other in copies + pickles:
        assert type(other) is Vector
        assert same_bits(other, vector)
        assert not np.shares_memory(other, vector)
