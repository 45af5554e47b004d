"""facets(): counts over what was found."""

from collections import Counter

import numpy as np
import pytest
from django.db import connection, models
from django.db.models.functions import Left

from pgembedding_django import EmbeddingField, EmbeddingManager
from tests.models import Article, Section
from tests.support.many import QUERY, VECTORS

pytestmark = pytest.mark.django_db

N = 300
RANKED = np.argsort(np.linalg.norm(VECTORS[:N].astype(np.float64) - QUERY, axis=1)).tolist()


@pytest.fixture
def articles(empty_index):
    """Rows in three sections and in none, in turns; every fifth is not published."""
    sections = [*Section.objects.bulk_create(Section(name=name) for name in "abc"), None]
    return Article.objects.bulk_create(
        Article(title=str(i), section=sections[i % 4], published=i % 5 > 0, embedding=VECTORS[i]) for i in range(N)
    )


def by_hand(places):
    sections = Counter(["a", "b", "c", None][i % 4] for i in places)
    return {"section__name": dict(sections), "published": dict(Counter(i % 5 > 0 for i in places))}


@pytest.mark.parametrize("k", [1, 17, 1000])
@pytest.mark.parametrize("keep", [1, 3, 100])
def test_facets_count_what_is_found(articles, k, keep):
    rows = Article.objects.filter(title__in=[str(i) for i in range(0, N, keep)]).nearest(QUERY, k)
    assert rows.facets("section__name", "published") == by_hand([i for i in RANKED if i % keep == 0][:k])


@pytest.mark.pgvector  # pg_embedding asks for its guard first.
def test_facets_are_one_query(articles, django_assert_num_queries):
    rows = Article.objects.nearest(QUERY, 20)
    with django_assert_num_queries(1):
        assert rows.facets("section__name", "published") == by_hand(RANKED[:20])
    list(rows)
    with django_assert_num_queries(1):
        assert rows.facets("section__name") == {"section__name": by_hand(RANKED[:20])["section__name"]}


def test_most_frequent_value_comes_first(articles):
    counts = list(Article.objects.nearest(QUERY, 50).facets("section__name")["section__name"].values())
    assert counts == sorted(counts, reverse=True)


def test_facets_of_a_page_and_within_a_distance(articles):
    assert (
        Article.objects.nearest(QUERY, 50)[10:30].facets("published")["published"]
        == by_hand(RANKED[10:30])["published"]
    )
    near = [i for i in RANKED[:50] if np.linalg.norm(VECTORS[i].astype(np.float64) - QUERY) <= 0.5]
    rows = Article.objects.nearest(QUERY, 50, max_distance=0.5, alias="far")
    assert rows.facets("published")["published"] == by_hand(near)["published"]


def test_facets_of_values_are_those_of_their_rows(articles):
    rows = Article.objects.values("title").nearest(QUERY, 20)
    list(rows)
    assert rows.facets("published")["published"] == by_hand(RANKED[:20])["published"]


def test_facets_of_hybrid_count_its_rows(articles):
    rows = Article.objects.hybrid("7", 30, fields=["title"], config="simple")
    assert rows.facets("published")["published"] == by_hand([int(row.title) for row in rows])["published"]


def test_facets_of_an_annotation_and_of_a_relation_itself(articles):
    rows = Article.objects.annotate(initial=Left("title", 1)).nearest(QUERY, 20)
    list(rows)
    initials, sections = rows.facets("initial", "section").values()
    assert initials == Counter(str(i)[0] for i in RANKED[:20])
    assert sections == Counter(articles[i].section_id for i in RANKED[:20])


def test_facets_of_several_related_rows_count_each_once(isolated):
    class Label(models.Model):
        name = models.CharField(max_length=5)

        class Meta:
            app_label = "tests"

    class Post(models.Model):
        day = models.DateField()
        tags = models.ManyToManyField(Label)
        embedding = EmbeddingField(dimensions=3)
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    with connection.schema_editor() as editor:
        editor.create_model(Label)
        editor.create_model(Post)
    red, blue, other_red = Label.objects.bulk_create(Label(name=name) for name in ("red", "blue", "red"))
    posts = Post.objects.bulk_create(Post(day=f"202{i}-05-06", embedding=[i, 0, 0]) for i in range(4))
    posts[0].tags.add(red, blue, other_red)
    posts[1].tags.add(red)
    posts[3].tags.add(blue)
    rows = Post.objects.nearest([0, 0, 0], 3)
    assert rows.facets("tags__name", "day__year") == {
        "tags__name": {"red": 2, None: 1, "blue": 1},
        "day__year": {2020: 1, 2021: 1, 2022: 1},
    }


def test_facets_of_no_rows_are_empty():
    assert Article.objects.nearest(QUERY, 3).facets("title") == {"title": {}}


def test_facets_without_a_name_or_a_ranking_are_refused():
    with pytest.raises(ValueError, match=r"^facets\(\) needs the name of a field\.$"):
        Article.objects.nearest(QUERY, 3).facets()
    with pytest.raises(TypeError, match=r"^facets\(\) counts what nearest\(\) or hybrid\(\) found\."):
        Article.objects.all().facets("title")


def test_values_that_cannot_be_counted_are_refused(articles):
    with pytest.raises(TypeError) as caught:
        Article.objects.nearest(QUERY, 5).facets("published", "embedding")
    assert str(caught.value) == "facets() counts equal values, and 'embedding' has a Vector, which has no hash."
