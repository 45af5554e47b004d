"""What counts as an integer or a number within bounds."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from pgembedding_django.bounds import is_integer, is_number, is_writable_integer


@pytest.mark.parametrize("value", [1, 5, 10**30, np.int64(3)])
def test_integer_of_at_least_one_is_one(value):
    assert is_integer(value, 1)


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "1", None, np.float32(1), float("nan")])
def test_anything_else_is_no_integer_of_at_least_one(value):
    assert not is_integer(value, 1)


def test_integer_is_within_its_upper_bound():
    assert [value for value in range(5) if is_integer(value, 1, 3)] == [1, 2, 3]


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), Fraction(1, 3)])
def test_number_from_zero_to_one_is_one(value):
    assert is_number(value, 0, 1)


@pytest.mark.parametrize("value", [-0.1, 1.1, True, float("nan"), "0.5", None, Decimal("0.5")])
def test_anything_else_is_no_number_from_zero_to_one(value):
    assert not is_number(value, 0, 1)


def test_integer_of_numpy_cannot_be_written_by_a_migration():
    assert [is_writable_integer(value, 1) for value in (1, np.int64(1), True, 0)] == [True, False, False, False]
