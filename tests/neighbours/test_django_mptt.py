"""django-mptt: a TreeManager with nearest() ranks the nodes below one, and keeps the tree."""

import pytest
from django.db import models
from mptt.models import MPTTModel, TreeForeignKey, TreeManager

from pgembedding_django import EmbeddingField, EmbeddingQuerySet

pytestmark = pytest.mark.django_db


class Genre(MPTTModel):
    title = models.CharField(max_length=50)
    parent = TreeForeignKey("self", models.CASCADE, null=True, blank=True, related_name="children")
    embedding = EmbeddingField(dimensions=3, source="title", null=True)

    objects = TreeManager.from_queryset(EmbeddingQuerySet)()


@pytest.fixture
def genres():
    rock = Genre.objects.create(title="rock", embedding=[1, 0, 0])
    metal = Genre.objects.create(title="metal", parent=rock, embedding=[3, 0, 0])
    return rock, metal, Genre.objects.create(title="jazz", embedding=[2, 0, 0])


def test_tree_is_ranked(genres):
    rock, metal, jazz = genres
    assert list(Genre.objects.nearest([0, 0, 0])) == [rock, jazz, metal]
    assert list(rock.get_descendants(include_self=True).nearest([3, 0, 0])) == [metal, rock]


def test_moved_node_keeps_its_vector_and_digest(genres):
    _rock, metal, jazz = genres
    metal.move_to(jazz)
    metal.refresh_from_db()
    assert (metal.parent, metal.embedding) == (jazz, [3, 0, 0])
    assert not Genre.objects.stale().exists()
