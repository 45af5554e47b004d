"""django-modeltranslation: the source of a vector is the column that it names, whatever language is active."""

import pytest
from django.db import models
from django.utils.translation import override
from modeltranslation.translator import TranslationOptions, translator

from pgembedding_django import EmbeddingField, EmbeddingManager

pytestmark = pytest.mark.django_db


class Dish(models.Model):
    body = models.TextField()
    embedding = EmbeddingField(dimensions=3, source="body", null=True)
    german = EmbeddingField(dimensions=3, source="body_de", null=True)

    objects = EmbeddingManager()


class DishOptions(TranslationOptions):
    fields = ["body"]


translator.register(Dish, DishOptions)


@pytest.fixture
def dish():
    return Dish.objects.create(body_en="cheese", body_de="Schinken")


@pytest.mark.parametrize("language", ["en", "de"])
def test_sql_and_python_see_the_same_text(dish, language):
    with override(language):
        assert Dish.objects.embed(field="embedding").embedded == 1
        assert Dish.objects.embed(field="german").embedded == 1
    for language in ("en", "de"):
        with override(language):
            assert not Dish.objects.stale(field="embedding").exists()
            assert not Dish.objects.stale(field="german").exists()
    row = Dish.objects.get()
    assert not any(row._meta.get_field(name).text_source.is_stale(row) for name in ("embedding", "german"))


def test_changed_translation_makes_its_vector_stale(dish):
    Dish.objects.embed(field="german")
    row = Dish.objects.get()
    row.body = "ham"
    row.save()
    assert not Dish.objects.stale(field="german").exists()
    row.body_de = "Speck"
    row.save()
    assert list(Dish.objects.stale(field="german")) == [dish]


def test_column_without_a_language_has_that_of_the_last_save(dish):
    Dish.objects.embed(field="embedding")
    with override("de"):
        dish.save()
    assert list(Dish.objects.stale(field="embedding")) == [dish]


def test_nearest_ranks_by_either(dish):
    for name in ("embedding", "german"):
        Dish.objects.embed(field=name)
    assert Dish.objects.nearest("cheese", 1, field="embedding").get().distance == pytest.approx(0, abs=1e-6)
    assert Dish.objects.nearest("Schinken", 1, field="german").get().distance == pytest.approx(0, abs=1e-6)
