"""hybrid(): by meaning and by words, in one statement."""

import numpy as np
import pytest
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db import ProgrammingError, connection, models

from pgembedding_django import EmbeddingField, EmbeddingManager
from pgembedding_django.embedders import get_embedder
from tests.models import Article

pytestmark = pytest.mark.django_db

TITLES = ["the red fox", "a quick brown fox jumps", "lazy dogs sleep", "foxes and hounds", "ships at sea"]


#: Draws vectors that have nothing to do with the words.
LOST = np.random.default_rng(3)


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


@pytest.mark.pgvector  # pg_embedding asks for its guard first.
def test_hybrid_is_one_statement_and_stays_a_queryset(articles, django_assert_num_queries):
    with django_assert_num_queries(1) as captured:
        rows = list(Article.objects.hybrid("fox", 2, fields=["title"]).values("title", "score"))
    assert len(rows) == 2
    assert captured[0]["sql"].count("ts_rank") == 1


def test_hybrid_behind_a_filter_asks_the_planner_first(articles, django_assert_num_queries):
    with django_assert_num_queries(2) as captured:
        list(Article.objects.filter(pk=articles[0].pk).hybrid("fox", 2, fields=["title"]))
    assert captured[0]["sql"].startswith("EXPLAIN")


def test_hybrid_ranks_by_meaning_through_the_index(articles, force_index):
    plan = Article.objects.hybrid("fox", 2, fields=["title"]).explain()
    assert "article_embedding_hnsw" in plan


def test_hybrid_completes_what_the_index_could_not_find(force_index):
    # More dead rows, all of them nearer, than an index scan visits in so little memory.
    vectors = LOST.standard_normal((3000, 3)).astype(np.float32)
    Article.objects.bulk_load(Article(title="lost", embedding=vector) for vector in vectors)
    Article.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL work_mem = '64kB'")
    Article.objects.create(title="found", embedding=[90, 90, 90])
    rows = Article.objects.hybrid("zebra", 1, fields=["title"])
    assert [row.title for row in rows] == ["found"]
    assert "article_embedding_hnsw" in rows.explain()


