"""Checks of bits, sparse vectors and IVFFlat."""

import pytest
from django.db import models

from pgembedding_django import BitField, EmbeddingField, HnswIndex, IvfflatIndex, SparseVectorField
from pgembedding_django.checks.models import check_models


@pytest.fixture
def told(isolated, settings):
    """Return what the checks say of a model with a field `e` and an index, without the caution of an engine."""

    def told(field, index=None, engine="pgvector"):
        settings.PGEMBEDDING = {"ENGINE": engine}
        meta = {"app_label": "tests", "indexes": [index] if index else []}
        type("Note", (models.Model,), {"__module__": __name__, "e": field, "Meta": type("Meta", (), meta)})
        messages = check_models([isolated.get_app_config("tests")])
        return [(each.id[12:], each.msg) for each in messages if not each.id.endswith("W030")]

    return told


@pytest.mark.parametrize(
    ("field", "index"),
    [
        (BitField(length=64, unique=True), HnswIndex(fields=["e"], name="i")),
        (BitField(length=64_000), HnswIndex(fields=["e"], name="i", distance="jaccard")),
        (BitField(length=64), IvfflatIndex(fields=["e"], name="i", lists=10, probes=3)),
        (SparseVectorField(dimensions=30_000), HnswIndex(fields=["e"], name="i", distance="inner_product")),
        (EmbeddingField(dimensions=3), IvfflatIndex(fields=["e"], name="i", precision="half")),
        (SparseVectorField(), None),
    ],
)
def test_what_the_server_has_gives_no_message(told, field, index):
    assert told(field, index) == []


@pytest.mark.parametrize(
    ("field", "index", "engine", "message"),
    [
        (
            BitField(length=64_001),
            HnswIndex(fields=["e"], name="i"),
            "pgvector",
            ("E012", "i can hold at most 64000 dimensions on pgvector, but Note.e has 64001."),
        ),
        (
            BitField(length=8),
            HnswIndex(fields=["e"], name="i", distance="cosine"),
            "pgvector",
            ("E035", 'i cannot be built: An index of bit has no distance "cosine". Use "hamming" or "jaccard".'),
        ),
        (
            SparseVectorField(dimensions=8),
            IvfflatIndex(fields=["e"], name="i"),
            "pgvector",
            ("E035", 'i cannot be built: An IvfflatIndex of sparsevec has no distance "l2". Use an HnswIndex.'),
        ),
        (
            EmbeddingField(dimensions=3),
            IvfflatIndex(fields=["e"], name="i"),
            "pg_embedding",
            ("E035", "i cannot be built: pg_embedding has no IvfflatIndex. Use an HnswIndex."),
        ),
        (
            EmbeddingField(dimensions=3),
            IvfflatIndex(fields=["e"], name="i", lists=0),
            "pgvector",
            ("E013", "i's lists must be an integer from 1 to 32768 on pgvector, got 0."),
        ),
        (
            SparseVectorField(),
            HnswIndex(fields=["e"], name="i", dimensions=5),
            "pgvector",
            ("E011", "i needs a field with dimensions, but Note.e has none."),
        ),
        (
            SparseVectorField(dimensions=3, db_index=True),
            None,
            "pgvector",
            ("E008", "Note.e must not be unique, a primary key or db_index=True."),
        ),
        (BitField(length=8), None, "pg_embedding", ("E003", "Note.e is a BitField, which pg_embedding cannot store.")),
        (
            SparseVectorField(dimensions=8),
            HnswIndex(fields=["e"], name="i"),
            "pg_embedding",
            ("E003", "Note.e is a SparseVectorField, which pg_embedding cannot store."),
        ),
    ],
)
def test_what_the_server_lacks_is_named(told, field, index, engine, message):
    assert told(field, index, engine) == [message]
