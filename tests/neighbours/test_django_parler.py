"""django-parler: a translation holds the vector of its own text, and the translations are ranked."""

import pytest
from django.db import models
from parler.fields import TranslationsForeignKey
from parler.models import TranslatableModel, TranslatedFieldsModel

from pgembedding_django import EmbeddingField, EmbeddingManager

pytestmark = pytest.mark.django_db


class Book(TranslatableModel):
    pages = models.IntegerField(default=0)


class BookTranslation(TranslatedFieldsModel):
    master = TranslationsForeignKey(Book, models.CASCADE, related_name="translations", null=True)
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, source="title", null=True)

    objects = EmbeddingManager()

    class Meta:
        unique_together = [("language_code", "master")]


@pytest.fixture
def book():
    book = Book.objects.language("en").create(title="cheese", pages=3)
    book.create_translation("de", title="Schinken")
    return book


def test_each_translation_is_embedded_and_ranked(book):
    assert BookTranslation.objects.embed().embedded == 2
    nearest = BookTranslation.objects.select_related("master").nearest("Schinken", 1).get()
    assert (nearest.language_code, nearest.master) == ("de", book)
    found = BookTranslation.objects.filter(language_code="en").nearest("Schinken", 1).get()
    assert found.title == "cheese"


def test_changed_translation_alone_is_stale(book):
    BookTranslation.objects.embed()
    book = Book.objects.get()
    book.set_current_language("de")
    book.title = "Speck"
    book.save()
    assert [row.title for row in BookTranslation.objects.stale()] == ["Speck"]
