"""The index of each collection: built, kept, rebuilt, used and dropped."""

import io
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import NotSupportedError, OperationalError, ProgrammingError, connection, connections, transaction

from pgembedding_django.documents import building
from pgembedding_django.documents.models import Collection, Document
from pgembedding_django.models import HnswIndexStatus
from pgembedding_django.testing import assertIndexUsed

pytestmark = pytest.mark.django_db

RANDOM = np.random.default_rng(7)


def fill(name, rows=300, dimensions=3, **options):
    collection = Collection.objects.create(name=name, **options)
    vectors = RANDOM.standard_normal((rows, dimensions), dtype=np.float32)
    collection.documents.bulk_load(Document(key=str(i), embedding=vector) for i, vector in enumerate(vectors))
    collection.refresh_from_db()
    return collection, vectors


def name_of(collection):
    return f"pgembedding_documents_{collection.pk}_hnsw"


def state_of(collection):
    return building.find_built(collection, connection.alias)


def oid_of(collection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)::oid", [name_of(collection)])
        return cursor.fetchone()[0]


def nearest_by_hand(vectors, query, k):
    return [str(i) for i in np.argsort(np.linalg.norm(vectors - query, axis=1))[:k]]


def test_index_just_built_comes_with_statistics():
    collection, _ = fill("a")
    collection.create_hnsw_index(concurrently=False)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stats WHERE tablename = 'pgembedding_documents_document'")
        assert cursor.fetchone()[0] > 0


def test_search_uses_the_index_of_its_own_collection(force_index):
    for name, dimensions in (("a", 3), ("b", 5), ("c", 3)):
        collection, vectors = fill(name, dimensions=dimensions)
        collection.create_hnsw_index(ef_search=100, concurrently=False)
        rows = collection.documents.nearest(vectors[0], 10)
        assertIndexUsed(rows, name_of(collection))
        assert [row.key for row in rows] == nearest_by_hand(vectors, vectors[0], 10)


@pytest.mark.parametrize(("distance", "norm"), [("l1", 1), ("cosine", None)])
def test_index_is_for_the_distance_of_the_collection(force_index, distance, norm):
    collection, vectors = fill("a", distance=distance)
    collection.create_hnsw_index(concurrently=False)
    rows = collection.documents.nearest(vectors[0], 1)
    assertIndexUsed(rows, name_of(collection))
    assert rows[0].key == "0"


def test_search_explains_which_index_it_uses(force_index):
    collection, _ = fill("a")
    assert "has no HnswIndex" in collection.documents.nearest([1, 2, 3]).explain_nearest()
    collection.create_hnsw_index(concurrently=False)
    assert f"Index scan on {name_of(collection)}" in collection.documents.nearest([1, 2, 3]).explain_nearest()


def test_search_behind_a_filter_counts_only_its_collection():
    fill("large", rows=3000)
    collection, _ = fill("a")
    collection.create_hnsw_index(concurrently=False)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    rows = collection.documents.filter(key__lt="5").nearest([1, 2, 3], 1)
    (total,) = re.findall(r"of ([\d,]+) rows", rows.explain_nearest())
    assert 250 < int(total) < 350  # as ANALYZE estimates


def test_search_returns_k_beyond_ef_search(force_index):
    collection, vectors = fill("a")
    collection.create_hnsw_index(ef_search=10, concurrently=False)
    assert len(collection.documents.nearest(vectors[0], 100)) == 100


@pytest.mark.pgvector
def test_ef_search_of_the_index_is_the_default_of_searches(force_index):
    collection, _ = fill("a")
    collection.create_hnsw_index(ef_search=33, concurrently=False)
    assert "ef_search=33" in Collection.objects.get().documents.nearest([1, 2, 3]).explain_nearest()
    assert "ef_search=44" in collection.documents.nearest([1, 2, 3], ef_search=44).explain_nearest()


def test_index_finds_what_is_added_later(force_index):
    collection, _ = fill("a")
    collection.create_hnsw_index(concurrently=False)
    collection.add([Document(key="new", embedding=[9, 9, 9])])
    rows = collection.documents.nearest([9, 9, 9], 1)
    assertIndexUsed(rows, name_of(collection))
    assert rows[0].key == "new"


@pytest.mark.pgvector
def test_more_dimensions_than_an_index_holds_are_indexed_in_half_precision(force_index):
    collection, vectors = fill("a", rows=40, dimensions=2500)
    collection.create_hnsw_index(concurrently=False)
    rows = collection.documents.nearest(vectors[3], 5)
    assertIndexUsed(rows, name_of(collection))
    assert [row.key for row in rows] == nearest_by_hand(vectors, vectors[3], 5)


