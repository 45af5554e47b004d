"""django-dirtyfields: a row is dirty where its vector changed, and saves what did."""

import pytest
from dirtyfields import DirtyFieldsMixin
from django.db import models

from pgembedding_django import EmbeddingField, EmbeddingManager, Vector

pytestmark = pytest.mark.django_db

ONE, TWO = Vector([0.1, 2, 3]), Vector([4, 5, 6])


class Shirt(DirtyFieldsMixin, models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, null=True)

    objects = EmbeddingManager()


@pytest.fixture
def shirt():
    return Shirt.objects.get(pk=Shirt.objects.create(title="a", embedding=ONE).pk)


@pytest.mark.parametrize("same", [ONE, [0.1, 2, 3], "[0.1,2,3]"])
def test_row_with_an_equal_vector_is_clean(shirt, same):
    shirt.embedding = same
    assert not shirt.is_dirty()


@pytest.mark.parametrize("other", [TWO, None, [0.1, 2, 4]])
def test_row_with_another_vector_is_dirty(shirt, other):
    shirt.embedding = other
    assert shirt.get_dirty_fields() == {"embedding": ONE}


def test_change_in_place_is_seen(shirt):
    shirt.embedding[0] = 9
    assert shirt.get_dirty_fields() == {"embedding": ONE}


def test_dirty_fields_alone_are_saved(shirt):
    shirt.embedding = TWO
    Shirt.objects.update(title="b")
    shirt.save_dirty_fields()
    assert Shirt.objects.values_list("title", "embedding").get() == ("b", TWO)
    assert not shirt.is_dirty()
