"""docs/moving-from-pgvector.md: what a project of pgvector's Django module keeps, and what makemigrations writes."""

import pgvector.django as theirs
import pytest
from django.db import NotSupportedError, models
from django.db.migrations import AddIndex, AlterField, RemoveIndex
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.state import ModelState, ProjectState
from django.test.utils import CaptureQueriesContext, isolate_apps
from pgvector import SparseVector

from pgembedding_django import EmbeddingField, EmbeddingManager, HnswIndex

L2 = {"opclasses": ["vector_l2_ops"], "m": 16, "ef_construction": 64}


def make_item(field, index):
    with isolate_apps("tests"):

        class Item(models.Model):
            embedding = field

            objects = EmbeddingManager()

            class Meta:
                app_label = "tests"
                indexes = [index]

    return Item


def change(before, after):
    """Return the operations that makemigrations would write between two models, and the first one's state."""
    states = ProjectState(), ProjectState()
    for state, model in zip(states, (before, after), strict=True):
        if model is not None:
            state.add_model(ModelState.from_model(model))
    found = MigrationAutodetector(*states)._detect_changes().get("tests", [])
    return [operation for migration in found for operation in migration.operations], states[0]


def run(database, operations, state):
    with CaptureQueriesContext(database.connection) as context, database.connection.schema_editor() as editor:
        for operation in operations:
            before = state.clone()
            operation.state_forwards("tests", state)
            operation.database_forwards("tests", editor, before, state)
    return [query["sql"] for query in context if query["sql"].startswith(("CREATE", "ALTER", "DROP"))]


def index(module, **options):
    return module(**{"fields": ["embedding"], "name": "item_hnsw", **L2, **options})


FIELDS = [
    (lambda: theirs.VectorField(dimensions=3), lambda: EmbeddingField(dimensions=3), "vector_cosine_ops"),
    (
        lambda: theirs.HalfVectorField(dimensions=3, null=True),
        lambda: EmbeddingField(dimensions=3, null=True, storage="half"),
        "halfvec_ip_ops",
    ),
]


@pytest.mark.pgvector
@pytest.mark.parametrize(("old", "new", "opclass"), FIELDS, ids=["single", "half"])
def test_change_of_import_touches_no_database(ready_database, old, new, opclass):
    before = make_item(old(), index(theirs.HnswIndex, opclasses=[opclass]))
    after = make_item(new(), index(HnswIndex, opclasses=[opclass]))
    run(ready_database, *change(None, before))
    before.objects.using("fresh").create(embedding=[1, 2, 3])
    operations, state = change(before, after)
    assert [type(operation) for operation in operations] == [AlterField]
    assert run(ready_database, operations, state) == []
    assert ready_database.indexes() == {"item_hnsw": True}
    assert after.objects.using("fresh").nearest([1, 2, 3], 1).get().embedding.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "declared", [{}, {"condition": models.Q(pk__gt=3)}, {"db_tablespace": "fast"}, {"m": None, "ef_construction": None}]
)
def test_index_of_the_same_definition_is_equal(declared):
    mine, other = index(HnswIndex, **declared), index(theirs.HnswIndex, **declared)
    assert mine == other
    assert other == mine


@pytest.mark.parametrize(
    "other",
    [
        index(theirs.HnswIndex, m=8),
        index(theirs.HnswIndex, name="other"),
        index(theirs.HnswIndex, opclasses=["vector_cosine_ops"]),
        index(theirs.HnswIndex, include=["id"]),
        models.Index(fields=["embedding"], name="item_hnsw", opclasses=["vector_l2_ops"]),
        theirs.IvfflatIndex(fields=["embedding"], name="item_hnsw", opclasses=["vector_l2_ops"]),
        "item_hnsw",
    ],
    ids=["m", "name", "class", "include", "btree", "ivfflat", "text"],
)
def test_index_of_another_definition_is_not_equal(other):
    assert index(HnswIndex) != other
    assert other != index(HnswIndex)


@pytest.mark.pgvector
def test_changed_index_takes_the_place_of_theirs(ready_database):
    before = make_item(theirs.VectorField(dimensions=3), index(theirs.HnswIndex))
    after = make_item(EmbeddingField(dimensions=3), index(HnswIndex, m=8))
    run(ready_database, *change(None, before))
    operations, state = change(before, after)
    assert [type(operation) for operation in operations] == [RemoveIndex, AlterField, AddIndex]
    assert len(run(ready_database, operations, state)) == 2
    assert ready_database.indexes() == {"item_hnsw": True}


@pytest.mark.pgvector
def test_their_other_fields_and_indexes_stand_beside_ours_on_one_model(ready_database):
    with isolate_apps("tests"):

        class Item(models.Model):
            embedding = EmbeddingField(dimensions=3)
            sparse = theirs.SparseVectorField(dimensions=5)
            bits = theirs.BitField(length=3)

            objects = EmbeddingManager()

            class Meta:
                app_label = "tests"
                indexes = [
                    HnswIndex(fields=["embedding"], name="item_hnsw"),
                    theirs.IvfflatIndex(fields=["embedding"], name="item_flat", opclasses=["vector_l2_ops"], lists=1),
                    theirs.HnswIndex(fields=["sparse"], name="item_sparse", opclasses=["sparsevec_l2_ops"]),
                    theirs.HnswIndex(fields=["bits"], name="item_bits", opclasses=["bit_hamming_ops"]),
                ]

    run(ready_database, *change(None, Item))
    rows = Item.objects.using("fresh")
    one, _ = rows.bulk_create(
        Item(embedding=[n, 0, 0], sparse=SparseVector([n, 0, 0, 0, 1]), bits="101"[:n].ljust(3, "0")) for n in (3, 1)
    )
    assert rows.nearest([2.5, 0, 0], 1).get() == one
    distances = theirs.L2Distance("sparse", one.sparse), theirs.HammingDistance("bits", "101")
    assert [rows.order_by(distance)[0] for distance in distances] == [one, one]
    assert rows.annotate(other=distances[0]).nearest([2.5, 0, 0], 2)[1].other == 2
    with pytest.raises(NotSupportedError, match="Use bulk_create"):
        rows.bulk_load([one])