def test_more_dimensions_than_any_index_holds_are_an_error(engine):
    collection = Collection.objects.create(name="a", dimensions=5000)
    with pytest.raises(ValueError, match=f'Collection "a" has 5000 dimensions, but .* on {engine.name}'):
        collection.create_hnsw_index(concurrently=False)


# Built once


def test_create_concurrently_builds_a_valid_index(transactional_db):
    collection, _ = fill("a")
    collection.create_hnsw_index()
    assert state_of(collection).valid
    assert Collection.objects.get().hnsw["m"] == 8


def test_create_again_keeps_the_index(transactional_db):
    collection, _ = fill("a")
    collection.create_hnsw_index()
    before = oid_of(collection)
    collection.create_hnsw_index()
    assert oid_of(collection) == before


@pytest.mark.parametrize("change", [{"m": 4}, {"ef_construction": 32}])
def test_create_with_other_options_builds_anew(transactional_db, change):
    collection, _ = fill("a")
    collection.create_hnsw_index()
    before = oid_of(collection)
    collection.create_hnsw_index(**change)
    assert oid_of(collection) != before
    assert Collection.objects.get().hnsw.items() >= change.items()


def test_create_by_an_instance_older_than_the_dimensions_builds_for_the_new_ones(force_index):
    collection, _ = fill("a")
    collection.create_hnsw_index(concurrently=False)
    old = Collection.objects.get()
    vectors = replace_by_longer(collection)
    old.create_hnsw_index(concurrently=False)
    assertIndexUsed(Collection.objects.get().documents.nearest(vectors[0], 5), name_of(collection))


def test_create_for_another_distance_builds_anew():
    collection, _ = fill("a")
    collection.create_hnsw_index(concurrently=False)
    before = oid_of(collection)
    collection.distance = "cosine"
    collection.create_hnsw_index(concurrently=False)
    assert oid_of(collection) != before


def test_create_on_an_empty_collection_is_an_error():
    collection = Collection.objects.create(name="a")
    with pytest.raises(ValueError, match='Collection "a" has no dimensions yet, so it cannot be indexed'):
        collection.create_hnsw_index(concurrently=False)


def test_create_sees_the_dimensions_that_another_instance_brought():
    collection = Collection.objects.create(name="a")
    Collection.objects.get().add([Document(embedding=[1, 2, 3])])
    collection.create_hnsw_index(concurrently=False)
    assert state_of(collection).valid


def test_create_after_claiming_dimensions_works():
    collection = Collection.objects.create(name="a")
    collection.claim_dimensions(3)
    collection.create_hnsw_index(concurrently=False)
    assert state_of(collection).valid


def test_create_concurrently_in_a_transaction_is_an_error():
    collection, _ = fill("a")
    with pytest.raises(
        NotSupportedError, match=r"cannot be built concurrently inside a transaction.*concurrently=False"
    ):
        collection.create_hnsw_index()
    with pytest.raises(NotSupportedError, match="cannot be dropped concurrently inside a transaction"):
        collection.drop_hnsw_index()


@pytest.mark.parametrize("options", [{"m": "8); DROP TABLE x; --"}, {"m": 8.0}, {"ef_construction": 1}, {"m": True}])
def test_create_with_bad_options_is_an_error(options):
    collection, _ = fill("a")
    collection.create_hnsw_index(concurrently=False)
    (name,) = options
    with pytest.raises(ValueError, match=f"HnswIndex.{name} must be an integer from"):
        collection.create_hnsw_index(**options, concurrently=False)
    assert state_of(collection).valid


@pytest.mark.pgvector
def test_create_with_options_that_do_not_suit_each_other_is_an_error():
    collection, _ = fill("a")
    with pytest.raises(ValueError, match=r"HnswIndex.ef_construction must be at least 2 \* m = 32, got 16"):
        collection.create_hnsw_index(m=16, ef_construction=16, concurrently=False)


@pytest.mark.parametrize(("m", "ef_construction"), [(8, 16), (16, 32)])
def test_create_fits_ef_construction_to_m(m, ef_construction):
    collection, _ = fill("a")
    collection.create_hnsw_index(m=m, concurrently=False)
    assert collection.hnsw["ef_construction"] == ef_construction


def test_create_replaces_what_an_interrupted_build_left(transactional_db):
    collection, _ = fill("a")
    collection.create_hnsw_index()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass(%s)", [name_of(collection)]
        )
    collection.create_hnsw_index()
    assert state_of(collection).valid


