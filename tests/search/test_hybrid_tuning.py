"""hybrid() beside fusions made by hand: weights, filters of either side, other fusions, what is told of each row."""

import numpy as np
import pytest
from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVector
from django.db import connection, models
from django.db.models import F, Q, Value
from django.db.models.functions import Coalesce, Length
from django.template import Context, Template
from hypothesis import given, settings
from hypothesis import strategies as st

from pgembedding_django import EmbeddingField, EmbeddingManager
from pgembedding_django.embedders import get_embedder
from tests.models import Article, Memo

pytestmark = pytest.mark.django_db

N, CANDIDATES, ALL = 200, 30, Q()
VECTORS = np.random.default_rng(2).standard_normal((N, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def _exactly(db):
    """Let no index be read, which finds what it finds among the rows that other tests rolled back."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_indexscan = off")


@pytest.fixture
def articles():
    """Every third title has the word "fox", so often as no other has it; every second article is published."""
    titles = [f"t{i}" + (i + 1) * " fox" if i % 3 == 0 else f"t{i}" for i in range(N)]
    return Article.objects.bulk_create(
        [
            Article(title=t[:190], published=i % 2 == 0, embedding=v)
            for i, (t, v) in enumerate(zip(titles, VECTORS, strict=True))
        ]
    )


def rank_by_hand(near=ALL, worded=ALL, candidates=CANDIDATES):
    """Return the places of primary keys in both rankings, and their distances: by numpy, and by Django's own search."""
    query = np.asarray(get_embedder().embed_query("fox"), dtype=np.float64)
    rows = Article.objects.filter(near).values_list("pk", "embedding")
    distances = {pk: float(np.linalg.norm(vector - query)) for pk, vector in rows}
    words = SearchVector("title", config="simple")
    asked = SearchQuery("fox", config="simple", search_type="websearch")
    found = Article.objects.filter(worded).annotate(w=words, r=SearchRank(words, asked)).filter(w=asked)
    meaning = sorted(distances, key=lambda pk: (distances[pk], pk))[:candidates]
    ranked = list(found.order_by("-r", "pk").values_list("pk", "r")[:candidates])
    return (
        {pk: place for place, pk in enumerate(meaning, 1)},
        {pk: place for place, (pk, _) in enumerate(ranked, 1)},
        distances,
        dict(ranked),
    )


def fuse(meaning, words, weights=(1, 1)):
    """Return keys and scores, the best first."""
    score = {
        pk: (weights[0] / (60 + meaning[pk]) if pk in meaning else 0)
        + (weights[1] / (60 + words[pk]) if pk in words else 0)
        for pk in meaning | words
    }
    return sorted(score.items(), key=lambda item: (-item[1], item[0]))


def ask(k=20, **options):
    options = {"fields": ["title"], "config": "simple", "candidates": CANDIDATES, **options}
    return Article.objects.hybrid("fox", k, **options)


def scored(rows):
    return [(row.pk, pytest.approx(row.score, abs=1e-12)) for row in rows]


@pytest.mark.parametrize("weights", [(1, 1), (2, 1), (1, 3.5), (1, 0), (0, 1)])
def test_weighted_ranks_are_those_of_a_fusion_by_hand(articles, weights):
    meaning, words, _, _ = rank_by_hand()
    assert scored(ask(weights=weights)) == fuse(meaning, words, weights)[:20]


@pytest.mark.parametrize("near", [Q(), Q(published=True), Q(title__startswith="t1"), Q(pk__in=[])])
@pytest.mark.parametrize("worded", [Q(), Q(published=False), Q(pk__in=[])])
def test_filter_of_either_side_is_that_of_a_fusion_by_hand(articles, near, worded):
    meaning, words, _, _ = rank_by_hand(near=near, worded=worded)
    assert scored(ask(meaning=near, words=worded)) == fuse(meaning, words)[:20]


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), *[st.integers(-3, 3)] * 3), max_size=12, unique_by=lambda row: row[1:]),
    st.integers(1, 6),
    st.integers(0, 6),
    st.sampled_from([(1, 1), (3, 1), (0, 1)]),
)
def test_fusion_of_any_rows_is_that_by_hand(rows, k, more, weights):
    Article.objects.all().delete()
    Article.objects.bulk_create([Article(title="x" + count * " fox", embedding=v) for count, *v in rows])
    meaning, words, _, _ = rank_by_hand(candidates=k + more)
    assert scored(ask(k, candidates=k + more, weights=weights)) == fuse(meaning, words, weights)[:k]


