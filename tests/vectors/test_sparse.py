"""SparseVector: what it takes, what it gives, and how it travels."""

import copy
import pickle

import numpy as np
import pgvector
import pytest
from django.db.migrations.writer import MigrationWriter

from pgembedding_django import SparseVector
from pgembedding_django.vectors import InvalidVector, is_zero, to_sparse

EXPECTED = SparseVector({0: 1.5, 3: -2}, 5)


@pytest.mark.parametrize(
    "value",
    [
        [1.5, 0, 0, -2, 0],
        np.float32([1.5, 0, 0, -2, 0]),
        "{1:1.5,4:-2}/5",
        " { 4:-2 , 1:1.5 } / 5 ",
        "[1.5,0,0,-2,0]",
        pgvector.SparseVector({0: 1.5, 3: -2}, 5),
        EXPECTED,
    ],
    ids=["list", "array", "text", "text out of order", "JSON", "pgvector", "itself"],
)
def test_value_of_every_kind_is_the_same_vector(value):
    vector = SparseVector(value) if value is not EXPECTED else to_sparse(value)
    assert vector == EXPECTED
    assert (vector.indices(), vector.values(), vector.dimensions()) == ([0, 3], [1.5, -2.0], 5)


@pytest.mark.parametrize("make", ["coo_array", "csr_array", "csr_matrix"])
def test_scipy_s_row_is_taken_and_given_back(make):
    sparse = pytest.importorskip("scipy.sparse")
    row = getattr(sparse, make)(np.float32([[1.5, 0, 0, -2, 0]]))
    assert SparseVector(row) == EXPECTED
    assert EXPECTED.to_coo().toarray().tolist() == [[1.5, 0, 0, -2, 0]]


def test_scipy_s_matrix_of_several_rows_is_refused():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(ValueError) as caught:
        SparseVector(sparse.coo_array(np.ones((2, 3))))
    assert str(caught.value) == "SparseVector must be one row, got shape (2, 3)."


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (({0: 1.5},), "SparseVector must be given with its dimensions, as SparseVector({0: 1.5}, 5)."),
        (([1, 2], 2), "SparseVector takes dimensions with {place: number} alone."),
        (({5: 1}, 3), "SparseVector must have places from 0 to 2, got 5 to 5."),
        (({-1: 1}, 3), "SparseVector must have places from 0 to 2, got -1 to -1."),
        (({"a": 1}, 3), "SparseVector must have integers for places."),
        (({0: 1}, 0), "SparseVector must have from 1 to 1,000,000,000 dimensions, got 0."),
        (("{1:x}/3",), 'SparseVector must be a text such as "{1:1.5,3:2}/5".'),
        (("{1:1,1:2}/3",), "SparseVector must name each place once."),
        (({0: float("nan")}, 3), "SparseVector must be finite, got nan at position 0."),
        ((np.ones(16_001),), "SparseVector must have at most 16,000 numbers that are not zero, got 16,001."),
        ((None,), "SparseVector must be a sequence of numbers, got NoneType."),
    ],
)
def test_value_that_is_no_sparse_vector_is_refused(args, message):
    with pytest.raises(InvalidVector) as caught:
        SparseVector(*args)
    assert str(caught.value) == message


def test_to_sparse_names_the_field_and_takes_its_dimensions():
    assert to_sparse({0: 1.5, 3: -2}, dimensions=5) == EXPECTED
    with pytest.raises(InvalidVector) as caught:
        to_sparse([1, 2], name="Page.words", dimensions=5)
    assert str(caught.value) == "Page.words must have 5 dimensions, got 2."
    with pytest.raises(InvalidVector) as caught:
        to_sparse("{0:1}/5", name="Page.words", dimensions=5)
    assert str(caught.value) == "Page.words must have places from 0 to 4, got -1 to -1."


def test_text_has_every_number_and_reads_back():
    vector = SparseVector({2: 0.1, 10**6: 1e-7}, 2 * 10**6)
    assert str(vector) == "{3:0.1,1000001:1e-7}/2000000"
    assert SparseVector(str(vector)) == vector
    assert repr(vector) == "SparseVector(2 of 2,000,000 numbers)"


def test_vector_of_zeros_has_no_numbers_and_no_direction():
    zero = SparseVector([0, 0])
    assert (str(zero), zero.to_list()) == ("{}/2", [0, 0])
    assert SparseVector("{}/2") == zero
    assert is_zero(zero)
    assert not is_zero(EXPECTED)


def test_binary_form_reads_back():
    assert SparseVector.from_binary(EXPECTED.to_binary()) == EXPECTED
    assert EXPECTED.to_binary() == pgvector.SparseVector({0: 1.5, 3: -2}, 5).to_binary()


def test_equal_vectors_are_one_in_a_set_and_others_are_not():
    assert {EXPECTED, SparseVector("{1:1.5,4:-2}/5")} == {EXPECTED}
    assert pgvector.SparseVector({0: 1.5, 3: -2}, 5) == EXPECTED
    assert SparseVector({0: 1.5, 3: -2}, 6) != EXPECTED
    assert SparseVector({0: 1.5, 2: -2}, 5) != EXPECTED
    assert SparseVector({0: 1.5, 3: 2}, 5) != EXPECTED
    assert EXPECTED != "{1:1.5,4:-2}/5"


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda vector: pickle.loads(pickle.dumps(vector))])
def test_copies_are_equal(way):
    assert way(EXPECTED) == EXPECTED


def test_migration_writes_the_vector():
    assert MigrationWriter.serialize(EXPECTED)[0] == "pgembedding_django.SparseVector('{1:1.5,4:-2.0}/5')"
