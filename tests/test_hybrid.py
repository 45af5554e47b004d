"""hybrid(): by meaning and by words, in one statement."""

import pytest

from pgembedding_django.embedders import get_embedder
from tests.models import Article

pytestmark = pytest.mark.django_db

TITLES = ["the red fox", "a quick brown fox jumps", "lazy dogs sleep", "foxes and hounds", "ships at sea"]


@pytest.fixture
def articles():
    vectors = get_embedder().embed(TITLES)
    return Article.objects.bulk_create(
        Article(title=title, embedding=vector) for title, vector in zip(TITLES, vectors, strict=True)
    )


def by_hand(text):
    """Ranks by distance in Python and by words in the head: reciprocal rank fusion of both."""
    query = get_embedder().embed_query(text)
    vectors = get_embedder().embed(TITLES)
    near = sorted(TITLES, key=lambda title: float(((vectors[TITLES.index(title)] - query) ** 2).sum()))
    words = ["the red fox", "a quick brown fox jumps"] if text == "fox" else []
    scores = {title: 1 / (61 + near.index(title)) for title in TITLES}
    return scores, words


def test_hybrid_ranks_what_both_rankings_have_first(articles):
    scores, words = by_hand("fox")
    rows = list(Article.objects.hybrid("fox", 5, fields=["title"], config="simple"))
    for row in rows:
        rest = row.score - scores[row.title]
        assert rest == pytest.approx(0 if row.title not in words else 1 / 61, abs=1 / 61 - 1 / 62 + 1e-9)
    assert [row.score for row in rows] == sorted((row.score for row in rows), reverse=True)
    assert {row.title for row in rows[:2]} == set(words)


def test_hybrid_stems_with_a_configuration(articles):
    titles = [row.title for row in Article.objects.hybrid("foxes", 3, fields=["title"], config="english")]
    assert set(titles) == {"the red fox", "a quick brown fox jumps", "foxes and hounds"}


def test_hybrid_without_matching_words_ranks_by_meaning(articles):
    rows = Article.objects.hybrid("zebra", 3, fields=["title"])
    assert [row.title for row in rows] == [row.title for row in Article.objects.nearest("zebra", 3)]


def test_hybrid_is_one_statement_and_stays_a_queryset(articles, django_assert_num_queries):
    with django_assert_num_queries(1):
        rows = list(Article.objects.filter(published=True).hybrid("fox", 2, fields=["title"]).values("title", "score"))
    assert len(rows) == 2


def test_hybrid_respects_the_filter(articles):
    rows = Article.objects.exclude(title="the red fox").hybrid("fox", 10, fields=["title"])
    assert "the red fox" not in {row.title for row in rows}
    assert len(rows) == 4


def test_hybrid_text_with_operators_is_only_text(articles):
    assert len(Article.objects.hybrid("fox & ! ' \" :* (", 3, fields=["title"])) == 3


@pytest.mark.parametrize("fields", [[], "title", [1], ["embedding"]])
def test_hybrid_without_fields_is_refused(fields):
    with pytest.raises(ValueError) as caught:
        Article.objects.hybrid("fox", fields=fields)
    assert str(caught.value) == f"fields must be a list of names of text fields, got {fields!r}."


@pytest.mark.parametrize(("text", "kind"), [([1, 2, 3], "list"), (None, "NoneType")])
def test_hybrid_by_what_is_no_text_is_refused(text, kind):
    with pytest.raises(ValueError) as caught:
        Article.objects.hybrid(text, fields=["title"])
    assert str(caught.value) == f"hybrid() searches by text, got {kind}."


@pytest.mark.parametrize("candidates", [9, "20", True])
def test_hybrid_with_fewer_candidates_than_k_is_refused(candidates):
    with pytest.raises(ValueError) as caught:
        Article.objects.hybrid("fox", 10, fields=["title"], candidates=candidates)
    assert str(caught.value) == f"candidates must be an integer of at least k = 10, got {candidates!r}."