def test_hybrid_behind_a_filter_that_keeps_what_is_far_is_complete(force_index):
    vectors = LOST.standard_normal((3000, 3)).astype(np.float32)
    query = get_embedder().embed_query("zebra")
    near = np.linalg.norm(vectors - query, axis=1).argsort()
    far = set(near[1500:].tolist())
    Article.objects.bulk_load(
        Article(title=str(i), published=i in far, embedding=vector) for i, vector in enumerate(vectors)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE tests_article")
    rows = Article.objects.filter(published=True).hybrid("zebra", 3, fields=["title"], candidates=3)
    assert "article_embedding_hnsw" in rows.explain()
    assert [int(row.title) for row in rows] == near[1500:1503].tolist()


def test_hybrid_counts_and_exists(articles):
    rows = Article.objects.hybrid("fox", 3, fields=["title"])
    assert rows.count() == 3
    assert rows.exists()
    assert rows.first() == rows[0]


def test_hybrid_as_subquery_selects_the_same_rows(articles):
    rows = Article.objects.hybrid("fox", 2, fields=["title"])
    assert set(Article.objects.filter(pk__in=rows.values("pk"))) == set(rows)


def test_hybrid_union_keeps_both_answers(articles):
    one = Article.objects.filter(title__startswith="the").hybrid("fox", 1, fields=["title"])
    other = Article.objects.filter(title__startswith="a").hybrid("fox", 1, fields=["title"])
    assert {row.title for row in one.union(other)} == {"the red fox", "a quick brown fox jumps"}


def test_hybrid_of_values_list_stays_one(articles):
    rows = Article.objects.values_list("title", flat=True).hybrid("fox", 2, fields=["title"])
    assert set(rows) == {"the red fox", "a quick brown fox jumps"}


def test_hybrid_of_none_is_empty(articles):
    assert list(Article.objects.none().hybrid("fox", fields=["title"])) == []
    assert Article.objects.none().hybrid("fox", fields=["title"]).count() == 0


def test_hybrid_respects_the_filter(articles):
    rows = Article.objects.exclude(title="the red fox").hybrid("fox", 10, fields=["title"])
    assert "the red fox" not in {row.title for row in rows}
    assert len(rows) == 4


def test_hybrid_text_with_operators_is_only_text(articles):
    assert len(Article.objects.hybrid("fox & ! ' \" :* (", 3, fields=["title"])) == 3


@pytest.fixture
def stored(isolated):
    """A model whose words are stored, as a generated column with a GIN index, and rows of it."""

    class Page(models.Model):
        title = models.TextField()
        embedding = EmbeddingField(dimensions=3)
        search = models.GeneratedField(
            expression=SearchVector("title", config="english"), output_field=SearchVectorField(), db_persist=True
        )
        plain = SearchVectorField(null=True)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            indexes = [GinIndex(fields=["search"], name="page_search")]

    with connection.schema_editor() as editor:
        editor.create_model(Page)
    vectors = get_embedder().embed(TITLES)
    Page.objects.bulk_create(Page(title=title, embedding=vector) for title, vector in zip(TITLES, vectors, strict=True))
    Page.objects.update(plain=SearchVector("title", config="english"))
    return Page


@pytest.mark.parametrize("name", ["search", "plain"])
def test_hybrid_searches_stored_words_as_it_searches_their_text(stored, name):
    rows = stored.objects.hybrid("foxes", 5, fields=[name], config="english")
    by_text = stored.objects.hybrid("foxes", 5, fields=["title"], config="english")
    assert [(row.title, row.score) for row in rows] == [(row.title, row.score) for row in by_text]
    assert rows[0].score > 1 / 61


def test_hybrid_searches_stored_words_through_their_index(stored):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    rows = stored.objects.hybrid("foxes", 5, fields=["search"], config="english")
    assert "Bitmap Index Scan on page_search" in rows.explain()
    assert "to_tsvector" not in str(rows.query)


def test_hybrid_of_stored_words_beside_other_fields_is_refused(stored):
    with pytest.raises(ValueError) as caught:
        stored.objects.hybrid("foxes", fields=["title", "search"])
    assert str(caught.value) == ("fields must name text fields, or a SearchVectorField alone, got ['title', 'search'].")


def test_hybrid_explains_its_ranking_by_meaning(articles):
    rows = Article.objects.hybrid("fox", 2, fields=["title"])
    assert rows.explain_nearest() == Article.objects.nearest("fox", 10).explain_nearest()


def test_hybrid_filtered_afterwards_is_refused(articles):
    rows = Article.objects.hybrid("fox", 2, fields=["title"])
    for method in ("filter", "exclude"):
        with pytest.raises(TypeError) as caught:
            getattr(rows, method)(published=True)
        assert str(caught.value) == (f"{method}() cannot stand behind hybrid(), which returns a slice. Put it before.")


def test_hybrid_contains_what_it_found(articles):
    rows = Article.objects.hybrid("fox", 2, fields=["title"], config="simple")
    assert [rows.all().contains(row) for row in articles] == [True, True, False, False, False]


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


def test_hybrid_text_with_nul_is_refused_before_it_is_embedded(scripted):
    with pytest.raises(ValueError) as caught:
        Article.objects.hybrid("fox\0", fields=["title"])
    assert str(caught.value) == (
        "hybrid() searches by text without NUL characters, which Postgres cannot take. Remove them."
    )
    assert not scripted.sizes


@pytest.mark.parametrize("k", [10**7, 2**31 - 1])
def test_hybrid_takes_every_k_that_nearest_takes(articles, k):
    assert len(Article.objects.hybrid("fox", k, fields=["title"])) == 5
    assert len(Article.objects.filter(published=True).hybrid("fox", k, fields=["title"])) == 5


@pytest.mark.parametrize("candidates", [9, "20", True, 2**31])
def test_hybrid_with_candidates_out_of_bounds_is_refused(candidates):
    with pytest.raises(ValueError) as caught:
        Article.objects.hybrid("fox", 10, fields=["title"], candidates=candidates)
    assert str(caught.value) == f"candidates must be an integer from k = 10 to 2147483647, got {candidates!r}."


@pytest.mark.parametrize("config", ["klingon", "public.klingon", "nowhere.english"])
@pytest.mark.parametrize("run", [list, lambda rows: rows.count(), lambda rows: rows.exists()])
def test_hybrid_with_an_unknown_configuration_names_it_and_where_they_are(articles, config, run):
    with pytest.raises(ValueError) as caught:
        run(Article.objects.hybrid("fox", 3, fields=["title"], config=config))
    assert str(caught.value) == (
        f"config must name a text search configuration of the database, got '{config}'. "
        "List them: SELECT cfgname FROM pg_ts_config"
    )


@pytest.mark.parametrize("config", [None, "simple"])
def test_hybrid_shows_other_errors_of_the_server_as_they_are(articles, config):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE tests_article RENAME TO gone")
    with pytest.raises(ProgrammingError, match="tests_article"):
        list(Article.objects.hybrid("fox", 3, fields=["title"], config=config))


def test_hybrid_parses_the_text_once(articles):
    # Plans name what runs once for the statement an InitPlan.
    sql = str(Article.objects.hybrid("fox", 3, fields=["title"]).query)
    assert sql.count("websearch_to_tsquery") == sql.count("(SELECT websearch_to_tsquery") == 2


def test_hybrid_takes_a_thousand_words_and_refuses_more(articles):
    text = " ".join(f"word{i}" for i in range(1000))
    assert len(Article.objects.hybrid(text, 3, fields=["title"])) == 3
    with pytest.raises(ValueError) as caught:
        Article.objects.hybrid(text + ",more", fields=["title"])
    assert str(caught.value) == (
        "hybrid() searches by at most 1,000 words, got 1,001. Shorten the text, or ask nearest(), which takes any that "
        "the embedder takes."
    )


def test_hybrid_scores_each_of_many_rows(empty_index):
    Article.objects.bulk_load(Article(title=f"fox {i}", embedding=[i, 0, 1]) for i in range(3000))
    rows = list(Article.objects.hybrid("fox", 500, fields=["title"], candidates=2000))
    assert len({row.pk for row in rows}) == 500
    assert all(0 < row.score <= 2 / 61 for row in rows)
