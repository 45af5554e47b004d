"""The store itself: its collection and its connection."""

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.exceptions import ValidationError
from django.db import connections, transaction

from pgembedding_django.documents.models import Collection
from pgembedding_django.documents.models import Document as Row
from pgembedding_django.langchain import PGEmbedding
from tests.support.letters import Letters, contents, texts


@pytest.mark.parametrize("name", ["", " ", "x" * 256, "a\0b", "\ud800"])
def test_name_that_no_collection_can_have_is_refused(db, name):
    with pytest.raises(ValueError, match=r"Collection\.name must"):
        PGEmbedding(embedding_function=Letters(), collection_name=name, using="default")
    assert not Collection.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_constructor_with_pre_delete_shows_readers_the_old_or_the_new():
    store = PGEmbedding.from_texts(["a"], Letters(), ids=["1"])
    with transaction.atomic(), ThreadPoolExecutor(1) as pool:
        PGEmbedding(embedding_function=Letters(), pre_delete_collection=True).add_texts(["b"])
        assert texts(pool.submit(store.similarity_search, "a").result()) == ["a"]
    assert texts(store.similarity_search("a")) == ["b"]


def test_constructor_with_pre_delete_starts_anew(store):
    store.add_texts(["a"])
    options = {"pre_delete_collection": True, "collection_metadata": {"new": True}, "using": "default"}
    again = PGEmbedding(embedding_function=Letters(), **options)
    assert contents(again) == {}
    assert again.get_collection().metadata == {"new": True}


def test_constructor_keeps_what_is_there(store):
    store.add_texts(["a"], ids=["1"])
    again = PGEmbedding(embedding_function=Letters(), collection_metadata={"new": True})
    assert contents(again) == {"1": "a"}
    assert again.get_collection().metadata == {}


def test_name_with_quotes_is_a_name(store):
    made = PGEmbedding.from_texts(["a"], Letters(), collection_name="a\"b'; DROP TABLE x; -- %s {}")
    made.create_hnsw_index(dims=2)
    assert texts(made.similarity_search("a")) == ["a"]
    made.delete_collection()
    assert made.get_collection() is None


def test_store_with_embeddings_of_other_dimensions_is_told(store):
    store.add_texts(["a"])
    with pytest.raises(ValueError, match=r'of collection "langchain" must have 2 dimensions, got 3\.$'):
        store.similarity_search_by_vector([1, 2, 3])
    with pytest.raises(ValidationError, match=r'"langchain" must have 2 dimensions, got 3\. One model embeds all'):
        store.add_embeddings(["b"], [[1, 2, 3]])


def test_constructor_without_embedder_is_refused():
    with pytest.raises(TypeError) as caught:
        PGEmbedding("postgresql:///x")
    assert str(caught.value) == "PGEmbedding.embedding_function must be an Embeddings of LangChain, got None."


def test_constructor_with_two_databases_is_refused():
    with pytest.raises(TypeError, match=r"^PGEmbedding takes connection_string or using, not both\.$"):
        PGEmbedding("postgresql:///x", Letters(), using="default")


def test_deleted_collection_is_gone(store):
    store.delete_collection()
    assert store.get_collection() is None
    assert not Row.objects.exists()


def test_delete_collection_that_is_gone_warns(store, caplog):
    store.delete_collection()
    store.delete_collection()
    assert caplog.messages == ["Collection not found"]


def test_logger_of_the_user_is_used(db, caplog):
    store = PGEmbedding(embedding_function=Letters(), logger=logging.getLogger("mine"))
    store.delete_collection()
    store.delete_collection()
    assert [record.name for record in caplog.records] == ["mine"]


def test_connect_returns_the_connection(store):
    assert store.connect() is connections["default"]
