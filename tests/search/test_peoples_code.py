"""nearest() where the code of projects has it: proxies, pages, prefetches, unions, subqueries of each row."""

import pytest
from django.core.paginator import Paginator
from django.db import connection, models
from django.db.models import OuterRef, Prefetch, Subquery

from pgembedding_django import EmbeddingField, EmbeddingManager, L2Distance

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(isolated):
    """Authors "a" and "b", who wrote the books 0 to 9 in turn; book i lies at (i, 0, 0)."""

    class Author(models.Model):
        name = models.CharField(max_length=20)

        class Meta:
            app_label = "tests"

    class Book(models.Model):
        title = models.CharField(max_length=20)
        author = models.ForeignKey(Author, models.CASCADE, related_name="books")
        embedding = EmbeddingField(dimensions=3, null=True)

        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"

    class Paperback(Book):
        objects = EmbeddingManager()

        class Meta:
            app_label = "tests"
            proxy = True

    with connection.schema_editor() as editor:
        editor.create_model(Author)
        editor.create_model(Book)
    authors = [Author.objects.create(name=name) for name in "ab"]
    for i in range(10):
        Book.objects.create(title=str(i), author=authors[i % 2], embedding=[i, 0, 0])
    isolated.Author, isolated.Book, isolated.Paperback = Author, Book, Paperback
    return isolated


def titles(rows):
    return [row.title for row in rows]


def test_nearest_of_a_proxy_takes_an_instance_of_its_concrete_model(shop):
    rows = shop.Paperback.objects.nearest(shop.Book.objects.get(title="0"), 2)
    assert (titles(rows), type(rows[0])) == (["1", "2"], shop.Paperback)


def test_nearest_takes_an_instance_of_a_proxy(shop):
    assert titles(shop.Book.objects.nearest(shop.Paperback.objects.get(title="9"), 2)) == ["8", "7"]


def test_nearest_to_an_instance_of_another_model_is_refused(shop):
    with pytest.raises(ValueError, match="query must be an instance of Paperback, got Author"):
        shop.Paperback.objects.nearest(shop.Author.objects.first())


def test_nearest_to_an_outer_row_points_at_what_works(shop):
    with pytest.raises(ValueError) as caught:
        shop.Book.objects.nearest(OuterRef("embedding"), 1)
    assert str(caught.value) == (
        "nearest() ranks Book.embedding by one vector, got OuterRef. For each row of another query, use "
        'annotate(d=L2Distance("embedding", OuterRef(...))).order_by("d")[:k] in its subquery.'
    )


def test_what_is_pointed_at_works(shop):
    others = shop.Book.objects.exclude(pk=OuterRef("pk")).annotate(d=L2Distance("embedding", OuterRef("embedding")))
    rows = shop.Book.objects.annotate(near=Subquery(others.order_by("d", "pk").values("title")[:1])).order_by("pk")
    assert [row.near for row in rows] == ["1", *map(str, range(9))]


def test_paginator_cuts_one_ranking(shop):
    pages = Paginator(shop.Book.objects.nearest([0, 0, 0], 7), 3)
    assert pages.count == 7
    assert [titles(pages.page(number)) for number in pages.page_range] == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


def test_prefetch_ranks_for_each(shop):
    near = Prefetch("books", queryset=shop.Book.objects.nearest([0, 0, 0], 2), to_attr="near")
    assert [titles(author.near) for author in shop.Author.objects.order_by("name").prefetch_related(near)] == [
        ["0", "2"],
        ["1", "3"],
    ]


def test_union_of_two_rankings(shop):
    low, high = (shop.Book.objects.filter(**{f"title__{op}": "5"}).nearest([0, 0, 0], 2) for op in ("lt", "gte"))
    assert sorted(titles(low.union(high))) == ["0", "1", "5", "6"]


def test_related_manager_ranks_its_own(shop):
    assert titles(shop.Author.objects.get(name="b").books.nearest([0, 0, 0], 2)) == ["1", "3"]


def test_rows_of_a_ranking_select_other_rows(shop):
    near = shop.Book.objects.nearest([0, 0, 0], 3)
    assert set(shop.Author.objects.filter(books__in=near)) == set(shop.Author.objects.all())
    assert set(titles(shop.Book.objects.filter(pk__in=near.values("pk")))) == {"0", "1", "2"}
