"""from_texts() and its like."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction
from langchain_core.documents import Document

from pgembedding_django.langchain import PGEmbedding
from tests.support.letters import Letters, contents, texts


def test_from_texts_makes_a_store(db):
    store = PGEmbedding.from_texts((t for t in "ab"), Letters(), [{"page": 1}, {}], "new", ["1", "2"], using="default")
    assert (store.collection_name, contents(store)) == ("new", {"1": "a", "2": "b"})


def test_from_embeddings_takes_pairs(db):
    store = PGEmbedding.from_embeddings(zip("ab", [[1, 1], [2, 2]], strict=True), Letters(), ids=["1", "2"])
    assert contents(store) == {"1": "a", "2": "b"}
    assert store.embeddings.calls == []


def test_from_documents_keeps_their_ids(db):
    store = PGEmbedding.from_documents((Document(letter, id=letter) for letter in "ab"), Letters())
    assert contents(store) == {"a": "a", "b": "b"}


def test_from_documents_prefers_ids_given(db):
    store = PGEmbedding.from_documents([Document("a", id="a")], Letters(), ids=["1"])
    assert contents(store) == {"1": "a"}


def test_from_existing_index_finds_what_is_there(store):
    store.add_texts(["a"])
    assert texts(PGEmbedding.from_existing_index(Letters(), using="default").similarity_search("a")) == ["a"]


def test_pre_delete_replaces_the_content_and_keeps_the_index(store):
    store.add_texts(["a"], ids=["1"])
    store.create_hnsw_index(dims=2)
    replaced = PGEmbedding.from_texts(["b"], Letters(), ids=["2"], pre_delete_collection=True)
    assert contents(replaced) == {"2": "b"}
    assert replaced.get_collection().hnsw["m"] == 8


@pytest.mark.django_db(transaction=True)
def test_pre_delete_shows_readers_the_old_or_the_new():
    store = PGEmbedding.from_texts(["a"], Letters(), ids=["1"])
    with transaction.atomic(), ThreadPoolExecutor(1) as pool:
        PGEmbedding.from_texts(["b"], Letters(), ids=["2"], pre_delete_collection=True)
        assert texts(pool.submit(store.similarity_search, "a").result()) == ["a"]
    assert texts(store.similarity_search("a")) == ["b"]


def test_pre_delete_that_fails_keeps_the_content(store):
    store.add_texts(["a"], ids=["1"])
    with pytest.raises(ValidationError):
        PGEmbedding.from_embeddings([("b", [1, 2]), ("c", [1])], Letters(), pre_delete_collection=True)
    assert contents(store) == {"1": "a"}


def test_pre_delete_takes_other_dimensions(store):
    store.add_texts(["a"])
    replaced = PGEmbedding.from_embeddings([("b", [1, 2, 3])], Letters(), pre_delete_collection=True)
    assert texts(replaced.similarity_search_by_vector([1, 2, 3])) == ["b"]


def test_existing_index_that_is_missing_is_an_empty_collection(store):
    made = PGEmbedding.from_existing_index(Letters(), "other", using="default")
    assert (made.similarity_search("a"), made.get_collection().name) == ([], "other")
