"""diversify(): maximal marginal relevance."""

import numpy as np
import pytest

from pgembedding_django import diversify
from tests.models import Required

#: Two near the query and alike, one farther and unlike.
ROWS = [Required(pk=pk, embedding=v) for pk, v in enumerate([[1, 0.1, 0], [1, 0.11, 0], [0.8, -0.6, 0], [0, 0, 1]])]
QUERY = [1, 0, 0]


def chosen(diversity, k=2):
    return [row.pk for row in diversify(ROWS, QUERY, k, diversity=diversity)]


def test_no_diversity_ranks_by_nearness():
    assert chosen(0, 4) == [0, 1, 2, 3]


def test_diversity_leaves_out_the_near_duplicate():
    # Relevance 0.995, 0.994, 0.8; likeness to the first 1.0, 0.74: 0.5 * 0.994 - 0.5 * 1.0 < 0.5 * 0.8 - 0.5 * 0.74.
    assert chosen(0.5) == [0, 2]


def test_full_diversity_takes_the_least_alike():
    assert chosen(1, 2) == [0, 3]


def test_each_row_is_chosen_once():
    assert sorted(chosen(0.5, 10)) == [0, 1, 2, 3]


def test_no_rows_choose_none():
    assert diversify([], QUERY) == []


def test_zero_vector_is_like_nothing():
    rows = [Required(pk=1, embedding=[0, 0, 0]), Required(pk=2, embedding=[1, 0, 0])]
    assert [row.pk for row in diversify(rows, np.array(QUERY), 2)] == [2, 1]


@pytest.mark.parametrize("diversity", [-0.1, 1.1, float("nan"), "0.5", True, None])
def test_diversity_out_of_range_is_refused(diversity):
    with pytest.raises(ValueError) as caught:
        diversify(ROWS, QUERY, diversity=diversity)
    assert str(caught.value) == f"diversity must be a number from 0 to 1, got {diversity!r}."


def test_query_of_another_length_is_refused():
    with pytest.raises(ValueError) as caught:
        diversify(ROWS, [1, 2])
    assert str(caught.value) == "query must have 3 dimensions, got 2."


@pytest.mark.parametrize("k", [0, -1, "5", True, None, 2.0])
def test_k_that_is_no_positive_integer_is_refused(k):
    with pytest.raises(ValueError) as caught:
        diversify(ROWS, QUERY, k)
    assert str(caught.value) == f"k must be a positive integer, got {k!r}."


def test_row_without_a_vector_is_refused():
    with pytest.raises(ValueError) as caught:
        diversify([*ROWS, Required(pk=9)], QUERY)
    assert str(caught.value) == ("Required.embedding of the row with pk 9 must be a sequence of numbers, got NoneType.")
