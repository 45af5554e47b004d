"""django-ninja: a ModelSchema of every field reads and writes the vector as numbers."""

from django.db import models
from ninja import ModelSchema

from pgembedding_django import BitField, EmbeddingField, SparseVector, SparseVectorField


class Song(models.Model):
    title = models.CharField(max_length=50)
    embedding = EmbeddingField(dimensions=3, null=True)
    bits = BitField(length=4, null=True)
    words = SparseVectorField(dimensions=9, null=True)


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


def test_schema_has_bits_and_sparse_vectors_as_text():
    shown = SongSchema.from_orm(Song(id=1, title="x", bits=[0, 1, 1, 0], words={0: 0.5, 8: 2}))
    assert (shown.bits, shown.words) == ("0110", "{1:0.5,9:2.0}/9")
    assert {"type": "string"} in SongSchema.model_json_schema()["properties"]["words"]["anyOf"]
    assert Song(**SongSchema(**shown.dict()).dict()).words == SparseVector({0: 0.5, 8: 2}, 9)
