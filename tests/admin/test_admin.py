"""EmbeddingAdminMixin in Django's own admin."""

from functools import partial

import pytest
from django.db import models

from pgembedding_django import SparseVectorField
from pgembedding_django.admin.columns import ReadableVector
from tests.admin import serve, staff
from tests.models import Article

pytestmark = pytest.mark.django_db

LINE = "3 dimensions · norm 3.7417 · [1.0000, 2.0000, 3.0000]"


@pytest.fixture
def article():
    return Article.objects.create(title="a", embedding=[1, 2, 3])


@pytest.fixture
def register(settings):
    """Serve an admin site that has Article alone, with a ModelAdmin of the given attributes."""
    return partial(serve, settings, Article)


@pytest.fixture
def viewer():
    """A client of someone who may look and not change."""
    return staff("view_article")


def change_url(article):
    return f"/admin/tests/article/{article.pk}/change/"


def test_vector_in_list_display_is_one_line(article, register, admin_client):
    register(list_display=["title", "embedding"])
    Article.objects.create(title="none")
    page = admin_client.get("/admin/tests/article/").content.decode()
    assert LINE in page
    assert '<td class="field-embedding">-</td>' in page


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"fields": ["title", "embedding"]},
        {"fields": [("title", "embedding")]},
        {"fieldsets": [(None, {"fields": ["title"]}), ("Vector", {"fields": ["embedding"]})]},
    ],
    ids=["default", "fields", "one line", "fieldsets"],
)
@pytest.mark.parametrize("readonly", [(), ("embedding",)], ids=["form", "readonly"])
def test_vector_on_the_change_page_is_one_line(article, register, admin_client, attributes, readonly):
    register(readonly_fields=readonly, **attributes)
    page = admin_client.get(change_url(article)).content.decode()
    assert page.count(LINE) == 1


@pytest.mark.parametrize("attributes", [{}, {"fields": ["title", "embedding"]}], ids=["default", "fields"])
def test_vector_for_who_may_only_view_is_one_line(article, register, viewer, attributes):
    register(**attributes)
    assert LINE in viewer.get(change_url(article)).content.decode()


def test_saving_with_a_readonly_vector_keeps_it(article, register, admin_client):
    register(readonly_fields=["embedding", "published", "section"])
    answer = admin_client.post(change_url(article), {"title": "b"})
    assert answer.status_code == 302
    article.refresh_from_db()
    assert (article.title, article.embedding.tolist()) == ("b", [1, 2, 3])


def test_other_columns_stay_as_they_are(article, register, admin_client):
    register(list_display=["__str__", "title", lambda row: f"no. {row.pk}"], readonly_fields=["title"])
    assert f"no. {article.pk}" in admin_client.get("/admin/tests/article/").content.decode()


def test_sparse_vector_is_shown_in_one_line(isolated):
    class Page(models.Model):
        words = SparseVectorField(dimensions=90)

        class Meta:
            app_label = "tests"

    column = ReadableVector(Page._meta.get_field("words"))
    assert column(Page(words={3: 1.5})) == "{4:1.5}/90"
    assert column(Page(words=dict.fromkeys(range(60), 1))).endswith("…")
    assert column(Page()) is None
