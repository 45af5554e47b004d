"""django-model-utils: FieldTracker tells whether a vector changed, and what it was."""

import pytest
from django.db import models
from model_utils import FieldTracker

from pgembedding_django import EmbeddingField, EmbeddingManager, Vector

pytestmark = pytest.mark.django_db

ONE, TWO = Vector([0.1, 2, 3]), Vector([4, 5, 6])


class Shoe(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, null=True)
    tracker = FieldTracker()

    objects = EmbeddingManager()


@pytest.fixture
def shoe():
    return Shoe.objects.get(pk=Shoe.objects.create(title="a", embedding=ONE).pk)


def test_loaded_and_saved_row_has_no_change(shoe):
    assert shoe.tracker.changed() == {}
    shoe.save()
    assert shoe.tracker.changed() == {}


@pytest.mark.parametrize("same", [ONE, [0.1, 2, 3]])
def test_equal_vector_is_no_change(shoe, same):
    shoe.embedding = same
    assert not shoe.tracker.has_changed("embedding")


@pytest.mark.parametrize("other", [TWO, None])
def test_another_vector_is_a_change(shoe, other):
    shoe.embedding = other
    assert shoe.tracker.has_changed("embedding")
    assert shoe.tracker.previous("embedding") == ONE
    shoe.save()
    assert shoe.tracker.changed() == {}


def test_deferred_vector_stays_deferred(shoe, django_assert_num_queries):
    shoe = Shoe.objects.defer("embedding").get()
    with django_assert_num_queries(0):
        assert shoe.tracker.changed() == {}
    assert shoe.embedding == ONE
