"""diversify(): maximal marginal relevance."""

import numpy as np
import pytest

from pgembedding_django import diversify
from pgembedding_django.embedders import get_embedder
from tests.models import Article, Loose, Pair, Required, Section

#: What stands after the rule, as behind nearest().
REMEDY = "Pass a vector, a text or an instance of Required."

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
    assert str(caught.value) == "Required.embedding must have 3 dimensions, got 2."


def test_query_may_be_an_instance():
    assert [row.pk for row in diversify(ROWS, ROWS[0], 2)] == [row.pk for row in diversify(ROWS, [1, 0.1, 0], 2)]


def test_query_may_be_a_text_which_is_embedded():
    vector = get_embedder().embed_query("fox")
    assert diversify(ROWS, "fox", 3) == diversify(ROWS, vector, 3)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Section(name="s"), "query must be an instance of Required, got Section."),
        (Required(pk=4), "Required.embedding of the instance with pk 4 is None, so nothing is near it."),
        (5, f"Required.embedding must be a sequence of numbers, got int. {REMEDY}"),
        (None, f"Required.embedding cannot be compared with None. {REMEDY}"),
        (
            " ",
            "Required.embedding cannot be searched by this text: DummyEmbedder needs text to embed, but the query is "
            "blank.",
        ),
    ],
    ids=["model", "instance", "number", "none", "blank"],
)
def test_query_that_is_none_is_refused_as_by_nearest(query, message):
    with pytest.raises(ValueError) as caught:
        diversify(ROWS, query)
    assert str(caught.value) == message


def test_only_field_is_found_and_one_of_several_is_named():
    pairs = [Pair(pk=1, one=[1, 0], two=[0, 1]), Pair(pk=2, one=[0, 1], two=[1, 0])]
    assert [row.pk for row in diversify(pairs, [0, 1], field="two")] == [1, 2]
    with pytest.raises(ValueError, match=r"Pair has 2 embedding fields \(one, two\). Name one with field="):
        diversify(pairs, [0, 1])


def test_rows_without_a_field_are_refused():
    with pytest.raises(TypeError, match="Section has no EmbeddingField"):
        diversify([Section(name="s")], QUERY)


def test_vectors_of_any_length_are_compared_with_a_vector_alone():
    rows = [Loose(pk=1, embedding=[0, 1]), Loose(pk=2, embedding=[1, 0])]
    assert [row.pk for row in diversify(rows, [1, 0])] == [2, 1]
    with pytest.raises(ValueError, match=r"Loose\.embedding has no dimensions"):
        diversify(rows, "fox")
    with pytest.raises(ValueError, match=r"Loose\.embedding of the row with pk 1 must have 3 dimensions, got 2"):
        diversify(rows, [1, 0, 0])


@pytest.mark.django_db
def test_queryset_is_asked_for_its_field():
    Article.objects.bulk_create(Article(title=row.pk, embedding=row.embedding) for row in ROWS)
    assert [row.title for row in diversify(Article.objects.nearest(QUERY), QUERY, 2)] == ["0", "2"]


def test_rows_that_are_no_instances_are_refused():
    with pytest.raises(ValueError) as caught:
        diversify([{"embedding": QUERY}], QUERY)
    assert str(caught.value) == "diversify() chooses among instances of a model, got dict. Leave out values()."


@pytest.mark.parametrize("k", [0, -1, "5", True, None, 2.0])
def test_k_that_is_no_positive_integer_is_refused(k):
    with pytest.raises(ValueError) as caught:
        diversify(ROWS, QUERY, k)
    assert str(caught.value) == f"k must be a positive integer, got {k!r}."


def test_row_without_a_vector_is_refused():
    with pytest.raises(ValueError) as caught:
        diversify([*ROWS, Required(pk=9)], QUERY)
    assert str(caught.value) == ("Required.embedding of the row with pk 9 must be a sequence of numbers, got NoneType.")