def test_row_tells_its_place_in_either_ranking(articles):
    meaning, words, distances, ranks = rank_by_hand()
    for row in ask(details=True):
        assert row.meaning_rank == meaning.get(row.pk)
        assert row.words_rank == words.get(row.pk)
        assert row.distance == pytest.approx(distances[row.pk] if row.pk in meaning else None, abs=1e-5)
        assert row.words_score == pytest.approx(ranks.get(row.pk), abs=1e-6)


def test_vector_of_the_text_is_not_made_again(articles, scripted):
    near = np.asarray([9, 9, 9])
    rows = ask(CANDIDATES, vector=near, weights=(1, 0), details=True)
    distances = np.linalg.norm(VECTORS.astype(np.float64) - near, axis=1)
    assert [row.distance for row in rows][:20] == pytest.approx(sorted(distances)[:20], abs=1e-5)
    assert not scripted.paid


def test_details_are_values_too(articles):
    (first, *_) = ask(details=True).values_list("pk", "words_rank", "distance")
    row = ask(details=True)[0]
    assert first == (row.pk, row.words_rank, row.distance)


def test_another_fusion_ranks_all_candidates(articles):
    meaning, words, distances, _ = rank_by_hand()
    fusion = Coalesce(-F("distance"), Value(-100.0)) + Coalesce(1000.0 / F("words_rank"), Value(0.0))
    score = {
        pk: (-distances[pk] if pk in meaning else -100) + (1000 / words[pk] if pk in words else 0)
        for pk in meaning | words
    }
    expected = sorted(score.items(), key=lambda item: (-item[1], item[0]))
    found = [(row.pk, pytest.approx(row.score, abs=1e-4)) for row in ask(CANDIDATES, fusion=fusion)]
    assert found == expected[:CANDIDATES]


def test_fusion_names_fields_of_the_rows(articles):
    meaning, words, _, _ = rank_by_hand()
    longest = sorted(meaning | words, key=lambda pk: (-len(Article.objects.get(pk=pk).title), pk))
    assert [row.pk for row in ask(5, fusion=Length("title") + 0 * F("score"), alias="length")] == longest[:5]


def test_fusion_puts_what_it_does_not_know_last(articles):
    found = list(ask(CANDIDATES, fusion=1 - F("words_rank"), words=Q(published=True, title__startswith="t1")))
    _, words, _, _ = rank_by_hand(worded=Q(published=True, title__startswith="t1"))
    assert [row.pk for row in found][: len(words)] == list(words)
    assert {row.score for row in found[len(words) :]} == {None}


def test_ranking_that_either_side_completes_is_one_statement(articles, django_assert_num_queries):
    with django_assert_num_queries(1):
        assert len(list(ask(weights=(2, 1), details=True, snippet="title"))) == 20


def test_snippet_is_html_with_the_words_marked(articles):
    Article.objects.all().delete()
    Article.objects.create(title="A fox & 1 < 2 hounds", embedding=[1, 2, 3])
    (row,) = ask(snippet="title")
    assert Template("{{ row.snippet }}").render(Context({"row": row})) == "A <mark>fox</mark> &amp; 1 &lt; 2 hounds"


def test_snippet_of_a_row_without_text_is_none():
    Memo.objects.create(title="fox", body=None, embedding=[1, 2, 3])
    (row,) = Memo.objects.hybrid("fox", 1, fields=["title"], field="embedding", snippet="body")
    assert row.snippet is None


def test_model_with_a_field_called_distance_is_searched(isolated):
    class Trip(models.Model):
        distance = models.IntegerField()
        title = models.TextField()
        embedding = EmbeddingField(dimensions=3, distance="l2")
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with connection.schema_editor() as editor:
        editor.create_model(Trip)
    Trip.objects.create(distance=7, title="fox", embedding=[1, 2, 3])
    (row,) = Trip.objects.hybrid("fox", fields=["title"])
    assert (row.distance, row.score) == (7, pytest.approx(2 / 61))
    with pytest.raises(ValueError, match=r"^alias 'distance' is a field of Trip\. Choose another\.$"):
        Trip.objects.hybrid("fox", fields=["title"], details=True)


@pytest.mark.parametrize("weights", [(0, 0), (1,), (1, -1), (1, "2"), 3, (1, float("nan")), (1, 10**7)])
def test_weights_out_of_bounds_are_refused(weights):
    with pytest.raises(ValueError) as error:
        ask(weights=weights)
    rule = "weights must be two numbers from 0 to 1,000,000, of the meaning and of the words, not both 0"
    assert str(error.value) == f"{rule}, got {weights!r}."


@pytest.mark.parametrize("snippet", ["nothing", "published", 3])
def test_snippet_of_what_is_no_text_is_refused(snippet):
    with pytest.raises(ValueError) as error:
        ask(snippet=snippet)
    assert str(error.value) == f"snippet must name a text field of Article, got {snippet!r}."
