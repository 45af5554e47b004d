"""More like these, less like those; and the similarity beside the distance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import Article, Loose, Pair, Required
from tests.support.many import VECTORS, ids

pytestmark = pytest.mark.django_db

WIDE = VECTORS.astype(np.float64)
LIKE, UNLIKE = VECTORS[[3, 8]], VECTORS[[40, 7]]


def distances(query):
    return np.linalg.norm(WIDE - query, axis=1)


def by_hand(measured, k=5, keep=lambda i: True):
    return [int(i) for i in np.argsort(measured, kind="stable") if keep(int(i))][:k]


def rows_of(*places):
    found = {row.title: row for row in Article.objects.filter(title__in=map(str, places))}
    return [found[str(place)] for place in places]


@pytest.mark.parametrize("exact", [None, True, False])
@pytest.mark.parametrize("keep", [1, 2, 50, 1000])
def test_mean_of_vectors_is_what_is_near(many, exact, keep):
    rows = Article.objects.filter(title__in=[str(i) for i in range(0, len(VECTORS), keep)])
    found = rows.nearest(list(LIKE), 5, exact=exact)
    assert ids(found) == by_hand(distances(LIKE.astype(np.float64).mean(axis=0)), keep=lambda i: i % keep == 0)


def test_mean_moves_away_from_another(many):
    target = 2 * LIKE.astype(np.float64).mean(axis=0) - UNLIKE.astype(np.float64).mean(axis=0)
    assert ids(Article.objects.nearest(list(LIKE), 5, away_from=list(UNLIKE))) == by_hand(distances(target))


def test_instances_are_left_out_of_what_is_like_and_unlike_them(many):
    target = 2 * VECTORS[3].astype(np.float64) - VECTORS[40]
    one, other = rows_of(3, 40)
    found = Article.objects.nearest(one, len(VECTORS), away_from=other, exact=True)
    assert ids(found) == by_hand(distances(target), len(VECTORS), lambda i: i not in (3, 40))


def test_list_of_one_is_that_one(many):
    (row,) = rows_of(3)
    assert ids(Article.objects.nearest([row], 5)) == ids(Article.objects.nearest(row, 5))


@pytest.mark.parametrize("keep", [1, 50, 1000])
def test_best_match_is_near_one_of_several(many, keep):
    rows = Article.objects.filter(title__in=[str(i) for i in range(0, len(VECTORS), keep)])
    best = np.minimum(distances(LIKE[0]), distances(LIKE[1]))
    found = rows.nearest(list(LIKE), 7, match="best")
    assert ids(found) == by_hand(best, 7, lambda i: i % keep == 0)
    assert [row.distance for row in found] == pytest.approx(best[ids(found)], abs=1e-6)


def test_best_match_leaves_out_what_is_nearer_to_the_others(many):
    best = np.minimum(distances(LIKE[0]), distances(LIKE[1]))
    worst = np.minimum(distances(UNLIKE[0]), distances(UNLIKE[1]))
    found = Article.objects.nearest(list(LIKE), len(VECTORS), match="best", away_from=list(UNLIKE))
    assert ids(found) == by_hand(best, len(VECTORS), lambda i: best[i] <= worst[i])


def test_best_match_of_one_away_from_one(many):
    one, other = distances(LIKE[0]), distances(UNLIKE[0])
    found = Article.objects.nearest(LIKE[0], 9, match="best", away_from=UNLIKE[0], max_distance=1)
    assert ids(found) == by_hand(one, 9, lambda i: one[i] <= min(other[i], 1))
    assert len(found) == Article.objects.nearest(LIKE[0], 9, match="best", away_from=UNLIKE[0]).count() == 9


def test_best_match_says_that_it_reads_every_row(many):
    said = Article.objects.nearest(list(LIKE), 5, match="best").explain_nearest()
    assert said.startswith("Exact scan: the best match of several examples is among all rows")


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(-3, 3)] * 3), min_size=1, max_size=8),
    st.lists(st.tuples(*[st.integers(-3, 3)] * 3), min_size=1, max_size=3),
    st.lists(st.tuples(*[st.integers(-3, 3)] * 3), max_size=3),
    st.sampled_from(["mean", "best"]),
)
def test_examples_find_what_brute_force_finds(rows, like, unlike, match):
    Required.objects.all().delete()
    Required.objects.bulk_create([Required(embedding=row) for row in rows])
    stored, like, unlike = (np.asarray(part, dtype=np.float64).reshape(-1, 3) for part in (rows, like, unlike))
    if match == "mean":
        target = 2 * like.mean(axis=0) - unlike.mean(axis=0) if len(unlike) else like.mean(axis=0)
        expected = np.linalg.norm(stored - target, axis=1)
    else:
        expected = np.linalg.norm(stored[:, None] - like, axis=2).min(axis=1)
        if len(unlike):
            expected = expected[expected <= np.linalg.norm(stored[:, None] - unlike, axis=2).min(axis=1)]
    found = Required.objects.nearest(list(like), 20, away_from=list(unlike) or None, match=match)
    assert [row.distance for row in found] == pytest.approx(sorted(expected), abs=1e-4)


def test_examples_of_several_lengths_are_refused():
    with pytest.raises(ValueError, match=r"^Loose\.embedding is compared with vectors of one length, got \[2, 3\]\.$"):
        Loose.objects.nearest([[1, 2], [1, 2, 3]])


def test_examples_of_the_length_of_some_rows_find_those():
    Loose.objects.bulk_create([Loose(embedding=vector) for vector in ([1, 0], [3, 0], [1, 0, 0])])
    assert [row.distance for row in Loose.objects.nearest([[1, 0], [2, 0]])] == [0.5, 1.5]


# By cosine


@pytest.fixture
def pairs():
    """Directions at 0, 45, 90, 135 and 180 degrees, of several lengths, and one that has none."""
    vectors = [(3, 0), (2, 2), (0, 1), (-1, 1), (-5, 0), (0, 0)]
    return Pair.objects.bulk_create([Pair(one=vector) for vector in vectors])


def test_mean_by_cosine_is_that_of_directions(pairs):
    found = Pair.objects.nearest([[100, 0], [0, 1]], 2, field="one")
    assert [row.pk for row in found][:1] == [pairs[1].pk]
    assert found[0].distance == pytest.approx(0, abs=1e-6)


def test_mean_of_opposite_directions_is_refused(pairs):
    with pytest.raises(
        ValueError, match=r'^The examples for Pair\.one point in opposite directions\. Say match="best"'
    ):
        Pair.objects.nearest([[1, 0], [-2, 0]], 2, field="one")
    found = Pair.objects.nearest([[1, 0], [-2, 0]], 2, field="one", match="best")
    assert {row.pk for row in found} == {pairs[0].pk, pairs[4].pk}


@pytest.mark.parametrize("match", ["mean", "best"])
def test_example_without_direction_is_refused(pairs, match):
    with pytest.raises(ValueError, match="to a vector of zeros, which has no direction"):
        Pair.objects.nearest([[1, 0], [0, 0]], 2, field="one", match=match)


@pytest.mark.parametrize("exact", [None, True])
def test_best_match_leaves_out_a_row_without_direction(pairs, exact):
    found = Pair.objects.nearest([[1, 0], [0, 1]], 9, field="one", match="best", exact=exact)
    assert [row.distance for row in found] == pytest.approx([0, 0, 1 - 0.5**0.5, 1 - 0.5**0.5, 1], abs=1e-6)


@pytest.mark.parametrize("exact", [True, False])
def test_similarity_is_the_cosine_and_not_less_than_0(pairs, exact):
    found = Pair.objects.nearest([1, 0], 9, field="one", similarity="similarity", exact=exact)
    assert [row.similarity for row in found] == pytest.approx([1, 0.5**0.5, 0, 0, 0], abs=1e-6)
    assert [row.distance for row in found] == pytest.approx([0, 1 - 0.5**0.5, 1, 1 + 0.5**0.5, 2], abs=1e-6)


def test_similarity_is_a_value_too(pairs):
    found = Pair.objects.nearest([1, 0], 2, field="one", similarity="like").values_list("like", flat=True)
    assert list(found) == pytest.approx([1, 0.5**0.5], abs=1e-6)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("least", "kept"), [(0, 5), (0.001, 2), (0.7, 2), (0.71, 1), (1, 1)])
def test_min_similarity_leaves_out_what_is_less_similar(pairs, least, kept, exact):
    found = Pair.objects.nearest([1, 0], 9, field="one", min_similarity=least, exact=exact)
    assert [row.pk for row in found] == [row.pk for row in pairs[:kept]]


def test_min_similarity_and_max_distance_both_hold(pairs):
    assert len(Pair.objects.nearest([1, 0], 9, field="one", min_similarity=0.5, max_distance=0.1)) == 1
    assert len(Pair.objects.nearest([1, 0], 9, field="one", min_similarity=1, max_distance=0.5)) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"match": "worst"}, 'match must be "mean" or "best", got \'worst\'.'),
        ({"min_similarity": 1.5}, "min_similarity must be a number from 0 to 1, got 1.5."),
        (
            {"min_similarity": 0.5, "distance": "l2"},
            'min_similarity needs the cosine distance, got "l2". Say distance=',
        ),
        (
            {"similarity": "s", "distance": "l1"},
            'similarity needs the cosine distance, got "l1". Say distance="cosine".',
        ),
        ({"similarity": "two"}, "alias 'two' is a field of Pair. Choose another."),
        (
            {"similarity": "distance"},
            "similarity must have another name than the distance, got 'distance' for both.",
        ),
        ({"away_from": [1, 2, 3]}, "Pair.one must have 2 dimensions, got 3."),
    ],
)
@pytest.mark.filterwarnings("ignore:Pair.one is indexed")
def test_arguments_that_cannot_be_say_why(options, message):
    with pytest.raises(ValueError) as error:
        Pair.objects.nearest([1, 0], 9, field="one", **options)
    assert str(error.value).startswith(message)
