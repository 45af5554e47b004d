"""create_hnsw_index(), on a store and on the class."""

import pytest
from django.conf import ENVIRONMENT_VARIABLE
from django.conf import settings as django_settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.functional import empty

from pgembedding_django.documents.models import Collection
from pgembedding_django.langchain import PGEmbedding
from tests.support.letters import Letters


def test_create_hnsw_index_builds_the_index_of_the_collection(store):
    store.add_texts(list("abc"))
    store.create_hnsw_index(max_elements=10000, dims=2, m=8, ef_construction=16, ef_search=16)
    options = store.get_collection().hnsw
    assert (options["m"], options["ef_construction"], options["ef_search"]) == (8, 16, 16)


@pytest.mark.parametrize(("m", "ef_construction"), [(4, 16), (16, 32)])
def test_create_hnsw_index_fits_ef_construction_to_m(store, m, ef_construction):
    store.add_texts(list("abc"))
    store.create_hnsw_index(dims=2, m=m)
    assert store.get_collection().hnsw["ef_construction"] == ef_construction


def test_create_hnsw_index_with_given_dimensions_that_are_others_names_them(store):
    store.add_texts(list("abc"))
    with pytest.raises(ValueError, match=r"got dims=3\. Pass dims=2\."):
        store.create_hnsw_index(dims=3)


def test_create_hnsw_index_with_other_dimensions_is_refused(store):
    store.add_texts(list("abc"))
    with pytest.raises(ValueError) as caught:
        store.create_hnsw_index()
    assert str(caught.value) == (
        'Collection "langchain" holds vectors of 2 dimensions, got the default dims=1536. Pass dims=2.'
    )


def test_create_hnsw_index_gives_an_empty_collection_its_dimensions(store):
    store.create_hnsw_index()
    assert store.get_collection().dimensions == 1536


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ("2", r"dims must be a positive integer, got '2'\."),
        (-1, r"dims must be a positive integer, got -1\."),
        (True, r"dims must be a positive integer, got True\."),
        (10**20, 'Collection "langchain" has 10{20} dimensions, but its index can hold at most'),
    ],
)
def test_create_hnsw_index_with_impossible_dimensions_leaves_the_collection_without(store, dims, message):
    with pytest.raises(ValueError, match=message):
        store.create_hnsw_index(dims=dims)
    assert store.get_collection().dimensions is None


def test_create_hnsw_index_on_the_class_builds_for_the_database_of_the_store_opened_last(store):
    for name, dimensions in (("a", 3), ("b", 4), ("c", 3)):
        vectors = [[1.0] * dimensions, [2.0] * dimensions]
        PGEmbedding.from_embeddings(zip("ab", vectors, strict=True), Letters(), collection_name=name, using="default")
    PGEmbedding.create_hnsw_index(max_elements=10000, dims=3, m=8, ef_construction=16, ef_search=16)
    built = {each.name: each.hnsw["m"] for each in Collection.objects.all() if each.hnsw}
    assert built == {"a": 8, "c": 8}


def test_create_hnsw_index_on_the_class_says_what_it_needs(store):
    store.add_texts(["a"])
    Collection.objects.create(name="empty")
    with pytest.raises(ValueError) as caught:
        PGEmbedding.create_hnsw_index(max_elements=10000, dims=1536, m=8, ef_construction=16, ef_search=16)
    assert str(caught.value) == (
        "create_hnsw_index() on the class needs a collection of dims=1536 in the database. The collections and their "
        'dimensions: "empty" (none yet), "langchain" (2).'
    )
    with pytest.raises(ValueError, match=r"^dims must be a positive integer, got 0\.$"):
        PGEmbedding.create_hnsw_index(dims=0)


def test_create_hnsw_index_on_the_class_takes_the_default_of_a_project(db, nothing_opened):
    with pytest.raises(ValueError, match=r"their dimensions: none\.$"):
        PGEmbedding.create_hnsw_index()


def test_create_hnsw_index_on_the_class_of_an_empty_database_says_what_it_needs(
    connection_string, nothing_opened, monkeypatch
):
    monkeypatch.setenv("POSTGRES_CONNECTION_STRING", connection_string)
    with pytest.raises(ValueError, match=r"their dimensions: none\.$"):
        PGEmbedding.create_hnsw_index()


def test_create_hnsw_index_on_the_class_takes_database_url_in_a_script(nothing_opened, connection_string, monkeypatch):
    monkeypatch.delenv(ENVIRONMENT_VARIABLE)
    monkeypatch.setattr(django_settings, "_wrapped", empty)
    monkeypatch.setenv("DATABASE_URL", connection_string)
    with pytest.raises(ValueError, match=r"their dimensions: none\.$"):
        PGEmbedding.create_hnsw_index()


@pytest.mark.django_db(transaction=True)
def test_create_hnsw_index_lets_writes_go_on():
    store = PGEmbedding.from_texts(list("abc"), Letters())
    with CaptureQueriesContext(connection) as queries:
        store.create_hnsw_index(dims=2)
    assert any("CREATE INDEX CONCURRENTLY" in query["sql"] for query in queries.captured_queries)
