"""django-ninja: a ModelSchema of every field reads and writes the vector as numbers."""

from django.db import models
from ninja import ModelSchema

from pgembedding_django import EmbeddingField


class Song(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, null=True)


class SongSchema(ModelSchema):
    class Meta:
        model = Song
        fields = "__all__"


def test_schema_is_an_array_of_numbers():
    shown = SongSchema.model_json_schema()["properties"]["embedding"]
    assert {"items": {"type": "number"}, "type": "array"} in shown["anyOf"]


def test_schema_writes_the_vector_as_numbers():
    assert SongSchema.from_orm(Song(id=1, title="x", embedding=[0.5, 1, 2])).embedding == [0.5, 1.0, 2.0]


def test_schema_writes_none_for_no_vector():
    assert SongSchema.from_orm(Song(id=1, title="x")).embedding is None


def test_schema_reads_numbers():
    read = SongSchema(id=1, title="x", embedding=[0.5, 1, 2])
    assert Song(**read.dict()).embedding == [0.5, 1, 2]