@pytest.fixture
def old_reader(transactional_db):
    """A transaction whose snapshot a concurrent build waits for, on a connection of its own."""
    reader = connection.copy("reader")
    with reader.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM pgembedding_documents_document")
        yield cursor
    reader.close()


def test_create_while_another_connection_builds_is_an_error(old_reader):
    collection, _ = fill("a")

    def build():
        try:
            Collection.objects.get().create_hnsw_index()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        built = pool.submit(build)
        while not (state_of(collection) or built.done()):
            time.sleep(0.01)
        try:
            with pytest.raises(OperationalError, match="is being built by another connection"):
                collection.create_hnsw_index()
        finally:
            old_reader.execute("ROLLBACK")
        built.result()
    assert state_of(collection).valid


def test_create_where_the_name_is_taken_meanwhile_is_an_error():
    collection, _ = fill("a")
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {name_of(collection)} ()")
    with pytest.raises(OperationalError, match="was made by another connection meanwhile"), transaction.atomic():
        collection.create_hnsw_index(concurrently=False)


def test_create_that_the_server_refuses_passes_the_error_on():
    collection, _ = fill("a")
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {Document._meta.db_table} RENAME COLUMN embedding TO other")
    with pytest.raises(ProgrammingError, match="embedding"), transaction.atomic():
        collection.create_hnsw_index(concurrently=False)


# Dropped


def test_drop_leaves_searches_exact(transactional_db):
    collection, vectors = fill("a")
    collection.create_hnsw_index()
    collection.drop_hnsw_index()
    collection.drop_hnsw_index()
    assert (state_of(collection), Collection.objects.get().hnsw) == (None, None)
    assert [row.key for row in collection.documents.nearest(vectors[0], 5)] == nearest_by_hand(vectors, vectors[0], 5)


def test_drop_by_an_instance_older_than_the_dimensions_drops(transactional_db):
    old, _ = fill("a")
    old.create_hnsw_index()
    replace_by_longer(Collection.objects.get())
    old.drop_hnsw_index()
    assert (state_of(old), Collection.objects.get().hnsw) == (None, None)


@pytest.mark.parametrize(
    "delete", [lambda collection: collection.delete(), lambda collection: Collection.objects.filter(name="a").delete()]
)
def test_deleting_a_collection_drops_its_index_alone(delete):
    (collection, _), (other, _) = fill("a"), fill("b")
    collection.create_hnsw_index(concurrently=False)
    other.create_hnsw_index(concurrently=False)
    oid = oid_of(collection)
    delete(collection)
    assert not HnswIndexStatus.objects.filter(oid=oid).exists()
    assert state_of(other).valid
    assert Document.objects.count() == 300


def test_deleting_a_collection_loads_no_document(django_assert_num_queries):
    collection, _ = fill("a")
    with django_assert_num_queries(3):  # its documents, itself, whether it has an index
        collection.delete()


def test_deleting_a_collection_in_a_transaction_that_rolls_back_keeps_its_index():
    collection, _ = fill("a")
    collection.create_hnsw_index(concurrently=False)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Collection.objects.get().delete()
        _ = 1 / 0
    assert state_of(collection).valid


def replace_by_longer(collection, dimensions=7):
    vectors = RANDOM.standard_normal((50, dimensions), dtype=np.float32)
    collection.replace(Document(key=str(i), embedding=vector) for i, vector in enumerate(vectors))
    return vectors


def test_replace_by_other_dimensions_builds_the_index_anew(force_index, django_capture_on_commit_callbacks):
    collection, _ = fill("a")
    collection.create_hnsw_index(m=4, concurrently=False)
    with django_capture_on_commit_callbacks(execute=True):
        vectors = replace_by_longer(collection)
    rows = collection.documents.nearest(vectors[0], 5)
    assertIndexUsed(rows, name_of(collection))
    assert [row.key for row in rows] == nearest_by_hand(vectors, vectors[0], 5)
    assert Collection.objects.get().hnsw["m"] == 4


def test_replace_by_other_dimensions_builds_the_index_once_it_is_committed(transactional_db):
    collection, _ = fill("a")
    collection.create_hnsw_index(m=4)
    before = oid_of(collection)
    with transaction.atomic():
        vectors = replace_by_longer(collection)
        assert oid_of(collection) == before
        rows = collection.documents.nearest(vectors[0], 5)
        assert [row.key for row in rows] == nearest_by_hand(vectors, vectors[0], 5)
    assert oid_of(collection) != before
    assert state_of(collection).valid
    assert Collection.objects.get().hnsw["m"] == 4


