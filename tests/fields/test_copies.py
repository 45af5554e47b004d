"""Copies of a model's fields, as a history has them: plain columns, for which nothing is embedded."""

import copy

import django
import pytest
from django.db import connection, models

from pgembedding_django import EmbeddingField, EmbeddingManager, Vector
from pgembedding_django.checks import check_sources
from tests.models import Article

pytestmark = pytest.mark.django_db

VECTOR = Vector([0.1, 2, 3])


def record(fields, **attributes):
    """Return a model of the class body that a package writes."""
    body = {"__module__": "tests", "Meta": type("Meta", (), {"app_label": "tests"}), **attributes}
    model = type("Record", (models.Model,), {**body, **fields})
    with connection.schema_editor() as editor:
        editor.create_model(model)
    return model


def bound():
    """Copies that belong to the other model still, as django-simple-history makes them."""
    copies = {name: copy.copy(Article._meta.get_field(name)) for name in ("title", "embedding", "embedding_digest")}
    for field in copies.values():
        vars(field).pop("cached_col", None)  # Nobody has asked for it when a model's class is made.
    return copies


def rebuilt():
    """Fields made anew of what a migration would write, as django-pghistory makes them."""
    fields = {name: Article._meta.get_field(name).deconstruct() for name in ("title", "embedding", "embedding_digest")}
    classes = {"pgembedding_django.EmbeddingField": EmbeddingField}
    return {
        name: classes.get(path, models.CharField)(*args, **kwargs) for name, (_, path, args, kwargs) in fields.items()
    }


def names(model):
    return [field.name for field in model._meta.fields]


@pytest.mark.parametrize("copies", [bound, rebuilt])
def test_copy_has_vector_and_digest_once_as_plain_columns(isolated, copies):
    model = record(copies())
    assert sorted(names(model)) == ["embedding", "embedding_digest", "id", "title"]
    field = model._meta.get_field("embedding")
    assert (field.source, field.sync, field.keeps_digest) == (None, "manual", False)
    assert check_sources([isolated.get_app_config("tests")]) == []
    model.objects.create(title="a", embedding=VECTOR, embedding_digest="abc")
    assert model.objects.values_list("embedding", "embedding_digest").get() == (VECTOR, "abc")


@pytest.mark.parametrize("attributes", [{}, {"pgh_tracked_model": Article}])
def test_copy_of_the_vector_alone_has_no_digest(isolated, attributes):
    fields = rebuilt() if attributes else bound()
    del fields["embedding_digest"]
    model = record(fields, **attributes)
    assert sorted(names(model)) == ["embedding", "id", "title"]
    assert model.objects.create(title="a", embedding=VECTOR).embedding == VECTOR


def test_original_stays_as_it_was(isolated):
    record(bound())
    field = Article._meta.get_field("embedding")
    assert (field.model, field.source, field.keeps_digest) == (Article, "title", True)


def test_digest_that_the_original_has_not_saved_yet_is_null(isolated):
    model = record(bound())
    article = Article(title="a", embedding=VECTOR)
    assert model.objects.create(title="a", embedding=VECTOR, embedding_digest=article.embedding_digest).pk
    assert model.objects.values_list("embedding_digest", flat=True).get() is None


@pytest.fixture
def recorded(isolated):
    """Copies of every row of a model, of its heir and of its proxy, made in post_save; by the title of the row."""

    class Leaf(models.Model):
        title = models.CharField(max_length=50)
        embedding = EmbeddingField(dimensions=3, source="title", null=True)

        class Meta:
            app_label = "tests"

    class Heir(Leaf):
        class Meta:
            app_label = "tests"

    class Proxy(Leaf):
        class Meta:
            app_label = "tests"
            proxy = True

    with connection.schema_editor() as editor:
        editor.create_model(Leaf)
        editor.create_model(Heir)
    kept = []

    def keep(sender, instance, **kwargs):
        kept.append(instance.embedding_digest)

    for model in (Leaf, Heir, Proxy):
        models.signals.post_save.connect(keep, sender=model, weak=False)
    yield (Leaf, Heir, Proxy), kept
    for model in (Leaf, Heir, Proxy):
        models.signals.post_save.disconnect(keep, sender=model)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_what_looks_at_a_row_in_post_save_sees_the_digest_that_it_has(recorded, kind):
    classes, kept = recorded
    row = classes[kind].objects.create(title="a", embedding=VECTOR)
    row.title, row.embedding = "b", [4, 5, 6]
    row.save()
    digest = row._meta.get_field("embedding").text_source.digest
    assert kept == [digest("a"), digest("b")]
    row.embedding = VECTOR
    row.save(update_fields=["title"])
    assert kept[2] == ""  # Nothing of the vector was written.


def test_digest_that_nobody_looks_at_is_not_read(django_assert_num_queries):
    article = Article.objects.create(title="a", embedding=VECTOR)
    for vector in ([4, 5, 6], [7, 8, 9]):
        article.embedding = vector
        with django_assert_num_queries(1):
            article.save()


def test_row_saved_by_hand_can_be_copied():
    article = Article.objects.create(title="a", embedding=VECTOR)
    article.embedding = [4, 5, 6]
    article.save()
    article.pk, article._state.adding, article.title = None, True, "b"
    article.save()
    # From Django 6.0 on save() learns the digest, and the copy keeps it, as that of a loaded row does: it is stale.
    digest = Article._meta.get_field("embedding").text_source.digest("a" if django.VERSION >= (6, 0) else "b")
    assert article.embedding_digest == Article.objects.get(title="b").embedding_digest == digest


def test_field_that_is_inherited_is_no_copy(isolated):
    class Base(models.Model):
        title = models.CharField(max_length=50)
        embedding = EmbeddingField(dimensions=3, source="title", null=True)

        class Meta:
            app_label = "tests"
            abstract = True

    class Note(Base):
        objects = EmbeddingManager()

    assert sorted(names(Note)) == ["embedding", "embedding_digest", "id", "title"]
    assert Note._meta.get_field("embedding").keeps_digest


def test_field_that_joins_a_model_later_has_its_digest(isolated):
    class Note(models.Model):
        title = models.CharField(max_length=50)

        class Meta:
            app_label = "tests"

    Note.add_to_class("embedding", EmbeddingField(dimensions=3, source="title", null=True))
    assert names(Note) == ["id", "title", "embedding", "embedding_digest"]


@pytest.mark.parametrize("text", ["", " \n"])
def test_empty_text_is_no_vector(text):
    article = Article(title="a", embedding=text)
    assert article.embedding is None
    assert Article._meta.get_field("embedding").to_python(text) is None
