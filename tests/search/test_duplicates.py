"""near_duplicates(): each pair once, as brute force finds them."""

import io
import json
from itertools import combinations, islice

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import Article, Loose, Memo, Pair, Required

pytestmark = pytest.mark.django_db

VECTORS = np.random.default_rng(5).standard_normal((300, 3)).astype(np.float32)


def by_hand(vectors, limit):
    """Return the pairs of places whose vectors are within a distance."""
    wide = np.asarray(vectors, dtype=np.float64)
    return {
        (i, j): np.linalg.norm(wide[i] - wide[j])
        for i, j in combinations(range(len(wide)), 2)
        if np.linalg.norm(wide[i] - wide[j]) <= limit
    }


def placed(pairs):
    found = list(pairs)
    answer = {(int(pair.one.title), int(pair.other.title)): pair.distance for pair in found}
    assert len(answer) == len(found)
    return answer


@pytest.fixture
def articles(empty_index):
    return Article.objects.bulk_create([Article(title=str(i), embedding=v) for i, v in enumerate(VECTORS)])


@pytest.mark.parametrize("exact", [None, True, False])
@pytest.mark.parametrize("batch_size", [7, 300, 1000])
def test_pairs_are_those_of_brute_force_each_once(articles, exact, batch_size):
    found = placed(Article.objects.near_duplicates(0.2, exact=exact, batch_size=batch_size))
    assert found == pytest.approx(by_hand(VECTORS, 0.2), abs=1e-5)


@pytest.mark.parametrize("keep", [2, 10])
def test_pairs_are_among_the_rows_that_a_filter_keeps(articles, keep):
    rows = Article.objects.filter(title__in=[str(i) for i in range(0, 300, keep)]).order_by("-title")
    expected = {pair: d for pair, d in by_hand(VECTORS, 0.5).items() if not any(i % keep for i in pair)}
    assert placed(rows.near_duplicates(0.5)) == pytest.approx(expected, abs=1e-5)


def test_more_alike_than_are_asked_for_at_first_are_all_paired(empty_index):
    Article.objects.bulk_create([Article(title=str(i), embedding=[1, 2, 3]) for i in range(130)])
    Article.objects.create(title="far", embedding=[9, 9, 9])
    found = placed(Article.objects.near_duplicates(0))
    assert found == dict.fromkeys(combinations(range(130), 2), 0)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(*[st.integers(-2, 2)] * 3), max_size=14), st.integers(0, 3), st.integers(1, 15))
def test_pairs_of_any_rows_are_those_of_brute_force(vectors, limit, batch_size):
    Required.objects.all().delete()
    rows = Required.objects.bulk_create([Required(embedding=vector) for vector in vectors])
    places = {row.pk: place for place, row in enumerate(rows)}
    found = list(Required.objects.near_duplicates(limit, batch_size=batch_size))
    answer = {(places[pair.one.pk], places[pair.other.pk]): pair.distance for pair in found}
    assert len(answer) == len(found)
    assert answer == pytest.approx(by_hand(vectors, limit), abs=1e-5)


def test_pages_are_read_as_they_are_needed(articles):
    with CaptureQueriesContext(connection) as queries:
        assert len(list(islice(Article.objects.near_duplicates(0.5, batch_size=10), 1))) == 1
    # An answer that an index left short is completed by another statement for the same rows.
    assert len({each["sql"].partition("ORDINALITY")[0] for each in queries if "LATERAL" in each["sql"]}) == 1


def test_index_serves_the_neighbours_of_a_page(articles, force_index):
    with CaptureQueriesContext(connection) as queries:
        list(Article.objects.near_duplicates(0.01, exact=False, batch_size=300))
    statement = next(each["sql"] for each in queries if "LATERAL" in each["sql"])
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {statement.replace('%', '%%')}", [])
        assert "article_embedding_hnsw" in "\n".join(line for (line,) in cursor.fetchall())


def test_row_without_direction_has_no_pair_by_cosine():
    Pair.objects.bulk_create([Pair(one=vector) for vector in ([1, 0], [0, 0], [2, 0], [0, 0], None)])
    ((one, other, distance),) = Pair.objects.near_duplicates(0.1, field="one")
    assert (one.one.tolist(), other.one.tolist(), distance) == ([1, 0], [2, 0], 0)


def test_row_of_zeros_has_pairs_by_another_distance():
    Required.objects.bulk_create([Required(embedding=[0, 0, 0]) for _ in range(2)])
    assert len(list(Required.objects.near_duplicates(0))) == 1


def test_vectors_of_any_length_are_paired_with_their_own():
    Loose.objects.bulk_create([Loose(embedding=vector) for vector in ([1, 0], [1, 0, 0], [1, 0], [1, 0, 0])])
    assert sorted(pair.one.embedding.size for pair in Loose.objects.near_duplicates(0)) == [2, 3]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda rows: rows[:5].near_duplicates(1), TypeError, "near_duplicates() must stand before any slice"),
        (lambda rows: rows.values("pk").near_duplicates(1), TypeError, "near_duplicates() pairs instances of a model"),
        (lambda rows: rows.distinct("title").near_duplicates(1), TypeError, "near_duplicates() cannot stand behind"),
        (lambda rows: rows.near_duplicates("far"), ValueError, "max_distance must be a number, got 'far'."),
        (
            lambda rows: rows.near_duplicates(1, batch_size=0),
            ValueError,
            "batch_size must be a positive integer, got 0.",
        ),
        (
            lambda rows: rows.near_duplicates(1, field="title"),
            ValueError,
            "field must name an EmbeddingField of Article",
        ),
    ],
)
def test_what_cannot_be_paired_says_why(make, error, message):
    with pytest.raises(error) as raised:
        make(Article.objects.all())
    assert str(raised.value).startswith(message)


# The command


def run(*args, **options):
    out = io.StringIO()
    call_command("find_duplicates", *args, stdout=out, **options)
    return out.getvalue().splitlines()


def test_command_lists_each_pair_and_counts(empty_index):
    one, other, _ = Article.objects.bulk_create(
        [Article(title=t, embedding=v) for t, v in (("a", [1, 0, 0]), ("b", [1, 0, 0.5]), ("c", [5, 0, 0]))]
    )
    assert run("tests.Article", 0.5) == [f"0.5000  pk {one.pk} and {other.pk}: a | b", "1 pair."]
    assert run("tests.Article", 0.4) == ["0 pairs."]
    assert run("tests.Article", 0.5, filter=["title=a"]) == ["0 pairs."]


def test_command_as_json_gives_an_object_a_line():
    rows = Memo.objects.bulk_create([Memo(loud=[1, 0, 0]) for _ in range(3)])
    found = [json.loads(line) for line in run("tests.Memo.loud", 0, "--json", limit=2)]
    assert found == [{"one": rows[0].pk, "other": row.pk, "distance": 0} for row in rows[1:]]


def test_command_measures_by_the_distance_that_is_named():
    Required.objects.bulk_create([Required(embedding=v) for v in ([1, 0, 0], [5, 0, 0])])
    assert run("tests.Required", 0.1)[-1] == "0 pairs."
    assert run("tests.Required", 0.1, distance="cosine")[-1] == "1 pair."


def test_command_of_what_cannot_be_paired_says_why():
    with pytest.raises(
        CommandError, match=r"^Memo has 2 embedding fields \(embedding, loud\)\. Name one with field=\.$"
    ):
        run("tests.Memo", 0)