@pytest.mark.pgvector
def test_replace_by_more_dimensions_than_an_index_holds_keeps_the_old_content():
    collection, _ = fill("a")
    collection.create_hnsw_index(concurrently=False)
    with pytest.raises(ValueError, match='Collection "a" has 4001 dimensions, but its index can hold at most 4000'):
        replace_by_longer(collection, 4001)
    collection.refresh_from_db()
    assert (collection.dimensions, collection.documents.count(), collection.hnsw["m"]) == (3, 300, 8)


@pytest.mark.pgvector  # pg_embedding's guard lets one transaction write at a time.
def test_replace_by_other_dimensions_locks_no_other_collection(transactional_db, background):
    (collection, _), (other, _) = fill("a"), fill("b")
    collection.create_hnsw_index()
    other.create_hnsw_index()

    def use():
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '5s'")
        other.add([Document(key="new", embedding=[9, 9, 9])])
        return [row.key for row in other.documents.nearest([9, 9, 9], 1)], collection.documents.count()

    with transaction.atomic():
        replace_by_longer(collection)
        assert background(use).result() == (["new"], 300)


def test_replace_whose_index_was_overtaken_by_other_dimensions_remembers_none():
    collection, _ = fill("a")
    collection.create_hnsw_index(concurrently=False)
    stale = Collection.objects.get()
    replace_by_longer(collection)
    building._remember(stale, "default", {"m": 4})
    assert Collection.objects.get().hnsw is None


def test_replace_by_the_same_dimensions_keeps_the_index():
    collection, vectors = fill("a")
    collection.create_hnsw_index(concurrently=False)
    before = oid_of(collection)
    collection.replace([Document(embedding=vectors[0])])
    assert oid_of(collection) == before


# What the commands tell of it


def tell(command, *args, **options):
    out = io.StringIO()
    call_command(command, *args, stdout=out, stderr=out, **options)
    return out.getvalue()


def measure(name):
    return tell("measure_recall", "pgembedding_documents.Document", filter=[f"collection={name}"], sample=20)


def test_measure_recall_of_a_collection_says_how_to_build_its_index(transactional_db):
    collection, _ = fill("hand book", 2000, 16)
    fill("b", 50, 5)
    collection.create_hnsw_index(m=2, ef_construction=4, ef_search=5)
    told = measure("hand book")
    assert f"index public.{name_of(collection)} (m=2, ef_construction=4)" in told
    assert "20 of 2,000 rows where collection=hand book asked" in told
    assert "Call collection.create_hnsw_index(m=16, ef_construction=64, ef_search=" in told


def test_measure_recall_asks_the_questions_of_a_file_by_the_embedder_of_the_collection(
    transactional_db, settings, tmp_path
):
    backend = {"BACKEND": "pgembedding_django.embedders.dummy.DummyEmbedder", "OPTIONS": {"dimensions": 5}}
    settings.PGEMBEDDING = {**settings.PGEMBEDDING, "EMBEDDERS": {"wide": backend}}
    collection, _ = fill("a", dimensions=5, embedder="wide")
    collection.create_hnsw_index()
    (tmp_path / "questions.txt").write_text("red fox\nblue whale\n")
    told = tell(
        "measure_recall", "pgembedding_documents.Document", filter=["collection=a"], queries=tmp_path / "questions.txt"
    )
    assert "2 queries asked 300 rows where collection=a for the 10 nearest." in told


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a", 'Document.embedding of collection "a" has no index, so there is nothing to measure. Call create().'),
        ("b", '{index} is missing in database "default". Call create().'),
        ("2147483647", "Collection matching query does not exist."),
    ],
)
def test_measure_recall_of_a_collection_that_cannot_be_measured_says_why(transactional_db, name, sentence):
    fill("a")
    collection, _ = fill("b")
    collection.create_hnsw_index()
    with connection.cursor() as cursor:
        cursor.execute(f"DROP INDEX {name_of(collection)}")
    with pytest.raises(CommandError) as caught:
        measure(name)
    expected = sentence.replace("create()", "collection.create_hnsw_index()")
    assert str(caught.value) == expected.format(index=name_of(collection))


def test_list_of_indexes_names_the_collection(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    collection, _ = fill("hand\nbook")
    collection.create_hnsw_index(concurrently=False)
    assert f"{name_of(collection)} (hand\ufffdbook)" in tell("hnsw_indexes")
    named = {entry["index"]: entry["collection"] for entry in json.loads(tell("hnsw_indexes", json=True))}
    assert named == {name_of(collection): "hand\nbook", **dict.fromkeys(named.keys() - {name_of(collection)})}
