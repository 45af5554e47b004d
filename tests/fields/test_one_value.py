"""What Django does with the value of a field, where it takes it for one value."""

import pytest
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import connection, models
from django.db.models import Count

from pgembedding_django import EmbeddingField, Vector
from tests.admin import serve, staff
from tests.models import Article, Section

pytestmark = pytest.mark.django_db

VECTOR = Vector([0.1, 2, 3])


@pytest.fixture
def note(isolated):
    """Make a model with two uniqueness rules over its vector, and return it."""

    class Note(models.Model):
        name = models.CharField(max_length=50)
        embedding = EmbeddingField(dimensions=3, null=True)

        class Meta:
            app_label = "tests"
            constraints = [models.UniqueConstraint(fields=["name", "embedding"], name="note_unique")]
            unique_together = [("embedding", "name")]

    with connection.schema_editor() as editor:
        editor.create_model(Note)
    return Note


def test_row_that_is_unique_with_its_vector_is_valid(note):
    note.objects.create(name="a", embedding=VECTOR)
    for other in (note(name="b", embedding=VECTOR), note(name="a", embedding=[1, 2, 3]), note(name="a")):
        other.full_clean()


def test_row_that_repeats_a_vector_is_refused(note):
    note.objects.create(name="a", embedding=VECTOR)
    with pytest.raises(ValidationError) as caught:
        note(name="a", embedding=VECTOR).full_clean()
    assert [error.code for error in caught.value.error_dict["__all__"]] == ["unique_together", "unique_together"]


def test_vectors_are_counted_and_grouped(note):
    for name, vector in [("a", VECTOR), ("b", VECTOR), ("c", [1, 2, 3])]:
        note.objects.create(name=name, embedding=vector)
    counted = note.objects.values("embedding").annotate(rows=Count("pk")).order_by("rows")
    assert [(row["embedding"], row["rows"]) for row in counted] == [([1, 2, 3], 1), (VECTOR, 2)]


@pytest.mark.pgvector
@pytest.mark.parametrize("parameter", [lambda v: v, str, list, lambda v: v.tolist()])
def test_vector_is_a_parameter_of_raw_sql(parameter):
    Article.objects.create(title="a", embedding=VECTOR)
    with connection.cursor() as cursor:
        cursor.execute("SELECT embedding <-> %s::vector FROM tests_article", [parameter(VECTOR)])
        assert cursor.fetchall() == [(0.0,)]
    [row] = Article.objects.raw("SELECT * FROM tests_article WHERE embedding = %s::vector", [parameter(VECTOR)])
    assert row.embedding == VECTOR


def test_vectors_are_looked_up_as_other_values_are(note):
    rows = [note.objects.create(name=name, embedding=vector) for name, vector in [("a", VECTOR), ("b", [1, 2, 3])]]
    assert list(note.objects.filter(embedding__in=[VECTOR, [9, 9, 9]])) == rows[:1]
    assert list(note.objects.exclude(embedding=VECTOR)) == rows[1:]
    assert note.objects.get_or_create(embedding=VECTOR, defaults={"name": "c"}) == (rows[0], False)
    assert note.objects.update_or_create(name="b", defaults={"embedding": VECTOR}) == (rows[1], False)
    assert list(note.objects.values_list("embedding", flat=True).distinct()) == [VECTOR]
    assert note.objects.filter(embedding=VECTOR).union(note.objects.filter(name="a")).count() == 2


def test_set_or_key_of_vectors_is_refused(note):
    row = note.objects.create(name="a", embedding=VECTOR)
    with pytest.raises(TypeError, match="unhashable type: 'Vector'"):
        dict.fromkeys([row.embedding])
    with pytest.raises(ValueError, match=r"in_bulk\(\)'s field_name must be a unique field"):
        note.objects.in_bulk(field_name="embedding")


class ArticleInline(admin.TabularInline):
    model = Article
    fields = ["title", "embedding"]


@pytest.mark.parametrize("readonly", [(), ("embedding",)])
def test_plain_inline_keeps_the_vector(settings, admin_client, readonly):
    section = Section.objects.create(name="s")
    article = Article.objects.create(title="a", section=section, embedding=VECTOR)
    inline = type("SomeInline", (ArticleInline,), {"readonly_fields": readonly})
    serve(settings, Section, mixin=False, inlines=[inline])
    url = f"/admin/tests/section/{section.pk}/change/"
    form = admin_client.get(url).context["inline_admin_formsets"][0].formset.management_form
    sent = {f"{form.prefix}-{name}": value for name, value in form.initial.items()}
    row = {"0-id": article.pk, "0-section": section.pk, "0-title": "b"}
    sent |= {f"{form.prefix}-{name}": value for name, value in row.items()}
    assert admin_client.post(url, {"name": "s", **sent}).status_code == 302
    assert Article.objects.values_list("title", "embedding").get() == ("b", VECTOR)


@pytest.mark.parametrize("option", ["list_display", "readonly_fields"])
def test_plain_admin_shows_the_vector(settings, admin_client, option):
    article = Article.objects.create(title="a", embedding=VECTOR)
    serve(settings, Article, mixin=False, **{option: ["title", "embedding"]})
    page = "" if option == "list_display" else f"{article.pk}/change/"
    answer = admin_client.get(f"/admin/tests/article/{page}")
    assert (answer.status_code, b"[0.1,2.0,3.0]" in answer.content) == (200, True)


def test_plain_admin_shows_the_vector_to_who_may_only_view(settings):
    article = Article.objects.create(title="a", embedding=VECTOR)
    serve(settings, Article, mixin=False)
    answer = staff("view_article").get(f"/admin/tests/article/{article.pk}/change/")
    assert (answer.status_code, b"[0.1,2.0,3.0]" in answer.content) == (200, True)
